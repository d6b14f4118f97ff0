// svg_chart.h: charts as inline SVG, for a page that needs no network: lines over layers on a logarithmic axis, and a heat map. Hovering
// over a point tells its value.
#pragma once

#include "base/buffer.h"

struct oct_chart_series {
    const char *name;
    const double *values; // (points); zero, infinity and NaN are left out
};

// One line a series, at most OCT_CHART_COLOURS of them; x is the layer. `mark`: a value to draw a line at, such as 1; 0: none.
enum { OCT_CHART_COLOURS = 10 };
void oct_chart_lines(struct oct_buffer *out, const char *title, const struct oct_chart_series *series, int num_series, int points,
                     double mark);
// One row a series, a cell a layer, darker for larger values (logarithmic).
void oct_chart_heat(struct oct_buffer *out, const char *title, const struct oct_chart_series *series, int num_series, int points);

// Text for HTML: & < > and quotes escaped.
void oct_html_text(struct oct_buffer *out, const char *text);
