/*
 * Shows: a process whose first thread has ended while another goes on: /proc/PID shows a zombie without memory.
 */
#include "common.h"
#include <pthread.h>

static void *serve(void *unused)
{
    char stat[512], *state;
    (void)unused;
    for (;;) { /* until the first thread is gone: `Z` behind the name */
        FILE *file = fopen("/proc/self/stat", "r");
        if (!fgets(stat, sizeof stat, file))
            exit(3);
        fclose(file);
        state = strrchr(stat, ')');
        if (state && state[2] == 'Z')
            break;
    }
    say("ready pid=%d", getpid());
    struct command command;
    while (hear(&command))
        say("alive");
    exit(0);
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, NULL))
        return 3;
    pthread_exit(NULL);
}
