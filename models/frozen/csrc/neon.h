/* Products on ARM, by 16 columns of up to 4 rows at once. See product.h. */

INLINE void BACKEND(rows)(int rows, const uint8_t *x, ptrdiff_t pitch, int inputs,
    const WEIGHT *weights, int32_t (*sums)[WIDTH]);

PRODUCT
{
    const WEIGHT *weights = layer->weights;
    weights += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    for (int i = 0; i < n; i++)
        memcpy(sums[i], layer->bias + WIDTH * block, sizeof sums[i]);
    for (int tap = 0; tap < taps; tap++, weights += layer->inputs * WIDTH)
        for (int column = 0; column < WIDTH; column += WIDTH / 2)
            for (int i = 0; i < n;) {
                const uint8_t *some = x[tap] + i * pitch;
                const WEIGHT *w = weights + GROUP * column;
                int32_t(*to)[WIDTH] = (int32_t(*)[WIDTH])(sums[i] + column);
                if (n - i >= 4) {
                    BACKEND(rows)(4, some, pitch, layer->inputs, w, to);
                    i += 4;
                } else {
                    BACKEND(rows)(1, some, pitch, layer->inputs, w, to);
                    i++;
                }
            }
}

INLINE void BACKEND(rows)(int rows, const uint8_t *x, ptrdiff_t pitch, int inputs,
    const WEIGHT *weights, int32_t (*sums)[WIDTH])
{
    int32x4_t total[4][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            total[r][v] = vld1q_s32(sums[r] + 4 * v);
    for (int k = 0; k < inputs; k += GROUP_DEPTH, weights += GROUP_DEPTH * WIDTH) {
        INPUTS values[4];
        for (int r = 0; r < rows; r++)
            values[r] = LOAD(x + r * pitch + k);
        EACH_GROUP
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            vst1q_s32(sums[r] + 4 * v, total[r][v]);
}

#undef WEIGHT
#undef INPUTS
#undef LOAD
#undef EACH_GROUP
#undef AT
