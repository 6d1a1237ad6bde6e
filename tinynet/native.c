/* The two loops over pixels that torch's operations do slower than memory allows.
 *
 * Compiled when tinynet is installed, if there is a C compiler; native.py loads them, and torch
 * does the same work where they are missing. No Python in here: ctypes calls these functions, and
 * they run outside of the interpreter lock.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

enum { LINE = 64, BLOCK = 1024 };

/* out[i] = base[ids[i] * stride …], `bytes` of it. While one picture is copied the next one is
 * fetched: a copy out of order is then as fast as one in order. */
EXPORT void gather(const uint8_t *base, const int64_t *ids, int64_t count, int64_t stride,
                   int64_t bytes, uint8_t *out)
{
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *from = base + ids[i] * stride;
        const uint8_t *next = base + ids[i + 1 < count ? i + 1 : i] * stride;
        for (int64_t at = 0; at < bytes; at += BLOCK) {
            int64_t size = bytes - at < BLOCK ? bytes - at : BLOCK;
#if defined(__GNUC__)
            for (int64_t line = at; line < at + size; line += LINE)
                __builtin_prefetch(next + line, 0, 2);
#endif
            memcpy(out + i * bytes + at, from + at, size);
        }
    }
}

static int64_t reflect(int64_t at, int64_t length)
{
    if (at < 0) at = -at;
    return at < length ? at : 2 * (length - 1) - at;
}

/* Mirrored where asked for, shifted with reflected borders, times scale plus shift (both of a
 * row's length): uint8 (count, height, width, channels) to float32, or to bfloat16 if `half`.
 * Returns 0, or 1 if there is no memory. */
EXPORT FOR_EVERY_PROCESSOR int show(const uint8_t *images, int64_t count, int64_t height,
                                    int64_t width, int64_t channels, const int64_t *down,
                                    const int64_t *right, const uint8_t *mirrored,
                                    const float *scale, const float *shift, int half, void *out)
{
    int64_t length = width * channels;
    uint8_t *row = malloc(length);
    float *values = malloc(length * sizeof(float));
    if (!row || !values) {
        free(row);
        free(values);
        return 1;
    }
    for (int64_t i = 0; i < count; i++) {
        /* Columns first … last - 1 come from inside of the picture. */
        int64_t first = right[i] < 0 ? -right[i] : 0;
        int64_t last = right[i] > 0 ? width - right[i] : width;
        for (int64_t y = 0; y < height; y++) {
            const uint8_t *from = images + (i * height + reflect(y + down[i], height)) * length;
            if (!mirrored[i])
                memcpy(row + first * channels, from + (first + right[i]) * channels,
                       (last - first) * channels);
            else if (channels == 3)
                for (int64_t x = first; x < last; x++) {
                    const uint8_t *pixel = from + 3 * (width - 1 - x - right[i]);
                    row[3 * x] = pixel[0];
                    row[3 * x + 1] = pixel[1];
                    row[3 * x + 2] = pixel[2];
                }
            else
                for (int64_t x = first; x < last; x++)
                    memcpy(row + x * channels, from + (width - 1 - x - right[i]) * channels,
                           channels);
            for (int64_t x = 0; x < width; x++) {
                if (x == first) x = last;
                if (x == width) break;
                int64_t column = reflect(x + right[i], width);
                if (mirrored[i]) column = width - 1 - column;
                memcpy(row + x * channels, from + column * channels, channels);
            }
            float *to = half ? values : (float *)out + (i * height + y) * length;
            for (int64_t k = 0; k < length; k++)
                to[k] = row[k] * scale[k] + shift[k];
            if (half) {
                /* Round to the nearest, halves to even, as torch does; no value is NaN. */
                uint16_t *short_to = (uint16_t *)out + (i * height + y) * length;
                for (int64_t k = 0; k < length; k++) {
                    uint32_t bits;
                    memcpy(&bits, values + k, sizeof bits);
                    short_to[k] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
                }
            }
        }
    }
    free(row);
    free(values);
    return 0;
}
