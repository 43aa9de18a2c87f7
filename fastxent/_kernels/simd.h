/* One register-wide vector of floats or doubles, and its exponential.

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

/* bfloat16 is the upper half of a float32: exact, quiet NaN and subnormals included. Lanes keep their order, so a
   bfloat16 array gives the same bits as its float32 copy. */
FX_INLINE vf vf_load_bf16(const void *p) {
#if defined(__AVX2__) && FX_VBYTES == 32 /* the load repeats 16 bytes, one operation places them; vpmovzxwd takes 2.6 */
    const __m256i places = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,
                                            -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
    return (vf)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)), places);
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
/* largest lane; which of NaN and number is given does not matter (a NaN is found by the sum) */
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

/* ---- the exponential: e^x 2^-c as a product p * scale ----
   n = rint(x log2 e) by adding and taking away `magic` = 1.5 2^p + bias - c, p the width of the fraction, whose sum's
   low bits are then the biased exponent n - c of the scale; r = x - n ln2 in two steps, each fused; p = e^r by
   a polynomial (tools/minimax.py: degree 6 in float32, 4.4e-9; degree 11 in float64, 9.6e-18): 0.7 ULP at any
   distance from the reference, since r and p do not depend on c. `x` must be at least the floor of c, where the
   exponent field is 0 and with it the scale: e^-inf is exactly 0. A NaN gives NaN. c is an integer, so another
   reference scales every term by the same power of two and changes no bit of a sum.
   Without a fused multiply-add the first constant of ln2 has trailing zeros, so that its product with n is exact
   (Cody and Waite, Software Manual for the Elementary Functions, 1980).                                        */
#define FX_LOG2E 0x1.71547652b82fep+0
#define FX_MAGIC_F 12582912.0f         /* 1.5 2^23 */
#define FX_MAGIC_D 6755399441055744.0  /* 1.5 2^52 */
#define FX_LN2_33 0x1.62e42feep-1      /* 33 bits, then the rest of ln2 */
#define FX_LN2_REST 0x1.a39ef35793c76p-33
#if FX_FMA
#define FX_LN2_HI_F 0x1.62e430p-1f
#define FX_LN2_LO_F -0x1.05c610p-29f
#define FX_LN2_HI_D 0x1.62e42fefa39efp-1
#define FX_LN2_LO_D 0x1.abc9e3b39803fp-56
#define FX_FAR_F 65536.0               /* beyond this a reference is subtracted before the exponential */
#define FX_FAR_D 1073741824.0          /* 2^30: further off, n ln2 in the logarithm would want a third constant */
#else
#define FX_LN2_HI_F 0x1.63p-1f
#define FX_LN2_LO_F -0x1.bd0106p-13f
#define FX_LN2_HI_D FX_LN2_33
#define FX_LN2_LO_D FX_LN2_REST
#define FX_FAR_F 256.0
#define FX_FAR_D 524288.0
#endif

#define FX_NI (FX_NV < 4 ? FX_NV : 4) /* vectors whose exponentials are worked out together */

/* An out-of-order core holds some 60 waiting operations: four chains side by side fill it, one after the other does
   not (11 against 15 GB/s in cache, Zen 3, AVX2). The fences keep the compiler from undoing the order. */
#if defined(__aarch64__)
#define FX_REGISTER "+w"
#else
#define FX_REGISTER "+x"
#endif
#if FX_VBYTES == 64 && !defined(__AVX512F__)
#define FX_FENCE(x) (void)0 /* a test level: its vectors are in no one register */
#else
#define FX_FENCE(x) __asm__ volatile("" : FX_REGISTER(x))
#endif
/* a constant that several operations want: in a register, loaded once, for Zen 3 loads two vectors a cycle at most */
#define FX_KEEP(T, name, value) T name = value; FX_FENCE(name)
/* dst[v] = expression for v = 0 ... FX_NI - 1, written out: with a loop GCC 12 keeps the arrays in memory */
#define FX_ONE(i, dst, expression) { enum { v = i }; dst[v] = expression; FX_FENCE(dst[v]); }
#if FX_NV >= 4
#define FX_EACH(dst, expression) \
    do { FX_ONE(0, dst, expression) FX_ONE(1, dst, expression) \
         FX_ONE(2, dst, expression) FX_ONE(3, dst, expression) } while (0)
#else
#define FX_EACH(dst, expression) do { FX_ONE(0, dst, expression) FX_ONE(1, dst, expression) } while (0)
#endif

/* x in (FX_NI,), magic in; y = p, scale out (FX_NI,). Without `fine` the second constant of ln2 is left out: p is then
   e^(x + n lo), which a sum of exponentials mends at its end by one factor e^(-m lo), m the n of its largest term; what
   remains, (n - m) lo, is below 0.5 ULP of a term for 20 nats under the largest, and those further down weigh nothing. */
#define FX_LESS_ONE 2 /* `fine`, and p less 1 is given: what multiplies p saves its rounding */
FX_INLINE void vf_exp(const vf *x, vf magic, int fine, vf *y, vf *scale) {
    vf t[FX_NI], n[FX_NI], r[FX_NI], p[FX_NI];
    FX_KEEP(vf, log2e, vf_splat((float)FX_LOG2E));
    FX_FENCE(magic);
    FX_EACH(t, vf_fma(x[v], log2e, magic));
    FX_EACH(n, t[v] - magic);
    FX_KEEP(vf, ln2, vf_splat(-FX_LN2_HI_F));
    FX_EACH(r, vf_fma(n[v], ln2, x[v]));
    if (fine || !FX_FMA) FX_EACH(r, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), r[v]));
    FX_EACH(scale, (vf)((vi)t[v] << 23));
    FX_KEEP(vf, c5, vf_splat(0x1.6a2352p-10f));
    FX_KEEP(vf, c4, vf_splat(0x1.123a6cp-7f));
    FX_EACH(p, vf_fma(c5, r[v], c4));
    FX_KEEP(vf, c3, vf_splat(0x1.5558f4p-5f));
    FX_EACH(p, vf_fma(p[v], r[v], c3));
    FX_KEEP(vf, c2, vf_splat(0x1.555490p-3f));
    FX_EACH(p, vf_fma(p[v], r[v], c2));
    FX_KEEP(vf, c1, vf_splat(0x1.fffffcp-2f));
    FX_EACH(p, vf_fma(p[v], r[v], c1));
    FX_KEEP(vf, one, vf_splat(1.0f));
    if (FX_FMA) {
        FX_EACH(p, vf_fma(p[v], r[v], one));
        if (fine == FX_LESS_ONE) FX_EACH(p, p[v] * r[v]);
        else FX_EACH(p, vf_fma(p[v], r[v], one));
    } else { /* the small terms first: each product is rounded here */
        FX_EACH(p, (r[v] + r[v] * r[v] * p[v]));
        if (fine != FX_LESS_ONE) FX_EACH(p, (1.0f + p[v]));
    }
    FX_EACH(y, p[v]);
}

FX_INLINE void vd_exp(const vd *x, vd magic, int fine, vd *y, vd *scale) {
    vd t[FX_NI], n[FX_NI], r[FX_NI], p[FX_NI];
    FX_EACH(t, vd_fma(x[v], vd_splat(FX_LOG2E), magic));
    FX_EACH(n, t[v] - magic);
    FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    if (fine || !FX_FMA) FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_LO_D), r[v]));
    FX_EACH(p, vd_fma(vd_splat(0x1.ad7effbbd58f0p-26), r[v], vd_splat(0x1.28adce715d597p-22)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.71df262e0a285p-19)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.a01999adcf1f5p-16)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.a01a0129b3a35p-13)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.6c16c1844afeep-10)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.1111111127e85p-7)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55555555507f1p-5)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55555555554f9p-3)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.000000000000ap-1)));
    if (FX_FMA) {
        FX_EACH(p, vd_fma(p[v], r[v], vd_splat(1.0)));
        if (fine == FX_LESS_ONE) FX_EACH(p, p[v] * r[v]);
        else FX_EACH(p, vd_fma(p[v], r[v], vd_splat(1.0)));
    } else {
        FX_EACH(p, (r[v] + r[v] * r[v] * p[v]));
        if (fine != FX_LESS_ONE) FX_EACH(p, (1.0 + p[v]));
    }
    FX_EACH(scale, (vd)((vl)t[v] << 52));
    FX_EACH(y, p[v]);
}

/* ---- e^x as it is, of FX_NI vectors: clamped to where it is a normal number, or 0; a NaN stays ---- */
FX_INLINE void vf_terms(const vf *x, vf *e) {
    vf c[FX_NI], scale[FX_NI];
    FX_KEEP(vf, least, vf_splat(-87.95f));
    FX_EACH(c, vf_max(least, x[v]));
    FX_KEEP(vf, most, vf_splat(88.0f));
    FX_EACH(c, vf_min(most, c[v]));
    vf_exp(c, vf_splat(FX_MAGIC_F + 127.0f), 0, c, scale);
    FX_EACH(e, c[v] * scale[v]);
}
FX_INLINE void vd_terms(const vd *x, vd *e) {
    vd c[FX_NI], scale[FX_NI];
    FX_EACH(c, vd_min(vd_splat(709.0), vd_max(vd_splat(-709.0), x[v])));
    vd_exp(c, vd_splat(FX_MAGIC_D + 1023.0), 0, c, scale);
    FX_EACH(e, c[v] * scale[v]);
}
/* the same times 2^FX_LIFT, and lo, what its rounding lost, so that a term divided by the sum is a probability: where the
   sum is at least 1, a term that is below the normal numbers, and 0, belongs to a probability that is, too */
#define FX_LIFT_F 48
#define FX_LIFT_D 400
FX_INLINE void vf_lifted(const vf *x, vf *e, vf *lo) {
    vf c[FX_NI], scale[FX_NI];
    FX_EACH(c, vf_min(vf_splat(54.0f), vf_max(vf_splat(-121.2f), x[v])));
    vf_exp(c, vf_splat(FX_MAGIC_F + 127.0f + FX_LIFT_F), FX_LESS_ONE, c, scale);
    FX_EACH(lo, ((1.0f - (1.0f + c[v])) + c[v]) * scale[v]);
    FX_EACH(e, (1.0f + c[v]) * scale[v]);
}
FX_INLINE void vd_lifted(const vd *x, vd *e, vd *lo) {
    vd c[FX_NI], scale[FX_NI];
    FX_EACH(c, vd_min(vd_splat(400.0), vd_max(vd_splat(-986.2), x[v])));
    vd_exp(c, vd_splat(FX_MAGIC_D + 1023.0 + FX_LIFT_D), FX_LESS_ONE, c, scale);
    FX_EACH(lo, ((1.0 - (1.0 + c[v])) + c[v]) * scale[v]);
    FX_EACH(e, (1.0 + c[v]) * scale[v]);
}

/* The sum of the terms of FX_RUN = 8 vectors, `step` bytes apart, `n` of which are there; lanes that hold j + k in
   `label` leave out vector k. Written out, for loops over arrays of vectors stay in memory. */
#define FX_EIGHT(V, LOAD, TERMS, BUT) \
    V x[8], e[8]; \
    enum { q = FX_NI < 4 ? FX_NI : 4 }; \
    x[0] = LOAD(0); x[1] = LOAD(1); x[2] = LOAD(2); x[3] = LOAD(3); \
    x[4] = LOAD(4); x[5] = LOAD(5); x[6] = LOAD(6); x[7] = LOAD(7); \
    TERMS(x, e); if (q < 4) TERMS(x + 2, e + 2); \
    if (label) { \
        e[0] = BUT(label, j, e[0]); e[1] = BUT(label, j + 1, e[1]); \
        e[2] = BUT(label, j + 2, e[2]); e[3] = BUT(label, j + 3, e[3]); \
    } \
    if (n <= 4) return (e[0] + e[1]) + (e[2] + e[3]); /* the others are 0 */ \
    TERMS(x + 4, e + 4); if (q < 4) TERMS(x + 6, e + 6); \
    if (label) { \
        e[4] = BUT(label, j + 4, e[4]); e[5] = BUT(label, j + 5, e[5]); \
        e[6] = BUT(label, j + 6, e[6]); e[7] = BUT(label, j + 7, e[7]); \
    } \
    return ((e[0] + e[4]) + (e[1] + e[5])) + ((e[2] + e[6]) + (e[3] + e[7]))
FX_INLINE vf vf_load_kind(const char *p, int kind) { /* kind: a constant, 0 float32, 1 float16, 2 bfloat16 */
    return kind == 1 ? vf_load_f16(p) : kind == 2 ? vf_load_bf16(p) : vf_load(p);
}
FX_INLINE vf vf_eight(const char *p, ptrdiff_t step, int kind, int n, const int32_t *label, int32_t j) {
#define FX_AT(k) (k < n ? vf_load_kind(p + k * step, kind) : vf_splat(-INFINITY))
    FX_EIGHT(vf, FX_AT, vf_terms, vf_but);
#undef FX_AT
}
FX_INLINE vd vd_eight(const char *p, ptrdiff_t step, int n, const int64_t *label, int64_t j) {
#define FX_AT(k) (k < n ? vd_load(p + k * step) : vd_splat(-INFINITY))
    FX_EIGHT(vd, FX_AT, vd_terms, vd_but);
#undef FX_AT
}

#include "sums.h"

/* ---- rows of up to 8 contiguous floats into columns: b[k * step + i] = element k of row i, i < 8. Nothing behind
   the last class is read: masked loads touch no other memory (Intel SDM, VMASKMOV). ---- */
#define FX_TILE 8
#if defined(__AVX__)
#define FX_TILES 1
FX_INLINE void fx_tile(const char *p, ptrdiff_t stride, int classes, float *b, ptrdiff_t step) {
    static const int32_t masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    __m256i mask = _mm256_loadu_si256((const __m256i *)(masks + 8 - classes));
    __m256 x[8], y[8];
    for (int i = 0; i < 8; i++) {
        x[i] = _mm256_maskload_ps((const float *)(p + i * stride), mask);
        fx_prefetch(p + i * stride + FX_PREFETCH);
    }
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
        x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
        x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
        x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
    }
    for (int k = 0; k < 4; k++) {
        if (k < classes) _mm256_storeu_ps(b + k * step, _mm256_permute2f128_ps(x[k], x[k + 4], 0x20));
        if (k + 4 < classes) _mm256_storeu_ps(b + (k + 4) * step, _mm256_permute2f128_ps(x[k], x[k + 4], 0x31));
    }
}
#else
#define FX_TILES 0
FX_INLINE void fx_tile(const char *p, ptrdiff_t stride, int classes, float *b, ptrdiff_t step) {
    (void)p; (void)stride; (void)classes; (void)b; (void)step;
}
#endif

/* ---- sums of FX_TILE rows of n terms, `row` terms apart: term k goes to lane k % 8, and the lanes are added as
   ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)); all that is added to s, in float64, for float64 terms to the pair s, lo.
   7 terms behind the last are read, whatever they are. ---- */
#if defined(__AVX__)
static const int32_t fx_first_f[16] = {-1, -1, -1, -1, -1, -1, -1, -1}; /* the first n: from 8 - n on */
static const int64_t fx_first_d[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
/* the instructions vhaddps and vhaddpd take twice the time (Zen 3) */
FX_INLINE __m256 fx_hadd_f32(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}
FX_INLINE __m256d fx_hadd_f64(__m256d a, __m256d b) {
    return _mm256_add_pd(_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
}
FX_INLINE void fx_row_sums_f32(const float *e, ptrdiff_t row, ptrdiff_t n, double *s) {
    __m256 x[8], y, mask = _mm256_loadu_ps((const float *)fx_first_f + 8 - n % 8);
    ptrdiff_t k = n < 8 ? 0 : 8;
    for (int i = 0; i < 8; i++) x[i] = _mm256_loadu_ps(e + i * row);
    for (; k + 8 <= n; k += 8)
        for (int i = 0; i < 8; i++) x[i] = _mm256_add_ps(x[i], _mm256_loadu_ps(e + i * row + k));
    if (n < 8)
        for (int i = 0; i < 8; i++) x[i] = _mm256_and_ps(x[i], mask);
    else if (k < n)
        for (int i = 0; i < 8; i++) x[i] = _mm256_add_ps(x[i], _mm256_and_ps(_mm256_loadu_ps(e + i * row + k), mask));
    x[0] = fx_hadd_f32(fx_hadd_f32(x[0], x[1]), fx_hadd_f32(x[2], x[3]));
    x[4] = fx_hadd_f32(fx_hadd_f32(x[4], x[5]), fx_hadd_f32(x[6], x[7]));
    y = _mm256_add_ps(_mm256_permute2f128_ps(x[0], x[4], 0x20), _mm256_permute2f128_ps(x[0], x[4], 0x31));
    _mm256_storeu_pd(s, _mm256_add_pd(_mm256_loadu_pd(s), _mm256_cvtps_pd(_mm256_castps256_ps128(y))));
    _mm256_storeu_pd(s + 4, _mm256_add_pd(_mm256_loadu_pd(s + 4), _mm256_cvtps_pd(_mm256_extractf128_ps(y, 1))));
}
FX_INLINE void fx_row_sums_f64(const double *e, ptrdiff_t row, ptrdiff_t n, double *s, double *lo) {
    ptrdiff_t last = n % 4, k;
    __m256d mask = _mm256_loadu_pd((const double *)fx_first_d + 8 - last);
    for (int h = 0; h < 8; h += 4, e += 4 * row, s += 4, lo += 4) {
        __m256d x[2][4], a, t, b;
        for (int i = 0; i < 4; i++) x[0][i] = x[1][i] = _mm256_setzero_pd();
        for (k = 0; k + 8 <= n; k += 8)
            for (int i = 0; i < 4; i++) {
                x[0][i] = _mm256_add_pd(x[0][i], _mm256_loadu_pd(e + i * row + k));
                x[1][i] = _mm256_add_pd(x[1][i], _mm256_loadu_pd(e + i * row + k + 4));
            }
        if (k + 4 <= n) {
            for (int i = 0; i < 4; i++) x[0][i] = _mm256_add_pd(x[0][i], _mm256_loadu_pd(e + i * row + k));
            if (last)
                for (int i = 0; i < 4; i++)
                    x[1][i] = _mm256_add_pd(x[1][i], _mm256_and_pd(_mm256_loadu_pd(e + i * row + k + 4), mask));
        } else if (last)
            for (int i = 0; i < 4; i++)
                x[0][i] = _mm256_add_pd(x[0][i], _mm256_and_pd(_mm256_loadu_pd(e + i * row + k), mask));
        for (int i = 0; i < 2; i++) {
            a = fx_hadd_f64(x[i][0], x[i][1]);
            b = fx_hadd_f64(x[i][2], x[i][3]);
            x[i][0] = _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31));
        }
        x[0][0] = _mm256_add_pd(x[0][0], x[1][0]);
        a = _mm256_loadu_pd(s); /* TwoSum, as in vd_flush */
        t = _mm256_add_pd(a, x[0][0]);
        b = _mm256_sub_pd(t, a);
        a = _mm256_add_pd(_mm256_sub_pd(a, _mm256_sub_pd(t, b)), _mm256_sub_pd(x[0][0], b));
        _mm256_storeu_pd(lo, _mm256_add_pd(_mm256_loadu_pd(lo), a));
        _mm256_storeu_pd(s, t);
    }
}
#else
#define FX_ROW_SUM(T) /* y, of one row */ \
    T x[8] = {0}, y; \
    for (ptrdiff_t k = 0; k < n; k++) x[k % 8] += e[i * row + k]; \
    y = ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
FX_INLINE void fx_row_sums_f32(const float *e, ptrdiff_t row, ptrdiff_t n, double *s) {
    for (int i = 0; i < 8; i++) { FX_ROW_SUM(float) s[i] += y; }
}
FX_INLINE void fx_row_sums_f64(const double *e, ptrdiff_t row, ptrdiff_t n, double *s, double *lo) {
    for (int i = 0; i < 8; i++) {
        FX_ROW_SUM(double)
        double a = s[i], t = a + y, b = t - a;
        lo[i] += (a - (t - b)) + (y - b);
        s[i] = t;
    }
}
#endif

/* ---- for what is put together by hand from an exponential's parts (pairs.pxi) ---- */
FX_INLINE vf vf_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
FX_INLINE vd vd_abs(vd x) { return (vd)((vl)x & 0x7fffffffffffffffLL); }
FX_INLINE vf vf_no_nan(vf x) { return (vf)((vi)(x == x) & (vi)x); } /* 0 for NaN */
FX_INLINE vd vd_no_nan(vd x) { return (vd)((vl)(x == x) & (vl)x); }
FX_INLINE vf vf_scale(vf t) { return (vf)((vi)t << 23); } /* 2^(n - c) from t = n + magic */
FX_INLINE vd vd_scale(vd t) { return (vd)((vl)t << 52); }
/* q(r) of e^r = 1 + r + r^2 q(r), |r| <= ln2 / 2: the polynomial of vf_exp and vd_exp */
FX_INLINE vf vf_exp_tail(vf r) {
    vf p = vf_fma(vf_splat(0x1.6a2352p-10f), r, vf_splat(0x1.123a6cp-7f));
    p = vf_fma(p, r, vf_splat(0x1.5558f4p-5f));
    p = vf_fma(p, r, vf_splat(0x1.555490p-3f));
    return vf_fma(p, r, vf_splat(0x1.fffffcp-2f));
}
FX_INLINE vd vd_exp_tail(vd r) {
    vd p = vd_fma(vd_splat(0x1.ad7effbbd58f0p-26), r, vd_splat(0x1.28adce715d597p-22));
    p = vd_fma(p, r, vd_splat(0x1.71df262e0a285p-19));
    p = vd_fma(p, r, vd_splat(0x1.a01999adcf1f5p-16));
    p = vd_fma(p, r, vd_splat(0x1.a01a0129b3a35p-13));
    p = vd_fma(p, r, vd_splat(0x1.6c16c1844afeep-10));
    p = vd_fma(p, r, vd_splat(0x1.1111111127e85p-7));
    p = vd_fma(p, r, vd_splat(0x1.55555555507f1p-5));
    p = vd_fma(p, r, vd_splat(0x1.55555555554f9p-3));
    return vd_fma(p, r, vd_splat(0x1.000000000000ap-1));
}
/* q(z^2) of log((1 + z) / (1 - z)) = 2 z + z^3 q(z^2), 0 <= z <= 1/3 (tools/minimax.py: 4.8e-9 and 5.2e-17) */
FX_INLINE vf vf_artanh_tail(vf z2) {
    vf p = vf_fma(vf_splat(0x1.1efa3ap-2f), z2, vf_splat(0x1.1eb5bcp-2f));
    p = vf_fma(p, z2, vf_splat(0x1.99d280p-2f));
    return vf_fma(p, z2, vf_splat(0x1.555500p-1f));
}
FX_INLINE vd vd_artanh_tail(vd z2) {
    vd p = vd_fma(vd_splat(0x1.6ac67a55a39c6p-3), z2, vd_splat(0x1.963079a0ee08ep-4));
    p = vd_fma(p, z2, vd_splat(0x1.162f17606603ap-3));
    p = vd_fma(p, z2, vd_splat(0x1.3aab262732235p-3));
    p = vd_fma(p, z2, vd_splat(0x1.74622b336253ep-3));
    p = vd_fma(p, z2, vd_splat(0x1.c71c4c0295016p-3));
    p = vd_fma(p, z2, vd_splat(0x1.24924973295d8p-2));
    p = vd_fma(p, z2, vd_splat(0x1.99999998fc0f2p-2));
    return vd_fma(p, z2, vd_splat(0x1.5555555555898p-1));
}

/* ---- flush: lanes into a wider sum ---- */
FX_INLINE void vf_flush(double *hi, vf x) { /* float32 lanes into float64 ones */
    vd_store(hi, vd_load(hi) + vf_lower(x));
    vd_store(hi + FX_VD, vd_load(hi + FX_VD) + vf_upper(x));
}

/* e of 2^e <= x < 2^(e + 1), for normal x > 0 (no conversion of 64-bit integers: see vd_split) */
FX_INLINE vd vd_exponent(vd x) {
    typedef uint64_t vul __attribute__((vector_size(FX_VBYTES)));
    return (vd)(((vul)x >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
}

FX_INLINE vf vf_power(vf e) { /* 2^e for integers e <= 127, 0 below -126 */
    vf t = vf_max(vf_splat(-127.0f), e) + (FX_MAGIC_F + 127.0f);
    return (vf)((vi)t << 23);
}
FX_INLINE vd vd_power(vd e) {
    vd t = vd_max(vd_splat(-1023.0), e) + (FX_MAGIC_D + 1023.0);
    return (vd)((vl)t << 52);
}

/* the same for lanes with references of their own: the sum so far is scaled first */
FX_INLINE void vf_scale_flush(double *hi, vf factor, vf x) {
    vd_store(hi, vd_load(hi) * vf_lower(factor) + vf_lower(x));
    vd_store(hi + FX_VD, vd_load(hi + FX_VD) * vf_upper(factor) + vf_upper(x));
}

FX_INLINE void vd_flush(double *hi, double *lo, vd x) { /* TwoSum (Knuth, TAOCP 2, 4.2.2): the error is kept */
    vd a = vd_load(hi), s = a + x, b = s - a;
    vd_store(lo, vd_load(lo) + ((a - (s - b)) + (x - b)));
    vd_store(hi, s);
}

#endif
