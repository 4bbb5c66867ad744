/* The inverse transform of a JPEG decoder: pixelzip.codec.origins.blocks explains, docs/format.md
 * specifies. It is libjpeg's accurate one, written as two products with a matrix. */

#ifndef PIXELZIP_IDCT_H
#define PIXELZIP_IDCT_H

#include <stdint.h>
#include <string.h>

enum { FIRST_SHIFT = 11, LAST_SHIFT = 18 };

/* [frequency][place]: 2^13 sqrt(2) cos((2 place + 1) frequency pi / 16), 2^13 for frequency 0, as
 * sums of constants that were rounded. No row of its transpose has a sum of magnitudes beyond
 * 61213, so that products with 16-bit numbers fit 32 bits. */
static const int16_t WAVES[8][8] = {
    {8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192},
    {11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363},
    {10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703},
    {9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633},
    {8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192},
    {6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437},
    {4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433},
    {2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260},
};

static int16_t saturated(int32_t number)
{
    return (int16_t)(number < -32768 ? -32768 : number > 32767 ? 32767 : number);
}

/* 64 numbers with rows and columns exchanged. */
static void exchange(const int16_t *numbers, int16_t *out)
{
    for (int i = 0; i < 64; i++)
        out[i] = numbers[(i & 7) << 3 | i >> 3];
}

/* Dequantised coefficients (8, 8) -> samples less 128 in units of 2^-18, not yet rounded. */
static void idct(const int16_t *coefficients, int32_t *samples)
{
    int32_t sums[8][8];
    int16_t half[8][8]; /* [row][column frequency] */
    for (int y = 0; y < 8; y++)
        for (int u = 0; u < 8; u++)
            sums[y][u] = 1 << (FIRST_SHIFT - 1);
    for (int v = 0; v < 8; v++) {
        const int16_t *row = coefficients + 8 * v;
        uint64_t parts[2];
        memcpy(parts, row, sizeof parts);
        if (!(parts[0] | parts[1]))
            continue;
        for (int y = 0; y < 8; y++)
            for (int u = 0; u < 8; u++)
                sums[y][u] += WAVES[v][y] * row[u];
    }
    for (int y = 0; y < 8; y++)
        for (int u = 0; u < 8; u++)
            half[y][u] = saturated(sums[y][u] >> FIRST_SHIFT);
    for (int y = 0; y < 8; y++) {
        int32_t row[8] = {0};
        for (int u = 0; u < 8; u++)
            for (int x = 0; x < 8; x++)
                row[x] += WAVES[u][x] * half[y][u];
        memcpy(samples + 8 * y, row, sizeof row);
    }
}

/* Quantised coefficients -> samples as `idct`; by columns or, `transposed`, by rows first. */
static void inverse(
    const int16_t *coefficients, const uint16_t *steps, int transposed, int32_t *samples)
{
    int16_t dequantised[64], turned[64];
    int32_t made[64];
    for (int i = 0; i < 64; i++)
        dequantised[i] = saturated(coefficients[i] * steps[i]);
    if (!transposed) {
        idct(dequantised, samples);
        return;
    }
    exchange(dequantised, turned);
    idct(turned, made);
    for (int i = 0; i < 64; i++)
        samples[i] = made[(i & 7) << 3 | i >> 3];
}

/* A row of 8 samples less 128, of up to 512 -> by column frequency, in units of 2^-3. */
static void forward_row(const int16_t *samples, int16_t *half)
{
    for (int u = 0; u < 8; u++) {
        int32_t sum = 1 << 9;
        for (int x = 0; x < 8; x++)
            sum += WAVES[u][x] * samples[x];
        half[u] = saturated(sum >> 10);
    }
}

/* Such rows (8, 8) -> coefficients in units of 2^-8, about. */
static void forward_columns(const int16_t *half, int32_t *coefficients)
{
    for (int v = 0; v < 8; v++) {
        int32_t row[8];
        for (int u = 0; u < 8; u++)
            row[u] = 1 << 10;
        for (int y = 0; y < 8; y++)
            for (int u = 0; u < 8; u++)
                row[u] += WAVES[v][y] * half[8 * y + u];
        for (int u = 0; u < 8; u++)
            coefficients[8 * v + u] = row[u] >> 11;
    }
}

static void forward(const int16_t *samples, int32_t *coefficients)
{
    int16_t half[64];
    for (int y = 0; y < 8; y++)
        forward_row(samples + 8 * y, half + 8 * y);
    forward_columns(half, coefficients);
}

#endif
