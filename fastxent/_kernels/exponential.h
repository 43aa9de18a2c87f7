/* The exponential of vectors, and what is put together from its parts: sums of terms, wider sums, powers of two.
   The primitives are those of simd.h. */
#ifndef FASTXENT_EXPONENTIAL_H
#define FASTXENT_EXPONENTIAL_H

#include "simd.h"

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
#elif defined(__AVX512F__)
#define FX_REGISTER "+v" /* all 32 */
#else
#define FX_REGISTER "+x"
#endif
#if FX_VBYTES == 64 && !defined(__AVX512F__)
#define FX_FENCE(x) (void)0 /* a test level: its vectors are in no one register */
#else
#define FX_FENCE(x) __asm__ volatile("" : FX_REGISTER(x))
#endif
/* a constant that several operations want: in a register, loaded once, for Zen 3 loads two vectors a cycle at most */
#if defined(__AVX512F__) && FX_VBYTES == 64 /* 32 registers: there they stay by themselves */
#define FX_KEEP(T, name, value) const T name = value
#else
#define FX_KEEP(T, name, value) T name = value; FX_FENCE(name)
#endif
/* dst[v] = expression for v = 0 ... n - 1, written out: with a loop GCC 12 keeps the arrays in memory; n <= 4, a constant */
#define FX_ONE(i, dst, expression) { enum { v = i }; dst[v] = expression; FX_FENCE(dst[v]); }
#define FX_EACH_OF(n, dst, expression) \
    do { FX_ONE(0, dst, expression) FX_ONE(1, dst, expression) \
         if (n > 2) { FX_ONE(2, dst, expression) FX_ONE(3, dst, expression) } } while (0)
#define FX_EACH(dst, expression) FX_EACH_OF(FX_NI, dst, expression)

/* x in (FX_NI,), magic in; y = p, scale out (FX_NI,). Without `fine` the second constant of ln2 is left out: p is then
   e^(x + n lo), which a sum of exponentials mends at its end by one factor e^(-m lo), m the n of its largest term; what
   remains, (n - m) lo, is below 0.5 ULP of a term for 20 nats under the largest, and those further down weigh nothing. */
#define FX_LESS_ONE 2 /* `fine`, and p less 1 is given: what multiplies p saves its rounding */
FX_INLINE void vf_exp_of(int count, const vf *x, vf magic, int fine, vf *y, vf *scale) {
    vf t[4], n[4], r[4], p[4];
    FX_KEEP(vf, log2e, vf_splat((float)FX_LOG2E));
    FX_FENCE(magic);
    FX_EACH_OF(count, t, vf_fma(x[v], log2e, magic));
    FX_EACH_OF(count, n, t[v] - magic);
    FX_KEEP(vf, ln2, vf_splat(-FX_LN2_HI_F));
    FX_EACH_OF(count, r, vf_fma(n[v], ln2, x[v]));
    if (fine || !FX_FMA) FX_EACH_OF(count, r, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), r[v]));
    FX_EACH_OF(count, scale, (vf)((vi)t[v] << 23));
    FX_KEEP(vf, c5, vf_splat(0x1.6a2352p-10f));
    FX_KEEP(vf, c4, vf_splat(0x1.123a6cp-7f));
    FX_EACH_OF(count, p, vf_fma(c5, r[v], c4));
    FX_KEEP(vf, c3, vf_splat(0x1.5558f4p-5f));
    FX_EACH_OF(count, p, vf_fma(p[v], r[v], c3));
    FX_KEEP(vf, c2, vf_splat(0x1.555490p-3f));
    FX_EACH_OF(count, p, vf_fma(p[v], r[v], c2));
    FX_KEEP(vf, c1, vf_splat(0x1.fffffcp-2f));
    FX_EACH_OF(count, p, vf_fma(p[v], r[v], c1));
    FX_KEEP(vf, one, vf_splat(1.0f));
    if (FX_FMA) {
        FX_EACH_OF(count, p, vf_fma(p[v], r[v], one));
        if (fine == FX_LESS_ONE) FX_EACH_OF(count, p, p[v] * r[v]);
        else FX_EACH_OF(count, p, vf_fma(p[v], r[v], one));
    } else { /* the small terms first: each product is rounded here */
        FX_EACH_OF(count, p, (r[v] + r[v] * r[v] * p[v]));
        if (fine != FX_LESS_ONE) FX_EACH_OF(count, p, (1.0f + p[v]));
    }
    FX_EACH_OF(count, y, p[v]);
}
FX_INLINE void vf_exp(const vf *x, vf magic, int fine, vf *y, vf *scale) { vf_exp_of(FX_NI, x, magic, fine, y, scale); }

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
FX_INLINE void vf_parts_of(int count, const vf *x, vf *p, vf *scale) { /* as a product */
    vf c[4];
    FX_KEEP(vf, least, vf_splat(-87.95f));
    FX_EACH_OF(count, c, vf_max(least, x[v]));
    FX_KEEP(vf, most, vf_splat(88.0f));
    FX_EACH_OF(count, c, vf_min(most, c[v]));
    vf_exp_of(count, c, vf_splat(FX_MAGIC_F + 127.0f), 0, p, scale);
}
FX_INLINE void vf_terms(const vf *x, vf *e) {
    vf p[FX_NI], scale[FX_NI];
    vf_parts_of(FX_NI, x, p, scale);
    FX_EACH(e, p[v] * scale[v]);
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

/* ---- for what is put together by hand from an exponential's parts (pairs.pxi) ---- */
FX_INLINE vf vf_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
FX_INLINE vd vd_abs(vd x) { return (vd)((vl)x & 0x7fffffffffffffffLL); }
FX_INLINE vf vf_less(vf x) { return (vf)((vi)x | INT32_MIN); } /* -|x| */
FX_INLINE vd vd_less(vd x) { return (vd)((vl)x | INT64_MIN); }
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

/* log(1 + x) = x + x^2 q(x) for 0 <= x <= 1 (tools/minimax.py: 1.9e-8): no division, and no square of a small x, which
   would be subnormal: that takes some CPUs a hundred cycles a vector. y is another array than x. */
FX_INLINE void vf_log1p_of(int count, const vf *x, vf *y) {
    FX_EACH_OF(count, y, vf_fma(vf_splat(-0x1.d67140p-9f), x[v], vf_splat(0x1.5fb89ep-6f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(-0x1.ec9b3ap-5f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(0x1.c034d4p-4f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(-0x1.3dd3b0p-3f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(0x1.949a48p-3f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(-0x1.ff69d6p-3f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(0x1.555180p-2f)));
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], vf_splat(-0x1.fffff6p-2f)));
    FX_EACH_OF(count, y, y[v] * x[v]);
    FX_EACH_OF(count, y, vf_fma(y[v], x[v], x[v]));
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
