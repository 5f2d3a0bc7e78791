// Exceptions thrown through many frames, with destructors on the way, caught by type, thrown again, and by pointer to an
// unfinished one: every frame is found by its return address. The number of rounds is the argument.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

static unsigned long destroyed, caught, finally;

struct Guard {
    int depth;
    explicit Guard(int depth) : depth(depth) {}
    ~Guard() { destroyed += depth; }
};

struct Special : std::runtime_error {
    int code;
    explicit Special(int code) : std::runtime_error("special " + std::to_string(code)), code(code) {}
};

__attribute__((noinline)) static int fall(int depth, int kind) {
    Guard guard(depth);
    std::string name = "a name of more than fifteen letters: " + std::to_string(depth);
    if (depth == 0) {
        switch (kind % 5) {
        case 0: throw Special(kind);
        case 1: throw std::out_of_range(name);
        case 2: return (int)std::vector<int>(3).at(kind);
        case 3: throw kind;
        default: throw "text";
        }
    }
    return fall(depth - 1, kind) + (int)name.size();
}

__attribute__((noinline)) static void middle(int depth, int kind) {
    try {
        fall(depth, kind);
    } catch (const Special &special) {
        caught += special.code;
        throw;
    } catch (const std::exception &other) {
        caught += std::string(other.what()).size();
        std::throw_with_nested(std::logic_error("from the middle"));
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    for (int round = 0; round < rounds; round++) {
        try {
            Guard guard(1);
            middle(round % 23, round);
        } catch (const Special &special) {
            finally += 3 * special.code;
        } catch (const std::logic_error &error) {
            try {
                std::rethrow_if_nested(error);
            } catch (const std::out_of_range &nested) {
                finally += 5;
            }
        } catch (int number) {
            finally += number;
        } catch (const char *text) {
            finally += text[0];
        }
    }
    std::printf("%lu destroyed, %lu caught, %lu in the end\n", destroyed, caught, finally);
    return 0;
}
