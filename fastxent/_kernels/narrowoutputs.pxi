# softmax and log_softmax of rows of few classes that lie side by side, FX_PIXELS rows at a time.
#
# Softmax: the rows are one stream of exponentials, kept in the first cache; their sums as ordinary.pxi has them, the
# sums' inverses side by side, and each exponential times its row's. The exponentials are lifted by a power of two
# (exponential.h), and a row whose sum then lies within the range has all its digits; others (far off, masked, infinite, NaN)
# are summed by the kernel of strided.pxi and written row by row. log_softmax: (x - hi) - lo, hi + lo the log-sum-exp,
# which is the loss against the largest logit, as narrow rows have it. What becomes of a row depends on that row alone.

cdef inline Py_ssize_t inverses(
    const double *s, const double *s_lo, Py_ssize_t rows, char *inverse, char *inverse_lo, uint8_t *odd, vec like
) noexcept nogil:
    """1 / s in two numbers of the working precision; mark and count the rows where it is not to be had. There is room for
    FX_TILE sums behind the last."""
    cdef double most = 1.3e36 if vec is vf else 8.4e270     # 2^120, 2^900
    cdef Py_ssize_t i, failed = 0
    cdef vd y
    if vec is vf:
        for i in range((rows + FX_VD - 1) // FX_VD):
            y = vd_splat(1.0) / vd_load(s + i * FX_VD)
            vd_store_f32(inverse + 4 * i * FX_VD, y)
            vd_store_f32(inverse_lo + 4 * i * FX_VD, y - vd_load_f32(inverse + 4 * i * FX_VD))
    for i in range(rows):
        odd[i] = not 1.0 <= s[i] <= most
        failed += odd[i]
        if vec is vd:
            (<double *>inverse)[i] = 1.0 / s[i]
            (<double *>inverse_lo)[i] = reciprocal_rest(s[i], s_lo[i])
    return failed


cdef inline vec one_of(const char *p, Py_ssize_t i, vec like) noexcept nogil:
    """Number i of those at p, in all lanes."""
    if vec is vf:
        return vf_splat((<const float *>p)[i])
    else:
        return vd_splat((<const double *>p)[i])


cdef inline vec put_one(vec y, vec lo, bint logarithm, vec first, vec second) noexcept nogil:
    if logarithm:
        return (y - first) - second
    return vfma(y, first, vfma(y, second, lo * first))


cdef inline Py_ssize_t put_together(
    const char *a, const char *a_lo, int kind, Py_ssize_t n, Py_ssize_t count, bint logarithm,
    const char *first, const char *second, const vi *places, char *out, vec like,
) noexcept nogil:
    """put_rows of as many rows as a vector has lanes, and again: what lies side by side in and out is read and written as
    one, each lane with what belongs to its row. Gives the number of rows that are done."""
    cdef Py_ssize_t size = itemsize(kind), i, k, whole = 0
    cdef vf one, two, y, lo
    if vec is vf:
        whole = count // FX_VF
        for i in range(whole):
            one = vf_load(first + 4 * i * FX_VF)
            two = vf_load(second + 4 * i * FX_VF)
            for k in range(n):
                y = load(a, kind, like)
                a += FX_VF * size
                lo = y
                if not logarithm:
                    lo = vf_load(a_lo)
                    a_lo += FX_VF * 4
                vf_store(out, put_one(y, lo, logarithm, vf_permute(one, places[k]), vf_permute(two, places[k])))
                out += FX_VF * 4
    return whole * FX_VF


cdef inline void put_rows(
    const char *a, const char *a_lo, int kind,       # in (count, n), side by side: logits, or their exponentials in two
    Py_ssize_t n, Py_ssize_t count, bint more,       # more: other rows lie behind these and are done afterwards
    bint logarithm,
    const char *first, const char *second,           # in (count,): the log-sum-exp, or the sum's inverse
    const vi *places,                                # in (n,): the row of each lane of as many rows as lanes, or NULL
    char *out, Py_ssize_t out_stride, vec like,      # out: a row every `out_stride` bytes
) noexcept nogil:
    cdef Py_ssize_t w = width(like), size = itemsize(kind), native_size = sizeof(vec) // w, i, k, left, whole = 0
    cdef vec x[1]
    cdef vec one, two, y, lo
    if places != NULL and out_stride == n * native_size:
        i = put_together(a, a_lo, kind, n, count, logarithm, first, second, places, out, like)
        a += i * n * size
        a_lo += 0 if logarithm else i * n * size
        first += i * native_size
        second += i * native_size
        out += i * out_stride
        count -= i
    if out_stride == n * native_size:
        # a row's last vector may run into the next rows, which are written after it
        whole = count if more else max(count - (w + n - 1) // n, 0)
    for i in range(count):
        one = one_of(first, i, like)
        two = one_of(second, i, like)
        k = 0
        while k < n:
            if i < whole or k + w <= n:
                y = load(a + k * size, kind, like)
                lo = y if logarithm else load(a_lo + k * size, kind, like)
                store(out + k * native_size, put_one(y, lo, logarithm, one, two))
            else:
                left = n - k
                memset(x, 0, sizeof(x))
                memcpy(x, a + k * size, left * size)
                y = lo = load(<const char *>x, kind, like)
                if not logarithm:
                    memcpy(x, a_lo + k * size, left * size)
                    lo = load(<const char *>x, kind, like)
                x[0] = put_one(y, lo, logarithm, one, two)
                memcpy(out + k * native_size, x, left * native_size)
            k += w
        a += n * size
        if not logarithm:
            a_lo += n * size
        out += out_stride


cdef inline Py_ssize_t narrow_outputs(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t rows,    # n <= NARROW, rows <= FX_PIXELS
    bint logarithm, const double *lse, const double *lse_lo,                      # (rows,), of log_softmax
    char *out, Py_ssize_t out_class_stride, Py_ssize_t out_stride,
    bint past,                                                                    # the caches (past.h)
    uint8_t *odd,                                                                 # out (rows,), of softmax
    vec like,
) noexcept nogil:
    """Write the outputs; of softmax give the number of rows that are left to do."""
    cdef double e[TERM_DOUBLES + FX_TILE]
    cdef double e_lo[TERM_DOUBLES + FX_TILE]
    cdef double packed[TERM_DOUBLES + FX_TILE]
    cdef double aside[TERM_DOUBLES + FX_TILE]
    cdef double s[FX_PIXELS]
    cdef double s_lo[FX_PIXELS]
    cdef double first[FX_PIXELS]
    cdef double second[FX_PIXELS]
    cdef Py_ssize_t size = itemsize(kind), native_size = sizeof(vec) // width(like), failed = 0
    cdef Py_ssize_t group = min(FX_PIXELS, 8 * TERM_DOUBLES // native_size // n) // FX_TILE * FX_TILE
    # two terms a lane, fewer than losses add: the bound is closer
    cdef Py_ssize_t i, j, k, row, count, step, chain = 16
    cdef bint together = out_class_stride == native_size or n == 1, more
    cdef const char *p
    cdef char *o
    cdef vi lanes[2 * FX_VF]   # for rows no longer than two vectors
    cdef vi *places = NULL
    if vec is vf and FX_PERMUTES and 1 < n <= 2 * FX_VF and rows >= FX_VF:
        places = lanes
        i = k = 0
        for j in range(n * FX_VF):
            (<int32_t *>lanes)[j] = <int32_t>i
            k += 1
            if k == n:
                k = 0
                i += 1
    past = past and together and out_stride == n * native_size
    for j in range((rows + group - 1) // group):
        row = j * group
        count = min(group, rows - row)
        more = row + count < rows
        p = x + row * stride
        if stride != n * size:
            for i in range(count):
                memcpy(<char *>packed + i * n * size, p + i * stride, n * size)
            p = <const char *>packed
        o = out + row * out_stride if together and not past else <char *>aside
        step = out_stride if together and not past else n * native_size
        if logarithm:
            for i in range(count):
                if vec is vf:
                    (<float *>first)[i] = <float>lse[row + i]
                    (<float *>second)[i] = <float>((lse[row + i] - <double>(<float *>first)[i]) + lse_lo[row + i])
                else:
                    first[i] = lse[row + i]
                    second[i] = lse_lo[row + i]
            put_rows(p, NULL, kind, n, count, more, True, <char *>first, <char *>second, places, o, step, like)
        else:
            stream_terms(p, kind, count * n, True, <char *>e, <char *>e_lo, like)
            memset(<char *>e + count * n * native_size, 0, FX_TILE * native_size)
            memset(s, 0, (count + FX_TILE - 1) // FX_TILE * FX_TILE * 8)
            memset(s_lo, 0, (count + FX_TILE - 1) // FX_TILE * FX_TILE * 8)
            add_rows(<char *>e, n, count, chain, s, s_lo, like)
            add_rows(<char *>e_lo, n, count, chain, s, s_lo, like)
            failed += inverses(s, s_lo, count, <char *>first, <char *>second, odd + row, like)
            put_rows(
                <char *>e, <char *>e_lo, native(like), n, count, more, False, <char *>first, <char *>second, places,
                o, step, like,
            )
        if past:
            fx_copy_past(out + row * out_stride, <char *>aside, count * out_stride)
        elif not together:
            for i in range(count):
                for k in range(n):
                    memcpy(
                        out + (row + i) * out_stride + k * out_class_stride,
                        <char *>aside + (i * n + k) * native_size, native_size,
                    )
    return failed


cdef Py_ssize_t any_narrow_outputs(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t rows,
    bint logarithm, const double *lse, const double *lse_lo,
    char *out, Py_ssize_t class_step, Py_ssize_t step, bint past, uint8_t *odd,
) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32 and logarithm:
        return narrow_outputs(x, F32, stride, n, rows, True, lse, lse_lo, out, class_step, step, past, odd, f)
    if kind == F32:
        return narrow_outputs(x, F32, stride, n, rows, False, lse, lse_lo, out, class_step, step, past, odd, f)
    if kind == F16:
        return narrow_outputs(x, F16, stride, n, rows, logarithm, lse, lse_lo, out, class_step, step, past, odd, f)
    if kind == BF16:
        return narrow_outputs(x, BF16, stride, n, rows, logarithm, lse, lse_lo, out, class_step, step, past, odd, f)
    return narrow_outputs(x, F64, stride, n, rows, logarithm, lse, lse_lo, out, class_step, step, past, odd, d)
