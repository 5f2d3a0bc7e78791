/* Digests whose values are known from their standards, and of a longer message, by libcrypto. The number of rounds over
   the longer one is the argument. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libcrypto's interface, so that its headers are not needed. */
extern const void *EVP_get_digestbyname(const char *);
extern int EVP_Digest(const void *, size_t, unsigned char *, unsigned *, const void *, void *);

/* Of "abc": RFC 1321, RFC 3174, FIPS 180-4, FIPS 202, RFC 7693, ISO/IEC 10118-3 (RIPEMD-160). */
static const struct {
    const char *name, *abc;
} known[] = {
    {"MD5", "900150983cd24fb0d6963f7d28e17f72"},
    {"SHA1", "a9993e364706816aba3e25717850c26c9cd0d89d"},
    {"SHA224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"},
    {"SHA256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"SHA384", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
    {"SHA512", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423"
               "643ce80e2a9ac94fa54ca49f"},
    {"SHA3-256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
    {"SHA3-512", "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e393405734"
                 "0b4cf408d5a56592f8274eec53f0"},
    {"BLAKE2b512", "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc95"
                   "18d38aa8dbf1925ab92386edd4009923"},
    {"BLAKE2s256", "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"},
    {"RIPEMD160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"},
};

static char *hex(const char *name, const void *data, size_t len) {
    static char text[129];
    unsigned char digest[64];
    unsigned size = 0;
    const void *type = EVP_get_digestbyname(name);
    if (!type || !EVP_Digest(data, len, digest, &size, type, NULL)) return NULL;
    for (unsigned i = 0; i < size; i++) sprintf(text + 2 * i, "%02x", digest[i]);
    return text;
}

int main(int argc, char **argv) {
    static unsigned char message[20000];
    int rounds = argc > 1 ? atoi(argv[1]) : 1, bad = 0;
    for (size_t i = 0; i < sizeof message; i++) message[i] = i * 131 + (i >> 7);
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        const char *abc = hex(known[k].name, "abc", 3);
        if (!abc || strcmp(abc, known[k].abc)) printf("%s is wrong: %s\n", known[k].name, abc ? abc : "not there"), bad++;
        for (int round = 0; abc && round < rounds; round++) {
            const char *text = hex(known[k].name, message, sizeof message - 37 * round);
            if (round % 10 == 0) printf("%s %d %s\n", known[k].name, round, text ? text : "not there");
        }
    }
    printf("%d wrong\n", bad);
    return bad != 0;
}
