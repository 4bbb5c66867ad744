/* The encoder's search for the samples of a stretched plane: see pixelzip.codec.origins.downsampling.
 *
 * Each known pixel bounds a weighted sum of samples. Its *excess* is what the sum is above the lower
 * bound: from 0 to `most` if the samples make the pixel. */

#include "export.h"

#include <stdint.h>
#include <string.h>

enum {
    LONGEST = 4,
    MOST_SAMPLES = 4,
    WINDOW = 2 * LONGEST + 2,
    AREA = 16, /* pixels about a sample */
    STRETCH = 32, /* pixels that are looked at together */
    BLOCK_AREA = 40, /* about a block of samples: 36, in whole vectors */
    FAR = 16000, /* beyond which excess is not told apart */
    MOST_MOVES = 64, /* of one */
};

/* How an axis is stretched: pixels for a sample, and their weights of the near and the far one. */
struct stretch {
    int32_t step, first[2], second[2];
};

struct search {
    int32_t *samples, *excess;
    const uint8_t *known;
    int64_t rows, columns; /* of samples */
    int64_t height, width; /* of pixels, with a margin on each side */
    int64_t margin;
    struct stretch down, across;
    int32_t most;
};

static int is_wrong(const struct search *search, int plane, int64_t at)
{
    int32_t excess = search->excess[plane * search->height * search->width + at];
    return search->known[at] & ((excess < 0) | (excess > search->most));
}

/* How many of `count` pixels from `at` on are wrong. */
static int32_t wrong_from(const struct search *search, int plane, int64_t at, int64_t count)
{
    const int32_t *excess = search->excess + plane * search->height * search->width + at;
    const uint8_t *known = search->known + at;
    int32_t wrong = 0, most = search->most;
    for (int64_t i = 0; i < count; i++)
        wrong += known[i] & ((excess[i] < 0) | (excess[i] > most));
    return wrong;
}

static int64_t wrong_pixels(const struct search *search)
{
    int64_t count = 0;
    for (int plane = 0; plane < 2; plane++)
        for (int64_t y = 0; y < search->height; y++)
            count += wrong_from(search, plane, y * search->width, search->width);
    return count;
}

/* Weights of `length` samples from `start` on in the pixels about them. Returns how many pixels there
 * are; the first one is the last before the samples' own, if there is a far sample at all. */
static int weigh(const struct stretch *stretch, int64_t start, int length, int64_t count,
    int32_t weights[LONGEST][WINDOW])
{
    int window = stretch->step == 1 ? length : 2 * length + 2;
    for (int k = 0; k < length; k++) {
        int64_t sample = start + k;
        for (int i = 0; i < window; i++)
            weights[k][i] = stretch->step == 1 && i == k;
        if (stretch->step == 1)
            continue;
        int32_t *own = weights[k] + 2 * k;
        own[0] = stretch->second[1];
        own[1] = stretch->first[0] + (sample == 0 ? stretch->first[1] : 0);
        own[2] = stretch->second[0] + (sample == count - 1 ? stretch->second[1] : 0);
        own[3] = stretch->first[1];
    }
    return window;
}

/* About exponentially distributed, 1.5 in 256ths on average. */
static int32_t chance(uint64_t *state)
{
    int32_t zeros = 0;
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    uint64_t random = *state * UINT64_C(2685821657736338717);
#ifdef __GNUC__
    zeros = __builtin_ctz((uint32_t)(random >> 8) | UINT32_C(1) << 24);
#else
    for (uint64_t bits = random >> 8; (bits & 1) == 0 && zeros < 24; bits >>= 1)
        zeros++;
#endif
    return 256 * zeros + (int32_t)(random >> 56);
}

/* The excess of pixels about a block of samples, what a step of each of these adds, and -1 for known
 * pixels. Whole vectors: what is beyond the pixels is not known. */
struct block {
    int16_t excess[BLOCK_AREA], change[MOST_SAMPLES][BLOCK_AREA], known[BLOCK_AREA];
};

/* By how much known pixels are missed after steps of -1, 0 or 1. */
static int32_t missed_after(
    const struct block *block, const int8_t *steps, int samples, int16_t most)
{
    int16_t moved[BLOCK_AREA];
    int32_t missed = 0;
    memcpy(moved, block->excess, sizeof moved);
    for (int k = 0; k < samples; k++)
        if (steps[k] > 0)
            for (int at = 0; at < BLOCK_AREA; at++)
                moved[at] = (int16_t)(moved[at] + block->change[k][at]);
        else if (steps[k] < 0)
            for (int at = 0; at < BLOCK_AREA; at++)
                moved[at] = (int16_t)(moved[at] - block->change[k][at]);
    for (int at = 0; at < BLOCK_AREA; at++) {
        int16_t below = (int16_t)-moved[at], above = (int16_t)(moved[at] - most);
        int16_t off = below > above ? below : above;
        off = off > 0 ? off : 0;
        missed += (int16_t)(off & block->known[at]);
    }
    return missed;
}

/* Make the best of some moves of a block of samples. `moves` is (count, samples of the block). */
static void improve(const struct search *search, int plane, int64_t i, int64_t j, int rows,
    int columns, const int8_t *moves, int count, int32_t noise, uint64_t *random)
{
    int32_t down[LONGEST][WINDOW], across[LONGEST][WINDOW];
    int height = weigh(&search->down, i, rows, search->rows, down);
    int width = weigh(&search->across, j, columns, search->columns, across);
    int64_t top = search->margin + search->down.step * i - (search->down.step > 1);
    int64_t left = search->margin + search->across.step * j - (search->across.step > 1);
    const uint8_t *known = search->known + top * search->width + left;
    int32_t *here = search->excess + plane * search->height * search->width;
    here += top * search->width + left;
    int area = height * width, samples = rows * columns, best = 0;
    struct block block;
    memset(&block, 0, sizeof block);
    for (int r = 0, at = 0; r < height; r++)
        for (int c = 0; c < width; c++, at++) {
            int32_t excess = here[r * search->width + c];
            block.known[at] = (int16_t)-known[r * search->width + c];
            block.excess[at] = (int16_t)(excess < -FAR ? -FAR : excess > FAR ? FAR : excess);
            for (int k = 0; k < samples; k++)
                block.change[k][at] = (int16_t)(down[k / columns][r] * across[k % columns][c]);
        }
    int64_t least = INT64_MAX;
    for (int move = 0; move < count; move++) {
        int64_t cost = missed_after(&block, moves + move * samples, samples, (int16_t)search->most);
        cost = 256 * cost + (noise ? (int64_t)noise * chance(random) / 256 : 0);
        if (cost < least) {
            least = cost;
            best = move;
        }
    }
    const int8_t *steps = moves + best * samples;
    for (int k = 0; k < samples; k++) {
        int64_t at = (plane * search->rows + i + k / columns) * search->columns + j + k % columns;
        search->samples[at] += steps[k];
        for (int at = 0; at < area && steps[k] != 0; at++)
            here[at / width * search->width + at % width] += steps[k] * block.change[k][at];
    }
}

/* Where the blocks begin that are tried for pixel `at` of an axis; returns how many those are. */
static int starts(
    const struct stretch *stretch, int64_t at, int length, int64_t count, int64_t *found)
{
    found[0] = found[1] = at;
    if (stretch->step == 2) {
        found[0] = length == 1 ? at / 2 : (at + 1) / 2 - length / 2;
        found[1] = at / 2 + at % 2 * 2 - 1;
    }
    for (int k = 0; k < 2; k++) {
        found[k] = found[k] > count - length ? count - length : found[k];
        found[k] = found[k] < 0 ? 0 : found[k];
    }
    return stretch->step == 2 && length == 1 ? 2 : 1;
}

/* Try all moves of a block of samples at each wrong pixel; returns how many those were. Does nothing
 * if they are more than `limit`.
 *
 * `sizes`: rows and columns of samples, height and width of pixels, margin, limit. `weights`: for
 * rows, then columns: step, first (near, far), second (near, far). */
EXPORT int64_t shrinking_sweep(int32_t *samples, int32_t *excess, const uint8_t *known,
    const int64_t *sizes, const int32_t *weights, int32_t most, const int8_t *moves, int count,
    int rows, int columns, int32_t noise, uint64_t *random)
{
    struct search search = {samples, excess, known, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
        {weights[0], {weights[1], weights[2]}, {weights[3], weights[4]}},
        {weights[5], {weights[6], weights[7]}, {weights[8], weights[9]}}, most};
    int64_t wrong = wrong_pixels(&search), margin = search.margin;
    if (wrong == 0 || wrong > sizes[5] || search.rows < rows || search.columns < columns)
        return wrong;
    for (int plane = 0; plane < 2; plane++)
        for (int64_t y = margin; y < search.height - margin; y++)
            for (int64_t x = margin, end = search.width - margin; x < end; x++) {
                int64_t at = y * search.width + x, tops[2], lefts[2];
                if (x % STRETCH == 0 && end - x >= STRETCH
                    && !wrong_from(&search, plane, at, STRETCH)) {
                    x += STRETCH - 1;
                    continue;
                }
                if (!is_wrong(&search, plane, at))
                    continue;
                int down = starts(&search.down, y - margin, rows, search.rows, tops);
                int across = starts(&search.across, x - margin, columns, search.columns, lefts);
                for (int k = 0; k < down * across && is_wrong(&search, plane, at); k++)
                    improve(&search, plane, tops[k / across], lefts[k % across], rows, columns,
                        moves, count, noise, random);
            }
    return wrong;
}

/* --- Clipped pixels ---------------------------------------------------------------------------- */

/* What clipped pixels, by their numbers, say of their chroma: see pixelzip.codec.origins.ycc. */
struct bounds {
    const float *least, *most; /* (channels, count): of luma's term and that of chroma */
    int64_t count;
    double black, unit;
    const int32_t *tables; /* luma, red, green1, green2, blue */
};

/* What floor() is, for numbers that are far from 2^63. */
static double rounded_down(double number)
{
    double whole = (double)(int64_t)number;
    return whole - (whole > number);
}

/* Those of one pixel. */
static void bounds_of(const struct bounds *bounds, int64_t which, float least[3], float most[3])
{
    for (int k = 0; k < 3; k++) {
        least[k] = bounds->least[k * bounds->count + which];
        most[k] = bounds->most[k * bounds->count + which];
    }
}

/* How many steps of luma the bounds of two channels are apart. */
static double gap_between(
    const struct bounds *bounds, const float leasts[3], const float mosts[3], int c1, int c2)
{
    const int32_t *tables = bounds->tables;
    int32_t terms[3] = {tables[256 + c2], tables[512 + c1] + tables[768 + c2], tables[1024 + c1]};
    double least = -1e300, most = 1e300, unit = bounds->unit;
    for (int k = 0; k < 3; k++) {
        double offset = terms[k] + bounds->black;
        double own_least = leasts[k] - offset, own_most = mosts[k] - offset;
        least = own_least > least ? own_least : least;
        most = own_most < most ? own_most : most;
    }
    /* Mostly there is room for a step of luma between them, and nothing to divide. */
    if (most - least >= 2 * unit && least <= 254 * unit && most >= unit)
        return 0;
    double low = -rounded_down(-(least / unit)), high = rounded_down(most / unit);
    low = low > 0 ? low : 0;
    high = high < 255 ? high : 255;
    return low > high ? low - high : 0;
}

static double gap_of(const struct bounds *bounds, int64_t which, int c1, int c2)
{
    float least[3], most[3];
    bounds_of(bounds, which, least, most);
    return gap_between(bounds, least, most, c1, c2);
}

/* `scale`: black and unit. Of n pixels with that chroma. */
EXPORT void clipped_gap(const float *least, const float *most, int64_t count, const double *scale,
    const int32_t *tables, const int64_t *which, const uint8_t *c1, const uint8_t *c2, int64_t n,
    double *out)
{
    struct bounds bounds = {least, most, count, scale[0], scale[1], tables};
    for (int64_t i = 0; i < n; i++)
        out[i] = gap_of(&bounds, which[i], c1[i], c2[i]);
}

/* The pixels about a sample; those that there are not are not known. */
struct pixels {
    int32_t excess[2][AREA], goal[2][AREA], change[AREA], known[AREA]; /* -1 or 0 */
    int any_known;
    float least[AREA][3], most[AREA][3]; /* of clipped ones ... */
    int places[AREA], count; /* ... where they are, and which to look at first */
    int order[AREA];
};

/* `number` says which clipped pixel one is, negative for others. */
static void look_at(const struct search *search, const struct bounds *bounds, const int32_t *goal,
    const int64_t *number, int64_t corner, const int32_t *down, int height, const int32_t *across,
    int width, struct pixels *pixels)
{
    int64_t plane = search->height * search->width;
    memset(pixels, 0, sizeof *pixels);
    for (int y = 0, k = 0; y < height; y++)
        for (int x = 0; x < width; x++, k++) {
            int64_t at = corner + y * search->width + x;
            pixels->change[k] = down[y] * across[x];
            pixels->known[k] = -(int32_t)search->known[at];
            pixels->any_known |= search->known[at];
            for (int p = 0; p < 2; p++) {
                pixels->excess[p][k] = search->excess[p * plane + at];
                pixels->goal[p][k] = goal[p * plane + at];
            }
            if (number[at] >= 0) {
                int which = pixels->count++;
                pixels->places[which] = k;
                pixels->order[which] = which;
                bounds_of(bounds, number[at], pixels->least[which], pixels->most[which]);
            }
        }
}

/* By how much known pixels are missed, if both planes' samples move by two steps. */
static int32_t missed_by(const struct search *search, const struct pixels *pixels,
    const int8_t *steps)
{
    int32_t missed = 0;
    for (int p = 0; p < 2 && pixels->any_known; p++)
        for (int k = 0; k < AREA; k++) {
            int32_t excess = pixels->excess[p][k] + steps[p] * pixels->change[k];
            int32_t above = excess - search->most, far = -excess > above ? -excess : above;
            missed += (far > 0 ? far : 0) & pixels->known[k];
        }
    return missed;
}

/* What a move costs, with how far clipped pixels then are from allowing their chroma; or some number
 * beyond `most`. What rules one move out is likely to do so with the next; gaps are whole numbers,
 * so their sum does not depend on the order. */
static double cost_of(struct pixels *pixels, const struct bounds *bounds, int shift,
    const int8_t *steps, double cost, double most)
{
    double gap = 0;
    for (int i = 0; i < pixels->count && cost + gap <= most; i++) {
        int which = pixels->order[i], k = pixels->places[which], made[2];
        for (int p = 0; p < 2; p++) {
            int32_t excess = pixels->excess[p][k] + steps[p] * pixels->change[k];
            int32_t value = (excess + pixels->goal[p][k]) >> shift;
            made[p] = value < 0 ? 0 : value > 255 ? 255 : value;
        }
        double own = gap_between(bounds, pixels->least[which], pixels->most[which], made[0], made[1]);
        gap += own;
        if (own > 0 && i > 0) {
            pixels->order[i] = pixels->order[i / 2];
            pixels->order[i / 2] = which;
        }
    }
    return cost + gap;
}

/* Which clipped pixels, at these rows and columns, do not allow their chroma. */
EXPORT void shrinking_wrong(const int32_t *excess, const int32_t *goal, int64_t height,
    int64_t width, int shift, const float *least, const float *most, int64_t count,
    const double *scale, const int32_t *tables, const int64_t *rows, const int64_t *columns,
    uint8_t *wrong)
{
    struct bounds bounds = {least, most, count, scale[0], scale[1], tables};
    for (int64_t i = 0; i < count; i++) {
        int made[2];
        for (int p = 0; p < 2; p++) {
            int64_t at = (p * height + rows[i]) * width + columns[i];
            int32_t value = (excess[at] + goal[at]) >> shift;
            made[p] = value < 0 ? 0 : value > 255 ? 255 : value;
        }
        wrong[i] = gap_of(&bounds, i, made[0], made[1]) > 0;
    }
}

/* A number from 0 to 1, another one for each move of each sample at each attempt. */
static double luck_of(int64_t row, int64_t column, int move, int attempt)
{
    uint32_t mixed = (uint32_t)row * UINT32_C(73856093) ^ (uint32_t)column * UINT32_C(19349663)
        ^ (uint32_t)move * UINT32_C(83492791) ^ (uint32_t)attempt * UINT32_C(2654435761);
    mixed ^= mixed >> 15;
    mixed *= UINT32_C(2246822519);
    mixed ^= mixed >> 13;
    return mixed / 4294967296.0;
}

static int32_t absolute(int32_t number)
{
    return number < 0 ? -number : number;
}

/* Four times how far a sample is from the mean of the four around it. */
static int32_t beyond_mean(const struct search *search, int plane, int64_t row, int64_t column)
{
    const int32_t *samples = search->samples + plane * search->rows * search->columns;
    int64_t above = row > 0 ? row - 1 : row, below = row < search->rows - 1 ? row + 1 : row;
    int64_t left = column > 0 ? column - 1 : column;
    int64_t right = column < search->columns - 1 ? column + 1 : column;
    return 4 * samples[row * search->columns + column] - samples[above * search->columns + column]
        - samples[below * search->columns + column] - samples[row * search->columns + left]
        - samples[row * search->columns + right];
}

/* Make the best move of both planes at each of n samples, one after the other. `sizes` and `weights`
 * are those of `shrinking_sweep`, `goal` is what excess is counted from. `moves` is (kinds, most, 2),
 * the first one of each kind of sample is to stay. `noise` is the most that luck costs,
 * `rough` what it costs to be one off the mean of the samples around. */
EXPORT void shrinking_settle(int32_t *samples, int32_t *excess, const int32_t *goal,
    const uint8_t *known, const int64_t *number, const int64_t *sizes, const int32_t *weights,
    int shift, const float *least, const float *most, int64_t count, const double *scale,
    const int32_t *tables, const int64_t *rows, const int64_t *columns, const uint8_t *kinds,
    int64_t n, const int8_t *moves, int most_moves, int attempt, double noise,
    double rough)
{
    struct bounds bounds = {least, most, count, scale[0], scale[1], tables};
    struct search search = {samples, excess, known, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],
        {weights[0], {weights[1], weights[2]}, {weights[3], weights[4]}},
        {weights[5], {weights[6], weights[7]}, {weights[8], weights[9]}}, (1 << shift) - 1};
    int tried = most_moves < MOST_MOVES ? most_moves : MOST_MOVES;
    for (int64_t i = 0; i < n; i++) {
        int32_t down[LONGEST][WINDOW], across[LONGEST][WINDOW];
        int height = weigh(&search.down, rows[i], 1, search.rows, down);
        int width = weigh(&search.across, columns[i], 1, search.columns, across);
        int64_t top = search.margin + search.down.step * rows[i] - (search.down.step > 1);
        int64_t left = search.margin + search.across.step * columns[i] - (search.across.step > 1);
        int64_t corner = top * search.width + left, plane = search.height * search.width;
        const int8_t *own = moves + 2 * kinds[i] * most_moves;
        struct pixels pixels;
        look_at(&search, &bounds, goal, number, corner, down[0], height, across[0], width, &pixels);
        int32_t beyond[2];
        for (int p = 0; p < 2; p++)
            beyond[p] = beyond_mean(&search, p, rows[i], columns[i]);
        double costs[MOST_MOVES];
        int first = 0;
        for (int move = 0; move < tried; move++) {
            const int8_t *steps = own + 2 * move;
            double extra = noise * luck_of(rows[i], columns[i], move, attempt);
            extra = extra + rough * (absolute(beyond[0] + 4 * steps[0]) + absolute(beyond[1] + 4 * steps[1]));
            costs[move] = missed_by(&search, &pixels, steps) * (32.0 / (search.most + 1));
            costs[move] = costs[move] + extra;
            first = costs[move] < costs[first] ? move : first;
        }
        /* What is cheap by itself is likely to be so, and then the others need not be looked at. */
        int best = first;
        double lowest = cost_of(&pixels, &bounds, shift, own + 2 * first, costs[first], 1e300);
        for (int move = 0; move < tried; move++) {
            if (costs[move] > lowest || move == first)
                continue;
            double cost = cost_of(&pixels, &bounds, shift, own + 2 * move, costs[move], lowest);
            if (cost < lowest || (cost == lowest && move < best)) {
                lowest = cost;
                best = move;
            }
        }
        for (int p = 0; p < 2; p++) {
            int step = own[2 * best + p];
            samples[(p * search.rows + rows[i]) * search.columns + columns[i]] += step;
            for (int k = 0; k < height * width; k++)
                excess[p * plane + corner + k / width * search.width + k % width]
                    += step * pixels.change[k];
        }
    }
}
