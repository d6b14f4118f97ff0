// keyed_hash.h: SipHash-2-4 with 128 bits of output. Who does not know the key can neither predict a hash nor find two inputs that share
// one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oct_hash {
    uint64_t low, high;
};

// Also the key: 128 random bits.
struct oct_hash oct_keyed_hash(const struct oct_hash *key, const void *bytes, size_t length);
// Unpredictable bits from the system.
struct oct_hash oct_random_key(void);

static inline bool oct_hash_equal(struct oct_hash a, struct oct_hash b) {
    return a.low == b.low && a.high == b.high;
}
