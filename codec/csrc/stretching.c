/* Planes that were stretched: exactly, for docs/format.md, "Stretching" and
 * pixelzip.codec.origins.upsampling; and in floats, for the encoder's first guess at their samples, see
 * pixelzip.codec.origins.downsampling. There each operation is rounded as numpy rounds it. */

#include "export.h"

#include <stdint.h>
#include <stdlib.h>

/* How an axis is stretched: pixels for a sample, and their weights of the near and the far one. */
struct axis {
    int32_t step, first[2], second[2];
};

/* The near and the far sample of a pixel, and their weights. */
struct pair {
    int64_t near, far;
    float weight, far_weight;
};

static struct pair pair_of(const struct axis *axis, int64_t at, int64_t count)
{
    if (axis->step == 1)
        return (struct pair){at, at, 1, 0};
    int64_t near = at / 2, far = at % 2 ? near + 1 : near - 1;
    const int32_t *weights = at % 2 ? axis->second : axis->first;
    far = far < 0 ? 0 : far > count - 1 ? count - 1 : far;
    return (struct pair){near, far, (float)weights[0], (float)weights[1]};
}

/* The pixels of an axis that `count` samples stretch to, from sums of their near and far ones. */
static void widen(const struct axis *axis, const uint16_t *line, int64_t count, uint16_t *wide)
{
    const int32_t *first = axis->first, *second = axis->second;
    for (int64_t j = 0; j < count; j++) {
        wide[2 * j] = (uint16_t)(line[j] * first[0] + line[j - (j > 0)] * first[1]);
        wide[2 * j + 1]
            = (uint16_t)(line[j] * second[0] + line[j + (j < count - 1)] * second[1]);
    }
}

/* (rows, columns) samples -> the rows of (height, width) pixels from `from` up to `to`, which begin
 * `above` and `left` pixels within the stretched plane. `weights` and `bias` as below. Returns 0 if
 * there is not enough memory. */
EXPORT int stretching_pixels(const uint8_t *samples, int64_t rows, int64_t columns,
    const int32_t *weights, const int32_t *bias, int shift, int64_t above, int64_t left,
    int64_t width, int64_t from, int64_t to, uint8_t *pixels)
{
    struct axis down = {weights[0], {weights[1], weights[2]}, {weights[3], weights[4]}};
    struct axis across = {weights[5], {weights[6], weights[7]}, {weights[8], weights[9]}};
    uint16_t *line = malloc(sizeof *line * (size_t)columns);
    uint16_t *wide = across.step == 1 ? line : malloc(sizeof *wide * 2 * (size_t)columns);
    for (int64_t y = from; y < to && line && wide; y++) {
        struct pair pair = pair_of(&down, y + above, rows);
        const uint8_t *near = samples + pair.near * columns, *far = samples + pair.far * columns;
        int weight = (int)pair.weight, far_weight = (int)pair.far_weight;
        const int32_t *rounding = bias + 2 * ((y + above) % 2);
        uint8_t *out = pixels + y * width;
        for (int64_t j = 0; j < columns; j++)
            line[j] = (uint16_t)(near[j] * weight + far[j] * far_weight);
        if (wide != line)
            widen(&across, line, columns, wide);
        for (int64_t x = 0; x < width; x++)
            out[x] = (uint8_t)((wide[x + left] + rounding[(x + left) % 2]) >> shift);
    }
    int done = line && wide;
    if (wide != line)
        free(wide);
    free(line);
    return done;
}

/* Samples of an axis, of which there is one more on either side, to sums with their bias. */
static void stretch(const struct axis *axis, const float *line, int64_t count, const float *bias,
    float *restrict out)
{
    float near = (float)axis->first[0], far = (float)axis->first[1];
    float own = (float)axis->second[0], next = (float)axis->second[1];
    for (int64_t j = 0; j < count; j++) {
        out[2 * j] = (line[j] * near + line[j - 1] * far) + bias[0];
        out[2 * j + 1] = (line[j] * own + line[j + 1] * next) + bias[1];
    }
}

/* (2, rows, columns) samples -> (2, height, width), the whole frame: the sums with their bias; or, if
 * there are pixels, how far those that are known are from what the sums make, before rounding.
 *
 * `weights`: for rows, then columns: step, first (near, far), second (near, far). `bias`: of the
 * first and second row of a pair, first and second column. Of all rows, of both planes one after the
 * other, those from `from` up to `to`. Returns 0 if there is not enough memory. */
EXPORT int stretching_sums(const float *samples, int64_t rows, int64_t columns,
    const int32_t *weights, const int32_t *bias, float scale, const uint8_t *pixels,
    const uint8_t *known, int64_t from, int64_t to, float *out)
{
    struct axis down = {weights[0], {weights[1], weights[2]}, {weights[3], weights[4]}};
    struct axis across = {weights[5], {weights[6], weights[7]}, {weights[8], weights[9]}};
    int64_t height = down.step * rows, width = across.step * columns;
    float middle = (scale - 1) / 2, *room = malloc(sizeof *room * (size_t)(columns + 2));
    float *line = room + 1;
    if (!room)
        return 0;
    out += from * width;
    for (int64_t row = from; row < to; row++, out += width) {
        int64_t y = row % height;
        struct pair pair = pair_of(&down, y, rows);
        const float *plane = samples + row / height * rows * columns;
        const float *near = plane + pair.near * columns, *far = plane + pair.far * columns;
        float both[2] = {(float)bias[2 * (y % 2)], (float)bias[2 * (y % 2) + 1]};
        for (int64_t x = 0; x < columns; x++)
            line[x] = near[x] * pair.weight + far[x] * pair.far_weight;
        line[-1] = line[0];
        line[columns] = line[columns - 1];
        if (across.step == 2)
            stretch(&across, line, columns, both, out);
        else
            for (int64_t x = 0; x < columns; x++)
                out[x] = line[x] + both[x % 2];
        for (int64_t x = 0; x < width && pixels; x++) {
            float made = (out[x] - middle) / scale;
            out[x] = ((float)pixels[row * width + x] - made) * (float)known[y * width + x];
        }
    }
    free(room);
    return 1;
}

/* The sum over the pixels that sample k of an axis is part of. `stride` is that of the axis. */
static float part_sum(
    const struct axis *axis, const float *values, int64_t stride, int64_t k, int64_t count)
{
    const float *own = values + 2 * k * stride;
    float sum = own[0] * (float)axis->first[0] + own[stride] * (float)axis->second[0];
    if (k > 0)
        sum = sum + own[-stride] * (float)axis->second[1];
    if (k < count - 1)
        sum = sum + own[2 * stride] * (float)axis->first[1];
    return sum;
}

/* (planes, height, width) values of a frame's pixels -> (planes, rows, columns): for each sample the
 * sum over all that it is part of, by its weights in them. Of all rows, those from `from` up to `to`.
 * Returns 0 for lack of memory. */
EXPORT int stretching_adjoint(const float *values, int64_t rows, int64_t columns,
    const int32_t *weights, int64_t from, int64_t to, float *out)
{
    struct axis down = {weights[0], {weights[1], weights[2]}, {weights[3], weights[4]}};
    struct axis across = {weights[5], {weights[6], weights[7]}, {weights[8], weights[9]}};
    int64_t width = across.step * columns;
    float *line = malloc(sizeof *line * (size_t)width);
    if (!line)
        return 0;
    for (int64_t row = from; row < to; row++) {
        int64_t k = row % rows;
        const float *plane = values + row / rows * rows * down.step * width;
        for (int64_t x = 0; x < width; x++)
            line[x] = down.step == 1 ? plane[k * width + x]
                                     : part_sum(&down, plane + x, width, k, rows);
        for (int64_t j = 0; j < columns; j++)
            out[row * columns + j] = across.step == 1 ? line[j]
                                                      : part_sum(&across, line, 1, j, columns);
    }
    free(line);
    return 1;
}
