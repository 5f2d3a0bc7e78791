/* Compresses a file in memory by every strategy and level, inflates it again, and computes with libm on its bytes. Prints
   lengths, checksums and sums. One thread, no time, no addresses: every run does the same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* zlib's interface, so that its headers are not needed. */
typedef struct {
    const unsigned char *next_in;
    unsigned avail_in;
    unsigned long total_in;
    unsigned char *next_out;
    unsigned avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *zalloc, *zfree, *opaque;
    int data_type;
    unsigned long adler, reserved;
} z_stream;
extern int deflateInit2_(z_stream *, int, int, int, int, int, const char *, int);
extern int deflate(z_stream *, int), deflateEnd(z_stream *);
extern int inflateInit2_(z_stream *, int, const char *, int);
extern int inflate(z_stream *, int), inflateEnd(z_stream *);
extern unsigned long crc32(unsigned long, const unsigned char *, unsigned), adler32(unsigned long, const unsigned char *, unsigned);
extern const char *zlibVersion(void);
enum { FINISH = 4, END = 1, DEFLATED = 8 };

static unsigned char *text, *packed, *unpacked;
static size_t len;

static void there_and_back(int level, int strategy, int window) {
    z_stream s;
    memset(&s, 0, sizeof s);
    if (deflateInit2_(&s, level, DEFLATED, window, 8, strategy, zlibVersion(), sizeof s)) exit(2);
    s.next_in = text, s.avail_in = len, s.next_out = packed, s.avail_out = 2 * len + 4096;
    if (deflate(&s, FINISH) != END) exit(3);
    size_t size = s.total_out;
    deflateEnd(&s);
    memset(&s, 0, sizeof s);
    if (inflateInit2_(&s, window, zlibVersion(), sizeof s)) exit(4);
    s.next_in = packed, s.avail_in = size, s.next_out = unpacked, s.avail_out = len;
    if (inflate(&s, FINISH) != END || s.total_out != len || memcmp(text, unpacked, len)) exit(5);
    inflateEnd(&s);
    printf("level %d strategy %d window %d: %zu bytes, crc %08lx\n", level, strategy, window, size, crc32(0, packed, size));
}

static void numbers(void) {
    double count[256] = {0}, sum[12] = {0}, bits = 0;
    for (size_t i = 0; i < len; i++) count[text[i]]++;
    for (int i = 0; i < 256; i++)
        if (count[i]) bits -= count[i] * log2(count[i] / len);
    for (size_t i = 0; i + 1 < len && i < 20000; i++) {
        double x = text[i] / 16.0 + 0.25, y = text[i + 1] / 64.0 + 0.5;
        sum[0] += sin(x * y), sum[1] += cos(x), sum[2] += tan(y), sum[3] += exp(-y), sum[4] += log(x);
        sum[5] += pow(x, y), sum[6] += atan2(x, y), sum[7] += cbrt(x), sum[8] += erf(y), sum[9] += tgamma(y);
        sum[10] += fmod(x, y) + sinhf((float)y) + expm1(y) + hypot(x, y), sum[11] += floor(x) + rint(y) + logf((float)x);
    }
    printf("%.6f bits", bits);
    for (int i = 0; i < 12; i++) printf(" %.9g", sum[i]);
    printf("\n");
}

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!file) return 1;
    fseek(file, 0, SEEK_END);
    len = ftell(file);
    rewind(file);
    text = malloc(len), packed = malloc(2 * len + 4096), unpacked = malloc(len);
    if (fread(text, 1, len, file) != len) return 1;
    fclose(file);
    printf("%zu bytes, adler %08lx\n", len, adler32(1, text, len));
    for (int level = 0; level <= 9; level += 3) there_and_back(level, 0, 15);
    for (int strategy = 1; strategy <= 4; strategy++) there_and_back(6, strategy, 31);
    there_and_back(1, 0, -12);
    numbers();
    return 0;
}
