/* Products of 16-bit integers, for one instruction set: included once for each.
 *
 * An input of 16 bits is 256 * high + low, both of which have 8 bits and a sign. So a pair of its
 * products with weights of 16 bits is below 2^24, and DEPTH pairs of them fit 32 bits, which is what
 * vectors add up; then they become doubles, which hold integers below 2^53 exactly. Inputs of 8 bits
 * have no high part.
 *
 * Here are VECTOR (PER_BLOCK of them hold BLOCK numbers), how many ROWS and BLOCKS go together, and
 * how many blocks of a row that is ALONE; DOT adds the products of two pairs of 16 bits in each lane. */

INLINE void BACKEND(tile)(const int rows, const int blocks, const int parts,
    const struct matrix *matrix, const int16_t *x, int block, double *sums)
{
    enum { MOST = 4, LANES = BLOCK / PER_BLOCK };
    const int vectors = blocks * PER_BLOCK, pairs = matrix->pairs;
    const int16_t *weights = matrix->weights + (ptrdiff_t)block * pairs * 2 * BLOCK;
    const ptrdiff_t next = (ptrdiff_t)pairs * 2 * BLOCK;
    for (int begin = 0; begin < pairs; begin += DEPTH) {
        int end = begin + DEPTH < pairs ? begin + DEPTH : pairs;
        VECTOR total[2][MOST][MOST];
        for (int part = 0; part < parts; part++)
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++)
                    total[part][r][v] = NOTHING;
        for (int k = begin; k < end; k++) {
            VECTOR w[MOST];
            for (int v = 0; v < vectors; v++)
                w[v] = LOAD(weights + v / PER_BLOCK * next + 2 * BLOCK * k
                            + v % PER_BLOCK * 2 * LANES);
            for (int part = 0; part < parts; part++)
                for (int r = 0; r < rows; r++) {
                    int32_t pair;
                    memcpy(&pair, x + ((ptrdiff_t)(part * CHUNK + r) * pairs + k) * 2, sizeof pair);
                    VECTOR spread = SPLAT(pair);
                    for (int v = 0; v < vectors; v++)
                        total[part][r][v] = DOT(total[part][r][v], spread, w[v]);
                }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) {
                int32_t low[LANES], high[LANES];
                double *to = sums + (ptrdiff_t)r * matrix->outputs + block * BLOCK + v * LANES;
                STORE(low, total[0][r][v]);
                if (parts == 2)
                    STORE(high, total[1][r][v]);
                for (int c = 0; c < LANES; c++) {
                    double sum = parts == 2 ? 256.0 * high[c] + low[c] : low[c];
                    to[c] = begin ? to[c] + sum : sum;
                }
            }
    }
}

#define TILES(rows, blocks)                                                                        \
    for (; block + blocks <= all; block += blocks)                                                 \
        if (parts == 2)                                                                            \
            BACKEND(tile)(rows, blocks, 2, matrix, x + at, block, sums + to);                      \
        else                                                                                       \
            BACKEND(tile)(rows, blocks, 1, matrix, x + at, block, sums + to);

/* sums (n, outputs) = x (parts, CHUNK rows, 2 * pairs) times the matrix. */
static NOINLINE void BACKEND(product)(
    const struct matrix *matrix, int parts, const int16_t *x, int n, double *sums)
{
    const int all = matrix->outputs / BLOCK;
    for (int r = 0; r < n;) {
        ptrdiff_t at = (ptrdiff_t)r * matrix->pairs * 2, to = (ptrdiff_t)r * matrix->outputs;
        int block = 0, rows = n - r >= ROWS ? ROWS : 1;
        if (rows == ROWS) {
            TILES(ROWS, BLOCKS)
            TILES(ROWS, 1)
        } else {
            TILES(1, ALONE)
            TILES(1, 1)
        }
        r += rows;
    }
}

#undef TILES
#undef VECTOR
#undef PER_BLOCK
#undef ROWS
#undef BLOCKS
#undef ALONE
#undef NOTHING
#undef LOAD
#undef STORE
#undef SPLAT
#undef DOT
