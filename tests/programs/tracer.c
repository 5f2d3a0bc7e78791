/*
 * Shows: a tracer that is not ours.
 *
 * tracer TID   traces one thread, which runs on, until the end of its input   -> ready pid= error=
 */
#include "common.h"
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
    int tid = argc > 1 ? atoi(argv[1]) : 0;
    int error = ptrace(PTRACE_SEIZE, tid, NULL, NULL) ? errno : 0;
    say("ready pid=%d error=%d", getpid(), error);
    struct command command;
    while (hear(&command)) {
    }
    int status;
    if (!error && !ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) && waitpid(tid, &status, __WALL) == tid)
        ptrace(PTRACE_DETACH, tid, NULL, NULL);
    return 0;
}
