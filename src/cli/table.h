// table.h: rows of text cells, printed in aligned columns.
#pragma once

#include <stddef.h>
#include <stdio.h>

enum { OCT_MAX_TABLE_COLUMNS = 8 };

// Zero-initialise with the number of columns.
struct oct_table {
    int num_columns;
    char **cells; // (num_rows, num_columns) owned
    size_t num_rows, capacity;
};

// Adds a row of num_columns strings, which are copied; NULL is an empty cell.
void oct_table_add(struct oct_table *table, const char *const *cells);
void oct_table_print(const struct oct_table *table, FILE *file);
void oct_table_free(struct oct_table *table);
