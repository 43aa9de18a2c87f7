# KL or JS of two rows of float32 probabilities in one reading: neither row's sum is known beforehand.
#
# With P = sum p, Q = sum q, m = p + q, and the terms of pairmath.h, which are not negative,
#     sum (p log(p / q) - p + q)             = P KL + P log(P / Q) - P + Q,
#     sum (p log(2 p / m) + q log(2 q / m))  = (P + Q) JS' + P log(2 P / (P + Q)) + Q log(2 Q / (P + Q)),
# where JS' weighs the two by P and Q, which differs from JS by a factor of |P - Q| / (P + Q) of itself at most. What the sums
# differ by is known from sum (p - q) and sum (p + q): rounded in float32 the first is off by less than 2^-20 sum |p - q|,
# and (sum |p - q|)^2 is below 2 P KL (Pinsker), so that its error costs some 2^-20 of the result at the very most.
#
# That holds where the sums differ by little, or by a power of two and little: then a row of one segment is read again times
# what makes up for it, so that a power of two changes no bit. A row where it does not hold, or that has an entry which is
# negative, infinite or NaN, is left to shares.pxi. So are ratios p / q that overflow, and rows whose divergences are tiny.


cdef inline void once_groups(
    const char *p, const char *q, Py_ssize_t groups, int what, double *lanes, vu *odd
) noexcept nogil:
    """Add whole groups that lie one after the other, up to a run: 16 lanes of terms, of p - q and of p + q."""
    cdef vf acc[3 * FX_NH]
    cdef vu bad = odd[0]
    cdef Py_ssize_t g, h, v
    for v in range(3 * FX_NH):
        acc[v] = vf_splat(0)
    for g in range(groups):
        for h in range(FX_NV // FX_NI):
            vf_add_shares(p, q, what == JS, acc, &bad)
            p += FX_NI * sizeof(vf)
            q += FX_NI * sizeof(vf)
        fx_stream(p + FX_PREFETCH)
        fx_stream(p + FX_PREFETCH + 64)
        fx_stream(q + FX_PREFETCH)
        fx_stream(q + FX_PREFETCH + 64)
    for v in range(3 * FX_NH):
        vf_flush(lanes + v * FX_VF, acc[v])
    odd[0] = bad


cdef inline bint once_segment(
    const Operand *p, const Operand *q, Py_ssize_t start, Py_ssize_t n, int what, Spread *out
) noexcept nogil:
    """Sums over n columns from `start` on: of terms (u), of p - q (mean), of p + q (s). False where they say nothing."""
    cdef double buffer[2 * FX_RUN_DOUBLES]
    cdef char tails[256]
    cdef double lanes[3 * 16]
    cdef Operand side[2]
    cdef Run runs[2]
    cdef const char *x[2]
    cdef vf like = vf_splat(0)
    cdef vu odd = <vu>like
    cdef Py_ssize_t length_of_run = run_length(like), whole = length_of_run // group_length(like), j = start, size
    cdef bint plain = True
    cdef int s
    memset(lanes, 0, sizeof(lanes))
    side[0] = p[0]
    side[1] = q[0]
    for s in range(2):
        plain = plain and side[s].kind == F32 and side[s].stride == 4 and side[s].shift == 1.0
    while j < start + n:
        size = min(length_of_run, start + n - j)
        if plain and size == length_of_run:
            once_groups(p.x + 4 * j, q.x + 4 * j, FX_RUN, what, lanes, &odd)
        else:
            for s in range(2):
                bring_shares(&side[s], j, size, &runs[s], <char *>&buffer[s * FX_RUN_DOUBLES], tails + 128 * s, like)
                x[s] = runs[s].start
            whole = size // group_length(like)
            once_groups(x[0], x[1], whole, what, lanes, &odd)
            if size % group_length(like):
                for s in range(2):
                    x[s] = group_at(&runs[s], False, runs[s].start, whole, 128, NULL, tails + 128 * s)
                once_groups(x[0], x[1], 1, what, lanes, &odd)
        j += size
    for s in range(3):
        lanes[16 * s] = fx_fold(lanes + 16 * s)
    out.u = lanes[0]
    out.mean = lanes[16]
    out.s = lanes[32]
    return not vi_any(<vi>(odd & <uint32_t>0x80000000))


cdef inline void merge_once(Spread *a, const Spread *b) noexcept nogil:
    """Add the sums of the next segment."""
    a.u = a.u + b.u
    a.mean = a.mean + b.mean
    a.s = a.s + b.s


cdef inline double apart_of(int what) noexcept nogil:
    """|P - Q| / (P + Q) at most."""
    return power_of_two(-21) if what == JS else power_of_two(-6)


cdef inline bint far_scale(double s) noexcept nogil:
    return not 1e-12 < s < 1e30


cdef inline bint once_of(const Spread *sums, int what, double *value) noexcept nogil:
    """KL, or twice JS, in nats; False where the sums do not say."""
    cdef double s = sums.mean / sums.s, z = s * s, excess, limit = apart_of(what)
    if what == JS:
        excess = sums.s * z * (1.0 + z * (1.0 / 6.0 + z * (1.0 / 15.0)))
        value[0] = (sums.u - excess) / sums.s
    else:
        excess = sums.s * z * (2.0 + (s + z) * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0))))
        value[0] = (sums.u - excess) / (sums.s + sums.mean)
    if far_scale(sums.s) or not -limit <= s <= limit or not excess <= 0.25 * sums.u:
        return False
    return sums.u > 1e-18 * sums.s or (sums.u == 0.0 and sums.mean == 0.0)


cdef bint scale_once(const Partial *sums, int what, Operand *side) noexcept nogil:
    """Find the powers of two, not below 1, for that loses digits, which bring rows of known sums near each other, and up
    from where both are tiny; False where there are none to find."""
    cdef double p = sums[0].s, q = sums[1].s, most = 2.0 * apart_of(what), ratio
    cdef int64_t between, e
    if sums[0].above or sums[1].above or sums[0].c or sums[1].c or not (0.0 < p < INFINITY and 0.0 < q < INFINITY):
        return False
    ratio = split_exponent(p / q, &between) - 1.0
    split_exponent(max(p, q), &e)
    e = -e if far_scale(p + q) and e < 0 else 0
    if (e == 0 and between == 0) or not -most <= ratio / (1.0 + 0.5 * ratio) <= most:
        return False
    if not -100 < between < 100 or e > 120:
        return False
    side[0].shift = power_of_two(e + max(<int64_t>0, -between))
    side[1].shift = power_of_two(e + max(<int64_t>0, between))
    return True
