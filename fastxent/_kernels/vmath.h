/* log, log1p, expm1 and logit of FX_NI vectors side by side, in both working precisions (exponential.h has e^x).

   Error, where tests/test_numerics.py measures it against mpmath: below 1 ULP in float64 and in float32 with a fused
   multiply-add, below 2 on the SSE2 baseline. Infinities, NaN, signed zeros and subnormals as in the C library. In
   float64 they are the functions of elementary.pxi, operation by operation, and give their bits.

   log x = e log 2 + log(1 + f) for x = (1 + f) 2^e with sqrt(1/2) <= 1 + f < sqrt(2): f is exact, and what log(1 + f)
   has beside it is small, so that its rounding weighs little. The first constant of log 2 has trailing zeros: its
   product with e is exact. Coefficients: tools/minimax.py; in float32 the polynomials are off by 4.6e-9 (log(1 + f))
   and 2.6e-9 (e^r - 1), relative.                                                                                   */
#ifndef FASTXENT_VMATH_H
#define FASTXENT_VMATH_H

#include "exponential.h"

typedef uint64_t vul __attribute__((vector_size(FX_VBYTES)));

#define FX_LN2_15 0x1.62e4p-1f /* 15 bits, then the rest of log 2 */
#define FX_LN2_REST_F 0x1.7f7d1cp-20f

FX_INLINE vf vf_only(vi mask, vf x) { return (vf)(mask & (vi)x); }
FX_INLINE vd vd_only(vl mask, vd x) { return (vd)(mask & (vl)x); }

/* ---- x = (1 + f) 2^e, for finite x > 0: in (FX_NI,), out (FX_NI,). Others come in, too, and give anything: so integers
   without sign, whose overflow is defined. ---- */
FX_INLINE void vf_split(const vf *x, vf *f, vf *e) {
    vi small[FX_NI], top[FX_NI];
    vf m[FX_NI];
    FX_EACH(small, (vi)(x[v] < 0x1p-126f));
    FX_EACH(m, vf_pick(small[v], x[v] * 0x1p32f, x[v]));
    /* the bits of sqrt(1/2) are 0x3f3504f3: the exponent of m / sqrt(1/2), rounded down */
    FX_EACH(top, (vi)((vu)m[v] - 0x3f3504f3u) >> 23);
    FX_EACH(e, (__builtin_convertvector(top[v], vf) - vf_only(small[v], vf_splat(32.0f))));
    FX_EACH(f, (vf)((vu)m[v] - ((vu)top[v] << 23)) - 1.0f);
}

FX_INLINE void vd_split(const vd *x, vd *f, vd *e) {
    vl small[FX_NI];
    vul top[FX_NI];
    vd m[FX_NI];
    FX_EACH(small, (vl)(x[v] < 0x1p-1022));
    FX_EACH(m, vd_pick(small[v], x[v] * 0x1p54, x[v]));
    /* AVX2 has neither an arithmetic shift of 64 bits nor their conversion: shifted up by 1024 binades, and made a
       number as the low bits of 2^52 */
    FX_EACH(top, ((vul)m[v] - 0x3fe6a09e667f3bcdu + 0x4000000000000000u) >> 52);
    FX_EACH(e, ((vd)(top[v] | 0x4330000000000000u) - (0x1p52 + 1024.0)) - vd_only(small[v], vd_splat(54.0)));
    FX_EACH(f, (vd)((vul)m[v] - (top[v] << 52) + 0x4000000000000000u) - 1.0);
}

/* ---- log(1 + f) - f, for sqrt(1/2) <= 1 + f <= sqrt(2) ---- */
FX_INLINE void vf_log_tail(const vf *f, vf *y) {
    vf q[FX_NI];
    FX_EACH(q, vf_fma(vf_splat(-0x1.382feep-4f), f[v], vf_splat(0x1.085e6ap-3f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(-0x1.0f4230p-3f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(0x1.226f16p-3f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(-0x1.5425f0p-3f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(0x1.99a406p-3f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(-0x1.00042ep-2f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(0x1.555550p-2f)));
    FX_EACH(q, vf_fma(q[v], f[v], vf_splat(-0x1.fffff8p-2f)));
    FX_EACH(y, f[v] * f[v] * q[v]);
}

FX_INLINE void vd_log_tail(const vd *f, vd *y) { /* log_reduced of elementary.pxi, and its derivation */
    vd s[FX_NI], z[FX_NI], h[FX_NI], q[FX_NI];
    FX_EACH(s, f[v] / (2.0 + f[v]));
    FX_EACH(z, s[v] * s[v]);
    FX_EACH(q, vd_fma(vd_splat(0.14797507719057545), z[v], vd_splat(0.15313903245641833)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0.18183569739853522)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0.2222219847598521)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0.2857142874326269)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0.3999999999941109)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0.6666666666666735)));
    FX_EACH(h, 0.5 * f[v] * f[v]);
    FX_EACH(q, vd_fma(z[v], q[v], h[v]));
    FX_EACH(y, vd_fma(s[v], q[v], -h[v]));
}

/* log((1 + f + lost) 2^e), |lost| an ULP or so */
FX_INLINE void vf_log_sum(const vf *f, const vf *lost, const vf *e, vf *y) {
    vf tail[FX_NI];
    vf_log_tail(f, tail);
    FX_EACH(tail, vf_fma(e[v], vf_splat(FX_LN2_REST_F), lost[v] + tail[v]));
    FX_EACH(y, e[v] * FX_LN2_15 + (f[v] + tail[v]));
}

FX_INLINE void vd_log_sum(const vd *f, const vd *lost, const vd *e, vd *y) {
    vd tail[FX_NI];
    vd_log_tail(f, tail);
    FX_EACH(tail, vd_fma(e[v], vd_splat(FX_LN2_REST), lost[v] + tail[v]));
    FX_EACH(y, e[v] * FX_LN2_33 + (f[v] + tail[v]));
}

/* what the logarithm of an infinite, negative or zero number is, or of NaN, in the place of y */
FX_INLINE vf vf_log_special(vf x, vf y) {
    y = vf_pick((vi)(x > 0.0f) & (vi)(x < INFINITY), y, x);
    y = vf_pick((vi)(x == 0.0f), vf_splat(-INFINITY), y);
    return vf_pick((vi)(x < 0.0f), vf_splat(NAN), y);
}
FX_INLINE vd vd_log_special(vd x, vd y) {
    y = vd_pick((vl)(x > 0.0) & (vl)(x < INFINITY), y, x);
    y = vd_pick((vl)(x == 0.0), vd_splat(-INFINITY), y);
    return vd_pick((vl)(x < 0.0), vd_splat(NAN), y);
}

/* ---- log x ---- */
FX_INLINE void vf_log(const vf *x, vf *y) {
    vf f[FX_NI], e[FX_NI], none[FX_NI], z[FX_NI];
    for (int i = 0; i < FX_NI; i++) none[i] = vf_splat(-0.0f);
    vf_split(x, f, e);
    vf_log_sum(f, none, e, z);
    FX_EACH(y, vf_log_special(x[v], z[v]));
}

FX_INLINE void vd_log(const vd *x, vd *y) {
    vd f[FX_NI], e[FX_NI], none[FX_NI], z[FX_NI];
    for (int i = 0; i < FX_NI; i++) none[i] = vd_splat(-0.0);
    vd_split(x, f, e);
    vd_log_sum(f, none, e, z);
    FX_EACH(y, vd_log_special(x[v], z[v]));
}

/* ---- log(1 + x): near 0 f is x itself; elsewhere u = 1 + x, and what that sum lost, relative to u ---- */
FX_INLINE void vf_log1p(const vf *x, vf *y) {
    vf u[FX_NI], f[FX_NI], e[FX_NI], lost[FX_NI], z[FX_NI];
    vi far[FX_NI];
    FX_EACH(u, 1.0f + x[v]);
    FX_EACH(far, ~((vi)(x[v] > -0.2928f) & (vi)(x[v] < 0.4142f)));
    FX_EACH(lost, vf_pick((vi)(x[v] > 1.0f), 1.0f - (u[v] - x[v]), x[v] - (u[v] - 1.0f)));
    FX_EACH(lost, vf_only(far[v], lost[v] / u[v]));
    vf_split(u, f, e);
    FX_EACH(e, vf_only(far[v], e[v]));
    FX_EACH(f, vf_pick(far[v], f[v], x[v]));
    vf_log_sum(f, lost, e, z);
    FX_EACH(z, vf_log_special(u[v], z[v]));
    FX_EACH(y, vf_pick((vi)(vf_abs(x[v]) < 1e-9f), x[v], z[v]));
}

FX_INLINE void vd_log1p(const vd *x, vd *y) {
    vd u[FX_NI], f[FX_NI], e[FX_NI], lost[FX_NI], z[FX_NI];
    vl far[FX_NI];
    FX_EACH(u, 1.0 + x[v]);
    FX_EACH(far, ~((vl)(x[v] > -0.2928) & (vl)(x[v] < 0.4142)));
    FX_EACH(lost, vd_pick((vl)(x[v] > 1.0), 1.0 - (u[v] - x[v]), x[v] - (u[v] - 1.0)));
    FX_EACH(lost, vd_only(far[v], lost[v] / u[v]));
    vd_split(u, f, e);
    FX_EACH(e, vd_only(far[v], e[v]));
    FX_EACH(f, vd_pick(far[v], f[v], x[v]));
    vd_log_sum(f, lost, e, z);
    FX_EACH(z, vd_log_special(u[v], z[v]));
    FX_EACH(y, vd_pick((vl)(vd_abs(x[v]) < 1.4e-17), x[v], z[v]));
}

/* ---- log(1 + x) for -1/2 <= x <= 1, with no case to tell from another: s = x / (2 + x), 2 artanh(s) = 2 s + s^3 q(s^2)
   and 2 s = x - s x. Below 2 ULP. ---- */
FX_INLINE void vf_log1p_near(const vf *x, vf *y) {
    vf s[FX_NI], z[FX_NI], q[FX_NI];
    FX_EACH(s, x[v] / (2.0f + x[v]));
    FX_EACH(z, s[v] * s[v]);
    FX_EACH(q, vf_artanh_tail(z[v]));
    FX_EACH(q, vf_fma(-z[v], q[v], x[v]));
    FX_EACH(y, vf_fma(-s[v], q[v], x[v]));
}

FX_INLINE void vd_log1p_near(const vd *x, vd *y) {
    vd s[FX_NI], z[FX_NI], q[FX_NI];
    FX_EACH(s, x[v] / (2.0 + x[v]));
    FX_EACH(z, s[v] * s[v]);
    FX_EACH(q, vd_artanh_tail(z[v]));
    FX_EACH(q, vd_fma(-z[v], q[v], x[v]));
    FX_EACH(y, vd_fma(-s[v], q[v], x[v]));
}

/* ---- 2^64 e^-|x|, and log(1 + e^-|x|): FX_NE vectors side by side, for each is a chain of some forty operations ---- */
#define FX_NE 4
FX_INLINE void vf_decayed(const vf *x, vf *e) {
    vf t[FX_NE], scale[FX_NE];
    /* 2^-191: below it the scale's exponent would not be 0 */
    FX_EACH_OF(FX_NE, t, vf_max(vf_splat(-132.3f), vf_less(x[v])));
    vf_exp_of(FX_NE, t, vf_splat(FX_MAGIC_F + 127.0f + 64.0f), 1, t, scale);
    FX_EACH_OF(FX_NE, e, t[v] * scale[v]);
}

FX_INLINE void vd_decayed(const vd *x, vd *e) {
    vd t[FX_NE], scale[FX_NE];
    FX_EACH_OF(FX_NE, t, vd_max(vd_splat(-753.4), vd_less(x[v])));
    for (int h = 0; h < FX_NE; h += FX_NI) vd_exp(t + h, vd_splat(FX_MAGIC_D + 1023.0 + 64.0), 1, t + h, scale + h);
    FX_EACH_OF(FX_NE, e, t[v] * scale[v]);
}

FX_INLINE void vf_softplus(const vf *x, vf *e, vf *y) {
    vf t[FX_NE];
    vf_decayed(x, e);
    FX_EACH_OF(FX_NE, t, e[v] * 0x1p-64f);
    vf_log1p_of(FX_NE, t, y);
}

FX_INLINE void vd_softplus(const vd *x, vd *e, vd *y) {
    vd t[FX_NE];
    vd_decayed(x, e);
    FX_EACH_OF(FX_NE, t, e[v] * 0x1p-64);
    for (int h = 0; h < FX_NE; h += FX_NI) vd_log1p_near(t + h, y + h);
}

/* l + ((x >= 0) - target) x; an infinite x on the right side costs nothing */
FX_INLINE void vf_binary(const vf *x, const vf *target, const vf *l, vf *y) {
    vf d[FX_NE], t[FX_NE];
    FX_EACH_OF(FX_NE, d, vf_only((vi)(x[v] >= 0.0f), vf_splat(1.0f)) - target[v]);
    FX_EACH_OF(FX_NE, t, vf_only((vi)(d[v] != 0.0f), x[v]));
    FX_EACH_OF(FX_NE, y, vf_fma(d[v], t[v], l[v]));
}

FX_INLINE void vd_binary(const vd *x, const vd *target, const vd *l, vd *y) {
    vd d[FX_NE], t[FX_NE];
    FX_EACH_OF(FX_NE, d, vd_only((vl)(x[v] >= 0.0), vd_splat(1.0)) - target[v]);
    FX_EACH_OF(FX_NE, t, vd_only((vl)(d[v] != 0.0), x[v]));
    FX_EACH_OF(FX_NE, y, vd_fma(d[v], t[v], l[v]));
}

/* what the sum s = a + b lost (Knuth, TAOCP 2, 4.2.2) */
FX_INLINE vf vf_lost(vf a, vf b, vf s) { vf t = s - a; return (a - (s - t)) + (b - t); }
FX_INLINE vd vd_lost(vd a, vd b, vd s) { vd t = s - a; return (a - (s - t)) + (b - t); }

/* ---- e^x - 1 = 2^n (1 + r + p) - 1, with r = x - n log 2 and p = e^r - 1 - r. 2^n r is exact: 2^n - 1 + 2^n r is taken
   as a sum with its errors, to which the small terms are added. Where 2^n is out of range half of it is taken, and the
   result doubled. ---- */
FX_INLINE void vf_expm1(const vf *x, vf *y) {
    vf n[FX_NI], r[FX_NI], lo[FX_NI], p[FX_NI], a[FX_NI], b[FX_NI], s[FX_NI], scale[FX_NI];
    vi over[FX_NI];
    FX_EACH(n, (x[v] * (float)FX_LOG2E + FX_MAGIC_F) - FX_MAGIC_F);
    FX_EACH(a, vf_fma(n[v], vf_splat(-FX_LN2_HI_F), x[v]));
    FX_EACH(b, n[v] * -FX_LN2_LO_F);
    FX_EACH(r, a[v] + b[v]);
    FX_EACH(lo, (a[v] - r[v]) + b[v]);
    FX_EACH(p, vf_fma(vf_splat(0x1.a1a218p-13f), r[v], vf_splat(0x1.6d7528p-10f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.111090p-7f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.5554aep-5f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.555556p-3f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0.5f)));
    FX_EACH(a, r[v] * r[v]);
    FX_EACH(b, vf_fma(r[v], r[v], -a[v]));
    FX_EACH(p, vf_fma(a[v], p[v], vf_fma(b[v], p[v], lo[v])));
    FX_EACH(over, (vi)(n[v] > 127.0f));
    FX_EACH(n, n[v] - vf_only(over[v], vf_splat(1.0f)));
    FX_EACH(scale, (vf)((vi)(n[v] + (FX_MAGIC_F + 127.0f)) << 23));
    FX_EACH(a, scale[v] - 1.0f);
    FX_EACH(lo, vf_lost(scale[v], vf_splat(-1.0f), a[v]));
    FX_EACH(b, scale[v] * r[v]);
    FX_EACH(s, a[v] + b[v]);
    FX_EACH(lo, vf_lost(a[v], b[v], s[v]) + lo[v]);
    FX_EACH(s, s[v] + vf_fma(scale[v], p[v], lo[v]));
    FX_EACH(s, s[v] + vf_only(over[v], s[v]));
    FX_EACH(s, vf_pick((vi)(x[v] > 89.0f), vf_splat(INFINITY), s[v]));
    FX_EACH(s, vf_pick((vi)(x[v] < -18.0f), vf_splat(-1.0f), s[v]));
    FX_EACH(y, vf_pick((vi)(vf_abs(x[v]) < 1e-30f), x[v], s[v]));
}

FX_INLINE void vd_expm1(const vd *x, vd *y) {
    vd n[FX_NI], r[FX_NI], lo[FX_NI], p[FX_NI], a[FX_NI], b[FX_NI], s[FX_NI], scale[FX_NI];
    vl over[FX_NI];
    FX_EACH(n, (x[v] * FX_LOG2E + FX_MAGIC_D) - FX_MAGIC_D);
    FX_EACH(a, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    FX_EACH(b, n[v] * -FX_LN2_LO_D);
    FX_EACH(r, a[v] + b[v]);
    FX_EACH(lo, (a[v] - r[v]) + b[v]);
    FX_EACH(p, vd_fma(vd_splat(2.4999962752161227e-08), r[v], vd_splat(2.7630378614888184e-07)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(2.7557587350023017e-06)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(2.4801492762837084e-05)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.00019841269504757152)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.0013888888943922556)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.008333333333495627)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.04166666666652919)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.1666666666666641)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.5000000000000011)));
    FX_EACH(a, r[v] * r[v]);
    FX_EACH(b, vd_fma(r[v], r[v], -a[v]));
    FX_EACH(p, vd_fma(a[v], p[v], vd_fma(b[v], p[v], lo[v])));
    FX_EACH(over, (vl)(n[v] > 1023.0));
    FX_EACH(n, n[v] - vd_only(over[v], vd_splat(1.0)));
    FX_EACH(scale, (vd)((vl)(n[v] + (FX_MAGIC_D + 1023.0)) << 52));
    FX_EACH(a, scale[v] - 1.0);
    FX_EACH(lo, vd_lost(scale[v], vd_splat(-1.0), a[v]));
    FX_EACH(b, scale[v] * r[v]);
    FX_EACH(s, a[v] + b[v]);
    FX_EACH(lo, vd_lost(a[v], b[v], s[v]) + lo[v]);
    FX_EACH(s, s[v] + vd_fma(scale[v], p[v], lo[v]));
    FX_EACH(s, s[v] + vd_only(over[v], s[v]));
    FX_EACH(s, vd_pick((vl)(x[v] > 710.0), vd_splat(INFINITY), s[v]));
    FX_EACH(s, vd_pick((vl)(x[v] < -40.0), vd_splat(-1.0), s[v]));
    FX_EACH(y, vd_pick((vl)(vd_abs(x[v]) < 1e-300), x[v], s[v]));
}

/* ---- log(p / (1 - p)): near p = 1/2 it is log(1 + f) with f = (2 p - 1) / (1 - p), where 2 p - 1 is exact; elsewhere
   the logarithm of the quotient, with what the difference and the quotient lost. Below 2 ULP; NaN outside [0, 1]. ---- */
FX_INLINE void vf_logit(const vf *p, vf *y) {
    vf q[FX_NI], ratio[FX_NI], f[FX_NI], near[FX_NI], e[FX_NI], lost[FX_NI], z[FX_NI];
    vi far[FX_NI];
    FX_EACH(q, 1.0f - p[v]);
    FX_EACH(near, ((p[v] - 0.5f) + (p[v] - 0.5f)) / q[v]);
    FX_EACH(far, ~((vi)(near[v] > -0.2928f) & (vi)(near[v] < 0.4142f)));
    FX_EACH(ratio, p[v] / q[v]);
#if FX_FMA
    FX_EACH(lost, vf_fma(-ratio[v], q[v], p[v]) - ratio[v] * ((1.0f - q[v]) - p[v]));
#else
    FX_EACH(lost, -ratio[v] * ((1.0f - q[v]) - p[v]));
#endif
    FX_EACH(lost, vf_only(far[v], lost[v] / p[v]));
    vf_split(ratio, f, e);
    FX_EACH(e, vf_only(far[v], e[v]));
    FX_EACH(f, vf_pick(far[v], f[v], near[v]));
    vf_log_sum(f, lost, e, z);
    FX_EACH(y, vf_log_special(ratio[v], z[v]));
}

FX_INLINE void vd_logit(const vd *p, vd *y) {
    vd q[FX_NI], ratio[FX_NI], f[FX_NI], near[FX_NI], e[FX_NI], lost[FX_NI], z[FX_NI];
    vl far[FX_NI];
    FX_EACH(q, 1.0 - p[v]);
    FX_EACH(near, ((p[v] - 0.5) + (p[v] - 0.5)) / q[v]);
    FX_EACH(far, ~((vl)(near[v] > -0.2928) & (vl)(near[v] < 0.4142)));
    FX_EACH(ratio, p[v] / q[v]);
#if FX_FMA
    FX_EACH(lost, vd_fma(-ratio[v], q[v], p[v]) - ratio[v] * ((1.0 - q[v]) - p[v]));
#else
    FX_EACH(lost, -ratio[v] * ((1.0 - q[v]) - p[v]));
#endif
    FX_EACH(lost, vd_only(far[v], lost[v] / p[v]));
    vd_split(ratio, f, e);
    FX_EACH(e, vd_only(far[v], e[v]));
    FX_EACH(f, vd_pick(far[v], f[v], near[v]));
    vd_log_sum(f, lost, e, z);
    FX_EACH(y, vd_log_special(ratio[v], z[v]));
}

/* ---- e^x for -708 <= x <= 709, to the bits of exp_ (elementary.pxi): the rounding of the reduction is kept ---- */
FX_INLINE void vd_exp_full(const vd *x, vd *y) {
    vd n[FX_NI], r[FX_NI], lo[FX_NI], h[FX_NI], p[FX_NI];
    FX_EACH(n, (x[v] * FX_LOG2E + FX_MAGIC_D) - FX_MAGIC_D);
    FX_EACH(h, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    FX_EACH(lo, n[v] * -FX_LN2_LO_D);
    FX_EACH(r, h[v] + lo[v]);
    FX_EACH(lo, (h[v] - r[v]) + lo[v]);
    FX_EACH(p, vd_fma(vd_splat(2.4999962752161227e-08), r[v], vd_splat(2.7630378614888184e-07)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(2.7557587350023017e-06)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(2.4801492762837084e-05)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.00019841269504757152)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.0013888888943922556)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.008333333333495627)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.04166666666652919)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.1666666666666641)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0.5000000000000011)));
    FX_EACH(p, r[v] * r[v] * p[v]);
    FX_EACH(p, 1.0 + (r[v] + (p[v] + lo[v] * (1.0 + (r[v] + p[v])))));
    FX_EACH(y, p[v] * (vd)((vl)(n[v] + (FX_MAGIC_D + 1023.0)) << 52));
}

/* ---- float64 lanes to some 1e-10 and no further, for what is rounded to float32 afterwards; no special values ---- */
FX_INLINE void vd_exp_short(const vd *x, vd *y) { /* |x| <= 700 */
    vd t[FX_NI], n[FX_NI], r[FX_NI], p[FX_NI];
    FX_EACH(t, vd_fma(x[v], vd_splat(FX_LOG2E), vd_splat(FX_MAGIC_D + 1023.0)));
    FX_EACH(n, t[v] - (FX_MAGIC_D + 1023.0));
    FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    FX_EACH(p, vd_fma(vd_splat(0x1.9f0812891a17bp-13), r[v], vd_splat(0x1.6d8db0e921af7p-10)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.111271fa280d3p-7)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55548d100d68dp-5)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55555441c010ep-3)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.0000003a71a75p-1)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(1.0)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(1.0)));
    FX_EACH(y, p[v] * (vd)((vl)t[v] << 52));
}

/* log((1 + f) 2^e) */
FX_INLINE void vd_log_sum_short(const vd *f, const vd *e, vd *y) {
    vd s[FX_NI], z[FX_NI], q[FX_NI];
    FX_EACH(s, f[v] / (2.0 + f[v]));
    FX_EACH(z, s[v] * s[v]);
    FX_EACH(q, vd_fma(vd_splat(0x1.e2fdd3053b23cp-3), z[v], vd_splat(0x1.2438a870718d5p-2)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0x1.999a7b3bb0678p-2)));
    FX_EACH(q, vd_fma(q[v], z[v], vd_splat(0x1.555554fd411a2p-1)));
    FX_EACH(q, s[v] * vd_fma(q[v], z[v], vd_splat(2.0)));
    FX_EACH(y, vd_fma(e[v], vd_splat(FX_LN2_HI_D), q[v]));
}

FX_INLINE void vd_split_short(const vd *x, vd *f, vd *e) { /* vd_split of normal x > 0 */
    vul top[FX_NI];
    FX_EACH(top, ((vul)x[v] - 0x3fe6a09e667f3bcdu + 0x4000000000000000u) >> 52);
    FX_EACH(e, (vd)(top[v] | 0x4330000000000000u) - (0x1p52 + 1024.0));
    FX_EACH(f, (vd)((vul)x[v] - (top[v] << 52) + 0x4000000000000000u) - 1.0);
}

FX_INLINE void vd_log_short(const vd *x, vd *y) {
    vd f[FX_NI], e[FX_NI];
    vd_split_short(x, f, e);
    vd_log_sum_short(f, e, y);
}

FX_INLINE void vd_log1p_short(const vd *x, vd *y) { /* x >= 0 */
    vd u[FX_NI], f[FX_NI], e[FX_NI];
    FX_EACH(u, 1.0 + x[v]);
    vd_split_short(u, f, e);
    FX_EACH(f, vd_pick((vl)(x[v] < 0.4142), x[v], f[v])); /* e is 0 there, and f itself may have lost digits */
    vd_log_sum_short(f, e, y);
}

/* log x to another base: e a + log(1 + f) b with a = log 2 and b = 1 / log base, to that base, each in two numbers; to
   base 2, where a = 1, powers of two come out exact. Below 2 ULP. */
FX_INLINE void vf_log_base(const vf *x, const float *c, vf *y) { /* c: a, rest of a, b, rest of b */
    vf f[FX_NI], e[FX_NI], tail[FX_NI], z[FX_NI];
    vf_split(x, f, e);
    vf_log_tail(f, tail);
    FX_EACH(z, vf_fma(tail[v], vf_splat(c[2]), vf_fma(f[v], vf_splat(c[3]), e[v] * c[1])));
    FX_EACH(z, vf_fma(f[v], vf_splat(c[2]), z[v]));
    FX_EACH(z, vf_fma(e[v], vf_splat(c[0]), z[v]));
    FX_EACH(z, vf_log_special(x[v], z[v]));
    FX_EACH(y, vf_pick((vi)(x[v] == 0), vf_splat(-INFINITY * c[2]), z[v])); /* a base below 1 turns the sign */
}

FX_INLINE void vd_log_base(const vd *x, const double *c, vd *y) { /* c: a, rest of a, b, rest of b */
    vd f[FX_NI], e[FX_NI], tail[FX_NI], z[FX_NI];
    vd_split(x, f, e);
    vd_log_tail(f, tail);
    FX_EACH(z, vd_fma(tail[v], vd_splat(c[2]), vd_fma(f[v], vd_splat(c[3]), e[v] * c[1])));
    FX_EACH(z, vd_fma(f[v], vd_splat(c[2]), z[v]));
    FX_EACH(z, vd_fma(e[v], vd_splat(c[0]), z[v]));
    FX_EACH(z, vd_log_special(x[v], z[v]));
    FX_EACH(y, vd_pick((vl)(x[v] == 0), vd_splat(-INFINITY * c[2]), z[v])); /* a base below 1 turns the sign */
}

/* whether a lane is outside [low, high]; NaN is where it is not `nan_ok` */
FX_INLINE int vf_outside(vf x, float low, float high, int nan_ok) {
    return vi_any(nan_ok ? (vi)(x < low) | (vi)(x > high) : ~((vi)(x >= low) & (vi)(x <= high)));
}
FX_INLINE int vd_outside(vd x, double low, double high, int nan_ok) {
    return vl_any(nan_ok ? (vl)(x < low) | (vl)(x > high) : ~((vl)(x >= low) & (vl)(x <= high)));
}

#endif
