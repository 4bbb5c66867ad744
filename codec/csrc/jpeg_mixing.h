/* Bits, each with a probability that many contexts agree upon: an adaptive arithmetic coder.
 *
 * Each context finds a *line* of eight slots, one for each decision of a group; a slot holds the
 * probability that it has seen so far. Logits of these are added up with weights, by several mixers
 * at once, each of which has a set of weights for what its *selector* says; a last mixer adds up
 * these. Slots and weights learn from each bit. docs/format.md, "Mixing", says all of it; integers
 * only, so that the decoder repeats each step of the encoder. */

#ifndef PIXELZIP_JPEG_MIXING_H
#define PIXELZIP_JPEG_MIXING_H

#include <stdint.h>
#include <string.h>

/* The loops over contexts gain from wider vectors; integers are the same in any of them. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) \
    && !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) (void)(address)
#endif

enum {
    CONTEXTS = 12,
    INPUTS = 2 * CONTEXTS,
    LINE_BITS = 15,
    LINES = 1 << LINE_BITS, /* of each context */
    LINE = 8,               /* slots */
    COUNT_LIMIT = 1023,
    LOGIT_LIMIT = 2047, /* in units of 1/256 */
    WEIGHT_LIMIT = 1 << 20, /* in units of 2^-16 */
    SELECTORS = 5,
    SHADES = 24, /* kinds of decisions, for mixers */
    SHADE = 64,  /* sets of weights of each */
    SETS = 2 * SHADES * SHADE + 768, /* of each selector */
    FINALS = 128,
    REFINERS = 2,
    REFINED = 2048, /* curves of each refiner */
    BINS = 33,      /* of a curve */
    RATE = 8,
    FINAL_RATE = 4,
};

/* --- Tables, which whoever loads this code fills in ------------------------------------------- */

static int16_t logits[4096];
static uint16_t sigmoids[2 * (LOGIT_LIMIT + 1)];
static uint16_t prices[4096]; /* of a bit, in units of 2^-10 */
static int32_t steps_of[COUNT_LIMIT + 1];
static int32_t trusts[COUNT_LIMIT + 1];

static void fill_mixing_tables(
    const int32_t *logit, const int32_t *sigmoid, const int32_t *price)
{
    for (int i = 0; i < 4096; i++) {
        logits[i] = (int16_t)logit[i];
        sigmoids[i] = (uint16_t)sigmoid[i];
        prices[i] = (uint16_t)price[i];
    }
    for (int i = 0; i <= COUNT_LIMIT; i++) {
        steps_of[i] = (1 << 17) / (2 * i + 3);
        trusts[i] = 256 * i / (i + 2);
    }
}

static inline int32_t limited(int32_t x, int32_t limit)
{
    return x < -limit ? -limit : x > limit ? limit : x;
}

static inline int32_t sigmoid_of(int32_t logit)
{
    return sigmoids[limited(logit, LOGIT_LIMIT) + LOGIT_LIMIT + 1];
}

/* --- What is learnt --------------------------------------------------------------------------- */

struct memory {
    uint32_t slots[CONTEXTS][LINES][LINE]; /* probability in 22 bits; how many bits were seen */
    int32_t weights[SELECTORS][SETS][INPUTS];
    int32_t finals[FINALS][SELECTORS + 1];
    int32_t refined[REFINERS][REFINED][BINS];
};

/* --- The arithmetic coder --------------------------------------------------------------------- */

struct coder {
    uint8_t *next, *end;
    uint32_t low, high, given; /* the interval, both ends in it; where the decoder is */
    int decoding, failed;
    int beyond; /* zeros that were read after the end */
    uint32_t price;
};

enum { MOST_BEYOND = 4 }; /* more is asked for only if bytes are missing */

static inline uint32_t next_byte(struct coder *coder)
{
    if (coder->next < coder->end)
        return *coder->next++;
    if (coder->beyond++ >= MOST_BEYOND)
        coder->failed = 1;
    return 0;
}

static void start_coder(struct coder *coder, int decoding, uint8_t *bytes, int64_t length)
{
    memset(coder, 0, sizeof *coder);
    coder->next = bytes;
    coder->end = bytes + length;
    coder->high = 0xFFFFFFFF;
    coder->decoding = decoding;
    for (int i = 0; decoding && i < 4; i++)
        coder->given = coder->given << 8 | next_byte(coder);
}

static inline void put_byte_of(struct coder *coder, uint32_t byte)
{
    if (coder->next < coder->end)
        *coder->next++ = (uint8_t)byte;
    else
        coder->failed = 1;
}

/* A bit that is 1 with a probability of `one` / 2^16, from 1 to 2^16 - 1. */
static inline int code(struct coder *coder, uint32_t one, int bit)
{
    uint32_t width = coder->high - coder->low;
    uint32_t middle = coder->low + (uint32_t)((uint64_t)width * one >> 16);
    if (coder->decoding)
        bit = coder->given <= middle;
    if (bit)
        coder->high = middle;
    else
        coder->low = middle + 1;
    while ((coder->low ^ coder->high) >> 24 == 0) {
        if (coder->decoding)
            coder->given = coder->given << 8 | next_byte(coder);
        else
            put_byte_of(coder, coder->high >> 24);
        coder->low <<= 8;
        coder->high = coder->high << 8 | 0xFF;
    }
    coder->price += prices[(bit ? one : 65536 - one) >> 4];
    return bit;
}

/* A byte that settles the interval, if zeros, which a decoder reads after the end, do not. So a
 * decoder has come to the end, and reads three zeros or four. */
static void finish_coder(struct coder *coder)
{
    if (coder->decoding)
        coder->failed |= coder->beyond < MOST_BEYOND - 1;
    else if (coder->low)
        put_byte_of(coder, (coder->low >> 24) + 1);
}

/* --- Mixing ----------------------------------------------------------------------------------- */

struct mixing {
    struct memory *memory;
    struct coder coder;
    int count; /* of contexts in use */
    uint32_t hashes[CONTEXTS]; /* of their values */
    int32_t mirrors[CONTEXTS]; /* 1; of a value with a sign, which is made positive, its sign */
    int32_t has_sign[CONTEXTS];
    uint32_t *lines[CONTEXTS];
    int selected[SELECTORS]; /* the set of the first shade; others follow at a distance */
    int shade, distance;     /* of the decision; between the sets of two shades */
    int final;
    uint32_t refined[REFINERS];
};

static inline uint32_t mixed(uint32_t a, uint32_t b)
{
    return (a * 0x2C1B3C6Du + b) * 0x297A2D39u;
}

static inline void add(struct mixing *mixing, uint32_t kind, uint32_t value)
{
    int i = mixing->count++;
    mixing->hashes[i] = mixed(kind, value);
    mixing->mirrors[i] = 1;
    mixing->has_sign[i] = 0;
}

/* A context of two numbers with signs; what it says of a number it says, mirrored, of the opposite
 * one when both of these are opposite. */
static inline void add_signed(
    struct mixing *mixing, uint32_t kind, int32_t first, int32_t second, uint32_t value)
{
    int i = mixing->count++;
    int32_t mirror = first < 0 || (first == 0 && second < 0) ? -1 : 1;
    uint32_t hash = mixed(mixed(kind, value), (uint32_t)(first * mirror));
    mixing->hashes[i] = mixed(hash, (uint32_t)(second * mirror));
    mixing->mirrors[i] = mirror;
    mixing->has_sign[i] = 1;
}

/* Find the lines of a group of decisions. */
static inline void find_lines(struct mixing *mixing, uint32_t group)
{
    for (int i = 0; i < mixing->count; i++) {
        uint32_t at = (mixing->hashes[i] + group * 0x9E3779B1u) * 0x85EBCA6Bu;
        at ^= at >> 15;
        mixing->lines[i] = mixing->memory->slots[i][at * 0xC2B2AE35u >> (32 - LINE_BITS)];
        PREFETCH(mixing->lines[i]);
    }
}

static inline int32_t dot(const int32_t *inputs, const int32_t *weights)
{
    int32_t sum = 0;
    for (int i = 0; i < INPUTS; i++)
        sum += inputs[i] * (weights[i] >> 2) >> 8;
    return limited(sum >> 6, LOGIT_LIMIT);
}

static inline void train(const int32_t *inputs, int32_t *weights, int32_t error)
{
    for (int i = 0; i < INPUTS; i++) {
        int32_t change = ((inputs[i] * error >> 9) * RATE + 1024) >> 11;
        weights[i] = limited(weights[i] + change, WEIGHT_LIMIT);
    }
}

/* Code a bit: decision `node` of the group. With `is_sign`, 1 is a negative number. */
CLONES static int code_bit(struct mixing *mixing, int node, int is_sign, int bit)
{
    struct memory *memory = mixing->memory;
    int32_t inputs[INPUTS] = {0}, outputs[SELECTORS + 1], *weights[SELECTORS];
    int count = mixing->count;
    for (int i = 0; i < count; i++) {
        uint32_t slot = mixing->lines[i][node];
        int32_t mirror = is_sign ? mixing->mirrors[i] : 1, trust = trusts[slot & COUNT_LIMIT];
        inputs[2 * i] = logits[slot >> 20] * trust * mirror >> 8;
        inputs[2 * i + 1] = ((int32_t)(slot >> 16) - 32768) * trust * mirror >> 13;
    }
    for (int i = 0; i < SELECTORS; i++) {
        weights[i] = memory->weights[i][mixing->selected[i] + mixing->shade * mixing->distance];
        outputs[i] = dot(inputs, weights[i]);
    }
    outputs[SELECTORS] = 256;
    int32_t *final = memory->finals[mixing->final + mixing->shade], logit = 0;
    for (int i = 0; i <= SELECTORS; i++)
        logit += outputs[i] * (final[i] >> 2) >> 8;
    logit = limited(logit >> 6, LOGIT_LIMIT);
    int32_t believed = sigmoid_of(logit), one = 2 * believed;
    int bin = (logit + 2048) >> 7, part = (logit + 2048) & 127;
    int32_t *bins[REFINERS];
    for (int i = 0; i < REFINERS; i++) {
        uint32_t curve = mixed(mixing->refined[i] * 8 + (uint32_t)node, (uint32_t)mixing->shade);
        bins[i] = memory->refined[i][curve >> 21] + bin;
        one += (bins[i][0] * (128 - part) + bins[i][1] * part) >> 7;
    }
    one >>= 2;
    one = one < 32 ? 32 : one > 65536 - 32 ? 65536 - 32 : one;
    bit = code(&mixing->coder, (uint32_t)one, bit);

    int32_t target = bit ? 65535 : 0, error = target - believed;
    for (int i = 0; i < REFINERS; i++) {
        int32_t *near = bins[i] + (part >= 64);
        *near += (target - *near) >> 6;
    }
    for (int i = 0; i < SELECTORS; i++)
        train(inputs, weights[i], target - sigmoid_of(outputs[i]));
    for (int i = 0; i <= SELECTORS; i++) {
        int32_t change = ((outputs[i] * error >> 9) * FINAL_RATE + 1024) >> 11;
        final[i] = limited(final[i] + change, WEIGHT_LIMIT);
    }
    for (int i = 0; i < count; i++) {
        uint32_t slot = mixing->lines[i][node], seen = slot & COUNT_LIMIT;
        int is_one = bit ^ (is_sign && mixing->mirrors[i] < 0);
        int32_t known = (int32_t)(slot >> 10), goal = is_one ? (1 << 22) - 1 : 0;
        known += (int32_t)((int64_t)(goal - known) * steps_of[seen] >> 16);
        mixing->lines[i][node] = (uint32_t)known << 10 | (seen < COUNT_LIMIT ? seen + 1 : seen);
    }
    return bit;
}

/* --- Numbers ---------------------------------------------------------------------------------- */

/* Shades of a number's decisions: is it 0, its sign, is it longer, its first bits, the others. */
enum { ZERO, SIGN, LONGER, FIRST = 14, OTHERS = 18 };

static inline int shaded(struct mixing *mixing, int shade, int node, int is_sign, int bit)
{
    mixing->shade = shade;
    return code_bit(mixing, node, is_sign, bit);
}

/* Code a number of at most 16 bits, given its contexts. It is not 0 if `nonzero`. */
static int32_t code_number(struct mixing *mixing, int nonzero, int32_t value)
{
    find_lines(mixing, 0);
    if (!nonzero && !shaded(mixing, ZERO, 0, 0, value != 0))
        return 0;
    int negative = shaded(mixing, SIGN, 1, 1, value < 0);
    for (int i = 0; i < mixing->count; i++)
        if (mixing->has_sign[i])
            mixing->hashes[i] += (negative ^ (mixing->mirrors[i] < 0) ? 2 : 1) * 0x51ED270Bu;
    find_lines(mixing, 0);
    int32_t size = value < 0 ? -value : value, found = 1;
    int length = 1;
    while (length < 17) {
        if (length == 6 || length == 12)
            find_lines(mixing, (uint32_t)length / 6);
        int node = length < 6 ? 1 + length : length % 6;
        if (!shaded(mixing, LONGER + (length < 12 ? length : 12) - 1, node, 0, size >> length != 0))
            break;
        length++;
    }
    for (int i = length - 2; i >= 0; i--) {
        int depth = length - 2 - i, is_first = depth < 3;
        if (depth == 0 || depth == 3)
            find_lines(mixing, depth ? 32 : 2 + (uint32_t)length);
        int node = is_first ? found : i & 7;
        found = 2 * found + shaded(mixing, is_first ? FIRST + depth : OTHERS, node, 0, size >> i & 1);
    }
    return negative ? -found : found;
}

#endif
