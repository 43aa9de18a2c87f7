/* Rows of contiguous floats brought into lanes in registers, two to eight classes at a time: lane i is row i. Nothing behind
   the last class asked for is read. */
#ifndef FASTXENT_QUADS_H
#define FASTXENT_QUADS_H

#include "simd.h"

#define FX_QUAD 4

/* x[k][i] = element k of row i, k < 4, rows `stride` bytes apart */
FX_INLINE void fx_quad(const char *p, ptrdiff_t stride, vf *x) {
#if defined(__AVX__) && FX_VBYTES == 32
    __m256 a[4], b[4];
    for (int i = 0; i < 4; i++)
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)(p + i * stride))),
                                    _mm_loadu_ps((const float *)(p + (i + 4) * stride)), 1);
    b[0] = _mm256_unpacklo_ps(a[0], a[1]);
    b[1] = _mm256_unpackhi_ps(a[0], a[1]);
    b[2] = _mm256_unpacklo_ps(a[2], a[3]);
    b[3] = _mm256_unpackhi_ps(a[2], a[3]);
    x[0] = (vf)_mm256_shuffle_ps(b[0], b[2], 0x44);
    x[1] = (vf)_mm256_shuffle_ps(b[0], b[2], 0xee);
    x[2] = (vf)_mm256_shuffle_ps(b[1], b[3], 0x44);
    x[3] = (vf)_mm256_shuffle_ps(b[1], b[3], 0xee);
#elif defined(__AVX512F__) && FX_VBYTES == 64
    __m512 a[4], b[4];
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_castps128_ps512(_mm_loadu_ps((const float *)(p + i * stride)));
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps((const float *)(p + (i + 4) * stride)), 1);
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps((const float *)(p + (i + 8) * stride)), 2);
        a[i] = _mm512_insertf32x4(a[i], _mm_loadu_ps((const float *)(p + (i + 12) * stride)), 3);
    }
    b[0] = _mm512_unpacklo_ps(a[0], a[1]);
    b[1] = _mm512_unpackhi_ps(a[0], a[1]);
    b[2] = _mm512_unpacklo_ps(a[2], a[3]);
    b[3] = _mm512_unpackhi_ps(a[2], a[3]);
    x[0] = (vf)_mm512_shuffle_ps(b[0], b[2], 0x44);
    x[1] = (vf)_mm512_shuffle_ps(b[0], b[2], 0xee);
    x[2] = (vf)_mm512_shuffle_ps(b[1], b[3], 0x44);
    x[3] = (vf)_mm512_shuffle_ps(b[1], b[3], 0xee);
#elif FX_VBYTES == 16
    vf a[4], b[4];
    const vi low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, last = {2, 3, 6, 7};
    for (int i = 0; i < 4; i++) a[i] = vf_load(p + i * stride);
    b[0] = __builtin_shuffle(a[0], a[1], low);
    b[1] = __builtin_shuffle(a[0], a[1], high);
    b[2] = __builtin_shuffle(a[2], a[3], low);
    b[3] = __builtin_shuffle(a[2], a[3], high);
    x[0] = __builtin_shuffle(b[0], b[2], first);
    x[1] = __builtin_shuffle(b[0], b[2], last);
    x[2] = __builtin_shuffle(b[1], b[3], first);
    x[3] = __builtin_shuffle(b[1], b[3], last);
#else /* a test level */
    for (int i = 0; i < FX_VF; i++)
        for (int k = 0; k < 4; k++) x[k][i] = fx_f32(p + i * stride + 4 * k);
#endif
}

/* the same for k < 8, with loads of 32 bytes: 32 operations, where two quads take 40 */
#if defined(__AVX512F__) && FX_VBYTES == 64
#define FX_OCTS 1
FX_INLINE void fx_octs(const char *p, ptrdiff_t stride, vf *x) {
    __m512 a[8], b[8];
    for (int i = 0; i < 8; i++) {
        const char *row = p + (i % 4 + i / 4 * 8) * stride;
        a[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps((const float *)row)),
                                  _mm256_loadu_ps((const float *)(row + 4 * stride)), 1);
    }
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int k = 0; k < 4; k++) {
        x[k] = (vf)_mm512_shuffle_f32x4(a[k], a[k + 4], 0x88);
        x[k + 4] = (vf)_mm512_shuffle_f32x4(a[k], a[k + 4], 0xdd);
    }
}
#else
#define FX_OCTS 0
FX_INLINE void fx_octs(const char *p, ptrdiff_t stride, vf *x) { (void)p; (void)stride; (void)x; }
#endif

/* rows of two and of three floats, side by side */
FX_INLINE void fx_twos(const char *p, vf *x) {
#if defined(__AVX2__) && FX_VBYTES == 32
    __m256 a = _mm256_loadu_ps((const float *)p), b = _mm256_loadu_ps((const float *)p + 8);
    x[0] = (vf)_mm256_permute4x64_pd((__m256d)_mm256_shuffle_ps(a, b, 0x88), 0xd8);
    x[1] = (vf)_mm256_permute4x64_pd((__m256d)_mm256_shuffle_ps(a, b, 0xdd), 0xd8);
#elif defined(__AVX512F__) && FX_VBYTES == 64
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 64);
    x[0] = (vf)_mm512_permutex2var_ps(a, evens, b);
    x[1] = (vf)_mm512_permutex2var_ps(a, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), b);
#elif FX_VBYTES == 16
    vf a = vf_load(p), b = vf_load(p + 16);
    x[0] = __builtin_shuffle(a, b, (vi){0, 2, 4, 6});
    x[1] = __builtin_shuffle(a, b, (vi){1, 3, 5, 7});
#else
    for (int i = 0; i < FX_VF; i++)
        for (int k = 0; k < 2; k++) x[k][i] = fx_f32(p + 8 * i + 4 * k);
#endif
}
FX_INLINE void fx_threes(const char *p, vf *x) {
#if defined(__AVX__) && FX_VBYTES == 32
    /* in each half a = x0 y0 z0 x1, b = y1 z1 x2 y2, c = z2 x3 y3 z3 */
    const float *q = (const float *)p;
    __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(q)), _mm_loadu_ps(q + 12), 1);
    __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(q + 4)), _mm_loadu_ps(q + 16), 1);
    __m256 c = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(q + 8)), _mm_loadu_ps(q + 20), 1);
    __m256 xy = _mm256_shuffle_ps(b, c, _MM_SHUFFLE(2, 1, 3, 2)), yz = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 2, 1));
    x[0] = (vf)_mm256_shuffle_ps(a, xy, _MM_SHUFFLE(2, 0, 3, 0));
    x[1] = (vf)_mm256_shuffle_ps(yz, xy, _MM_SHUFFLE(3, 1, 2, 0));
    x[2] = (vf)_mm256_shuffle_ps(yz, c, _MM_SHUFFLE(3, 0, 3, 1));
#elif defined(__AVX512F__) && FX_VBYTES == 64
    /* element 3 i + k of the 48: of a and b first, those of c then, in the places of the last rows */
    const __m512i threes = _mm512_set_epi32(45, 42, 39, 36, 33, 30, 27, 24, 21, 18, 15, 12, 9, 6, 3, 0);
    const __m512i ranks = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 64), c = _mm512_loadu_ps(p + 128);
    for (int k = 0; k < 3; k++) {
        __m512i places = _mm512_add_epi32(threes, _mm512_set1_epi32(k));
        __mmask16 last = _mm512_cmpge_epi32_mask(places, _mm512_set1_epi32(32));
        places = _mm512_mask_sub_epi32(ranks, last, places, _mm512_set1_epi32(16)); /* 16 + where it stands in c */
        x[k] = (vf)_mm512_permutex2var_ps(
            _mm512_permutex2var_ps(a, _mm512_add_epi32(threes, _mm512_set1_epi32(k)), b), places, c);
    }
#else
    for (int i = 0; i < FX_VF; i++)
        for (int k = 0; k < 3; k++) x[k][i] = fx_f32(p + 12 * i + 4 * k);
#endif
}

/* the last n % 4 classes of rows of n >= 4, of which nothing behind the end is read; -inf behind them */
FX_INLINE void fx_last_quad(const char *p, ptrdiff_t stride, ptrdiff_t n, vf *x) {
    vf y[4], none = vf_splat(-INFINITY);
    fx_quad(p + 4 * (n - 4), stride, y);
    x[0] = n % 4 == 1 ? y[3] : n % 4 == 2 ? y[2] : y[1];
    x[1] = n % 4 == 1 ? none : n % 4 == 2 ? y[3] : y[2];
    x[2] = n % 4 == 3 ? y[3] : none;
    x[3] = none;
}

#endif
