/*
 * Shows: C++ exceptions thrown and caught by many threads, through frames that come and go as probed.
 *
 *   calls N   4 threads throw N times each -> done thrown= bad=
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

struct Problem : std::runtime_error {
    long value;
    explicit Problem(long v) : std::runtime_error("problem " + std::to_string(v)), value(v) {}
};

struct Guard {
    long &count;
    explicit Guard(long &c) : count(c) { count++; }
    ~Guard() { count--; }
};

__attribute__((noinline)) long deepest(long value)
{
    if (value >= 0)
        throw Problem(value);
    return value;
}

__attribute__((noinline)) long middle(long value, long &open)
{
    Guard guard(open);
    std::string kept(64, 'x');
    return deepest(value) + (long)kept.size();
}

__attribute__((noinline)) bool once(long value)
{
    long open = 0;
    try {
        middle(value, open);
    } catch (const Problem &problem) {
        return problem.value == value && open == 0 && problem.what() == "problem " + std::to_string(value);
    }
    return false;
}

int main()
{
    char line[64];
    printf("ready pid=%d\n", getpid());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        long times = strchr(line, ' ') ? strtol(strchr(line, ' '), nullptr, 0) : 0;
        std::vector<long> bad(4);
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; t++)
            threads.emplace_back([t, times, &bad] {
                for (long i = 0; i < times; i++)
                    bad[t] += !once(i);
            });
        for (auto &thread : threads)
            thread.join();
        printf("done thrown=%ld bad=%ld\n", 4 * times, bad[0] + bad[1] + bad[2] + bad[3]);
        fflush(stdout);
    }
}
