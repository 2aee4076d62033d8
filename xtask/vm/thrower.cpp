// Asks for memory by C++'s operators for ever, now and then for more than there is, and catches what that throws.
#include <new>

#include <unistd.h>

int main() {
    for (;;) {
        char *volatile block = new char[100];
        delete[] block;
        try {
            unsigned long volatile too_much = 1ul << 60;
            block = new char[too_much];
            return 1;
        } catch (const std::bad_alloc &) {
        }
        usleep(1000);
    }
}
