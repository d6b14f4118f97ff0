// table.c: cells are copied as they are added, since widths are known only at the end.
#include "cli/table.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void oct_table_add(struct oct_table *table, const char *const *cells) {
    OCT_CHECK(table->num_columns > 0 && table->num_columns <= OCT_MAX_TABLE_COLUMNS);
    size_t columns = (size_t)table->num_columns;
    if (table->num_rows == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        table->cells = oct_resize(table->cells, table->capacity * columns, sizeof *table->cells, "a table");
    }
    for (size_t i = 0; i < columns; i++) table->cells[table->num_rows * columns + i] = oct_strdup(cells[i] ? cells[i] : "");
    table->num_rows++;
}

void oct_table_print(const struct oct_table *table, FILE *file) {
    int widths[OCT_MAX_TABLE_COLUMNS] = {0};
    size_t columns = (size_t)table->num_columns;
    for (size_t i = 0; i < table->num_rows * columns; i++) {
        int length = (int)strlen(table->cells[i]);
        if (length > widths[i % columns]) widths[i % columns] = length;
    }
    for (size_t row = 0; row < table->num_rows; row++) {
        char *const *cells = table->cells + row * columns;
        size_t last = columns;
        while (last > 0 && !*cells[last - 1]) last--; // no blanks at the end of a line
        for (size_t i = 0; i < last; i++) fprintf(file, "%-*s", i + 1 < last ? widths[i] + 2 : 0, cells[i]);
        fputc('\n', file);
    }
}

void oct_table_free(struct oct_table *table) {
    for (size_t i = 0; i < table->num_rows * (size_t)table->num_columns; i++) free(table->cells[i]);
    free(table->cells);
    *table = (struct oct_table){.num_columns = table->num_columns};
}
