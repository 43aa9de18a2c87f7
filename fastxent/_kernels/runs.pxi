# Runs: FX_RUN groups of 128 bytes of lanes, the unit that is read, scanned for its maximum and summed.
#
# A run is read where it lies when its classes are contiguous, but for the group of a class to be left out and for the
# row's last, partial group: these are copied aside and filled with -inf, whose exponential is exactly 0. A run of another
# stride, or with a reference to be subtracted first, is brought into a buffer as a whole. Both ways give every lane the
# same terms in the same order.
#
# `kind` is a compile-time constant wherever these are called: everything is inlined, one loop serves all storages.
# `like` only chooses the working precision: float32 lanes for F32, F16, BF16, float64 lanes for F64.


cdef inline Py_ssize_t itemsize(int kind) noexcept nogil:
    return 8 if kind == F64 else 4 if kind == F32 else 2


cdef inline Py_ssize_t width(vec like) noexcept nogil:
    if vec is vf:
        return FX_VF
    else:
        return FX_VD


cdef inline Py_ssize_t group_length(vec like) noexcept nogil:
    return FX_NV * width(like)


cdef inline Py_ssize_t run_length(vec like) noexcept nogil:
    return FX_RUN * group_length(like)


cdef inline Py_ssize_t chain_length(vec like) noexcept nogil:
    """Terms that a lane adds before it is flushed; it divides FX_RUN."""
    if vec is vf:
        return FX_CHAIN_F
    else:
        return FX_CHAIN_D


cdef inline Py_ssize_t part_length(vec like) noexcept nogil:
    """Groups, of two terms a lane each, that a contiguous row adds before it folds them with as many others."""
    if vec is vf:
        return FX_PART_F
    else:
        return FX_PART_D


cdef inline vec splat(double x, vec like) noexcept nogil:
    if vec is vf:
        return vf_splat(<float>x)
    else:
        return vd_splat(x)


cdef inline vec load(const char *p, int kind, vec like) noexcept nogil:
    if vec is vf:
        if kind == F16:
            return vf_load_f16(p)
        if kind == BF16:
            return vf_load_bf16(p)
        return vf_load(p)
    else:
        return vd_load(p)


cdef inline void store(char *p, vec x) noexcept nogil:
    if vec is vf:
        vf_store(p, x)
    else:
        vd_store(p, x)


cdef inline vec vmax(vec a, vec b) noexcept nogil:
    if vec is vf:
        return vf_max(a, b)
    else:
        return vd_max(a, b)


cdef inline vec vfma(vec a, vec b, vec c) noexcept nogil:
    if vec is vf:
        return vf_fma(a, b, c)
    else:
        return vd_fma(a, b, c)


cdef inline void vexp(const vec *x, vec magic, int fine, vec *p, vec *scale) noexcept nogil:
    """e^x 2^-c = p scale, of FX_NI vectors; not `fine`: for a sum that `mend` puts right."""
    if vec is vf:
        vf_exp(x, magic, fine, p, scale)
    else:
        vd_exp(x, magic, fine, p, scale)


cdef inline void vexp_sum(const vec *x, vec magic, vec *p, vec *scale) noexcept nogil:
    """The same for a sum that `mend` puts right, with the magic and the floor of sums."""
    if vec is vf:
        vf_exp_sum(x, magic, p, scale)
    else:
        vd_exp_sum(x, magic, p, scale)


cdef inline void vadd_exp(const vec *x, vec magic, vec *acc) noexcept nogil:
    """Add e^x 2^-c of FX_NI vectors, v to lanes v % FX_NH, for a sum that `mend` puts right."""
    if vec is vf:
        vf_add_exp(x, magic, acc)
    else:
        vd_add_exp(x, magic, acc)


cdef inline void clear_half(vec *acc) noexcept nogil:
    """FX_NH vectors, written out: after a loop GCC 12 keeps them in memory."""
    acc[0] = splat(0, acc[0])
    if FX_NH > 1:
        acc[1] = splat(0, acc[0])
    if FX_NH > 2:
        acc[2] = splat(0, acc[0])
        acc[3] = splat(0, acc[0])


cdef inline void copy_half(vec *to, const vec *acc) noexcept nogil:
    to[0] = acc[0]
    if FX_NH > 1:
        to[1] = acc[1]
    if FX_NH > 2:
        to[2] = acc[2]
        to[3] = acc[3]


cdef inline void vadd_moments(const vec *x, vec magic, vec ref, vec *acc, vec *w, vec *q) noexcept nogil:
    """The same, and e (ref - x) and e^2."""
    if vec is vf:
        vf_add_moments(x, magic, ref, acc, w, q)
    else:
        vd_add_moments(x, magic, ref, acc, w, q)


cdef inline void vlog(const vec *x, vec *y) noexcept nogil:
    """log x of FX_NI vectors (vmath.h, as the next two)."""
    if vec is vf:
        vf_log(x, y)
    else:
        vd_log(x, y)


cdef inline void vlog1p(const vec *x, vec *y) noexcept nogil:
    """log(1 + x)."""
    if vec is vf:
        vf_log1p(x, y)
    else:
        vd_log1p(x, y)


cdef inline void vphi(const vec *x, vec *y) noexcept nogil:
    """e^x - 1 - x."""
    if vec is vf:
        vf_phi(x, y)
    else:
        vd_phi(x, y)


cdef inline void vexpm1(const vec *x, vec *y) noexcept nogil:
    """e^x - 1."""
    if vec is vf:
        vf_expm1(x, y)
    else:
        vd_expm1(x, y)


cdef inline double top_lane(vec x) noexcept nogil:
    if vec is vf:
        return vf_top(x)
    else:
        return vd_top(x)


cdef inline double load_one(const char *p, int kind) noexcept nogil:
    if kind == F32:
        return fx_f32(p)
    if kind == F16:
        return fx_f16(p)
    if kind == BF16:
        return fx_bf16(p)
    return fx_f64(p)


# The base-2 reference c of a sum, and what vexp wants of it.

cdef inline int64_t reference(double top) noexcept nogil:
    # adding 1.5 2^52 rounds to the nearest integer
    return whole_of(top * FX_LOG2E + FX_MAGIC_D)


cdef inline vec floor_of(int64_t c, vec like) noexcept nogil:
    # safely within the interval whose biased exponent is 0, whatever the rounding
    if vec is vf:
        return splat(<double>(c - 127) * LN2 + 0.07, like)
    else:
        return splat(<double>(c - 1023) * LN2 + 0.07, like)


cdef inline vec magic_of(int64_t c, vec like) noexcept nogil:
    if vec is vf:
        return splat(FX_MAGIC_F + <double>(127 - c), like)
    else:
        return splat(FX_MAGIC_D + <double>(1023 - c), like)


cdef inline vec sum_floor_of(int64_t c, vec like) noexcept nogil:
    """The floor of vexp_sum."""
    if vec is vf and FX_STEPS == 4:
        # in the middle of the one quarter whose scale is 0
        return splat(<double>(c - 127) * LN2, like)
    return floor_of(c, like)


cdef inline vec sum_magic_of(int64_t c, vec like) noexcept nogil:
    """The magic of vexp_sum."""
    if vec is vf:
        return splat(FX_MAGIC_F + <double>(FX_STEPS * (127 - c)), like)
    else:
        return magic_of(c, like)


cdef inline double far_of(vec like) noexcept nogil:
    # |maximum| from which the reference is subtracted beforehand: there n ln2 would not be exact enough
    if vec is vf:
        return FX_FAR_F
    else:
        return FX_FAR_D


# A run as the loops below read it: groups that lie one after the other, but for up to two that were copied aside.
cdef struct Run:
    const char *start
    Py_ssize_t groups
    Py_ssize_t hole_group      # this one is at `hole`; -1 for none
    Py_ssize_t tail_group      # this one, the row's last and not whole, is at `tail`; -1 for none


cdef inline bint is_whole(Py_ssize_t n, Py_ssize_t hole, vec like) noexcept nogil:
    """Nothing of the run that begins here is to be copied aside, if it is contiguous."""
    return n >= run_length(like) and not 0 <= hole < run_length(like)


cdef inline void whole_run(const char *p, Run *run) noexcept nogil:
    """A run where it lies: the loops then walk one pointer, as often as the compiler knows, in registers."""
    run.start = p
    run.groups = FX_RUN
    run.hole_group = -1
    run.tail_group = -1


cdef inline const char *group_at(
    const Run *run, bint plain, const char *start, Py_ssize_t g, Py_ssize_t bytes_, const char *hole, const char *tail
) noexcept nogil:
    if not plain:
        if g == run.tail_group:
            return tail
        if g == run.hole_group:
            return hole
    return start + g * bytes_


cdef inline uint64_t minus_infinity(int kind) noexcept nogil:
    """The bits of -inf, repeated to fill 8 bytes."""
    if kind == F64:
        return 0xfff0000000000000ULL
    if kind == F32:
        return 0xff800000ff800000ULL
    return 0xfc00fc00fc00fc00ULL if kind == F16 else 0xff80ff80ff80ff80ULL


cdef inline void put_minus_infinity(char *p, int kind, Py_ssize_t i) noexcept nogil:
    cdef uint64_t bits = minus_infinity(kind)
    memcpy(p + i * itemsize(kind), &bits, itemsize(kind))


cdef inline void lay_run(
    const char *p,        # in (n,), contiguous
    int kind,
    Py_ssize_t before,    # columns in front of p that may be read
    Py_ssize_t n,         # <= run_length
    Py_ssize_t hole,      # index to leave out, or one outside [0, n)
    Run *run,
    char *hole_copy,      # out (128,): the hole's group
    char *tail_copy,      # out (128,): the group that is not whole
    vec like,
) noexcept nogil:
    """Look at a contiguous run where it lies; only the hole's group and a partial last one are copied, as they are."""
    cdef Py_ssize_t lanes = group_length(like), size = itemsize(kind), rest = n % lanes
    run.start = p
    run.groups = (n + lanes - 1) // lanes
    run.hole_group = -1
    run.tail_group = -1
    if rest:
        run.tail_group = run.groups - 1
        fx_copy_last(
            p + n * size, rest * size, <int>(lanes * size), before + n >= lanes, minus_infinity(kind), tail_copy
        )
    if 0 <= hole < n:
        if hole >= n - rest:
            put_minus_infinity(tail_copy, kind, hole - (n - rest))
        else:
            run.hole_group = hole // lanes
            fx_copy_but(
                p + run.hole_group * lanes * size, <int>(lanes * size), <int>size, <int>(hole % lanes), minus_infinity(kind),
                hole_copy,
            )


cdef inline void gather_run(
    const char *p,        # in (n,), `stride` bytes apart
    int kind,
    Py_ssize_t stride,
    Py_ssize_t n,         # <= run_length
    Py_ssize_t hole,      # index to leave out, or one outside [0, n)
    double shift,         # subtracted
    Run *run,
    char *buffer,         # out (groups * group_length,), float32 or float64
    vec like,
) noexcept nogil:
    """Bring a run of any stride into `buffer`, a far reference subtracted."""
    cdef Py_ssize_t lanes = group_length(like), w = width(like), native_size = sizeof(vec) // w, done = 0, i
    cdef double value
    cdef vec offset = splat(shift, like)
    run.start = buffer
    run.groups = (n + lanes - 1) // lanes
    run.hole_group = -1
    run.tail_group = -1
    if stride == itemsize(kind):
        while done + w <= n:
            store(buffer + done * native_size, load(p + done * stride, kind, like) - offset)
            done += w
    for i in range(done, run.groups * lanes):
        value = load_one(p + i * stride, kind) if i < n else -INFINITY
        if vec is vf:
            (<float *>buffer)[i] = <float>value - <float>shift
        else:
            (<double *>buffer)[i] = value - shift
    if 0 <= hole < n:
        put_minus_infinity(buffer, native(like), hole)


cdef inline void scan_run(
    const Run *run, bint plain, const char *hole, const char *tail, int kind,
    vec *top,             # in, out: largest so far, a NaN may be lost (the sum finds it)
    bint count,
    Py_ssize_t label_group,  # with `count`: groups before it, it, and those behind it have thresholds of their own
    const vec *thresholds,   # in (3, FX_NV): elements >= theirs are counted
    vi *n32, vl *n64,     # in, out: minus how many so far, a lane of float32 or float64
) noexcept nogil:
    """Maximum of a run, and with `count` the number of elements at or above a threshold a lane."""
    cdef vec x, m = top[0]
    cdef Py_ssize_t g, v, step = width(m) * itemsize(kind)
    cdef const char *p
    cdef const char *start = run.start
    cdef Py_ssize_t groups = run.groups
    cdef const vec *threshold = thresholds
    cdef vi few = n32[0]
    cdef vl many = n64[0]
    for g in range(groups):
        p = group_at(run, plain, start, g, FX_NV * step, hole, tail)
        if count:
            threshold = thresholds + (0 if g < label_group else FX_NV if g == label_group else 2 * FX_NV)
        for v in range(FX_NV):
            x = load(p + v * step, kind, m)
            m = vmax(m, x)
            if count:
                if vec is vf:
                    few = few + vf_ge(x, threshold[v])
                else:
                    many = many + vd_ge(x, threshold[v])
    top[0] = m
    n32[0] = few
    n64[0] = many


cdef inline void sum_groups(
    const Run *run, bint plain, const char *hole, const char *tail, int kind, vec floor_, vec magic,
    Py_ssize_t first, Py_ssize_t last,
    vec *top,             # in, out: largest of the clamped elements so far
    vec *sums,            # out (FX_NH,)
) noexcept nogil:
    """e^x 2^-c of some groups; the lanes are arrays of this function's own, so that they stay in registers."""
    cdef vec acc[FX_NH]
    cdef vec x[FX_NI]
    cdef vec m = top[0]
    cdef Py_ssize_t g, h, v, step = width(m) * itemsize(kind)
    cdef const char *p
    cdef const char *start = run.start
    clear_half(acc)
    for g in range(first, last):
        p = group_at(run, plain, start, g, FX_NV * step, hole, tail)
        fx_stream(p + FX_PREFETCH)
        if FX_NV * step > 64:
            fx_stream(p + FX_PREFETCH + 64)
        for h in range(FX_NV // FX_NI):
            for v in range(FX_NI):
                x[v] = vmax(floor_, load(p, kind, m))
                m = vmax(m, x[v])
                p += step
            vadd_exp(x, magic, acc)
    top[0] = m
    copy_half(sums, acc)


cdef inline void sum_run(
    const Run *run, bint plain, const char *hole, const char *tail, int kind, vec floor_, vec magic,
    vec *top,             # in, out: largest of the clamped elements so far
    double *hi,           # in, out (16,) float32 lanes or (8,) float64 lanes, widened
    double *lo,           # in, out (8,): what hi lost, float64 only
) noexcept nogil:
    """Add e^x 2^-c of a run."""
    cdef vec acc[FX_NV]       # two parts
    cdef Py_ssize_t first = 0, middle, last
    while first < run.groups:
        middle = min(first + part_length(magic), run.groups)
        last = min(middle + part_length(magic), run.groups)
        sum_groups(run, plain, hole, tail, kind, floor_, magic, first, middle, top, acc)
        sum_groups(run, plain, hole, tail, kind, floor_, magic, middle, last, top, &acc[FX_NH])
        flush(acc, hi, lo)
        first = last


cdef inline void moments_groups(
    const Run *run, bint plain, const char *hole, const char *tail, int kind, vec floor_, vec magic, vec ref,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t ahead, vec *sums, vec *w, vec *q,
) noexcept nogil:
    """The same, and the moments added to w and q (FX_NH,)."""
    cdef vec acc[FX_NH]
    cdef vec aw[FX_NH]
    cdef vec aq[FX_NH]
    cdef vec x[FX_NI]
    cdef Py_ssize_t g, v, h, step = width(ref) * itemsize(kind)
    cdef const char *p
    cdef const char *start = run.start
    clear_half(acc)
    copy_half(aw, w)
    copy_half(aq, q)
    for g in range(first, last):
        p = group_at(run, plain, start, g, FX_NV * step, hole, tail)
        fx_stream(p + ahead)
        if FX_NV * step > 64:
            fx_stream(p + ahead + 64)
        for h in range(FX_NV // FX_NI):
            for v in range(FX_NI):
                x[v] = vmax(floor_, load(p, kind, ref))
                p += step
            vadd_moments(x, magic, ref, acc, aw, aq)
    copy_half(sums, acc)
    copy_half(w, aw)
    copy_half(q, aq)


cdef inline void moments_run(
    const Run *run, bint plain, const char *hole, const char *tail, int kind, vec floor_, vec magic, vec ref,
    double *hi, double *lo,
    double *w,            # in, out (16,) or (8,): e (ref - x)
    double *q,            # in, out: e^2
    Py_ssize_t ahead,     # bytes to prefetch ahead: the next block, for this one is in cache
) noexcept nogil:
    """Add e = e^x 2^-c as sum_run does, and its two moments for entropy and Brier score."""
    cdef vec acc[FX_NV]       # two parts
    cdef vec aw[FX_NH]
    cdef vec aq[FX_NH]
    cdef Py_ssize_t first = 0, middle, last, v
    clear_half(aw)
    clear_half(aq)
    while first < run.groups:
        middle = min(first + part_length(ref), run.groups)
        last = min(middle + part_length(ref), run.groups)
        moments_groups(run, plain, hole, tail, kind, floor_, magic, ref, first, middle, ahead, acc, aw, aq)
        moments_groups(run, plain, hole, tail, kind, floor_, magic, ref, middle, last, ahead, &acc[FX_NH], aw, aq)
        flush(acc, hi, lo)
        first = last
    for v in range(FX_NH):
        if vec is vf:
            vf_flush(w + v * FX_VF, aw[v])
            vf_flush(q + v * FX_VF, aq[v])
        else:
            vd_store(w + v * FX_VD, vd_load(w + v * FX_VD) + aw[v])
            vd_store(q + v * FX_VD, vd_load(q + v * FX_VD) + aq[v])


cdef inline void flush(vec *acc, double *hi, double *lo) noexcept nogil:
    """Fold the lanes once and add them to the wide sums: float64, or float64 with its error kept, the fold's too."""
    cdef Py_ssize_t v
    cdef vec folded, rest
    for v in range(FX_NH):
        folded = acc[v] + acc[v + FX_NH]
        if vec is vf:
            vf_flush(hi + v * FX_VF, folded)
        else:
            rest = folded - acc[v]
            rest = (acc[v] - (folded - rest)) + (acc[v + FX_NH] - rest)
            vd_flush(hi + v * FX_VD, lo + v * FX_VD, folded)
            vd_store(lo + v * FX_VD, vd_load(lo + v * FX_VD) + rest)
