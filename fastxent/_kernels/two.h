/* Rows of two classes: with d the other logit less the label's, loss = max(d, 0) + log1p(e^-|d|), as of a binary loss. One
   exponential, no sum, and however far off the rows are. What the difference lost goes to the exponential's reduced argument:
   of a loss of e^-80 it would be 40 ULP. For a log-sum-exp the largest logit stands in the label's place. */
#ifndef FASTXENT_TWO_H
#define FASTXENT_TWO_H

#include "quick.h"

/* ---- a batch of rows: the label's logit, and the other one ---- */
FX_INLINE void fx_two(const vf *x, const int32_t *label, vf *other, vf *own) {
    fx_mask first = fx_has((vi)vf_load(label), 0);
    *own = fx_own(first, x[0], x[1]);
    *other = fx_own(first, x[1], x[0]);
}
FX_INLINE void fx_two_across(const char *p, const int32_t *labels, vf *other, vf *own) {
    vf x[2];
    for (int g = 0; g < FX_NQ; g++) {
        fx_twos(p + g * FX_VF * 8, x);
        fx_stream(p + g * FX_VF * 8 + FX_PREFETCH);
        if (FX_VF * 8 > 64) fx_stream(p + g * FX_VF * 8 + FX_PREFETCH + 64);
        fx_two(x, labels + g * FX_VF, other + g, own + g);
    }
}
FX_INLINE void fx_two_down(
    const char *p, ptrdiff_t stride, int kind, ptrdiff_t size, const int32_t *labels, vf *other, vf *own
) {
    for (int g = 0; g < FX_NQ; g++, p += FX_VF * size) {
        vf x[2] = {vf_load_kind(p, kind), vf_load_kind(p + stride, kind)};
        fx_stream(p + FX_PREFETCH);
        fx_stream(p + stride + FX_PREFETCH);
        fx_two(x, labels + g * FX_VF, other + g, own + g);
    }
}

/* ---- results, as fx_quick_finish has them; main and rest are the loss more exactly, and may round otherwise ---- */
FX_INLINE void fx_two_finish(const vf *other, const vf *own, int lse, vf *out, vf *main_part, vf *rest, vi *ok) {
    vf d[FX_NQ], lost[FX_NQ], t[FX_NQ], n[FX_NQ], r[FX_NQ], p[FX_NQ], s[FX_NQ], z[FX_NQ];
    const vi sign = (vi){0} + INT32_MIN;
    const vf magic = vf_splat(FX_MAGIC_F + 127.0f);
    FX_EACH_OF(FX_NQ, d, other[v] - own[v]);
    for (int v = 0; v < FX_NQ; v++) ok[v] = (vi)(d[v] >= -FX_MOST_OWN) & (vi)(d[v] < INFINITY);
    FX_EACH_OF(FX_NQ, lost, vf_lost(other[v], -own[v], d[v]));
    FX_EACH_OF(FX_NQ, lost, (vf)((vi)lost[v] ^ (~(vi)d[v] & sign))); /* of -|d| */
    FX_EACH_OF(FX_NQ, p, vf_max(vf_splat(-FX_MOST_OWN), (vf)((vi)d[v] | sign)));
    FX_EACH_OF(FX_NQ, lost, vf_only((vi)(p[v] > -FX_MOST_OWN), lost[v])); /* of larger ones it may be large */
    FX_EACH_OF(FX_NQ, t, vf_fma(p[v], vf_splat((float)FX_LOG2E), magic));
    FX_EACH_OF(FX_NQ, n, t[v] - magic);
    FX_EACH_OF(FX_NQ, r, vf_fma(n[v], vf_splat(-FX_LN2_HI_F), p[v]));
    FX_EACH_OF(FX_NQ, lost, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), lost[v]));
    FX_EACH_OF(FX_NQ, r, r[v] + lost[v]);
    FX_EACH_OF(FX_NQ, p, vf_exp_tail(r[v]));
    FX_EACH_OF(FX_NQ, p, vf_fma(p[v], r[v], vf_splat(1.0f)));
    FX_EACH_OF(FX_NQ, p, vf_fma(p[v], r[v], vf_splat(1.0f)));
    FX_EACH_OF(FX_NQ, p, p[v] * vf_scale(t[v]));
    FX_EACH_OF(FX_NQ, d, vf_max(vf_splat(0.0f), d[v]));
    if (rest) { /* log1p(p) = e log 2 + log(1 + f), as vmath.h has it, with e 0 or 1 */
        FX_EACH_OF(FX_NQ, r, 1.0f + p[v]);
        FX_EACH_OF(FX_NQ, z, vf_only((vi)(p[v] >= 0.4142f), vf_splat(1.0f)));
        FX_EACH_OF(FX_NQ, n, vf_only((vi)(p[v] >= 0.4142f), 0.5f * (p[v] - (r[v] - 1.0f))));
        FX_EACH_OF(FX_NQ, r, vf_where((vi)(p[v] >= 0.4142f), 0.5f * r[v] - 1.0f, p[v]));
        for (int v = 0; v < FX_NQ; v += FX_NI) vf_log_tail(r + v, s + v);
        FX_EACH_OF(FX_NQ, s, r[v] + (vf_fma(z[v], vf_splat(FX_LN2_REST_F), s[v]) + n[v]));
        FX_EACH_OF(FX_NQ, z, z[v] * FX_LN2_15);
        for (int v = 0; v < FX_NQ; v++) {
            main_part[v] = vf_where((vi)(d[v] > 0.0f), d[v], z[v]);
            rest[v] = vf_where((vi)(d[v] > 0.0f), z[v] + s[v], s[v]);
        }
    }
    vf_log1p_of(FX_NQ, p, r);
    if (lse) FX_EACH_OF(FX_NQ, out, own[v] + r[v]); /* own is the larger one */
    else FX_EACH_OF(FX_NQ, out, d[v] + r[v]);
}

#endif
