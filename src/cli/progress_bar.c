// progress_bar.c: redraws at most a few times a second, and knows what is left from the pace so far.
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
    if (!bar->terminal) {
        fprintf(stderr, "%s: %zu of %zu%s\n", bar->what, done, total, left);
        return;
    }
    int filled = (int)((double)done / (double)total * BAR_CELLS);
    memset(cells, ' ', BAR_CELLS);
    memset(cells, '#', (size_t)filled);
    cells[BAR_CELLS] = '\0';
    char line[256];
    int width = snprintf(line, sizeof line, "%s [%s] %zu/%zu%s", bar->what, cells, done, total, left);
    fprintf(stderr, "\r%s%*s", line, bar->width > width ? bar->width - width : 0, "");
    fflush(stderr);
    if (width > bar->width) bar->width = width;
}

int oct_progress_bar_report(void *context, const char *what, size_t done, size_t total) {
    struct oct_progress_bar *bar = context;
    double now = oct_seconds();
    if (strncmp(bar->what, what, sizeof bar->what - 1)) { // other work: its time starts here
        oct_progress_bar_clear(bar);
        snprintf(bar->what, sizeof bar->what, "%s", what);
        bar->started = bar->shown = now;
    }
    if (done > total) done = total;
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
