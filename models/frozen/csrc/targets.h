/* How functions are compiled once for each instruction set. */

#ifndef PIXELZIP_TARGETS_H
#define PIXELZIP_TARGETS_H

#include "export.h"

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

#endif
