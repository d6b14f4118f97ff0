// progress_bar.c: a bar that redraws its line on a terminal, and a line now and then elsewhere.
#include "cli/progress_bar.h"

#include "base/clock.h"
#include "cli/interrupt.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const double REDRAW_SECONDS = 0.1, LINE_SECONDS = 10;
enum { BAR_CELLS = 30 };

void oct_progress_bar_start(struct oct_progress_bar *bar) {
    *bar = (struct oct_progress_bar){.terminal = isatty(STDERR_FILENO)};
}

void oct_progress_bar_part(struct oct_progress_bar *bar, double share) {
    if (!bar->parts) bar->started = bar->shown = oct_seconds();
    bar->parts = true;
    bar->begin = bar->end;
    bar->end += share;
}

void oct_progress_bar_clear(struct oct_progress_bar *bar) {
    if (bar->width) fprintf(stderr, "\r%*s\r", bar->width, "");
    bar->width = 0;
}

// "1:05", time left at the speed so far; empty while nothing can be said.
static const char *time_left(double elapsed, size_t done, size_t total, char *text, size_t size) {
    *text = '\0';
    if (done == 0 || elapsed < 2) return text;
    double seconds = elapsed * (double)(total - done) / (double)done;
    if (seconds < 360000) snprintf(text, size, ", %d:%02d left", (int)seconds / 60, (int)seconds % 60);
    return text;
}

static void show(struct oct_progress_bar *bar, size_t done, size_t total, double now) {
    char left[32], cells[BAR_CELLS + 1];
    time_left(now - bar->started, done, total, left, sizeof left);
    char of[64];
    if (bar->parts)
        snprintf(of, sizeof of, "%zu %%", done * 100 / total);
    else
        snprintf(of, sizeof of, bar->terminal ? "%zu/%zu" : "%zu of %zu", done, total);
    if (!bar->terminal) {
        fprintf(stderr, "%s: %s%s\n", bar->what, of, left);
        return;
    }
    int filled = (int)((double)done / (double)total * BAR_CELLS);
    memset(cells, ' ', BAR_CELLS);
    memset(cells, '#', (size_t)filled);
    cells[BAR_CELLS] = '\0';
    char line[256];
    int width = snprintf(line, sizeof line, "%s [%s] %s%s", bar->what, cells, of, left);
    fprintf(stderr, "\r%s%*s", line, bar->width > width ? bar->width - width : 0, "");
    fflush(stderr);
    if (width > bar->width) bar->width = width;
}

int oct_progress_bar_report(void *context, const char *what, size_t done, size_t total) {
    struct oct_progress_bar *bar = context;
    double now = oct_seconds();
    if (strncmp(bar->what, what, sizeof bar->what - 1)) { // other work: its time starts here
        snprintf(bar->what, sizeof bar->what, "%s", what);
        if (!bar->parts) {
            oct_progress_bar_clear(bar);
            bar->started = bar->shown = now;
        }
    }
    if (done > total) done = total;
    if (bar->parts && total) {
        enum { STEPS = 10000 }; // of the whole
        double share = bar->begin + (bar->end - bar->begin) * (double)done / (double)total;
        done = share < 1 ? (size_t)(share * STEPS) : STEPS;
        total = STEPS;
    }
    // Work that is over before the first redraw was due shows nothing at all.
    if (total && now - bar->shown >= (bar->terminal ? REDRAW_SECONDS : LINE_SECONDS)) {
        show(bar, done, total, now);
        bar->shown = now;
    }
    if (done == total) oct_progress_bar_clear(bar);
    return oct_interrupted();
}

struct oct_progress oct_progress_bar_receiver(struct oct_progress_bar *bar) {
    return (struct oct_progress){.report = oct_progress_bar_report, .context = bar};
}
