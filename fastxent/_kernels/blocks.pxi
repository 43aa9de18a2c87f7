# Blocks: FX_BLOCK runs that share one look at the maximum.
#
# Scanning finds the largest element, and for an evaluation the label's rank; summing adds the exponentials.


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
    cdef char hole_copy[128]
    cdef char tail_copy[128]
    cdef vec thresholds[3 * FX_NV]
    cdef char edge[256]    # a group of thresholds before the label, then one of those behind it
    cdef vec top = splat(-INFINITY, like), before, behind
    cdef Py_ssize_t length_of_run = run_length(like), lanes = group_length(like), size = itemsize(kind)
    cdef Py_ssize_t i, v, length, lane
    cdef vi n32 = <vi>vf_splat(0)
    cdef vl n64 = <vl>vd_splat(0)
    cdef Run run
    if count:
        # an equal element is ahead of the label only where it stands before it
        before = splat(x_label, like)
        behind = splat(next_up(x_label, like), like)
        lane = hole % lanes if hole >= 0 else 0
        for v in range(FX_NV):
            thresholds[v] = before
            thresholds[2 * FX_NV + v] = behind
            store(edge + v * sizeof(vec), before)
            store(edge + 128 + v * sizeof(vec), behind)
        for v in range(FX_NV):
            thresholds[FX_NV + v] = load(edge + 128 - lane * (128 // lanes) + v * sizeof(vec), native(like), like)
    i = 0
    while i < n:
        length = length_of_run
        # blocks and runs are whole groups, so the label's lane is the same counted from any of them
        v = (hole - i) // lanes if hole >= i else -1
        if stride != size:
            length = min(length, n - i)
            gather_run(x + i * stride, kind, stride, length, hole - i, 0.0, &run, <char *>buffer, like)
            scan_run(&run, True, NULL, NULL, native(like), &top, count, v, thresholds, &n32, &n64)
        elif is_whole(n - i, hole - i, like):
            whole_run(x + i * size, &run)
            scan_run(&run, True, NULL, NULL, kind, &top, count, v, thresholds, &n32, &n64)
        else:
            length = min(length, n - i)
            lay_run(x + i * size, kind, i, length, hole - i, &run, hole_copy, tail_copy, like)
            scan_run(&run, False, hole_copy, tail_copy, kind, &top, count, v, thresholds, &n32, &n64)
        i += length
    if count:
        if vec is vf:
            above[0] -= vi_total(n32)
        else:
            above[0] -= vl_total(n64)
    return top_lane(top)


cdef inline double sum_block(
    const char *x, int kind, Py_ssize_t stride, Py_ssize_t n, Py_ssize_t hole,
    bint far, double shift, int64_t c, bint moments, double ref,
    double *hi, double *lo, double *w, double *q,
    vec like,
) noexcept nogil:
    """Add a block to the wide lanes; give the largest of its clamped elements (not with `moments`)."""
    cdef double buffer[FX_RUN_DOUBLES]
    cdef char hole_copy[128]
    cdef char tail_copy[128]
    cdef Py_ssize_t length_of_run = run_length(like), size = itemsize(kind), i, length
    cdef Py_ssize_t ahead = FX_BLOCK * length_of_run * size
    cdef vec floor_ = sum_floor_of(c, like)
    cdef vec magic = sum_magic_of(c, like)
    cdef vec top = floor_
    cdef vec ref_ = splat(ref, like)
    cdef Run run
    i = 0
    while i < n:
        length = length_of_run
        if stride == size and not far:
            if is_whole(n - i, hole - i, like):
                whole_run(x + i * size, &run)
                if moments:
                    moments_run(&run, True, NULL, NULL, kind, floor_, magic, ref_, hi, lo, w, q, ahead)
                else:
                    sum_run(&run, True, NULL, NULL, kind, floor_, magic, &top, hi, lo)
            else:
                length = min(length, n - i)
                lay_run(x + i * size, kind, i, length, hole - i, &run, hole_copy, tail_copy, like)
                if moments:
                    moments_run(&run, False, hole_copy, tail_copy, kind, floor_, magic, ref_, hi, lo, w, q, ahead)
                else:
                    sum_run(&run, False, hole_copy, tail_copy, kind, floor_, magic, &top, hi, lo)
        else:
            length = min(length, n - i)
            gather_run(x + i * stride, kind, stride, length, hole - i, shift, &run, <char *>buffer, like)
            if moments:
                moments_run(&run, True, NULL, NULL, native(like), floor_, magic, ref_, hi, lo, w, q, 0)
            else:
                sum_run(&run, True, NULL, NULL, native(like), floor_, magic, &top, hi, lo)
        i += length
    return top_lane(top)
