/* Luma and chroma from pixels, and pixels from them: docs/format.md, "Luma and chroma";
 * pixelzip.codec.origins.conversions explains. */

#include "export.h"

#include <stdint.h>

/* The tables of a conversion, in this order. */
struct tables {
    int32_t luma[256], red[256], green1[256], green2[256], blue[256];
};

static uint8_t shifted(int32_t sum, int shift)
{
    sum >>= shift;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Three planes of n samples -> (n, 3) pixels. */
EXPORT void conversion_render(const struct tables *tables, int shift, const uint8_t *y,
    const uint8_t *c1, const uint8_t *c2, int64_t n, uint8_t *pixels)
{
    for (int64_t i = 0; i < n; i++, pixels += 3) {
        int32_t luma = tables->luma[y[i]];
        pixels[0] = shifted(luma + tables->red[c2[i]], shift);
        pixels[1] = shifted(luma + tables->green1[c1[i]] + tables->green2[c2[i]], shift);
        pixels[2] = shifted(luma + tables->blue[c1[i]], shift);
    }
}

/* The sample that gives a value with that luma, by a table that rises by more than a value with each
 * sample; negative if there is none. */
static int solve(const int32_t *chroma, double slope, int value, int32_t luma, int shift)
{
    int32_t least = (int32_t)((uint32_t)value << shift) - luma;
    int at = (int)((least - chroma[0]) * slope);
    at = at < 0 ? 0 : at > 255 ? 255 : at;
    while (at > 0 && chroma[at - 1] >= least)
        at--;
    while (at < 256 && chroma[at] < least)
        at++;
    return at < 256 && (luma + chroma[at]) >> shift == value ? at : -1;
}

/* To the nearest integer, ties to even, as rint() does. */
static int rounded(double number)
{
    int below = (int)number - (number < (int)number);
    double part = number - below;
    return below + (part > 0.5 || (part == 0.5 && (below & 1)));
}

/* How to find the samples of pixels again. Luma is near weights @ (red, green, blue, 1). */
struct inverse {
    const struct tables *tables;
    const double *weights;
    int shift;
    double red_slope, blue_slope;
};

static struct inverse inverse_of(const struct tables *tables, int shift, const double *weights)
{
    struct inverse inverse = {tables, weights, shift,
        255.0 / (tables->red[255] - tables->red[0]), 255.0 / (tables->blue[255] - tables->blue[0])};
    return inverse;
}

/* The samples (y, c1, c2) that give a pixel. Returns whether there are any. */
static int inverted(const struct inverse *inverse, const uint8_t *pixel, uint8_t *found)
{
    static const int offsets[] = {0, -1, 1, -2, 2};
    const struct tables *tables = inverse->tables;
    const double *weights = inverse->weights;
    int shift = inverse->shift;
    double guess = pixel[0] * weights[0] + pixel[1] * weights[1];
    guess = guess + pixel[2] * weights[2] + weights[3];
    int near = rounded(guess);
    for (int k = 0; k < 5; k++) {
        int y = near + offsets[k];
        y = y < 0 ? 0 : y > 255 ? 255 : y;
        int32_t luma = tables->luma[y];
        int c1 = solve(tables->blue, inverse->blue_slope, pixel[2], luma, shift);
        int c2 = c1 < 0 ? -1 : solve(tables->red, inverse->red_slope, pixel[0], luma, shift);
        if (c2 < 0 || (luma + tables->green1[c1] + tables->green2[c2]) >> shift != pixel[1])
            continue;
        found[0] = (uint8_t)y;
        found[1] = (uint8_t)c1;
        found[2] = (uint8_t)c2;
        return 1;
    }
    return 0;
}

/* (n, 3) pixels -> the samples (3, n) that give them, zeros where there are none, and (n) whether
 * there are. */
EXPORT void conversion_invert(const struct tables *tables, int shift, const double *weights,
    const uint8_t *pixels, int64_t n, uint8_t *samples, uint8_t *known)
{
    struct inverse inverse = inverse_of(tables, shift, weights);
    for (int64_t i = 0; i < n; i++, pixels += 3) {
        uint8_t found[3] = {0, 0, 0};
        known[i] = (uint8_t)inverted(&inverse, pixels, found);
        for (int k = 0; k < 3; k++)
            samples[k * n + i] = found[k];
    }
}

/* How many of (n, 3) pixels each of the conversions gives, (count), from their tables, shifts (count)
 * and weights (count, 4). */
EXPORT void conversions_count(const struct tables *tables, const int32_t *shifts,
    const double *weights, int count, const uint8_t *pixels, int64_t n, int64_t *given)
{
    for (int k = 0; k < count; k++) {
        struct inverse inverse = inverse_of(tables + k, shifts[k], weights + 4 * k);
        given[k] = 0;
        for (int64_t i = 0; i < n; i++) {
            uint8_t found[3];
            given[k] += inverted(&inverse, pixels + 3 * i, found);
        }
    }
}
