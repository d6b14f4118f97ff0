// keyed_hash.c: SipHash as its authors specify it: four words of state, two rounds a word of input, four rounds a word of output.
#include "base/keyed_hash.h"

#include "base/clock.h"

#include <string.h>
#include <sys/random.h>

static uint64_t rotate(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

static void rounds(uint64_t v[4], int count) {
    for (int i = 0; i < count; i++) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void absorb(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

struct oct_hash oct_keyed_hash(const struct oct_hash *key, const void *bytes, size_t length) {
    uint64_t v[4] = {key->low ^ 0x736f6d6570736575, key->high ^ 0x646f72616e646f6d ^ 0xee, key->low ^ 0x6c7967656e657261,
                     key->high ^ 0x7465646279746573};
    const unsigned char *at = bytes;
    uint64_t word, last = (uint64_t)length << 56;
    for (size_t left = length; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8); // little-endian, as the machine is
        absorb(v, word);
    }
    for (size_t i = 0; i < length % 8; i++) last |= (uint64_t)at[i] << (8 * i);
    absorb(v, last);
    struct oct_hash hash;
    v[2] ^= 0xee;
    rounds(v, 4);
    hash.low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(v, 4);
    hash.high = v[0] ^ v[1] ^ v[2] ^ v[3];
    return hash;
}

struct oct_hash oct_random_key(void) {
    struct oct_hash key = {0, 0};
    if (getrandom(&key, sizeof key, 0) != sizeof key) // a system without entropy still gets a key, if not a secret one
        key = (struct oct_hash){(uint64_t)(oct_seconds() * 1e9), (uint64_t)(uintptr_t)&key};
    return key;
}
