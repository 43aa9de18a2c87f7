/* Large results, written past the caches: a plain store first reads the line that it writes, a quarter to a third of all
   traffic where as much is written as is read (Intel, Optimization Reference Manual, 9.6: non-temporal stores). Only where
   the whole result is too large for whoever reads it next to find it in a cache. Lines of 64 bytes are written at once; what
   lies before the first and behind the last whole line is stored plainly. */
#ifndef FASTXENT_PAST_H
#define FASTXENT_PAST_H

#include "simd.h"

#define FX_LINE 64
#define FX_PAST ((ptrdiff_t)64 << 20) /* bytes of a result, from which on it is written past the caches */

/* how many bytes lie before the next line */
FX_INLINE ptrdiff_t fx_before_line(const char *p) { return -(uintptr_t)p & (FX_LINE - 1); }

/* a vector to where a vector may begin */
FX_INLINE void fx_store_past(char *to, vf x) {
#if defined(__AVX512F__) && FX_VBYTES == 64
    _mm512_stream_ps((float *)to, (__m512)x);
#elif defined(__AVX__) && FX_VBYTES == 32
    _mm256_stream_ps((float *)to, (__m256)x);
#elif defined(__SSE2__) && FX_VBYTES == 16
    _mm_stream_ps((float *)to, (__m128)x);
#else
    vf_store(to, x);
#endif
}

/* behind the last of them, before others are told */
FX_INLINE void fx_past_done(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* n bytes to `to` */
FX_INLINE void fx_copy_past(char *to, const char *from, ptrdiff_t n) {
    ptrdiff_t i = fx_before_line(to);
    if (n < i + FX_LINE) {
        memcpy(to, from, n);
        return;
    }
    memcpy(to, from, i);
    for (; i + FX_LINE <= n; i += FX_LINE)
        for (int v = 0; v < FX_LINE; v += FX_VBYTES) fx_store_past(to + i + v, vf_load(from + i + v));
    memcpy(to + i, from + i, n - i);
}

#endif
