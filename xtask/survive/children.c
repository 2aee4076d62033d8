// Children by fork, vfork and posix_spawn; each must end as it should.
#include "survive.h"

#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static int status_of(pid_t child) {
    int status;
    MUST(child > 0 && waitpid(child, &status, 0) == child);
    MUST(WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void) {
    char *fails[] = {"sh", "-c", "exit 9", NULL};
    say_ready();
    while (!stopped()) {
        uint64_t hash = 1;
        for (int i = 0; i < 5; i++) {
            pid_t child = fork();
            if (child == 0) _exit(churn(i, 200) & 0x7f);
            hash = mix(hash, status_of(child));
            if ((child = vfork()) == 0) {
                execve("/bin/sh", fails, environ);
                _exit(127);
            }
            hash = mix(hash, status_of(child));
            MUST(posix_spawn(&child, "/bin/sh", NULL, NULL, fails, environ) == 0);
            hash = mix(hash, status_of(child));
            FILE *pipe = popen("echo 12345", "r");
            int number = 0;
            MUST(pipe && fscanf(pipe, "%d", &number) == 1 && pclose(pipe) == 0);
            hash = mix(hash, churn(number, 100));
        }
        round_ends(hash);
    }
    return end();
}
