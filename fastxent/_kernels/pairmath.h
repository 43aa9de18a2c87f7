/* What a pair of probabilities has between them, of FX_NI vectors side by side: terms of the divergences (pairs.pxi,
   divergence.pxi, shares.pxi, once.pxi).                                                                            */
#ifndef FASTXENT_PAIRMATH_H
#define FASTXENT_PAIRMATH_H

#include "vmath.h"

/* ---- e^x - 1 - x, for x from the floor of c = 0 (runs.pxi) to 88 or 709: with x = n log 2 + r, e^r = 1 + r + r^2 q,
   2^n r^2 q + (2^n - 1) r + (2^n - 1 - n log 2): no term cancels, and only r^2 q is left for n = 0. Relative error 3e-7
   and 6e-16 where n is not 0, below that elsewhere. With a fused multiply-add r is x - n HI, which is exact, and e^r lacks
   the factor e^(n LO), 2e-9 n of it. ---- */
FX_INLINE void vf_phi(const vf *x, vf *y) {
    vf n[FX_NI], r[FX_NI], p[FX_NI], q[FX_NI], scale[FX_NI];
    FX_EACH(scale, vf_fma(x[v], vf_splat((float)FX_LOG2E), vf_splat(FX_MAGIC_F + 127.0f)));
    FX_EACH(n, scale[v] - (FX_MAGIC_F + 127.0f));
    FX_EACH(r, vf_fma(n[v], vf_splat(-FX_LN2_HI_F), x[v]));
    if (!FX_FMA) FX_EACH(r, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), r[v]));
    FX_EACH(scale, vf_scale(scale[v]));
    FX_EACH(p, vf_fma(vf_splat(0x1.6a2352p-10f), r[v], vf_splat(0x1.123a6cp-7f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.5558f4p-5f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.555490p-3f)));
    FX_EACH(p, vf_fma(p[v], r[v], vf_splat(0x1.fffffcp-2f)));
    FX_EACH(q, scale[v] - 1.0f);
    FX_EACH(n, vf_fma(n[v], vf_splat(-0x1.62e430p-1f), q[v]));
    FX_EACH(n, vf_fma(q[v], r[v], n[v]));
    FX_EACH(q, r[v] * (r[v] * p[v]));
    FX_EACH(y, vf_fma(scale[v], q[v], n[v]));
}

FX_INLINE void vd_phi(const vd *x, vd *y) {
    vd n[FX_NI], r[FX_NI], p[FX_NI], q[FX_NI], scale[FX_NI];
    FX_EACH(scale, vd_fma(x[v], vd_splat(FX_LOG2E), vd_splat(FX_MAGIC_D + 1023.0)));
    FX_EACH(n, scale[v] - (FX_MAGIC_D + 1023.0));
    FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    if (!FX_FMA) FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_LO_D), r[v]));
    FX_EACH(scale, vd_scale(scale[v]));
    FX_EACH(p, vd_fma(vd_splat(0x1.ad7effbbd58f0p-26), r[v], vd_splat(0x1.28adce715d597p-22)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.71df262e0a285p-19)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.a01999adcf1f5p-16)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.a01a0129b3a35p-13)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.6c16c1844afeep-10)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.1111111127e85p-7)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55555555507f1p-5)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.55555555554f9p-3)));
    FX_EACH(p, vd_fma(p[v], r[v], vd_splat(0x1.000000000000ap-1)));
    FX_EACH(q, scale[v] - 1.0);
    FX_EACH(n, vd_fma(n[v], vd_splat(-0x1.62e42fefa39efp-1), q[v]));
    FX_EACH(n, vd_fma(q[v], r[v], n[v]));
    FX_EACH(q, r[v] * (r[v] * p[v]));
    FX_EACH(y, vd_fma(scale[v], q[v], n[v]));
}

/* ---- what two probabilities, the smaller e^x times the larger, x <= 0 and not below the floor of c = 0, have between
   them (pairs.pxi): phi = e^x - 1 - x, rho = 1 - (1 - x) e^x, lost = 1 - e^x, left = e^x. As vf_phi. ---- */
FX_INLINE void vf_decay(const vf *x, int with_rho, vf *phi, vf *rho, vf *lost, vf *left) {
    vf n[FX_NI], r[FX_NI], p[FX_NI], q[FX_NI], scale[FX_NI], a[FX_NI], b[FX_NI];
    FX_EACH(scale, vf_fma(x[v], vf_splat((float)FX_LOG2E), vf_splat(FX_MAGIC_F + 127.0f)));
    FX_EACH(n, scale[v] - (FX_MAGIC_F + 127.0f));
    FX_EACH(r, vf_fma(n[v], vf_splat(-FX_LN2_HI_F), x[v]));
    if (!FX_FMA) FX_EACH(r, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), r[v]));
    FX_EACH(scale, vf_scale(scale[v]));
    FX_EACH(p, vf_exp_tail(r[v]));
    FX_EACH(a, scale[v] - 1.0f);
    if (with_rho) {
        FX_EACH(b, n[v] * -0x1.62e430p-1f);
        FX_EACH(q, vf_fma(p[v], 1.0f - x[v], vf_splat(-1.0f)));
        FX_EACH(q, vf_fma(r[v], q[v], b[v]));
        FX_EACH(q, r[v] * q[v]);
        FX_EACH(b, vf_fma(-scale[v], b[v], -a[v]));
        FX_EACH(rho, vf_fma(-scale[v], q[v], b[v]));
    }
    FX_EACH(n, vf_fma(n[v], vf_splat(-0x1.62e430p-1f), a[v]));
    FX_EACH(n, vf_fma(a[v], r[v], n[v]));
    FX_EACH(p, r[v] * p[v]);
    FX_EACH(q, r[v] * p[v]);
    FX_EACH(phi, vf_fma(scale[v], q[v], n[v]));
    FX_EACH(p, vf_fma(r[v], p[v], r[v]));
    FX_EACH(lost, -vf_fma(scale[v], p[v], a[v]));
    FX_EACH(left, vf_fma(scale[v], p[v], scale[v]));
}

FX_INLINE void vd_decay(const vd *x, int with_rho, vd *phi, vd *rho, vd *lost, vd *left) {
    vd n[FX_NI], r[FX_NI], p[FX_NI], q[FX_NI], scale[FX_NI], a[FX_NI], b[FX_NI];
    FX_EACH(scale, vd_fma(x[v], vd_splat(FX_LOG2E), vd_splat(FX_MAGIC_D + 1023.0)));
    FX_EACH(n, scale[v] - (FX_MAGIC_D + 1023.0));
    FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_HI_D), x[v]));
    if (!FX_FMA) FX_EACH(r, vd_fma(n[v], vd_splat(-FX_LN2_LO_D), r[v]));
    FX_EACH(scale, vd_scale(scale[v]));
    FX_EACH(p, vd_exp_tail(r[v]));
    FX_EACH(a, scale[v] - 1.0);
    if (with_rho) {
        FX_EACH(b, n[v] * -0x1.62e42fefa39efp-1);
        FX_EACH(q, vd_fma(p[v], 1.0 - x[v], vd_splat(-1.0)));
        FX_EACH(q, vd_fma(r[v], q[v], b[v]));
        FX_EACH(q, r[v] * q[v]);
        FX_EACH(b, vd_fma(-scale[v], b[v], -a[v]));
        FX_EACH(rho, vd_fma(-scale[v], q[v], b[v]));
    }
    FX_EACH(n, vd_fma(n[v], vd_splat(-0x1.62e42fefa39efp-1), a[v]));
    FX_EACH(n, vd_fma(a[v], r[v], n[v]));
    FX_EACH(p, r[v] * p[v]);
    FX_EACH(q, r[v] * p[v]);
    FX_EACH(phi, vd_fma(scale[v], q[v], n[v]));
    FX_EACH(p, vd_fma(r[v], p[v], r[v]));
    FX_EACH(lost, -vd_fma(scale[v], p[v], a[v]));
    FX_EACH(left, vd_fma(scale[v], p[v], scale[v]));
}

/* J of pairs.pxi */
FX_INLINE void vf_half_js(const vf *lost, const vf *left, const vf *phi, vf *y) {
    vf h[FX_NI], z[FX_NI], t[FX_NI], p[FX_NI];
    FX_EACH(h, lost[v] * 0.5f);
    FX_EACH(z, h[v] / (2.0f - h[v]));
    FX_EACH(t, z[v] * z[v]);
    FX_EACH(p, vf_artanh_tail(t[v]));
    FX_EACH(t, z[v] * t[v]);
    FX_EACH(t, t[v] * p[v]);
    FX_EACH(t, vf_fma(h[v], z[v], t[v]));
    FX_EACH(p, h[v] * h[v]);
    FX_EACH(t, vf_fma(1.0f - h[v], t[v], p[v]));
    FX_EACH(t, t[v] + t[v]);
    FX_EACH(y, vf_fma(-left[v], phi[v], t[v]));
}

FX_INLINE void vd_half_js(const vd *lost, const vd *left, const vd *phi, vd *y) {
    vd h[FX_NI], z[FX_NI], t[FX_NI], p[FX_NI];
    FX_EACH(h, lost[v] * 0.5);
    FX_EACH(z, h[v] / (2.0 - h[v]));
    FX_EACH(t, z[v] * z[v]);
    FX_EACH(p, vd_artanh_tail(t[v]));
    FX_EACH(t, z[v] * t[v]);
    FX_EACH(t, t[v] * p[v]);
    FX_EACH(t, vd_fma(h[v], z[v], t[v]));
    FX_EACH(p, h[v] * h[v]);
    FX_EACH(t, vd_fma(1.0 - h[v], t[v], p[v]));
    FX_EACH(t, t[v] + t[v]);
    FX_EACH(y, vd_fma(-left[v], phi[v], t[v]));
}

/* ---- terms of two probabilities p and q as they are (once.pxi), twice what KL or JS adds up, into lanes: with
   m = p + q, d = p - q, s = d / m, |s| <= 1/2, and log(p / q) = 2 artanh(s) = 2 s + s^3 q(s^2)
       p log(p / q) - p + q = m / 2 s^2 (2 + (s + s^2) q(s^2)),
       p log(2 p / m) + q log(2 q / m) = m / 2 s^2 (1 + s^2 r(s^2))
   are sums of what is not negative. Further apart nothing cancels that much. tools/minimax.py: 2.5e-8 and 3.5e-9. ---- */
#define FX_NEAR 0.25f /* s^2 */
FX_INLINE vf vf_near_kl(vf s, vf z) {
    vf q = vf_fma(vf_splat(0x1.75431cp-2f), z, vf_splat(0x1.505fcep-3f));
    q = vf_fma(q, z, vf_splat(0x1.2c8f24p-2f));
    q = vf_fma(q, z, vf_splat(0x1.992488p-2f));
    q = vf_fma(q, z, vf_splat(0x1.555668p-1f));
    return vf_fma(s + z, q, vf_splat(2.0f));
}
FX_INLINE vf vf_near_js(vf z) {
    vf q = vf_fma(vf_splat(0x1.c07ed4p-6f), z, vf_splat(0x1.2da902p-6f));
    q = vf_fma(q, z, vf_splat(0x1.28bb4ep-5f));
    q = vf_fma(q, z, vf_splat(0x1.10f2c6p-4f));
    q = vf_fma(q, z, vf_splat(0x1.55559cp-3f));
    return vf_fma(q, z, vf_splat(1.0f));
}

/* log x of normal x > 0; anything for others, but finite where x is */
FX_INLINE void vf_log_normal(const vf *x, vf *y) {
    vf f[FX_NI], e[FX_NI], tail[FX_NI];
    vu top[FX_NI];
    FX_EACH(top, ((vu)x[v] - 0x3f3504f3u) & 0xff800000u);
    FX_EACH(f, (vf)((vu)x[v] - top[v]) - 1.0f);
    FX_EACH(e, __builtin_convertvector((vi)top[v] >> 23, vf));
    vf_log_tail(f, tail);
    FX_EACH(tail, vf_fma(e[v], vf_splat(FX_LN2_REST_F), tail[v]));
    FX_EACH(y, vf_fma(e[v], vf_splat(FX_LN2_15), f[v] + tail[v]));
}

/* w and r, whose products are the terms; `odd` has its sign bit set where the row is for another kernel: one of p and q
   is negative, or p / q overflows */
static __attribute__((noinline, unused)) void vf_apart_kl(
    const char *at_p, const char *at_q, const vf *d, const vf *z, vf *w, vf *r, vu *odd
) {
    vf p[FX_NI], q[FX_NI], x[FX_NI], y[FX_NI];
    FX_EACH(p, vf_load(at_p + v * FX_VBYTES));
    FX_EACH(q, vf_load(at_q + v * FX_VBYTES));
    FX_EACH(x, p[v] / q[v]);
    for (int v = 0; v < FX_NI; v++)
        *odd |= ((vu)p[v] | (vu)q[v] | (vu)((vi)(x[v] == INFINITY) & (vi)(q[v] != 0.0f))) & 0x80000000u;
    FX_EACH(x, vf_max(vf_splat(0x1p-126f), x[v]));
    vf_log_normal(x, y);
    FX_EACH(y, vf_fma(p[v], y[v], -d[v]));
    FX_EACH(y, vf_pick((vi)(q[v] == 0.0f), vf_splat(INFINITY), y[v] + y[v]));
    for (int v = 0; v < FX_NI; v++) {
        vi apart = (vi)(z[v] > FX_NEAR);
        w[v] = vf_pick(apart, vf_splat(1.0f), w[v]);
        r[v] = vf_pick(apart, y[v], r[v]);
    }
}
static __attribute__((noinline, unused)) void vf_apart_js(
    const char *at_p, const char *at_q, const vf *s, const vf *m, const vf *z, vf *w, vf *r, vu *odd
) {
    vf p[FX_NI], q[FX_NI], x[FX_NI], y[FX_NI], large[FX_NI];
    FX_EACH(p, vf_load(at_p + v * FX_VBYTES));
    FX_EACH(q, vf_load(at_q + v * FX_VBYTES));
    for (int v = 0; v < FX_NI; v++) *odd |= ((vu)p[v] | (vu)q[v]) & 0x80000000u;
    /* of the larger one 2 p / m = 1 + |s|; of the smaller one it would lose its digits */
    FX_EACH(x, vf_abs(s[v]));
    vf_log1p_near(x, large);
    FX_EACH(x, vf_min(p[v], q[v]));
    FX_EACH(x, (x[v] + x[v]) / m[v]);
    FX_EACH(x, vf_max(vf_splat(0x1p-126f), x[v]));
    vf_log_normal(x, y);
    FX_EACH(y, vf_min(p[v], q[v]) * y[v]);
    FX_EACH(y, vf_fma(vf_max(p[v], q[v]), large[v], y[v]));
    for (int v = 0; v < FX_NI; v++) {
        vi apart = (vi)(z[v] > FX_NEAR);
        w[v] = vf_pick(apart, vf_splat(2.0f), w[v]);
        r[v] = vf_pick(apart, y[v], r[v]);
    }
}

/* p and q: FX_NI vectors in memory; acc: sums of terms, of p - q, of p + q, FX_NH vectors each */
FX_INLINE void vf_add_shares(const char *p, const char *q, int js, vf *acc, vu *odd) {
    vf d[FX_NI], m[FX_NI], s[FX_NI], z[FX_NI], w[FX_NI], r[FX_NI];
    vi apart = {0};
    FX_EACH(d, vf_load(p + v * FX_VBYTES) - vf_load(q + v * FX_VBYTES));
    FX_EACH(m, vf_load(p + v * FX_VBYTES) + vf_load(q + v * FX_VBYTES));
    FX_EACH(s, d[v] / vf_max(vf_splat(0x1p-126f), m[v]));
    FX_EACH(z, s[v] * s[v]);
    for (int v = 0; v < FX_NI; v++) {
        acc[FX_NH + v % FX_NH] += d[v];
        acc[2 * FX_NH + v % FX_NH] += m[v];
        apart |= (vi)(z[v] > FX_NEAR);
        *odd |= (vu)m[v];
    }
    FX_EACH(w, m[v] * z[v]);
    if (js) FX_EACH(r, vf_near_js(z[v]));
    else FX_EACH(r, vf_near_kl(s[v], z[v]));
    if (vi_any(apart)) {
        /* copies: what another function sees the compiler would keep in memory, and not here alone */
        vf far_d[FX_NI], far_m[FX_NI], far_s[FX_NI], far_z[FX_NI], far_w[FX_NI], far_r[FX_NI];
        vu bad = *odd;
        for (int v = 0; v < FX_NI; v++) {
            far_d[v] = d[v], far_m[v] = m[v], far_s[v] = s[v];
            far_z[v] = z[v], far_w[v] = w[v], far_r[v] = r[v];
        }
        if (js) vf_apart_js(p, q, far_s, far_m, far_z, far_w, far_r, &bad);
        else vf_apart_kl(p, q, far_d, far_z, far_w, far_r, &bad);
        for (int v = 0; v < FX_NI; v++) w[v] = far_w[v], r[v] = far_r[v];
        *odd = bad;
    }
    for (int v = 0; v < FX_NI; v++) acc[v % FX_NH] = vf_fma(w[v], r[v], acc[v % FX_NH]);
}

#endif
