/* From a network's integers to frequencies, and from frequencies to bytes and back.
 *
 * docs/format.md specifies all of it ("Frequencies", "The range decoder"); pixelzip.codec.cdf and
 * pixelzip.codec.coder explain it. Here is what runs: plain C, integers only. */

#ifndef PIXELZIP_CODING_H
#define PIXELZIP_CODING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    TOTAL_BITS = 24,
    NIBBLES = 16,
    SYMBOLS = NIBBLES + 2, /* with the guards */
    EXP_RANGE = 3072,
    LOG_SCALE_MIN = -128,
    LOG_SCALE_MAX = 160,
    MEAN_LIMIT = 1 << 18,
    WEIGHT_BITS = 14,
    UNIT_BITS = 36, /* of the CDF */
    SIGMOID_STEPS = 2048,
};

#define SPREAD (((int64_t)1 << TOTAL_BITS) - SYMBOLS)
#define UNIT ((int64_t)1 << UNIT_BITS)

/* The tables of docs/format.md; whoever loads this code fills them in. */
static int32_t exp_table[EXP_RANGE + 2]; /* the last one is 0, for all that is beyond */
static int32_t inverse_scale[LOG_SCALE_MAX - LOG_SCALE_MIN + 1];
static struct {
    int32_t value, slope;
} sigmoid[SIGMOID_STEPS + 1];

static void fill_tables(const int64_t *exp, const int64_t *inverse, const int64_t *values)
{
    for (int i = 0; i <= EXP_RANGE; i++)
        exp_table[i] = (int32_t)exp[i];
    for (int i = 0; i <= LOG_SCALE_MAX - LOG_SCALE_MIN; i++)
        inverse_scale[i] = (int32_t)inverse[i];
    for (int i = 0; i <= SIGMOID_STEPS; i++) {
        sigmoid[i].value = (int32_t)values[i];
        sigmoid[i].slope = i < SIGMOID_STEPS ? (int32_t)(values[i + 1] - values[i]) : 0;
    }
}

static inline int64_t clamped(int64_t x, int64_t lowest, int64_t highest)
{
    x = x < lowest ? lowest : x;
    return x > highest ? highest : x;
}

/* --- Mixtures ------------------------------------------------------------------------------- */

struct component {
    int64_t weight;
    int32_t mean, inverse;
};

static inline int32_t exp_of_less(int32_t top, int32_t logit)
{
    int64_t below = (int64_t)top - logit;
    return exp_table[below < EXP_RANGE + 1 ? below : EXP_RANGE + 1];
}

/* The k components of a mixture; returns the edge below the likeliest one's mean, in high nibbles,
 * from 1 to 15. `parameters` is (3, k). Without branches: what a mixture is like
 * cannot be foretold, and to guess wrong takes longer than to compute what has no weight. */
static inline int mixture(const int32_t *parameters, int k, struct component *found)
{
    int32_t top = parameters[0], at_top = 0;
    for (int i = 1; i < k; i++) {
        at_top = parameters[i] > top ? i : at_top;
        top = parameters[i] > top ? parameters[i] : top;
    }
    int64_t total = 0;
    int32_t rest = 1 << WEIGHT_BITS;
    for (int i = 0; i < k; i++)
        total += exp_of_less(top, parameters[i]);
    for (int i = 0; i < k; i++) {
        /* The dividend is below 2^35, the divisor below 2^31: a division of doubles is exact
         * enough to be the floor, and faster than one of integers. */
        double dividend = (double)exp_of_less(top, parameters[i]) * (1 << WEIGHT_BITS);
        int32_t weight = (int32_t)(dividend / (double)total);
        rest -= weight;
        found[i].weight = weight;
        int32_t mean = parameters[k + i], log_scale = parameters[2 * k + i];
        mean = mean < -MEAN_LIMIT ? -MEAN_LIMIT : mean > MEAN_LIMIT ? MEAN_LIMIT : mean;
        log_scale = log_scale < LOG_SCALE_MIN ? LOG_SCALE_MIN : log_scale;
        log_scale = log_scale > LOG_SCALE_MAX ? LOG_SCALE_MAX : log_scale;
        found[i].mean = mean + 128;
        found[i].inverse = inverse_scale[log_scale - LOG_SCALE_MIN];
    }
    found[at_top].weight += rest;
    int32_t likely = found[at_top].mean >> 12;
    return likely < 1 ? 1 : likely > NIBBLES - 1 ? NIBBLES - 1 : likely;
}

/* C at an edge from 1 to 255, in units of 2^-36. */
static inline int64_t inner_cdf(const struct component *mixture, int count, int edge)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        int64_t z = (int64_t)(256 * edge - mixture[i].mean) * mixture[i].inverse >> 14;
        z = clamped(z, -(1 << 18), 1 << 18) + (1 << 18);
        int64_t line = sigmoid[z >> 8].slope * (z & 255) >> 8;
        total += mixture[i].weight * (sigmoid[z >> 8].value + line);
    }
    return total;
}

static inline int64_t cdf(const struct component *mixture, int count, int edge)
{
    return edge == 0 ? 0 : edge == 256 ? UNIT : inner_cdf(mixture, count, edge);
}

/* --- Logits of all values ------------------------------------------------------------------- */

static inline int32_t largest(const int32_t *logits)
{
    int32_t top = logits[0];
    for (int value = 1; value < 256; value++)
        top = logits[value] > top ? logits[value] : top;
    return top;
}

/* sums[i]: what C grows by from `first` up to the edge first + i * step, for i to 16. */
static inline void softmax_sums(
    const int32_t *logits, int64_t top, int first, int step, int64_t *sums)
{
    int64_t total = 0;
    for (int i = 0; i < NIBBLES; i++) {
        sums[i] = total;
        for (int j = 0; j < step; j++) {
            int64_t below = top - logits[first + i * step + j];
            total += below <= EXP_RANGE ? exp_table[below] : 0;
        }
    }
    sums[NIBBLES] = total;
}

/* --- Frequencies ---------------------------------------------------------------------------- */

/* What a CDF value stands for among the nibbles that span bottom to top; g of docs/format.md. */
static inline int64_t spread(int64_t c, int64_t bottom, int64_t top, int edge)
{
    if (top == bottom)
        return edge * SPREAD >> 4;
    return (c - bottom) * SPREAD / (top - bottom);
}

static inline int64_t spread_of_unit(int64_t c)
{
    return c * SPREAD >> UNIT_BITS;
}

/* A nibble's interval: what is below, the symbol, what is above; each less one. */
static inline void interval(int symbol, int64_t start, int64_t end, float *out)
{
    int64_t below = start + symbol + 1, frequency = end - start + 1;
    out[0] = (float)(below - 1);
    out[1] = (float)(frequency - 1);
    out[2] = (float)(((int64_t)1 << TOTAL_BITS) - below - frequency - 1);
}

/* The intervals of a value's two nibbles. */
static inline void mixture_interval(
    const struct component *mixture, int count, int value, float *high, float *low)
{
    int edge = value & ~15, j = value & 15;
    int64_t bottom = cdf(mixture, count, edge), top = cdf(mixture, count, edge + 16);
    int64_t first = j ? inner_cdf(mixture, count, value) : bottom;
    int64_t last = j < 15 ? inner_cdf(mixture, count, value + 1) : top;
    interval(edge >> 4, spread_of_unit(bottom), spread_of_unit(top), high);
    interval(j, spread(first, bottom, top, j), spread(last, bottom, top, j + 1), low);
}

/* A nibble's table of frequencies less one, guards included, from C at its 17 edges. */
static inline void table(const int64_t *c, float *out)
{
    int64_t start = 0;
    out[0] = 0;
    for (int j = 0; j < NIBBLES; j++) {
        int64_t end = spread(c[j + 1], c[0], c[NIBBLES], j + 1);
        out[j + 1] = (float)(end - start);
        start = end;
    }
    out[SYMBOLS - 1] = 0;
}

/* --- The range decoder ---------------------------------------------------------------------- */

struct decoder {
    uint64_t offset, range;
    const uint8_t *next, *end;
    uint64_t position; /* bytes asked for, those after the end among them */
};

static inline uint32_t next_word(struct decoder *decoder)
{
    uint32_t word = 0;
    decoder->position += 4;
    if (decoder->end - decoder->next >= 4) {
        for (int i = 0; i < 4; i++)
            word = word << 8 | decoder->next[i];
        decoder->next += 4;
    } else {
        for (int i = 0; i < 4; i++)
            word = word << 8 | (decoder->next < decoder->end ? *decoder->next++ : 0);
    }
    return word;
}

static inline void start(struct decoder *decoder, const uint8_t *payload, size_t length)
{
    decoder->next = payload;
    decoder->end = payload + length;
    decoder->position = 0;
    decoder->range = UINT64_MAX;
    decoder->offset = (uint64_t)next_word(decoder) << 32;
    decoder->offset |= next_word(decoder);
}

/* Where the next symbol lies; the last units are guards', and what is beyond no encoder writes. */
static inline int64_t quantile(const struct decoder *decoder)
{
    return (int64_t)(decoder->offset / (decoder->range >> TOTAL_BITS));
}

static inline int is_damaged(int64_t quantile)
{
    return quantile < 1 || quantile >= (1 << TOTAL_BITS) - 1;
}

static inline void advance(struct decoder *decoder, int64_t below, int64_t frequency)
{
    uint64_t scale = decoder->range >> TOTAL_BITS;
    decoder->offset -= scale * (uint64_t)below;
    decoder->range = scale * (uint64_t)frequency;
    if (decoder->range >> 32 == 0) {
        decoder->range <<= 32;
        decoder->offset = decoder->offset << 32 | next_word(decoder);
    }
}

/* Between which two edges a nibble of a mixture lies, and C there. */
struct span {
    int symbol;
    int64_t bottom, top;
};

/* Decode a high nibble; 0 if it cannot be there. */
static inline int decode_high(struct decoder *decoder, const struct component *mixture, int count,
    int likely, struct span *span)
{
    int64_t q = quantile(decoder), bottom = 0, top = UNIT;
    int low = 0, high = NIBBLES, edge = likely;
    if (is_damaged(q))
        return 0;
    /* Most often two edges are enough, the likely one and a neighbour; then halves are taken. */
    for (int tries = 0; high - low > 1; tries++) {
        int64_t c = inner_cdf(mixture, count, 16 * edge);
        int above = spread_of_unit(c) + edge + 1 <= q;
        low = above ? edge : low;
        high = above ? high : edge;
        bottom = above ? c : bottom;
        top = above ? top : c;
        edge = tries ? (low + high) >> 1 : above ? edge + 1 : edge - 1;
    }
    int64_t start = spread_of_unit(bottom), end = spread_of_unit(top);
    advance(decoder, start + low + 1, end - start + 1);
    *span = (struct span){low, bottom, top};
    return 1;
}

/* Decode the low nibble after it into *value; 0 if it cannot be there. */
static inline int decode_low(struct decoder *decoder, const struct component *mixture, int count,
    const struct span *high, uint8_t *value)
{
    int64_t q = quantile(decoder), first = high->bottom, last = high->top;
    int64_t width = high->top - high->bottom;
    int low = 0;
    if (is_damaged(q))
        return 0;
    for (int step = 8; step; step >>= 1) {
        int edge = low + step, above;
        int64_t c = inner_cdf(mixture, count, 16 * high->symbol + edge);
        if (width) /* spread(c) + edge + 1 <= q, without the division */
            above = (c - high->bottom) * SPREAD < (q - edge) * width;
        else
            above = (edge * SPREAD >> 4) + edge + 1 <= q;
        low = above ? edge : low;
        first = above ? c : first;
        last = above ? last : c;
    }
    int64_t start = spread(first, high->bottom, high->top, low);
    int64_t end = spread(last, high->bottom, high->top, low + 1);
    advance(decoder, start + low + 1, end - start + 1);
    *value = (uint8_t)(16 * high->symbol + low);
    return 1;
}

#endif
