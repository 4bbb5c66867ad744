/* What nodes do to numbers, for one instruction set: included once for each.
 *
 * Products. An input of 16 bits is 256 * high + low, both of which have 8 bits and a sign. So a pair of its
 * products with weights of 16 bits is below 2^24, and DEPTH pairs of them fit 32 bits, which is what
 * vectors add up; then they become doubles, which hold integers below 2^53 exactly. Inputs of 8 bits
 * have no high part.
 *
 * Here are VECTOR (PER_BLOCK of them hold BLOCK numbers), how many ROWS and BLOCKS go together, and
 * how many blocks of a row that is ALONE; DOT adds the products of two pairs of 16 bits in each lane.
 * WEIGHTS and INPUTS are what pairs are loaded into and spread over, if these are no VECTOR. */

#ifndef WEIGHTS
#define WEIGHTS VECTOR
#define INPUTS VECTOR
#endif

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
            WEIGHTS w[MOST];
            for (int v = 0; v < vectors; v++)
                w[v] = LOAD(weights + v / PER_BLOCK * next + 2 * BLOCK * k
                            + v % PER_BLOCK * 2 * LANES);
            for (int part = 0; part < parts; part++)
                for (int r = 0; r < rows; r++) {
                    int32_t pair;
                    memcpy(&pair, x + ((ptrdiff_t)(part * CHUNK + r) * pairs + k) * 2, sizeof pair);
                    INPUTS spread = SPLAT(pair);
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

/* Inputs (n) as 256 * high + low. */
static void BACKEND(split)(
    const int16_t *restrict x, int64_t n, int16_t *restrict low, int16_t *restrict high)
{
    for (int64_t k = 0; k < n; k++) {
        low[k] = (int8_t)x[k];
        high[k] = (int16_t)((x[k] - low[k]) >> 8);
    }
}

static void BACKEND(widen)(const double *restrict sums, const double *restrict bias,
    const double *restrict scale, int n, int32_t *restrict out)
{
    for (int c = 0; c < n; c++)
        out[c] = (int32_t)nearest(within((sums[c] + bias[c]) * scale[c], LIMIT));
}

/* Both are within 2^26. */
static void BACKEND(add)(int32_t *restrict total, const int32_t *restrict x, int n)
{
    for (int c = 0; c < n; c++) {
        int32_t sum = total[c] + x[c];
        sum = sum < -LIMIT ? -LIMIT : sum;
        total[c] = sum > LIMIT ? LIMIT : sum;
    }
}

static void BACKEND(activate)(int kind, const int32_t *restrict x, const double *restrict scale,
    double largest, int n, int16_t *restrict out)
{
    int32_t y[64];
    for (int first = 0; first < n; first += 64) {
        int some = n - first < 64 ? n - first : 64;
        if (kind == IDENTITY)
            memcpy(y, x + first, some * sizeof *y);
        else if (kind == RELU)
            for (int c = 0; c < some; c++)
                y[c] = x[first + c] > 0 ? x[first + c] : 0;
        else if (kind == ELU)
            for (int c = 0; c < some; c++)
                y[c] = elu(x[first + c]);
        else
            for (int c = 0; c < some; c++)
                y[c] = elu(-x[first + c]);
        for (int c = 0; c < some; c++)
            out[first + c] = (int16_t)nearest(within(y[c] * scale[first + c], largest));
    }
}

static void BACKEND(gate_tanh)(const int32_t *restrict a, const int32_t *restrict b, int32_t unit,
    int n, int16_t *restrict out)
{
    for (int c = 0; c < n; c++)
        out[c] = state(hyperbolic_tangent(a[c]), gate(b[c]), unit);
}

static void BACKEND(gate_linear)(
    const int32_t *restrict a, const int32_t *restrict b, int n, int32_t *restrict out)
{
    for (int c = 0; c < n; c++)
        out[c] = (int32_t)(((int64_t)a[c] * logistic(b[c]) + (1 << 21)) >> 22);
}

#undef TILES
#undef VECTOR
#undef WEIGHTS
#undef INPUTS
#undef PER_BLOCK
#undef ROWS
#undef BLOCKS
#undef ALONE
#undef NOTHING
#undef LOAD
#undef STORE
#undef SPLAT
#undef DOT
