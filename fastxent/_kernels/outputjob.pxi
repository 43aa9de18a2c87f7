# Tasks of neighbouring rows whose outputs are as large as the inputs, lanes being rows: softmax and log_softmax of rows
# of few classes, and of those whose class axis is strided.

cdef inline double largest(const char *x, Py_ssize_t n) noexcept nogil:
    """The largest of contiguous float64 elements; a NaN is looked over."""
    cdef Py_ssize_t j = 0
    cdef vd a = vd_splat(-INFINITY), b = a
    cdef double top = -INFINITY, one
    if n < FX_VD:
        for j in range(n):
            one = load_one(x + 8 * j, F64)
            top = one if one > top else top
        return top
    while j + 2 * FX_VD <= n:
        a = vd_max(vd_load(x + 8 * j), a)
        b = vd_max(vd_load(x + 8 * (j + FX_VD)), b)
        j += 2 * FX_VD
    if j + FX_VD <= n:
        a = vd_max(vd_load(x + 8 * j), a)
    # the last vector overlaps those before it
    return top_lane(vd_max(vd_load(x + 8 * (n - FX_VD)), vd_max(a, b)))


cdef Py_ssize_t log_sums(
    const Job *job, Py_ssize_t row, Py_ssize_t count, double *lse, double *lse_lo, uint8_t *odd
) noexcept nogil:
    """Log-sum-exps of neighbouring rows as pairs; mark and count those that are left to do."""
    cdef Quick quick
    cdef Pixels pixels
    cdef Partial part
    cdef int64_t none[FX_PIXELS]
    cdef Py_ssize_t i, left = 0, n = job.classes, stride = pixel_stride(job, X)
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    if not job.single:
        # the loss has not the digits: of the sum, as wide rows have it
        for i in range(count):
            none[i] = -1
        sum_pixels(job, row, count, 0, none, &pixels)
        for i in range(count):
            partial_of(&pixels, i, x + i * stride, job.kind, job.class_stride, n, -1, &part)
            part.top = largest(x + i * stride, n)
            lse_of(&part, &lse[i], &lse_lo[i])
            # NaN, infinite, or next to nothing left beside the largest term
            odd[i] = not (lse[i] - part.top) + lse_lo[i] >= 1e-14
            left += odd[i]
        return left
    # the loss against the largest logit, and that logit
    if n > 1:
        quick.ahead_stride = 0
        any_quick_rows(x, job.kind, job.class_stride, stride, n, count, True, True, &quick)
    for i in range(count):
        odd[i] = n == 1 or not quick.ok[i]
        left += odd[i]
        lse[i] = lse_lo[i] = 0.0
        if not odd[i]:
            two_sum(
                load_one(x + i * stride + quick.labels[i] * job.class_stride, job.kind),
                <double>quick.main[i] + quick.rest[i], &lse[i], &lse_lo[i],
            )
    return left


cdef void one_row(const Job *job, Py_ssize_t row, Partial *part, Normaliser *norm) noexcept nogil:
    """Write a row whose partial result is known."""
    finish_row(job, row, part, -1, USED, norm)
    write_part(job, row, 0, norm)


cdef void odd_rows(const Job *job, Py_ssize_t row, Py_ssize_t count, const uint8_t *odd) noexcept nogil:
    """Those of neighbouring rows, whose classes lie side by side, that are marked."""
    cdef double buffer[TERM_DOUBLES]
    cdef Py_ssize_t which[FX_PIXELS]
    cdef Pixels pixels
    cdef Partial part
    cdef Normaliser norm
    cdef Py_ssize_t n = job.classes, size = n * itemsize(job.kind), some = 0, i, k, most, stride = pixel_stride(job, X)
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    most = min(FX_PIXELS, 8 * TERM_DOUBLES // size)
    for i in range(count):
        if odd[i] and job.mode == LOG_SOFTMAX:
            any_segment(x + i * stride, job.kind, job.class_stride, n, -1, False, 0.0, &part)
            one_row(job, row + i, &part, &norm)
        elif odd[i]:
            memcpy(<char *>buffer + some * size, x + i * stride, size)
            which[some] = i
            some += 1
        if some == most or (some and i == count - 1):
            any_referred_segment(
                <const char *>buffer, job.kind, itemsize(job.kind), size, n, some, NULL, &pixels
            )
            for k in range(some):
                partial_of(&pixels, k, <const char *>buffer + k * size, job.kind, itemsize(job.kind), n, -1, &part)
                one_row(job, row + which[k], &part, &norm)
            some = 0


cdef int64_t whole_outputs(const Job *job, Py_ssize_t piece) noexcept nogil:
    """Neighbouring rows of one segment: sum, finish and write them."""
    cdef Pixels pixels
    cdef Partial part
    cdef Normaliser norms[FX_PIXELS]
    cdef int64_t none[FX_PIXELS]
    cdef double lse[FX_PIXELS]
    cdef double lse_lo[FX_PIXELS]
    cdef uint8_t odd[FX_PIXELS]
    cdef Py_ssize_t row, count, left = 0, i, stride = pixel_stride(job, X)
    cdef const char *x
    cdef bint logarithm = job.mode == LOG_SOFTMAX, by_top
    cdef bint narrow = job.classes <= NARROW and job.class_stride == itemsize(job.kind)
    if not pixels_of(job, piece, &row, &count):
        return 0
    x = job.x + offset_of(&job.layout, X, row)
    by_top = logarithm and job.classes <= MOST_TOPS and (narrow or job.single)
    if by_top:
        left = log_sums(job, row, count, lse, lse_lo, odd)
    if narrow:
        left += any_narrow_outputs(
            x, job.kind, stride, job.classes, count, logarithm, lse, lse_lo,
            job.out + offset_of(&job.layout, OUT, row), job.out_class_stride, pixel_stride(job, OUT), writes_past(job), odd,
        )
        if left:
            odd_rows(job, row, count, odd)
        return 0
    if not by_top:
        for i in range(count):
            none[i] = -1
        # without holes the largest logit would be looked for, which only the logarithm wants
        sum_pixels(job, row, count, 0, NULL if logarithm else none, &pixels)
    for i in range(count):
        if not logarithm and pixels.c[i] == 0.0:
            normaliser_of_ordinary(pixels.s[i], pixels.s_lo[i], job.kind, &norms[i])
            continue
        if by_top and not odd[i]:
            memset(&norms[i], 0, sizeof(Normaliser))
            logarithm_of(lse[i], lse_lo[i], job.kind, &norms[i])
            continue
        if by_top:
            any_segment(x + i * stride, job.kind, job.class_stride, job.classes, -1, False, 0.0, &part)
        else:
            partial_of(&pixels, i, x + i * stride, job.kind, job.class_stride, job.classes, -1, &part)
        finish_row(job, row + i, &part, -1, USED, &norms[i])
    write_pixels_of(job, row, count, norms)
    return 0
