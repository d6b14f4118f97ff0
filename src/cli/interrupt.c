#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t pending;

static void on_signal(int number) {
    if (pending) {
        signal(number, SIG_DFL);
        raise(number);
    }
    pending = 1;
}

void oct_interrupt_catch(void) {
    struct sigaction action = {.sa_handler = on_signal}; // no SA_RESTART: a read at the prompt returns
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool oct_interrupted(void) {
    return pending != 0;
}

void oct_interrupt_clear(void) {
    pending = 0;
}
