/* Sums of rows of FX_ALONG contiguous float32 classes or more, lanes being classes: no row is turned, and 16 lanes are idle
   at its end at most. (Of fewer classes too many would be: there lanes are rows, as quick.h has it.)

   Class j goes to lane j % 16, at every level. Four vectors, of one row to four, are worked out side by side, each term
   added to its lane by the multiply-add that makes it, the label's left out. Then the lanes of FX_VF rows are added as a
   tree, lane l and l + 8, l + 4, l + 2, l + 1, and what comes out is one vector of rows. A lane adds 4 terms at most (8 would
   cost a log-sum-exp 2.8 ULP): every FX_MOST_LANED classes have a tree of their own, added with its rounding error. */
#ifndef FASTXENT_ALONG_H
#define FASTXENT_ALONG_H

#include "quick.h"

#define FX_ALONG 32                           /* classes, at least */
#define FX_LANES 16                           /* of a row */
#define FX_MOST_LANED 64                      /* classes, before lanes are added */
#define FX_MOST_ALONG 256                     /* classes */
#define FX_PER_ROW (FX_LANES / FX_VF)         /* vectors */
#define FX_SIDE_BY_SIDE (FX_QUAD / FX_PER_ROW) /* rows */
#define FX_ALONG_AHEAD (2 * FX_PREFETCH)

/* the first `count` of a vector's floats, -inf behind them; no others are read */
FX_INLINE vf fx_first(const char *p, int count) {
#if defined(__AVX512F__) && FX_VBYTES == 64
    return (vf)_mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), (__mmask16)((1u << count) - 1), p);
#elif defined(__AVX__) && FX_VBYTES == 32
    __m256i there = _mm256_loadu_si256((const __m256i *)(fx_first_f + 8 - count));
    return (vf)_mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_maskload_ps((const float *)p, there), (__m256)there);
#else
    vf x = vf_splat(-INFINITY);
    memcpy(&x, p, 4 * count);
    return x;
#endif
}

/* the sums of FX_VF rows' lanes, FX_PER_ROW vectors a row */
FX_INLINE vf fx_tree(const vf *lanes) {
#if defined(__AVX512F__) && FX_VBYTES == 64
    vf a[8], b[4], c[2];
    /* row 4 k + g of the result is block k of b[g], element g of c */
    for (int g = 0; g < 8; g++) {
        __m512 p = (__m512)lanes[g % 4 + g / 4 * 8], q = (__m512)lanes[g % 4 + g / 4 * 8 + 4];
        a[g] = (vf)_mm512_shuffle_f32x4(p, q, 0x44) + (vf)_mm512_shuffle_f32x4(p, q, 0xee);
    }
    for (int g = 0; g < 4; g++) {
        __m512 p = (__m512)a[g], q = (__m512)a[g + 4];
        b[g] = (vf)_mm512_shuffle_f32x4(p, q, 0x88) + (vf)_mm512_shuffle_f32x4(p, q, 0xdd);
    }
    for (int g = 0; g < 2; g++) {
        __m512 p = (__m512)b[2 * g], q = (__m512)b[2 * g + 1];
        c[g] = (vf)_mm512_shuffle_ps(p, q, 0x44) + (vf)_mm512_shuffle_ps(p, q, 0xee);
    }
    __m512 p = (__m512)c[0], q = (__m512)c[1];
    return (vf)_mm512_shuffle_ps(p, q, 0x88) + (vf)_mm512_shuffle_ps(p, q, 0xdd);
#elif defined(__AVX__) && FX_VBYTES == 32
    vf a[8], b[4], c[2];
    for (int g = 0; g < 8; g++) a[g] = lanes[2 * g] + lanes[2 * g + 1];
    for (int g = 0; g < 4; g++) {
        __m256 p = (__m256)a[g], q = (__m256)a[g + 4];
        b[g] = (vf)_mm256_permute2f128_ps(p, q, 0x20) + (vf)_mm256_permute2f128_ps(p, q, 0x31);
    }
    for (int g = 0; g < 2; g++) {
        __m256 p = (__m256)b[2 * g], q = (__m256)b[2 * g + 1];
        c[g] = (vf)_mm256_shuffle_ps(p, q, 0x44) + (vf)_mm256_shuffle_ps(p, q, 0xee);
    }
    __m256 p = (__m256)c[0], q = (__m256)c[1];
    return (vf)_mm256_shuffle_ps(p, q, 0x88) + (vf)_mm256_shuffle_ps(p, q, 0xdd);
#elif FX_VBYTES == 16
    const vi low = {0, 1, 4, 5}, high = {2, 3, 6, 7}, even = {0, 2, 4, 6}, odd = {1, 3, 5, 7};
    vf a[4], c[2];
    for (int g = 0; g < 4; g++, lanes += 4) a[g] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    for (int g = 0; g < 2; g++)
        c[g] = __builtin_shuffle(a[2 * g], a[2 * g + 1], low) + __builtin_shuffle(a[2 * g], a[2 * g + 1], high);
    return __builtin_shuffle(c[0], c[1], even) + __builtin_shuffle(c[0], c[1], odd);
#else /* a test level */
    vf s;
    for (int i = 0; i < FX_VF; i++) {
        float x[FX_LANES];
        memcpy(x, lanes + i * FX_PER_ROW, sizeof(x));
        for (int half = FX_LANES / 2; half; half /= 2)
            for (int l = 0; l < half; l++) x[l] += x[l + half];
        s[i] = x[0];
    }
    return s;
#endif
}

/* one step: four vectors of terms to their lanes; place[i % FX_PER_ROW]: the classes in vector i */
FX_INLINE void fx_along_step(const vf *x, const vi *label, const vi *place, vf *lanes) {
    vf e[FX_QUAD], scale[FX_QUAD];
    vf_parts_of(FX_QUAD, x, e, scale);
    FX_EACH_OF(FX_QUAD, lanes, fx_add_others(fx_differ(label[v], place[v % FX_PER_ROW]), e[v], scale[v], lanes[v]));
}

/* n of the classes of FX_SIDE_BY_SIDE rows, n <= FX_MOST_LANED: their lanes. `place`: the numbers of the first ones, moved
   on to what follows. */
FX_INLINE void fx_along(
    const char *p, ptrdiff_t stride, ptrdiff_t n, const vi *label, vi *place, const char *ahead, vf *lanes
) {
    vf x[FX_QUAD], s[FX_QUAD];
    for (int v = 0; v < FX_QUAD; v++) s[v] = vf_splat(0);
    for (; n >= FX_LANES; n -= FX_LANES, p += 4 * FX_LANES) {
        for (int v = 0; v < FX_QUAD; v++) x[v] = vf_load(p + v / FX_PER_ROW * stride + v % FX_PER_ROW * FX_VBYTES);
        fx_along_step(x, label, place, s);
        for (int v = 0; v < FX_PER_ROW; v++) place[v] += FX_LANES;
        for (int i = 0; i < FX_SIDE_BY_SIDE; i++) fx_stream(ahead + 64 * i);
        ahead += 64 * FX_SIDE_BY_SIDE;
    }
    if (n) {
        for (int v = 0; v < FX_QUAD; v++) {
            int count = (int)n - v % FX_PER_ROW * FX_VF;
            count = count < 0 ? 0 : count > FX_VF ? FX_VF : count;
            x[v] = fx_first(p + v / FX_PER_ROW * stride + v % FX_PER_ROW * FX_VBYTES, count);
        }
        fx_along_step(x, label, place, s);
        for (int i = 0; i < FX_SIDE_BY_SIDE; i++) fx_stream(ahead + 64 * i);
    }
    for (int v = 0; v < FX_QUAD; v++) lanes[v] = s[v];
}

/* `vectors` of FX_VF rows: classes `from` to from + n at p; as fx_sums_across has it. `from` is a multiple of FX_MOST_LANED,
   from + n at most FX_MOST_ALONG. What is fetched ahead is line after line, which memory does twice as fast as some of
   every row. */
FX_INLINE void fx_sums_along(
    const char *p, ptrdiff_t stride, int vectors, ptrdiff_t from, ptrdiff_t n, const int32_t *labels,
    vf *s, vf *lo, vf *own
) {
    vf lanes[FX_MOST_ALONG / FX_MOST_LANED][FX_LANES];
    vi first[FX_PER_ROW];
    for (int v = 0; v < FX_PER_ROW; v++)
        for (int i = 0; i < FX_VF; i++) first[v][i] = (int32_t)from + v * FX_VF + i;
    for (int g = vectors; g < FX_NQ; g++) s[g] = vf_splat(1), lo[g] = own[g] = vf_splat(0);
    for (int g = 0; g < vectors; g++, p += FX_VF * stride, labels += FX_VF) {
        float logit[FX_VF];
        for (int i = 0; i < FX_VF; i += FX_SIDE_BY_SIDE) {
            const char *row = p + i * stride, *ahead = row + FX_ALONG_AHEAD;
            vi label[FX_QUAD], place[FX_PER_ROW];
            for (int v = 0; v < FX_QUAD; v++) label[v] = (vi){0} + labels[i + v / FX_PER_ROW];
            for (int v = 0; v < FX_PER_ROW; v++) place[v] = first[v];
            for (ptrdiff_t j = 0; j < n; j += FX_MOST_LANED)
                fx_along(
                    row + 4 * j, stride, n - j < FX_MOST_LANED ? n - j : FX_MOST_LANED, label, place,
                    ahead + 4 * j * FX_SIDE_BY_SIDE, lanes[j / FX_MOST_LANED] + i * FX_PER_ROW
                );
        }
        /* now that the rows are in the first cache */
        if (from) vf_store(logit, own[g]);
        for (int i = 0; i < FX_VF; i++) {
            ptrdiff_t k = labels[i] - from;
            int here = k >= 0 && k < n;
            if (here || !from) logit[i] = fx_f32(p + i * stride + 4 * (here ? k : 0));
        }
        own[g] = vf_load(logit);
        if (!from) s[g] = lo[g] = vf_splat(0);
        for (ptrdiff_t j = 0; j < n; j += FX_MOST_LANED)
            fx_add_block(fx_tree(lanes[j / FX_MOST_LANED]), &s[g], &lo[g]);
    }
}

#endif
