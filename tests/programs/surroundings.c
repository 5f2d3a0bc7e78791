/*
 * Shows: a process in surroundings that stand in a tracer's way.
 *
 *   surroundings WORD...
 *     undumpable  the kernel protects it from other processes of its user (PR_SET_DUMPABLE)
 *     ptracer     anybody may trace it where Yama would not let them (PR_SET_PTRACER)
 *     nnp         no privileges by exec any more (PR_SET_NO_NEW_PRIVS)
 *     nofile      no descriptor is to be had (RLIMIT_NOFILE)
 *     as          no address space is to be had (RLIMIT_AS)
 *     locked      whatever is mapped is locked, and little may be (mlockall, RLIMIT_MEMLOCK)
 *   calls N  -> done work= bad=
 */
#include "work.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

static int limit(int resource, word soft)
{
    struct rlimit limits;
    if (getrlimit(resource, &limits))
        return -1;
    limits.rlim_cur = soft;
    return setrlimit(resource, &limits);
}

/* Pages of address space now. */
static word pages(void)
{
    word total = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (!statm || fscanf(statm, "%lu", &total) != 1)
        exit(3);
    fclose(statm);
    return total;
}

static int prepare(const char *what)
{
    if (!strcmp(what, "undumpable"))
        return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (!strcmp(what, "ptracer")) {
        /* EINVAL where there is no Yama: then anybody may anyway. */
        prctl(PR_SET_PTRACER, -1ul, 0, 0, 0);
        return 0;
    }
    if (!strcmp(what, "nnp"))
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!strcmp(what, "nofile"))
        return limit(RLIMIT_NOFILE, 3);
    if (!strcmp(what, "as"))
        return limit(RLIMIT_AS, (pages() + 4) * 4096);
    if (!strcmp(what, "locked"))
        return limit(RLIMIT_MEMLOCK, 65536) || mlockall(MCL_FUTURE);
    return -1;
}

int main(int count, char **words)
{
    struct command command;
    /* Whatever the C library will need later, it takes now. */
    setvbuf(stdout, malloc(BUFSIZ), _IOFBF, BUFSIZ);
    setvbuf(stdin, malloc(BUFSIZ), _IOFBF, BUFSIZ);
    for (int i = 1; i < count; i++)
        if (prepare(words[i])) {
            perror(words[i]);
            return 3;
        }
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        word bad = 0;
        for (word i = 0; i < command.number; i++)
            bad += work((long)i, 3) != expect_work((long)i, 3);
        say("done work=%lu bad=%lu", command.number, bad);
    }
    return 0;
}
