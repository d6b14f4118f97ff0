// interrupt.h: Ctrl-C and SIGTERM as a question that long work asks now and then, so that it stops between two steps and closes
// what it has open. A second signal before the first was answered ends the process at once.
#pragma once

#include <stdbool.h>

// From here on signals set a flag (and break off blocking reads) instead of ending the process.
void oct_interrupt_catch(void);
bool oct_interrupted(void);
// Waits until there is something to read from `fd`, its end included: true. False: a signal came first.
bool oct_interrupt_wait(int fd);
void oct_interrupt_clear(void); // answered: the program goes on
