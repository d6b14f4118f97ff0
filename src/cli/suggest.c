// suggest.c: the smallest edit distance wins, if it is small enough.
#include "cli/suggest.h"

#include <string.h>

enum { MAX_WORD = 64 }; // longer words are not worth a suggestion

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static char folded(char c) {
    return c == '_' ? '-' : c;
}

size_t oct_edit_distance(const char *word, const char *known) {
    size_t n = strlen(word), m = strlen(known);
    if (n > MAX_WORD || m > MAX_WORD) return n > m ? n : m;
    size_t rows[3][MAX_WORD + 1]; // the row being filled, the one above, and the one above that
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            char a = folded(word[i - 1]), b = folded(known[j - 1]);
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a != b));
            if (i > 1 && j > 1 && a == folded(known[j - 2]) && b == folded(word[i - 2])) row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

void oct_suggest(struct oct_suggestion *suggestion, const char *known) {
    size_t distance = oct_edit_distance(suggestion->word, known);
    size_t tolerated = strlen(suggestion->word) / 3 + 1; // a third of the letters may be wrong: more is another word
    if (distance > tolerated || (suggestion->best && distance >= suggestion->distance)) return;
    suggestion->best = known;
    suggestion->distance = distance;
}
