// arena.c: slabs that are filled from the front and given back when their last block is.
#include "device/cpu/arena.h"

#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>

enum { SLAB_BYTES = 32 << 20, ALIGNMENT = 64 };

struct oct_slab {
    struct oct_slab *next;
    char *pages; // (size)
    size_t size, used;
    int live; // blocks not yet freed
};

static oct_status add_slab(struct oct_arena *arena, size_t size, const char *what, oct_error *err) {
    void *pages;
    OCT_TRY(oct_pages_alloc(size, what, &pages, err));
    struct oct_slab *slab = oct_alloc(1, sizeof *slab, "a slab of device memory");
    *slab = (struct oct_slab){.next = arena->slabs, .pages = pages, .size = size};
    arena->slabs = slab;
    return OCT_OK;
}

oct_status oct_arena_alloc(struct oct_arena *arena, size_t size, const char *what, void **out, oct_error *err) {
    if (size > SIZE_MAX / 4) return oct_fail(err, OCT_OUT_OF_MEMORY, "out of memory: %zu bytes for %s", size, what);
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    struct oct_slab *slab = arena->slabs;
    while (slab && slab->size - slab->used < size) slab = slab->next;
    if (!slab) {
        OCT_TRY(add_slab(arena, size > SLAB_BYTES ? size : SLAB_BYTES, what, err));
        slab = arena->slabs;
    }
    *out = slab->pages + slab->used;
    slab->used += size;
    slab->live++;
    return OCT_OK;
}

void oct_arena_free(struct oct_arena *arena, void *block) {
    for (struct oct_slab **link = &arena->slabs, *slab; (slab = *link) != NULL; link = &slab->next) {
        if ((char *)block < slab->pages || (char *)block >= slab->pages + slab->size) continue;
        if (--slab->live > 0) return;
        *link = slab->next;
        oct_pages_free(slab->pages, slab->size);
        free(slab);
        return;
    }
    OCT_CHECK(!"a block of this arena");
}
