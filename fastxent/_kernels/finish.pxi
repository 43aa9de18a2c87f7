# From a row's partial result to its values, in float64.
#
# Nothing here subtracts what cancels: a loss is log1p of the others' sum over the label's term, an entropy a sum of
# non-negative terms (numerics: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021).

# one row's evaluation
cdef struct RowStats:
    double loss         # cross-entropy in nats
    double lse          # log-sum-exp
    double p_label      # probability of the label
    double confidence   # largest probability
    double entropy      # of the predicted distribution, nats
    double brier        # sum over classes of (p - onehot)^2
    int64_t argmax      # first among equals
    int64_t rank        # classes above the label, and equal ones before it


cdef void sum_row(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint moments, double x_label, Partial *out,
) noexcept nogil:
    """All segments of a row, one after the other."""
    cdef Partial part
    cdef Py_ssize_t j
    any_segment(x, kind, stride, min(n, SEGMENT), hole, moments, x_label, out)
    j = 0
    while j + SEGMENT < n:
        j += SEGMENT
        any_segment(x + j * stride, kind, stride, min(n - j, SEGMENT), hole - j, moments, x_label, &part)
        merge(out, &part, j)


# A row that comes in windows (window.pxi) cannot be read again at once: the reading that is wanted is noted, and the row
# finished anew when it has been done.
cdef enum:
    READINGS = 4       # more than any result wants


cdef struct Reading:
    Py_ssize_t hole
    bint moments
    double x_label
    Partial others


cdef struct Readings:
    Reading of[READINGS]
    int done
    bint wanted        # of[done] is still to be done


cdef void read_again(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint moments, double x_label, Readings *readings, Partial *out,
) noexcept nogil:
    """Sum a row once more, with another hole; `readings` is NULL for one that lies in memory."""
    cdef int i
    if readings == NULL:
        sum_row(x, kind, stride, n, hole, moments, x_label, out)
        return
    for i in range(readings.done):
        if readings.of[i].hole == hole and readings.of[i].moments == moments:
            out[0] = readings.of[i].others
            return
    if not readings.wanted and readings.done < READINGS:
        readings.wanted = True
        readings.of[readings.done].hole = hole
        readings.of[readings.done].moments = moments
        readings.of[readings.done].x_label = x_label
    # what follows from this is done anew
    memset(out, 0, sizeof(Partial))
    out.top = -INFINITY
    out.argmax = -1


cdef inline double log_scaled(double m, int64_t e) noexcept nogil:
    """log(m 2^e) for sqrt(1/2) <= m < sqrt(2)."""
    cdef double f = m - 1.0
    return <double>e * FX_LN2_33 + (f + fx_fma(<double>e, FX_LN2_REST, log_reduced(f)))


cdef double loss_of(const Partial *p, double x_label) noexcept nogil:
    """Cross-entropy of the row whose label was the hole: log1p(sum of the others / e^x_label)."""
    cdef double u, u_lo, y, m
    cdef int64_t n, e
    if p.s != p.s or x_label != x_label or p.top == INFINITY or x_label == INFINITY:
        return NAN
    if p.top == -INFINITY:
        return NAN if x_label == -INFINITY else 0.0
    if x_label == -INFINITY:
        return INFINITY
    two_sum(x_label, -p.shift, &u, &u_lo)
    if u > 3.5e13:
        return 0.0
    m = split_exponent(p.s, &e)
    if u < -3.5e13:
        return log_scaled(m, e + p.c) - u
    y = exp_reduced(-u, -u_lo, &n) * m
    e = e + n + p.c
    if e > 60:
        m = split_exponent(y, &n)
        return log_scaled(m, e + n)
    return log1p_(scaled(y, e))


cdef void lse_of(const Partial *p, double *hi, double *lo) noexcept nogil:
    """Log-sum-exp as a pair, of a row summed without a hole."""
    cdef double m, f, product, rest
    cdef int64_t e
    lo[0] = 0.0
    if p.s != p.s:
        hi[0] = NAN
        return
    if p.top == INFINITY or p.top == -INFINITY:
        hi[0] = p.top
        return
    m = split_exponent(p.s, &e)
    e = e + p.c
    f = m - 1.0
    product = <double>e * FX_LN2_33
    rest = fx_fma(<double>e, FX_LN2_33, -product) + fx_fma(<double>e, FX_LN2_REST, log_reduced(f))
    rest = rest + p.s_lo / p.s
    two_sum(product, f, hi, lo)
    rest = rest + lo[0]
    two_sum(hi[0], p.shift, hi, lo)
    two_sum(hi[0], lo[0] + rest, hi, lo)


cdef int64_t any_find(const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, double value) noexcept nogil:
    """First column that holds `value`; -1 for none."""
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        return find(x, F32, stride, 0, n, value, -1, f)
    if kind == F16:
        return find(x, F16, stride, 0, n, value, -1, f)
    if kind == BF16:
        return find(x, BF16, stride, 0, n, value, -1, f)
    return find(x, F64, stride, 0, n, value, -1, d)


cdef void lse_row(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Partial *p, double *hi, double *lo,
) noexcept nogil:
    lse_read(x, kind, stride, n, p, NULL, hi, lo)


cdef void lse_read(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Partial *p, Readings *readings, double *hi, double *lo,
) noexcept nogil:
    """lse_of, with every digit of a value near 0 whose largest term leaves little to the others.

    Such a row is read again, from cache, with its largest term left out: y = top + log1p(s).
    """
    cdef Partial others
    cdef int64_t k
    cdef double left
    lse_of(p, hi, lo)
    left = (hi[0] - p.top) + lo[0]
    # also where next to nothing is left beside the largest term, so that one element alone is itself
    if (-0.5 < hi[0] < 0.5 and left < 0.13) or left < (1e-14 if kind == F64 else 1e-6):
        k = p.argmax if readings != NULL else any_find(x, kind, stride, n, p.top)
        if k >= 0:  # not where another thread changed the input meanwhile
            read_again(x, kind, stride, n, k, False, 0.0, readings, &others)
            two_sum(p.top, loss_of(&others, p.top), hi, lo)


cdef void stats_of(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, int64_t label, double x_label,
    Partial *p, double loss, bint single, Readings *readings, RowStats *out,
) noexcept nogil:
    """Everything about one row, from its loss and the pass that left `p` (the label its hole, with moments).

    The loss is rounded to float32 for `single`, as a row result is, and the label's probability follows from it, so that
    exp(-mean loss) <= mean probability holds of what is reported.
    """
    cdef Partial others
    cdef double lse_lo, gap, p_others
    out.loss = <float>loss if single else loss
    out.rank = p.above
    out.argmax = p.argmax
    if x_label > p.top or p.argmax < 0 or (x_label == p.top and label < p.argmax):
        out.argmax = label
    two_sum(x_label, loss, &out.lse, &lse_lo)
    out.p_label = exp_(-out.loss)
    if not loss < INFINITY:
        if loss != loss:
            out.lse = out.confidence = out.entropy = out.brier = NAN
            return
        # the label is masked: the others are the whole distribution
        lse_read(x, kind, stride, n, p, readings, &out.lse, &lse_lo)
        p_others = 1.0
    else:
        p_others = -expm1_(-loss)
    # gap = lse - top of the others = -log of the largest probability among them
    if out.argmax == label:
        gap = (x_label - p.top) + loss
        # of the loss before rounding: the largest probability is the row's own, whatever its label
        out.confidence = exp_(-loss)
    else:
        gap = (out.lse - p.top) + lse_lo
        if gap < 0.125:
            # nearly all is on one class that is not the label: its own loss has the digits
            read_again(x, kind, stride, n, out.argmax, False, 0.0, readings, &others)
            gap = loss_of(&others, p.top)
        out.confidence = exp_(-gap)
    out.entropy = 0.0
    out.brier = p_others * p_others
    if p_others > 0.0:
        if out.p_label > 0.0:
            out.entropy = out.p_label * loss
        if p.s > 0.0:
            out.entropy = out.entropy + p_others * (p.w / p.s + gap)
            out.brier = out.brier + p_others * p_others * (p.q / p.s / p.s)


cdef void plain_stats_of(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Partial *p, Readings *readings, RowStats *out,
) noexcept nogil:
    """What there is to say of a row without a label, from the one pass that left `p` (no hole, with moments).

    `brier` is the sum of the squared probabilities.
    """
    cdef Partial others
    cdef double lse_lo, gap, rest
    lse_read(x, kind, stride, n, p, readings, &out.lse, &lse_lo)
    out.loss = out.p_label = NAN
    out.rank = -1
    out.argmax = p.argmax
    if not -INFINITY < out.lse < INFINITY or p.argmax < 0:
        out.confidence = out.entropy = out.brier = NAN
        return
    gap = (out.lse - p.top) + lse_lo
    if gap < 0.125:
        # nearly all is on one class: read again, from cache, with that class left out
        read_again(x, kind, stride, n, p.argmax, True, p.top, readings, &others)
        stats_of(x, kind, stride, n, p.argmax, p.top, &others, loss_of(&others, p.top), False, readings, out)
        rest = -expm1_(-out.loss)
        out.brier = out.confidence * out.confidence + (out.brier - rest * rest)
        out.loss = out.p_label = NAN
        out.rank = -1
        return
    out.confidence = exp_(-gap)
    out.entropy = p.w / p.s + gap
    out.brier = p.q / p.s / p.s
