/* The instruction sets that a compiler knows, and how functions are compiled once for each. */

#ifndef PIXELZIP_TARGETS_H
#define PIXELZIP_TARGETS_H

#include <float.h>

#include "export.h"

#if FLT_EVAL_METHOD != 0
#error "floats have to be rounded after each operation; without this, Python does the work"
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86
#include <immintrin.h>
#if __GNUC__ >= 11 || __clang_major__ >= 12
#define HAS_AVXVNNI
#define HAS_AVX512VNNI
#ifdef __linux__
#define HAS_AMX
#endif
#endif
#endif

#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define ARM
#include <arm_neon.h>
#if defined(__linux__) || defined(__APPLE__)
#define HAS_DOTPROD
#ifdef __clang__
#define DOTPROD "dotprod"
#else
#define DOTPROD "arch=armv8.2-a+dotprod"
#endif
#endif
#endif

#define PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define BEGIN_TARGET(set) PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define END_TARGET _Pragma("clang attribute pop")
#else
#define BEGIN_TARGET(set) _Pragma("GCC push_options") PRAGMA(GCC target(set))
#define END_TARGET _Pragma("GCC pop_options")
#endif

#if defined(__GNUC__) || defined(__clang__)
#define NOINLINE __attribute__((noinline))
#define INLINE static inline __attribute__((always_inline))
#else
#define NOINLINE
#define INLINE static inline
#endif

#ifdef X86
static inline int avx2_is_here(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2");
}

static inline int avx512vnni_is_here(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
           && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
           && __builtin_cpu_supports("avx512vnni");
}
#endif

#endif
