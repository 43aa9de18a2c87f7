# KL(P||Q) from logits in one reading, without the normalisers.
#
# For any c0, with x = (b - a) + c0 and weights w = e^a 2^-c, a column segment leaves
#     s = sum w,    the mean m of a - b under w,    u = sum w (e^-(a - b - m) - 1 + (a - b - m)) >= 0,
# and KL = log1p(u / s), since KL = E[a - b] + log E[e^(b - a)]. Two such states merge without a difference of anything:
# with D_i = m_i - m their u is the sum of e^-D_i u_i + s_i phi(D_i), phi(D) = e^-D - 1 + D.
#
# A block is summed about c0, the mean so far (at first the difference of the largest logits): sum w x and
# u0 = sum w (e^x - 1 - x), without cancellation as in pairs.pxi. Then u = e^-mx u0 - s (1 - (1 + mx) e^-mx), mx the mean
# of x. Where less than a quarter of u0 is left, c0 was a bad guess and the block is summed again, from cache, about its
# own mean: an error of c0 costs two bits at most. c is raised as in rows.pxi.
#
# What the loop does not cover is left to pairs.pxi (the choice depends on the row alone): |x| beyond WIDE, among them
# classes that only one of the two masks; offsets that differ by more than APART; far, infinite and NaN rows.
# Same lanes as pairs.pxi. `partial` gives the row's Partial as well, to the bits that any_segment gives (rows.pxi): where
# more than KL is asked for, the readings of both rows that the other statistics want come from here.
#
# Source: the streaming of a weighted variance with its own mean is West, CACM 22(9), 1979; here e^-d - 1 + d takes the
# square's place.

cdef enum:
    WIDE = 60

cdef inline double phi_(double d) noexcept nogil:
    """e^-d - 1 + d."""
    if -0.34 < d < 0.34:
        return d * d * tail_(-d)
    return expm1_(-d) + d


cdef inline double rho_(double d) noexcept nogil:
    """1 - (1 + d) e^-d."""
    if -0.34 < d < 0.34:
        return d * d * (1.0 - tail_(-d) * (1.0 + d))
    return 1.0 - (1.0 + d) * exp_(-d)


cdef inline double tail_(double r) noexcept nogil:
    """q of e^r = 1 + r + r^2 q, |r| <= ln2 / 2 (elementary.pxi)."""
    cdef double p = 2.4999962752161227e-08
    p = fx_fma(p, r, 2.7630378614888184e-07)
    p = fx_fma(p, r, 2.7557587350023017e-06)
    p = fx_fma(p, r, 2.4801492762837084e-05)
    p = fx_fma(p, r, 0.00019841269504757152)
    p = fx_fma(p, r, 0.0013888888943922556)
    p = fx_fma(p, r, 0.008333333333495627)
    p = fx_fma(p, r, 0.04166666666652919)
    p = fx_fma(p, r, 0.1666666666666641)
    return fx_fma(p, r, 0.5000000000000011)


cdef void merge_spreads(Spread *a, const Spread *b) noexcept nogil:
    """Add the state of what follows."""
    if not a.s > 0.0:
        a[0] = b[0]
        return
    cdef double s = b.s, u = b.u, total, between, left, right, factor
    if a.c < b.c:
        factor = shrink(a.c - b.c)
        a.s = a.s * factor
        a.u = a.u * factor
        a.c = b.c
    elif b.c < a.c:
        factor = shrink(b.c - a.c)
        s = s * factor
        u = u * factor
    total = a.s + s
    if not total > 0.0:
        return
    # means less the common one
    between = (b.mean - a.mean) + (b.mean_lo - a.mean_lo)
    left = -between * (s / total)
    right = between * (a.s / total)
    a.u = (exp_(-left) * a.u + a.s * phi_(left)) + (exp_(-right) * u + s * phi_(right))
    a.s = total
    two_sum(a.mean, a.mean_lo - left, &a.mean, &a.mean_lo)


cdef inline void spread_run(
    const Run *p, const Run *q, const char *p_tail, const char *q_tail,
    vec floor_, vec magic, vec c0, bint partial,
    vec *top,          # in, out: largest of the clamped logits of p
    vec *widest,       # in, out: largest |x|
    double *lanes,     # in, out (3, 16): s, sum of w x, u0
    double *hi, double *lo,  # in, out: s as sum_run adds it (`partial`)
) noexcept nogil:
    cdef vec acc[3 * FX_NH]
    cdef vec plain[FX_NV]     # two parts
    cdef vec a[FX_NI]
    cdef vec x[FX_NI]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef vec lowest, b, m = top[0], far = widest[0]
    cdef Py_ssize_t group, h, v, i, lane, part = 0, step = sizeof(vec)
    cdef const char *pa
    cdef const char *pb
    cdef int kind = native(c0)
    if vec is vf:
        lowest = vf_splat(-3.4028234663852886e+38)
    else:
        lowest = vd_splat(-1.7976931348623157e+308)
    for v in range(3 * FX_NH):
        acc[v] = splat(0, c0)
    for v in range(FX_NV):
        plain[v] = splat(0, c0)
    for group in range(p.groups):
        pa = group_at(p, False, p.start, group, FX_NV * step, NULL, p_tail)
        pb = group_at(q, False, q.start, group, FX_NV * step, NULL, q_tail)
        fx_stream(pa + FX_PREFETCH)
        fx_stream(pb + FX_PREFETCH)
        fx_stream(pa + FX_PREFETCH + 64)
        fx_stream(pb + FX_PREFETCH + 64)
        for h in range(FX_NV // FX_NI):
            for v in range(FX_NI):
                a[v] = load(pa + (h * FX_NI + v) * step, kind, c0)
                b = load(pb + (h * FX_NI + v) * step, kind, c0)
                # both masked: 0
                x[v] = (vmax(lowest, b) - vmax(lowest, a[v])) + c0
                a[v] = vmax(floor_, a[v])
                m = vmax(m, a[v])
                far = vmax(far, vabs(x[v]))
            vexp_sum(a, magic, e, scale)
            for v in range(FX_NI):
                if partial:
                    lane = part + (h * FX_NI + v) % FX_NH
                    plain[lane] = vfma(e[v], scale[v], plain[lane])
                e[v] = e[v] * scale[v]
                lane = (h * FX_NI + v) % FX_NH
                acc[lane] = acc[lane] + e[v]
                acc[FX_NH + lane] = vfma(e[v], x[v], acc[FX_NH + lane])
            vphi(x, scale)
            for v in range(FX_NI):
                lane = (h * FX_NI + v) % FX_NH
                acc[2 * FX_NH + lane] = vfma(e[v], scale[v], acc[2 * FX_NH + lane])
        if partial and (group == p.groups - 1 or group % part_length(c0) == part_length(c0) - 1):
            if part or group == p.groups - 1:
                flush(plain, hi, lo)
                for v in range(FX_NV):
                    plain[v] = splat(0, c0)
            part = FX_NH - part
    top[0] = m
    widest[0] = far
    for i in range(3):
        for v in range(FX_NH):
            if vec is vf:
                vf_flush(lanes + 16 * i + v * FX_VF, acc[i * FX_NH + v])
            else:
                step = 16 * i + v * FX_VD
                vd_store(lanes + step, vd_load(lanes + step) + acc[i * FX_NH + v])


cdef inline bint spread_segment(
    const Operand *p, const Operand *q, Py_ssize_t start, Py_ssize_t n, Spread *out, bint partial, Partial *part, vec like
) noexcept nogil:
    """Fill `out` from n columns from `start` on; False where the row is none for this way."""
    cdef double buffer[2 * FX_RUN_DOUBLES]
    cdef char tails[256]
    cdef double lanes[48]
    cdef double hi[16]
    cdef double lo[16]
    cdef double hi_was[16]
    cdef double lo_was[16]
    cdef Spread block
    cdef Run runs[2]
    cdef vec top, widest
    cdef int64_t raised
    cdef Py_ssize_t length_of_run = run_length(like), length = FX_BLOCK * run_length(like), j = start, i, size
    cdef double c0, mx, u0, far, row_top, q_top, block_top, limit = far_of(like)
    cdef bint again, second
    cdef int s
    if n <= 0:
        return False
    row_top = top_of_block(p, start, min(n, length), like)
    q_top = top_of_block(q, start, min(n, length), like)
    if not -limit < row_top < limit or not -limit < q_top < limit:
        return False
    out.c = reference(row_top)
    out.s = out.u = 0.0
    out.mean = row_top - q_top
    out.mean_lo = 0.0
    memset(hi, 0, sizeof(hi))
    memset(lo, 0, sizeof(lo))
    while j < start + n:
        again = True
        second = False
        c0 = out.mean
        memcpy(hi_was, hi, sizeof(hi))
        memcpy(lo_was, lo, sizeof(lo))
        while again:
            again = False
            if not -APART < c0 < APART:
                return False
            c0 = rounded(c0, like)
            memset(lanes, 0, sizeof(lanes))
            top = sum_floor_of(out.c, like)
            widest = splat(0, like)
            i = j
            while i < min(j + length, start + n):
                size = min(length_of_run, start + n - i)
                bring_run(p, i, size, &runs[0], <char *>buffer, tails, like)
                bring_run(q, i, size, &runs[1], <char *>&buffer[FX_RUN_DOUBLES], tails + 128, like)
                spread_run(
                    &runs[0], &runs[1], tails, tails + 128, sum_floor_of(out.c, like), sum_magic_of(out.c, like),
                    splat(c0, like), partial, &top, &widest, lanes, hi, lo,
                )
                i += size
            block.s, mx, u0 = fx_fold(lanes), fx_fold(lanes + 16), fx_fold(lanes + 32)
            block_top = top_lane(top)
            if not u0 < INFINITY or not top_lane(widest) < WIDE or not block_top < limit:
                return False
            raised = reference(block_top)
            if j > start and raised - out.c > JUMP:
                memcpy(hi, hi_was, sizeof(hi))
                memcpy(lo, lo_was, sizeof(lo))
                rescale(hi, lo, NULL, NULL, out.c - raised, False)
                memcpy(hi_was, hi, sizeof(hi))
                memcpy(lo_was, lo, sizeof(lo))
                out.s = out.s * shrink(out.c - raised)
                out.u = out.u * shrink(out.c - raised)
                out.c = raised
                again = True
                continue
            block.c = out.c
            block.mean, block.mean_lo, block.u = c0, 0.0, 0.0
            if block.s > 0.0:
                mx = mx / block.s
                two_sum(c0, -mx, &block.mean, &block.mean_lo)
                far = exp_(-mx) * u0
                block.u = max(0.0, far - block.s * rho_(mx))
                # little is left of one of them: about the mean, then
                if block.u < 0.25 * max(u0, far) and not second:
                    c0 = block.mean
                    again = second = True
                    memcpy(hi, hi_was, sizeof(hi))
                    memcpy(lo, lo_was, sizeof(lo))
        merge_spreads(out, &block)
        row_top = max(row_top, block_top) if j > start else row_top
        j += length
    if partial:
        part.shift = part.w = part.q = 0.0
        part.c = out.c
        part.above = 0
        part.argmax = -1
        part.top = row_top
        fold(hi, lo, &part.s, &part.s_lo, like)
        mend(part, like)
    return True


cdef inline double rounded(double x, vec like) noexcept nogil:
    if vec is vf:
        return <float>x
    else:
        return x


cdef inline double top_of_block(const Operand *side, Py_ssize_t start, Py_ssize_t n, vec like) noexcept nogil:
    cdef int64_t unused = 0
    cdef const char *x = side.x + start * side.stride
    if vec is vf:
        if side.kind == F16:
            return scan_block(x, F16, side.stride, n, -1, False, 0.0, &unused, like)
        if side.kind == BF16:
            return scan_block(x, BF16, side.stride, n, -1, False, 0.0, &unused, like)
    return scan_block(x, native(like), side.stride, n, -1, False, 0.0, &unused, like)


cdef bint spread_segment_f(
    const Operand *p, const Operand *q, Py_ssize_t start, Py_ssize_t n, Spread *out, Partial *part
) noexcept nogil:
    cdef vf like = vf_splat(0)
    if part != NULL:
        return spread_segment(p, q, start, n, out, True, part, like)
    return spread_segment(p, q, start, n, out, False, part, like)


cdef bint spread_segment_d(
    const Operand *p, const Operand *q, Py_ssize_t start, Py_ssize_t n, Spread *out, Partial *part
) noexcept nogil:
    cdef vd like = vd_splat(0)
    if part != NULL:
        return spread_segment(p, q, start, n, out, True, part, like)
    return spread_segment(p, q, start, n, out, False, part, like)
