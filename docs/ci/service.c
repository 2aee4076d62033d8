// A service that answers each line "NAME" with "hello NAME" and remembers who called. With -DFIXED it forgets the call
// when it has answered; without, it never does.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct call {
    char name[256];
    struct call *before;
};
static struct call *calls;

static void remember(const char *name) {
    struct call *call = malloc(sizeof *call);
    if (!call) return;
    snprintf(call->name, sizeof call->name, "%s", name);
    call->before = calls;
    calls = call;
}

static void forget(void) {
    struct call *call = calls;
    if (!call) return;
    calls = call->before;
    free(call);
}

static void answer(FILE *from, FILE *to) {
    char line[256];
    while (fgets(line, sizeof line, from)) {
        remember(line);
        fprintf(to, "hello %s", line);
        fflush(to);
#ifdef FIXED
        forget();
#else
        (void)forget;
#endif
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    here.sin_port = htons(argc > 1 ? atoi(argv[1]) : 8080);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 16)) {
        perror("service");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        FILE *from = fdopen(client, "r"), *to = fdopen(dup(client), "w");
        if (from && to) answer(from, to);
        if (from) fclose(from);
        if (to) fclose(to);
    }
}
