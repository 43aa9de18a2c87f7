# Rows against their targets LANES at a time, lanes being rows ("strided.pxi"): those whose class axis is not
# contiguous, and narrow ones.
#
# A piece of rows is looked at three times, in cache: for the largest element of each row, or its label's; for the sum
# of all others (strided.pxi); for A0 and A1 (target_terms.pxi). As the largest element is never in the sum, the gap is
# log1p(S_others / e^top) throughout. A fourth look writes the gradient. Whatever is out of the ordinary in a row (NaN,
# infinite, far off, masked but for one class) is left to target_rows.pxi.

cdef enum:
    HELD_DOUBLES = 4096   # 8 bytes each: logits of a piece that are brought into lanes once, for all looks

cdef struct LanePiece:
    Columns x, target
    Py_ssize_t row
    int64_t label[LANES]
    uint8_t status[LANES]
    bint odd[LANES]          # left to target_rows.pxi
    int64_t own[LANES]       # the class left out of the sum
    double top[LANES]        # its element
    double gap[LANES]
    double plain[LANES]         # of a label without smoothing: the loss, where it is not the gap
    double a0[LANES]
    double a0_lo[LANES]
    double a1[LANES]
    double a1_lo[LANES]
    double hi[LANES]         # log-sum-exp, of float64 rows whose gradient is wanted
    double lo[LANES]
    double weight[LANES]     # of the label
    double factor[LANES]     # of the gradient


cdef inline vec not_above(vec x, vec top, vec yes, vec no) noexcept nogil:
    """`yes` where x <= top."""
    if vec is vf:
        return vf_pick(vf_ge(top, x), yes, no)
    else:
        return vd_pick(vd_ge(top, x), yes, no)


cdef inline void find_tops(const Columns *x, Py_ssize_t n, int64_t *own, double *top, vec like) noexcept nogil:
    """The largest element of each row and its class, the first among equals."""
    cdef vec best[FX_PIXEL_VECTORS]
    cdef vec place[FX_PIXEL_VECTORS]
    cdef double buffer[COLUMN_BLOCK * LANES]
    cdef vec m, at, y
    cdef Py_ssize_t w = width(like), b, j, k, v, i, some, step = 0
    cdef const char *p
    for v in range(x.lanes // w):
        best[v] = splat(-INFINITY, like)
        place[v] = splat(0, like)
    for b in range((n + COLUMN_BLOCK - 1) // COLUMN_BLOCK):
        j = b * COLUMN_BLOCK
        some = min(COLUMN_BLOCK, n - j)
        p = block_of(x, j, some, <char *>buffer, &step)
        for v in range(x.lanes // w):
            m = best[v]
            at = place[v]
            for k in range(some):
                y = load(p + k * step, native(like), like)
                at = not_above(y, m, at, splat(<double>(j + k), like))
                m = not_above(y, m, m, y)
            best[v] = m
            place[v] = at
            p += sizeof(vec)
    for i in range(x.lanes):
        if vec is vf:
            own[i] = <int64_t>(<float *>place)[i]
            top[i] = (<float *>best)[i]
        else:
            own[i] = <int64_t>(<double *>place)[i]
            top[i] = (<double *>best)[i]


cdef void any_find_tops(const Columns *x, Py_ssize_t n, int64_t *own, double *top) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if x.kind == F64:
        find_tops(x, n, own, top, d)
    else:
        find_tops(x, n, own, top, f)


cdef void shares_of_lanes(
    const Columns *x, Py_ssize_t n, const int64_t *own,
    double *s, double *s_lo,     # out (lanes,): sum of the others
    double *low,                 # out (lanes,): largest of all with their signs turned
) noexcept nogil:
    cdef double buffer[COLUMN_BLOCK * LANES]
    cdef double holes[LANES]
    cdef Py_ssize_t b, j, k, i, v, some, step = 0, size = lane_size(x.kind)
    cdef const char *p
    cdef vd y, acc, m, hole, zero = vd_splat(0)
    memset(s, 0, x.lanes * 8)
    memset(s_lo, 0, x.lanes * 8)
    for i in range(x.lanes):
        holes[i] = <double>own[i]
        low[i] = -INFINITY
    for b in range((n + COLUMN_BLOCK - 1) // COLUMN_BLOCK):
        j = b * COLUMN_BLOCK
        some = min(COLUMN_BLOCK, n - j)
        p = block_of(x, j, some, <char *>buffer, &step)
        for v in range(x.lanes // FX_VD):
            i = v * FX_VD
            acc = zero
            m = vd_load(low + i)
            hole = vd_load(holes + i)
            for k in range(some):
                y = doubles_at(p + k * step + i * size, size == 8)
                acc = acc + vd_pick(vd_eq(hole, vd_splat(<double>(j + k))), zero, y)
                m = vd_max(m, -vd_no_nan(y))
            vd_flush(s + i, s_lo + i, acc)
            vd_store(low + i, m)


cdef inline void lane_log_ratios(
    const char *p, Py_ssize_t step, Py_ssize_t n, Py_ssize_t lanes, const vec *top_e, const vec *top_l,
    char *out,       # out (COLUMN_BLOCK, LANES)
    vec like,
) noexcept nogil:
    """log(q / top) of a block."""
    cdef vec y[FX_NI]
    cdef Py_ssize_t w = width(like), size = sizeof(vec) // w, g, h, k, i, v
    for v in range(lanes // w):
        for g in range((n + FX_NI - 1) // FX_NI):
            h = g * FX_NI
            for i in range(FX_NI):
                k = min(h + i, n - 1)
                y[i] = load(p + k * step + v * sizeof(vec), native(like), like)
            log_ratios(y, top_e[v], top_l[v])
            for i in range(FX_NI):
                store(out + ((h + i) * LANES + v * w) * size, y[i])


cdef inline void add_lanes(
    const TargetJob *job, LanePiece *piece, Py_ssize_t first, Py_ssize_t n, bint soft, bint a_wide, vec like
) noexcept nogil:
    """A0 and A1 of the columns [first, first + n)."""
    cdef double xs[COLUMN_BLOCK * LANES]
    cdef double as_[COLUMN_BLOCK * LANES]
    cdef double weights[COLUMN_BLOCK]
    cdef vec top_e[FX_PIXEL_VECTORS]
    cdef vec top_l[FX_PIXEL_VECTORS]
    cdef vec y[FX_NI]
    cdef vec e[FX_NI]
    cdef vec l[FX_NI]
    cdef vd a, a0, a1, top_4, all_
    cdef Py_ssize_t w = width(like), size = sizeof(vec) // w, a_size = 8 if a_wide else 4
    cdef Py_ssize_t b, j, k, i, v, some, x_step = 0, a_step = 0, lanes = piece.x.lanes
    cdef bint plain = soft and job.weights == NULL and job.smoothing == 0.0
    cdef const char *p
    cdef const char *t = NULL
    cdef double share = job.smoothing / <double>job.classes
    memset(piece.a0, 0, lanes * 8)
    memset(piece.a0_lo, 0, lanes * 8)
    memset(piece.a1, 0, lanes * 8)
    memset(piece.a1_lo, 0, lanes * 8)
    if job.probabilities:
        for v in range(lanes // w):
            for i in range(FX_NI):
                for k in range(w):
                    if vec is vf:
                        (<float *>&y[i])[k] = <float>piece.top[v * w + k]
                    else:
                        (<double *>&y[i])[k] = piece.top[v * w + k]
            log_parts(y, e, l)
            top_e[v] = e[0]
            top_l[v] = l[0]
    for b in range((n + COLUMN_BLOCK - 1) // COLUMN_BLOCK):
        j = b * COLUMN_BLOCK
        some = min(COLUMN_BLOCK, n - j)
        p = block_of(&piece.x, j, some, <char *>xs, &x_step)
        if job.probabilities:
            lane_log_ratios(p, x_step, some, lanes, top_e, top_l, <char *>xs, like)
            p = <char *>xs
            x_step = LANES * size
        if soft:
            t = block_of(&piece.target, j, some, <char *>as_, &a_step)
        for k in range(some):
            weights[k] = 1.0 if job.weights == NULL else job.weights[first + j + k]
        for v in range(lanes // FX_VD):
            i = v * FX_VD
            a0 = vd_splat(0)
            a1 = a0
            top_4 = a0 if job.probabilities else vd_load(piece.top + i) * 0.25
            for k in range(some):
                if soft:
                    a = doubles_at(t + k * a_step + i * a_size, a_wide)
                    if not plain:
                        a = vd_fma(a, vd_splat(1.0 - job.smoothing), vd_splat(share)) * weights[k]
                else:
                    a = vd_splat(share) * weights[k]
                add_term(doubles_at(p + k * x_step + i * size, size == 8), a, top_4, &a0, &a1)
            vd_flush(piece.a0 + i, piece.a0_lo + i, a0)
            vd_flush(piece.a1 + i, piece.a1_lo + i, a1)


cdef void any_add_lanes(const TargetJob *job, LanePiece *piece, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    cdef bint wide = piece.x.kind == F64
    if job.target_code < SOFT:
        if wide:
            add_lanes(job, piece, first, n, False, False, d)
        else:
            add_lanes(job, piece, first, n, False, False, f)
    elif job.target_code == SOFT + F64:
        if wide:
            add_lanes(job, piece, first, n, True, True, d)
        else:
            add_lanes(job, piece, first, n, True, True, f)
    elif wide:
        add_lanes(job, piece, first, n, True, False, d)
    else:
        add_lanes(job, piece, first, n, True, False, f)


cdef void plain_losses(const TargetJob *job, LanePiece *piece, const Columns *raw, Py_ssize_t n) noexcept nogil:
    """Losses of labels to float32, to the bits that Rows gives (pixeljob.pxi): by float32 lanes, and for what these leave by
    the kernel with references; else by what the gap has."""
    cdef Quick quick
    cdef Pixels some
    cdef double x_label[FX_NI * FX_VD]
    cdef double again[FX_NI * FX_VD]
    cdef int64_t hole
    cdef Py_ssize_t i, k
    for i in range(max(raw.count, <Py_ssize_t>FX_BATCH)):
        quick.labels[i] = <int32_t>piece.own[i] if i < raw.count else -1
    quick.ahead_stride = 0
    any_quick_rows(raw.p, raw.kind, raw.class_stride, raw.row_stride, n, raw.count, False, False, &quick)
    for i in range(raw.count):
        piece.plain[i] = quick.values[i]
        if quick.ok[i]:
            continue
        hole = piece.own[i]
        any_referred_segment(
            raw.p + i * raw.row_stride, raw.kind, raw.class_stride, raw.row_stride, n, 1, &hole, &some
        )
        x_label[0] = piece.top[i]
        for k in range(1, FX_NI * FX_VD):
            some.s[k] = 1.0
            some.s_lo[k] = some.top[k] = some.c[k] = x_label[k] = 0.0
        losses_of(&some, x_label, 1, again)
        piece.plain[i] = again[0] if again[0] != ODD else piece.gap[i]


cdef void gaps_of_lanes(
    const TargetJob *job, LanePiece *piece, const Columns *raw, Py_ssize_t n
) noexcept nogil:
    """The gap of each row's `own`; for a label without smoothing its loss, to the bits that Rows gives."""
    cdef Pixels pixels
    cdef Partial part
    cdef double low[LANES]
    cdef vd y[FX_NI]
    cdef Py_ssize_t h, i, v, count = raw.count
    cdef const Columns *x = &piece.x
    cdef const Columns *source
    if job.probabilities:
        shares_of_lanes(x, n, piece.own, pixels.s, pixels.s_lo, low)
        for h in range(x.lanes // (FX_NI * FX_VD)):
            i = h * FX_NI * FX_VD
            for v in range(FX_NI):
                y[v] = (vd_load(pixels.s + i + v * FX_VD) + vd_load(pixels.s_lo + i + v * FX_VD)) / vd_load(
                    piece.top + i + v * FX_VD
                )
                vd_store(low + i + v * FX_VD, vd_max(vd_load(low + i + v * FX_VD), y[v] - vd_splat(1e18)))
            vd_log1p(y, y)
            for v in range(FX_NI):
                vd_store(piece.gap + i + v * FX_VD, y[v])
        for i in range(count):
            # a negative entry, a ratio out of range, an infinite element or a row of zeros
            piece.odd[i] = low[i] > 0.0 or not 0.0 < piece.top[i] < INFINITY or not piece.gap[i] < INFINITY
            piece.plain[i] = piece.gap[i]
        return
    # a label's loss has the bits that Rows gives, which the order of the classes in memory may choose (ordinary.pxi)
    source = raw if job.own_label else x
    any_pixel_segment(
        source.p, source.kind, source.class_stride, source.row_stride, n, source.count, piece.own, &pixels
    )
    for i in range(count, x.lanes):
        pixels.s[i] = 1.0
        pixels.s_lo[i] = pixels.top[i] = pixels.c[i] = piece.top[i] = 0.0
    if job.single:
        losses_of(&pixels, piece.top, x.lanes, piece.gap)
    else:
        double_losses_of(&pixels, piece.top, x.lanes, piece.gap)
    for i in range(count):
        # in float32 a far row is left to target_rows.pxi where more than a label's loss is wanted; the same bits
        if (not job.single and (piece.gap[i] == ODD or job.gradient != NULL)) or (
            piece.gap[i] == ODD and job.own_label and job.gradient == NULL
        ):
            partial_of(&pixels, i, raw.p + i * raw.row_stride, raw.kind, raw.class_stride, n, piece.own[i], &part)
            if piece.gap[i] == ODD:
                piece.gap[i] = loss_of(&part, piece.top[i])
            if job.gradient != NULL:
                lse_with(&part, piece.top[i], piece.gap[i], &piece.hi[i], &piece.lo[i])
        piece.odd[i] = not piece.gap[i] < ODD
        piece.plain[i] = piece.gap[i]
    if job.own_label and job.single and n > 1:
        plain_losses(job, piece, raw, n)
