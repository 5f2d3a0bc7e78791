/* Makes children by fork and posix_spawn, which call `tick` too or execute something: for targets behind a GDB stub. */
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

__attribute__((noinline, noclone)) int tick(int a)
{
	__asm__ volatile("");
	return a + 1;
}

static int ended(pid_t pid)
{
	int status = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

int main(void)
{
	int forked = 0, spawned = 0;
	for (int i = 0; i < 5; i++) {
		tick(i);
		pid_t pid = fork();
		if (pid == 0) {
			for (int j = 0; j < 10; j++)
				tick(j);
			_exit(7);
		}
		forked += ended(pid);
		char *arguments[] = {"/bin/true", NULL};
		posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ);
		spawned += ended(pid);
	}
	printf("over forked=%d spawned=%d\n", forked, spawned);
	return 0;
}
