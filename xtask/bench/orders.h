/* The main of the loops: each line on standard input is a number, with which WORK is called; a line answers when it is done.
 * It allocates nothing itself. */
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    static char line[64];
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, line, _IOFBF, sizeof line);
    char word[32];
    while (fgets(word, sizeof word, stdin) != NULL) {
        WORK(atol(word));
        puts("done");
    }
    return 0;
}
