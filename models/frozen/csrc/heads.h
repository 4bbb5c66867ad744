/* Heads: from a row of a program's last map to what the coder wants. */

#ifndef PIXELZIP_HEADS_H
#define PIXELZIP_HEADS_H

#include "nodes.h"

enum { WIDTHS = LOG_SCALE_MAX - LOG_SCALE_MIN + 1 };

static struct {
    int64_t value, slope;
} log_sigmoid[SIGMOID_STEPS + 1];
static int64_t log_width[WIDTHS];

static int64_t log_of_sigmoid(int64_t z)
{
    z >>= 14; /* of 28 bits behind the point 14 are kept */
    int64_t limit = 16 << 14, inside = clamped(z, -limit, limit);
    int64_t at = (inside + limit) >> 8, beyond = z + limit < 0 ? z + limit : 0;
    return log_sigmoid[at].value + (log_sigmoid[at].slope * (inside & 255) >> 8) + (beyond >> 2);
}

/* Of a value under a discretized logistic, in units of 1 / 256 nat. */
static int64_t log_probability(int value, int64_t mean, int64_t log_scale)
{
    int64_t inverse = inverse_scale[log_scale - LOG_SCALE_MIN], middle = value * 256 - mean;
    int64_t first = log_of_sigmoid((middle + 128) * inverse);
    int64_t last = log_of_sigmoid(-(middle - 128) * inverse);
    int64_t found = first + last + log_width[log_scale - LOG_SCALE_MIN];
    found = value == 0 ? first : value == 255 ? last : found;
    return (found + 8) >> 4;
}

static int32_t parameters_each(const struct program *p)
{
    return p->output == MIXTURE ? 3 * p->components : 256;
}

/* The parameters of one sub-pixel from a row of the last map. `out` holds those of the one before,
 * `known` the values so far, `most` apart. */
static void head(const struct program *p, const int32_t *row, int channel, const uint8_t *known,
    int32_t most, int64_t *logits, int32_t *out)
{
    const int k = p->components, colours = p->colours;
    if (p->output == BINARY) {
        for (int v = 0; v < 256; v++)
            out[v] = -(1 << 30);
        out[0] = 0;
        out[255] = row[channel];
    } else if (p->output == SOFTMAX) {
        memcpy(out, row + 256 * channel, 256 * sizeof *out);
        const int32_t *pair = row + 256 * (colours + channel * (channel - 1) / 2);
        if (p->coupled && channel > 0)
            for (int v = 0; v < 256; v++) {
                int64_t total = (int64_t)out[v] * 2048;
                for (int c = 0; c < channel; c++)
                    total += (int64_t)pair[256 * c + v] * (known[c * most] - 128);
                out[v] = (int32_t)((total + 1024) >> 11);
            }
    } else {
        int64_t top = INT64_MIN;
        for (int i = 0; i < k; i++) {
            if (channel == 0)
                logits[i] = row[i];
            else
                logits[i] += log_probability(known[(channel - 1) * most], out[k + i], out[2 * k + i]);
            top = logits[i] > top ? logits[i] : top;
        }
        for (int i = 0; i < k; i++) {
            if (channel > 0) {
                logits[i] -= top;
                logits[i] = logits[i] < -(1 << 30) ? -(1 << 30) : logits[i];
            }
            int64_t mean = (int64_t)row[(1 + channel) * k + i] + 128 * 256;
            const int32_t *pair = row + (1 + 2 * colours + channel * (channel - 1) / 2) * k + i;
            for (int c = 0; c < channel; c++, pair += k)
                mean += ((int64_t)hyperbolic_tangent(*pair) * (known[c * most] - 128) + 64) >> 7;
            out[i] = (int32_t)logits[i];
            out[k + i] = (int32_t)clamped(mean, -MEAN_LIMIT, MEAN_LIMIT);
            out[2 * k + i]
                = (int32_t)clamped(row[(1 + colours + channel) * k + i], LOG_SCALE_MIN, LOG_SCALE_MAX);
        }
    }
}

#endif
