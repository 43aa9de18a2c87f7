/* Eight rows of eight floats turned into eight columns, in registers, and what goes with it: how rows come into lanes
   (columns.pxi) and results back. Nothing outside the classes asked for is read or written: masked loads touch no other
   memory (Intel SDM, VMASKMOV); the stores are of 4, 2 and 1 floats, for masked ones are microcode on AMD's cores
   (Agner Fog, instruction tables). */
#ifndef FASTXENT_TILES_H
#define FASTXENT_TILES_H

#include "simd.h"

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

#define FX_SIDE 8
#if defined(__AVX__)
#define FX_SIDES 1
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
        fx_prefetch(p + i * stride + FX_PREFETCH);
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
#define FX_SIDES 0
FX_INLINE void fx_to_lanes(const char *p, ptrdiff_t stride, int classes, float *b, ptrdiff_t width) {
    (void)p; (void)stride; (void)classes; (void)b; (void)width;
}
FX_INLINE void fx_from_lanes(const float *b, ptrdiff_t width, char *p, ptrdiff_t stride, int classes) {
    (void)b; (void)width; (void)p; (void)stride; (void)classes;
}
#endif

#endif
