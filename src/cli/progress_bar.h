// progress_bar.h: how far long work is, on standard error: a bar that is redrawn on a terminal, a line now and then elsewhere.
#pragma once

#include "base/progress.h"

#include <stdbool.h>
#include <stddef.h>

struct oct_progress_bar {
    bool terminal;
    char what[64];     // of the work shown last
    double started;    // seconds, when that work began
    double shown;      // when it was shown last
    int width;         // columns that the line on the terminal takes
    bool parts;        // one bar for work of several parts:
    double begin, end; // of the part at hand, in shares of the whole
};

void oct_progress_bar_start(struct oct_progress_bar *bar);
// From here on the bar shows the whole of work that has several parts, and what is reported fills the next `share` of it (0 to 1).
void oct_progress_bar_part(struct oct_progress_bar *bar, double share);
// The receiver of an oct_progress (context: the bar). Asks the work to stop once the user has interrupted the program.
int oct_progress_bar_report(void *bar, const char *what, size_t done, size_t total);
struct oct_progress oct_progress_bar_receiver(struct oct_progress_bar *bar);
// Takes the bar off the terminal, so that other lines can follow.
void oct_progress_bar_clear(struct oct_progress_bar *bar);
