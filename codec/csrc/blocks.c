/* Blocks of samples that a JPEG decoder made: see pixelzip.codec.origins.blocks. */

#include "export.h"
#include "idct.h"

#include <stdint.h>

static uint8_t sample_of(int32_t sum)
{
    int32_t sample = ((sum + (1 << (LAST_SHIFT - 1))) >> LAST_SHIFT) + 128;
    return (uint8_t)(sample < 0 ? 0 : sample > 255 ? 255 : sample);
}

/* Coefficients (rows, columns, 64) -> samples (height, width), which lie from (top, left) on. */
EXPORT void blocks_render(const int16_t *coefficients, const uint16_t *steps, int64_t rows,
    int64_t columns, int transposed, int64_t top, int64_t left, int64_t height, int64_t width,
    uint8_t *out)
{
    for (int64_t i = 0; i < rows * columns; i++) {
        int32_t samples[64];
        int64_t y0 = 8 * (i / columns) - top, x0 = 8 * (i % columns) - left;
        inverse(coefficients + 64 * i, steps, transposed, samples);
        for (int64_t y = y0 < 0 ? 0 : y0; y < y0 + 8 && y < height; y++)
            for (int64_t x = x0 < 0 ? 0 : x0; x < x0 + 8 && x < width; x++)
                out[y * width + x] = sample_of(samples[8 * (y - y0) + x - x0]);
    }
}

/* --- Where the grid lies, and what the steps are ------------------------------------------------ */

enum {
    WINDOW = 15, /* holds a block at each of 64 offsets */
    STEPS = 48,
    LEVELS = 512, /* of coefficients, in eighths */
    FLAT = 8, /* the rounding of smoother samples is no noise */
    NEAR = 10, /* eighths between a coefficient and a multiple of its step */
    STRAY = 8, /* coefficients of a block that may be farther */
    GUESSES = WINDOW * WINDOW / 8,
    STRIDE = 1000003, /* a prime, so that counting by it visits all of a number of windows */
};

struct plane {
    const uint8_t *samples, *low, *high; /* a sample whose bounds are the same is known */
    int64_t height, width;
};

/* Whether a square of samples is known, but for some, not clamped, and not flat. */
static int says_something(const struct plane *plane, int64_t top, int64_t left, int side,
    int guesses)
{
    int least = 255, most = 0;
    for (int64_t y = top; y < top + side; y++)
        for (int64_t at = y * plane->width + left; at < y * plane->width + left + side; at++) {
            int sample = plane->samples[at];
            guesses -= plane->low[at] != plane->high[at];
            if (sample == 0 || sample == 255)
                return 0;
            least = sample < least ? sample : least;
            most = sample > most ? sample : most;
        }
    return most - least >= FLAT && guesses >= 0;
}

/* The magnitudes of a block's coefficients, in eighths. */
static void magnitudes(const struct plane *plane, int64_t top, int64_t left, int32_t *out)
{
    int16_t samples[64];
    for (int i = 0; i < 64; i++)
        samples[i] = (int16_t)(plane->samples[(top + (i >> 3)) * plane->width + left + (i & 7)] - 128);
    forward(samples, out);
    for (int i = 0; i < 64; i++)
        out[i] = ((out[i] < 0 ? -out[i] : out[i]) + 16) >> 5;
}

/* Of `most` windows of a plane, how much speaks for a grid at each of the 64 offsets (row, column) in
 * them: `gains` (LEVELS, STEPS) is what a coefficient says for a step, `price` what it has to
 * exceed in all. Returns how many windows there are. */
EXPORT int64_t blocks_offsets(const uint8_t *samples, const uint8_t *low, const uint8_t *high,
    int64_t height, int64_t width, int64_t most, const int16_t *gains, int32_t price, int64_t *scores)
{
    struct plane plane = {samples, low, high, height, width};
    int64_t rows = (height - 7) / 8, columns = (width - 7) / 8, found = 0;
    int64_t tops[256], lefts[256], count = rows * columns;
    if (height < WINDOW || width < WINDOW)
        return 0;
    most = most > 256 ? 256 : most;
    for (int64_t i = 0; i < count && i < 8 * most && found < most; i++) {
        int64_t at = i * STRIDE % count;
        tops[found] = at / columns * 8;
        lefts[found] = at % columns * 8;
        found += says_something(&plane, tops[found], lefts[found], WINDOW, GUESSES);
    }
    for (int offset = 0; offset < 64; offset++) {
        int32_t sums[64][STEPS] = {{0}};
        for (int64_t i = 0; i < found; i++) {
            int32_t levels[64];
            magnitudes(&plane, tops[i] + (offset >> 3), lefts[i] + (offset & 7), levels);
            for (int k = 1; k < 64; k++)
                if (levels[k] < LEVELS)
                    for (int step = 0; step < STEPS; step++)
                        sums[k][step] += gains[levels[k] * STEPS + step];
        }
        scores[offset] = 0;
        for (int k = 1; k < 64; k++) {
            int32_t best = 0;
            for (int step = 0; step < STEPS; step++)
                best = sums[k][step] > best ? sums[k][step] : best;
            scores[offset] += best > price ? best - price : 0;
        }
    }
    return found;
}

/* Whether most coefficients of a block are near to multiples of their steps. */
static int is_on(const int32_t *levels, const uint16_t *steps)
{
    int off = 0;
    for (int k = 0; k < 64; k++) {
        int step = 8 * steps[k], beyond = levels[k] % step;
        off += beyond > NEAR && step - beyond > NEAR;
    }
    return off <= STRAY;
}

/* How often each magnitude, in eighths, occurs among the coefficients of each frequency in blocks of a
 * grid: counts (64, 8192). Only blocks with at most so many guesses; and, where there are steps,
 * whose coefficients go with them for the most part. Returns how many these are. */
EXPORT int64_t blocks_histogram(const uint8_t *samples, const uint8_t *low, const uint8_t *high,
    int64_t height, int64_t width, int64_t top, int64_t left, int guesses, const uint16_t *steps,
    float *counts)
{
    struct plane plane = {samples, low, high, height, width};
    int64_t found = 0;
    for (int64_t y = -top & 7; y + 8 <= height; y += 8)
        for (int64_t x = -left & 7; x + 8 <= width; x += 8) {
            int32_t levels[64];
            if (!says_something(&plane, y, x, 8, guesses))
                continue;
            magnitudes(&plane, y, x, levels);
            if (steps && !is_on(levels, steps))
                continue;
            found++;
            for (int k = 0; k < 64; k++)
                counts[k * 8192 + (levels[k] < 8191 ? levels[k] : 8191)]++;
        }
    return found;
}
