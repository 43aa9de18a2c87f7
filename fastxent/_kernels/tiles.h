/* Eight rows of eight floats turned into eight columns, in registers, and what goes with it: how rows come into lanes
   (columns.pxi) and results back. Nothing outside the classes asked for is read or written: masked loads touch no other
   memory (Intel SDM, VMASKMOV); the stores are of 4, 2 and 1 floats, for masked ones are microcode on AMD's cores
   (Agner Fog, instruction tables). */
#ifndef FASTXENT_TILES_H
#define FASTXENT_TILES_H

#include "simd.h"

#define FX_TILE 8
#define FX_TILES_AHEAD 8 /* fetched ahead: some 300 cycles of turning, as long as memory takes */

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

typedef float vf_half __attribute__((vector_size(FX_VBYTES / 2)));

FX_INLINE void vd_store_f32(void *p, vd x) { /* rounded to float32 */
#if FX_VBYTES == 64 && !defined(__AVX512F__)
    for (int i = 0; i < FX_VD; i++) ((vf_half_u *)p)[0][i] = (float)x[i]; /* a test level: see vd_load_f32 */
#elif FX_VBYTES == 64
    _mm256_storeu_ps((float *)p, _mm512_cvtpd_ps((__m512d)x));
#elif defined(__AVX__) && FX_VBYTES == 32
    _mm_storeu_ps((float *)p, _mm256_cvtpd_ps((__m256d)x));
#else
    *(vf_half_u *)p = __builtin_convertvector(x, vf_half);
#endif
}

#if defined(__AVX__)
#define FX_TILES 1
FX_INLINE void fx_transpose(__m256 *x) {
    __m256 y[8];
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
    for (int i = 0; i < 8; i++) y[i] = x[i];
    for (int k = 0; k < 4; k++) {
        x[k] = _mm256_permute2f128_ps(y[k], y[k + 4], 0x20);
        x[k + 4] = _mm256_permute2f128_ps(y[k], y[k + 4], 0x31);
    }
}

/* b[k width + i] = element k of row i */
FX_INLINE void fx_to_lanes(const char *p, ptrdiff_t stride, int classes, float *b, ptrdiff_t width) {
    static const int32_t masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    __m256i mask = _mm256_loadu_si256((const __m256i *)(masks + 8 - classes));
    __m256 x[8];
    for (int i = 0; i < 8; i++) {
        x[i] = classes == 8 ? _mm256_loadu_ps((const float *)(p + i * stride))
                            : _mm256_maskload_ps((const float *)(p + i * stride), mask);
        fx_prefetch(p + (i + FX_TILES_AHEAD * FX_TILE) * stride);
    }
    fx_transpose(x);
    for (int k = 0; k < 8; k++)
        if (k < classes) _mm256_storeu_ps(b + k * width, x[k]);
}

/* element k of row i = b[k width + i] */
FX_INLINE void fx_from_lanes(const float *b, ptrdiff_t width, char *p, ptrdiff_t stride, int classes) {
    __m256 x[8];
    for (int k = 0; k < 8; k++) x[k] = k < classes ? _mm256_loadu_ps(b + k * width) : _mm256_setzero_ps();
    fx_transpose(x);
    for (int i = 0; i < 8; i++) {
        float *row = (float *)(p + i * stride);
        __m128 rest = _mm256_castps256_ps128(x[i]);
        if (classes == 8) {
            _mm256_storeu_ps(row, x[i]);
            continue;
        }
        if (classes & 4) {
            _mm_storeu_ps(row, rest);
            row += 4;
            rest = _mm256_extractf128_ps(x[i], 1);
        }
        if (classes & 2) {
            _mm_storel_pi((__m64 *)row, rest);
            row += 2;
            rest = _mm_movehl_ps(rest, rest);
        }
        if (classes & 1) _mm_store_ss(row, rest);
    }
}
#else
#define FX_TILES 0
FX_INLINE void fx_to_lanes(const char *p, ptrdiff_t stride, int classes, float *b, ptrdiff_t width) {
    (void)p; (void)stride; (void)classes; (void)b; (void)width;
}
FX_INLINE void fx_from_lanes(const float *b, ptrdiff_t width, char *p, ptrdiff_t stride, int classes) {
    (void)b; (void)width; (void)p; (void)stride; (void)classes;
}
#endif

#endif
