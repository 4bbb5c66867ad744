/* The adaptive binary range coder: docs/format.md specifies it ("Bits"), pixelzip.codec.bits
 * explains it. A model visits bits one after the other; the same code encodes and decodes. */

#ifndef PIXELZIP_BITS_H
#define PIXELZIP_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    PRECISION = 20,
    LEARNT_BITS = 40, /* of a context's probability */
    LOGIT_BITS = 12,  /* of the probabilities that the table of logits tells apart */
    LOGIT_UNIT_BITS = 14,
    MIXER_BITS = 16,
    RATE_BITS = 28,
    BELIEF_BITS = 22,
};

/* Tables of docs/format.md; whoever loads this code fills them in. */
extern int32_t bits_logit[1 << LOGIT_BITS];
extern int32_t bits_sigmoid[2049];

/* pixelzip.codec.bits holds these four as an array: see `from_state` and `to_state`. */
struct bits {
    uint64_t width, lower; /* lower end of the range; decoding, the offset from it */
    uint64_t done;         /* words */
    uint64_t encoding;
    uint32_t *words;
    uint64_t count;
};

struct context {
    int64_t one; /* probability of a one */
    int64_t seen;
};

static inline struct bits from_state(const uint64_t *state, uint32_t *words, int64_t count)
{
    return (struct bits){state[0], state[1], state[2], state[3], words, (uint64_t)count};
}

static inline void to_state(const struct bits *bits, uint64_t *state)
{
    state[0] = bits->width;
    state[1] = bits->lower;
    state[2] = bits->done;
}

static inline void be_fresh(struct context *contexts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        contexts[i] = (struct context){(int64_t)1 << (LEARNT_BITS - 1), 0};
}

static inline void learn(struct context *context, int64_t limit, int bit)
{
    /* Rounded down, and C rounds towards zero. */
    int64_t part = 2 * (((int64_t)bit << LEARNT_BITS) - context->one);
    int64_t divisor = 2 * context->seen + 3, moved = part / divisor;
    context->one += moved - (part < 0 && moved * divisor != part);
    context->seen += context->seen < limit;
}

/* Add one to the words written so far, as one large number. */
static inline void carry_bits(struct bits *bits)
{
    uint64_t at = bits->done < bits->count ? bits->done : bits->count;
    while (at > 0 && ++bits->words[--at] == 0)
        ;
}

/* Code a bit that is 1 with a probability of about one / 2^20; returns it. */
static inline int code(struct bits *bits, int64_t one, int bit)
{
    one = one < 1 ? 1 : one > (1 << PRECISION) - 1 ? (1 << PRECISION) - 1 : one;
    uint64_t bound = (bits->width >> PRECISION) * (uint64_t)((1 << PRECISION) - one);
    if (!bits->encoding) {
        bit = bits->lower >= bound;
        bits->lower -= bit ? bound : 0;
    } else if (bit) {
        bits->lower += bound;
        if (bits->lower < bound)
            carry_bits(bits);
    }
    bits->width = bit ? bits->width - bound : bound;
    if (bits->width >> 32 == 0) {
        int inside = bits->done < bits->count;
        uint32_t word = 0;
        if (!bits->encoding)
            word = inside ? bits->words[bits->done] : 0;
        else if (inside)
            bits->words[bits->done] = (uint32_t)(bits->lower >> 32);
        bits->lower = bits->lower << 32 | word;
        bits->width <<= 32;
        bits->done++;
    }
    return bit;
}

/* Code a bit with what a context believes, and let it see the bit. */
static inline int code_bit(struct bits *bits, struct context *context, int64_t limit, int bit)
{
    bit = code(bits, context->one >> (LEARNT_BITS - PRECISION), bit);
    learn(context, limit, bit);
    return bit;
}

static inline int64_t logit_of(const struct context *context)
{
    int64_t at = context->one >> (LEARNT_BITS - LOGIT_BITS), last = (1 << LOGIT_BITS) - 1;
    return bits_logit[at < last ? at : last];
}

static inline void be_mixer(int64_t *weights, size_t sets, int inputs)
{
    for (size_t i = 0; i < sets * (size_t)inputs; i++)
        weights[i] = (int64_t)3 * (1 << MIXER_BITS) / (2 * inputs + 1);
}

/* Code a bit with what the `chosen` contexts believe together, by weights that learn from it. */
static inline int code_mixed(struct bits *bits, struct context *contexts, const int64_t *chosen,
    int inputs, int64_t limit, int64_t *weights, int bit)
{
    int64_t total = 0, end = (int64_t)16 << LOGIT_UNIT_BITS;
    for (int i = 0; i < inputs; i++)
        total += weights[i] * logit_of(contexts + chosen[i]);
    total >>= MIXER_BITS;
    total = (total < -end ? -end : total > end ? end : total) + end;
    int64_t at = total >> 8, believed = bits_sigmoid[at];
    if (at < 2048)
        believed += (bits_sigmoid[at + 1] - believed) * (total & 255) >> 8;
    bit = code(bits, believed >> (BELIEF_BITS - PRECISION), bit);
    int64_t surprise = ((int64_t)bit << BELIEF_BITS) - believed;
    for (int i = 0; i < inputs; i++) {
        weights[i] += surprise * logit_of(contexts + chosen[i]) >> RATE_BITS;
        learn(contexts + chosen[i], limit, bit);
    }
    return bit;
}

#endif
