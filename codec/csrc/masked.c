/* Frequencies of allowed values only: docs/format.md, "Sets of colours"; pixelzip.codec.cdf.
 *
 * Which values there can be is said by sixteen words, bit j of word i for 16 * i + j. `high` is the
 * high nibble whose low ones are meant, or negative for the high nibbles themselves. */

#include "coding.h"
#include "export.h"

enum { MOST_COMPONENTS = 1024 };

EXPORT void masked_tables(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
}

/* How many allowed values a symbol has. */
static int64_t members(const uint16_t *allowed, int high, int symbol)
{
    if (high >= 0)
        return allowed[high] >> symbol & 1;
    int word = allowed[symbol];
    word = (word & 0x5555) + (word >> 1 & 0x5555);
    word = (word & 0x3333) + (word >> 2 & 0x3333);
    word = (word & 0x0F0F) + (word >> 4 & 0x0F0F);
    return (word & 31) + (word >> 8);
}

/* Whether no more than one symbol has allowed values: then its mass is whatever it is. */
static int is_only_symbol(const uint16_t *allowed, int high)
{
    if (high >= 0)
        return (allowed[high] & (allowed[high] - 1)) == 0;
    int symbols = 0;
    for (int symbol = 0; symbol < NIBBLES; symbol++)
        symbols += allowed[symbol] != 0;
    return symbols <= 1;
}

static int64_t total_of(const int64_t *mass)
{
    int64_t total = 0;
    for (int symbol = 0; symbol < NIBBLES; symbol++)
        total += mass[symbol];
    return total;
}

/* The total of the masses, once there is some where there was none: that of the numbers of allowed
 * values, or, if there are none, the same of all symbols. */
static int64_t settle(int64_t *mass, const uint16_t *allowed, int high)
{
    int64_t total = total_of(mass);
    if (total > 0)
        return total;
    for (int symbol = 0; symbol < NIBBLES; symbol++)
        mass[symbol] = members(allowed, high, symbol);
    if (total_of(mass) == 0)
        for (int symbol = 0; symbol < NIBBLES; symbol++)
            mass[symbol] = 1;
    return total_of(mass);
}

static void member_mass(const uint16_t *allowed, int high, int64_t *mass)
{
    for (int symbol = 0; symbol < NIBBLES; symbol++)
        mass[symbol] = members(allowed, high, symbol);
}

/* What C grows by over each value of a high nibble, if it is allowed. */
static void each_mass(
    const struct component *mixture, int count, int word, int high, int64_t *mass)
{
    int64_t before = cdf(mixture, count, 16 * high);
    for (int symbol = 0; symbol < NIBBLES; symbol++) {
        int64_t c = cdf(mixture, count, 16 * high + symbol + 1);
        mass[symbol] = word >> symbol & 1 ? c - before : 0;
        before = c;
    }
}

/* What C grows by over the allowed values of each symbol. */
static void mixture_mass(const struct component *mixture, int count, const uint16_t *allowed,
    int high, int64_t *mass)
{
    if (is_only_symbol(allowed, high)) {
        member_mass(allowed, high, mass);
        return;
    }
    if (high >= 0) {
        each_mass(mixture, count, allowed[high], high, mass);
        return;
    }
    int64_t before = 0;
    for (int symbol = 0; symbol < NIBBLES; symbol++) {
        int64_t c = cdf(mixture, count, 16 * symbol + 16);
        mass[symbol] = allowed[symbol] ? c - before : 0;
        before = c;
        if (allowed[symbol] != 0xFFFF && mass[symbol] > 0) {
            int64_t each[NIBBLES];
            each_mass(mixture, count, allowed[symbol], symbol, each);
            mass[symbol] = total_of(each);
        }
    }
}

/* The same of a softmax. */
static void softmax_mass(const int32_t *logits, int64_t top, const uint16_t *allowed, int high,
    int64_t *mass)
{
    if (is_only_symbol(allowed, high)) {
        member_mass(allowed, high, mass);
        return;
    }
    memset(mass, 0, NIBBLES * sizeof *mass);
    for (int value = high < 0 ? 0 : 16 * high; value < (high < 0 ? 256 : 16 * high + 16); value++) {
        int64_t below = top - logits[value];
        if (allowed[value >> 4] >> (value & 15) & 1 && below <= EXP_RANGE)
            mass[high < 0 ? value >> 4 : value & 15] += exp_table[below];
    }
}

/* A symbol's interval, from the masses of all. */
static void share_interval(
    int symbol, int64_t *mass, const uint16_t *allowed, int high, float *out)
{
    int64_t total = settle(mass, allowed, high), below = 0;
    for (int i = 0; i < symbol; i++)
        below += mass[i];
    interval(symbol, below * SPREAD / total, (below + mass[symbol]) * SPREAD / total, out);
}

/* The table of all symbols. */
static void share_table(int64_t *mass, const uint16_t *allowed, int high, float *out)
{
    int64_t total = settle(mass, allowed, high), below = 0, start = 0, end = 0;
    out[0] = out[SYMBOLS - 1] = 0;
    for (int symbol = 0; symbol < NIBBLES; symbol++) {
        if (mass[symbol] > 0) { /* divisions are slow */
            below += mass[symbol];
            end = below * SPREAD / total;
        }
        out[symbol + 1] = (float)((symbol == NIBBLES - 1 ? SPREAD : end) - start);
        start = end;
    }
}

/* (n, 3, k) mixtures, (n) values and (n, 16) words -> (n, 2 nibbles, 3). */
EXPORT void masked_mixture_intervals(const int32_t *parameters, int64_t n, int k,
    const uint8_t *values, const uint16_t *allowed, float *out)
{
    struct component found[MOST_COMPONENTS];
    for (int64_t i = 0; i < n; i++, parameters += 3 * k, allowed += 16, out += 6) {
        int high = values[i] >> 4;
        mixture(parameters, k, found);
        int64_t mass[NIBBLES];
        mixture_mass(found, k, allowed, -1, mass);
        share_interval(high, mass, allowed, -1, out);
        mixture_mass(found, k, allowed, high, mass);
        share_interval(values[i] & 15, mass, allowed, high, out + 3);
    }
}

/* (n, 256) logits, (n) values and (n, 16) words -> (n, 2 nibbles, 3). */
EXPORT void masked_softmax_intervals(const int32_t *logits, int64_t n, const uint8_t *values,
    const uint16_t *allowed, float *out)
{
    for (int64_t i = 0; i < n; i++, logits += 256, allowed += 16, out += 6) {
        int32_t top = largest(logits);
        int high = values[i] >> 4;
        int64_t mass[NIBBLES];
        softmax_mass(logits, top, allowed, -1, mass);
        share_interval(high, mass, allowed, -1, out);
        softmax_mass(logits, top, allowed, high, mass);
        share_interval(values[i] & 15, mass, allowed, high, out + 3);
    }
}

/* (n, 3, k) mixtures and (n, 16) words -> (n, 18): the high nibbles' tables; the low ones' if
 * `highs` (n) is given. */
EXPORT void masked_mixture_tables(const int32_t *parameters, int64_t n, int k,
    const int32_t *highs, const uint16_t *allowed, float *out)
{
    struct component found[MOST_COMPONENTS];
    for (int64_t i = 0; i < n; i++, parameters += 3 * k, allowed += 16, out += SYMBOLS) {
        int high = highs ? highs[i] : -1;
        mixture(parameters, k, found);
        int64_t mass[NIBBLES];
        mixture_mass(found, k, allowed, high, mass);
        share_table(mass, allowed, high, out);
    }
}

/* (n, 256) logits and (n, 16) words -> (n, 18), likewise. */
EXPORT void masked_softmax_tables(const int32_t *logits, int64_t n, const int32_t *highs,
    const uint16_t *allowed, float *out)
{
    for (int64_t i = 0; i < n; i++, logits += 256, allowed += 16, out += SYMBOLS) {
        int high = highs ? highs[i] : -1;
        int64_t mass[NIBBLES];
        softmax_mass(logits, largest(logits), allowed, high, mass);
        share_table(mass, allowed, high, out);
    }
}
