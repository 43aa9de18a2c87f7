# The gradient of a row (target_rows.pxi) by its logits.
#
# The gradient is f (A0 s_j - a_j), s the softmax in the working precision, the rest in float64. At the class k whose
# gap is known, where A0 s - a would cancel, it is f ((A0 - a_k) s_k + a_k expm1(-gap)).


cdef void normaliser_from(const Scored *row, int kind, Normaliser *out) noexcept nogil:
    """What turns a row into its softmax: e^(x - shift) 2^-c times `inverse`."""
    cdef double y, lo = row.lo, hi = row.hi
    cdef int64_t n
    out.shift = out.inverse_lo = out.hi = out.lo = 0.0
    out.c = 0
    out.inverse = NAN
    if not -INFINITY < row.hi < INFINITY:
        return
    if not -FX_FAR_F < hi < FX_FAR_F:
        out.shift = hi if kind == F64 else <float>hi
        two_sum(hi, -out.shift, &hi, &y)
        two_sum(hi, lo + y, &hi, &lo)
    y = exp_reduced(-hi, 0.0, &n)
    y = fx_fma(-lo, y, y)
    out.c = -n
    out.inverse = y
    if kind != F64:
        out.inverse = <float>y
        out.inverse_lo = y - out.inverse


cdef void write_gradient(
    const TargetJob *job, const char *x, const char *target, int64_t label, const Scored *row,
    Py_ssize_t first, Py_ssize_t end, char *out,
) noexcept nogil:
    """f (A0 s - a) of the columns [first, end) of a row; zeros for a factor of 0."""
    cdef double s[TERMS]
    cdef double as_[TERMS]
    cdef double value, own = 0.0, one_hot = 0.0, total = of_pair(row.total, row.total_lo)
    cdef vd f = vd_splat(row.factor), all_ = vd_splat(total), g
    cdef Normaliser norm
    cdef Py_ssize_t j = first, n, i, size = 4 if job.single else 8
    cdef const char *a
    cdef char *b
    cdef char *o
    cdef float single
    cdef bint wide
    normaliser_from(row, job.kind, &norm)
    if label >= 0:
        one_hot = (1.0 - job.smoothing) * (job.weights[label] if job.weights != NULL else 1.0)
    while j < end:
        n = min(TERMS, end - j)
        o = out + j * job.gradient_stride
        b = o if job.gradient_stride == size and n == TERMS else <char *>s
        if row.factor == 0.0:
            memset(b, 0, n * size)
        else:
            any_write_row(x + j * job.class_stride, job.kind, job.class_stride, n, &norm, False, <char *>s, size, False)
            if job.own_label:
                memset(as_, 0, sizeof(as_))
                a = <char *>as_
                wide = True
            else:
                a = target_run(job, target + j * job.target_stride, j, n, <char *>as_, &wide)
            own = 0.0
            if 0 <= row.k - j < n:
                own = load_one(a + (row.k - j) * (8 if wide else 4), F64 if wide else F32)  # perhaps not aligned
                if row.k == label:
                    own = own + one_hot
            value = 0.0
            if 0 <= label - j < n and label != row.k:
                value = load_one(<char *>s + (label - j) * size, F32 if job.single else F64)
                value = row.factor * fx_fma(
                    total, value,
                    -((<const double *>a)[label - j] + one_hot),
                )
            for i in range((n + FX_VD - 1) // FX_VD):
                g = f * vd_fma(
                    all_, doubles_at(<char *>s + i * FX_VD * size, not job.single),
                    -doubles_at(a + i * FX_VD * (8 if wide else 4), wide),
                )
                if job.single:
                    vd_store_f32(b + i * FX_VD * 4, g)
                else:
                    vd_store(b + i * FX_VD * 8, g)
            if 0 <= label - j < n and label != row.k:
                put_number(b + (label - j) * size, job.single, value)
            if 0 <= row.k - j < n:
                value = ((row.total - own) + row.total_lo) * exp_(-row.gap) + own * expm1_(-row.gap)
                put_number(b + (row.k - j) * size, job.single, row.factor * value)
        if b != o:
            for i in range(n):
                memcpy(o + i * job.gradient_stride, b + i * size, size)
        j += n

