# Everything about narrow rows, lanes being rows: LANE_BYTES of lanes at a time are brought into columns, looked through
# for the largest but the label, its class and the label's rank, and summed again for the moments, with that largest as
# their reference. Then the same formulas as stats_of (finish.pxi), side by side.
#
# Nothing cancels here either: the largest is left out of the sum, so that -log of its probability is log1p of what is
# left, where nearly all is on one class, too. What is out of the ordinary is left to finish.pxi.

cdef enum:
    LANE_BYTES = 128       # FX_NV vectors
    MOST_LANES = 32

# what a row's others leave (all classes, where there is no label), e = e^(x - c log 2), c the base-2 exponent of the
# largest
cdef struct Moments:
    double top[MOST_LANES]
    double argmax[MOST_LANES]    # first class of top
    double above[MOST_LANES]     # others ranked before the label
    double peak[MOST_LANES]      # e of that class
    double rest[MOST_LANES]      # sum of the others' e but for that class
    double w[MOST_LANES]         # sum of e (top - x)
    double q[MOST_LANES]         # sum of e^2


cdef inline vec where_ge(vec a, vec b, vec yes, vec no) noexcept nogil:
    if vec is vf:
        return vf_pick(vf_ge(a, b), yes, no)
    else:
        return vd_pick(vd_ge(a, b), yes, no)


cdef inline vec where_eq(vec a, vec b, vec yes, vec no) noexcept nogil:
    if vec is vf:
        return vf_pick(vf_eq(a, b), yes, no)
    else:
        return vd_pick(vd_eq(a, b), yes, no)


cdef inline void add_wide(double *sums, vec x) noexcept nogil:
    if vec is vf:
        vf_flush(sums, x)
    else:
        vd_store(sums, vd_load(sums) + x)


cdef inline void bring_lanes(
    const char *x, int kind, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t rows, char *b, vec like
) noexcept nogil:
    """Rows into columns: out (n rounded up to FX_NI, LANE_BYTES); 0 behind the last row, -inf behind the classes."""
    cdef Py_ssize_t lanes = LANE_BYTES // (<Py_ssize_t>sizeof(vec) // width(like)), i, j, done = 0
    cdef Py_ssize_t size = itemsize(kind)
    cdef double value
    if FX_TILES and kind == F32:
        done = rows // FX_TILE * FX_TILE
        for i in range(done // FX_TILE):
            j = 0 - FX_TILE
            while j + FX_TILE < n:
                j += FX_TILE
                fx_to_lanes(
                    x + i * FX_TILE * pixel_stride + j * size, pixel_stride, <int>min(<Py_ssize_t>FX_TILE, n - j),
                    <float *>b + j * lanes + i * FX_TILE, lanes,
                )
    for i in range(done, lanes):
        for j in range(n):
            value = load_one(x + i * pixel_stride + j * size, kind) if i < rows else 0.0
            if vec is vf:
                (<float *>b)[j * lanes + i] = <float>value
            else:
                (<double *>b)[j * lanes + i] = value
    for j in range(n, (n + FX_NI - 1) // FX_NI * FX_NI):
        for i in range(LANE_BYTES // <Py_ssize_t>sizeof(vec)):
            store(b + j * LANE_BYTES + i * <Py_ssize_t>sizeof(vec), splat(-INFINITY, like))


cdef inline void moments_of(
    const char *x, int kind, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t rows,
    const int64_t *labels, const double *x_label, Moments *out, vec like,
) noexcept nogil:
    """Up to LANE_BYTES of rows."""
    cdef char columns[NARROW_SINGLE * LANE_BYTES]
    cdef char label_lanes[LANE_BYTES]
    cdef char before_lanes[LANE_BYTES]
    cdef char behind_lanes[LANE_BYTES]
    cdef Py_ssize_t w = width(like), native_size = sizeof(vec) // w, lanes = LANE_BYTES // native_size, i, j, k, v
    cdef char *b
    cdef vec label, before, behind, top, argmax, above, y, c, floor_, magic, t, peak, rest, moment, square, here
    cdef vec xs[FX_NI]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef vec none = splat(0, like), one = splat(1, like), nowhere = splat(-INFINITY, like)
    cdef vec rounding = splat(FX_MAGIC_F if w == FX_VF else FX_MAGIC_D, like)
    bring_lanes(x, kind, pixel_stride, n, rows, columns, like)
    for i in range(lanes):
        # an equal element is ahead of the label only where it stands before it
        if vec is vf:
            (<float *>label_lanes)[i] = <float>labels[i] if i < rows else -1
            (<float *>before_lanes)[i] = <float>x_label[i] if i < rows else 0
            (<float *>behind_lanes)[i] = <float>next_up(x_label[i] if i < rows else 0, like)
        else:
            (<double *>label_lanes)[i] = <double>labels[i] if i < rows else -1
            (<double *>before_lanes)[i] = x_label[i] if i < rows else 0
            (<double *>behind_lanes)[i] = next_up(x_label[i] if i < rows else 0, like)
    for v in range(FX_NV):
        b = columns + v * <Py_ssize_t>sizeof(vec)
        label = load(label_lanes + v * <Py_ssize_t>sizeof(vec), native(like), like)
        before = load(before_lanes + v * <Py_ssize_t>sizeof(vec), native(like), like)
        behind = load(behind_lanes + v * <Py_ssize_t>sizeof(vec), native(like), like)
        top = nowhere
        argmax = splat(-1, like)
        above = none
        here = none
        for j in range(n):
            y = where_eq(label, here, nowhere, load(b + j * LANE_BYTES, native(like), like))
            store(b + j * LANE_BYTES, y)
            argmax = where_ge(top, y, argmax, here)
            top = vmax(top, y)
            above = above + where_ge(y, where_ge(here, label, behind, before), one, none)
            here = here + one
        c = vfma(top, splat(FX_LOG2E, like), rounding) - rounding
        floor_ = vfma(c, splat(LN2, like), floor_of(0, like))
        magic = magic_of(0, like) - c
        store_wide(&out.top[v * w], top)
        store_wide(&out.argmax[v * w], argmax)
        store_wide(&out.above[v * w], above)
        for i in range(w):
            out.peak[v * w + i] = out.rest[v * w + i] = out.w[v * w + i] = out.q[v * w + i] = 0.0
        peak = rest = moment = square = none
        here = none
        for j in range((n + FX_NI - 1) // FX_NI):
            for i in range(FX_NI):
                xs[i] = vmax(floor_, load(b + (j * FX_NI + i) * LANE_BYTES, native(like), like))
            vexp(xs, magic, False, e, scale)
            for i in range(FX_NI):
                t = e[i] * scale[i]
                y = where_eq(argmax, here, t, none)
                peak = peak + y
                rest = rest + (t - y)
                moment = vfma(t, top - xs[i], moment)
                square = vfma(t, t, square)
                here = here + one
            if (j + 1) * FX_NI % 16 == 0 or (j + 1) * FX_NI >= n:
                add_wide(&out.peak[v * w], peak)
                add_wide(&out.rest[v * w], rest)
                add_wide(&out.w[v * w], moment)
                add_wide(&out.q[v * w], square)
                peak = rest = moment = square = none


cdef inline void store_wide(double *out, vec x) noexcept nogil:
    cdef Py_ssize_t i
    if vec is vf:
        for i in range(2 * FX_VD):
            out[i] = 0.0
        vf_flush(out, x)
    else:
        vd_store(out, x)


cdef void any_moments(
    const char *x, int kind, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t rows,
    const int64_t *labels, const double *x_label, Moments *out,
) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        moments_of(x, F32, pixel_stride, n, rows, labels, x_label, out, f)
    elif kind == F16:
        moments_of(x, F16, pixel_stride, n, rows, labels, x_label, out, f)
    elif kind == BF16:
        moments_of(x, BF16, pixel_stride, n, rows, labels, x_label, out, f)
    else:
        moments_of(x, F64, pixel_stride, n, rows, labels, x_label, out, d)


cdef inline bint is_plain_row(double x_label, double loss, double top, double far) noexcept nogil:
    """Nothing here is infinite, NaN, far off, or so small or large that a formula below would not hold."""
    return -far < x_label < far and -far < top < far and 1e-290 < loss < 700.0


cdef void stats_of_lanes(
    const Moments *m, const int64_t *labels, const double *x_label, const double *losses, const double *as_given,
    Py_ssize_t rows, double far, RowStats *out, uint8_t *done,
) noexcept nogil:
    """The values of up to MOST_LANES rows, and which of them were done; `as_given`: losses as `LOSS` gives them, rounded."""
    cdef double loss[MOST_LANES]
    cdef double rounded[MOST_LANES]
    cdef double own[MOST_LANES]        # label's logit
    cdef double mine[MOST_LANES]       # 1 where the label is the argmax
    cdef double values[5][MOST_LANES]
    cdef vd a[FX_NI]
    cdef vd y[FX_NI]
    cdef vd p[FX_NI]
    cdef vd others[FX_NI]
    cdef vd gap[FX_NI]
    cdef bint plain
    cdef vd s, none = vd_splat(0.0), far_below = vd_splat(-700.0)
    cdef Py_ssize_t i, k, v
    for i in range(MOST_LANES):
        plain = i < rows and is_plain_row(x_label[i], losses[i], m.top[i], far)
        loss[i] = losses[i] if plain else 1.0
        rounded[i] = as_given[i] if plain else 1.0
        own[i] = x_label[i] if plain else 0.0
        mine[i] = own[i] > m.top[i] or (own[i] == m.top[i] and labels[i] < m.argmax[i]) if plain else 1.0
        if i < rows:
            done[i] = plain
    for k in range(MOST_LANES // (FX_NI * FX_VD)):
        i = k * FX_NI * FX_VD
        if i >= rows:
            break
        for v in range(FX_NI):
            a[v] = none - vd_load(&rounded[i + v * FX_VD])
        vd_exp_full(a, p)
        for v in range(FX_NI):
            a[v] = none - vd_load(&loss[i + v * FX_VD])
        vd_expm1(a, others)
        # -log of the largest probability among the others
        for v in range(FX_NI):
            a[v] = vd_load(&own[i + v * FX_VD]) - vd_load(&m.top[i + v * FX_VD])
            y[v] = vd_max(far_below, vd_pick(vd_ge(none, a[v]), a[v], none))
        vd_exp_full(y, y)
        for v in range(FX_NI):
            y[v] = y[v] + vd_load(&m.rest[i + v * FX_VD]) / vd_load(&m.peak[i + v * FX_VD])
        vd_log1p(y, gap)
        for v in range(FX_NI):
            a[v] = a[v] + vd_load(&loss[i + v * FX_VD])
            gap[v] = vd_pick(vd_eq(vd_load(&mine[i + v * FX_VD]), none), gap[v], a[v])
            # of the loss before rounding: the largest probability is the row's own, whatever its label
            a[v] = vd_pick(vd_eq(vd_load(&mine[i + v * FX_VD]), none), gap[v], vd_load(&loss[i + v * FX_VD]))
            a[v] = vd_max(far_below, none - a[v])
        vd_exp_full(a, y)
        for v in range(FX_NI):
            s = vd_load(&m.rest[i + v * FX_VD]) + vd_load(&m.peak[i + v * FX_VD])
            a[v] = vd_load(&loss[i + v * FX_VD])
            vd_store(&values[0][i + v * FX_VD], vd_load(&own[i + v * FX_VD]) + a[v])
            vd_store(&values[1][i + v * FX_VD], p[v])
            vd_store(&values[2][i + v * FX_VD], y[v])
            vd_store(
                &values[3][i + v * FX_VD], p[v] * a[v] - others[v] * (vd_load(&m.w[i + v * FX_VD]) / s + gap[v])
            )
            a[v] = others[v] * others[v]
            vd_store(&values[4][i + v * FX_VD], a[v] + a[v] * (vd_load(&m.q[i + v * FX_VD]) / s / s))
    for i in range(rows):
        if done[i]:
            out[i].loss = rounded[i]
            out[i].lse = values[0][i]
            out[i].p_label = values[1][i]
            out[i].confidence = values[2][i]
            out[i].entropy = values[3][i]
            out[i].brier = values[4][i]
            out[i].argmax = labels[i] if mine[i] != 0.0 else <int64_t>m.argmax[i]
            out[i].rank = <int64_t>m.above[i]


cdef void plain_stats_of_lanes(
    const Moments *m, Py_ssize_t rows, double far, double least, RowStats *out, uint8_t *done
) noexcept nogil:
    """The same of rows without a label, as plain_stats_of has it: s = peak (1 + y), lse = top + log1p(y), y >= `least`.

    Below that a row's entropy is made of terms that may have underflowed.
    """
    cdef vd left[FX_NI]
    cdef double gap[MOST_LANES]
    cdef double s
    cdef Py_ssize_t i, k, v
    for k in range(MOST_LANES // (FX_NI * FX_VD)):
        i = k * FX_NI * FX_VD
        if i >= rows:
            break
        for v in range(FX_NI):
            left[v] = vd_load(&m.rest[i + v * FX_VD]) / vd_load(&m.peak[i + v * FX_VD])
        vd_log1p(left, left)
        for v in range(FX_NI):
            vd_store(&gap[i + v * FX_VD], left[v])
    for i in range(rows):
        # NaN is in the sum, but not always in the largest
        s = m.peak[i] + m.rest[i]
        done[i] = -far < m.top[i] < far and s < INFINITY and m.rest[i] >= least * m.peak[i]
        if done[i]:
            out[i].loss = out[i].p_label = NAN
            out[i].lse = m.top[i] + gap[i]
            out[i].confidence = m.peak[i] / s
            out[i].entropy = m.w[i] / s + gap[i]
            out[i].brier = m.q[i] / s / s
            out[i].argmax = <int64_t>m.argmax[i]
            out[i].rank = -1
