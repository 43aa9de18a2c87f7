# Rows: the sum of exponentials of a column segment, and the merging of segments. This is the *row format*.
#
# Row format 7 (ordinary.pxi, quick.h, narrowstats.pxi, narrowoutputs.pxi and once.pxi are part of it, and how many
# classes go that way: NARROW and NARROW_SINGLE of strided.pxi). A row is cut into segments of SEGMENT columns, a
# segment into blocks of FX_BLOCK runs, a run into FX_RUN groups, a group into 128 bytes of terms (32 float32 or 16
# float64). Terms j and, after it, j + 16 of a group go to lane j of 16 (j and j + 8, of 8 float64); a lane adds the
# terms of 4 groups (1 of float64) in order; the lanes of two such parts are added and flushed into float64 lanes (for
# float64 storage into float64 pairs that keep the rounding errors, those of the two parts' addition too); at the
# segment's end the wide lanes are folded as a tree. Segments merge in the order of columns. All of it is counted from
# the row's start, so threads, blocks and strides between rows change nothing.
#
# Eight additions a lane cost at most 1.8 ULP on equal terms and 0.6 on average (64 cost up to 8); float64 has no wider lane
# to hide them in (errors of softmax found: 4.3 ULP with 4 additions and a plain fold, 4.0 without, 2.8 with 2). A block's
# terms are scaled by 2^-c, c the base-2 exponent of the largest term of the first group (or block); only where a block's
# maximum runs more than JUMP binades above is c raised and the block summed again from cache. Since c is an integer it
# changes no bit. The label (the hole) enters neither the sum nor c: a confident row keeps its digits.
#
# Sources: Blanchard, Higham and Higham, IMA J. Numer. Anal. 41(4), 2021 (the shifted formulas, a term left out);
# Milakov and Gimelshein, arXiv 1805.02867, 2018 (the running reference).

cdef enum:
    ROW_FORMAT = 9
    SEGMENT = 65536
    JUMP = 32


cdef inline bint in_window(
    Py_ssize_t segment0, Py_ssize_t segment1, Py_ssize_t classes, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    """Whether the columns of some segments are among those that are held."""
    return segment0 == segment1 or (segment0 * SEGMENT >= first and min(classes, segment1 * SEGMENT) <= end)


cdef inline void clear(double *lanes) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(16 // FX_VD):
        vd_store(lanes + i * FX_VD, vd_splat(0))


cdef inline void scale_lanes(double *lanes, double factor) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(16):
        lanes[i] = lanes[i] * factor


cdef inline double shrink(int64_t binades) noexcept nogil:
    """2^binades; 0 below the normal numbers, where nothing is left of a sum."""
    return 0.0 if binades < -1022 else power_of_two(binades)


cdef inline bint sum_segment(
    const char *x,        # in (n,), `stride` bytes apart
    int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint moments, double x_label,
    bint far, double shift,
    Partial *out,
    vec like,
) noexcept nogil:
    """Fill `out`; True where the maximum is far off, infinite or NaN and a far reference must be given."""
    cdef double hi[16]
    cdef double lo[16]
    cdef double w[16]
    cdef double q[16]
    cdef double hi_was[16]
    cdef double lo_was[16]
    cdef double top = -INFINITY, block_top, ref = 0.0, limit = far_of(like)
    cdef int64_t c = 0, raised
    cdef bint known = far, again, scanned
    cdef Py_ssize_t j = 0, i, size, some, block = FX_BLOCK * run_length(like), best = 0
    clear(hi)
    clear(lo)
    if moments:
        clear(w)
        clear(q)
    out.above = 0
    while j < n:
        size = min(block, n - j)
        scanned = moments or far
        if moments or not known:
            # for a sum the first group's maximum will do, where it is an ordinary one
            some = size if moments else min(size, group_length(like))
            block_top = scan_block(x + j * stride, kind, stride, some, hole - j, moments, x_label, &out.above, like)
            if some < size and not block_top > -limit:
                some = size
                block_top = scan_block(x + j * stride, kind, stride, size, hole - j, False, 0.0, &out.above, like)
            scanned = some == size
            if block_top != -INFINITY and not far:
                if not -limit < block_top < limit:
                    return True
                raised = reference(block_top)
                if not known or raised - c > JUMP:
                    if known:
                        rescale(hi, lo, w, q, c - raised, moments)
                    c = raised
                    known = True
            if block_top > top:
                if moments and not far:
                    # w is relative to the largest so far: every term of the correction is >= 0
                    if top != -INFINITY:
                        for i in range(16):
                            w[i] = w[i] + hi[i] * (block_top - top)
                    ref = block_top
                top = block_top
                best = j
        if moments:
            sum_block(x + j * stride, kind, stride, size, hole - j, far, shift, c, True, ref, hi, lo, w, q, like)
        else:
            again = True
            if not scanned:
                memcpy(hi_was, hi, sizeof(hi))
                memcpy(lo_was, lo, sizeof(lo))
            while again:
                again = False
                block_top = sum_block(
                    x + j * stride, kind, stride, size, hole - j, far, shift, c, False, 0.0, hi, lo, w, q, like
                )
                if not scanned and known and not far:
                    if not block_top < limit:
                        return True
                    top = max(top, block_top)
                    raised = reference(block_top)
                    if raised - c > JUMP:
                        memcpy(hi, hi_was, sizeof(hi))
                        memcpy(lo, lo_was, sizeof(lo))
                        rescale(hi, lo, w, q, c - raised, False)
                        c = raised
                        again = True
        j += size
    if not far:
        out.top = top
    out.shift = shift
    out.c = c
    out.w = out.q = 0.0
    out.argmax = -1
    fold(hi, lo, &out.s, &out.s_lo, like)
    if moments:
        out.w = fx_fold(w)
        out.q = fx_fold(q)
        out.argmax = find(x, kind, stride, best, n, top, hole, like)
    mend(out, like)
    return False


cdef inline double lost_factor(double top, int steps, vec like) noexcept nogil:
    """g with 1 + g the factor that a sum of exponentials lacks whose largest is e^top (exponential.h), as it has it.

    `steps`: parts of a binade that the exponential counted, in float32.
    """
    cdef double y
    if not FX_FMA or not -far_of(like) < top < far_of(like):
        return 0.0
    if vec is vf:
        y = <double>reference(steps * top) / steps * -<double>FX_LN2_LO_F
    else:
        y = <double>reference(top) * -FX_LN2_LO_D
    # e^y - 1, |y| < 2e-4
    return y + y * y * (0.5 + y * (1.0 / 6.0 + y * (1.0 / 24.0)))


cdef inline void mend(Partial *p, vec like) noexcept nogil:
    """Take out the factor e^(n lo) that the exponential of a sum leaves (exponential.h), as the largest have it."""
    cdef double g, error
    if p.shift == 0.0:
        g = lost_factor(p.top, FX_STEPS, like)
        p.s_lo = p.s_lo + g * p.s_lo
        two_sum(p.s, g * p.s, &p.s, &error)
        p.s_lo = p.s_lo + error
        p.w = p.w + g * p.w
        p.q = p.q + (2.0 * g + g * g) * p.q


cdef inline void rescale(
    double *hi, double *lo, double *w, double *q, int64_t binades, bint moments
) noexcept nogil:
    cdef double factor = shrink(binades)
    scale_lanes(hi, factor)
    scale_lanes(lo, factor)
    if moments:
        scale_lanes(w, factor)
        scale_lanes(q, factor * factor)


cdef inline void fold(double *hi, double *lo, double *s, double *s_lo, vec like) noexcept nogil:
    """Sum of the wide lanes as a tree; for float64 as a pair."""
    cdef double t
    if vec is vf:
        s[0] = fx_fold(hi)
        s_lo[0] = 0.0
    else:
        fx_fold_pairs(hi, lo)
        t = hi[0] + lo[0]
        s[0] = t
        s_lo[0] = lo[0] - (t - hi[0])


cdef inline int native(vec like) noexcept nogil:
    """The kind of a staged run."""
    if vec is vf:
        return F32
    else:
        return F64


cdef inline int64_t find(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t start, Py_ssize_t n, double value, Py_ssize_t hole, vec like
) noexcept nogil:
    """First index from `start` on, other than the hole, that holds `value`; -1 for none."""
    cdef Py_ssize_t lanes = width(like), size = itemsize(kind)
    cdef Py_ssize_t j = start
    cdef vec wanted = splat(value, like)
    while j < n:
        if stride == size:
            # skip whole vectors without it
            while j + lanes <= n:
                if vec is vf:
                    if vi_any(vf_eq(load(x + j * size, kind, like), wanted)):
                        break
                else:
                    if vl_any(vd_eq(load(x + j * size, kind, like), wanted)):
                        break
                j += lanes
        if j < n:
            if j != hole and load_one(x + j * stride, kind) == value:
                return j
            j += 1
    return -1


cdef inline void segment(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint moments, double x_label, Partial *out, vec like,
) noexcept nogil:
    cdef int64_t unused = 0
    cdef Py_ssize_t j
    cdef double value
    cdef bint far = False
    cdef double top = 0.0
    while sum_segment(x, kind, stride, n, hole, moments, x_label, far, top, out, like):
        # read again, from cache, with the far maximum subtracted first
        top = scan_block(x, kind, stride, n, hole, False, 0.0, &unused, like)
        out.top = top
        far = True
        if not -INFINITY < top < INFINITY:
            break
    else:
        return
    # infinite or NaN
    out.s = top
    out.shift = out.s_lo = out.w = out.q = 0.0
    out.c = out.above = 0
    out.argmax = -1
    for j in range(n):
        value = load_one(x + j * stride, kind)
        if value != value and j != hole:
            out.s = NAN
            return


# One function a storage, not inlined (setup.py): the compiler takes twice as long over one that holds them all.

cdef void segment_f32(
    const char *x, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole, bint moments, double x_label, Partial *out
) noexcept nogil:
    cdef vf like = vf_splat(0)
    if moments:
        segment(x, F32, stride, n, hole, True, x_label, out, like)
    else:
        segment(x, F32, stride, n, hole, False, x_label, out, like)


cdef void segment_f16(
    const char *x, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole, bint moments, double x_label, Partial *out
) noexcept nogil:
    cdef vf like = vf_splat(0)
    if moments:
        segment(x, F16, stride, n, hole, True, x_label, out, like)
    else:
        segment(x, F16, stride, n, hole, False, x_label, out, like)


cdef void segment_bf16(
    const char *x, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole, bint moments, double x_label, Partial *out
) noexcept nogil:
    cdef vf like = vf_splat(0)
    if moments:
        segment(x, BF16, stride, n, hole, True, x_label, out, like)
    else:
        segment(x, BF16, stride, n, hole, False, x_label, out, like)


cdef void segment_f64(
    const char *x, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole, bint moments, double x_label, Partial *out
) noexcept nogil:
    cdef vd like = vd_splat(0)
    if moments:
        segment(x, F64, stride, n, hole, True, x_label, out, like)
    else:
        segment(x, F64, stride, n, hole, False, x_label, out, like)


cdef void any_segment(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint moments, double x_label, Partial *out,
) noexcept nogil:
    """Sum one column segment of one row: the kernel, at each storage and with or without moments."""
    if kind == F32:
        segment_f32(x, stride, n, hole, moments, x_label, out)
    elif kind == F16:
        segment_f16(x, stride, n, hole, moments, x_label, out)
    elif kind == BF16:
        segment_bf16(x, stride, n, hole, moments, x_label, out)
    else:
        segment_f64(x, stride, n, hole, moments, x_label, out)


cdef void merge(Partial *a, const Partial *b, Py_ssize_t offset) noexcept nogil:
    """Add the segment `b`, whose columns begin at `offset`, to the segments before it."""
    cdef Partial low, high
    cdef double factor
    cdef int64_t n
    high = a[0]
    low = b[0]
    if low.argmax >= 0:
        low.argmax += offset
    if low.top > high.top:
        high, low = low, high
    # c and shift of the larger maximum stay
    a.above = a.above + b.above
    if a.s != a.s or b.s != b.s:
        a.s = NAN
        a.top = high.top
        return
    a.top = high.top
    a.argmax = high.argmax
    if low.top == -INFINITY or high.top == INFINITY:
        a.s, a.s_lo, a.w, a.q, a.c, a.shift = high.s, high.s_lo, high.w, high.q, high.c, high.shift
        return
    # e^(difference of the shifts) 2^(difference of c): either alone may be out of range where one segment's largest is far
    if low.shift == high.shift:
        factor = scaled(1.0, low.c - high.c)
    elif low.shift - high.shift < -3.5e13:
        factor = 0.0
    else:
        factor = exp_reduced(low.shift - high.shift, 0.0, &n)
        factor = scaled(factor, n + low.c - high.c)
    a.c = high.c
    a.shift = high.shift
    a.w = high.w + factor * low.w + (high.top - low.top) * (factor * low.s)
    a.q = high.q + factor * factor * low.q
    two_sum(high.s, factor * low.s, &a.s, &a.s_lo)
    a.s_lo = a.s_lo + (high.s_lo + factor * low.s_lo)
