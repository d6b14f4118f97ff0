// interrupt.c: a signal handler that sets a flag and writes to a pipe.
#include "cli/interrupt.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t pending;
// A byte goes through here with every signal. Waiting for input polls its end too: a flag alone could be set between looking at it and
// the read, on this thread or another one, and the read would sleep on.
static int wake_pipe[2] = {-1, -1};

static void on_signal(int number) {
    if (pending) {
        signal(number, SIG_DFL);
        raise(number);
    }
    pending = 1;
    int saved = errno;
    ssize_t written = write(wake_pipe[1], "", 1); // a full pipe wakes as well
    (void)written;
    errno = saved;
}

void oct_interrupt_catch(void) {
    OCT_CHECK(wake_pipe[0] >= 0 || pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) == 0);
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool oct_interrupted(void) {
    return pending != 0;
}

static void drain(void) {
    char bytes[64];
    while (read(wake_pipe[0], bytes, sizeof bytes) > 0) {
    }
}

bool oct_interrupt_wait(int fd) {
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = wake_pipe[0], .events = POLLIN}};
    while (!pending && fds[0].revents == 0) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) break; // let the read tell what is wrong
        if (fds[1].revents && !pending) drain();           // of a signal that was answered meanwhile
    }
    return !pending;
}

void oct_interrupt_clear(void) {
    pending = 0;
    drain();
}
