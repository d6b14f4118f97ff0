// The keyed hash against vectors of SipHash-2-4-128's authors: key 00 01 .. 0f, input 00 01 .. of growing length.
#include "base/keyed_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct oct_hash hash_of(size_t length) {
    unsigned char input[64], key_bytes[16];
    struct oct_hash key;
    for (size_t i = 0; i < sizeof input; i++) input[i] = (unsigned char)i;
    for (size_t i = 0; i < sizeof key_bytes; i++) key_bytes[i] = (unsigned char)i;
    memcpy(&key, key_bytes, sizeof key);
    return oct_keyed_hash(&key, input, length);
}

static void the_authors_vectors_come_out(void **state) {
    (void)state;
    const unsigned char empty[] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    const unsigned char one[] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    struct oct_hash hash = hash_of(0);
    assert_memory_equal(&hash, empty, sizeof empty);
    hash = hash_of(1);
    assert_memory_equal(&hash, one, sizeof one);
}

static void every_length_and_every_key_hashes_differently(void **state) {
    (void)state;
    for (size_t i = 0; i < 64; i++)
        for (size_t j = 0; j < i; j++) assert_false(oct_hash_equal(hash_of(i), hash_of(j)));
    struct oct_hash a = oct_random_key(), b = oct_random_key();
    assert_false(oct_hash_equal(a, b));
    assert_false(oct_hash_equal(oct_keyed_hash(&a, "x", 1), oct_keyed_hash(&b, "x", 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_authors_vectors_come_out),
        cmocka_unit_test(every_length_and_every_key_hashes_differently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
