# Rows of probabilities, given up to scale: entropy of one row; KL both ways, JS and total variation of two.
#
# The rows are read twice: first their sums, then, from cache, element by element with p and q divided by these,
#     w = max(p, q),    v = min(p, q) / w,    e = 1 - v = |p - q| / w,    D = -log v,
# and the terms of pairs.pxi: phi = D - e, rho = e^2 - v phi, J, h = e / 2. p - q comes from the products' exact errors
# (Dekker, Numer. Math. 18, 1971), so that e is as good where p and q are nearly equal. With v = (1 + f) 2^-k,
#     phi = T + (k ln2 - (f + e)),  T = f - log(1 + f) = f s - s^3 q(s^2),  s = f / (2 + f);
# f = -e and k = 0 down to v = 1/2: there the bracket is exactly 0, and no term is a difference of what nearly cancels.
# 1 / sum is kept in two numbers; what its error e costs is e^2 / 2, as in pairs.pxi.
#
# Entropy: the sum of -p log p where p <= 1/2; a larger one's log p is log1p of the others' sum over it.
#
# All of it is lifted by a power of two, for a probability and a ratio of two may be subnormal.
# A column segment of float32 where a ratio is below 2^-LOW, or where both shares of a class underflow, is done again in
# float64; there it ends at 2^-1084 (751 nats). Where a sum is tiny, all elements are multiplied by a power of two first. A
# row with a NaN or with the sum 0 has NaN.

cdef enum:
    LIFT = 64          # w, p and q are taken times 2^LIFT
    LIFT_RATIO = 62    # v
    LOW = 162

# places in the table of vectors that the loops keep
cdef enum:
    AT_SHARE = 0      # 2^LIFT / sum of p, of q
    AT_SHARE_LO = 2
    SHARES = 4


cdef inline void vsplit(const vec *x, vec *f, vec *e) noexcept nogil:
    """x = (1 + f) 2^e of FX_NI vectors of positive numbers (vmath.h)."""
    if vec is vf:
        vf_split(x, f, e)
    else:
        vd_split(x, f, e)


cdef inline vec product_error(vec a, vec b, vec product) noexcept nogil:
    """a b - product, exactly."""
    cdef vec split, a_hi, a_lo, b_hi, b_lo
    if FX_FMA:
        return vfma(a, b, -product)
    if vec is vf:
        split = splat(4097, a)
    else:
        split = splat(134217729, a)
    a_hi = split * a - (split * a - a)
    a_lo = a - a_hi
    b_hi = split * b - (split * b - b)
    b_lo = b - b_hi
    return ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


cdef inline vec least(vec like) noexcept nogil:
    """The smallest normal number."""
    if vec is vf:
        return vf_splat(1.1754943508222875e-38)
    else:
        return vd_splat(2.2250738585072014e-308)


cdef inline void bring_shares(
    const Operand *side, Py_ssize_t j, Py_ssize_t n, Run *run, char *buffer, char *tail, vec like
) noexcept nogil:
    """A run of the working precision, filled up with zeros; multiplied by the side's power of two."""
    cdef Py_ssize_t lanes = group_length(like), rest = n % lanes, i
    cdef Py_ssize_t size = sizeof(vec) // width(like)
    cdef Operand plain = side[0]
    cdef vec factor
    plain.shift = 0.0
    if size == 8 and side.kind != F64:
        # done again in float64
        run.start = buffer
        run.groups = (n + lanes - 1) // lanes
        run.hole_group = run.tail_group = -1
        for i in range(n):
            (<double *>buffer)[i] = load_one(side.x + (j + i) * side.stride, side.kind)
    else:
        bring_run(&plain, j, n, run, buffer, tail, like)
    if run.start == buffer:
        if rest:
            memset(buffer + n * size, 0, (lanes - rest) * size)
    elif side.shift == 1.0:
        if rest:
            memset(tail + rest * size, 0, (lanes - rest) * size)
        return
    else:
        memcpy(buffer, run.start, n * size)
        if rest:
            memset(buffer + n * size, 0, (lanes - rest) * size)
        run.start = buffer
        run.tail_group = -1
    if side.shift != 1.0:
        factor = splat(side.shift, like)
        for i in range(run.groups * FX_NV):
            store(buffer + i * sizeof(vec), load(buffer + i * sizeof(vec), native(like), like) * factor)


cdef inline void sum_shares(
    const Operand *side, Py_ssize_t start, Py_ssize_t n, Partial *out, vec like
) noexcept nogil:
    """Sum of n elements, in float64 whatever they are; `above` is 1 where one is negative or infinite."""
    cdef double buffer[FX_RUN_DOUBLES]
    cdef char tail[128]
    cdef double hi[16]
    cdef double lo[16]
    cdef vd acc[2 * FX_NV]
    cdef vd x, infinity = vd_splat(INFINITY), smallest = vd_splat(5e-324)
    cdef vl bad = <vl>vd_splat(0)
    cdef Py_ssize_t length_of_run = run_length(like), j = start, size, g, v
    cdef Py_ssize_t vectors = group_length(like) // FX_VD, step = 128 // vectors, chain = chain_length(like)
    cdef const char *p
    cdef Run run
    memset(hi, 0, sizeof(hi))
    memset(lo, 0, sizeof(lo))
    while j < start + n:
        size = min(length_of_run, start + n - j)
        bring_shares(side, j, size, &run, <char *>buffer, tail, like)
        for v in range(vectors):
            acc[v] = vd_splat(0)
        for g in range(run.groups):
            p = group_at(&run, False, run.start, g, 128, NULL, tail)
            fx_stream(p + FX_PREFETCH)
            fx_stream(p + FX_PREFETCH + 64)
            for v in range(vectors):
                if vec is vf:
                    x = vd_load_f32(p + v * step)
                else:
                    x = vd_load(p + v * step)
                acc[v] = acc[v] + x
                bad = bad | vd_ge(x, infinity) | vd_ge(-x, smallest)
            if g % chain == chain - 1 or g == run.groups - 1:
                for v in range(vectors // 2):
                    x = acc[v] + acc[v + vectors // 2]
                    if vec is vf:
                        vd_store(hi + v * FX_VD, vd_load(hi + v * FX_VD) + x)
                    else:
                        vd_flush(hi + v * FX_VD, lo + v * FX_VD, x)
                for v in range(vectors):
                    acc[v] = vd_splat(0)
        j += size
    fold(hi, lo, &out.s, &out.s_lo, like)
    out.above = 1 if vl_any(bad) else 0


cdef void any_sum_shares(const Operand *row, Py_ssize_t start, Py_ssize_t n, Partial *out) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    cdef Operand side = row[0]
    cdef int64_t e = 0
    while True:
        side.shift = power_of_two(-e)
        if side.kind == F64:
            sum_shares(&side, start, n, out, d)
        else:
            sum_shares(&side, start, n, out, f)
        out.c = e
        if -INFINITY < out.s < INFINITY or out.above or e:
            return
        # finite elements whose sum is not, or a NaN
        e = 700 if side.kind == F64 else 60


cdef void merge_shares(Partial *a, const Partial *b) noexcept nogil:
    """Add the sum of the next segment."""
    cdef double x = b.s, x_lo = b.s_lo, factor
    a.above = a.above | b.above
    if b.c > a.c:
        factor = shrink(a.c - b.c)
        a.s = a.s * factor
        a.s_lo = a.s_lo * factor
        a.c = b.c
    elif b.c < a.c:
        factor = shrink(b.c - a.c)
        x = x * factor
        x_lo = x_lo * factor
    two_sum(a.s, x, &a.s, &factor)
    a.s_lo = a.s_lo + factor + x_lo


cdef inline void add_entropies(
    const vec *p,      # in (FX_NI,)
    const vec *k,
    vec *acc,          # in, out (3, chains): sums of -p log p and of p where p <= 1/2, of p elsewhere
    int chains,
    Py_ssize_t place,  # of the first vector: it goes to chain place % chains
) noexcept nogil:
    cdef vec x[FX_NI]
    cdef vec f[FX_NI]
    cdef vec e[FX_NI]
    cdef vec share[FX_NI]
    cdef vec s, z, t, d, zero = splat(0, k[0]), ln2 = splat(LN2, k[0])
    cdef Py_ssize_t i, lane
    for i in range(FX_NI):
        share[i] = p[i] * k[AT_SHARE]
        x[i] = vmax(least(zero), share[i])
    vsplit(x, f, e)
    for i in range(FX_NI):
        lane = (place + i) % chains
        s = f[i] / (splat(2, zero) + f[i])
        z = s * s
        t = vfma(f[i], s, -(s * z * artanh_tail(z)))
        d = vfma(splat(LIFT, zero) - e[i], ln2, t - f[i])
        t = splat(power_of_two(LIFT - 1), zero) - share[i]
        acc[lane] = vfma(share[i], choose(t, d, zero), acc[lane])
        acc[chains + lane] = acc[chains + lane] + choose(t, share[i], zero)
        acc[2 * chains + lane] = acc[2 * chains + lane] + choose(t, zero, share[i])


cdef inline void add_shares(
    const vec *a, const vec *b,  # in (FX_NI,): p and q
    const vec *k, int what,
    vec *acc,                    # in, out (STATISTICS, chains)
    int chains,
    vec *low,                    # in, out: least ratio of two probabilities above 0, lifted, with its sign turned
    Py_ssize_t place,
) noexcept nogil:
    cdef vec x[FX_NI]
    cdef vec f[FX_NI]
    cdef vec e[FX_NI]
    cdef vec difference[FX_NI]
    cdef vec w[FX_NI]
    cdef vec far[FX_NI]
    cdef vec zero = splat(0, k[0]), one = splat(1, k[0]), two = splat(2, k[0]), ln2 = splat(LN2, k[0])
    cdef vec half = splat(0.5, k[0]), up = splat(power_of_two(LIFT_RATIO), k[0])
    cdef vec quarter = splat(power_of_two(LIFT_RATIO - 2), k[0])
    cdef vec p, q, d, r, n, g, s, z, t, v, h, phi, rho, y
    cdef Py_ssize_t i, lane
    for i in range(FX_NI):
        p = a[i] * k[AT_SHARE]
        q = b[i] * k[AT_SHARE + 1]
        d = (p - q) + (
            vfma(a[i], k[AT_SHARE_LO], product_error(a[i], k[AT_SHARE], p))
            - vfma(b[i], k[AT_SHARE_LO + 1], product_error(b[i], k[AT_SHARE + 1], q))
        )
        difference[i] = d
        w[i] = choose(d, p, q)
        r = one / vmax(least(zero), w[i])
        far[i] = vabs(d) * r
        v = choose(d, q, p) * up * r
        if vec is vf:
            # nothing is lost where one or both are 0, all is where shares that are not have underflowed
            y = choose(zero - choose(d, b[i], a[i]), up, v)
            low[0] = vmax(low[0], -choose(zero - w[i], choose(zero - (a[i] + b[i]), up, zero), y))
        # v of the very e, and 1 - e is exact from 1/2 on; further down the ratio says more
        v = choose(v - quarter, up * (one - far[i]), v)
        x[i] = vmax(least(zero), v)
    vsplit(x, f, e)
    for i in range(FX_NI):
        lane = (place + i) % chains
        d = far[i]
        n = splat(LIFT_RATIO, zero) - e[i]
        # f = -e down to v = 1/2
        g = choose(half - d, -d, f[i])
        n = choose(half - d, zero, n)
        s = g / (two + g)
        z = s * s
        t = vfma(g, s, -(s * z * artanh_tail(z)))
        phi = t + vfma(n, ln2, -(g + d))
        v = x[i] * splat(power_of_two(-LIFT_RATIO), zero)
        if what & (KL | REVERSE):
            rho = vfma(d, d, -(v * phi))
            # 0 in one only
            y = choose(zero - choose(difference[i], b[i], a[i]), choose(zero - w[i], phi, splat(INFINITY, zero)), phi)
            if what & KL:
                acc[lane] = vfma(w[i], choose(difference[i], y, rho), acc[lane])
            if what & REVERSE:
                acc[chains + lane] = vfma(w[i], choose(difference[i], rho, y), acc[chains + lane])
        if what & (JS | TV):
            h = d * half
            if what & JS:
                z = h / (two - h)
                t = z * z
                t = vfma(h, z, z * t * artanh_tail(t))
                t = vfma((one - h) * t, two, two * h * h)
                acc[2 * chains + lane] = vfma(w[i], vfma(-v, phi, t), acc[2 * chains + lane])
            if what & TV:
                acc[3 * chains + lane] = vfma(w[i], d, acc[3 * chains + lane])


cdef inline bint share_segment(
    const Pair *pair, Py_ssize_t start, Py_ssize_t n, int sides, int what, double *sums, vec like
) noexcept nogil:
    """Sums over n columns from `start` on; False where they are to be done again in float64."""
    cdef double buffer[2 * FX_RUN_DOUBLES]
    cdef char tails[256]
    cdef double lanes[STATISTICS * 16]
    cdef vec k[SHARES]
    cdef vec acc[STATISTICS * FX_NH]
    cdef vec x[2 * FX_NI]
    cdef vec low = splat(-power_of_two(LIFT_RATIO), like)
    cdef Run runs[2]
    cdef const char *p[2]
    cdef double lost
    cdef Py_ssize_t length_of_run = run_length(like), j = start, size, g, h, v, i
    cdef int s
    memset(lanes, 0, sizeof(lanes))
    for s in range(sides):
        k[AT_SHARE + s] = splat(pair.side[s].inverse, like)
        lost = 0.0
        if vec is vf:
            lost = pair.side[s].inverse - <float>pair.side[s].inverse
        k[AT_SHARE_LO + s] = splat(lost + pair.side[s].inverse_lo, like)
    while j < start + n:
        size = min(length_of_run, start + n - j)
        for s in range(sides):
            bring_shares(
                &pair.side[s], j, size, &runs[s], <char *>&buffer[s * FX_RUN_DOUBLES], tails + 128 * s, like
            )
        for v in range(STATISTICS * FX_NH):
            acc[v] = splat(0, like)
        for g in range(runs[0].groups):
            for s in range(sides):
                p[s] = group_at(&runs[s], False, runs[s].start, g, FX_NV * sizeof(vec), NULL, tails + 128 * s)
            for h in range(FX_NV // FX_NI):
                for s in range(sides):
                    for v in range(FX_NI):
                        x[s * FX_NI + v] = load(p[s] + (h * FX_NI + v) * sizeof(vec), native(like), like)
                if sides == 1:
                    add_entropies(x, k, acc, FX_NH, h * FX_NI)
                else:
                    add_shares(x, x + FX_NI, k, what, acc, FX_NH, &low, h * FX_NI)
        for s in range(STATISTICS):
            for v in range(FX_NH):
                if vec is vf:
                    vf_flush(lanes + 16 * s + v * FX_VF, acc[s * FX_NH + v])
                else:
                    i = 16 * s + v * FX_VD
                    vd_store(lanes + i, vd_load(lanes + i) + acc[s * FX_NH + v])
        j += size
    for s in range(STATISTICS):
        lanes[16 * s] = fx_fold(lanes + 16 * s)
        sums[s] = lanes[16 * s] * power_of_two(-LIFT)
    return top_lane(low) < -power_of_two(LIFT_RATIO - LOW)


cdef bint share_segment_f(
    const Pair *pair, Py_ssize_t start, Py_ssize_t n, int sides, int what, double *sums
) noexcept nogil:
    cdef vf like = vf_splat(0)
    if sides == 1:
        return share_segment(pair, start, n, 1, 0, sums, like)
    if what == KL:
        return share_segment(pair, start, n, 2, KL, sums, like)
    if what == JS:
        return share_segment(pair, start, n, 2, JS, sums, like)
    return share_segment(pair, start, n, 2, KL | REVERSE | JS | TV, sums, like)


cdef bint share_segment_d(
    const Pair *pair, Py_ssize_t start, Py_ssize_t n, int sides, int what, double *sums
) noexcept nogil:
    cdef vd like = vd_splat(0)
    if sides == 1:
        return share_segment(pair, start, n, 1, 0, sums, like)
    if what == KL:
        return share_segment(pair, start, n, 2, KL, sums, like)
    if what == JS:
        return share_segment(pair, start, n, 2, JS, sums, like)
    return share_segment(pair, start, n, 2, KL | REVERSE | JS | TV, sums, like)


cdef bint shares_of(const PairPart *sums, int sides, Pair *pair) noexcept nogil:
    """Fill in what the sums of the rows say; False for a row that is no distribution."""
    cdef const Partial *part
    cdef double m, m_lo
    cdef int64_t e, far, limit
    cdef int s
    for s in range(sides):
        part = &sums.part[s]
        if not 0.0 < part.s < INFINITY or part.above:
            return False
        m = split_exponent(part.s, &e)
        m_lo = scaled(part.s_lo, -e)
        e = e + part.c
        # a small sum's elements are made larger, which loses nothing; without a fused multiply-add large ones smaller, for
        # Dekker's splitting would overflow
        far = 900 if pair.side[s].kind == F64 else 60
        limit = 900 if pair.side[s].kind == F64 else 100
        limit = -limit if e < -far else limit if e > limit and not FX_FMA else 0
        pair.side[s].shift = power_of_two(-limit)
        pair.side[s].inverse = scaled(1.0 / m, LIFT + limit - e)
        pair.side[s].inverse_lo = scaled(reciprocal_rest(m, m_lo), LIFT + limit - e)
    return True


cdef void finish_entropy(double *sums) noexcept nogil:
    """Into sums[0]: the entropy in nats."""
    if sums[2] > 0.0:
        sums[0] = sums[0] + sums[2] * log1p_(sums[1] / sums[2])
