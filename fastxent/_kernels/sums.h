/* What a contiguous row adds: the exponential of a sum, the sum, and the moments of an evaluation. Part of exponential.h. */
#ifndef FASTXENT_SUMS_H
#define FASTXENT_SUMS_H

/* ---- e^x 2^-c as a product p * scale, in quarters of a binade where four numbers can be looked up: n counts quarters,
   |r| <= ln2 / 8, and degree 4 will do (5.8e-9); 2^(n / 4) is one of four float32 numbers (off by 3.2e-8 at most)
   whose exponent field is added as an integer: 8 operations on the ports that multiply instead of 9, and a shorter
   chain of them. `magic` is 1.5 2^p + FX_STEPS (bias - c), and x must be at least the floor of c, where all bits of the
   scale are 0. ---- */
#if defined(__AVX__) || defined(__aarch64__)
#define FX_STEPS 4
#else
#define FX_STEPS 1
#endif
#define FX_QUARTER(i, bits) (bits - (127 << 23) - (i << 21))
#define FX_QUARTERS \
    FX_QUARTER(0, 0x3f800000), FX_QUARTER(1, 0x3f9837f0), FX_QUARTER(2, 0x3fb504f3), FX_QUARTER(3, 0x3fd744fd)
#if defined(__AVX512F__) && FX_VBYTES == 64
#define FX_PICK(table, t) (vi)_mm512_permutevar_ps((__m512)table, (__m512i)t)
#define FX_TABLE {FX_QUARTERS, FX_QUARTERS, FX_QUARTERS, FX_QUARTERS}
#elif FX_VBYTES == 64
#define FX_TABLE {FX_QUARTERS, FX_QUARTERS, FX_QUARTERS, FX_QUARTERS}
FX_INLINE vi fx_pick(vi table, vf t) {
    union { vi v; __m256 h[2]; } a, b;
    a.v = table;
    b.v = (vi)t;
    for (int i = 0; i < 2; i++) a.h[i] = _mm256_permutevar_ps(a.h[i], (__m256i)b.h[i]);
    return a.v;
}
#define FX_PICK(table, t) fx_pick(table, t)
#elif defined(__AVX__) && FX_VBYTES == 32
#define FX_PICK(table, t) (vi)_mm256_permutevar_ps((__m256)table, (__m256i)t)
#define FX_TABLE {FX_QUARTERS, FX_QUARTERS}
#elif defined(__AVX__)
#define FX_PICK(table, t) (vi)_mm_permutevar_ps((__m128)table, (__m128i)t)
#define FX_TABLE {FX_QUARTERS}
#elif defined(__aarch64__)
#define FX_PICK(table, t) \
    (vi)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)(((vu)t & 3) * 0x04040404u + 0x03020100u))
#define FX_TABLE {FX_QUARTERS}
#endif

FX_INLINE void vf_exp_sum(const vf *x, vf magic, vf *y, vf *scale) {
#if FX_STEPS == 1
    vf_exp(x, magic, 0, y, scale);
#else
    vf t[FX_NI], n[FX_NI], r[FX_NI], p[FX_NI];
    vu s[FX_NI]; /* infinite and NaN ones may overflow */
    const vi table = FX_TABLE;
    FX_KEEP(vf, log2e, vf_splat(4 * (float)FX_LOG2E));
    FX_EACH(t, vf_fma(x[v], log2e, magic));
    FX_EACH(n, t[v] - magic);
    FX_KEEP(vf, ln2, vf_splat(-0.25f * FX_LN2_HI_F));
    FX_EACH(r, vf_fma(n[v], ln2, x[v]));
    FX_EACH(s, (vu)FX_PICK(table, t[v]));
    FX_EACH(t, (vf)((vu)t[v] << 21));
    FX_EACH(s, s[v] + (vu)t[v]);
    FX_KEEP(vf, c4, vf_splat(0x1.55200cp-5f));
    FX_KEEP(vf, c3, vf_splat(0x1.557268p-3f));
    FX_EACH(p, vf_fma(r[v], c4, c3));
    FX_KEEP(vf, c2, vf_splat(0x1.000008p-1f));
    FX_EACH(p, vf_fma(p[v], r[v], c2));
    FX_KEEP(vf, one, vf_splat(1.0f));
    FX_EACH(p, vf_fma(p[v], r[v], one));
    FX_EACH(y, vf_fma(p[v], r[v], one));
    FX_EACH(scale, (vf)s[v]);
#endif
}
FX_INLINE void vd_exp_sum(const vd *x, vd magic, vd *y, vd *scale) { vd_exp(x, magic, 0, y, scale); }

/* for half as many lanes as a group has, in order: v to v % FX_NH */
#define FX_HALF(i, dst, expression) { enum { v = i }; dst[v % FX_NH] = expression; FX_FENCE(dst[v % FX_NH]); }
#if FX_NV >= 4
#define FX_HALVE(dst, expression) \
    do { FX_HALF(0, dst, expression) FX_HALF(1, dst, expression) \
         FX_HALF(2, dst, expression) FX_HALF(3, dst, expression) } while (0)
#else
#define FX_HALVE(dst, expression) do { FX_HALF(0, dst, expression) FX_HALF(1, dst, expression) } while (0)
#endif

/* what lanes add: acc[v % FX_NH] += e^x[v] 2^-c. Written out here: where the products come back through arrays that a
   loop reads, GCC 12 stores them all (in cache: 11 against 17 GB/s of float32). */
FX_INLINE void vf_add_exp(const vf *x, vf magic, vf *acc) {
    vf p[FX_NI], scale[FX_NI];
    vf_exp_sum(x, magic, p, scale);
    FX_HALVE(acc, vf_fma(p[v], scale[v], acc[v % FX_NH]));
}
FX_INLINE void vd_add_exp(const vd *x, vd magic, vd *acc) {
    vd p[FX_NI], scale[FX_NI];
    vd_exp_sum(x, magic, p, scale);
    FX_HALVE(acc, vd_fma(p[v], scale[v], acc[v % FX_NH]));
}

/* the same, and the moments e (ref - x) and e^2 */
FX_INLINE void vf_add_moments(const vf *x, vf magic, vf ref, vf *acc, vf *w, vf *q) {
    vf p[FX_NI], scale[FX_NI];
    vf_exp_sum(x, magic, p, scale);
    FX_HALVE(acc, vf_fma(p[v], scale[v], acc[v % FX_NH]));
    FX_EACH(p, p[v] * scale[v]);
    FX_HALVE(w, vf_fma(p[v], ref - x[v], w[v % FX_NH]));
    FX_HALVE(q, vf_fma(p[v], p[v], q[v % FX_NH]));
}
FX_INLINE void vd_add_moments(const vd *x, vd magic, vd ref, vd *acc, vd *w, vd *q) {
    vd p[FX_NI], scale[FX_NI];
    vd_exp_sum(x, magic, p, scale);
    FX_HALVE(acc, vd_fma(p[v], scale[v], acc[v % FX_NH]));
    FX_EACH(p, p[v] * scale[v]);
    FX_HALVE(w, vd_fma(p[v], ref - x[v], w[v % FX_NH]));
    FX_HALVE(q, vd_fma(p[v], p[v], q[v % FX_NH]));
}

#endif
