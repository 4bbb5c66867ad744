/* LANES numbers at once: what the layers do between products, for each instruction set.
 *
 * Every function is one operation of IEEE 754 or of integers for each lane; `nearest` rounds to
 * nearest, ties to even, as the processor is set when we are called. */

#if defined(VECTOR_512)
#define LANES 16
typedef __m512i BACKEND(ints);
typedef __m512 BACKEND(floats);
#define INTS BACKEND(ints)
#define FLOATS BACKEND(floats)
INLINE INTS BACKEND(load)(const int32_t *from) { return _mm512_loadu_si512(from); }
INLINE void BACKEND(store)(int32_t *to, INTS x) { _mm512_storeu_si512(to, x); }
INLINE INTS BACKEND(plus)(INTS x, INTS y) { return _mm512_add_epi32(x, y); }
INLINE INTS BACKEND(times_256)(INTS x) { return _mm512_slli_epi32(x, 8); }
INLINE FLOATS BACKEND(times)(INTS x, const float *scale)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(x), _mm512_loadu_ps(scale));
}
INLINE INTS BACKEND(nearest)(FLOATS x, float lowest, float highest)
{
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(lowest)), _mm512_set1_ps(highest));
    return _mm512_cvtps_epi32(x);
}
INLINE void BACKEND(store_bytes)(uint8_t *to, INTS x)
{
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(x));
}

#elif defined(VECTOR_256)
#define LANES 8
typedef __m256i BACKEND(ints);
typedef __m256 BACKEND(floats);
#define INTS BACKEND(ints)
#define FLOATS BACKEND(floats)
INLINE INTS BACKEND(load)(const int32_t *from) { return _mm256_loadu_si256((const __m256i *)from); }
INLINE void BACKEND(store)(int32_t *to, INTS x) { _mm256_storeu_si256((__m256i *)to, x); }
INLINE INTS BACKEND(plus)(INTS x, INTS y) { return _mm256_add_epi32(x, y); }
INLINE INTS BACKEND(times_256)(INTS x) { return _mm256_slli_epi32(x, 8); }
INLINE FLOATS BACKEND(times)(INTS x, const float *scale)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_loadu_ps(scale));
}
INLINE INTS BACKEND(nearest)(FLOATS x, float lowest, float highest)
{
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(lowest)), _mm256_set1_ps(highest));
    return _mm256_cvtps_epi32(x);
}
INLINE void BACKEND(store_bytes)(uint8_t *to, INTS x)
{
    __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
    __m128i words = _mm_packs_epi32(low, high);
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}

#elif defined(VECTOR_128)
#define LANES 4
typedef __m128i BACKEND(ints);
typedef __m128 BACKEND(floats);
#define INTS BACKEND(ints)
#define FLOATS BACKEND(floats)
INLINE INTS BACKEND(load)(const int32_t *from) { return _mm_loadu_si128((const __m128i *)from); }
INLINE void BACKEND(store)(int32_t *to, INTS x) { _mm_storeu_si128((__m128i *)to, x); }
INLINE INTS BACKEND(plus)(INTS x, INTS y) { return _mm_add_epi32(x, y); }
INLINE INTS BACKEND(times_256)(INTS x) { return _mm_slli_epi32(x, 8); }
INLINE FLOATS BACKEND(times)(INTS x, const float *scale)
{
    return _mm_mul_ps(_mm_cvtepi32_ps(x), _mm_loadu_ps(scale));
}
INLINE INTS BACKEND(nearest)(FLOATS x, float lowest, float highest)
{
    return _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps(x, _mm_set1_ps(lowest)), _mm_set1_ps(highest)));
}
INLINE void BACKEND(store_bytes)(uint8_t *to, INTS x)
{
    __m128i words = _mm_packs_epi32(x, x);
    int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(to, &bytes, sizeof bytes);
}

#elif defined(VECTOR_NEON)
#define LANES 4
typedef int32x4_t BACKEND(ints);
typedef float32x4_t BACKEND(floats);
#define INTS BACKEND(ints)
#define FLOATS BACKEND(floats)
INLINE INTS BACKEND(load)(const int32_t *from) { return vld1q_s32(from); }
INLINE void BACKEND(store)(int32_t *to, INTS x) { vst1q_s32(to, x); }
INLINE INTS BACKEND(plus)(INTS x, INTS y) { return vaddq_s32(x, y); }
INLINE INTS BACKEND(times_256)(INTS x) { return vshlq_n_s32(x, 8); }
INLINE FLOATS BACKEND(times)(INTS x, const float *scale)
{
    return vmulq_f32(vcvtq_f32_s32(x), vld1q_f32(scale));
}
INLINE INTS BACKEND(nearest)(FLOATS x, float lowest, float highest)
{
    return vcvtnq_s32_f32(vminq_f32(vmaxq_f32(x, vdupq_n_f32(lowest)), vdupq_n_f32(highest)));
}
INLINE void BACKEND(store_bytes)(uint8_t *to, INTS x)
{
    int16x4_t words = vmovn_s32(x);
    uint32_t bytes = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
    memcpy(to, &bytes, sizeof bytes);
}

#else
#define LANES 1
#define INTS int32_t
#define FLOATS float
INLINE INTS BACKEND(load)(const int32_t *from) { return *from; }
INLINE void BACKEND(store)(int32_t *to, INTS x) { *to = x; }
INLINE INTS BACKEND(plus)(INTS x, INTS y) { return (int32_t)((uint32_t)x + (uint32_t)y); }
INLINE INTS BACKEND(times_256)(INTS x) { return (int32_t)(256u * (uint32_t)x); }
INLINE FLOATS BACKEND(times)(INTS x, const float *scale) { return (float)x * *scale; }
INLINE INTS BACKEND(nearest)(FLOATS x, float lowest, float highest)
{
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    return (int32_t)__builtin_rintf(x);
}
INLINE void BACKEND(store_bytes)(uint8_t *to, INTS x) { *to = (uint8_t)x; }
#endif
