/* Undoes the filters of pixelzip.codec.packed: each byte waits for the last one. */

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

/* Residuals (count, length) become rows, in place, each under its own filter. `step` is the distance
 * in bytes to the pixel on the left; what lies outside is zero. */
EXPORT void filters_undo(
    uint8_t *rows, int64_t count, int64_t length, int64_t step, const uint8_t *kinds)
{
    for (int64_t r = 0; r < count; r++, rows += length) {
        const uint8_t *above = r > 0 ? rows - length : NULL;
        for (int64_t i = 0; i < length && kinds[r] != NONE; i++) {
            int left = i >= step ? rows[i - step] : 0, up = above ? above[i] : 0;
            int predicted = left;
            if (kinds[r] == UP)
                predicted = up;
            else if (kinds[r] == AVERAGE)
                predicted = (left + up) >> 1;
            else if (kinds[r] == PAETH)
                predicted = paeth(left, up, above && i >= step ? above[i - step] : 0);
            rows[i] = (uint8_t)(rows[i] + predicted);
        }
    }
}
