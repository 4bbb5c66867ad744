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

/* (n, 3) pixels -> the samples (3, n) that give them, zeros where there are none, and (n) whether
 * there are. Luma is near weights @ (red, green, blue, 1). */
EXPORT void conversion_invert(const struct tables *tables, int shift, const double *weights,
    const uint8_t *pixels, int64_t n, uint8_t *samples, uint8_t *known)
{
    static const int offsets[] = {0, -1, 1, -2, 2};
    double red_slope = 255.0 / (tables->red[255] - tables->red[0]);
    double blue_slope = 255.0 / (tables->blue[255] - tables->blue[0]);
    for (int64_t i = 0; i < n; i++, pixels += 3) {
        double guess = pixels[0] * weights[0] + pixels[1] * weights[1];
        guess = guess + pixels[2] * weights[2] + weights[3];
        int near = rounded(guess);
        samples[i] = samples[n + i] = samples[2 * n + i] = known[i] = 0;
        for (int k = 0; k < 5 && !known[i]; k++) {
            int y = near + offsets[k];
            y = y < 0 ? 0 : y > 255 ? 255 : y;
            int32_t luma = tables->luma[y];
            int c1 = solve(tables->blue, blue_slope, pixels[2], luma, shift);
            int c2 = c1 < 0 ? -1 : solve(tables->red, red_slope, pixels[0], luma, shift);
            if (c2 < 0)
                continue;
            if ((luma + tables->green1[c1] + tables->green2[c2]) >> shift != pixels[1])
                continue;
            samples[i] = (uint8_t)y;
            samples[n + i] = (uint8_t)c1;
            samples[2 * n + i] = (uint8_t)c2;
            known[i] = 1;
        }
    }
}
