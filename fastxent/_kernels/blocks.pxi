# Blocks: FX_BLOCK runs that share one look at the maximum.
#
# A run that is whole, contiguous and without the hole is read where it lies; any other one is staged (runs.pxi).


cdef inline double next_up(double x, vec like) noexcept nogil:
    """The next number of the working precision, as a double."""
    cdef float f
    cdef int32_t bits32
    cdef int64_t bits64
    if x != x or x == INFINITY:
        return x
    if x == 0.0:
        x = 0.0  # -0 too
    if vec is vf:
        f = <float>x
        memcpy(&bits32, &f, 4)
        bits32 = 1 if x == 0.0 else bits32 + 1 if bits32 > 0 else bits32 - 1
        memcpy(&f, &bits32, 4)
        return f
    else:
        memcpy(&bits64, &x, 8)
        bits64 = 1 if x == 0.0 else bits64 + 1 if bits64 > 0 else bits64 - 1
        memcpy(&x, &bits64, 8)
        return x


cdef inline double scan_block(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n,
    Py_ssize_t hole,       # where the label is, counted from x; anywhere, before and behind too
    bint count, double x_label,
    int64_t *above,        # in, out
    vec like,
) noexcept nogil:
    """The largest of the others, and with `count` how many are ranked before the label."""
    cdef double buffer[FX_RUN_DOUBLES]
    cdef vec before[FX_NV]
    cdef vec behind[FX_NV]
    cdef vec around[FX_NV]
    cdef char edge[256]    # thresholds: a group of `before`, then one of `behind`
    cdef vec top = splat(-INFINITY, like)
    cdef Py_ssize_t run = run_length(like), lanes = group_length(like)
    cdef Py_ssize_t size = itemsize(kind)
    cdef Py_ssize_t i, v, length, groups, g
    cdef char *b = <char *>buffer
    if count:
        # an equal element is ahead of the label only where it stands before it
        for v in range(FX_NV):
            before[v] = splat(x_label, like)
            behind[v] = splat(next_up(x_label, like), like)
    i = 0 - run
    while i + run < n:
        i += run
        length = min(run, n - i)
        if stride == size and length == run and not i <= hole < i + run:
            fx_prefetch(x + i * size + FX_PREFETCH)
            if count and hole > i:
                scan_run(x + i * size, kind, FX_RUN, &top, True, before, above)
            else:
                scan_run(x + i * size, kind, FX_RUN, &top, count, behind, above)
            continue
        groups = stage(x + i * stride, kind, stride, length, hole - i, 0.0, b, like)
        if not count or hole >= i + run or hole < i:
            scan_run(b, native(like), groups, &top, count, &before[0] if hole > i else &behind[0], above)
            continue
        g = (hole - i) // lanes
        for v in range(FX_NV):
            store(edge + v * sizeof(vec), before[v])
            store(edge + 128 + v * sizeof(vec), behind[v])
        for v in range(FX_NV):
            around[v] = load(
                edge + 128 - (hole - i - g * lanes) * (128 // lanes) + v * sizeof(vec), native(like), like
            )
        scan_run(b, native(like), g, &top, True, before, above)
        if g < groups:
            scan_run(b + g * 128, native(like), 1, &top, True, around, above)
            scan_run(b + (g + 1) * 128, native(like), groups - g - 1, &top, True, behind, above)
    return top_lane(top)


cdef inline double sum_block(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint far, double shift, int64_t c, bint moments, double ref,
    double *hi, double *lo, double *w, double *q,
    vec like,
) noexcept nogil:
    """Add a block to the wide lanes; give the largest of its clamped elements (not with `moments`)."""
    cdef double buffer[FX_RUN_DOUBLES]
    cdef Py_ssize_t run = run_length(like), size = itemsize(kind), i, length, groups
    cdef vec floor_ = floor_of(c, like)
    cdef vec magic = magic_of(c, like)
    cdef vec top = floor_
    cdef vec ref_ = splat(ref, like)
    cdef char *b = <char *>buffer
    i = 0 - run
    while i + run < n:
        i += run
        length = min(run, n - i)
        if stride == size and length == run and not i <= hole < i + run and not far:
            if moments:
                moments_run(
                    x + i * size, kind, FX_RUN, floor_, magic, ref_, hi, lo, w, q, x + (i + FX_BLOCK * run) * size
                )
            else:
                sum_run(x + i * size, kind, FX_RUN, floor_, magic, &top, hi, lo)
            continue
        groups = stage(x + i * stride, kind, stride, length, hole - i, shift, b, like)
        if moments:
            moments_run(b, native(like), groups, floor_, magic, ref_, hi, lo, w, q, x + i * stride)
        else:
            sum_run(b, native(like), groups, floor_, magic, &top, hi, lo)
    return top_lane(top)
