# Pairs of rows of few classes: lanes are rows, so that no lane of a vector is idle and a row costs a few nanoseconds.
#
# The rows of a vector are brought into a buffer class by class; the terms are those of divergence.pxi, pairs.pxi and
# shares.pxi, added in CHAINS chains of every CHAINS-th class. A row's value depends on that row alone, whichever lane it
# falls into, and no lane looks at another. What a lane does not cover (far, masked on one side, infinite, NaN, sums far
# from 1) is left to the row kernels, statistic by statistic.

cdef enum:
    FEW = 32
    CHAINS = 4
    FEW_BYTES = 4096   # FEW vectors of at most 128 bytes

# results of the rows of one vector, before finish_pair
cdef struct Few:
    double sums[STATISTICS][32]
    bint covered[STATISTICS][32]


cdef inline void bring_kind(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t lane, char *buffer, vec like
) noexcept nogil:
    cdef Py_ssize_t j, lanes = width(like)
    for j in range(n):
        if vec is vf:
            (<float *>buffer)[j * lanes + lane] = <float>load_one(x + j * stride, kind)
        else:
            (<double *>buffer)[j * lanes + lane] = load_one(x + j * stride, kind)


cdef inline void bring_row(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t lane, char *buffer, vec like
) noexcept nogil:
    """One row into its lane; `stride` as a constant where classes lie side by side."""
    if vec is vf:
        if kind == F16:
            bring_kind(x, F16, stride, n, lane, buffer, like)
        elif kind == BF16:
            bring_kind(x, BF16, stride, n, lane, buffer, like)
        elif stride == 4:
            bring_kind(x, F32, 4, n, lane, buffer, like)
        else:
            bring_kind(x, F32, stride, n, lane, buffer, like)
    elif stride == 8:
        bring_kind(x, F64, 8, n, lane, buffer, like)
    else:
        bring_kind(x, F64, stride, n, lane, buffer, like)


cdef inline vec chained(const vec *acc) noexcept nogil:
    return (acc[0] + acc[1]) + (acc[2] + acc[3])


cdef inline vec both(vec room, vec ok) noexcept nogil:
    """`ok` where room >= 0; 0 elsewhere, for NaN too."""
    if vec is vf:
        return vf_pick(vf_ge(room, vf_splat(0)), ok, vf_splat(0))
    else:
        return vd_pick(vd_ge(room, vd_splat(0)), ok, vd_splat(0))


cdef inline vec lane_tops(const char *x, Py_ssize_t n, vec like) noexcept nogil:
    cdef vec top = splat(-INFINITY, like)
    cdef Py_ssize_t j
    for j in range(n):
        top = vmax(top, load(x + j * sizeof(vec), native(like), like))
    return top


cdef inline vec near(vec top) noexcept nogil:
    """1 where no far reference is wanted."""
    return both(splat(far_of(top) - 1.0, top) - vabs(top), splat(1, top))


cdef inline vec references(vec top) noexcept nogil:
    """The base-2 reference of each lane."""
    if vec is vf:
        return vf_fma(top, vf_splat(FX_LOG2E), vf_splat(FX_MAGIC_F)) - vf_splat(FX_MAGIC_F)
    else:
        return vd_fma(top, vd_splat(FX_LOG2E), vd_splat(FX_MAGIC_D)) - vd_splat(FX_MAGIC_D)


cdef inline vec magics(vec c) noexcept nogil:
    if vec is vf:
        return vf_splat(FX_MAGIC_F + 127.0) - c
    else:
        return vd_splat(FX_MAGIC_D + 1023.0) - c


cdef inline vec floors(vec c) noexcept nogil:
    """As floor_of; a tenth more, for c ln2 is rounded."""
    if vec is vf:
        return vf_fma(c - vf_splat(127.0), vf_splat(LN2), vf_splat(0.1))
    else:
        return vd_fma(c - vd_splat(1023.0), vd_splat(LN2), vd_splat(0.1))


cdef inline void few_kl(
    const char *p, const char *q, Py_ssize_t classes, Py_ssize_t n, vec *result, vec *covered, vec like
) noexcept nogil:
    """log1p(u / s) of divergence.pxi; n, a multiple of FX_NI, is `classes` and -inf behind them."""
    cdef vec acc[3 * CHAINS]
    cdef vec x[FX_NI]
    cdef vec y[FX_NI]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef vec a, b, c, c0, magic, floor_, far, s, u0, u, mx, lowest, zero = splat(0, like), ok
    cdef Py_ssize_t h, j, i, k, step = sizeof(vec)
    cdef bint second = False
    if vec is vf:
        lowest = vf_splat(-3.4028234663852886e+38)
    else:
        lowest = vd_splat(-1.7976931348623157e+308)
    a = lane_tops(p, n, like)
    b = lane_tops(q, n, like)
    ok = both(near(b) - splat(0.5, like), near(a))
    c0 = a - b
    ok = both(splat(APART - 1, like) - vabs(c0), ok)
    c = references(a)
    magic = magics(c)
    floor_ = floors(c)
    while True:
        for i in range(3 * CHAINS):
            acc[i] = zero
        far = zero
        for h in range(n // FX_NI):
            j = h * FX_NI
            for i in range(FX_NI):
                a = load(p + (j + i) * step, native(like), like)
                b = load(q + (j + i) * step, native(like), like)
                x[i] = (vmax(lowest, b) - vmax(lowest, a)) + c0
                if j + i < classes:  # how many there are behind them is the level's affair
                    far = vmax(far, vabs(x[i]))
                y[i] = vmax(floor_, a)
            vexp(y, magic, True, e, scale)
            vphi(x, y)
            for i in range(FX_NI):
                k = (j + i) % CHAINS
                e[i] = e[i] * scale[i]
                acc[k] = acc[k] + e[i]
                acc[CHAINS + k] = vfma(e[i], x[i], acc[CHAINS + k])
                acc[2 * CHAINS + k] = vfma(e[i], y[i], acc[2 * CHAINS + k])
        s = chained(acc)
        mx = chained(acc + CHAINS) / s
        u0 = chained(acc + 2 * CHAINS)
        for i in range(FX_NI):
            x[i] = -mx
        vphi(x, y)
        # e^-mx u0 - s (1 - (1 + mx) e^-mx), with e^-mx - 1 = y - mx
        u = vmax(zero, vfma(y[0] - mx, u0, u0) + s * vfma(mx, y[0] - mx, y[0]))
        if second:
            break
        # less than a quarter is left of u0 or e^-mx u0: about the mean, then
        mx = choose(splat(0.25, like) * vmax(u0, vfma(y[0] - mx, u0, u0)) - u, mx, zero)
        # a NaN in one lane must not decide for the others
        if not top_lane(no_nan(vabs(mx))) > 0.0:
            break
        c0 = c0 - mx
        second = True
    ok = both(splat(WIDE, like) - far, ok)
    ok = both(s, ok)
    for i in range(FX_NI):
        x[i] = u / s
    covered[0] = both(splat(1e30, like) - x[0], ok)
    vlog1p(x, y)
    result[0] = y[0]


cdef inline vec few_sum(const char *x, Py_ssize_t n, vec c, vec like) noexcept nogil:
    """Sum of e^x 2^-c."""
    cdef vec acc[CHAINS]
    cdef vec y[FX_NI]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef Py_ssize_t h, j, i
    for i in range(CHAINS):
        acc[i] = splat(0, like)
    for h in range(n // FX_NI):
        j = h * FX_NI
        for i in range(FX_NI):
            y[i] = vmax(floors(c), load(x + (j + i) * sizeof(vec), native(like), like))
        vexp(y, magics(c), True, e, scale)
        for i in range(FX_NI):
            acc[(j + i) % CHAINS] = vfma(e[i], scale[i], acc[(j + i) % CHAINS])
    return chained(acc)


cdef inline void few_js(const char *p, const char *q, Py_ssize_t n, int what, vec *sums, vec *covered, vec like) noexcept nogil:
    """JS and TV of pairs.pxi."""
    cdef vec acc[STATISTICS * CHAINS]
    cdef vec k[TABLE]
    cdef vec c[2]
    cdef vec s[2]
    cdef vec x[FX_NI]
    cdef vec y[FX_NI]
    cdef vec a, b, both_c, difference, ok
    cdef Py_ssize_t h, j, i
    a = lane_tops(p, n, like)
    b = lane_tops(q, n, like)
    ok = both(near(b) - splat(0.5, like), near(a))
    c[0] = references(a)
    c[1] = references(b)
    s[0] = few_sum(p, n, c[0], like)
    s[1] = few_sum(q, n, c[1], like)
    for i in range(FX_NI):
        x[i] = s[i % 2]
    vlog(x, y)
    difference = c[0] - c[1]
    if vec is vf:
        k[AT_DIFFERENCE] = vf_fma(difference, vf_splat(FX_LN2_HI_F), y[0] - y[1])
        k[AT_DIFFERENCE_LO] = difference * vf_splat(FX_LN2_LO_F)
    else:
        k[AT_DIFFERENCE] = vd_fma(difference, vd_splat(FX_LN2_HI_D), y[0] - y[1])
        k[AT_DIFFERENCE_LO] = difference * vd_splat(FX_LN2_LO_D)
    ok = both(splat(APART - 1, like) - vabs(k[AT_DIFFERENCE]), ok)
    both_c = vmax(c[0], c[1])
    k[AT_MAGIC] = magics(both_c)
    k[AT_FLOOR] = floors(both_c)
    k[AT_INVERSE] = power(both_c - c[0]) / s[0]
    k[AT_INVERSE + 1] = power(both_c - c[1]) / s[1]
    k[AT_FLOOR_0] = floor_of(0, like)
    for i in range(STATISTICS * CHAINS):
        acc[i] = splat(0, like)
    for h in range(n // FX_NI):
        j = h * FX_NI
        add_vectors(p + j * sizeof(vec), q + j * sizeof(vec), k, what, True, acc, CHAINS, j)
    sums[2] = chained(acc + 2 * CHAINS)
    sums[3] = chained(acc + 3 * CHAINS)
    covered[0] = both(sums[2], ok)


cdef inline void few_shares(
    const char **x, Py_ssize_t n, int sides, int what, vec *sums, vec *covered, vec like
) noexcept nogil:
    """The sums of shares.pxi; n is a multiple of FX_NI."""
    cdef vec acc[STATISTICS * CHAINS]
    cdef vec k[SHARES]
    cdef vec v[2 * FX_NI]
    cdef vec low = splat(-power_of_two(LIFT_RATIO), like), ok = splat(1, like), one = splat(1, like)
    cdef vec y, s, lo, t, product, most, least_
    cdef Py_ssize_t h, i, j
    cdef int side
    cdef double far = power_of_two(900)
    if vec is vf:
        far = power_of_two(60)
    for side in range(sides):
        s = lo = splat(0, like)
        most = least_ = splat(0, like)
        for j in range(n):
            y = load(x[side] + j * sizeof(vec), native(like), like)
            most = vmax(most, y)
            least_ = vmax(least_, -y)
            # TwoSum
            t = s + y
            product = t - s
            lo = lo + ((s - (t - product)) + (y - product))
            s = t
        t = s + lo
        lo = lo - (t - s)
        s = t
        ok = both(splat(far, like) - s, both(s - splat(1.0 / far, like), ok))
        ok = both(-least_, both(splat(far, like) - most, ok))
        y = one / s
        product = s * y
        t = ((one - product) - product_error(s, y, product) - lo * y) * y
        k[AT_SHARE + side] = y * splat(power_of_two(LIFT), like)
        k[AT_SHARE_LO + side] = t * splat(power_of_two(LIFT), like)
    for i in range(STATISTICS * CHAINS):
        acc[i] = splat(0, like)
    for h in range(n // FX_NI):
        j = h * FX_NI
        for side in range(sides):
            for i in range(FX_NI):
                v[side * FX_NI + i] = load(x[side] + (j + i) * sizeof(vec), native(like), like)
        if sides == 1:
            add_entropies(v, k, acc, CHAINS, j)
        else:
            add_shares(v, v + FX_NI, k, what, acc, CHAINS, &low, j)
    if vec is vf:
        ok = both(splat(-power_of_two(LIFT_RATIO - LOW), like) - low, ok)
    for side in range(STATISTICS):
        sums[side] = chained(acc + side * CHAINS) * splat(power_of_two(-LIFT), like)
    covered[0] = ok


cdef inline void put_few(vec value, vec covered, int statistic, Few *out) noexcept nogil:
    cdef char values[128]
    cdef char flags[128]
    cdef Py_ssize_t i
    store(values, value)
    store(flags, covered)
    for i in range(width(value)):
        if vec is vf:
            out.sums[statistic][i] = (<float *>values)[i]
            out.covered[statistic][i] = (<float *>flags)[i] > 0.0
        else:
            out.sums[statistic][i] = (<double *>values)[i]
            out.covered[statistic][i] = (<double *>flags)[i] > 0.0


cdef inline void few_rows(
    const Operand *sides, const Layout *layout, Py_ssize_t row, Py_ssize_t count, Py_ssize_t n,
    int many, bint shares, int what, Few *out, vec like,
) noexcept nogil:
    """Measure `count` rows from `row` on, at most a vector's."""
    cdef char buffer[2 * FEW_BYTES]
    cdef const char *x[2]
    cdef vec sums[STATISTICS]
    cdef vec ok
    cdef Py_ssize_t i, j, padded = (n + FX_NI - 1) // FX_NI * FX_NI
    cdef int s
    for s in range(many):
        x[s] = buffer + s * FEW_BYTES
        for j in range(n, padded):
            store(buffer + s * FEW_BYTES + j * sizeof(vec), splat(0.0 if shares else -INFINITY, like))
        for i in range(width(like)):
            bring_row(
                sides[s].x + offset_of(layout, s, row + min(i, count - 1)), sides[s].kind, sides[s].stride, n, i,
                buffer + s * FEW_BYTES, like,
            )
    if shares:
        if many == 1:
            few_shares(x, padded, 1, 0, sums, &ok, like)
        elif what == KL:
            few_shares(x, padded, 2, KL, sums, &ok, like)
        elif what == JS:
            few_shares(x, padded, 2, JS, sums, &ok, like)
        else:
            few_shares(x, padded, 2, KL | REVERSE | JS | TV, sums, &ok, like)
        for s in range(STATISTICS):
            put_few(sums[s], ok, s, out)
        return
    if what & KL:
        few_kl(x[0], x[1], n, padded, &sums[0], &ok, like)
        put_few(sums[0], ok, 0, out)
    if what & REVERSE:
        few_kl(x[1], x[0], n, padded, &sums[1], &ok, like)
        put_few(sums[1], ok, 1, out)
    if what & (JS | TV):
        few_js(x[0], x[1], padded, JS | TV, sums, &ok, like)
        put_few(sums[2], ok, 2, out)
        put_few(sums[3], ok, 3, out)


cdef void few_rows_f(
    const Operand *sides, const Layout *layout, Py_ssize_t row, Py_ssize_t count, Py_ssize_t n,
    int many, bint shares, int what, Few *out,
) noexcept nogil:
    cdef vf like = vf_splat(0)
    few_rows(sides, layout, row, count, n, many, shares, what, out, like)


cdef void few_rows_d(
    const Operand *sides, const Layout *layout, Py_ssize_t row, Py_ssize_t count, Py_ssize_t n,
    int many, bint shares, int what, Few *out,
) noexcept nogil:
    cdef vd like = vd_splat(0)
    few_rows(sides, layout, row, count, n, many, shares, what, out, like)
