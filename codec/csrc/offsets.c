/* What a tile's sub-pixels would like added to their mixtures: see pixelzip.codec.offsets.
 *
 * Every machine shall find the same, so sums are added up in the order that stands here, however
 * long the vectors are, and every operation is rounded once. */

#include "coding.h"
#include "export.h"

#include <fenv.h>
#include <float.h>
#include <stdlib.h>

enum {
    MOVED_BITS = 12,        /* weights are in 1/4096 */
    MOST_MOVED = 1 << 26,
};

/* The same loops for longer vectors, where the compiler can choose when the program is loaded. */
#if !defined(NO_CLONES) && defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("avx2", "default")))
#define INLINE static inline __attribute__((always_inline))
#else
#define VECTORS
#define INLINE static inline
#endif

/* What a sub-pixel's means move by: n factors, weighed. */
INLINE int32_t moved(const int32_t *factors, const int32_t *weights, int n)
{
    int64_t total = 1 << (MOVED_BITS - 1);
    for (int j = 0; j < n; j++)
        total += (int64_t)weights[j] * factors[j];
    return (int32_t)clamped(total >> MOVED_BITS, -MOST_MOVED, MOST_MOVED);
}

/* Add to mixtures (n, channels, 3, k) what was fitted: `shifts` (channels, 3, k), and to the means
 * what `weights` (channels, shared + channels) make of the factors (n, shared + channels). */
EXPORT VECTORS void offsets_add(int32_t *parameters, int64_t n, int channels, int k, const int32_t *factors,
    int shared, const int32_t *shifts, const int32_t *weights)
{
    int each = shared + channels;
    for (int64_t i = 0; i < n; i++, factors += each)
        for (int c = 0; c < channels; c++, parameters += 3 * k) {
            int32_t mean = moved(factors, weights + (ptrdiff_t)c * each, shared + c);
            for (int j = 0; j < 3 * k; j++)
                parameters[j] += shifts[(ptrdiff_t)c * 3 * k + j] + (j / k == 1 ? mean : 0);
        }
}

/* Where floats are not rounded after each operation, Python does the rest. */
#if FLT_EVAL_METHOD == 0

enum {
    MOST = 16, /* components */
    MOST_FACTORS = 80,
    UNKNOWNS = 3 * MOST + MOST_FACTORS,
    ROUNDS = 3,
    WEIGHED = 2, /* rounds that fit weights, too; in the last of these they become whole */
    COARSE = 4,  /* of so many pixels the first round looks at one */
    BLOCK = 32,  /* sub-pixels whose products are added up in floats */
    SIDE = 4, LANES = 8, /* of a part of the matrix of products */
    MOST_STEP = 12,
    NO_MEMORY = -2,
};

typedef double Matrix[UNKNOWNS][UNKNOWNS];
typedef float Rows[BLOCK][UNKNOWNS];

/* Of logits, means and log-scales: an offset's unit in those of parameters, how many of them a nat or
 * a value is, and the prior's precision; and that of a weight. */
static const int32_t unit[3] = {16, 16, 1};
static const double per_one[3] = {16, 16, 32}, doubt[3] = {11, 4, 11}, weight_doubt = 700;

struct fit {
    int k, offsets, unknowns; /* offsets are the first unknowns, and weights the others */
    double found[UNKNOWNS];   /* in nats, values, and ones */
    int8_t whole[UNKNOWNS];   /* offsets, and at the end the weights */
    int32_t weights[MOST_FACTORS];
};

/* Of n pixels: a channel's mixtures and values, which are `channels` apart, and its factors, which are
 * `each` apart. */
struct tile {
    int64_t n;
    int channels, each;
    const int32_t *parameters, *factors;
    const uint8_t *values;
};

EXPORT void offsets_tables(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
}

static int8_t rounded(double number)
{
    number = number > 127 ? 127 : number < -127 ? -127 : number;
    return (int8_t)((int)(number + 127.5) - 127);
}

INLINE double logistic(const struct component *one, int edge)
{
    int64_t z = (int64_t)(256 * edge - one->mean) * one->inverse >> 14;
    z = clamped(z, -(1 << 18), 1 << 18) + (1 << 18);
    return (double)(sigmoid[z >> 8].value + (sigmoid[z >> 8].slope * (z & 255) >> 8)) / (1 << 22);
}

/* The gradient (3 k) of ln p of a value, with respect to its mixture's parameters. */
INLINE void find_gradient(const struct component *mixture, int k, int value, double *gradient)
{
    double between[MOST], total = 0;
    for (int i = 0; i < k; i++) {
        double low = value == 0 ? 0 : logistic(mixture + i, value);
        double high = value == 255 ? 1 : logistic(mixture + i, value + 1);
        double steep = (double)mixture[i].inverse / (1 << 20);
        double from = (double)(256 * value - mixture[i].mean) / 256 * steep, to = from + steep;
        double at_low = low * (1 - low), at_high = high * (1 - high);
        double weight = (double)mixture[i].weight / (1 << WEIGHT_BITS);
        between[i] = high - low;
        total += weight * between[i];
        gradient[i] = weight;
        gradient[k + i] = weight * (at_low - at_high) * steep;
        gradient[2 * k + i] = weight * (at_low * from - at_high * to);
    }
    double chance = total + 1.0 / (1 << 20); /* what no symbol has less of */
    for (int i = 0; i < k; i++) {
        gradient[i] = gradient[i] * (between[i] - total) / chance;
        gradient[k + i] = gradient[k + i] / chance;
        gradient[2 * k + i] = gradient[2 * k + i] / chance;
    }
}

/* A row of the gradients of a sub-pixel's unknowns, the first `n` of them. */
INLINE void fill_row(const struct fit *fit, int k, int n, const int32_t *parameters, int value,
    const int32_t *factors, float *row)
{
    struct component own[MOST];
    int32_t shifted[3 * MOST];
    double gradient[3 * MOST], mean = 0;
    int32_t more = moved(factors, fit->weights, fit->unknowns - 3 * k);
    for (int i = 0; i < 3 * k; i++)
        shifted[i] = parameters[i] + unit[i / k] * fit->whole[i] + (i / k == 1 ? more : 0);
    mixture(shifted, k, own);
    find_gradient(own, k, value, gradient);
    for (int i = 0; i < 3 * k; i++)
        row[i] = (float)gradient[i];
    for (int i = 0; i < k; i++)
        mean += gradient[k + i];
    float each = (float)(mean / 256);
    for (int i = 3 * k; i < n; i++)
        row[i] = each * (float)factors[i - 3 * k];
}

/* Add the products of n rows' first m entries: the upper triangle, and more. */
INLINE void add_products(int n, int m, const Rows rows, Matrix information)
{
    for (int i = 0; i < m; i += SIDE)
        for (int j = i / LANES * LANES; j < m; j += LANES) {
            float sums[SIDE][LANES] = {{0}};
            for (int s = 0; s < n; s++)
                for (int a = 0; a < SIDE; a++)
                    for (int c = 0; c < LANES; c++)
                        sums[a][c] += rows[s][i + a] * rows[s][j + c];
            for (int a = 0; a < SIDE; a++)
                for (int c = 0; c < LANES; c++)
                    information[i + a][j + c] += sums[a][c];
        }
}

/* The information on the first m unknowns and the slope there. */
INLINE void look(const struct fit *fit, int k, int m, const struct tile *tile, Matrix information,
    double *slope)
{
    Rows rows = {{0}};
    int filled = 0;
    for (int64_t i = 0; i < tile->n; i++) {
        float *row = rows[filled++];
        fill_row(fit, k, m, tile->parameters + i * tile->channels * 3 * k,
            tile->values[i * tile->channels], tile->factors + i * tile->each, row);
        for (int u = 0; u < m; u++)
            slope[u] += row[u];
        if (filled == BLOCK || i == tile->n - 1) {
            add_products(filled, m, rows, information);
            filled = 0;
        }
    }
}

VECTORS static void look_usual(
    const struct fit *fit, int m, const struct tile *tile, Matrix information, double *slope)
{
    enum { USUAL = 5 }; /* loops of a length that the compiler knows take less */
    look(fit, USUAL, m, tile, information, slope);
}

VECTORS static void look_any(
    const struct fit *fit, int m, const struct tile *tile, Matrix information, double *slope)
{
    look(fit, fit->k, m, tile, information, slope);
}

/* Eliminate the unknowns of a symmetric a w = b one by one; the upper triangle of a counts. */
VECTORS static void eliminate(int n, Matrix a, double *b)
{
    for (int j = 0; j < n; j++)
        for (int i = j + 1; i < n; i++) {
            double f = a[j][i] / a[j][j];
            for (int m = i; m < n; m++)
                a[i][m] -= f * a[j][m];
            b[i] -= f * b[j];
        }
}

/* The largest step, as a power of two in 1/4096, whose rounding errors take less than finer numbers
 * would, of weights with this information on each. */
static int step_for(double information)
{
    int step = 0;
    for (double next = 4.0 / (1 << 24); step < MOST_STEP && information * next <= 24; next *= 4)
        step++;
    return step;
}

/* A round: improve the first m unknowns, by what is left of their equations. Weights become whole
 * multiples of a step if there is one: the last one first, and each makes up for those before. */
static void improve(struct fit *fit, int m, Matrix a, double *b, int step)
{
    double each = step < 0 ? 0 : (double)(1 << step) / (1 << MOVED_BITS);
    for (int i = m - 1; i >= 0; i--) {
        for (int j = i + 1; j < m; j++)
            b[i] -= a[i][j] * b[j];
        b[i] = b[i] / a[i][i];
        if (step >= 0 && i >= fit->offsets) {
            fit->whole[i] = rounded((fit->found[i] + b[i]) / each);
            b[i] = fit->whole[i] * each - fit->found[i];
        } else {
            b[i] = b[i] > 0.5 ? 0.5 : b[i] < -0.5 ? -0.5 : b[i];
        }
    }
    for (int i = 0; i < m; i++) {
        fit->found[i] += b[i];
        if (i < fit->offsets)
            fit->whole[i] = rounded(fit->found[i] * per_one[i / fit->k]);
        else
            fit->weights[i - fit->offsets]
                = (int32_t)(fit->found[i] * (1 << MOVED_BITS) + (1 << 24) + 0.5) - (1 << 24);
    }
}

/* What makes values (n, channels) of mixtures (n, channels, 3, k), k <= 16, likelier in a channel:
 * offsets (3, k), and weights of the first `count` <= 80 of the factors (n, each). The pixels are one
 * in `every` of all. Returns the weights' step, -1 if there are none, or -2 if there is no memory. */
EXPORT int offsets_fit(const int32_t *parameters, int64_t n, int channels, int channel, int k,
    const uint8_t *values, const int32_t *factors, int each, int count, int64_t every,
    int8_t *offsets, int8_t *weights)
{
    struct fit fit = {.k = k, .offsets = 3 * k, .unknowns = 3 * k + count};
    struct tile tile = {n, channels, each, parameters + channel * 3 * k, factors, values + channel};
    struct tile coarse = tile;
    coarse.n = (n + COARSE - 1) / COARSE;
    coarse.channels *= COARSE;
    coarse.each *= COARSE;
    int step = -1;
    fenv_t before;
    double(*information)[UNKNOWNS] = malloc(sizeof(Matrix)); /* too large for some stacks */
    if (information == NULL)
        return NO_MEMORY;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV); /* whatever the program around us may have asked for */
    for (int round = 0; round < ROUNDS; round++) {
        double slope[UNKNOWNS] = {0}, known = 0;
        memset(information, 0, sizeof(Matrix));
        int m = round < WEIGHED ? fit.unknowns : fit.offsets;
        (k == 5 ? look_usual : look_any)(&fit, m, round ? &tile : &coarse, information, slope);
        for (int i = 0; i < m; i++) {
            double own = i < fit.offsets ? doubt[i / k] : weight_doubt;
            information[i][i] += own;
            slope[i] -= own * fit.found[i];
        }
        eliminate(m, information, slope);
        for (int i = fit.offsets; i < m; i++)
            known += information[i][i];
        if (round == WEIGHED - 1 && count > 0)
            step = step_for(known / count * (double)every);
        improve(&fit, m, information, slope, round == WEIGHED - 1 ? step : -1);
    }
    fesetenv(&before);
    free(information);
    memcpy(offsets, fit.whole, 3 * (size_t)k);
    memcpy(weights, fit.whole + 3 * k, (size_t)count);
    return step;
}

#endif
