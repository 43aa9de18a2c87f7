# Ordinary rows, FX_PIXELS at a time: those whose e^x can be added as they are, with no maximum to refer to.
#
# Logits are clamped to where e^x is a normal number, or 0, and a row whose sum then lies well within that range was not
# touched by it. All others (far off, wholly masked, infinite, NaN) fail that one test and are summed by the kernel of
# strided.pxi, which refers to the largest logit. Both know one row only: its value depends on that row alone.
#
# Narrow rows whose classes lie side by side are one stream of exponentials, whose sums are taken afterwards
# (fx_row_sums): term k goes to lane k % 8, 8 terms a lane (4 of float64) make a sum. Elsewhere lanes are pixels, and 8
# classes are added as ((e0 + e4) + (e1 + e5)) + ((e2 + e6) + (e3 + e7)). These sums are added in order of the classes
# in float64, or for float64 as pairs that keep the rounding error.

cdef enum:
    TERM_DOUBLES = 1024    # room for the exponentials of a few rows between the two steps: 8 KB, in the first cache


cdef inline void some_terms(const vec *x, vec *e) noexcept nogil:
    if vec is vf:
        vf_terms(x, e)
    else:
        vd_terms(x, e)


cdef inline void lifted_terms(const vec *x, vec *e, vec *lo) noexcept nogil:
    if vec is vf:
        vf_lifted(x, e, lo)
    else:
        vd_lifted(x, e, lo)


cdef inline void stream_terms(
    const char *p, int kind, Py_ssize_t n, bint lifted, char *e, char *e_lo, vec like
) noexcept nogil:
    """e^x of n contiguous elements; `lifted`: as softmax wants them (narrowoutputs.pxi), with what their rounding lost."""
    cdef vec x[FX_NI]
    cdef vec y[FX_NI]
    cdef vec lo[FX_NI]
    cdef vec last[FX_NI]
    cdef Py_ssize_t w = width(like), i, v, size = itemsize(kind)
    for i in range(n // (FX_NI * w)):
        fx_stream(p + FX_PREFETCH)
        if FX_NI * w * size > 64:
            fx_stream(p + FX_PREFETCH + 64)
        for v in range(FX_NI):
            x[v] = load(p + v * w * size, kind, like)
        p += FX_NI * w * size
        if lifted:
            lifted_terms(x, y, lo)
            for v in range(FX_NI):
                store(e_lo + v * <Py_ssize_t>sizeof(vec), lo[v])
            e_lo += FX_NI * sizeof(vec)
        else:
            some_terms(x, y)
        for v in range(FX_NI):
            store(e + v * <Py_ssize_t>sizeof(vec), y[v])
        e += FX_NI * sizeof(vec)
    i = n % (FX_NI * w)
    if i:
        memset(last, 0, sizeof(last))
        memcpy(last, p, i * size)
        for v in range(FX_NI):
            x[v] = load(<const char *>last + v * w * size, kind, like)
        if lifted:
            lifted_terms(x, last, lo)
            memcpy(e_lo, lo, i * (sizeof(vec) // w))
        else:
            some_terms(x, last)
        memcpy(e, last, i * (sizeof(vec) // w))


cdef inline void add_rows(
    const char *e, Py_ssize_t n, Py_ssize_t rows, Py_ssize_t chain, double *s, double *s_lo, vec like
) noexcept nogil:
    """Add the terms of rows that lie one after the other to s, FX_TILE rows and `chain` terms at a time; for float64 to
    the pair."""
    cdef Py_ssize_t i, j, r
    for i in range((rows + FX_TILE - 1) // FX_TILE):
        r = i * FX_TILE
        j = 0 - chain
        while j + chain < n:
            j += chain
            if vec is vf:
                fx_row_sums_f32(<const float *>e + r * n + j, n, min(chain, n - j), &s[r])
            else:
                fx_row_sums_f64(<const double *>e + r * n + j, n, min(chain, n - j), &s[r], &s_lo[r])


cdef inline void stream_sums(
    const char *x, int kind, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t rows, const int64_t *holes, Pixels *out,
    vec like,
) noexcept nogil:
    """Rows whose classes lie side by side; n <= NARROW."""
    cdef double e[TERM_DOUBLES + FX_TILE]
    cdef double packed[TERM_DOUBLES]
    cdef Py_ssize_t size = itemsize(kind), native_size = sizeof(vec) // width(like)
    cdef Py_ssize_t group = min(FX_PIXELS, 8 * TERM_DOUBLES // native_size // n) // FX_TILE * FX_TILE
    cdef Py_ssize_t row, count, i, j, k
    cdef const char *p
    for k in range((rows + group - 1) // group):
        row = k * group
        count = min(group, rows - row)
        p = x + row * pixel_stride
        if pixel_stride != n * size:
            for i in range(count):
                memcpy(<char *>packed + i * n * size, p + i * pixel_stride, n * size)
            p = <const char *>packed
        stream_terms(p, kind, count * n, False, <char *>e, NULL, like)
        # lanes behind the last row
        memset(<char *>e + count * n * native_size, 0, FX_TILE * native_size)
        if holes != NULL:
            for i in range(count):
                # to those lanes where there is no hole
                j = holes[row + i]
                j = i * n + j if 0 <= j < n else count * n
                if vec is vf:
                    (<float *>e)[j] = 0
                else:
                    e[j] = 0
        add_rows(<char *>e, n, count, 8 * chain_length(like), &out.s[row], &out.s_lo[row], like)


cdef inline void block_sums(
    const char *p, int kind, Py_ssize_t step, int classes, Py_ssize_t j,
    const char *next_block, Py_ssize_t next_classes,     # what is fetched meanwhile, `step` apart
    Py_ssize_t vectors, const char *labels, double *hi, double *lo, vec like,
) noexcept nogil:
    """Add the terms of a block of classes."""
    cdef Py_ssize_t v, k, w = width(like)
    for v in range(vectors):
        if (v * w * itemsize(kind)) % 64 == 0:
            for k in range(next_classes):
                fx_prefetch(next_block + v * w * itemsize(kind) + k * step)
        if vec is vf:
            vf_flush(hi, vf_eight(p, step, kind, classes, <const int32_t *>labels, <int32_t>j))
        else:
            vd_flush(hi, lo, vd_eight(p, step, classes, <const int64_t *>labels, j))
        p += w * itemsize(kind)
        labels += sizeof(vec)
        hi += w
        lo += w


cdef inline void pixel_sums(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const int64_t *holes, Pixels *out, vec like,
) noexcept nogil:
    """Pixels of any strides."""
    cdef double buffer[FX_RUN * FX_PIXELS]
    cdef vec labels[FX_PIXEL_VECTORS]
    cdef Py_ssize_t w = width(like), vectors = (pixels + w - 1) // w, size = itemsize(kind)
    cdef Py_ssize_t i, j, k, block, ahead_classes
    cdef const char *p
    cdef const char *ahead
    cdef bint staged = pixel_stride != size or pixels % w != 0
    cdef const char *some = <const char *>labels
    if holes != NULL:
        for i in range(vectors * w):
            k = holes[i] if i < pixels else -1
            if not 0 <= k < n:
                k = -1
            if vec is vf:
                (<int32_t *>labels)[i] = <int32_t>k
            else:
                (<int64_t *>labels)[i] = k
    j = 0 - FX_RUN
    while j + FX_RUN < n:
        j += FX_RUN
        block = min(FX_RUN, n - j)
        p = x + j * class_stride
        # the next classes of these pixels, or the first ones of the next pixels
        ahead = p + FX_RUN * class_stride if block < n - j else x + FX_PIXELS * size
        ahead_classes = min(FX_RUN, n - j - block if block < n - j else n)
        if staged:
            stage_block(p, kind, class_stride, pixel_stride, block, pixels, <char *>buffer, like)
            block_sums(
                <const char *>buffer, native(like), FX_PIXELS * (<Py_ssize_t>sizeof(vec) // w), <int>block, j, NULL, 0,
                vectors, some, out.s, out.s_lo, like,
            )
        elif block == FX_RUN:
            block_sums(
                p, kind, class_stride, FX_RUN, j, ahead, ahead_classes, vectors, some, out.s, out.s_lo, like
            )
        else:
            block_sums(
                p, kind, class_stride, <int>block, j, ahead, ahead_classes, vectors, some, out.s, out.s_lo, like
            )


cdef inline Py_ssize_t settle(Pixels *out, Py_ssize_t pixels, vec like) noexcept nogil:
    """Mark the rows whose sum is not well within the range; give their number. In the place of the largest logit, whose
    exponent `mend` wants, comes what has the exponent of the sum: 7 binades at most above it, 0.2 ULP of float32."""
    cdef Py_ssize_t i, v, failed = 0
    cdef vd s, least = vd_splat(1e-24 if vec is vf else 1e-270)
    cdef vd most = vd_splat(1e36 if vec is vf else 1e300)
    cdef vd odd = vd_splat(ODD), none = vd_splat(0.0), ln2 = vd_splat(LN2), c
    for v in range((pixels + FX_VD - 1) // FX_VD):
        i = v * FX_VD
        s = vd_load(&out.s[i])
        c = vd_pick(vd_ge(s, least), vd_pick(vd_ge(most, s), none, odd), odd)
        vd_store(&out.c[i], c)
        vd_store(&out.top[i], vd_exponent(s) * ln2)
    for i in range(pixels):
        failed += out.c[i] != 0.0
    return failed


cdef inline Py_ssize_t ordinary_sums(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const int64_t *holes, Pixels *out, vec like,
) noexcept nogil:
    cdef Py_ssize_t i
    # not memset, whose start takes as long as all of this
    for i in range((pixels + FX_TILE - 1) // FX_TILE * FX_TILE // FX_VD):
        vd_store(&out.s[i * FX_VD], vd_splat(0.0))
        vd_store(&out.s_lo[i * FX_VD], vd_splat(0.0))
    if class_stride == itemsize(kind) and n <= NARROW:
        stream_sums(x, kind, pixel_stride, n, pixels, holes, out, like)
    else:
        pixel_sums(x, kind, class_stride, pixel_stride, n, pixels, holes, out, like)
    return settle(out, pixels, like)


cdef Py_ssize_t any_ordinary_sums(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const int64_t *holes, Pixels *out,
) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        return ordinary_sums(x, F32, class_stride, pixel_stride, n, pixels, holes, out, f)
    if kind == F16:
        return ordinary_sums(x, F16, class_stride, pixel_stride, n, pixels, holes, out, f)
    if kind == BF16:
        return ordinary_sums(x, BF16, class_stride, pixel_stride, n, pixels, holes, out, f)
    return ordinary_sums(x, F64, class_stride, pixel_stride, n, pixels, holes, out, d)


cdef void any_pixel_segment(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const int64_t *holes, Pixels *out,
) noexcept nogil:
    """Sum one column segment of up to FX_PIXELS rows. Without holes the largest logit is wanted, too."""
    cdef Pixels others
    cdef Py_ssize_t i
    if holes == NULL or n == 0:
        any_referred_segment(x, kind, class_stride, pixel_stride, n, pixels, holes, out)
        return
    if any_ordinary_sums(x, kind, class_stride, pixel_stride, n, pixels, holes, out):
        any_referred_segment(x, kind, class_stride, pixel_stride, n, pixels, holes, &others)
        for i in range(pixels):
            if out.c[i] != 0.0:
                out.s[i], out.s_lo[i], out.top[i], out.c[i] = others.s[i], others.s_lo[i], others.top[i], others.c[i]
