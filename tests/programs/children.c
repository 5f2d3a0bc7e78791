/*
 * Shows: children of a probed process. A forked child runs clean text; one by vfork, posix_spawn or system is let go at its exec.
 *
 *   fork N | vfork N | spawn N | system N   makes N children, one after the other, each of which calls work 10 times
 *                                           (fork) or runs /bin/true -> done children= bad= calls=
 * `calls` are the parent's own calls of work: one after each child.
 */
#include "work.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

/* Whether the first byte of work is its own: push %rbp. */
static int clean(void) { return *(volatile unsigned char *)work == 0x55; }

static int child(void)
{
    int bad = !clean();
    for (long i = 0; i < 10; i++)
        bad += work(i, i) != expect_work(i, i);
    return bad;
}

static int make(const char *how)
{
    char *argv[] = { "true", NULL };
    int status = -1;
    pid_t pid;
    if (!strcmp(how, "system"))
        return system("/bin/true");
    if (!strcmp(how, "spawn")) {
        if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
            return 1;
    } else if (!strcmp(how, "vfork")) {
        pid = vfork();
        if (pid == 0) {
            execve("/bin/true", argv, environ);
            _exit(9);
        }
    } else {
        pid = fork();
        if (pid == 0)
            _exit(child());
    }
    waitpid(pid, &status, 0);
    return status;
}

int main(void)
{
    char line[256], how[32];
    long count;
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (fgets(line, sizeof line, stdin)) {
        long bad = 0;
        if (sscanf(line, "%31s %ld", how, &count) != 2)
            continue;
        for (long i = 0; i < count; i++) {
            bad += make(how) != 0;
            bad += work(i, i) != expect_work(i, i);
        }
        say("done children=%ld bad=%ld calls=%ld", count, bad, count);
    }
    return 0;
}
