/*
 * Shows: processes that replace themselves by programs of another class.
 *
 * relay [PROGRAM [ARGUMENT...]]   calls work 10 times and executes PROGRAM with the arguments behind it. The last one
 *                                 says `over bits=`
 */
#include "work.h"

int main(int argc, char **argv)
{
    for (long i = 0; i < 10; i++)
        if (work(i, 3) != expect_work(i, 3))
            return 9;
    if (argc > 1) {
        execv(argv[1], argv + 1);
        return 8;
    }
    say("over bits=%d", (int)sizeof(long) * 8);
    return 0;
}
