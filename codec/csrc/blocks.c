/* Blocks of samples that a JPEG decoder made: see pixelzip.codec.origins.blocks. */

#include "export.h"
#include "idct.h"

#include <stdint.h>

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
    STRIDE = 1000003, /* a prime, so that counting by it visits all of a number of windows */
};

struct plane {
    const uint8_t *samples, *known;
    int64_t height, width;
};

/* Whether a square of samples is known, not clamped, and not flat. */
static int says_something(const struct plane *plane, int64_t top, int64_t left, int side)
{
    int least = 255, most = 0;
    for (int64_t y = top; y < top + side; y++)
        for (int64_t at = y * plane->width + left; at < y * plane->width + left + side; at++) {
            int sample = plane->samples[at];
            if (!plane->known[at] || sample == 0 || sample == 255)
                return 0;
            least = sample < least ? sample : least;
            most = sample > most ? sample : most;
        }
    return most - least >= FLAT;
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
EXPORT int64_t blocks_offsets(const uint8_t *samples, const uint8_t *known, int64_t height,
    int64_t width, int64_t most, const int16_t *gains, int32_t price, int64_t *scores)
{
    struct plane plane = {samples, known, height, width};
    int64_t rows = (height - 7) / 8, columns = (width - 7) / 8, found = 0;
    int64_t tops[256], lefts[256], count = rows * columns;
    if (height < WINDOW || width < WINDOW)
        return 0;
    most = most > 256 ? 256 : most;
    for (int64_t i = 0; i < count && i < 8 * most && found < most; i++) {
        int64_t at = i * STRIDE % count;
        tops[found] = at / columns * 8;
        lefts[found] = at % columns * 8;
        found += says_something(&plane, tops[found], lefts[found], WINDOW);
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

/* How often each magnitude, in eighths, occurs among the coefficients of each frequency in whole
 * blocks of a grid: counts (64, 8192). Returns how many blocks there are. */
EXPORT int64_t blocks_histogram(const uint8_t *samples, const uint8_t *known, int64_t height,
    int64_t width, int64_t top, int64_t left, float *counts)
{
    struct plane plane = {samples, known, height, width};
    int64_t found = 0;
    for (int64_t y = -top & 7; y + 8 <= height; y += 8)
        for (int64_t x = -left & 7; x + 8 <= width; x += 8) {
            int32_t levels[64];
            if (!says_something(&plane, y, x, 8))
                continue;
            found++;
            magnitudes(&plane, y, x, levels);
            for (int k = 0; k < 64; k++)
                counts[k * 8192 + (levels[k] < 8191 ? levels[k] : 8191)]++;
        }
    return found;
}

/* --- The coefficients --------------------------------------------------------------------------- */

enum {
    UNIT = 8, /* residuals count in 2^-8 of a sample */
    FAR = 8000, /* beyond which residuals are not told apart */
    OPEN = 16383, /* no bound; all sums of three such numbers fit 16 bits */
    DOUBTFUL = 384, /* a coefficient that is farther from a multiple of its step is not that one */
    GREEDY = 8, /* moves before the first restart, and after each ... */
    AGAIN = 5,
    REST = 3, /* moves for which a coefficient that was moved stays as it is */
};

/* A block whose coefficients are sought. Residuals are what is rendered less what is there; where
 * they lie between `low` and `high`, the sample fits. */
struct block {
    int16_t samples[64]; /* less 128 */
    int16_t low[64], high[64], residuals[64];
    int16_t *coefficients;
    const uint16_t *steps;
    int transposed;
};

/* A coefficient that may be one more, or less. */
struct move {
    int16_t change[64]; /* of residuals */
    int16_t sign, home; /* of the change of the coefficient: now, at first */
    int frequency, until;
    uint32_t chance; /* of 2^16: that it should be made */
};

static int16_t bounded(int32_t number)
{
    return (int16_t)(number < -FAR ? -FAR : number > FAR ? FAR : number);
}

/* By how much residuals that change leave their bounds. */
static int32_t excess(const struct block *block, const int16_t *change)
{
    int32_t sum = 0;
    for (int i = 0; i < 64; i++) {
        int16_t residual = (int16_t)(block->residuals[i] + change[i]);
        int16_t above = (int16_t)(residual - block->high[i]);
        int16_t below = (int16_t)(block->low[i] - residual);
        above = above > below ? above : below;
        above = above > 0 ? above : 0;
        sum += above < 4095 ? above : 4095;
    }
    return sum;
}

/* Residuals exactly; returns how many samples do not fit. */
static int compare(struct block *block)
{
    int32_t made[64];
    int wrong = 0;
    inverse(block->coefficients, block->steps, block->transposed, made);
    for (int i = 0; i < 64; i++) {
        int32_t residual = (made[i] - block->samples[i] * (1 << LAST_SHIFT)) >> (LAST_SHIFT - UNIT);
        block->residuals[i] = bounded(residual);
        wrong += block->residuals[i] < block->low[i] || block->residuals[i] > block->high[i];
    }
    return wrong;
}

/* What one step more of a frequency adds to residuals. */
static void wave(int frequency, int step, int16_t *change)
{
    for (int i = 0; i < 64; i++) {
        int64_t product = WAVES[frequency >> 3][i >> 3] * WAVES[frequency & 7][i & 7];
        change[i] = bounded((int32_t)((product * step + (1 << 20)) >> 21));
    }
}

/* The coefficients that samples have, rounded; returns the moves to those that are next to them. */
static int round_off(struct block *block, const int16_t *samples, struct move *moves)
{
    static const uint16_t chances[] = {32768, 24000, 17600, 11952, 7809, 4980, 3124, 1939, 1196, 735,
        451, 276, 169, 103, 63, 39, 24};
    int32_t spectrum[64];
    int count = 0;
    forward(samples, spectrum);
    for (int k = 0; k < 64; k++) {
        int32_t step = block->steps[k] << UNIT, size = spectrum[k] < 0 ? -spectrum[k] : spectrum[k];
        int32_t number = (size + step / 2) / step, off = size - number * step;
        int16_t sign = (off < 0) == (spectrum[k] < 0) ? 1 : -1;
        off = off < 0 ? -off : off;
        block->coefficients[k] = saturated(spectrum[k] < 0 ? -number : number);
        if (!moves || step - off >= DOUBTFUL)
            continue;
        /* By 6 times the difference of the squares of both distances. */
        int64_t doubt = (int64_t)step * (step - 2 * off) * 12 >> 16;
        moves[count].frequency = k;
        moves[count].sign = moves[count].home = sign;
        moves[count].until = 0;
        moves[count].chance = chances[doubt > 16 ? 16 : doubt];
        wave(k, sign * block->steps[k], moves[count++].change);
    }
    return count;
}

static void make(struct block *block, struct move *move)
{
    block->coefficients[move->frequency] = saturated(block->coefficients[move->frequency] + move->sign);
    move->sign = (int16_t)-move->sign;
    for (int i = 0; i < 64; i++)
        move->change[i] = (int16_t)-move->change[i];
}

static uint32_t chance_of(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state & 0xffff;
}

/* Look for coefficients that fit all samples among those that differ from these by some moves: make
 * the best one, again and again, and from time to time begin somewhere else. Returns how many
 * samples do not fit in the end. */
static int search(struct block *block, struct move *moves, int count, int effort)
{
    int16_t best[64];
    int least = compare(block), left = GREEDY;
    uint32_t random = 1;
    memcpy(best, block->coefficients, sizeof best);
    for (int turn = 1; least && count && turn <= effort; turn++) {
        if (left-- > 0) {
            int chosen = -1, rest = REST < count / 2 ? REST : count / 2;
            int32_t lowest = INT32_MAX;
            for (int i = 0; i < count; i++) {
                int32_t left_over = moves[i].until > turn ? INT32_MAX : excess(block, moves[i].change);
                if (left_over < lowest) {
                    lowest = left_over;
                    chosen = i;
                }
            }
            make(block, moves + chosen);
            moves[chosen].until = turn + 1 + rest;
        } else {
            for (int i = 0; i < count; i++) {
                int wanted = chance_of(&random) < moves[i].chance;
                moves[i].until = 0;
                if (wanted != (moves[i].sign != moves[i].home))
                    make(block, moves + i);
            }
            left = AGAIN;
        }
        int wrong = compare(block);
        if (wrong < least) {
            least = wrong;
            memcpy(best, block->coefficients, sizeof best);
        }
    }
    memcpy(block->coefficients, best, sizeof best);
    return least;
}

/* A block whose samples all bound it on both sides. */
static int solve(struct block *block, int effort)
{
    struct move moves[64];
    int count = round_off(block, block->samples, moves);
    return search(block, moves, count, effort);
}

/* A block with samples that are not known, or clamped: they become what is rendered there. */
static int guess(struct block *block, int effort)
{
    int16_t samples[64], best[64];
    int least = 65;
    struct move moves[64];
    memcpy(samples, block->samples, sizeof samples);
    for (int turn = 0; turn < 16 && least; turn++) {
        int count = round_off(block, samples, moves);
        int wrong = compare(block);
        if (wrong < least) {
            least = wrong;
            memcpy(best, block->coefficients, sizeof best);
        }
        if (least && turn % 4 == 3) {
            wrong = search(block, moves, count, effort / 4);
            if (wrong < least) {
                least = wrong;
                memcpy(best, block->coefficients, sizeof best);
            }
            compare(block);
        }
        for (int i = 0; i < 64; i++) {
            int16_t residual = block->residuals[i];
            if (block->low[i] > -OPEN && block->high[i] < OPEN)
                continue;
            if (residual > block->high[i])
                residual = block->high[i];
            if (residual < block->low[i])
                residual = block->low[i];
            samples[i] = (int16_t)(block->samples[i] + ((residual + 128) >> UNIT));
        }
    }
    memcpy(block->coefficients, best, sizeof best);
    return least;
}

/* Cut a block out of a plane. Returns whether all of its samples bound it on both sides. */
static int cut(const struct plane *plane, int64_t top, int64_t left, struct block *block)
{
    int whole = 1;
    for (int i = 0; i < 64; i++) {
        int64_t y = top + (i >> 3), x = left + (i & 7);
        int inside = y >= 0 && x >= 0 && y < plane->height && x < plane->width;
        y = y < 0 ? 0 : y < plane->height ? y : plane->height - 1;
        x = x < 0 ? 0 : x < plane->width ? x : plane->width - 1;
        int64_t at = y * plane->width + x;
        int sample = plane->samples[at], known = inside && plane->known[at];
        block->samples[i] = (int16_t)(sample - 128);
        block->low[i] = known && sample > 0 ? -128 : -OPEN;
        block->high[i] = known && sample < 255 ? 127 : OPEN;
        whole &= known && sample > 0 && sample < 255;
    }
    return whole;
}

/* The coefficients (count, 64) of the blocks of a grid with these numbers; the grid has so many
 * columns. `wrong` is how many samples of each block do not fit. */
EXPORT void blocks_solve(const uint8_t *samples, const uint8_t *known, int64_t height, int64_t width,
    const uint16_t *steps, int64_t columns, int64_t top, int64_t left, int transposed, int effort,
    const int64_t *numbers, int64_t count, int16_t *coefficients, uint8_t *wrong)
{
    struct plane plane = {samples, known, height, width};
    for (int64_t i = 0; i < count; i++) {
        struct block block;
        int64_t y = 8 * (numbers[i] / columns) - top, x = 8 * (numbers[i] % columns) - left;
        int whole = cut(&plane, y, x, &block);
        block.coefficients = coefficients + 64 * i;
        block.steps = steps;
        block.transposed = transposed;
        wrong[i] = (uint8_t)(whole ? solve(&block, effort) : guess(&block, effort));
    }
}
