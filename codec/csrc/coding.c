/* What pixelzip.codec.native calls: tables, intervals and the range coder over whole arrays. */

#include "coding.h"
#include "export.h"

#include <stdlib.h>

enum { MOST_COMPONENTS = 1024 };

EXPORT void coding_tables(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
}

/* (n, 3, k) mixtures and (n) values -> (n, 2 nibbles, 3). */
EXPORT void mixture_intervals(
    const int32_t *parameters, int64_t n, int k, const uint8_t *values, float *out)
{
    struct component found[MOST_COMPONENTS];
    for (int64_t i = 0; i < n; i++, parameters += 3 * k, out += 6) {
        mixture(parameters, k, found);
        mixture_interval(found, k, values[i], out, out + 3);
    }
}

/* (n, 256) logits and (n) values -> (n, 2 nibbles, 3). */
EXPORT void softmax_intervals(
    const int32_t *logits, int64_t n, const uint8_t *values, float *out)
{
    for (int64_t i = 0; i < n; i++, logits += 256) {
        int32_t top = largest(logits);
        int nibbles[2] = {values[i] >> 4, values[i] & 15};
        for (int which = 0; which < 2; which++, out += 3) {
            int64_t c[NIBBLES + 1];
            int j = nibbles[which];
            softmax_sums(logits, top, which ? 16 * nibbles[0] : 0, which ? 1 : 16, c);
            interval(j, spread(c[j], 0, c[NIBBLES], j), spread(c[j + 1], 0, c[NIBBLES], j + 1), out);
        }
    }
}

/* (n, 3, k) mixtures -> (n, 18): the high nibbles' tables; the low ones' if `high` (n) is given. */
EXPORT void mixture_tables(
    const int32_t *parameters, int64_t n, int k, const int32_t *high, float *out)
{
    struct component found[MOST_COMPONENTS];
    for (int64_t i = 0; i < n; i++, parameters += 3 * k, out += SYMBOLS) {
        mixture(parameters, k, found);
        int first = high ? 16 * high[i] : 0, step = high ? 1 : 16;
        int64_t c[NIBBLES + 1];
        for (int j = 0; j <= NIBBLES; j++)
            c[j] = cdf(found, k, first + j * step);
        table(c, out);
    }
}

/* (n, 256) logits -> (n, 18), likewise. */
EXPORT void softmax_tables(const int32_t *logits, int64_t n, const int32_t *high, float *out)
{
    for (int64_t i = 0; i < n; i++, logits += 256, out += SYMBOLS) {
        int64_t c[NIBBLES + 1];
        softmax_sums(logits, largest(logits), high ? 16 * high[i] : 0, high ? 1 : 16, c);
        table(c, out);
    }
}

/* --- The range coder --------------------------------------------------------------------------- */

/* `state` is offset, range, and how many bytes were asked for. */
EXPORT void decoder_start(const uint8_t *payload, int64_t length, uint64_t *state)
{
    struct decoder decoder;
    start(&decoder, payload, (size_t)length);
    state[0] = decoder.offset;
    state[1] = decoder.range;
    state[2] = decoder.position;
}

/* (n, symbols) frequencies less one, the first and the last a guard's -> n symbols, counted from the
 * one after the guard. Returns 1 if one of them cannot be there. */
EXPORT int decoder_decode(const uint8_t *payload, int64_t length, uint64_t *state,
    const float *tables, int64_t n, int symbols, int32_t *found)
{
    uint64_t read = state[2] < (uint64_t)length ? state[2] : (uint64_t)length;
    struct decoder decoder = {state[0], state[1], payload + read, payload + length, state[2]};
    for (int64_t i = 0; i < n; i++, tables += symbols) {
        int64_t q = quantile(&decoder), below = 0, above = (int64_t)tables[0] + 1;
        int j = 0;
        while (q >= above && ++j < symbols - 1) {
            below = above;
            above += (int64_t)tables[j] + 1;
        }
        if (j == 0 || j == symbols - 1)
            return 1;
        advance(&decoder, below, above - below);
        found[i] = j - 1;
    }
    state[0] = decoder.offset;
    state[1] = decoder.range;
    state[2] = decoder.position;
    return 0;
}

/* Encode (n, 3) intervals into `words`, which has room for 4 bytes each. Returns how many bytes are
 * written; `state` becomes lower and range, from which the last bytes follow. */
EXPORT int64_t encode(const float *intervals, int64_t n, uint8_t *words, uint64_t *state)
{
    uint64_t lower = 0, range = UINT64_MAX;
    uint8_t *next = words;
    for (int64_t i = 0; i < n; i++, intervals += 3) {
        uint64_t scale = range >> TOTAL_BITS, before = lower;
        lower += scale * ((uint64_t)intervals[0] + 1);
        if (lower < before)
            for (uint8_t *carry = next; carry > words && ++*--carry == 0;)
                ;
        range = scale * ((uint64_t)intervals[1] + 1);
        if (range >> 32 == 0) {
            for (int byte = 0; byte < 4; byte++)
                *next++ = (uint8_t)(lower >> (56 - 8 * byte));
            lower <<= 32;
            range <<= 32;
        }
    }
    state[0] = lower;
    state[1] = range;
    return next - words;
}
