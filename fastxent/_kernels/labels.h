/* Labels of neighbouring rows, as most have them: 64-bit integers one after the other, brought into lanes of 32 bits. */
#ifndef FASTXENT_LABELS_H
#define FASTXENT_LABELS_H

#include "simd.h"

typedef int32_t vi_half __attribute__((vector_size(FX_VBYTES / 2)));
typedef int32_t vi_half_u __attribute__((vector_size(FX_VBYTES / 2), aligned(4), may_alias));

/* n labels to int32; whether all are in [0, classes), and none is `skip` where there is such a one. Each is read once.
   classes <= 2^31. Without unsigned comparisons, which AVX2 has not: the sign of a label, or that of what is left to the
   largest one, says that it is out of range. */
FX_INLINE int fx_plain_labels(
    const char *p, ptrdiff_t n, int64_t classes, int has_skip, int64_t skip, int32_t *out
) {
    typedef uint64_t vul __attribute__((vector_size(FX_VBYTES))); /* whose differences may wrap */
    vul bad = {0}, most = bad + (uint64_t)(classes - 1), skipped = bad + (uint64_t)(has_skip ? skip : -1);
    uint64_t bad_one = 0;
    ptrdiff_t i = 0;
    for (; i + FX_VD <= n; i += FX_VD) {
        vul x = (vul)vd_load(p + 8 * i);
        bad |= x | (most - x) | (vul)(x == skipped);
        *(vi_half_u *)(out + i) = __builtin_convertvector(x, vi_half);
    }
    for (; i < n; i++) {
        uint64_t x;
        memcpy(&x, p + 8 * i, 8);
        bad_one |= x | ((uint64_t)(classes - 1) - x) | -(uint64_t)(has_skip && x == (uint64_t)skip);
        out[i] = (int32_t)x;
    }
    return !(vl_any((vl)bad < 0) | ((int64_t)bad_one < 0));
}

#endif
