/* Rows of logits, lanes being rows, to float32 losses and log-sum-exps: the ordinary ones, in float32 all through.

   FX_QUAD = 4 classes at a time come into lanes: e^x as it is, the label's left out, added as (e0 + e1) + (e2 + e3), e1 and
   e3 by the multiply-adds that make them; two of these make a block of 8 classes, blocks are added with their rounding
   errors (TwoSum). (Contiguous rows of many classes: along.h. Rows of two: two.h.) loss = log1p(s e^-x_label). A lane whose numbers are not well within float32's range is none of these and says so:
   quick.pxi has it done by the kernel with references. So a row's value depends on that row alone.

   Error: s is off by four roundings at most beside those of its terms, of which few fall together; e^-x_label and its
   product with s add 0.7 ULP, log1p 0.7. */
#ifndef FASTXENT_QUICK_H
#define FASTXENT_QUICK_H

#include "quads.h"
#include "vmath.h"

#define FX_NQ 4                  /* vectors whose results are worked out together: of 64 bytes, too, for a result is a
                                    longer chain than an exponential */
#define FX_BATCH (FX_NQ * FX_VF) /* rows taken together */
#define FX_SUMS (FX_PIXELS / FX_VF + FX_NQ) /* vectors that as many rows want, in whole batches */
#define FX_ROWS_AHEAD 64           /* fetched ahead where rows lie side by side */
#define FX_MOST_OWN 87.0f        /* what a label's logit, or the largest, is up to; a row beyond is for others */

FX_INLINE vf vf_where(vi mask, vf yes, vf no) { return vf_by_sign((vf)mask, no, yes); } /* 1 instruction, vf_pick 3 */

/* lanes whose label is k: their logit for `own`, 0 for a term of theirs, which is p scale */
#if defined(__AVX512F__) && FX_VBYTES == 64 /* in a mask register, the others: vectors would go there and back */
typedef __mmask16 fx_mask;
FX_INLINE fx_mask fx_differ(vi label, vi k) { return _mm512_cmpneq_epi32_mask((__m512i)label, (__m512i)k); }
FX_INLINE vf fx_own(fx_mask m, vf x, vf own) { return (vf)_mm512_mask_mov_ps((__m512)x, m, (__m512)own); }
FX_INLINE vf fx_others(fx_mask m, vf p, vf scale) { return (vf)_mm512_maskz_mul_ps(m, (__m512)p, (__m512)scale); }
FX_INLINE vf fx_add_others(fx_mask m, vf p, vf scale, vf sum) {
    return (vf)_mm512_mask3_fmadd_ps((__m512)p, (__m512)scale, (__m512)sum, m);
}
#else
typedef vi fx_mask;
FX_INLINE fx_mask fx_differ(vi label, vi k) { return label == k; }
FX_INLINE vf fx_own(fx_mask m, vf x, vf own) { return vf_where(m, x, own); }
FX_INLINE vf fx_others(fx_mask m, vf p, vf scale) { return (vf)(~m & (vi)(p * scale)); }
FX_INLINE vf fx_add_others(fx_mask m, vf p, vf scale, vf sum) { return vf_fma(p, (vf)(~m & (vi)scale), sum); }
#endif

FX_INLINE fx_mask fx_has(vi label, int k) { return fx_differ(label, (vi){0} + k); }

/* The sum of a quad's terms but for the label's, counted from the quad; its logit goes to own. */
FX_INLINE vf fx_quad_sum(vf *x, vi label, vf *own) {
    vf e[4], scale[4];
    fx_mask mask[4];
    for (int k = 0; k < 4; k++) {
        FX_FENCE(x[k]); /* or GCC 12 turns rows into lanes a second time, into `own` */
        mask[k] = fx_has(label, k);
        *own = fx_own(mask[k], x[k], *own);
    }
    vf_parts_of(FX_QUAD, x, e, scale);
    return fx_add_others(mask[1], e[1], scale[1], fx_others(mask[0], e[0], scale[0])) +
           fx_add_others(mask[3], e[3], scale[3], fx_others(mask[2], e[2], scale[2]));
}

FX_INLINE void fx_add_block(vf block, vf *s, vf *lo) { /* TwoSum */
    vf t = *s + block;
    *lo += vf_lost(*s, block, t);
    *s = t;
}

/* The last `rest` = n % 4 classes, n >= 4, of 4 / rest vectors of rows, of which `vectors` are there: their terms together.
   Nothing behind a row is read. Classes are counted from these; blocks take their sums. */
FX_INLINE void fx_tails(
    const char *p, ptrdiff_t stride, ptrdiff_t n, int rest, int vectors, const vi *label, vf *block, vf *own
) {
    vf x[4], y[4], e[4], scale[4];
    fx_mask mask[4] = {0};
    for (int i = 0; i < 4; i++) x[i] = vf_splat(0);
    for (int i = 0; i < 4 / rest && i < vectors; i++) {
        fx_quad(p + 4 * (n - 4) + i * FX_VF * stride, stride, y);
        for (int k = 0; k < rest; k++) {
            x[i * rest + k] = y[4 - rest + k];
            mask[i * rest + k] = fx_has(label[i], k);
            own[i] = fx_own(mask[i * rest + k], x[i * rest + k], own[i]);
        }
    }
    vf_parts_of(FX_QUAD, x, e, scale);
    for (int i = 0; i < 4 / rest && i < vectors; i++) {
        vf sum = fx_others(mask[i * rest], e[i * rest], scale[i * rest]);
        for (int k = 1; k < rest; k++) sum = fx_add_others(mask[i * rest + k], e[i * rest + k], scale[i * rest + k], sum);
        block[i] += sum;
    }
}

/* ---- `vectors` of FX_VF rows of n >= 4 contiguous floats: their sums s + lo but for the labels' terms, and the labels'
   logits. What lies behind the last vector is 1 and 0, which all rows hold. ---- */
FX_INLINE void fx_sums_across(
    const char *p, ptrdiff_t stride, int vectors, ptrdiff_t n, const int32_t *labels, vf *s, vf *lo, vf *own
) {
    vf x[8], block[FX_NQ];
    vi label[FX_NQ];
    int rest = n % 4;
    for (int g = vectors; g < FX_NQ; g++) s[g] = vf_splat(1), lo[g] = own[g] = vf_splat(0);
    for (int g = 0; g < vectors; g++, p += FX_VF * stride, labels += FX_VF) {
        const char *ahead = p + FX_VF * stride + FX_PREFETCH;
        vf s_ = vf_splat(0), lo_ = s_, own_ = s_, some;
        vi one = (vi)vf_load(labels);
        ptrdiff_t j = 0;
        for (; j + 8 <= n; j += 8) {
            if (FX_OCTS) fx_octs(p + 4 * j, stride, x);
            else fx_quad(p + 4 * j, stride, x);
            some = fx_quad_sum(x, one, &own_);
            for (int i = 0; i < FX_VF * 16; i += 64) fx_stream(ahead + i);
            if (!FX_OCTS) fx_quad(p + 4 * j + 16, stride, x + 4);
            some += fx_quad_sum(x + 4, one - 4, &own_);
            for (int i = FX_VF * 16; i < FX_VF * 32; i += 64) fx_stream(ahead + i);
            ahead += FX_VF * 32;
            one -= 8;
            fx_add_block(some, &s_, &lo_);
        }
        some = vf_splat(0);
        if (j + 4 <= n) {
            for (int i = 0; i < FX_VF * 16; i += 64) fx_stream(ahead + i);
            fx_quad(p + 4 * j, stride, x);
            some = fx_quad_sum(x, one, &own_);
            one -= 4;
        }
        s[g] = s_;
        lo[g] = lo_;
        own[g] = own_;
        block[g] = some;
        label[g] = one;
        if (rest == 3) fx_tails(p, stride, n, 3, 1, &label[g], &block[g], &own[g]);
        else if (rest == 2 && (g % 2 || g + 1 == vectors))
            fx_tails(p - g % 2 * FX_VF * stride, stride, n, 2, g % 2 + 1, &label[g / 2 * 2], &block[g / 2 * 2], &own[g / 2 * 2]);
    }
    if (rest == 1) fx_tails(p - vectors * FX_VF * stride, stride, n, 1, vectors, label, block, own);
    for (int g = 0; g < vectors; g++) {
        if (n < 8) s[g] = block[g];
        else if (n % 8) fx_add_block(block[g], &s[g], &lo[g]);
    }
}

/* the same for three classes: no term is worked out for the label */
FX_INLINE void fx_sums_three(const char *p, const int32_t *labels, vf *s, vf *lo, vf *own) {
    vf x[4], a[FX_NQ], b[FX_NQ];
    for (int g = 0; g < FX_NQ; g++) {
        vi label = (vi)vf_load(labels + g * FX_VF);
        fx_mask first = fx_has(label, 0), last = fx_has(label, 2);
        fx_threes(p + g * FX_VF * 12, x);
        own[g] = fx_own(first, x[0], fx_own(last, x[2], x[1]));
        a[g] = fx_own(first, x[1], x[0]);
        b[g] = fx_own(last, x[1], x[2]);
        fx_stream(p + g * FX_VF * 12 + FX_PREFETCH);
        if (FX_VF * 12 > 64) fx_stream(p + g * FX_VF * 12 + FX_PREFETCH + 64);
        lo[g] = vf_splat(0);
    }
    for (int g = 0; g < FX_NQ; g += FX_NI) vf_terms(a + g, s + g);
    for (int g = 0; g < FX_NQ; g += FX_NI) vf_terms(b + g, b + g);
    for (int g = 0; g < FX_NQ; g++) s[g] += b[g];
}

/* ---- where batch k of `rows` rows begins, rows >= FX_BATCH: the last one goes back over rows that others have, too ---- */
FX_INLINE ptrdiff_t fx_batch(ptrdiff_t k, ptrdiff_t rows) {
    return (k + 1) * FX_BATCH <= rows ? k * FX_BATCH : rows - FX_BATCH;
}

/* ---- `rows` >= FX_BATCH rows that lie side by side: classes j to j + n of them, added to s + lo, FX_NQ vectors a batch;
   j is a multiple of 8. Eight classes of all rows, then the next eight: few streams of memory at a time, for where a
   class's rows are a power of two bytes long, lines of all classes would want the same places of a cache. ---- */
FX_INLINE void fx_sums_down(
    const char *p, ptrdiff_t stride, int kind, ptrdiff_t size, ptrdiff_t j, ptrdiff_t n, ptrdiff_t rows,
    const int32_t *labels, vf *s, vf *lo, vf *own
) {
    vf x[4], none = vf_splat(-INFINITY);
    ptrdiff_t batches = (rows + FX_BATCH - 1) / FX_BATCH;
    for (ptrdiff_t k = 0; k < n; k += 8, p += 8 * stride) {
        /* what is fetched: the rest of these classes, then the first rows of the next ones */
        const char *next = k + 8 < n ? p + 8 * stride : p - k * stride + rows * size;
        for (ptrdiff_t b = 0, g = 0; b < batches; b++) {
            ptrdiff_t row = fx_batch(b, rows);
            const char *end = p + row * size + FX_BATCH * size;
            const char *ahead = row + FX_ROWS_AHEAD < rows ? p + (row + FX_ROWS_AHEAD) * size : next + (row + FX_ROWS_AHEAD - rows) * size;
            const int32_t *of = labels + row;
            for (const char *v = p + row * size; v < end; v += FX_VF * size, ahead += FX_VF * size, of += FX_VF, g++) {
                const char *q = v, *a = ahead;
                vi label = (vi)vf_load(of) - (int32_t)(j + k);
                vf own_ = own[g], block = vf_splat(0);
                int line = (size_t)(v - p) % 64 == 0;
                for (ptrdiff_t left = n - k, last = left > 8 ? left - 8 : 0; left > last; left -= 4, label -= 4) {
                    if (left >= 4)
                        for (int i = 0; i < 4; i++) x[i] = vf_load_kind(q + i * stride, kind);
                    else
                        for (int i = 0; i < 4; i++) x[i] = i < left ? vf_load_kind(q + i * stride, kind) : none;
                    q += 4 * stride;
                    if (line) {
                        for (int i = 0; i < 4; i++) fx_prefetch(a + i * stride);
                        a += 4 * stride;
                    }
                    block += fx_quad_sum(x, label, &own_);
                }
                own[g] = own_;
                fx_add_block(block, &s[g], &lo[g]);
            }
        }
    }
}

/* ---- the class of the largest logit, the first of equals, -1 for none above -inf; a NaN is looked over ---- */
FX_INLINE void fx_quad_tops(const vf *x, ptrdiff_t j, vf *top, vi *best) {
    for (int k = 0; k < 4; k++) {
        *best = (vi)vf_where((vi)(x[k] > *top), (vf)((vi){0} + (int32_t)(j + k)), (vf)*best);
        *top = vf_max(x[k], *top);
    }
}
FX_INLINE void fx_tops_across(
    const char *p, ptrdiff_t stride, int vectors, ptrdiff_t from, ptrdiff_t n, vf *tops, int32_t *best
) {
    vf x[4];
    for (int g = 0; g < vectors; g++, p += FX_VF * stride, best += FX_VF) {
        vf top = from ? tops[g] : vf_splat(-INFINITY);
        vi at = from ? (vi)vf_load(best) : (vi){0} - 1;
        x[2] = x[3] = vf_splat(-INFINITY);
        if (n == 2) fx_twos(p, x);
        if (n == 3) fx_threes(p, x);
        if (n < 4) fx_quad_tops(x, 0, &top, &at);
        for (ptrdiff_t j = 0; j + 4 <= n; j += 4) {
            fx_quad(p + 4 * j, stride, x);
            for (int i = 0; i < FX_VF * 16; i += 64) fx_stream(p + FX_VF * stride + 4 * j * FX_VF + FX_PREFETCH + i);
            fx_quad_tops(x, from + j, &top, &at);
        }
        if (n > 4 && n % 4) {
            fx_last_quad(p, stride, n, x);
            fx_quad_tops(x, from + n - n % 4, &top, &at);
        }
        tops[g] = top;
        vf_store(best, (vf)at);
    }
}
FX_INLINE void fx_tops_down(
    const char *p, ptrdiff_t stride, int kind, ptrdiff_t size, ptrdiff_t j, ptrdiff_t n, vf *top, int32_t *best
) {
    for (ptrdiff_t k = 0; k < n; k++, p += stride) {
        for (int line = 0; line < FX_BATCH * size; line += 64) fx_prefetch(p + FX_BATCH * size + line);
        for (int g = 0; g < FX_NQ; g++) {
            vf x = vf_load_kind(p + g * FX_VF * size, kind), at = vf_load(best + g * FX_VF);
            at = vf_where((vi)(x > top[g]), (vf)((vi){0} + (int32_t)(j + k)), at);
            vf_store(best + g * FX_VF, at);
            top[g] = vf_max(x, top[g]);
        }
    }
}

/* ---- s + lo and own to results; `ok` where they are ----
   With `lse` the result is own + loss, with one rounding at the end. rest (or NULL): loss = out's main part e log 2 and
   what is added to it, unrounded: for those who want more than float32. */
FX_INLINE void fx_quick_finish(const vf *s, const vf *lo, const vf *own, int lse, vf *out, vf *main_part, vf *rest, vi *ok) {
    vf x[FX_NQ], t[FX_NQ], n[FX_NQ], r[FX_NQ], q[FX_NQ], y[FX_NQ], u[FX_NQ], f[FX_NQ], e[FX_NQ], z[FX_NQ];
    vi top[FX_NQ];
    const vf magic = vf_splat(FX_MAGIC_F + 127.0f);
    /* e^-own = (1 + q) 2^n; with n comes the n of the sum's largest term, whose n lo is still in the sum (exponential.h) */
    FX_EACH_OF(FX_NQ, x, vf_min(vf_splat(FX_MOST_OWN), vf_max(vf_splat(-FX_MOST_OWN), -own[v])));
    FX_EACH_OF(FX_NQ, t, vf_fma(x[v], vf_splat((float)FX_LOG2E), magic));
    FX_EACH_OF(FX_NQ, n, t[v] - magic);
    FX_EACH_OF(FX_NQ, r, vf_fma(n[v], vf_splat(-FX_LN2_HI_F), x[v]));
    if (FX_FMA) {
        FX_EACH_OF(FX_NQ, n, n[v] + __builtin_convertvector(((vi)s[v] >> 23) - 127, vf));
        FX_EACH_OF(FX_NQ, q, vf_exp_tail(r[v]));
        FX_EACH_OF(FX_NQ, q, vf_fma(q[v], r[v], vf_splat(1.0f)) * r[v]);
        FX_EACH_OF(FX_NQ, q, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), q[v])); /* n lo is small: below 3e-7 */
    } else {
        FX_EACH_OF(FX_NQ, r, vf_fma(n[v], vf_splat(-FX_LN2_LO_F), r[v]));
        FX_EACH_OF(FX_NQ, q, vf_exp_tail(r[v]));
        FX_EACH_OF(FX_NQ, q, r[v] + r[v] * r[v] * q[v]);
    }
    /* (s + lo) (1 + q) as a sum and what it lost, which for y near 0 is not small */
    FX_EACH_OF(FX_NQ, z, vf_fma(s[v], q[v], vf_fma(lo[v], q[v], lo[v])));
    FX_EACH_OF(FX_NQ, y, s[v] + z[v]);
    FX_EACH_OF(FX_NQ, z, (z[v] - (y[v] - s[v])) * vf_scale(t[v]));
    FX_EACH_OF(FX_NQ, y, y[v] * vf_scale(t[v]));
    for (int v = 0; v < FX_NQ; v++)
        ok[v] = (vi)(x[v] == -own[v]) & (vi)(s[v] >= 1e-24f) & (vi)(s[v] <= 1e36f) & (vi)(y[v] >= 1e-30f) &
                (vi)(y[v] <= 1e36f);
    /* log1p y: u = 1 + y = (1 + f) 2^e, what that sum lost goes to f; near 0 f is y itself (vmath.h) */
    FX_EACH_OF(FX_NQ, u, 1.0f + y[v]);
    FX_EACH_OF(FX_NQ, top, (((vi)u[v] - 0x3f3504f3) >> 23));
    FX_EACH_OF(FX_NQ, e, __builtin_convertvector(top[v], vf));
    FX_EACH_OF(FX_NQ, top, (top[v] << 23));
    FX_EACH_OF(FX_NQ, f, (vf)((vi)u[v] - top[v]) - 1.0f);
    FX_EACH_OF(FX_NQ, f, vf_fma(z[v] + (y[v] - (u[v] - 1.0f)), (vf)(0x3f800000 - top[v]), f[v]));
    FX_EACH_OF(FX_NQ, z, (vf)((vi)(y[v] < 0.4142f) & (vi)z[v]));
    FX_EACH_OF(FX_NQ, f, vf_where((vi)(y[v] < 0.4142f), y[v], f[v]));
    for (int v = 0; v < FX_NQ; v += FX_NI) vf_log_tail(f + v, q + v);
    FX_EACH_OF(FX_NQ, q, f[v] + (vf_fma(e[v], vf_splat(FX_LN2_REST_F), q[v]) + z[v]));
    FX_EACH_OF(FX_NQ, e, e[v] * FX_LN2_15); /* exact */
    if (rest)
        for (int v = 0; v < FX_NQ; v++) main_part[v] = e[v], rest[v] = q[v];
    if (lse) {
        FX_EACH_OF(FX_NQ, t, own[v] + e[v]);
        FX_EACH_OF(FX_NQ, q, q[v] + vf_lost(own[v], e[v], t[v]));
        FX_EACH_OF(FX_NQ, out, t[v] + q[v]);
    } else
        FX_EACH_OF(FX_NQ, out, e[v] + q[v]);
}
FX_INLINE int fx_all(const vi *ok) { /* whether all lanes are set */
    vi all = ok[0];
    for (int v = 1; v < FX_NQ; v++) all &= ok[v];
    return !vi_any(~all);
}

#endif
