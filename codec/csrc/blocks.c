/* Blocks of samples that a JPEG decoder made: see pixelzip.codec.origins.blocks. */

#include "export.h"
#include "idct.h"

#include <stdint.h>

/* Coefficients (rows, columns, 64) -> samples (height, width), which lie from (top, left) on. */
EXPORT void blocks_render(const int16_t *coefficients, const uint16_t *steps, int64_t rows,
    int64_t columns, int transposed, int64_t top, int64_t left, int64_t height, int64_t width,
    uint8_t *out)
{
    for (int64_t i = 0; i < rows * columns; i++) {
        int32_t samples[64];
        int64_t y0 = 8 * (i / columns) - top, x0 = 8 * (i % columns) - left;
        inverse(coefficients + 64 * i, steps, transposed, samples);
        for (int64_t y = y0 < 0 ? 0 : y0; y < y0 + 8 && y < height; y++)
            for (int64_t x = x0 < 0 ? 0 : x0; x < x0 + 8 && x < width; x++)
                out[y * width + x] = sample_of(samples[8 * (y - y0) + x - x0]);
    }
}
