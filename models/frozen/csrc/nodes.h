/* What nodes do to numbers: integers, tables and single IEEE operations, docs/format.md says which.
 *
 * Functions of one number come first; then `kernels.h`, once for each instruction set, and which of
 * these there are. */

#ifndef PIXELZIP_NODES_H
#define PIXELZIP_NODES_H

#include "programs.h"

#include <string.h>

#include "coding.h"
#include "targets.h"

enum {
    CHUNK = 8,   /* rows of a product */
    DEPTH = 255, /* pairs of products that fit 32 bits */
    LIMIT = 1 << 26,
    WIDE_REACH = 1 << 16, /* 16, in units of wide maps */
    CELL_LIMIT = 1 << 30,
    DECAY_STEPS = 1024,
};

/* --- Functions of one number -------------------------------------------------------------------- */

static struct {
    int32_t value, slope;
} decay[DECAY_STEPS + 1];

/* The logistic function of a wide number, in units of 2^-22. */
INLINE int32_t logistic(int32_t x)
{
    int32_t z = x < -WIDE_REACH ? -WIDE_REACH : x > WIDE_REACH ? WIDE_REACH : x;
    z += WIDE_REACH;
    return sigmoid[z >> 6].value + (sigmoid[z >> 6].slope * (z & 63) >> 6);
}

/* In units of 2^-15, as are gates. */
INLINE int32_t hyperbolic_tangent(int32_t x)
{
    return (logistic(2 * x) - (1 << 21)) >> 6;
}

INLINE int32_t gate(int32_t x)
{
    return logistic(x) >> 7;
}

INLINE int32_t elu(int32_t x)
{
    int32_t z = (x < -WIDE_REACH ? -WIDE_REACH : x > 0 ? 0 : x) + WIDE_REACH;
    int32_t power = decay[z >> 6].value + (decay[z >> 6].slope * (z & 63) >> 6);
    return x > 0 ? x : (power - (1 << 18) + 32) >> 6;
}

/* To nearest, ties to even, of a number within +-2^51. */
INLINE double nearest(double x)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    return (x + shift) - shift;
}

INLINE double within(double x, double largest)
{
    x = x < -largest ? -largest : x;
    return x > largest ? largest : x;
}

INLINE int32_t wide_sum(int32_t x, int32_t y)
{
    return (int32_t)clamped((int64_t)x + y, -LIMIT, LIMIT);
}

INLINE int16_t state(int32_t value, int32_t gate, int32_t unit)
{
    return (int16_t)(((int64_t)value * gate * unit + (1 << 29)) >> 30);
}

/* --- What nodes do to numbers, one instruction set after the other --------------------------------------------- */

#define CONCATENATED(a, b) a##_##b
#define NAMED(a, b) CONCATENATED(a, b)
#define BACKEND(function) NAMED(function, ISA)

struct lanes {
    int32_t of[BLOCK];
};

static inline struct lanes spread_pair(int32_t pair)
{
    struct lanes found;
    for (int c = 0; c < BLOCK; c++)
        found.of[c] = pair;
    return found;
}

static inline struct lanes loaded(const int16_t *from)
{
    struct lanes found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* The two halves of each lane are numbers of 16 bits, in the order of this machine. */
static inline struct lanes dot(struct lanes total, struct lanes x, struct lanes y)
{
    int16_t a[2 * BLOCK], b[2 * BLOCK];
    memcpy(a, &x, sizeof a);
    memcpy(b, &y, sizeof b);
    for (int c = 0; c < BLOCK; c++)
        total.of[c] += a[2 * c] * b[2 * c] + a[2 * c + 1] * b[2 * c + 1];
    return total;
}

#define ISA portable
#define VECTOR struct lanes
#define PER_BLOCK 1
#define ROWS 1
#define BLOCKS 1
#define ALONE 1
#define NOTHING ((struct lanes){{0}})
#define LOAD(from) loaded(from)
#define STORE(to, x) memcpy(to, (x).of, sizeof(x).of)
#define SPLAT(pair) spread_pair(pair)
#define DOT dot
#include "kernels.h"
#undef ISA

#ifdef X86
#define ISA sse2
#define VECTOR __m128i
#define PER_BLOCK 4
#define ROWS 1
#define BLOCKS 1
#define ALONE 1
#define NOTHING _mm_setzero_si128()
#define LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define STORE(to, x) _mm_storeu_si128((__m128i *)(to), x)
#define SPLAT(pair) _mm_set1_epi32(pair)
#define DOT(total, x, w) _mm_add_epi32(total, _mm_madd_epi16(x, w))
#include "kernels.h"
#undef ISA

BEGIN_TARGET("avx2")
#define ISA avx2
#define VECTOR __m256i
#define PER_BLOCK 2
#define ROWS 2
#define BLOCKS 1
#define ALONE 2
#define NOTHING _mm256_setzero_si256()
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define STORE(to, x) _mm256_storeu_si256((__m256i *)(to), x)
#define SPLAT(pair) _mm256_set1_epi32(pair)
#define DOT(total, x, w) _mm256_add_epi32(total, _mm256_madd_epi16(x, w))
#include "kernels.h"
#undef ISA
END_TARGET

#ifdef HAS_AVX512VNNI
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define ISA avx512vnni
#define VECTOR __m512i
#define PER_BLOCK 1
#define ROWS 4
#define BLOCKS 2
#define ALONE 4
#define NOTHING _mm512_setzero_si512()
#define LOAD(from) _mm512_loadu_si512(from)
#define STORE(to, x) _mm512_storeu_si512(to, x)
#define SPLAT(pair) _mm512_set1_epi32(pair)
#define DOT(total, x, w) _mm512_dpwssd_epi32(total, x, w)
#include "kernels.h"
#undef ISA
END_TARGET
#endif
#endif

#ifdef ARM
/* Sums of 8 outputs; the numbers of a pair that belong to them lie apart, as they are loaded. */
static inline int32x4x2_t dot_neon(int32x4x2_t total, int16x4_t pair, int16x8x2_t w)
{
    total.val[0] = vmlal_lane_s16(total.val[0], vget_low_s16(w.val[0]), pair, 0);
    total.val[0] = vmlal_lane_s16(total.val[0], vget_low_s16(w.val[1]), pair, 1);
    total.val[1] = vmlal_high_lane_s16(total.val[1], w.val[0], pair, 0);
    total.val[1] = vmlal_high_lane_s16(total.val[1], w.val[1], pair, 1);
    return total;
}

#define ISA neon
#define VECTOR int32x4x2_t
#define WEIGHTS int16x8x2_t
#define INPUTS int16x4_t
#define PER_BLOCK 2
#define ROWS 2
#define BLOCKS 1
#define ALONE 2
#define NOTHING ((int32x4x2_t){{vdupq_n_s32(0), vdupq_n_s32(0)}})
#define LOAD(from) vld2q_s16(from)
#define STORE(to, x) (vst1q_s32(to, (x).val[0]), vst1q_s32((to) + 4, (x).val[1]))
#define SPLAT(pair) vreinterpret_s16_s32(vdup_n_s32(pair))
#define DOT dot_neon
#include "kernels.h"
#undef ISA
#endif

struct backend {
    const char *name;
    void (*product)(const struct matrix *, int parts, const int16_t *x, int n, double *sums);
    void (*split)(const int16_t *x, int64_t n, int16_t *low, int16_t *high);
    void (*widen)(const double *, const double *bias, const double *scale, int n, int32_t *out);
    void (*add)(int32_t *total, const int32_t *x, int n);
    void (*activate)(
        int kind, const int32_t *x, const double *scale, double largest, int n, int16_t *out);
    void (*gate_tanh)(const int32_t *, const int32_t *gate, int32_t unit, int n, int16_t *out);
    void (*gate_linear)(const int32_t *, const int32_t *gate, int n, int32_t *out);
};

#define BACKEND_OF(isa)                                                                            \
    {                                                                                              \
        #isa, product_##isa, split_##isa, widen_##isa, add_##isa, activate_##isa, gate_tanh_##isa, \
            gate_linear_##isa                                                                      \
    }

/* Of the instruction sets that are here, the number-th one, fastest first; or NULL. */
static const struct backend *backend(int number)
{
    static const struct backend all[] = {
#ifdef X86
#ifdef HAS_AVX512VNNI
        BACKEND_OF(avx512vnni),
#endif
        BACKEND_OF(avx2),
        BACKEND_OF(sse2),
#endif
#ifdef ARM
        BACKEND_OF(neon),
#endif
        BACKEND_OF(portable),
    };
    const int count = (int)(sizeof all / sizeof *all);
    for (int i = 0; i < count; i++) {
        int here = 1;
#ifdef X86
        if (strcmp(all[i].name, "avx512vnni") == 0)
            here = avx512vnni_is_here();
        if (strcmp(all[i].name, "avx2") == 0)
            here = avx2_is_here();
#endif
        if (here && number-- == 0)
            return &all[i];
    }
    return NULL;
}

#endif
