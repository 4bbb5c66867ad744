/* What a tile's sub-pixels would like added to their mixtures: see pixelzip.codec.offsets.
 *
 * Every machine shall find the same, so sums are of doubles, one after the other in the order that
 * stands here, and every operation is rounded once. */

#include "coding.h"
#include "export.h"

#include <fenv.h>
#include <float.h>

/* Where floats are not rounded after each operation, Python does the work. */
#if FLT_EVAL_METHOD == 0

enum { MOST = 16, UNKNOWNS = 3 * MOST, ROUNDS = 4, USUAL = 5 /* components */ };

typedef double Matrix[UNKNOWNS][UNKNOWNS];

/* Of logits, means and log-scales: an offset's unit in those of parameters, how many of them a nat or
 * a value is, and the prior's precision. */
static const int32_t unit[3] = {16, 16, 1};
static const double per_one[3] = {16, 16, 32}, doubt[3] = {11, 4, 11};

EXPORT void offsets_tables(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
}

static int8_t rounded(double offset)
{
    offset = offset > 127 ? 127 : offset < -127 ? -127 : offset;
    return (int8_t)((int)(offset + 127.5) - 127);
}

static double logistic(const struct component *one, int edge)
{
    int64_t z = (int64_t)(256 * edge - one->mean) * one->inverse >> 14;
    z = clamped(z, -(1 << 18), 1 << 18) + (1 << 18);
    return (double)(sigmoid[z >> 8].value + (sigmoid[z >> 8].slope * (z & 255) >> 8)) / (1 << 22);
}

/* The gradient (3 k) of ln p of a value, with respect to its mixture's parameters. */
static inline void find_gradient(const struct component *mixture, int k, int value, double *gradient)
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

/* Solve the symmetric a w = b, of which the upper triangle counts, by elimination; w takes b's place. */
static void solve(int n, Matrix a, double *b)
{
    for (int j = 0; j < n; j++)
        for (int i = j + 1; i < n; i++) {
            double f = a[j][i] / a[j][j];
            for (int m = i; m < n; m++)
                a[i][m] -= f * a[j][m];
            b[i] -= f * b[j];
        }
    for (int i = n - 1; i >= 0; i--) {
        for (int m = i + 1; m < n; m++)
            b[i] -= a[i][m] * b[m];
        b[i] = b[i] / a[i][i];
    }
}

/* A round: mixtures (n, 3, k) of values (n) improve the offsets (3 k), in nats and values. */
static inline void improve(const int32_t *parameters, int64_t n, int k, const uint8_t *values,
    const int8_t *found, double *offsets)
{
    struct component own[MOST] = {{0}};
    Matrix information = {{0}};
    double slope[UNKNOWNS] = {0}, gradient[UNKNOWNS];
    int32_t shifted[UNKNOWNS];
    int unknowns = 3 * k;
    for (int64_t s = 0; s < n; s++, parameters += unknowns) {
        for (int i = 0; i < unknowns; i++)
            shifted[i] = parameters[i] + unit[i / k] * found[i];
        mixture(shifted, k, own);
        find_gradient(own, k, values[s], gradient);
        for (int i = 0; i < unknowns; i++) {
            slope[i] += gradient[i];
            for (int j = i; j < unknowns; j++)
                information[i][j] += gradient[i] * gradient[j];
        }
    }
    for (int i = 0; i < unknowns; i++) {
        information[i][i] += doubt[i / k];
        slope[i] -= doubt[i / k] * offsets[i];
    }
    solve(unknowns, information, slope);
    for (int i = 0; i < unknowns; i++)
        offsets[i] += slope[i] > 0.5 ? 0.5 : slope[i] < -0.5 ? -0.5 : slope[i];
}

/* Offsets (3, k), k <= 16, that make values (n) with mixtures (n, 3, k) likelier. */
EXPORT void offsets_fit(
    const int32_t *parameters, int64_t n, int k, const uint8_t *values, int8_t *found)
{
    double offsets[UNKNOWNS] = {0};
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV); /* whatever the program around us may have asked for */
    memset(found, 0, 3 * (size_t)k);
    for (int round = 0; round < ROUNDS; round++) {
        if (k == USUAL) /* loops of a length that the compiler knows take less */
            improve(parameters, n, USUAL, values, found, offsets);
        else
            improve(parameters, n, k, values, found, offsets);
        for (int i = 0; i < 3 * k; i++)
            found[i] = rounded(offsets[i] * per_one[i / k]);
    }
    fesetenv(&before);
}

#endif
