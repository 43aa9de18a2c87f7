# The largest elements of rows, in their order, equal ones by column: which classes a model ranks first.
#
# Most of a row lies below the k-th largest so far, and a span of vectors is passed over by its maximum.

cdef enum:
    SPAN = 8  # vectors


cdef void top_row(
    const char *x, int kind, Py_ssize_t n, Py_ssize_t k, double *values, int64_t *columns, vec like
) noexcept nogil:
    """Columns of the k largest of n contiguous elements, k <= n; `values` holds k."""
    cdef Py_ssize_t size = itemsize(kind), lanes = width(like), found = 0, j = -SPAN * lanes, i, place
    cdef double value
    cdef vec top
    while j + SPAN * lanes < n:
        j += SPAN * lanes
        if found == k and j + SPAN * lanes <= n:
            top = load(x + j * size, kind, like)
            for i in range(1, SPAN):
                top = vmax(top, load(x + (j + i * lanes) * size, kind, like))
            if not top_lane(top) > values[k - 1]:
                continue
        for i in range(j, min(j + SPAN * lanes, n)):
            value = load_one(x + i * size, kind)
            if found == k and not value > values[k - 1]:
                continue
            place = found if found < k else k - 1
            found = place + 1
            # behind its equals, which stand in earlier columns
            while place > 0 and values[place - 1] < value:
                values[place] = values[place - 1]
                columns[place] = columns[place - 1]
                place -= 1
            values[place] = value
            columns[place] = i


cdef void top_of(
    const char *x, int kind, Py_ssize_t n, Py_ssize_t k, double *values, int64_t *columns
) noexcept nogil:
    cdef uint64_t control = fx_fp_enter()
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        top_row(x, F32, n, k, values, columns, f)
    elif kind == F16:
        top_row(x, F16, n, k, values, columns, f)
    elif kind == BF16:
        top_row(x, BF16, n, k, values, columns, f)
    else:
        top_row(x, F64, n, k, values, columns, d)
    fx_fp_leave(control)


def top_columns(x, int kind, double[:, ::1] values, int64_t[:, ::1] columns, int threads):
    """The columns of the largest elements of each row, the largest first; of a row with NaN, any.

    `x`, (rows, classes), has a contiguous class axis and one of the storage kinds (`Rows`); `values` and `columns` are
    (rows, k) with k <= classes.
    """
    cdef Py_buffer buffer
    cdef Py_ssize_t row, rows = columns.shape[0], k = columns.shape[1], classes, step
    cdef const char *start
    PyObject_GetBuffer(x, &buffer, PyBUF_STRIDED_RO)
    try:
        if buffer.ndim != 2 or buffer.itemsize != itemsize(kind):
            raise ValueError("x does not match")
        if buffer.shape[1] > 1 and buffer.strides[1] != buffer.itemsize:
            raise ValueError("the class axis is not contiguous")
        if buffer.shape[0] != rows or values.shape[0] != rows or values.shape[1] != k or k > buffer.shape[1]:
            raise ValueError("shapes do not match")
        if rows == 0 or k == 0:
            return
        start, step, classes = <const char *>buffer.buf, buffer.strides[0], buffer.shape[1]
        with nogil:
            if threads <= 1:
                for row in range(rows):
                    top_of(start + row * step, kind, classes, k, &values[row, 0], &columns[row, 0])
            else:
                for row in prange(rows, num_threads=threads, schedule="static"):
                    top_of(start + row * step, kind, classes, k, &values[row, 0], &columns[row, 0])
    finally:
        PyBuffer_Release(&buffer)
