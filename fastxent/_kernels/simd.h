/* One register-wide vector of floats or doubles.

   Everything that depends on the instruction set is in here; loops and algorithms are Cython (*.pxi).
   GCC and Clang vector extensions give the operators; only maximum, fused multiply-add and the half-precision
   load want an intrinsic (C has no `?:` on vectors, and loops over lanes run 3 to 5 times slower).

   A *group* is 128 bytes of lanes at every level (FX_NV registers of FX_VBYTES bytes), so the order of the
   additions does not depend on the register width; multiply-add is always written as vf_fma / vd_fma / fx_fma and
   contraction is off, so that all levels with a fused multiply-add give the same bits. The SSE2 baseline has
   none: there it is a product and a sum, with bits of its own.                                              */
#ifndef FASTXENT_SIMD_H
#define FASTXENT_SIMD_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "fastxent needs x86-64 or 64-bit Arm"
#endif

#ifndef FX_VBYTES /* bytes of a register; setup.py's table of levels says otherwise only for the test levels */
#if defined(__AVX512F__)
#define FX_VBYTES 64
#elif defined(__AVX2__)
#define FX_VBYTES 32
#else
#define FX_VBYTES 16
#endif
#endif

#define FX_GROUP_BYTES 128
#define FX_NV (FX_GROUP_BYTES / FX_VBYTES) /* vectors a group */
#define FX_NH (FX_NV / 2)
#define FX_PIXELS 256                      /* rows taken together where the class axis is strided */
#define FX_PIXEL_VECTORS (FX_PIXELS / FX_VD)
#define FX_PREFETCH 4096                   /* bytes ahead */
#define FX_FAR 12288                       /* bytes beyond that, into the second cache */
#define FX_VF (FX_VBYTES / 4)              /* floats a vector */
#define FX_VD (FX_VBYTES / 8)              /* doubles a vector */
#define FX_RUN 8                           /* groups a run */
#define FX_CHAIN_F (FX_FMA ? 8 : 4)        /* terms that a lane adds before it is flushed into a wider sum */
#define FX_CHAIN_D 4
#define FX_PART_F (FX_FMA ? 4 : 2)         /* groups, of two terms a lane each, that a row adds before they */
#define FX_PART_D 1                        /* are added to as many others and flushed */
#define FX_RUN_DOUBLES (FX_RUN * FX_GROUP_BYTES / 8)
#define FX_BLOCK 16                        /* runs that share one look at the maximum */

#if defined(__FMA__) || defined(__aarch64__)
#define FX_FMA 1
#else
#define FX_FMA 0
#endif

#define FX_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(FX_VBYTES)));
typedef double vd __attribute__((vector_size(FX_VBYTES)));
typedef int32_t vi __attribute__((vector_size(FX_VBYTES)));
typedef int64_t vl __attribute__((vector_size(FX_VBYTES)));
typedef float vf_u __attribute__((vector_size(FX_VBYTES), aligned(1), may_alias));
typedef double vd_u __attribute__((vector_size(FX_VBYTES), aligned(1), may_alias));
typedef uint16_t vh_u __attribute__((vector_size(FX_VBYTES / 2), aligned(1), may_alias));
typedef float vf_half_u __attribute__((vector_size(FX_VBYTES / 2), aligned(1), may_alias));
typedef uint32_t vu __attribute__((vector_size(FX_VBYTES)));

/* ---- loads, stores, splats: no alignment is asked for ---- */
FX_INLINE vf vf_splat(float x) { return x - (vf){0}; }
FX_INLINE vd vd_splat(double x) { return x - (vd){0}; }
FX_INLINE vf vf_load(const void *p) { return *(const vf_u *)p; }
FX_INLINE vd vd_load(const void *p) { return *(const vd_u *)p; }
FX_INLINE void vf_store(void *p, vf x) { *(vf_u *)p = x; }
FX_INLINE void vd_store(void *p, vd x) { *(vd_u *)p = x; }
FX_INLINE vd vd_load_f32(const void *p) {
#if FX_VBYTES == 64 && !defined(__AVX512F__)
    vd y; /* a test level: GCC 12 fails on the conversion */
    for (int i = 0; i < FX_VD; i++) y[i] = ((const vf_half_u *)p)[0][i];
    return y;
#elif FX_VBYTES == 64
    return (vd)_mm512_cvtps_pd(_mm256_loadu_ps((const float *)p));
#elif defined(__AVX__) && FX_VBYTES == 32 /* GCC 12 makes seven instructions of the conversion, through the stack */
    return (vd)_mm256_cvtps_pd(_mm_loadu_ps((const float *)p));
#else
    return __builtin_convertvector(*(const vf_half_u *)p, vd);
#endif
}
/* the lower and the upper half of a vector of floats, widened; through memory where there is no instruction for it */
#if defined(__AVX__) && FX_VBYTES == 32
FX_INLINE vd vf_lower(vf x) { return (vd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)x)); }
FX_INLINE vd vf_upper(vf x) { return (vd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)x, 1)); }
#elif defined(__AVX512F__) && FX_VBYTES == 64
FX_INLINE vd vf_lower(vf x) { return (vd)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)x)); }
FX_INLINE vd vf_upper(vf x) { return (vd)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)x, 1)); }
#else
FX_INLINE vd vf_lower(vf x) { float lanes[FX_VF]; vf_store(lanes, x); return vd_load_f32(lanes); }
FX_INLINE vd vf_upper(vf x) { float lanes[FX_VF]; vf_store(lanes, x); return vd_load_f32(lanes + FX_VD); }
#endif
FX_INLINE void fx_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }
/* For arrays that are read from end to end, in two steps: far ahead into the second cache, nearer into the first. */
FX_INLINE void fx_stream(const char *p) {
    __builtin_prefetch(p, 0, 3);
    __builtin_prefetch(p + FX_FAR, 0, 2);
}

/* bfloat16 is the upper half of a float32: exact, quiet NaN and subnormals included. Lanes keep their order, so a
   bfloat16 array gives the same bits as its float32 copy. */
FX_INLINE vf vf_load_bf16(const void *p) {
#if defined(__AVX2__) && FX_VBYTES == 32 /* the load repeats 16 bytes, one operation places them; vpmovzxwd takes 2.6 */
    const __m256i places = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,
                                            -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
    return (vf)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)), places);
#endif
#if defined(__AVX512BW__) && FX_VBYTES == 64 /* one operation instead of two */
    const __m512i places = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16, 8 << 16,
                                            7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
    return (vf)_mm512_maskz_permutexvar_epi16(
        0xaaaaaaaa, places, _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)p)));
#endif
    vu wide = __builtin_convertvector(*(const vh_u *)p, vu) << 16;
    return (vf)wide;
}

FX_INLINE float fx_bf16(const void *p) {
    uint16_t bits;
    uint32_t wide;
    float x;
    memcpy(&bits, p, 2);
    wide = (uint32_t)bits << 16;
    memcpy(&x, &wide, 4);
    return x;
}

/* float16 by integers: exponent and fraction move up by 13 places and the bias is mended by an exact product with
   2^112 (subnormals come out exact); infinities and NaN get the float32 exponent. */
FX_INLINE vf vf_from_half_bits(vu h) {
    vu sign = (h & 0x8000u) << 16, rest = h & 0x7fffu;
    vf scaled = (vf)(rest << 13) * 0x1p112f;
    vu special = (vu)(rest > 0x7bffu) & 0x7f800000u;
    return (vf)((vu)scaled | special | sign);
}

FX_INLINE vf vf_load_f16(const void *p) {
#if defined(__AVX512F__) && FX_VBYTES == 64
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__) && FX_VBYTES == 32
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif defined(__F16C__) && FX_VBYTES == 16
    return (vf)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p));
#else
    return vf_from_half_bits(__builtin_convertvector(*(const vh_u *)p, vu));
#endif
}

FX_INLINE float fx_f16(const void *p) {
    uint16_t bits;
    memcpy(&bits, p, 2);
    return vf_from_half_bits((vu){bits})[0];
}

FX_INLINE float fx_f32(const void *p) { float x; memcpy(&x, p, 4); return x; }
FX_INLINE double fx_f64(const void *p) { double x; memcpy(&x, p, 8); return x; }

/* ---- maximum: a > b ? a : b, so a NaN in b passes through (Arm passes either one); minimum alike ---- */
/* ---- fused multiply-add: a * b + c ---- */
#if defined(__AVX512F__) && FX_VBYTES == 64
FX_INLINE vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
FX_INLINE vd vd_max(vd a, vd b) { return (vd)_mm512_max_pd((__m512d)a, (__m512d)b); }
FX_INLINE vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
FX_INLINE vd vd_min(vd a, vd b) { return (vd)_mm512_min_pd((__m512d)a, (__m512d)b); }
FX_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
FX_INLINE vd vd_fma(vd a, vd b, vd c) { return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif FX_VBYTES == 64 /* a test level: 16 lanes on registers of 8, to show that the width does not matter */
#define FX_HALVES(T, H, name, args, call) \
    FX_INLINE T name args { union { T v; H h[2]; } ua, ub, uc; call return uc.v; }
FX_HALVES(vf, __m256, vf_max, (vf a, vf b), ua.v = a; ub.v = b;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_max_ps(ua.h[i], ub.h[i]);)
FX_HALVES(vd, __m256d, vd_max, (vd a, vd b), ua.v = a; ub.v = b;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_max_pd(ua.h[i], ub.h[i]);)
FX_HALVES(vf, __m256, vf_min, (vf a, vf b), ua.v = a; ub.v = b;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_min_ps(ua.h[i], ub.h[i]);)
FX_HALVES(vd, __m256d, vd_min, (vd a, vd b), ua.v = a; ub.v = b;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_min_pd(ua.h[i], ub.h[i]);)
FX_HALVES(vf, __m256, vf_fma, (vf a, vf b, vf c), ua.v = a; ub.v = b; uc.v = c;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_fmadd_ps(ua.h[i], ub.h[i], uc.h[i]);)
FX_HALVES(vd, __m256d, vd_fma, (vd a, vd b, vd c), ua.v = a; ub.v = b; uc.v = c;
    for (int i = 0; i < 2; i++) uc.h[i] = _mm256_fmadd_pd(ua.h[i], ub.h[i], uc.h[i]);)
#elif defined(__AVX2__) && FX_VBYTES == 32
FX_INLINE vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
FX_INLINE vd vd_max(vd a, vd b) { return (vd)_mm256_max_pd((__m256d)a, (__m256d)b); }
FX_INLINE vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
FX_INLINE vd vd_min(vd a, vd b) { return (vd)_mm256_min_pd((__m256d)a, (__m256d)b); }
FX_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
FX_INLINE vd vd_fma(vd a, vd b, vd c) { return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__SSE2__)
FX_INLINE vf vf_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
FX_INLINE vd vd_max(vd a, vd b) { return (vd)_mm_max_pd((__m128d)a, (__m128d)b); }
FX_INLINE vf vf_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
FX_INLINE vd vd_min(vd a, vd b) { return (vd)_mm_min_pd((__m128d)a, (__m128d)b); }
#if FX_FMA
FX_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c); }
FX_INLINE vd vd_fma(vd a, vd b, vd c) { return (vd)_mm_fmadd_pd((__m128d)a, (__m128d)b, (__m128d)c); }
#else
FX_INLINE vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
FX_INLINE vd vd_fma(vd a, vd b, vd c) { return a * b + c; }
#endif
#else
FX_INLINE vf vf_max(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
FX_INLINE vd vd_max(vd a, vd b) { return (vd)vmaxq_f64((float64x2_t)a, (float64x2_t)b); }
FX_INLINE vf vf_min(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
FX_INLINE vd vd_min(vd a, vd b) { return (vd)vminq_f64((float64x2_t)a, (float64x2_t)b); }
FX_INLINE vf vf_fma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
FX_INLINE vd vd_fma(vd a, vd b, vd c) { return (vd)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#endif

FX_INLINE double fx_fma(double a, double b, double c) {
#if FX_FMA
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* ---- comparisons give masks, all ones or all zeros; lanes are chosen by them ---- */
FX_INLINE vi vf_ge(vf a, vf b) { return a >= b; }
FX_INLINE vl vd_ge(vd a, vd b) { return a >= b; }
FX_INLINE vi vf_eq(vf a, vf b) { return a == b; }
FX_INLINE vl vd_eq(vd a, vd b) { return a == b; }
FX_INLINE vf vf_pick(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
FX_INLINE vd vd_pick(vl mask, vd yes, vd no) { return (vd)((mask & (vl)yes) | (~mask & (vl)no)); }
/* by the sign bit of d, which needs no comparison: `yes` where it is clear, +0 included, `no` where it is set, -0 included */
#if defined(__AVX512F__) && FX_VBYTES == 64
FX_INLINE vf vf_by_sign(vf d, vf yes, vf no) {
    return (vf)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)d), (__m512)yes, (__m512)no);
}
FX_INLINE vd vd_by_sign(vd d, vd yes, vd no) {
    return (vd)_mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)d), (__m512d)yes, (__m512d)no);
}
#elif defined(__AVX__) && FX_VBYTES == 32
FX_INLINE vf vf_by_sign(vf d, vf yes, vf no) { return (vf)_mm256_blendv_ps((__m256)yes, (__m256)no, (__m256)d); }
FX_INLINE vd vd_by_sign(vd d, vd yes, vd no) { return (vd)_mm256_blendv_pd((__m256d)yes, (__m256d)no, (__m256d)d); }
#elif defined(__AVX__) && FX_VBYTES == 16
FX_INLINE vf vf_by_sign(vf d, vf yes, vf no) { return (vf)_mm_blendv_ps((__m128)yes, (__m128)no, (__m128)d); }
FX_INLINE vd vd_by_sign(vd d, vd yes, vd no) { return (vd)_mm_blendv_pd((__m128d)yes, (__m128d)no, (__m128d)d); }
#else
FX_INLINE vf vf_by_sign(vf d, vf yes, vf no) { return vf_pick((vi)d < 0, no, yes); }
FX_INLINE vd vd_by_sign(vd d, vd yes, vd no) { return vd_pick((vl)d < 0, no, yes); }
#endif
FX_INLINE vf vf_without(vf x, const int32_t *label, int32_t j) { /* -inf where the label is j */
    vi hole = *(const vi *)__builtin_assume_aligned(label, FX_VBYTES) == j;
    return vf_pick(hole, vf_splat(-INFINITY), x);
}
FX_INLINE vd vd_without(vd x, const int64_t *label, int64_t j) {
    vl hole = *(const vl *)__builtin_assume_aligned(label, FX_VBYTES) == j;
    return vd_pick(hole, vd_splat(-INFINITY), x);
}
FX_INLINE vf vf_but(const int32_t *label, int32_t j, vf e) { /* 0 where the label is j */
    vi hole = *(const vi *)__builtin_assume_aligned(label, FX_VBYTES) == j;
    return (vf)(~hole & (vi)e);
}
FX_INLINE vd vd_but(const int64_t *label, int64_t j, vd e) {
    vl hole = *(const vl *)__builtin_assume_aligned(label, FX_VBYTES) == j;
    return (vd)(~hole & (vl)e);
}
/* largest lane; which of NaN and number is given does not matter (a NaN is found by the sum); sums of lanes */
#if defined(__AVX512F__) && FX_VBYTES == 64 /* GCC 12 makes 40 instructions of these loops */
FX_INLINE double vf_top(vf x) { return _mm512_reduce_max_ps((__m512)x); }
FX_INLINE double vd_top(vd x) { return _mm512_reduce_max_pd((__m512d)x); }
FX_INLINE int64_t vi_total(vi x) {
    return _mm512_reduce_add_epi64(_mm512_add_epi64(
        _mm512_cvtepi32_epi64(_mm512_castsi512_si256((__m512i)x)),
        _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64((__m512i)x, 1))));
}
FX_INLINE int64_t vl_total(vl x) { return _mm512_reduce_add_epi64((__m512i)x); }
#else
FX_INLINE double vf_top(vf x) {
    _Pragma("GCC unroll 4") for (int step = FX_VF / 2; step; step /= 2) {
        vi order;
        for (int i = 0; i < FX_VF; i++) order[i] = (i + step) % FX_VF;
        x = vf_max(x, __builtin_shuffle(x, order));
    }
    return x[0];
}
FX_INLINE double vd_top(vd x) {
    _Pragma("GCC unroll 4") for (int step = FX_VD / 2; step; step /= 2) {
        vl order;
        for (int i = 0; i < FX_VD; i++) order[i] = (i + step) % FX_VD;
        x = vd_max(x, __builtin_shuffle(x, order));
    }
    return x[0];
}
FX_INLINE int64_t vi_total(vi x) {
    int64_t s = 0;
    for (int i = 0; i < FX_VF; i++) s += x[i];
    return s;
}
FX_INLINE int64_t vl_total(vl x) {
    int64_t s = 0;
    for (int i = 0; i < FX_VD; i++) s += x[i];
    return s;
}
#endif
/* lane i of the result is lane index[i] of x; FX_PERMUTES: in one operation */
#if defined(__AVX512F__) && FX_VBYTES == 64
#define FX_PERMUTES 1
FX_INLINE vf vf_permute(vf x, vi index) { return (vf)_mm512_permutexvar_ps((__m512i)index, (__m512)x); }
#elif defined(__AVX2__) && FX_VBYTES == 32
#define FX_PERMUTES 1
FX_INLINE vf vf_permute(vf x, vi index) { return (vf)_mm256_permutevar8x32_ps((__m256)x, (__m256i)index); }
#else
#define FX_PERMUTES 0
FX_INLINE vf vf_permute(vf x, vi index) { return __builtin_shuffle(x, index); }
#endif
FX_INLINE int vi_any(vi x) { /* whether a lane is set */
#if defined(__AVX2__) && FX_VBYTES == 32
    return !_mm256_testz_si256((__m256i)x, (__m256i)x);
#elif defined(__AVX512F__) && FX_VBYTES == 64
    return _mm512_test_epi32_mask((__m512i)x, (__m512i)x) != 0;
#else
    int any = 0;
    for (int i = 0; i < FX_VF; i++) any |= x[i];
    return any != 0;
#endif
}
FX_INLINE int vl_any(vl x) { return vi_any((vi)x); }

#endif
