// svg_chart.c: everything is placed in fixed units of the view box; the page scales it.
#include "cli/svg_chart.h"

#include <math.h>
#include <stdbool.h>

enum { WIDTH = 900, HEIGHT = 300, LEFT = 70, RIGHT = 12, TOP = 10, BOTTOM = 30, CELL = 22, NAMES = 260, MAX_TICKS = 9 };

static const char *const colours[OCT_CHART_COLOURS] = {"#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951",
                                                       "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"};

void oct_html_text(struct oct_buffer *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&':
            oct_buffer_puts(out, "&amp;");
            break;
        case '<':
            oct_buffer_puts(out, "&lt;");
            break;
        case '>':
            oct_buffer_puts(out, "&gt;");
            break;
        case '"':
            oct_buffer_puts(out, "&quot;");
            break;
        case '\'':
            oct_buffer_puts(out, "&#39;");
            break;
        default:
            oct_buffer_append(out, text, 1);
        }
    }
}

static bool is_drawn(double value) {
    return isfinite(value) && value > 0;
}

// The logarithms of the smallest and the largest value; false when there is none.
static bool range_of(const struct oct_chart_series *series, int num_series, int points, double *low, double *high) {
    bool any = false;
    for (int i = 0; i < num_series; i++)
        for (int x = 0; x < points; x++) {
            if (!is_drawn(series[i].values[x])) continue;
            double y = log2(series[i].values[x]);
            *low = any ? fmin(*low, y) : y;
            *high = any ? fmax(*high, y) : y;
            any = true;
        }
    return any;
}

static void begin(struct oct_buffer *out, const char *title) {
    oct_buffer_puts(out, "<figure><figcaption>");
    oct_html_text(out, title);
    oct_buffer_puts(out, "</figcaption>\n");
}

// --- lines ------------------------------------------------------------------------------------------------------------------------

struct axes {
    int points;
    double low, high; // of log2 y
};

static double x_of(const struct axes *axes, int point) {
    return LEFT + (WIDTH - LEFT - RIGHT) * (axes->points > 1 ? (double)point / (axes->points - 1) : 0.5);
}

static double y_of(const struct axes *axes, double value) {
    return TOP + (HEIGHT - TOP - BOTTOM) * (axes->high - log2(value)) / (axes->high - axes->low);
}

static void draw_axes(struct oct_buffer *out, const struct axes *axes, double mark) {
    int low = (int)axes->low, high = (int)axes->high, step = 1;
    while ((high - low) / step >= MAX_TICKS) step *= 2;
    for (int exponent = low; exponent <= high; exponent += step) {
        double y = y_of(axes, ldexp(1, exponent));
        oct_buffer_printf(out, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%.4g</text>\n", LEFT,
                          WIDTH - RIGHT, y, y, LEFT - 6, y + 4, ldexp(1, exponent));
    }
    if (mark > 0 && log2(mark) >= axes->low && log2(mark) <= axes->high)
        oct_buffer_printf(out, "<line class=mark x1=%d x2=%d y1=%.1f y2=%.1f />\n", LEFT, WIDTH - RIGHT, y_of(axes, mark),
                          y_of(axes, mark));
    int every = axes->points > 40 ? 10 : axes->points > 20 ? 5 : 1;
    for (int point = 0; point < axes->points; point += every)
        oct_buffer_printf(out, "<text x=%.1f y=%d text-anchor=middle>%d</text>\n", x_of(axes, point), HEIGHT - 10, point);
}

static void draw_line(struct oct_buffer *out, const struct axes *axes, const struct oct_chart_series *series, const char *colour) {
    oct_buffer_printf(out, "<polyline fill=none stroke=\"%s\" stroke-width=1.5 points=\"", colour);
    for (int x = 0; x < axes->points; x++)
        if (is_drawn(series->values[x])) oct_buffer_printf(out, "%.1f,%.1f ", x_of(axes, x), y_of(axes, series->values[x]));
    oct_buffer_puts(out, "\" />\n");
    for (int x = 0; x < axes->points; x++) {
        if (!is_drawn(series->values[x])) continue;
        oct_buffer_printf(out, "<circle r=3 fill=\"%s\" cx=%.1f cy=%.1f><title>", colour, x_of(axes, x), y_of(axes, series->values[x]));
        oct_html_text(out, series->name);
        oct_buffer_printf(out, ", layer %d: %.4g</title></circle>\n", x, series->values[x]);
    }
}

void oct_chart_lines(struct oct_buffer *out, const char *title, const struct oct_chart_series *series, int num_series, int points,
                     double mark) {
    struct axes axes = {.points = points};
    if (!range_of(series, num_series, points, &axes.low, &axes.high)) return;
    if (mark > 0) { // so that it is seen on which side of it everything lies
        axes.low = fmin(axes.low, log2(mark));
        axes.high = fmax(axes.high, log2(mark));
    }
    axes.low = floor(axes.low);
    axes.high = fmax(ceil(axes.high), axes.low + 1);
    begin(out, title);
    oct_buffer_printf(out, "<svg viewBox=\"0 0 %d %d\" role=img>\n", WIDTH, HEIGHT);
    draw_axes(out, &axes, mark);
    for (int i = 0; i < num_series; i++) draw_line(out, &axes, &series[i], colours[i % OCT_CHART_COLOURS]);
    oct_buffer_puts(out, "</svg>\n<p class=legend>");
    for (int i = 0; i < num_series; i++) {
        oct_buffer_printf(out, "<span><i style=\"background:%s\"></i>", colours[i % OCT_CHART_COLOURS]);
        oct_html_text(out, series[i].name);
        oct_buffer_puts(out, "</span> ");
    }
    oct_buffer_puts(out, "</p></figure>\n");
}

// --- heat -------------------------------------------------------------------------------------------------------------------------

void oct_chart_heat(struct oct_buffer *out, const char *title, const struct oct_chart_series *series, int num_series, int points) {
    double low, high;
    if (!range_of(series, num_series, points, &low, &high)) return;
    double cell = (double)(WIDTH - NAMES) / points;
    begin(out, title);
    oct_buffer_printf(out, "<svg viewBox=\"0 0 %d %d\" role=img>\n", WIDTH, num_series * CELL + BOTTOM);
    for (int i = 0; i < num_series; i++) {
        oct_buffer_printf(out, "<text x=%d y=%d text-anchor=end>", NAMES - 8, i * CELL + CELL - 7);
        oct_html_text(out, series[i].name);
        oct_buffer_puts(out, "</text>\n");
        for (int x = 0; x < points; x++) {
            double value = series[i].values[x];
            if (!is_drawn(value)) continue;
            double share = high > low ? (log2(value) - low) / (high - low) : 1;
            oct_buffer_printf(out, "<rect x=%.2f y=%d width=%.2f height=%d fill=\"#d03b1c\" fill-opacity=%.3f><title>", NAMES + x * cell,
                              i * CELL, cell - 1, CELL - 1, 0.05 + 0.95 * share);
            oct_html_text(out, series[i].name);
            oct_buffer_printf(out, ", layer %d: %.3e</title></rect>\n", x, value);
        }
    }
    int every = points > 40 ? 10 : points > 20 ? 5 : 1;
    for (int x = 0; x < points; x += every)
        oct_buffer_printf(out, "<text x=%.1f y=%d text-anchor=middle>%d</text>\n", NAMES + (x + 0.5) * cell, num_series * CELL + 16, x);
    oct_buffer_puts(out, "</svg></figure>\n");
}
