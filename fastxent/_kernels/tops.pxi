# The class of the largest logit of up to FX_PIXELS rows, lanes being rows: with it a log-sum-exp is a loss,
# x_top + log1p(the others over e^x_top), which keeps every digit where little is left beside the largest.
#
# The rows are read twice, the second time from cache: where they are not too long for that.

cdef enum:
    MOST_TOPS = 256        # classes: 256 KB of float32


cdef inline void first_tops(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    int64_t *out,
) noexcept nogil:
    """The first class of the largest logit, -1 where there is none above -inf; a NaN is looked over."""
    cdef vf top[FX_PIXEL_VECTORS]
    cdef vf best[FX_PIXEL_VECTORS]
    cdef double buffer[FX_RUN * FX_PIXELS]
    cdef vf like = vf_splat(0), one = vf_splat(1), t, m, a, here
    cdef Py_ssize_t vectors = (pixels + FX_VF - 1) // FX_VF, size = itemsize(kind), i, j, k, v, block, step
    cdef bint staged = pixel_stride != size or pixels % FX_VF != 0
    cdef const char *p
    for v in range(vectors):
        top[v] = vf_splat(-INFINITY)
        best[v] = vf_splat(-1)
    j = 0 - FX_RUN
    while j + FX_RUN < n:
        j += FX_RUN
        block = min(FX_RUN, n - j)
        p = x + j * class_stride
        step = class_stride
        if staged:
            stage_block(p, kind, class_stride, pixel_stride, block, pixels, <char *>buffer, like)
            p = <const char *>buffer
            step = FX_PIXELS * 4
        for v in range(vectors):
            t = top[v]
            a = best[v]
            here = vf_splat(<float>j)
            for k in range(block):
                if staged:
                    m = vf_max(load(p + k * step, F32, like), t)
                else:
                    m = vf_max(load(p + k * step, kind, like), t)
                    if (v * FX_VF * size) % 64 == 0:
                        fx_prefetch(p + (k + FX_RUN) * step)
                a = vf_pick(vf_eq(m, t), a, here)
                t = m
                here = here + one
            top[v] = t
            best[v] = a
            p += FX_VF * (4 if staged else size)
    for i in range(pixels):
        out[i] = <int64_t>(<float *>best)[i]


cdef void any_first_tops(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t pixel_stride, Py_ssize_t n, Py_ssize_t pixels,
    int64_t *out,
) noexcept nogil:
    if kind == F32:
        first_tops(x, F32, class_stride, pixel_stride, n, pixels, out)
    elif kind == F16:
        first_tops(x, F16, class_stride, pixel_stride, n, pixels, out)
    else:
        first_tops(x, BF16, class_stride, pixel_stride, n, pixels, out)
