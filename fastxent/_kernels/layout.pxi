# Where the rows of an n-d array lie: any number of batch axes, any strides, several arrays walked together.
#
# A row is one vector along the class axis. Row numbers count through the batch axes in the order kept here, which is
# sorted by the logits' strides and merged where all arrays allow it; every array is addressed through it, so the order
# is of no consequence to a result.

cimport cython
from cpython.buffer cimport PyBUF_ND, PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

cdef enum:
    MOST_AXES = 64
    MOST_ARRAYS = 6

cdef struct Layout:
    int axes
    Py_ssize_t rows
    Py_ssize_t shape[MOST_AXES]
    Py_ssize_t strides[MOST_ARRAYS][MOST_AXES]


cdef inline Py_ssize_t magnitude(Py_ssize_t x) noexcept nogil:
    return -x if x < 0 else x


cdef void lay_out(
    int axes,
    const Py_ssize_t *shape,   # in (axes,), the class axis not among them
    Py_ssize_t **strides,      # in (arrays, axes)
    int arrays,
    Layout *out,
) noexcept nogil:
    cdef int d, e, a, kept = 0
    cdef bint joins
    cdef Py_ssize_t length
    cdef Py_ssize_t steps[MOST_ARRAYS]
    out.rows = 1
    for d in range(axes):
        out.rows = out.rows * shape[d]
        if shape[d] == 1:
            continue
        # insertion sort, stable: the widest stride first
        e = kept
        for a in range(arrays):
            steps[a] = strides[a][d]
        while e > 0 and magnitude(out.strides[0][e - 1]) < magnitude(steps[0]):
            out.shape[e] = out.shape[e - 1]
            for a in range(arrays):
                out.strides[a][e] = out.strides[a][e - 1]
            e -= 1
        out.shape[e] = shape[d]
        for a in range(arrays):
            out.strides[a][e] = steps[a]
        kept += 1
    # merge neighbours that lie as one axis in every array
    e = 0
    for d in range(1, kept):
        joins = True
        for a in range(arrays):
            joins = joins and out.strides[a][e] == out.shape[d] * out.strides[a][d]
        if joins:
            out.shape[e] = out.shape[e] * out.shape[d]
        else:
            e += 1
            out.shape[e] = out.shape[d]
        for a in range(arrays):
            out.strides[a][e] = out.strides[a][d]
    out.axes = e + 1 if kept else 0


cdef inline Py_ssize_t offset_of(const Layout *layout, int array, Py_ssize_t row) noexcept nogil:
    """Byte offset of row number `row`."""
    cdef Py_ssize_t offset = 0
    cdef int d
    for d in range(layout.axes - 1, 0, -1):
        offset += row % layout.shape[d] * layout.strides[array][d]
        row = row // layout.shape[d]
    if layout.axes:
        offset += row * layout.strides[array][0]
    return offset
