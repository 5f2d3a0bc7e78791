/*
 * Shows: libraries that come and go, and memory that is no longer what it was.
 *
 *   load PATH       dlopen, in the program's own namespace           -> loaded inner=0x..
 *   separate PATH   dlmopen, in a namespace of its own               -> loaded inner=0x..
 *   map PATH        maps the text once more by mmap, beside the loader (after `load PATH`) -> mapped inner=0x..
 *   calls N         calls plug_inner N times where it was found last -> done calls= bad=
 *   unload          dlclose of what was loaded last                  -> unloaded ok=1
 *   block           puts memory of the program's own where the library's text was -> blocked at=0x..
 *   swap            puts memory of the program's own over the library's text, which the loader does not know of
 *                                                                    -> blocked at=0x..
 *   again           maps the file's own text over the library's text -> mapped inner=0x..
 *   check           compares all text of libraries called libplug.so with its file, and the program's own memory
 *                   with what was put there                          -> checked texts= differ= spoilt=
 */
#include "common.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define FILLING 0xa5

struct text {
    char *start, *end;
    long offset;
    char path[400];
};

static void *handle;
static long (*inner)(long);
static struct text last;
static struct { unsigned char *at; size_t len; } own[16];
static int owned;

/* The next executable mapping of a libplug.so. */
static int next_text(FILE *maps, struct text *text)
{
    char line[512], permissions[8];
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%p-%p %7s %lx %*s %*s %399s", (void **)&text->start, (void **)&text->end, permissions,
                   &text->offset, text->path) == 5
            && permissions[2] == 'x' && strstr(text->path, "/libplug.so"))
            return 1;
    return 0;
}

/* The text that a function is in. */
static struct text text_of(const void *function)
{
    struct text text = { 0 }, found = { 0 };
    FILE *maps = fopen("/proc/self/maps", "r");
    while (next_text(maps, &text))
        if ((char *)function >= text.start && (char *)function < text.end)
            found = text;
    fclose(maps);
    return found;
}

static void load(const char *path, int separate)
{
    handle = separate ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW) : dlopen(path, RTLD_NOW);
    inner = handle ? (long (*)(long))dlsym(handle, "plug_inner") : NULL;
    if (!inner) {
        say("failed error=1");
        return;
    }
    last = text_of(inner);
    say("loaded inner=%p", (void *)inner);
}

/* The file's text at `at`, or anywhere. */
static void map_text(char *at)
{
    int file = open(last.path, O_RDONLY);
    char *text = mmap(at, last.end - last.start, PROT_READ | PROT_EXEC, MAP_PRIVATE | (at ? MAP_FIXED : 0), file, last.offset);
    close(file);
    if (text == MAP_FAILED) {
        say("failed error=2");
        return;
    }
    inner = (long (*)(long))(text + ((char *)inner - last.start));
    say("mapped inner=%p", (void *)inner);
}

static void take(void)
{
    size_t len = last.end - last.start;
    unsigned char *at = mmap(last.start, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (at == MAP_FAILED || owned == 16) {
        say("failed error=3");
        return;
    }
    memset(at, FILLING, len);
    own[owned].at = at;
    own[owned++].len = len;
    inner = NULL;
    say("blocked at=%p", (void *)at);
}

static void check(void)
{
    struct text text = { 0 };
    long texts = 0, differ = 0, spoilt = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (next_text(maps, &text)) {
        int file = open(text.path, O_RDONLY);
        size_t len = text.end - text.start;
        char *bytes = calloc(1, len);
        if (pread(file, bytes, len, text.offset) <= 0)
            differ += 1000000;
        for (size_t i = 0; i < len; i++)
            differ += bytes[i] != text.start[i];
        free(bytes);
        close(file);
        texts++;
    }
    fclose(maps);
    for (int i = 0; i < owned; i++)
        for (size_t n = 0; n < own[i].len; n++)
            spoilt += own[i].at[n] != FILLING;
    say("checked texts=%ld differ=%ld spoilt=%ld", texts, differ, spoilt);
}

static void obey(const struct command *command)
{
    if (is(command, "load") || is(command, "separate")) {
        load(command->text, is(command, "separate"));
    } else if (is(command, "map") || is(command, "again")) {
        map_text(is(command, "again") ? last.start : NULL);
    } else if (is(command, "unload")) {
        dlclose(handle);
        inner = NULL;
        say("unloaded ok=1");
    } else if (is(command, "block") || is(command, "swap")) {
        take();
    } else if (is(command, "check")) {
        check();
    } else {
        long bad = 0, count = (long)command->number;
        for (long i = 0; i < count; i++)
            bad += inner(i) != i * 3;
        say("done calls=%ld bad=%ld", count, bad);
    }
}

int main(void)
{
    struct command command;
    say("ready pid=%d", getpid());
    while (hear(&command))
        obey(&command);
    fflush(stdout);
    _exit(0); /* the loader's lists may tell of mappings that are gone */
}
