/* The product of bytes that are widened to 16 bits, and multiplied and added in pairs. */

#ifdef VECTOR_256
#define WIDE __m256i
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define STORE(to, x) _mm256_storeu_si256((__m256i *)(to), x)
#define ALL(x) _mm256_set1_epi32(x)
#define ADD_PAIRS(total, x, w) _mm256_add_epi32(total, _mm256_madd_epi16(x, w))
#else
#define WIDE __m128i
#define LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define STORE(to, x) _mm_storeu_si128((__m128i *)(to), x)
#define ALL(x) _mm_set1_epi32(x)
#define ADD_PAIRS(total, x, w) _mm_add_epi32(total, _mm_madd_epi16(x, w))
#endif

INLINE void BACKEND(pairs)(int rows, const int16_t *x, ptrdiff_t pitch, int inputs,
    const int16_t *weights, int32_t (*sums)[WIDTH])
{
    enum { EACH = sizeof(WIDE) / sizeof(int32_t), VECTORS = WIDTH / 2 / EACH };
    WIDE total[4][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            total[r][v] = LOAD(sums[r] + EACH * v);
    for (int k = 0; k < inputs; k += 2, weights += 2 * WIDTH) {
        WIDE w[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            w[v] = LOAD(weights + 2 * EACH * v);
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, x + r * pitch + k, sizeof pair);
            WIDE both = ALL(pair);
            for (int v = 0; v < VECTORS; v++)
                total[r][v] = ADD_PAIRS(total[r][v], both, w[v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++)
            STORE(sums[r] + EACH * v, total[r][v]);
}

PRODUCT
{
    enum { PART = 256, MANY = sizeof(WIDE) / 8 }; /* inputs that are widened, and rows, at once */
    const int16_t *weights = layer->weights;
    weights += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    for (int i = 0; i < n; i++)
        memcpy(sums[i], layer->bias + WIDTH * block, sizeof sums[i]);
    for (int tap = 0; tap < taps; tap++)
        for (int k = 0; k < layer->inputs; k += PART) {
            int inputs = layer->inputs - k < PART ? layer->inputs - k : PART;
            int16_t wide[ROWS][PART];
            for (int i = 0; i < n; i++)
                for (int j = 0; j < inputs; j++)
                    wide[i][j] = x[tap][i * pitch + k + j];
            for (int column = 0; column < WIDTH; column += WIDTH / 2)
                for (int i = 0; i < n;) {
                    int32_t(*some)[WIDTH] = (int32_t(*)[WIDTH])(sums[i] + column);
                    const int16_t *w = weights + 2 * column;
                    if (n - i >= MANY) {
                        BACKEND(pairs)(MANY, wide[i], PART, inputs, w, some);
                        i += MANY;
                    } else {
                        BACKEND(pairs)(1, wide[i], PART, inputs, w, some);
                        i++;
                    }
                }
            weights += inputs * WIDTH;
        }
}

#undef WIDE
#undef LOAD
#undef STORE
#undef ALL
#undef ADD_PAIRS
