/* What the machine under us is and how it computes: CPU features, floating-point control, OpenMP.
   Compiled with no level's flags in machine.pyx; the floating-point part also in every level.                */
#ifndef FASTXENT_PLATFORM_H
#define FASTXENT_PLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#include <xmmintrin.h>
#define FX_X86 1
#else
#define FX_X86 0
#endif

#ifdef _OPENMP
#include <omp.h>
#endif

/* ---- floating-point control: default rounding, subnormals on, no traps; the caller's word is given back ---- */
static inline uint64_t fx_fp_enter(void) {
#if FX_X86
    uint32_t old = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return old;
#elif defined(__aarch64__)
    uint64_t old, plain = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(plain));
    return old;
#else
    return 0;
#endif
}

static inline void fx_fp_leave(uint64_t old) {
#if FX_X86
    _mm_setcsr((uint32_t)old);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
#else
    (void)old;
#endif
}

/* ---- the next of what threads share out ---- */
static inline ptrdiff_t fx_take(ptrdiff_t *next, ptrdiff_t n) { return __atomic_fetch_add(next, n, __ATOMIC_RELAXED); }

static inline double fx_seconds(void) { /* from some point on */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- features ----
   Intel SDM volume 1, 14.3 (AVX), 14.7 (AVX2), 15.2 (AVX-512): the CPU has the instructions, and the operating
   system saves the registers (OSXSAVE and XCR0).                                                             */
static inline int fx_cpu_has(const char *level) {
#if FX_X86
    unsigned a, b, c, d, b7 = 0, xcr0 = 0, xcr0_high;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    int avx = (c >> 28) & 1, fma = (c >> 12) & 1, f16c = (c >> 29) & 1;
    if ((c >> 27) & 1) __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(xcr0_high) : "c"(0));
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) b7 = b;
    int ymm = (xcr0 & 0x6) == 0x6, zmm = (xcr0 & 0xe6) == 0xe6;
    int avx2 = avx && fma && f16c && ((b7 >> 5) & 1) && ymm;
    if (!strcmp(level, "baseline")) return 1;
    if (!strcmp(level, "avx2")) return avx2;
    if (!strcmp(level, "avx512")) /* F, DQ, BW, VL */
        return avx2 && zmm && ((b7 >> 16) & 1) && ((b7 >> 17) & 1) && ((b7 >> 30) & 1) && ((b7 >> 31) & 1);
    return 0;
#else
    return !strcmp(level, "baseline");
#endif
}

static inline void fx_cpu_name(char *name) { /* 49 bytes */
    name[0] = 0;
#if FX_X86
    unsigned r[12];
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3])) return;
    memcpy(name, r, 48);
    name[48] = 0;
#endif
}

/* ---- OpenMP: these are the only calls of it outside the loops; without OpenMP they stand for one thread ---- */
static inline int fx_omp_version(void) {
#ifdef _OPENMP
    return _OPENMP;
#else
    return 0;
#endif
}
static inline int fx_omp_max_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}
/* libgomp hangs in a forked child at its first parallel region, for the threads of its pool are gone; giving the
   pool up before the fork cures it (GCC >= 9 has omp_pause_resource_all; _OPENMP says nothing about it).      */
static inline int fx_omp_pause(void) {
#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    return omp_pause_resource_all(omp_pause_soft);
#elif defined(_OPENMP) && defined(__clang__) && _OPENMP >= 201811
    return omp_pause_resource_all(omp_pause_soft);
#else
    return -1;
#endif
}

static inline const char *fx_compiler(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

#endif
