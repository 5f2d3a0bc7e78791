/*
 * Shows: libraries that come and go.
 *
 *   load PATH   dlopen                         -> loaded base=0x..
 *   calls N     calls plug_inner N times       -> done calls=
 *   unload      dlclose                        -> unloaded
 * `load` with the path of a copy loads a second file of the same content.
 */
#include "common.h"
#include <dlfcn.h>

static void *handle;
static long (*inner)(long);

static void obey(const char *line)
{
    char path[4096];
    if (sscanf(line, "load %4095s", path) == 1) {
        handle = dlopen(path, RTLD_NOW);
        inner = handle ? (long (*)(long))dlsym(handle, "plug_inner") : NULL;
        if (!inner) {
            say("failed error=1");
            return;
        }
        say("loaded inner=%p", (void *)inner);
    } else if (!strncmp(line, "unload", 6)) {
        dlclose(handle);
        inner = NULL;
        say("unloaded ok=1");
    } else {
        long bad = 0, count = atol(line + 6);
        for (long i = 0; i < count; i++)
            bad += inner(i) != i * 3;
        say("done calls=%ld bad=%ld", count, bad);
    }
}

int main(void)
{
    char line[4200];
    say("ready pid=%d", getpid());
    while (fgets(line, sizeof line, stdin))
        obey(line);
    return 0;
}
