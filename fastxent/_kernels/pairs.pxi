# Two rows of logits, p and q: Kullback-Leibler divergence both ways, Jensen-Shannon divergence, total variation.
#
# The rows are read twice. First their sums of exponentials (rows.pxi), then, from cache, element by element with
#     d = (a - b) - (lse_a - lse_b) = log p - log q,    D = |d|,    w = max(p, q),    v = e^-D = min(p, q) / w:
#     KL(P||Q) = sum w phi(D) where d >= 0, w rho(D) where d < 0;  the other way round for KL(Q||P)
#         phi(D) = e^-D - 1 + D          since p (log p - log q) - p + q = w phi, and sum (q - p) = 0
#         rho(D) = 1 - (1 + D) e^-D
#     JS = 1/2 sum w J(D),  J(D) = (1 + v) log(2 / (1 + v)) - v D
#     TV = 1/2 sum w (1 - v)
# All terms are >= 0 and none is a difference of what nearly cancels, so that nothing below is ever negative, the error of
# the normalisers enters at second order only (phi(D + e) - phi(D) sums up to e^2 / 2), and equal rows give exactly 0. d
# changes its sign with the order of p and q and nothing else does: JS and TV are symmetric to the last bit.
#
# With -D = n ln2 + r, V = 2^n, e^r = 1 + r + r^2 g(r):
#     phi = V r^2 g + (V - 1) r + (V - 1 - n ln2);          n = 0: r^2 g
#     rho = (1 - V + V n ln2) - V r ((g (1 + D) - 1) r - n ln2);  n = 0: r^2 (1 - g (1 + D))
#     J = 2 (1 - h) (l - h) + 2 h^2 - v phi,   h = (1 - v) / 2,  l = -log(1 - h) = 2 artanh(z),  z = h / (2 - h)
# Special values: p = 0 < q gives D = inf, w = q: q, inf, q/2 log 2, q/2. Both 0 (both logits -inf): nothing.
# NaN and infinite rows, and those that are all -inf, have NaN. Far offsets, or ones that
# differ much: the maximum is subtracted first.
#
# Lanes: as moments_run (rows.pxi), 16 float32 or 8 float64 lanes that add 16 terms each before they are widened.

cdef enum:
    KL = 1            # which statistics a loop works out; bit i is column i of the results
    REVERSE = 2
    JS = 4
    TV = 8
    STATISTICS = 4
    APART = 32        # difference of the log-sum-exps from which offsets are subtracted first

# one of the two rows
cdef struct Operand:
    const char *x
    int kind
    Py_ssize_t stride
    double shift      # subtracted first; of probabilities the power of two that multiplies them
    int64_t c         # base-2 reference
    double inverse    # 1 / sum of e^(x - shift) 2^-c; of probabilities 2^LIFT / sum
    double inverse_lo # and what its rounding lost

cdef struct Pair:
    Operand side[2]
    double difference, difference_lo  # log-sum-exp of p less that of q, without their shifts

# sums of a column segment in one reading (divergence.pxi)
cdef struct Spread:
    double s          # sum of e^a 2^-c
    double mean, mean_lo  # of a - b, as a pair
    double u
    int64_t c

# what a column segment leaves behind
cdef struct PairPart:
    Spread spread[2]  # of KL(P||Q) and of KL(Q||P)
    bint covered[2]   # by the one reading: this segment
    bint done[2]      # all segments of the row, of which this is the first
    Partial part[2]
    double lse[2]     # log-sum-exp of each row, without its shift, as a pair
    double lse_lo[2]
    double sums[STATISTICS]
    # of a row in windows (pairwindow.pxi), in its first part
    Partial merged[2]
    int64_t hole[2]   # a class to be left out in another reading; -1 for none

# places in the table of vectors that the loops keep
cdef enum:
    AT_FLOOR = 0
    AT_MAGIC = 1
    AT_INVERSE = 2    # of p, of q
    AT_DIFFERENCE = 4
    AT_DIFFERENCE_LO = 5
    AT_FLOOR_0 = 6
    TABLE = 7


cdef inline vec vabs(vec x) noexcept nogil:
    if vec is vf:
        return vf_abs(x)
    else:
        return vd_abs(x)


cdef inline vec no_nan(vec x) noexcept nogil:
    if vec is vf:
        return vf_no_nan(x)
    else:
        return vd_no_nan(x)


cdef inline vec choose(vec d, vec yes, vec no) noexcept nogil:
    """`yes` where d > 0 or +0, `no` where d < 0 or -0."""
    if vec is vf:
        return vf_by_sign(d, yes, no)
    else:
        return vd_by_sign(d, yes, no)


cdef inline vec artanh_tail(vec z2) noexcept nogil:
    if vec is vf:
        return vf_artanh_tail(z2)
    else:
        return vd_artanh_tail(z2)


cdef inline void vdecay(const vec *x, bint with_rho, vec *phi, vec *rho, vec *lost, vec *left) noexcept nogil:
    """phi, rho, 1 - v, v of x = -D (vmath.h)."""
    if vec is vf:
        vf_decay(x, with_rho, phi, rho, lost, left)
    else:
        vd_decay(x, with_rho, phi, rho, lost, left)


cdef inline void vhalf_js(const vec *lost, const vec *left, const vec *phi, vec *y) noexcept nogil:
    """J."""
    if vec is vf:
        vf_half_js(lost, left, phi, y)
    else:
        vd_half_js(lost, left, phi, y)


cdef inline void add_vectors(
    const char *p, const char *q,  # in: FX_NI vectors of logits each
    const vec *k, int what,
    bint fine,         # exponentials need no mending (exponential.h)
    vec *acc,          # in, out (STATISTICS, chains)
    int chains,
    Py_ssize_t place,  # of the first vector: it goes to chain place % chains
) noexcept nogil:
    cdef vec d[FX_NI]
    cdef vec w[FX_NI]
    cdef vec x[FX_NI]
    cdef vec scale[FX_NI]
    cdef vec phi[FX_NI]
    cdef vec rho[FX_NI]
    cdef vec lost[FX_NI]
    cdef vec left[FX_NI]
    cdef vec a, b, y
    cdef Py_ssize_t i, lane, step = sizeof(vec)
    cdef int kind = native(k[0])
    for i in range(FX_NI):
        a = load(p + i * step, kind, k[0])
        b = load(q + i * step, kind, k[0])
        # both masked: 0, a distance as good as any
        d[i] = (no_nan(a - b) - k[AT_DIFFERENCE]) - k[AT_DIFFERENCE_LO]
        x[i] = vmax(k[AT_FLOOR], choose(d[i], a, b))
    vexp(x, k[AT_MAGIC], fine, w, scale)
    for i in range(FX_NI):
        w[i] = w[i] * scale[i] * choose(d[i], k[AT_INVERSE], k[AT_INVERSE + 1])
        x[i] = vmax(k[AT_FLOOR_0], -vabs(d[i]))
    vdecay(x, what & (KL | REVERSE) != 0, phi, rho, lost, left)
    for i in range(FX_NI):
        lane = (place + i) % chains
        if what & (KL | REVERSE):
            # beyond the range of the exponential phi = D - 1
            y = phi[i] + (vabs(d[i]) + x[i])
            if what & KL:
                acc[lane] = vfma(w[i], choose(d[i], y, rho[i]), acc[lane])
            if what & REVERSE:
                acc[chains + lane] = vfma(w[i], choose(d[i], rho[i], y), acc[chains + lane])
        if what & TV:
            acc[3 * chains + lane] = vfma(w[i], lost[i], acc[3 * chains + lane])
    if what & JS:
        vhalf_js(lost, left, phi, x)
        for i in range(FX_NI):
            lane = 2 * chains + (place + i) % chains
            acc[lane] = vfma(w[i], x[i], acc[lane])


cdef inline void pair_run(
    const Run *p, const Run *q, const char *p_tail, const char *q_tail, const vec *k, int what,
    double *lanes,     # in, out (STATISTICS, 16)
) noexcept nogil:
    cdef vec acc[STATISTICS * FX_NH]
    cdef Py_ssize_t g, v, s, i, step = sizeof(vec)
    cdef const char *a
    cdef const char *b
    for v in range(STATISTICS * FX_NH):
        acc[v] = splat(0, k[0])
    for g in range(p.groups):
        a = group_at(p, False, p.start, g, FX_NV * step, NULL, p_tail)
        b = group_at(q, False, q.start, g, FX_NV * step, NULL, q_tail)
        for v in range(FX_NV // FX_NI):
            add_vectors(a + v * FX_NI * step, b + v * FX_NI * step, k, what, False, acc, FX_NH, v * FX_NI)
    for s in range(STATISTICS):
        if what >> s & 1:
            for v in range(FX_NH):
                if vec is vf:
                    vf_flush(lanes + 16 * s + v * FX_VF, acc[s * FX_NH + v])
                else:
                    i = 16 * s + v * FX_VD
                    vd_store(lanes + i, vd_load(lanes + i) + acc[s * FX_NH + v])


cdef inline void bring_run(
    const Operand *side, Py_ssize_t j, Py_ssize_t n, Run *run, char *buffer, char *tail, vec like
) noexcept nogil:
    """A run of the working precision: where it lies, or in `buffer`."""
    if side.kind == native(like) and side.stride == itemsize(side.kind) and side.shift == 0.0:
        lay_run(side.x + j * side.stride, native(like), 0, n, -1, run, NULL, tail, like)
    elif side.kind == F16:
        gather_run(side.x + j * side.stride, F16, side.stride, n, -1, side.shift, run, buffer, like)
    elif side.kind == BF16:
        gather_run(side.x + j * side.stride, BF16, side.stride, n, -1, side.shift, run, buffer, like)
    else:
        gather_run(side.x + j * side.stride, native(like), side.stride, n, -1, side.shift, run, buffer, like)


cdef inline void pair_segment(
    const Pair *pair, Py_ssize_t start, Py_ssize_t n, int what, double *sums, vec like
) noexcept nogil:
    """Sums over n columns from `start` on."""
    cdef double buffer[2 * FX_RUN_DOUBLES]
    cdef char tails[256]
    cdef double lanes[STATISTICS * 16]
    cdef vec k[TABLE]
    cdef Run runs[2]
    cdef Py_ssize_t length_of_run = run_length(like), j = start, size, s
    cdef int64_t c
    memset(lanes, 0, sizeof(lanes))
    # both at the same reference; their offsets are less than APART apart
    c = max(pair.side[0].c, pair.side[1].c)
    k[AT_FLOOR] = floor_of(c, like)
    k[AT_MAGIC] = magic_of(c, like)
    for s in range(2):
        k[AT_INVERSE + s] = splat(scaled(pair.side[s].inverse, c - pair.side[s].c), like)
    k[AT_DIFFERENCE] = splat(pair.difference, like)
    if vec is vf:
        k[AT_DIFFERENCE_LO] = splat((pair.difference - <float>pair.difference) + pair.difference_lo, like)
    else:
        k[AT_DIFFERENCE_LO] = splat(pair.difference_lo, like)
    k[AT_FLOOR_0] = floor_of(0, like)
    while j < start + n:
        size = min(length_of_run, start + n - j)
        for s in range(2):
            bring_run(&pair.side[s], j, size, &runs[s], <char *>&buffer[s * FX_RUN_DOUBLES], tails + 128 * s, like)
        pair_run(&runs[0], &runs[1], tails, tails + 128, k, what, lanes)
        j += size
    for s in range(STATISTICS):
        lanes[16 * s] = fx_fold(lanes + 16 * s)
        sums[s] = lanes[16 * s]


# one function a precision and a choice of statistics, not inlined

cdef void pair_segment_f(const Pair *pair, Py_ssize_t start, Py_ssize_t n, int what, double *sums) noexcept nogil:
    cdef vf like = vf_splat(0)
    if what == KL:
        pair_segment(pair, start, n, KL, sums, like)
    elif what == JS:
        pair_segment(pair, start, n, JS, sums, like)
    elif not what & (KL | REVERSE):
        pair_segment(pair, start, n, JS | TV, sums, like)
    else:
        pair_segment(pair, start, n, KL | REVERSE | JS | TV, sums, like)


cdef void pair_segment_d(const Pair *pair, Py_ssize_t start, Py_ssize_t n, int what, double *sums) noexcept nogil:
    cdef vd like = vd_splat(0)
    if what == KL:
        pair_segment(pair, start, n, KL, sums, like)
    elif what == JS:
        pair_segment(pair, start, n, JS, sums, like)
    elif not what & (KL | REVERSE):
        pair_segment(pair, start, n, JS | TV, sums, like)
    else:
        pair_segment(pair, start, n, KL | REVERSE | JS | TV, sums, like)


cdef void normalise(const Operand *side, Py_ssize_t n, PairPart *sums, int s) noexcept nogil:
    """Log-sum-exp of a summed row, with its shift left out; x is the row."""
    cdef Partial near
    if sums.part[s].shift == 0.0:
        # with every digit of a row that is all but one class, so that a row of one class is exactly another one
        lse_row(side.x, side.kind, side.stride, n, &sums.part[s], &sums.lse[s], &sums.lse_lo[s])
    else:
        near = sums.part[s]
        near.shift = 0.0
        lse_of(&near, &sums.lse[s], &sums.lse_lo[s])


cdef bint pair_of(const PairPart *sums, Pair *pair) noexcept nogil:
    """Fill in what the sums of both rows say; False for a row that is no distribution. x, kind, stride are there."""
    cdef const Partial *part
    cdef double hi[2]
    cdef double lo[2]
    cdef double error
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    cdef bint apart = not -APART < sums.lse[0] - sums.lse[1] < APART
    cdef int64_t n
    cdef int s
    for s in range(2):
        part = &sums.part[s]
        if part.s != part.s or not -INFINITY < part.top < INFINITY:
            return False
        apart = apart or part.shift != 0.0
        hi[s] = sums.lse[s]
        lo[s] = sums.lse_lo[s]
    for s in range(2):
        part = &sums.part[s]
        pair.side[s].shift = part.shift
        if apart:
            # a - b would be rounded at the size of their offsets: a maximum less is exact where it matters
            if part.shift == 0.0:
                pair.side[s].shift = part.top
                two_sum(hi[s], -part.top, &hi[s], &error)
                two_sum(hi[s], lo[s] + error, &hi[s], &lo[s])
            pair.side[s].c = 0
            pair.side[s].inverse = exp_reduced(-hi[s], -lo[s], &n)
            pair.side[s].inverse = scaled(pair.side[s].inverse, n)
        else:
            pair.side[s].c = part.c
            error = lost_factor(part.top, 1, d) if pair.side[s].kind == F64 else lost_factor(part.top, 1, f)
            pair.side[s].inverse = (1.0 + error) / part.s
    two_sum(hi[0], -hi[1], &pair.difference, &error)
    pair.difference_lo = error + (lo[0] - lo[1])
    return True


cdef void finish_pair(double *sums, int what, double unit, bint single) noexcept nogil:
    """Sums into results, in units of `unit` nats, rounded to float32 for `single`."""
    cdef double value
    cdef int s
    for s in range(STATISTICS):
        value = sums[s]
        if what >> s & 1:
            # 0 times the infinite distance of a class that has underflowed here and is masked there
            if value != value:
                value = INFINITY
            # differences of subnormal probabilities may be off by all there is of them
            value = max(value, 0.0)
            if 1 << s == JS:
                value = min(0.5 * value, LN2)
            if 1 << s == TV:
                value = min(0.5 * value, 1.0)
            else:
                value = value / unit
            if single:
                # log 2 rounds up in float32
                value = <float>value
                if 1 << s == JS and unit == 1.0 and value > LN2:
                    value = 0.6931471228599548
        else:
            value = NAN
        sums[s] = value
