/*
 * Shows: a process of the same user that may not be traced, as after a change of user. Root may.
 */
#include "common.h"
#include <sys/prctl.h>

int main(void)
{
    if (prctl(PR_SET_DUMPABLE, 0))
        return 3;
    say("ready pid=%d main=%p", getpid(), (void *)main);
    struct command command;
    while (hear(&command))
        say("alive");
    return 0;
}
