/* Products, one instruction set after the other.
 *
 * Each is a function
 *
 *     product(layer, taps, x, pitch, n, block, sums)
 *
 * that sets sums[i][c], for n rows i (at most ROWS) and the WIDTH columns c of a block, to the bias
 * and the products of row i of the inputs. These lie at x[tap] + i * pitch, `layer->inputs` bytes
 * for each of the taps.
 *
 * Weights are laid out (block, inputs / GROUP, WIDTH, GROUP). The vector product of the int8 sets
 * multiplies 4 bytes by 4 signed bytes and adds all to 32 bits, exactly. vpmaddubsw, which is older,
 * saturates in 16 bits; where it would be needed, bytes are widened to 16 bits and multiplied as
 * such. */

#define CONCATENATED(a, b) a##_##b
#define NAMED(a, b) CONCATENATED(a, b)
#define BACKEND(function) NAMED(function, ISA)
#define QUOTED(x) #x
#define QUOTE(x) QUOTED(x)
#define BACKEND_NAME QUOTE(ISA)

#define PRODUCT                                                                                    \
    static inline void BACKEND(product)(const struct layer *layer, int taps,                       \
        const uint8_t *const *x, ptrdiff_t pitch, int n, int block, int32_t sums[ROWS][WIDTH])

static void no_state(void) {}

/* --- C, whatever the machine ------------------------------------------------------------------- */

#define ISA portable
#define GROUP 1
#define GROUP_DEPTH 4
#define OFFSET 0
PRODUCT
{
    const int16_t *weights = layer->weights;
    weights += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    for (int i = 0; i < n; i++) {
        int32_t total[WIDTH];
        memcpy(total, layer->bias + WIDTH * block, sizeof total);
        const int16_t *w = weights;
        for (int tap = 0; tap < taps; tap++)
            for (int k = 0; k < layer->inputs; k++, w += WIDTH) {
                int16_t value = x[tap][i * pitch + k];
                for (int c = 0; c < WIDTH; c++)
                    total[c] += value * w[c];
            }
        memcpy(sums[i], total, sizeof total);
    }
}
#define enter_portable no_state
#define leave_portable no_state
#include "walk.h"
#undef ISA
#undef GROUP

#ifdef X86

/* --- SSE2, which every x86-64 has, and AVX2: pairs of 16 bits ------------------------------------- */

#define VECTOR_128
#define ISA sse2
#define GROUP 2
BEGIN_TARGET("sse2")
#include "pairs.h"
#define enter_sse2 no_state
#define leave_sse2 no_state
#include "walk.h"
END_TARGET
#undef ISA
#undef VECTOR_128

#define VECTOR_256
#define ISA avx2
BEGIN_TARGET("avx2,fma")
#include "pairs.h"
#define enter_avx2 no_state
#define leave_avx2 no_state
#include "walk.h"
END_TARGET
#undef ISA
#undef GROUP

/* --- AVX-VNNI: 256 bits ------------------------------------------------------------------------- */

#ifdef HAS_AVXVNNI
#define ISA avxvnni
#define GROUP 4
BEGIN_TARGET("avx2,fma,avxvnni")

INLINE void rows_avxvnni(int rows, const uint8_t *x,
    ptrdiff_t pitch, int inputs, const int8_t *weights, int32_t (*sums)[WIDTH], int half)
{
    __m256i total[6][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++)
            total[r][v] = _mm256_loadu_si256((const __m256i *)(sums[r] + 16 * half + 8 * v));
    for (int k = 0; k < inputs; k += 4) {
        const int8_t *w = weights + k * WIDTH + 64 * half;
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w);
        __m256i w1 = _mm256_loadu_si256((const __m256i *)(w + 32));
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * pitch + k, 4);
            __m256i all = _mm256_set1_epi32(four);
            total[r][0] = _mm256_dpbusd_avx_epi32(total[r][0], all, w0);
            total[r][1] = _mm256_dpbusd_avx_epi32(total[r][1], all, w1);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++)
            _mm256_storeu_si256((__m256i *)(sums[r] + 16 * half + 8 * v), total[r][v]);
}

PRODUCT
{
    const int8_t *weights = layer->weights;
    weights += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    for (int i = 0; i < n; i++)
        memcpy(sums[i], layer->bias + WIDTH * block, sizeof sums[i]);
    for (int tap = 0; tap < taps; tap++, weights += layer->inputs * WIDTH)
        for (int half = 0; half < 2; half++)
            for (int i = 0; i < n;) {
                const uint8_t *some = x[tap] + i * pitch;
                int rows = n - i >= 6 ? 6 : n - i >= 3 ? 3 : 1;
                if (rows == 6)
                    rows_avxvnni(6, some, pitch, layer->inputs, weights, sums + i, half);
                else if (rows == 3)
                    rows_avxvnni(3, some, pitch, layer->inputs, weights, sums + i, half);
                else
                    rows_avxvnni(1, some, pitch, layer->inputs, weights, sums + i, half);
                i += rows;
            }
}
#define enter_avxvnni no_state
#define leave_avxvnni no_state
#include "walk.h"
END_TARGET
#undef ISA
#undef GROUP
#endif

/* --- AVX512-VNNI -------------------------------------------------------------------------------- */

#undef VECTOR_256
#define VECTOR_512

#ifdef HAS_AVX512VNNI
#define ISA avx512vnni
#define GROUP 4
BEGIN_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,prefer-vector-width=512")

INLINE void rows_avx512vnni(int rows, int taps,
    const uint8_t *const *x, ptrdiff_t pitch, int inputs, const int8_t *weights,
    const int32_t *bias, int32_t (*sums)[WIDTH])
{
    __m512i total[12][2];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++)
            total[r][v] = _mm512_loadu_si512(bias + 16 * v);
    for (int tap = 0; tap < taps; tap++) {
        const uint8_t *some = x[tap];
        for (int k = 0; k < inputs; k += 4, weights += 4 * WIDTH) {
            __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64);
            for (int r = 0; r < rows; r++) {
                int32_t four;
                memcpy(&four, some + r * pitch + k, 4);
                __m512i all = _mm512_set1_epi32(four);
                total[r][0] = _mm512_dpbusd_epi32(total[r][0], all, w0);
                total[r][1] = _mm512_dpbusd_epi32(total[r][1], all, w1);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 2; v++)
            _mm512_storeu_si512(sums[r] + 16 * v, total[r][v]);
}

PRODUCT
{
    const int8_t *weights = layer->weights;
    weights += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    for (int i = 0; i < n;) {
        const uint8_t *some[TAPS];
        for (int tap = 0; tap < taps; tap++)
            some[tap] = x[tap] + i * pitch;
        int left = n - i, rows = left >= 12 ? 12 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
#define SOME(r)                                                                                    \
    case r:                                                                                        \
        rows_avx512vnni(r, taps, some, pitch, layer->inputs, weights, layer->bias + WIDTH * block, \
            sums + i);                                                                             \
        break;
        switch (rows) {
            SOME(12)
            SOME(8)
            SOME(4)
            SOME(2)
            SOME(1)
        }
#undef SOME
        i += rows;
    }
}
#define enter_avx512vnni no_state
#define leave_avx512vnni no_state
#include "walk.h"
END_TARGET
#undef ISA
#undef GROUP
#endif

/* --- AMX: tiles of 16 rows by 64 bytes ---------------------------------------------------------- */

#ifdef HAS_AMX
#define ISA amx
#define GROUP 4
#undef GROUP_DEPTH
#define GROUP_DEPTH 64
BEGIN_TARGET("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8,"
             "prefer-vector-width=512")

/* Tiles 0 to 3 are sums, 4 and 5 rows of inputs, 6 and 7 columns of weights; all of them whole.
 * Rows of inputs beyond the n that are asked for are read, and what becomes of them is not used. */
PRODUCT
{
    const int8_t *w = layer->weights;
    w += (ptrdiff_t)block * taps * layer->inputs * WIDTH;
    const int32_t *bias = layer->bias + WIDTH * block;
    __asm__ volatile("" ::: "memory"); /* loading a tile is no access to memory for some compilers */
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + 16, 0);
    if (n > 16) {
        _tile_loadd(2, bias, 0);
        _tile_loadd(3, bias + 16, 0);
        for (int tap = 0; tap < taps; tap++)
            for (int k = 0; k < layer->inputs; k += 64, w += 64 * WIDTH) {
                _tile_loadd(4, x[tap] + k, pitch);
                _tile_loadd(5, x[tap] + 16 * pitch + k, pitch);
                _tile_loadd(6, w, 4 * WIDTH);
                _tile_loadd(7, w + 64, 4 * WIDTH);
                _tile_dpbusd(0, 4, 6);
                _tile_dpbusd(1, 4, 7);
                _tile_dpbusd(2, 5, 6);
                _tile_dpbusd(3, 5, 7);
            }
        _tile_stored(2, sums[16], 4 * WIDTH);
        _tile_stored(3, sums[16] + 16, 4 * WIDTH);
    } else {
        for (int tap = 0; tap < taps; tap++)
            for (int k = 0; k < layer->inputs; k += 64, w += 64 * WIDTH) {
                _tile_loadd(4, x[tap] + k, pitch);
                _tile_loadd(6, w, 4 * WIDTH);
                _tile_loadd(7, w + 64, 4 * WIDTH);
                _tile_dpbusd(0, 4, 6);
                _tile_dpbusd(1, 4, 7);
            }
    }
    _tile_stored(0, sums[0], 4 * WIDTH);
    _tile_stored(1, sums[0] + 16, 4 * WIDTH);
}

static void enter_amx(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

static void leave_amx(void)
{
    _tile_release();
}
#include "walk.h"
END_TARGET
#undef ISA
#undef GROUP
#endif

#endif /* X86 */

#ifdef ARM

/* --- NEON, which every ARM of 64 bits has: 16 bits ------------------------------------------------ */

#undef GROUP_DEPTH
#define VECTOR_NEON
#define ISA neon
#define GROUP 1
#define GROUP_DEPTH 8
#define WEIGHT int16_t
#define INPUTS int16x8_t
#define LOAD(from) vreinterpretq_s16_u16(vmovl_u8(vld1_u8(from)))
#define AT(lane)                                                                                   \
    for (int v = 0; v < 4; v += 2) {                                                               \
        int16x8_t w = vld1q_s16(weights + lane * WIDTH + 4 * v);                                   \
        for (int r = 0; r < rows; r++) {                                                           \
            total[r][v] = vmlal_laneq_s16(total[r][v], vget_low_s16(w), values[r], lane);          \
            total[r][v + 1] = vmlal_high_laneq_s16(total[r][v + 1], w, values[r], lane);           \
        }                                                                                          \
    }
#define EACH_GROUP AT(0) AT(1) AT(2) AT(3) AT(4) AT(5) AT(6) AT(7)
#include "neon.h"
#define enter_neon no_state
#define leave_neon no_state
#include "walk.h"
#undef ISA
#undef GROUP
#undef GROUP_DEPTH

/* --- Its dot products, of signed bytes: inputs are taken 128 lower -------------------------------- */

#ifdef HAS_DOTPROD
#undef OFFSET
#define OFFSET 128
#define ISA dotprod
#define GROUP 4
#define GROUP_DEPTH 16
BEGIN_TARGET(DOTPROD)
#define WEIGHT int8_t
#define INPUTS int8x16_t
#define LOAD(from) vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), vdupq_n_u8(128)))
#define AT(lane)                                                                                   \
    for (int v = 0; v < 4; v++) {                                                                  \
        int8x16_t w = vld1q_s8(weights + 4 * lane * WIDTH + 16 * v);                               \
        for (int r = 0; r < rows; r++)                                                             \
            total[r][v] = vdotq_laneq_s32(total[r][v], w, values[r], lane);                        \
    }
#define EACH_GROUP AT(0) AT(1) AT(2) AT(3)
#include "neon.h"
#define enter_dotprod no_state
#define leave_dotprod no_state
#include "walk.h"
END_TARGET
#undef ISA
#undef GROUP
#endif

#endif /* ARM */
