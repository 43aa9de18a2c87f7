# softmax and log_softmax: outputs as large as the inputs.
#
# A row is summed, then read again from cache and written: softmax as e^x 2^-c' / m, where the row's sum is m 2^(c' - c);
# log_softmax as (x - hi) - lo, hi + lo the log-sum-exp in two numbers of the working precision, so that an offset common
# to the row costs no digit. softmax by division is the more accurate formula (Blanchard, Higham and Higham, 2021).

# what a row's output needs; in the working precision
cdef struct Normaliser:
    double shift       # subtracted first (softmax)
    double inverse     # 1 / m
    double inverse_lo  # and what its rounding lost
    int64_t c          # c'
    double hi, lo      # log-sum-exp


cdef inline void logarithm_of(double hi, double lo, int kind, Normaliser *out) noexcept nogil:
    """Take the log-sum-exp hi + lo."""
    if kind == F64:
        out.hi, out.lo = hi, lo
    else:
        out.hi = <float>hi
        out.lo = <float>((hi - out.hi) + lo) if -INFINITY < hi < INFINITY else 0.0


cdef void normaliser_of(const Partial *p, double hi, double lo, int kind, Normaliser *out) noexcept nogil:
    cdef int64_t e
    cdef double m, exact
    out.inverse_lo = 0.0
    if p.s > 0.0 and p.s < INFINITY:
        m = split_exponent(p.s, &e)
        exact = 1.0 / m
        out.inverse = exact
        out.c = p.c + e
        out.shift = p.shift
        if kind != F64:
            out.inverse = <float>exact
            out.inverse_lo = exact - out.inverse
        else:
            out.inverse_lo = reciprocal_rest(m, scaled(p.s_lo, -e))
    else:
        out.inverse = NAN
        out.c = 0
        out.shift = 0.0
    logarithm_of(hi, lo, kind, out)


cdef inline void normaliser_of_ordinary(double s, double s_lo, int kind, Normaliser *out) noexcept nogil:
    """For softmax, of a sum without a reference (ordinary.pxi): what `mend` and `normaliser_of` do, of normal s."""
    cdef uint64_t bits
    cdef int64_t e
    cdef double m, m_lo, g, exact
    memcpy(&bits, &s, 8)
    e = <int64_t>(bits >> 52) - 1023
    m = s * power_of_two(-e)
    m_lo = s_lo * power_of_two(-e)
    if FX_FMA:
        # e^g - 1 = g + g^2 / 2 + ..., |g| < 3e-7
        g = <double>e * (-FX_LN2_LO_D if kind == F64 else -<double>FX_LN2_LO_F)
        m_lo = m_lo + (g + 0.5 * g * g) * m
    two_sum(m, m_lo, &m, &m_lo)
    exact = 1.0 / m
    out.c = e
    out.shift = out.hi = out.lo = 0.0
    if kind == F64:
        out.inverse = exact
        out.inverse_lo = reciprocal_rest(m, m_lo)
    else:
        out.inverse = <float>exact
        out.inverse_lo = exact - out.inverse


cdef inline void output(
    vec *x,                # in, out (FX_NI,)
    bint logarithm, vec floor_, vec magic, vec inverse, vec inverse_lo, vec hi, vec lo,
) noexcept nogil:
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef Py_ssize_t v
    if logarithm:
        for v in range(FX_NI):
            x[v] = (x[v] - hi) - lo
    else:
        for v in range(FX_NI):
            x[v] = vmax(floor_, x[v])
        vexp(x, magic, FX_LESS_ONE, e, scale)
        for v in range(FX_NI):
            # (1 + e) / m: one rounding of the large term, instead of one of e^r and one of the product
            x[v] = (inverse + vfma(e[v], inverse, vfma(e[v], inverse_lo, inverse_lo))) * scale[v]


cdef inline void write_row(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, const Normaliser *norm, bint logarithm,
    char *out, Py_ssize_t out_stride, bint past, vec like,
) noexcept nogil:
    """Write the outputs of one column segment of one row; `past` the caches where it can be done (past.h)."""
    cdef double buffer[FX_RUN_DOUBLES]
    cdef Py_ssize_t run = run_length(like), w = width(like), size = itemsize(kind), native_size = sizeof(vec) // w
    cdef Py_ssize_t i, k, v, length
    cdef vec floor_ = floor_of(norm.c, like), magic = magic_of(norm.c, like), inverse = splat(norm.inverse, like)
    cdef vec inverse_lo = splat(norm.inverse_lo, like)
    cdef vec hi = splat(norm.hi, like), lo = splat(norm.lo, like)
    cdef vec y[FX_NI]
    cdef bint in_place = stride == size and norm.shift == 0.0 and n >= FX_NI * w, whole
    cdef Run gathered
    cdef const char *p
    cdef char *b = <char *>buffer
    cdef char *o
    if in_place and out_stride == native_size:
        # the last vectors overlap those before them
        i = 0
        while past and i + 2 * FX_NI * w <= n:
            # so do those from the first line on
            o = out + i * native_size
            for v in range(FX_NI):
                y[v] = load(x + (i + v * w) * size, kind, like)
            output(y, logarithm, floor_, magic, inverse, inverse_lo, hi, lo)
            if i == 0 and fx_before_line(o):
                for v in range(FX_NI):
                    store(o + v * w * native_size, y[v])
                i = fx_before_line(o) // native_size
                past = fx_before_line(o) % native_size == 0
            else:
                for v in range(FX_NI):
                    fx_store_past(o + v * w * native_size, <vf>y[v])
                i += FX_NI * w
        while i < n:
            i = min(i, n - FX_NI * w)
            for v in range(FX_NI):
                y[v] = load(x + (i + v * w) * size, kind, like)
            output(y, logarithm, floor_, magic, inverse, inverse_lo, hi, lo)
            for v in range(FX_NI):
                store(out + (i + v * w) * native_size, y[v])
            i += FX_NI * w
        return
    i = -run
    while i + run < n:
        i += run
        length = min(run, n - i)
        whole = in_place and length == run
        if not whole:
            gather_run(
                x + i * stride, kind, stride, length, -1, 0.0 if logarithm else norm.shift, &gathered, b, like
            )
        o = out + i * out_stride if whole and out_stride == native_size else b
        for k in range(0, (length + FX_NI * w - 1) // (FX_NI * w)):
            for v in range(FX_NI):
                if whole:
                    y[v] = load(x + (i + (k * FX_NI + v) * w) * size, kind, like)
                else:
                    y[v] = load(b + (k * FX_NI + v) * w * native_size, native(like), like)
            output(y, logarithm, floor_, magic, inverse, inverse_lo, hi, lo)
            for v in range(FX_NI):
                store(o + (k * FX_NI + v) * w * native_size, y[v])
        if o == b:
            if out_stride == native_size:
                memcpy(out + i * native_size, b, length * native_size)
            else:
                for k in range(length):
                    memcpy(out + (i + k) * out_stride, b + k * native_size, native_size)


cdef inline void write_pixels(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const Normaliser *norms, bint logarithm,
    char *out, Py_ssize_t out_class_stride, Py_ssize_t out_pixel_stride, vec like,
) noexcept nogil:
    """Write the outputs of one segment of up to FX_PIXELS rows whose class axis is strided."""
    cdef vec floor_[FX_PIXEL_VECTORS]
    cdef vec magic[FX_PIXEL_VECTORS]
    cdef vec inverse[FX_PIXEL_VECTORS]
    cdef vec inverse_lo[FX_PIXEL_VECTORS]
    cdef vec shift[FX_PIXEL_VECTORS]
    cdef vec hi[FX_PIXEL_VECTORS]
    cdef vec lo[FX_PIXEL_VECTORS]
    cdef double buffer[4 * FX_PIXELS]
    cdef Py_ssize_t w = width(like), vectors = (pixels + w - 1) // w, native_size = sizeof(vec) // w
    cdef Py_ssize_t i, j, k, v, size = itemsize(kind), some
    cdef bint direct = pixel_stride == size and out_pixel_stride == native_size and pixels % w == 0
    cdef vec y[FX_NI]
    cdef char *b = <char *>buffer
    cdef double value
    cdef Normaliser none = norms[0]
    cdef const Normaliser *norm
    for i in range(vectors * w):
        norm = &norms[i] if i < pixels else &none
        if vec is vf:
            (<float *>floor_)[i] = <float>(<double>(norm.c - 127) * LN2 + 0.07)
            (<float *>magic)[i] = <float>(FX_MAGIC_F + <double>(127 - norm.c))
            (<float *>inverse)[i] = <float>norm.inverse
            (<float *>inverse_lo)[i] = <float>norm.inverse_lo
            (<float *>shift)[i] = 0.0 if logarithm else <float>norm.shift
            (<float *>hi)[i] = <float>norm.hi
            (<float *>lo)[i] = <float>norm.lo
        else:
            (<double *>floor_)[i] = <double>(norm.c - 1023) * LN2 + 0.07
            (<double *>magic)[i] = FX_MAGIC_D + <double>(1023 - norm.c)
            (<double *>inverse)[i] = norm.inverse
            (<double *>inverse_lo)[i] = norm.inverse_lo
            (<double *>shift)[i] = 0.0 if logarithm else norm.shift
            (<double *>hi)[i] = norm.hi
            (<double *>lo)[i] = norm.lo
    j = 0 - FX_NI
    while j + FX_NI < n:
        j += FX_NI
        some = min(FX_NI, n - j)
        if not direct:
            for k in range(some):
                for i in range(pixels):
                    value = load_one(x + (j + k) * class_stride + i * pixel_stride, kind)
                    if vec is vf:
                        (<float *>b)[k * FX_PIXELS + i] = <float>value
                    else:
                        (<double *>b)[k * FX_PIXELS + i] = value
        for v in range(vectors):
            for k in range(FX_NI):
                y[k] = floor_[v]
                if k < some:
                    if direct:
                        y[k] = load(x + (j + k) * class_stride + v * w * size, kind, like) - shift[v]
                    else:
                        y[k] = load(b + (k * FX_PIXELS + v * w) * native_size, native(like), like) - shift[v]
            output(y, logarithm, floor_[v], magic[v], inverse[v], inverse_lo[v], hi[v], lo[v])
            for k in range(some):
                if direct:
                    store(out + (j + k) * out_class_stride + v * w * native_size, y[k])
                else:
                    store(b + (k * FX_PIXELS + v * w) * native_size, y[k])
        if not direct:
            for k in range(some):
                for i in range(pixels):
                    memcpy(
                        out + (j + k) * out_class_stride + i * out_pixel_stride,
                        b + (k * FX_PIXELS + i) * native_size, native_size,
                    )


cdef void any_write_row(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, const Normaliser *norm, bint logarithm,
    char *out, Py_ssize_t out_stride, bint past,
) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        write_row(x, F32, stride, n, norm, logarithm, out, out_stride, past, f)
    elif kind == F16:
        write_row(x, F16, stride, n, norm, logarithm, out, out_stride, past, f)
    elif kind == BF16:
        write_row(x, BF16, stride, n, norm, logarithm, out, out_stride, past, f)
    else:
        write_row(x, F64, stride, n, norm, logarithm, out, out_stride, past, d)


cdef void any_write_pixels(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const Normaliser *norms, bint logarithm, char *out, Py_ssize_t out_class_stride, Py_ssize_t out_pixel_stride,
) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        write_pixels(
            x, F32, class_stride, pixel_stride, n, pixels, norms, logarithm, out, out_class_stride, out_pixel_stride, f
        )
    elif kind == F16:
        write_pixels(
            x, F16, class_stride, pixel_stride, n, pixels, norms, logarithm, out, out_class_stride, out_pixel_stride, f
        )
    elif kind == BF16:
        write_pixels(
            x, BF16, class_stride, pixel_stride, n, pixels, norms, logarithm, out, out_class_stride, out_pixel_stride, f
        )
    else:
        write_pixels(
            x, F64, class_stride, pixel_stride, n, pixels, norms, logarithm, out, out_class_stride, out_pixel_stride, d
        )
