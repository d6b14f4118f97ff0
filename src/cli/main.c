#include <stdio.h>

int main(void) {
    puts("octavo");
    return 0;
}
