# Rows taken FX_PIXELS at a time, lanes being rows ("pixels"): rows whose class axis is not contiguous - (N, C, d1, ...),
# Fortran order, every second class - and narrow ones, whose few classes would fill no vector.
#
# A segment of classes is taken in blocks of FX_RUN: a lane takes the largest of the block, raises its own reference c,
# scales what it has by a power of two and adds the block's FX_RUN terms in order, flushed after every FX_CHAIN_D into a
# wider sum. So a row's value depends on that row alone, whichever lane it falls into, and each logit is read once (the
# second look at a block of FX_RUN vectors is in cache). Row format as in rows.pxi otherwise: the same segments, the same
# merging; the order of additions is another, and with it the last bit.
#
# A row that is out of the ordinary (NaN, infinite, far off, wholly masked) is handed to the row kernel, which takes any
# stride. Pixels that do not lie side by side, and the last few of a line, are brought into a buffer block by block.

cdef enum:
    NARROW = 128           # classes
    NARROW_SINGLE = 256    # of what ends in float32 lanes (quick.pxi)

# What a segment leaves of each pixel; the sum is (s + s_lo) 2^c as a Partial has it, but for its `mend`. A pixel that is
# out of the ordinary has the c ODD.
cdef struct Pixels:
    double s[FX_PIXELS]
    double s_lo[FX_PIXELS]
    double top[FX_PIXELS]
    double c[FX_PIXELS]

cdef extern from *:
    """
    #define FX_ODD 1e300
    """
    const double ODD "FX_ODD"

cdef inline vec power(vec e) noexcept nogil:
    if vec is vf:
        return vf_power(e)
    else:
        return vd_power(e)


cdef inline vec without(vec x, const char *labels, int64_t j) noexcept nogil:
    if vec is vf:
        return vf_without(x, <const int32_t *>labels, <int32_t>j)
    else:
        return vd_without(x, <const int64_t *>labels, j)


cdef inline void stage_block(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride,
    Py_ssize_t classes,        # <= FX_RUN
    Py_ssize_t pixels,
    char *b,                   # out (classes, FX_PIXELS), float32 or float64; whole vectors are filled, with 0
    vec like,
) noexcept nogil:
    """Bring a block of classes of pixels that do not lie side by side into a buffer where they do."""
    cdef Py_ssize_t size = itemsize(kind), w = width(like), vectors = (pixels + w - 1) // w, done = 0, i, k, v
    cdef const char *p
    cdef double value
    if FX_TILES and kind == F32 and class_stride == size:
        for v in range(pixels // FX_TILE):
            fx_to_lanes(x + done * pixel_stride, pixel_stride, <int>classes, <float *>b + done, FX_PIXELS)
            done += FX_TILE
    for k in range(classes):
        p = x + k * class_stride
        for i in range(done, vectors * w):
            value = load_one(p + i * pixel_stride, kind) if i < pixels else 0.0
            if vec is vf:
                (<float *>b)[k * FX_PIXELS + i] = <float>value
            else:
                (<double *>b)[k * FX_PIXELS + i] = value


cdef inline void pixel_segment(
    const char *x,             # in (n, pixels): class 0 of the segment, pixel 0
    int kind,
    Py_ssize_t class_stride, Py_ssize_t pixel_stride,
    Py_ssize_t n,              # classes in the segment
    Py_ssize_t pixels,         # <= FX_PIXELS
    const int64_t *holes,      # in (pixels,): class to leave out, counted from the segment; or NULL
    Pixels *out,
    vec like,
) noexcept nogil:
    cdef vec top[FX_PIXEL_VECTORS]
    cdef vec ref[FX_PIXEL_VECTORS]
    cdef vec labels[FX_PIXEL_VECTORS]
    cdef double *hi = out.s
    cdef double *lo = out.s_lo
    cdef double buffer[FX_RUN * FX_PIXELS]
    cdef vec acc, m, c, floor_, magic, factor
    cdef vec xs[FX_RUN]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef Py_ssize_t w = width(like), vectors = (pixels + w - 1) // w, native_size = sizeof(vec) // w
    cdef Py_ssize_t i, j, k, v, block
    cdef Py_ssize_t size = itemsize(kind)
    cdef bint staged = pixel_stride != size or pixels % w != 0
    cdef char *b = <char *>buffer
    cdef const char *p
    cdef Py_ssize_t step
    cdef int64_t lowest = -<int64_t>(far_of(like) * 1.5)
    cdef double most = far_of(like)
    cdef vec rounding = splat(FX_MAGIC_F if w == FX_VF else FX_MAGIC_D, like)
    cdef vec log2e = splat(FX_LOG2E, like), ln2 = splat(LN2, like), floor_0 = floor_of(0, like)
    cdef vec magic_0 = magic_of(0, like)
    cdef vd sums, tops, refs, odd = vd_splat(ODD)
    for v in range(vectors):
        top[v] = splat(-INFINITY, like)
        ref[v] = splat(<double>lowest, like)
    memset(hi, 0, vectors * w * 8)
    memset(lo, 0, vectors * w * 8)
    if holes != NULL:
        for i in range(vectors * w):
            k = holes[i] if i < pixels else -1
            if not 0 <= k < n:
                k = -1
            if vec is vf:
                (<int32_t *>labels)[i] = <int32_t>k
            else:
                (<int64_t *>labels)[i] = k
    j = 0 - FX_RUN
    while j + FX_RUN < n:
        j += FX_RUN
        block = min(FX_RUN, n - j)
        if staged:
            stage_block(x + j * class_stride, kind, class_stride, pixel_stride, block, pixels, b, like)
            p = b
            step = FX_PIXELS * native_size
        else:
            p = x + j * class_stride
            step = class_stride
        for v in range(vectors):
            m = top[v]
            for k in range(FX_RUN):
                # classes behind the last one count nothing
                xs[k] = splat(-INFINITY, like)
                if k < block:
                    if staged:
                        xs[k] = load(p + k * step, native(like), like)
                    else:
                        xs[k] = load(p + k * step, kind, like)
                        if (v * sizeof(vec)) % 64 == 0:
                            fx_prefetch(p + (k + FX_RUN) * step)
                    if holes != NULL:
                        xs[k] = without(xs[k], <const char *>&labels[v], j + k)
                    m = vmax(m, xs[k])
            top[v] = m
            # the reference only rises; a NaN stays
            c = vmax(ref[v], vfma(m, log2e, rounding) - rounding)
            factor = power(ref[v] - c)
            ref[v] = c
            floor_ = vfma(c, ln2, floor_0)
            magic = magic_0 - c
            acc = splat(0, like)
            for k in range(FX_RUN // FX_NI):
                if k * FX_NI < block:
                    for i in range(FX_NI):
                        xs[k * FX_NI + i] = vmax(floor_, xs[k * FX_NI + i])
                    vexp(&xs[k * FX_NI], magic, False, e, scale)
                    for i in range(FX_NI):
                        acc = vfma(e[i], scale[i], acc)
                if (k + 1) * FX_NI % FX_CHAIN_D == 0:
                    if vec is vf:
                        vf_scale_flush(hi + v * w, factor, acc)
                    else:
                        vd_store(hi + v * w, vd_load(hi + v * w) * factor)
                        vd_store(lo + v * w, vd_load(lo + v * w) * factor)
                        vd_flush(hi + v * w, lo + v * w, acc)
                    acc = splat(0, like)
                    factor = splat(1.0, like)
            p += w * (native_size if staged else size)
    for v in range((pixels + FX_VD - 1) // FX_VD):
        i = v * FX_VD
        if vec is vf:
            tops = vd_load_f32(<char *>top + 4 * i)
            refs = vd_load_f32(<char *>ref + 4 * i)
        else:
            tops = vd_load(<char *>top + 8 * i)
            refs = vd_load(<char *>ref + 8 * i)
        # a NaN is in the sum, not in the maximum; the smallest and the largest numbers stand for > 0 and < inf
        sums = vd_load(hi + i)
        refs = vd_pick(vd_ge(sums, vd_splat(5e-324)), refs, odd)
        refs = vd_pick(vd_ge(vd_splat(1.7976931348623157e308), sums), refs, odd)
        refs = vd_pick(vd_ge(tops, vd_splat(most)), odd, refs)
        vd_store(&out.c[i], vd_pick(vd_ge(vd_splat(-most), tops), odd, refs))
        vd_store(&out.top[i], tops)


cdef void partial_of(
    const Pixels *pixels, Py_ssize_t i,
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t n, Py_ssize_t hole,   # the pixel's row
    Partial *out,
) noexcept nogil:
    """The partial result of pixel i."""
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if pixels.c[i] == ODD:
        any_segment(x, kind, class_stride, n, hole, False, 0.0, out)
        return
    out.s = pixels.s[i] + pixels.s_lo[i]
    out.s_lo = pixels.s_lo[i] - (out.s - pixels.s[i])
    out.top = pixels.top[i]
    out.c = <int64_t>pixels.c[i]
    out.shift = out.w = out.q = 0.0
    out.above = 0
    out.argmax = -1
    if kind == F64:
        mend(out, d)
    else:
        mend(out, f)


cdef void any_referred_segment(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    const int64_t *holes, Pixels *out,
) noexcept nogil:
    """Sum one column segment of up to FX_PIXELS rows, whatever is in them: the kernel, at each storage."""
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        pixel_segment(x, F32, class_stride, pixel_stride, n, pixels, holes, out, f)
    elif kind == F16:
        pixel_segment(x, F16, class_stride, pixel_stride, n, pixels, holes, out, f)
    elif kind == BF16:
        pixel_segment(x, BF16, class_stride, pixel_stride, n, pixels, holes, out, f)
    else:
        pixel_segment(x, F64, class_stride, pixel_stride, n, pixels, holes, out, d)
