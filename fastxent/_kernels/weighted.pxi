# Weighted log-sum-exp: log |sum b e^x| and the sum's sign; weights may be negative.
#
# A row is cut into segments of SEGMENT columns, each with the largest counting x as its reference, and the segments are
# merged in order. Sums are pairs of doubles (Knuth's two-sum), and near the reference b e^d = b + b expm1(d): so neither the
# small terms beside a large one lose digits, nor a difference of nearly equal terms. A weight of 0 leaves its element out.
#
# The ordinary segment goes through vectors, in 16 lanes whatever the width of a register, lane by lane a pair of doubles,
# and the lanes are added in their order. What has an infinity, a NaN, a weight of extreme size or terms that underflow,
# which another's cancelling may bring to light, goes element by element.

cdef enum:
    WEIGHED_LANES = 16

# what a segment leaves behind; doubles all, for it lies in an array of the caller's
cdef struct Weighed:
    double top       # reference; -inf where nothing counts
    double hi        # sum of b e^(x - top)
    double lo
    double special   # sum of the terms that are infinite or NaN; 0 for none
    double left_out  # 1 where the weight 0 stands at an inf or NaN


cdef inline bint is_special(double x, double b) noexcept nogil:
    return not (x < INFINITY and -INFINITY < b < INFINITY)


cdef inline double special_term(double x, double b) noexcept nogil:
    """b e^x where it is infinite or NaN."""
    if x != x or b != b or (x == -INFINITY and b - b != 0.0):
        return NAN
    return INFINITY if b > 0.0 else -INFINITY


cdef void weigh_elements(const double *x, const double *b, Py_ssize_t n, Weighed *out) noexcept nogil:
    cdef Py_ssize_t j
    cdef int64_t e
    cdef double d, d_lo, p
    cdef double pair[2]
    out.top = -INFINITY
    out.special = out.left_out = pair[0] = pair[1] = 0.0
    for j in range(n):
        if b[j] == 0.0:
            if not x[j] < INFINITY:
                out.left_out = 1.0
        elif is_special(x[j], b[j]):
            out.special += special_term(x[j], b[j])
        elif x[j] > out.top:
            out.top = x[j]
    for j in range(n):
        if b[j] == 0.0 or x[j] == -INFINITY or is_special(x[j], b[j]):
            continue
        two_sum(x[j], -out.top, &d, &d_lo)
        if d > -0.5:
            add_to_pair(&pair[0], &pair[1], b[j])
            add_to_pair(&pair[0], &pair[1], b[j] * expm1_(d))
        elif d > -2000.0:  # no weight makes up for more
            p = exp_reduced(d, d_lo, &e)
            add_to_pair(&pair[0], &pair[1], scaled(b[j] * p, e))
    out.hi, out.lo = pair[0], pair[1]


cdef inline void lane_add(vd *hi, vd *lo, vd x) noexcept nogil:
    """Add to pairs of doubles, lane by lane (two_sum)."""
    cdef vd t = hi[0] + x
    cdef vd y = t - hi[0]
    lo[0] = lo[0] + ((hi[0] - (t - y)) + (x - y))
    hi[0] = t


cdef inline void weigh_lanes(const double *x, const double *b, double top, vd *hi, vd *lo) noexcept nogil:
    """Add the terms of FX_NI vectors of ordinary elements."""
    cdef vd d[FX_NI]
    cdef vd d_lo[FX_NI]
    cdef vd e[FX_NI]
    cdef vd scale[FX_NI]
    cdef vd y, t, weight, zero = vd_splat(0), floor_ = floor_of(0, zero)
    cdef vl none
    cdef vl near[FX_NI]
    cdef vl some = vd_ge(vd_splat(-1), zero)
    cdef Py_ssize_t i
    for i in range(FX_NI):
        y = vd_load(x + i * FX_VD)
        t = y - vd_splat(top)
        weight = t - y
        d_lo[i] = (y - (t - weight)) + (vd_splat(-top) - weight)
        # an element without weight may lie far above the reference, where the exponential is none
        none = vd_eq(vd_load(b + i * FX_VD), zero)
        near[i] = vd_ge(t, vd_splat(-0.5)) & ~none
        some = some | near[i]
        d[i] = vd_max(floor_, vd_pick(none, floor_, t))
    vd_exp(d, magic_of(0, zero), True, e, scale)
    for i in range(FX_NI):
        y = vd_load(b + i * FX_VD) * (e[i] * scale[i])
        # where -inf was d is at its floor, and d_lo is NaN
        t = vd_fma(y, d_lo[i], y)
        lane_add(hi + i, lo + i, vd_pick(near[i] | vd_eq(d[i], floor_), zero, t))
    if not vl_any(some):
        return
    vd_expm1(d, e)
    for i in range(FX_NI):
        weight = vd_only(near[i], vd_load(b + i * FX_VD))
        lane_add(hi + i, lo + i, weight)
        lane_add(hi + i, lo + i, vd_only(near[i], weight * e[i]))


cdef inline bint weigh_vectors(const double *x, const double *b, Py_ssize_t n, Weighed *out) noexcept nogil:
    """Sum a segment of ordinary elements; False for any other."""
    cdef vd hi[WEIGHED_LANES]
    cdef vd lo[WEIGHED_LANES]
    cdef double end[2 * WEIGHED_LANES]
    cdef double pair[2]
    cdef const double *p
    cdef const double *q
    cdef vd zero = vd_splat(0), least_ = vd_splat(-INFINITY), y, w, top = least_, deep = least_
    cdef vl ok = vd_ge(zero, zero), counts
    cdef Py_ssize_t j, i, k, vectors = WEIGHED_LANES // FX_VD, whole = n // WEIGHED_LANES * WEIGHED_LANES
    cdef double reference
    for i in range(WEIGHED_LANES):
        end[i], end[WEIGHED_LANES + i] = -INFINITY, 0.0
    memcpy(end, x + whole, (n - whole) * sizeof(double))
    memcpy(end + WEIGHED_LANES, b + whole, (n - whole) * sizeof(double))
    for j in range((n + WEIGHED_LANES - 1) // WEIGHED_LANES):
        p = x + j * WEIGHED_LANES if (j + 1) * WEIGHED_LANES <= n else end
        q = b + j * WEIGHED_LANES if (j + 1) * WEIGHED_LANES <= n else end + WEIGHED_LANES
        for i in range(vectors):
            y = vd_load(p + i * FX_VD)
            w = vd_load(q + i * FX_VD)
            ok = ok & vd_ge(vd_splat(1.7976931348623157e308), y)
            counts = vd_eq(w, zero)
            w = vd_abs(w)
            ok = ok & (counts | (vd_ge(w, vd_splat(power_of_two(-200))) & vd_ge(vd_splat(power_of_two(200)), w)))
            top = vd_max(top, vd_pick(counts, least_, y))
            counts = counts | vd_eq(y, least_)
            deep = vd_max(deep, vd_pick(counts, least_, -y))
    if vl_any(~ok):
        return False
    reference = vd_top(top)
    out.top = reference
    out.special = out.left_out = out.hi = out.lo = 0.0
    if reference == -INFINITY:
        return True
    if not -vd_top(deep) - reference > -690.0:
        return False
    for i in range(vectors):
        hi[i] = lo[i] = zero
    for j in range((n + WEIGHED_LANES - 1) // WEIGHED_LANES):
        p = x + j * WEIGHED_LANES if (j + 1) * WEIGHED_LANES <= n else end
        q = b + j * WEIGHED_LANES if (j + 1) * WEIGHED_LANES <= n else end + WEIGHED_LANES
        for i in range(vectors // FX_NI):
            k = i * FX_NI
            weigh_lanes(p + k * FX_VD, q + k * FX_VD, reference, hi + k, lo + k)
    for i in range(vectors):
        vd_store(end + i * FX_VD, hi[i])
        vd_store(end + WEIGHED_LANES + i * FX_VD, lo[i])
    pair[0] = pair[1] = 0.0
    for k in range(WEIGHED_LANES):
        add_to_pair(&pair[0], &pair[1], end[k])
        pair[1] += end[WEIGHED_LANES + k]
    out.hi, out.lo = pair[0], pair[1]
    return True


cdef inline void weigh_segment(const double *x, const double *b, Py_ssize_t n, Weighed *out) noexcept nogil:
    if not weigh_vectors(x, b, n, out):
        weigh_elements(x, b, n, out)


cdef void merge_weighed(Weighed *a, const Weighed *b) noexcept nogil:
    cdef double factor
    cdef double pair[2]
    a.special += b.special
    a.left_out = max(a.left_out, b.left_out)
    if b.top == -INFINITY:
        return
    if a.top == -INFINITY:
        a.top, a.hi, a.lo = b.top, b.hi, b.lo
        return
    if b.top > a.top:
        factor = exp_(a.top - b.top)
        a.top = b.top
        pair[0], pair[1] = a.hi * factor, a.lo * factor
        add_to_pair(&pair[0], &pair[1], b.hi)
        pair[1] += b.lo
    else:
        factor = exp_(b.top - a.top)
        pair[0], pair[1] = a.hi, a.lo
        add_to_pair(&pair[0], &pair[1], b.hi * factor)
        pair[1] += b.lo * factor
    a.hi, a.lo = pair[0], pair[1]


cdef void finish_weighed(const Weighed *w, double *value, double *sign) noexcept nogil:
    cdef double hi, lo, size, m, rest
    cdef int64_t e
    two_sum(w.hi, w.lo, &hi, &lo)
    if w.special != 0.0 or hi - hi != 0.0:
        hi = hi if w.special == 0.0 else w.special
        value[0] = INFINITY if hi == hi else NAN
        sign[0] = NAN if hi != hi else 1.0 if hi > 0.0 else -1.0
    elif w.top == -INFINITY or hi == 0.0:
        value[0], sign[0] = -INFINITY, 0.0
    else:
        sign[0] = 1.0 if hi > 0.0 else -1.0
        size = sign[0] * hi
        lo = sign[0] * lo
        if 0.5 < size < 2.0:
            # no digit of a sum that is nearly 1 is lost
            value[0] = w.top + log1p_((size - 1.0) + lo)
            return
        # as a pair (finish.pxi, lse_of): what weights add may cancel with top
        m = split_exponent(size, &e)
        rest = fx_fma(<double>e, FX_LN2_REST, log_reduced(m - 1.0)) + lo / size
        two_sum(<double>e * FX_LN2_33, m - 1.0, &hi, &lo)
        rest += lo
        two_sum(hi, w.top, &hi, &lo)
        value[0] = hi + (lo + rest)
        return
    if w.left_out != 0.0:
        # 0 times infinity, in a sum that is not finite anyway: SciPy's NaN
        value[0] = sign[0] = NAN


cdef void weigh_many(
    const double *x, const double *b, Py_ssize_t n, Py_ssize_t length, Py_ssize_t first, Py_ssize_t last, Weighed *out
) noexcept nogil:
    cdef uint64_t control = fx_fp_enter()
    cdef Py_ssize_t i
    for i in range(first, last):
        weigh_segment(x + i * length, b + i * length, min(length, n - i * length), out + i)
    fx_fp_leave(control)


def weigh(const double[::1] x, const double[::1] b, Py_ssize_t length, double[:, ::1] states, int threads):
    """Sum segments of `length` elements each, but for the last; `states`, (segments, 5)."""
    cdef Py_ssize_t n = x.shape[0], segments = states.shape[0], task, step
    if b.shape[0] != n or length < 1 or segments != (n + length - 1) // length or states.shape[1] * 8 != sizeof(Weighed):
        raise ValueError("segments do not match")
    step = max(1, 4096 // length)
    for task in prange(
        (segments + step - 1) // step, num_threads=threads, schedule="dynamic", nogil=True
    ):
        weigh_many(
            &x[0], &b[0], n, length, task * step, min(task * step + step, segments), <Weighed *>&states[0, 0]
        )


def weighed(double[:, :, ::1] states, double[::1] values, double[::1] signs):
    """Merge the segments of each row, (rows, segments, 5), and give log |sum| and its sign."""
    cdef Py_ssize_t i, s
    cdef Weighed *row
    cdef uint64_t control
    if (
        states.shape[2] * 8 != sizeof(Weighed) or states.shape[1] < 1
        or values.shape[0] != states.shape[0] or signs.shape[0] != states.shape[0]
    ):
        raise ValueError("states do not match")
    with nogil:
        control = fx_fp_enter()
        for i in range(states.shape[0]):
            row = <Weighed *>&states[i, 0, 0]
            for s in range(1, states.shape[1]):
                merge_weighed(row, row + s)
            finish_weighed(row, &values[i], &signs[i])
        fx_fp_leave(control)


weighed_size = sizeof(Weighed) // 8
