/*
 * Shows: threads that sleep in the kernel notice nothing of a session.
 *
 *   counters  -> counters nanosleep= poll= futex= read= accept= epoll= work= eintr= short= bad=
 * Each thread sleeps 20 ms at a time by its own call; `eintr` counts interrupted calls, `short` sleeps that ended early.
 * The kernel itself ends epoll_wait with EINTR at any stop (signal(7)): xol must see to it that nobody notices.
 */
#include "work.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NAP 20000000ul

enum sleeper { NANOSLEEP, POLL, FUTEX, READ, ACCEPT, EPOLL, WORK, KINDS };

static atomic_ulong rounds_of[KINDS], eintr, too_short, bad;
static int pipe_ends[2], listener;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static atomic_int alive;

static int nap(enum sleeper kind, int epoll)
{
    struct timespec time = { 0, (long)NAP };
    struct pollfd none = { -1, 0, 0 };
    struct epoll_event event;
    static int never = 1;
    char byte;
    switch (kind) {
    case NANOSLEEP:
        return nanosleep(&time, NULL);
    case POLL:
        return poll(&none, 1, (int)(NAP / 1000000));
    case FUTEX:
        return syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 1, &time, NULL, 0) && errno != ETIMEDOUT ? -1 : 0;
    case READ:
        return read(pipe_ends[0], &byte, 1) == 1 ? 0 : -1;
    case ACCEPT: {
        int connection = accept(listener, NULL, NULL);
        return connection < 0 ? -1 : close(connection);
    }
    default:
        return epoll_wait(epoll, &event, 1, (int)(NAP / 1000000));
    }
}

static void *sleeper(void *argument)
{
    enum sleeper kind = (enum sleeper)(long)argument;
    int epoll = epoll_create1(0);
    alive++;
    for (long i = 0;; i++) {
        if (kind == WORK) {
            bad += work(i, i) != expect_work(i, i);
            rounds_of[kind]++;
            continue;
        }
        uint64_t start = nanoseconds();
        int result = nap(kind, epoll);
        if (result && errno == EINTR)
            eintr++;
        else if (result)
            bad++;
        else if (kind != READ && kind != ACCEPT && nanoseconds() - start < NAP - 1000000)
            too_short++;
        rounds_of[kind]++;
    }
    return NULL;
}

static void *writer(void *argument)
{
    struct timespec time = { 0, (long)NAP };
    for (;;) {
        nanosleep(&time, NULL);
        int connection = socket(AF_UNIX, SOCK_STREAM, 0);
        if (write(pipe_ends[1], "x", 1) != 1 || connect(connection, (void *)&address, sizeof address) || close(connection))
            bad++;
    }
    return argument;
}

int main(void)
{
    pthread_t thread;
    /* An abstract name: nothing to clean up. */
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "xol-sleepers-%d", getpid());
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (pipe(pipe_ends) || bind(listener, (void *)&address, sizeof address) || listen(listener, 8))
        return 3;
    for (long kind = 0; kind < KINDS; kind++)
        pthread_create(&thread, NULL, sleeper, (void *)kind);
    pthread_create(&thread, NULL, writer, NULL);
    while (alive < KINDS)
        sched_yield();
    say("ready pid=%d work=%p", getpid(), (void *)work);
    struct command command;
    while (hear(&command))
        say("counters nanosleep=%lu poll=%lu futex=%lu read=%lu accept=%lu epoll=%lu work=%lu eintr=%lu short=%lu bad=%lu",
            rounds_of[NANOSLEEP], rounds_of[POLL], rounds_of[FUTEX], rounds_of[READ], rounds_of[ACCEPT],
            rounds_of[EPOLL], rounds_of[WORK], eintr, too_short, bad);
    fflush(stdout);
    _exit(0);
}
