/* The filters of pixelzip.codec.packed. */

#include "export.h"

#include <stdint.h>
#include <stdlib.h>

enum { NONE, SUB, UP, AVERAGE, PAETH }; /* as in pixelzip.codec.packed.Filter */

static int paeth(int left, int above, int corner)
{
    int to_left = abs(above - corner), to_above = abs(left - corner);
    int to_corner = abs(left + above - 2 * corner);
    if (to_left <= to_above && to_left <= to_corner)
        return left;
    return to_above <= to_corner ? above : corner;
}

/* What a filter predicts for byte i of a row; `above` is NULL where there is no row. `step` is the
 * distance in bytes to the pixel on the left; what lies outside is zero. */
static int predicted(
    const uint8_t *row, const uint8_t *above, int64_t i, int64_t step, int kind)
{
    int left = i >= step ? row[i - step] : 0, up = above ? above[i] : 0;
    switch (kind) {
    case SUB:
        return left;
    case UP:
        return up;
    case AVERAGE:
        return (left + up) >> 1;
    case PAETH:
        return paeth(left, up, above && i >= step ? above[i - step] : 0);
    default:
        return 0;
    }
}

/* Residuals (count, length) become rows, in place, each under its own filter. */
EXPORT void filters_undo(
    uint8_t *rows, int64_t count, int64_t length, int64_t step, const uint8_t *kinds)
{
    const uint8_t *above = NULL;
    for (int64_t r = 0; r < count; r++, above = rows, rows += length)
        for (int64_t i = 0; i < length && kinds[r] != NONE; i++)
            rows[i] = (uint8_t)(rows[i] + predicted(rows, above, i, step, kinds[r]));
}

/* Rows (count, length) -> their residuals, each row's under its own filter. */
EXPORT void filters_apply(const uint8_t *rows, int64_t count, int64_t length, int64_t step,
    const uint8_t *kinds, uint8_t *out)
{
    const uint8_t *above = NULL;
    for (int64_t r = 0; r < count; r++, above = rows, rows += length, out += length)
        for (int64_t i = 0; i < length; i++)
            out[i] = (uint8_t)(rows[i] - predicted(rows, above, i, step, kinds[r]));
}

/* For each row the filter whose residuals, as signed bytes, have the least sum. */
EXPORT void filters_choose(
    const uint8_t *rows, int64_t count, int64_t length, int64_t step, uint8_t *kinds)
{
    const uint8_t *above = NULL;
    for (int64_t r = 0; r < count; r++, above = rows, rows += length) {
        int64_t least = INT64_MAX;
        for (int kind = NONE; kind <= PAETH; kind++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < length; i++)
                sum += abs((int8_t)(rows[i] - predicted(rows, above, i, step, kind)));
            if (sum < least) {
                least = sum;
                kinds[r] = (uint8_t)kind;
            }
        }
    }
}
