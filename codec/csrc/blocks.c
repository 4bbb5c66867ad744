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

/* --- Where the grid lies, and what the steps are ---------------------------------------------- */

enum {
    WINDOW = 15, /* holds a block at each of 64 offsets */
    STEPS = 48,
    LEVELS = 512, /* of coefficients, in eighths */
    FLAT = 8, /* the rounding of smoother samples is no noise */
    NEAR = 10, /* eighths between a coefficient and a multiple of its step */
    STRAY = 8, /* coefficients of a block that may be farther */
    QUIET = 3, /* smaller ones say nothing */
    MOST_WINDOWS = 256, /* sums of gains fit 16 bits */
    GUESSES = WINDOW * WINDOW / 8,
    MOST_STEP = 255,
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

/* The magnitudes of coefficients in units of 2^-8, in eighths. */
static void to_levels(int32_t *numbers)
{
    for (int i = 0; i < 64; i++)
        numbers[i] = ((numbers[i] < 0 ? -numbers[i] : numbers[i]) + 16) >> 5;
}

/* Those of a block. */
static void measure(const struct plane *plane, int64_t top, int64_t left, int32_t *levels)
{
    int16_t block[64];
    const uint8_t *samples = plane->samples + top * plane->width + left;
    for (int i = 0; i < 64; i++)
        block[i] = (int16_t)(samples[(i >> 3) * plane->width + (i & 7)] - 128);
    forward(block, levels);
    to_levels(levels);
}

/* A window's samples transformed along rows, from each of 8 columns on. */
struct window {
    int16_t rows[8][WINDOW * 8];
};

static void transform(const struct plane *plane, int64_t top, int64_t left, struct window *window)
{
    for (int y = 0; y < WINDOW; y++) {
        int16_t samples[WINDOW];
        for (int x = 0; x < WINDOW; x++)
            samples[x] = (int16_t)(plane->samples[(top + y) * plane->width + left + x] - 128);
        for (int x = 0; x < 8; x++)
            forward_row(samples + x, window->rows[x] + 8 * y);
    }
}

/* How much speaks for a grid at an offset in windows. */
static int64_t score_of(const struct window *windows, int64_t count, int offset,
    const int16_t *gains, int32_t price)
{
    int16_t sums[64][STEPS] = {{0}};
    int64_t score = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t levels[64];
        forward_columns(windows[i].rows[offset & 7] + 8 * (offset >> 3), levels);
        to_levels(levels);
        for (int k = 1; k < 64; k++)
            if (levels[k] >= QUIET && levels[k] < LEVELS)
                for (int step = 0; step < STEPS; step++)
                    sums[k][step] = (int16_t)(sums[k][step] + gains[levels[k] * STEPS + step]);
    }
    for (int k = 1; k < 64; k++) {
        int16_t best = 0;
        for (int step = 0; step < STEPS; step++)
            best = sums[k][step] > best ? sums[k][step] : best;
        score += best > price ? best - price : 0;
    }
    return score;
}

/* At most `most` windows of a plane, (most, 8, 120), for `blocks_scores`. Returns how many. */
EXPORT int64_t blocks_windows(const uint8_t *samples, const uint8_t *low, const uint8_t *high,
    int64_t height, int64_t width, int64_t most, int16_t *windows)
{
    struct plane plane = {samples, low, high, height, width};
    int64_t rows = (height - 7) / 8, columns = (width - 7) / 8, found = 0;
    int64_t count = height < WINDOW || width < WINDOW ? 0 : rows * columns;
    most = most > MOST_WINDOWS ? MOST_WINDOWS : most;
    for (int64_t i = 0; i < count && i < 8 * most && found < most; i++) {
        int64_t at = i * STRIDE % count, top = at / columns * 8, left = at % columns * 8;
        if (says_something(&plane, top, left, WINDOW, GUESSES))
            transform(&plane, top, left, (struct window *)windows + found++);
    }
    return found;
}

/* How much speaks for a grid at some of the 64 offsets (row, column) in windows: `gains` (LEVELS,
 * STEPS) is what a coefficient says for a step, up to 127, `price` what it has to exceed in all. */
EXPORT void blocks_scores(const int16_t *windows, int64_t found, const int64_t *offsets,
    int64_t count, const int16_t *gains, int32_t price, int64_t *scores)
{
    for (int64_t i = 0; i < count; i++)
        scores[offsets[i]]
            = score_of((const struct window *)windows, found, (int)offsets[i], gains, price);
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

/* How often each magnitude, in eighths, occurs among the coefficients of each frequency in blocks
 * of a grid: counts (64, 8192). Only blocks with at most so many guesses; and, where there are
 * steps, whose coefficients go with them for the most part. Returns how many these are. */
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
            measure(&plane, y, x, levels);
            if (steps && !is_on(levels, steps))
                continue;
            found++;
            for (int k = 0; k < 64; k++)
                counts[k * 8192 + (levels[k] < 8191 ? levels[k] : 8191)]++;
        }
    return found;
}

/* The magnitudes of the coefficients of some blocks of a grid, in eighths: (most, 64). Returns how
 * many blocks these are. */
EXPORT int64_t blocks_levels(const uint8_t *samples, const uint8_t *low, const uint8_t *high,
    int64_t height, int64_t width, int64_t top, int64_t left, int guesses, int64_t most,
    int32_t *levels)
{
    struct plane plane = {samples, low, high, height, width};
    int64_t y = -top & 7, x = -left & 7, found = 0;
    int64_t columns = (width - x) / 8, count = (height - y) / 8 * columns;
    for (int64_t i = 0; i < count && found < most; i++) {
        int64_t at = i * STRIDE % count;
        if (says_something(&plane, y + at / columns * 8, x + at % columns * 8, 8, guesses))
            measure(&plane, y + at / columns * 8, x + at % columns * 8, levels + 64 * found++);
    }
    return found;
}

/* What sizes of blocks (blocks, 64) say for tables (tables, 64) of steps, each a sum of `gains` (.,
 * MOST_STEP), but no less than `least`: (tables, blocks). `most` (.) are the largest of the gains. */
EXPORT void blocks_gains(const float *gains, const float *most, const int32_t *sizes,
    int64_t blocks, const uint16_t *tables, int64_t count, float least, float *out)
{
    for (int64_t i = 0; i < blocks; i++, sizes += 64) {
        float hope[65] = {0}; /* what may come, rounding apart, from each frequency on */
        for (int k = 63; k >= 0; k--)
            hope[k] = hope[k + 1] + most[sizes[k]];
        for (int64_t t = 0; t < count; t++) {
            const uint16_t *steps = tables + 64 * t;
            float sum = 0;
            int k = 0;
            for (; k < 64 && sum + hope[k] > least - 1; k++)
                sum = sum + gains[(int64_t)sizes[k] * MOST_STEP + steps[k] - 1];
            out[t * blocks + i] = k < 64 || sum < least ? least : sum;
        }
    }
}
