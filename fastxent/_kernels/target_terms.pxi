# The sums that a loss against a distribution is made of, and what it is against.
#
# The target of a row is a vector a >= 0 of the classes: a_j = w_j p'_j, p' the given probabilities, or the label's
# one-hot vector, smoothed towards 1 / C. The loss is sum a_j (lse - x_j) = A1 + gap A0, with A0 = sum a_j, A1 = sum a_j
# (top - x_j), top the row's largest element and gap = lse - top. All of it is >= 0, so nothing cancels, and a larger
# top that comes later only adds to A1. A term whose a_j is 0 is 0, whatever its logit: a masked class costs only what
# the target puts on it. A smoothed label's own share is added at the end.
#
# Probabilities q, up to scale: the same with log q_j for x_j; top - x_j is then log(top / q_j), whose powers of two are
# subtracted as integers, so that it is as good as its size wants, whatever the scale.
#
# A1 is kept divided by 4, so that top - x_j does not overflow. Terms are added in float64, whatever the storage.

cdef extern from "vmath.h" nogil:
    """
    FX_INLINE void vf_log_parts(const vf *x, vf *e, vf *l) {
        vf f[FX_NI];
        vf_split(x, f, e);
        vf_log_tail(f, l);
        FX_EACH(l, f[v] + l[v]);
    }
    FX_INLINE void vd_log_parts(const vd *x, vd *e, vd *l) {
        vd f[FX_NI];
        vd_split(x, f, e);
        vd_log_tail(f, l);
        FX_EACH(l, f[v] + l[v]);
    }
    """
    void vf_log_parts(const vf *, vf *, vf *)
    void vd_log_parts(const vd *, vd *, vd *)
    double FX_LN2_15, FX_LN2_REST_F

cdef enum:
    TERMS = 256      # columns that come into a buffer together


cdef inline vec equal_or(vec a, vec b, vec yes, vec no) noexcept nogil:
    """`yes` where a = b."""
    if vec is vf:
        return vf_pick(vf_eq(a, b), yes, no)
    else:
        return vd_pick(vd_eq(a, b), yes, no)


cdef inline void log_ratios(vec *q, vec top_e, vec top_l) noexcept nogil:
    """log(q / top) in the place of q, of FX_NI vectors; top_e and top_l are top's own `log_parts`."""
    cdef vec e[FX_NI]
    cdef vec l[FX_NI]
    cdef vec zero = splat(0, top_e), y, high, low
    cdef Py_ssize_t v
    log_parts(q, e, l)
    if vec is vf:
        high = vf_splat(<float>FX_LN2_15)
        low = vf_splat(<float>FX_LN2_REST_F)
    else:
        high = vd_splat(FX_LN2_33)
        low = vd_splat(FX_LN2_REST)
    for v in range(FX_NI):
        e[v] = e[v] - top_e
        y = e[v] * high + vfma(e[v], low, l[v] - top_l)
        q[v] = equal_or(q[v], zero, splat(-INFINITY, zero), y)


cdef inline void log_parts(const vec *x, vec *e, vec *l) noexcept nogil:
    """e and l with x = 2^e e^l, for finite x > 0."""
    if vec is vf:
        vf_log_parts(x, e, l)
    else:
        vd_log_parts(x, e, l)


cdef inline vd doubles_at(const char *p, bint wide) noexcept nogil:
    return vd_load(p) if wide else vd_load_f32(p)


cdef inline void add_term(vd x, vd a, vd top_4, vd *a0, vd *a1) noexcept nogil:
    """Add a term to A0 and to A1 / 4."""
    cdef vd zero = vd_splat(0)
    a1[0] = vd_fma(vd_pick(vd_eq(a, zero), zero, vd_fma(x, vd_splat(-0.25), top_4)), a, a1[0])
    a0[0] = a0[0] + a


cdef inline void add_run(
    const char *x, bint x_wide, const char *a, bint a_wide,   # in: whole groups of 16
    Py_ssize_t groups, double top,
    double *sums,        # in, out (4, 8): A0 and A1 / 4, each with its error
) noexcept nogil:
    cdef vd a0[FX_NV]
    cdef vd a1[FX_NV]
    cdef vd top_4 = vd_splat(0.25 * top)
    cdef Py_ssize_t g, v, k
    for v in range(FX_NV):
        a0[v] = vd_splat(0)
        a1[v] = vd_splat(0)
    for g in range(groups):
        for v in range(FX_NV):
            k = g * 16 + v * FX_VD
            add_term(
                doubles_at(x + k * (8 if x_wide else 4), x_wide), doubles_at(a + k * (8 if a_wide else 4), a_wide),
                top_4, &a0[v], &a1[v],
            )
    flush(a0, sums, sums + 8)
    flush(a1, sums + 16, sums + 24)


cdef void any_add_run(
    const char *x, bint x_wide, const char *a, bint a_wide, Py_ssize_t groups, double top, double *sums
) noexcept nogil:
    if x_wide:
        if a_wide:
            add_run(x, True, a, True, groups, top, sums)
        else:
            add_run(x, True, a, False, groups, top, sums)
    elif a_wide:
        add_run(x, False, a, True, groups, top, sums)
    else:
        add_run(x, False, a, False, groups, top, sums)


cdef inline void gather_kind(
    const char *p, int kind, Py_ssize_t stride, Py_ssize_t n, char *out, vec like
) noexcept nogil:
    cdef Py_ssize_t i = 0, w = width(like), size = sizeof(vec) // w
    if stride == itemsize(kind):
        while i + w <= n:
            store(out + i * size, load(p + i * stride, kind, like))
            i += w
    while i < n:
        if vec is vf:
            (<float *>out)[i] = <float>load_one(p + i * stride, kind)
        else:
            (<double *>out)[i] = load_one(p + i * stride, kind)
        i += 1


cdef void gather_columns(const char *p, int kind, Py_ssize_t stride, Py_ssize_t n, char *out) noexcept nogil:
    """Up to TERMS elements side by side, in float32 or, for float64, float64; 0 behind the last to the group's end."""
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    cdef Py_ssize_t size = lane_size(kind)
    if kind == F32:
        gather_kind(p, F32, stride, n, out, f)
    elif kind == F16:
        gather_kind(p, F16, stride, n, out, f)
    elif kind == BF16:
        gather_kind(p, BF16, stride, n, out, f)
    else:
        gather_kind(p, F64, stride, n, out, d)
    memset(out + n * size, 0, ((n + 15) // 16 * 16 - n) * size)


cdef inline const char *run_at(
    const char *p, int kind, Py_ssize_t stride, Py_ssize_t n, char *buffer
) noexcept nogil:
    """Up to TERMS elements where they lie, if a vector can read them there, else in `buffer`."""
    if n == TERMS and stride == itemsize(kind) and (kind == F32 or kind == F64):
        return p
    gather_columns(p, kind, stride, n, buffer)
    return buffer


cdef inline void log_run(const char *q, Py_ssize_t n, double top, char *out, vec like) noexcept nogil:
    """log(q / top) of a run's groups."""
    cdef vec y[FX_NI]
    cdef vec e[FX_NI]
    cdef vec l[FX_NI]
    cdef Py_ssize_t i = 0, v, w = width(like), size = sizeof(vec) // w
    for v in range(FX_NI):
        y[v] = splat(top, like)
    log_parts(y, e, l)
    # vectors by pairs or fours: for float32 a run ends in the middle of them
    while i < n:
        for v in range(FX_NI):
            y[v] = load(q + (i + v * w) * size, native(like), like)
        log_ratios(y, e[0], l[0])
        for v in range(FX_NI):
            store(out + (i + v * w) * size, y[v])
        i += FX_NI * w


cdef void any_log_run(const char *q, bint wide, Py_ssize_t n, double top, char *out) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if wide:
        log_run(q, n, top, out, d)
    else:
        log_run(q, n, top, out, f)


cdef void add_pairs(double *sums, double *total, double *total_lo) noexcept nogil:
    """Add the lanes of some columns, (8,) and their errors (8,), to a row's pair."""
    cdef double hi[8]
    cdef double s, s_lo
    cdef Py_ssize_t i
    memcpy(hi, sums, sizeof(hi))
    fold(sums, sums + 8, &s, &s_lo, vd_splat(0))
    if s != s:
        # an infinite term has made its error NaN
        s = s_lo = 0.0
        for i in range(8):
            s = s + hi[i]
    two_sum(total[0], s, total, &s)
    total_lo[0] = total_lo[0] + (s + s_lo)


cdef inline double of_pair(double hi, double lo) noexcept nogil:
    return hi + lo if -INFINITY < hi < INFINITY else hi
