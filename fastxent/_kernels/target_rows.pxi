# A row against its target: pieces of columns, merged in order, to its loss and its gradient.
#
# A segment of columns (rows.pxi) is taken in pieces of PIECE_COLUMNS columns, whose exponentials are summed and whose
# terms are added while they are in cache: a row is read from memory once. Where a piece is nearly all its largest
# element's (lse - top < 0.75), this one is left out of the sum, for the gap is then log1p(S_others / e^top), with every
# digit; as a row's gap is no smaller than a piece's, the last word is with the piece that has the row's largest. For a
# label without smoothing it is the label that is left out, and all is as rows.pxi has it: the same bits as without any
# of the options.

cdef enum:
    PIECE_COLUMNS = 4096     # columns; divides SEGMENT

# a row that is summed
cdef struct Scored:
    double hi, lo            # log-sum-exp
    double gap               # lse - x_k
    int64_t k                # or -1
    double total, total_lo   # sum of a
    double factor            # of the gradient; 0 for a row that counts nothing


cdef inline double top_of_part(const TargetPart *p) noexcept nogil:
    return max(p.own, p.rest.top) if p.k >= 0 else p.rest.top


cdef void share_piece(
    const TargetJob *job, const char *x, Py_ssize_t n, int64_t hole, TargetPart *out
) noexcept nogil:
    """Sum of probabilities without the hole, the largest of all and whether any is bad."""
    cdef double buffer[TERMS]
    cdef double sums[16]
    cdef vd acc[FX_NV]
    cdef vd y, top = vd_splat(0), low = top
    cdef const char *p
    cdef Py_ssize_t j = 0, some, g, v
    cdef bint wide = job.kind == F64
    cdef double held
    memset(&out.rest, 0, sizeof(Partial))
    while j < n:
        some = min(TERMS, n - j)
        p = run_at(x + j * job.class_stride, job.kind, job.class_stride, some, <char *>buffer)
        held = 0.0
        if 0 <= hole - j < some:
            if p != <char *>buffer:
                gather_columns(p, job.kind, job.class_stride, some, <char *>buffer)
                p = <char *>buffer
            if wide:
                held = buffer[hole - j]
                buffer[hole - j] = 0.0
            else:
                held = (<float *>buffer)[hole - j]
                (<float *>buffer)[hole - j] = 0.0
            top = vd_max(top, vd_splat(held))
            low = vd_max(low, vd_splat(-held))
        memset(sums, 0, sizeof(sums))
        for v in range(FX_NV):
            acc[v] = vd_splat(0)
        for g in range((some + 15) // 16):
            for v in range(FX_NV):
                y = doubles_at(p + (g * 16 + v * FX_VD) * (8 if wide else 4), wide)
                acc[v] = acc[v] + y
                y = vd_no_nan(y)  # beside which a negative entry would not be seen
                top = vd_max(top, y)
                low = vd_max(low, -y)
        flush(acc, sums, sums + 8)
        add_pairs(sums, &out.rest.s, &out.rest.s_lo)
        j += some
    out.rest.top = vd_top(top)
    out.bad = vd_top(low) > 0.0 or out.rest.top == INFINITY


cdef void target_terms(
    const TargetJob *job, const char *x, const char *target, Py_ssize_t first, Py_ssize_t n, double top, TargetPart *out
) noexcept nogil:
    """A0 and A1 of n columns from column `first` on; x and target are at that column."""
    cdef double xs[TERMS]
    cdef double as_[TERMS]
    cdef double sums[32]
    cdef Py_ssize_t j = 0, some
    cdef const char *p
    cdef const char *a
    cdef bint wide = job.kind == F64, a_wide
    if not -INFINITY < top < INFINITY:
        top = 0.0  # nothing but -inf, whose terms are 0 or infinite; a row with NaN or +inf is lost
    out.a0 = out.a0_lo = out.a1 = out.a1_lo = 0.0
    memset(sums, 0, sizeof(sums))
    while j < n:
        some = min(TERMS, n - j)
        p = run_at(x + j * job.class_stride, job.kind, job.class_stride, some, <char *>xs)
        a = target_run(job, target + j * job.target_stride, first + j, some, <char *>as_, &a_wide)
        if job.probabilities:
            any_log_run(p, wide, some, top, <char *>xs)
            any_add_run(<char *>xs, wide, a, a_wide, (some + 15) // 16, 0.0, sums)
        else:
            any_add_run(p, wide, a, a_wide, (some + 15) // 16, top, sums)
        j += some
    add_pairs(sums, &out.a0, &out.a0_lo)
    add_pairs(sums + 16, &out.a1, &out.a1_lo)


cdef const char *target_run(
    const TargetJob *job, const char *target, Py_ssize_t first, Py_ssize_t n, char *buffer, bint *wide
) noexcept nogil:
    """a of n <= TERMS columns, in float32 or float64; of a label what smoothing spreads."""
    cdef double *a = <double *>buffer
    cdef double given[TERMS]
    cdef const double *w = NULL if job.weights == NULL else job.weights + first
    cdef double share = job.smoothing / <double>job.classes, left = 1.0 - job.smoothing
    cdef double some[8]
    cdef vd y, v, fill = vd_splat(share)
    cdef Py_ssize_t i
    cdef bint soft = job.target_code >= SOFT, double_ = job.target_code == SOFT + F64
    wide[0] = True
    memset(some, 0, sizeof(some))
    if soft and w == NULL and job.smoothing == 0.0:
        wide[0] = double_
        return run_at(target, job.target_code - SOFT, job.target_stride, n, buffer)
    if soft:
        gather_columns(target, job.target_code - SOFT, job.target_stride, n, <char *>given)
    i = 0
    while i < n:
        y = fill
        if soft:
            y = vd_fma(doubles_at(<char *>given + i * (8 if double_ else 4), double_), vd_splat(left), fill)
        if w != NULL:
            # 0 also where the weight is NaN or infinite
            if i + FX_VD <= n:
                v = vd_load(w + i)
            else:
                memcpy(some, w + i, (n - i) * 8)
                v = vd_load(some)
            y = vd_pick(vd_eq(y, vd_splat(0)), vd_splat(0), y * v)
        vd_store(a + i, y)
        i += FX_VD
    for i in range(n, (n + 15) // 16 * 16):
        a[i] = 0.0
    return buffer


cdef void target_piece(
    const TargetJob *job, const char *x, const char *target, Py_ssize_t first, Py_ssize_t n, TargetPart *out
) noexcept nogil:
    cdef double hi, lo, top
    cdef int64_t k = -1
    out.bad = False
    out.own = 0.0
    if job.probabilities:
        share_piece(job, x, n, -1, out)
        top = out.rest.top
        if top > 0.5 * out.rest.s and not out.bad:
            k = any_find(x, job.kind, job.class_stride, n, top)
            if k >= 0:
                share_piece(job, x, n, k, out)
                # of the others, and 0 where it is not known: `own` is the larger
                out.rest.top = 0.0
    else:
        any_segment(x, job.kind, job.class_stride, n, -1, False, 0.0, &out.rest)
        top = out.rest.top
        if -INFINITY < top < INFINITY:
            lse_of(&out.rest, &hi, &lo)
            if (hi - top) + lo < 0.75:
                k = any_find(x, job.kind, job.class_stride, n, top)
                if k >= 0:  # not where another thread changed the input meanwhile
                    any_segment(x, job.kind, job.class_stride, n, k, False, 0.0, &out.rest)
    out.k = -1
    if k >= 0:
        out.k = first + k
        out.own = top
    target_terms(job, x, target, first, n, top, out)


cdef double log_between(const TargetJob *job, double high, double low) noexcept nogil:
    """How far apart two elements of a row are, in A1's unit of 4 nats."""
    cdef int64_t e, n
    cdef double f, g, y
    if not job.probabilities:
        return 0.25 * high - 0.25 * low
    if low == 0.0:
        return INFINITY
    # as log_ratios has it
    f = split_exponent(high, &n) - 1.0
    g = split_exponent(low, &e) - 1.0
    y = (f + log_reduced(f)) - (g + log_reduced(g))
    return 0.25 * (<double>(n - e) * FX_LN2_33 + fx_fma(<double>(n - e), FX_LN2_REST, y))


cdef void add_element(Partial *p, double x) noexcept nogil:
    """Add e^x to a sum."""
    cdef Partial one
    memset(&one, 0, sizeof(one))
    one.s = 1.0
    one.shift = one.top = x
    one.argmax = -1
    merge(p, &one, 0)


cdef void raise_top(const TargetJob *job, TargetPart *p, double top) noexcept nogil:
    """Give A1 a larger top, and the class that was left out back to the sum."""
    cdef double lost
    if p.a0 != 0.0:
        p.a1_lo = p.a1_lo + p.a0_lo * log_between(job, top, top_of_part(p))
        two_sum(p.a1, p.a0 * log_between(job, top, top_of_part(p)), &p.a1, &lost)
        if lost == lost:
            p.a1_lo = p.a1_lo + lost
    if p.k >= 0:
        if job.probabilities:
            two_sum(p.rest.s, p.own, &p.rest.s, &lost)
            p.rest.s_lo = p.rest.s_lo + lost
            p.rest.top = max(p.rest.top, p.own)
        else:
            add_element(&p.rest, p.own)
        p.k = -1


cdef void merge_target(const TargetJob *job, TargetPart *a, const TargetPart *b) noexcept nogil:
    """Add the columns that follow."""
    cdef TargetPart low = b[0]
    cdef double lost
    if job.own_label:
        if job.probabilities:
            two_sum(a.rest.s, low.rest.s, &a.rest.s, &lost)
            a.rest.s_lo = a.rest.s_lo + (low.rest.s_lo + lost)
        else:
            merge(&a.rest, &low.rest, 0)
        a.bad |= low.bad
        return
    if top_of_part(b) > top_of_part(a):
        raise_top(job, a, top_of_part(b))
        a.k = low.k
        a.own = low.own
    else:
        raise_top(job, &low, top_of_part(a))
    if job.probabilities:
        two_sum(a.rest.s, low.rest.s, &a.rest.s, &lost)
        a.rest.s_lo = a.rest.s_lo + (low.rest.s_lo + lost)
        a.rest.top = max(a.rest.top, low.rest.top)
    else:
        merge(&a.rest, &low.rest, 0)
    two_sum(a.a0, low.a0, &a.a0, &lost)
    a.a0_lo = a.a0_lo + (low.a0_lo + lost)
    two_sum(a.a1, low.a1, &a.a1, &lost)
    a.a1_lo = a.a1_lo + (low.a1_lo + lost)
    a.bad |= low.bad


cdef void target_segment(
    const TargetJob *job, const char *x, const char *target, Py_ssize_t s, int64_t label, TargetPart *out
) noexcept nogil:
    """Segment s of a row; x and target are at column 0."""
    cdef TargetPart part
    cdef Py_ssize_t first = s * SEGMENT, end = min(first + SEGMENT, job.classes), j = first, n
    x = x + first * job.class_stride
    if job.own_label:
        memset(out, 0, sizeof(TargetPart))
        out.k = label
        if job.probabilities:
            share_piece(job, x, end - first, label - first, out)
        else:
            any_segment(x, job.kind, job.class_stride, end - first, label - first, False, 0.0, &out.rest)
        return
    target = target + first * job.target_stride
    while j < end:
        n = min(PIECE_COLUMNS, end - j)
        if j == first:
            target_piece(job, x, target, j, n, out)
        else:
            target_piece(job, x, target, j, n, &part)
            merge_target(job, out, &part)
        x = x + n * job.class_stride
        target = target + n * job.target_stride
        j += n


cdef double surprise_of(double others, double q) noexcept nogil:
    """-log of q / (others + q)."""
    cdef double ratio
    if q == 0.0:
        return NAN if others == 0.0 else others * INFINITY
    ratio = others / q
    if ratio < 1e18 or ratio != ratio:
        return log1p_(ratio)
    return log_(others) - log_(q)


cdef void lse_with(const Partial *others, double own, double gap, double *hi, double *lo) noexcept nogil:
    """Log-sum-exp of all, from that of the others, and the element left out, whose lse - x is `gap`."""
    cdef Partial all_ = others[0]
    if gap < LN2:
        two_sum(own, gap, hi, lo)
        return
    if own > -INFINITY:
        add_element(&all_, own)
    lse_of(&all_, hi, lo)


cdef double finish_target(
    const TargetJob *job, int64_t label, double x_label, double weight, TargetPart *p, Scored *row
) noexcept nogil:
    """The loss of a row, from all of its columns; with a label, `weight` is its own."""
    cdef double top, loss, others
    cdef bint sound
    row.hi = row.lo = row.gap = NAN
    row.k = p.k
    row.total = p.a0
    row.total_lo = p.a0_lo
    if job.probabilities:
        others = of_pair(p.rest.s, p.rest.s_lo)
        if job.own_label:
            return weight * surprise_of(others, x_label) if 0.0 < others + x_label < INFINITY else NAN
        top = top_of_part(p)
        sound = 0.0 < top < INFINITY and others + top < INFINITY
        if sound:
            row.gap = surprise_of(others, top) if p.k >= 0 else log_(others / top)
    elif job.own_label:
        loss = loss_of(&p.rest, x_label)
        row.gap = loss
        row.total = weight
        row.total_lo = 0.0
        if job.gradient != NULL and loss == loss:
            lse_with(&p.rest, x_label, loss, &row.hi, &row.lo)
        return weight * loss
    else:
        top = top_of_part(p)
        sound = -INFINITY < top < INFINITY and p.rest.s == p.rest.s
        if sound and p.k >= 0:
            row.gap = loss_of(&p.rest, top)
            lse_with(&p.rest, top, row.gap, &row.hi, &row.lo)
        elif sound:
            lse_of(&p.rest, &row.hi, &row.lo)
            row.gap = (row.hi - top) + row.lo
    if not sound:
        # NaN, +inf or nothing but -inf
        return NAN
    if p.a0 == INFINITY and row.gap > 0.0:  # else infinity times 0, NaN as in PyTorch
        return INFINITY
    loss = p.a1 + (p.a1_lo + 0.25 * (row.gap * of_pair(p.a0, p.a0_lo))) if -INFINITY < p.a1 < INFINITY else p.a1
    if label >= 0 and weight != 0.0 and job.smoothing != 1.0:
        loss = loss + (1.0 - job.smoothing) * weight * (log_between(job, top, x_label) + 0.25 * row.gap)
        two_sum(row.total, (1.0 - job.smoothing) * weight, &row.total, &others)
        row.total_lo = row.total_lo + others
    return 4.0 * loss
