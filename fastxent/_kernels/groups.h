/* Groups of a row that cannot be summed as they lie: the one whose label is left out, and the last where it is not whole.
   Copied FX_VBYTES at a time: what is stored in smaller pieces makes the load behind it wait for the first cache. */
#ifndef FASTXENT_GROUPS_H
#define FASTXENT_GROUPS_H

#include "simd.h"

typedef int16_t fx_places __attribute__((vector_size(FX_VBYTES), aligned(2), may_alias));
static const int16_t fx_place[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                     44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

/* a group of `bytes`, but for element `lane` of `size` bytes, which becomes `filling` (8 bytes, repeated) */
FX_INLINE void fx_copy_but(const char *from, int bytes, int size, int lane, uint64_t filling, char *to) {
    const int shift = size == 8 ? 2 : size == 4 ? 1 : 0; /* 2^shift places of 16 bits an element */
    for (int i = 0; i < bytes; i += FX_VBYTES) {
        vl hole = (vl)((*(const fx_places *)(fx_place + i / 2) >> shift) == (int16_t)lane);
        vd_store(to + i, vd_pick(hole, (vd)((vl){0} + (int64_t)filling), vd_load(from + i)));
    }
}

/* the last `rest` bytes before `end`, filled up to `bytes`; `whole`: as many as that may be read before `end` */
FX_INLINE void fx_copy_last(const char *end, ptrdiff_t rest, int bytes, int whole, uint64_t filling, char *to) {
#if defined(__AVX512BW__) && FX_VBYTES == 64 /* no byte is read whose mask bit is not set (Intel SDM, 15.6.1) */
    uint64_t there = ((uint64_t)1 << rest / 2) - 1; /* places of 16 bits */
    (void)whole;
    for (int i = 0; i < bytes; i += 64, there >>= 32)
        _mm512_storeu_si512(
            to + i, _mm512_mask_loadu_epi16(_mm512_set1_epi64((int64_t)filling), (__mmask32)there, end - rest + i));
#else
    char wide[2 * FX_GROUP_BYTES];
    for (int i = 0; i < bytes; i += FX_VBYTES) vd_store(wide + bytes + i, (vd)((vl){0} + (int64_t)filling));
    if (whole)
        for (int i = 0; i < bytes; i += FX_VBYTES) vd_store(wide + i, vd_load(end - bytes + i));
    else
        memcpy(wide + bytes - rest, end - rest, rest);
    for (int i = 0; i < bytes; i += FX_VBYTES) vd_store(to + i, vd_load(wide + bytes - rest + i));
#endif
}

/* ---- lanes added as a tree: i and i + half of them, and so on (through vectors of four doubles: those of GCC and Clang may
   be wider than a register) ---- */
typedef double fx_four __attribute__((vector_size(32)));
typedef double fx_four_u __attribute__((vector_size(32), aligned(8), may_alias));

FX_INLINE double fx_fold(const double *lanes) { /* 16 */
    const fx_four_u *part = (const fx_four_u *)lanes;
    fx_four s = (part[0] + part[2]) + (part[1] + part[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* 8 pairs, into the first: TwoSum (Knuth, TAOCP 2, 4.2.2), the errors added to lo */
FX_INLINE void fx_fold_pairs(double *hi, double *lo) {
    const fx_four_u *h = (const fx_four_u *)hi, *l = (const fx_four_u *)lo;
    fx_four s = h[0] + h[1], b = s - h[0], e = (l[0] + l[1]) + ((h[0] - (s - b)) + (h[1] - b));
    for (int i = 0; i < 4; i++) hi[i] = s[i], lo[i] = e[i];
    for (int half = 2; half; half /= 2)
        for (int i = 0; i < half; i++) {
            double x = hi[i], y = hi[i + half], sum = x + y, z = sum - x;
            hi[i] = sum;
            lo[i] = lo[i] + lo[i + half] + ((x - (sum - z)) + (y - z));
        }
}

#endif
