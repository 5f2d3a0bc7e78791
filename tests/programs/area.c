/*
 * Shows: a program that does things to xol's memory.
 *
 *   do WHAT WHICH   WHICH: code, state. WHAT: unmap, none, writable, readonly, move, empty, replace  -> did places= failed=
 *   calls N         calls work N times; a fault is caught and ends that call     -> done work= faults= bad=
 *   bare            no handler any more: a fault is the program's end             -> bare
 *   fork N          N children that look for xol's memory and call work           -> forked seen= bad=
 *   run             a second thread calls work without end                        -> running
 *   replaced        whether what `replace` put there is still there               -> replaced kept=
 *   exec PATH       becomes that program
 */
#include "work.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define JUNK ((word)0x6b6e756a6b6e756aull)

static sigjmp_buf home;
static word replaced[64];
static int replacements;
static volatile word rounds;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(home, 1);
}

static int treat(const char *what, void *start, size_t length)
{
    if (strcmp(what, "unmap") == 0)
        return munmap(start, length);
    if (strcmp(what, "none") == 0)
        return mprotect(start, length, PROT_NONE);
    if (strcmp(what, "writable") == 0)
        return mprotect(start, length, PROT_READ | PROT_WRITE);
    if (strcmp(what, "readonly") == 0)
        return mprotect(start, length, PROT_READ);
    if (strcmp(what, "empty") == 0)
        return madvise(start, length, MADV_DONTNEED);
    if (strcmp(what, "move") == 0) {
        void *room = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mremap(start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, room) == MAP_FAILED;
    }
    word *own = mmap(start, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (size_t i = 0; i < length / 8; i += 512)
        own[i] = JUNK;
    replaced[replacements++ % 64] = (word)own;
    return 0;
}

/* Every place of that kind, gathered first: each change makes another list. */
static int places(const char *which, word (*found)[2])
{
    char line[512], permissions[8];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (count < 64 && fgets(line, sizeof line, maps))
        if (strstr(line, "memfd:xol") && sscanf(line, "%lx-%lx %7s", &found[count][0], &found[count][1], permissions) == 3
            && (*which == 0 || (permissions[3] == 's') == (strcmp(which, "state") == 0)))
            count++;
    fclose(maps);
    return count;
}

/* In a thread of its own, whose stack and registers are gone afterwards: addresses on a stack look like return addresses. */
static void *harm(void *argument)
{
    const char *what = ((struct command *)argument)->text, *which = strchr(what, 0) + 1;
    word found[64][2];
    int count = places(which, found), failed = 0;
    for (int i = 0; i < count; i++)
        failed += treat(what, (void *)found[i][0], found[i][1] - found[i][0]) != 0;
    say("did places=%d failed=%d", count, failed);
    return NULL;
}

static word calls(word times, word *faults)
{
    word bad = 0;
    for (volatile word i = 0; i < times; i++) {
        if (sigsetjmp(home, 1))
            ++*faults;
        else
            bad += work((long)i, 4) != expect_work((long)i, 4);
    }
    return bad;
}

static void *for_ever(void *argument)
{
    for (long i = 0;; i++, rounds++)
        if (work(i, 4) != expect_work(i, 4))
            abort();
    return argument;
}

static void fork_children(word times)
{
    word seen = 0, bad = 0, found[64][2];
    for (word i = 0; i < times; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            int looks = places("", found) > 0 || places("state", found) > 0;
            _exit((looks ? 1 : 0) | (work((long)i, 4) != expect_work((long)i, 4) ? 2 : 0));
        }
        if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
            bad++;
        seen += (word)(WEXITSTATUS(status) & 1), bad += (word)(WEXITSTATUS(status) & 2);
    }
    say("forked seen=%lu bad=%lu", seen, bad);
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_fault };
    struct command command;
    pthread_t thread;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    say("ready pid=%d work=%p", getpid(), (void *)work);
    while (hear(&command)) {
        if (is(&command, "do")) {
            *strchr(command.text, ' ') = 0;
            pthread_create(&thread, NULL, harm, &command);
            pthread_join(thread, NULL);
        } else if (is(&command, "calls")) {
            word faults = 0, bad = calls(command.number, &faults);
            say("done work=%lu faults=%lu bad=%lu", command.number, faults, bad);
        } else if (is(&command, "bare")) {
            action.sa_handler = SIG_DFL;
            sigaction(SIGSEGV, &action, NULL);
            say("bare");
        } else if (is(&command, "fork")) {
            fork_children(command.number);
        } else if (is(&command, "run")) {
            pthread_create(&thread, NULL, for_ever, NULL);
            while (rounds < 100)
                usleep(100);
            say("running");
        } else if (is(&command, "replaced")) {
            int kept = 0;
            for (int i = 0; i < replacements; i++)
                kept += *(word *)replaced[i] == JUNK;
            say("replaced kept=%d of=%d", kept, replacements);
        } else if (is(&command, "exec")) {
            execl(command.text, command.text, NULL);
            exit(5);
        }
    }
    exit(0);
}
