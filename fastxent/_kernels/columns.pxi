# Rows brought into lanes: up to LANES neighbouring rows of an array, class by class, in the working precision.
#
# Where the rows' elements of a class lie side by side in float32 or float64 - (N, C, d1, ...) - they are read where
# they lie. Else COLUMN_BLOCK classes at a time come into a buffer: rows of float32 by tiles turned in registers
# (tiles.h), others element by element. Lanes behind the last row are 0 there.

cdef enum:
    LANES = 128          # rows together, at most
    LANE_GROUP = 16      # a whole number of vectors at every level
    COLUMN_BLOCK = 8     # classes together: a multiple of FX_NI, and FX_TILE

cdef struct Columns:
    const char *p              # class 0 of the first row
    int kind
    Py_ssize_t class_stride, row_stride
    Py_ssize_t count, lanes    # rows, and the same up to a multiple of LANE_GROUP
    bint direct                # can be read where they lie


cdef inline Py_ssize_t lane_size(int kind) noexcept nogil:
    """Bytes of an element in its lane."""
    return 8 if kind == F64 else 4


cdef void set_columns(
    Columns *c, const char *p, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t count
) noexcept nogil:
    c.p = p
    c.kind = kind
    c.class_stride = class_stride
    c.row_stride = row_stride
    c.count = count
    c.lanes = (count + LANE_GROUP - 1) // LANE_GROUP * LANE_GROUP
    c.direct = row_stride == itemsize(kind) and count == c.lanes and (kind == F32 or kind == F64)


cdef inline void copy_elements(
    const char *p, Py_ssize_t size, Py_ssize_t class_stride, Py_ssize_t row_stride,
    Py_ssize_t n, Py_ssize_t count, char *b, Py_ssize_t step
) noexcept nogil:
    """As they are, `step` bytes from class to class; `size` as a constant."""
    cdef Py_ssize_t i, k
    for i in range(count):
        for k in range(n):
            memcpy(b + k * step + i * size, p + i * row_stride + k * class_stride, size)


cdef inline void widen_lanes(const char *p, int kind, Py_ssize_t count, char *b) noexcept nogil:
    """16-bit elements side by side into float32."""
    cdef vf like = vf_splat(0)
    cdef Py_ssize_t i = 0
    while i + FX_VF <= count:
        vf_store(b + i * 4, load(p + i * 2, kind, like))
        i += FX_VF
    while i < count:
        (<float *>b)[i] = <float>load_one(p + i * 2, kind)
        i += 1


cdef inline void bring_halves(
    const Columns *c, const char *p, int kind, Py_ssize_t n, char *b, Py_ssize_t step
) noexcept nogil:
    cdef uint16_t raw[COLUMN_BLOCK * LANES]
    cdef Py_ssize_t k
    if c.row_stride == 2:
        for k in range(n):
            widen_lanes(p + k * c.class_stride, kind, c.count, b + k * step)
        return
    copy_elements(p, 2, c.class_stride, c.row_stride, n, c.count, <char *>raw, 2 * LANES)
    for k in range(n):
        widen_lanes(<char *>raw + k * 2 * LANES, kind, c.count, b + k * step)


cdef void bring_columns(const Columns *c, Py_ssize_t j, Py_ssize_t n, char *b, Py_ssize_t step) noexcept nogil:
    """n <= COLUMN_BLOCK classes from class j on into `b`, `step` bytes from class to class."""
    cdef Py_ssize_t size = lane_size(c.kind), done = 0, k
    cdef const char *p = c.p + j * c.class_stride
    if c.kind == F16:
        bring_halves(c, p, F16, n, b, step)
    elif c.kind == BF16:
        bring_halves(c, p, BF16, n, b, step)
    elif c.row_stride == size:
        for k in range(n):
            memcpy(b + k * step, p + k * c.class_stride, c.count * size)
    elif c.kind == F32:
        if FX_TILES and c.class_stride == 4:
            while done + FX_TILE <= c.count:
                fx_to_lanes(p + done * c.row_stride, c.row_stride, <int>n, <float *>(b + 4 * done), step // 4)
                done += FX_TILE
        copy_elements(p + done * c.row_stride, 4, c.class_stride, c.row_stride, n, c.count - done, b + 4 * done, step)
    else:
        copy_elements(p, 8, c.class_stride, c.row_stride, n, c.count, b, step)
    if c.count < c.lanes:
        for k in range(n):
            memset(b + k * step + c.count * size, 0, (c.lanes - c.count) * size)


cdef inline const char *block_of(
    const Columns *c, Py_ssize_t j, Py_ssize_t n,
    char *buffer,          # in (COLUMN_BLOCK, LANES)
    Py_ssize_t *step,      # out: bytes from class to class
) noexcept nogil:
    """n <= COLUMN_BLOCK classes from class j on, lanes side by side."""
    if c.direct:
        step[0] = c.class_stride
        return c.p + j * c.class_stride
    step[0] = LANES * lane_size(c.kind)
    bring_columns(c, j, n, buffer, step[0])
    return buffer


cdef void hold_columns(Columns *c, Py_ssize_t classes, char *buffer) noexcept nogil:
    """Bring all classes into `buffer`, (classes, lanes), where they are read from then on."""
    cdef Py_ssize_t b, j, step = c.lanes * lane_size(c.kind)
    if c.direct:
        return
    for b in range((classes + COLUMN_BLOCK - 1) // COLUMN_BLOCK):
        j = b * COLUMN_BLOCK
        bring_columns(c, j, min(COLUMN_BLOCK, classes - j), buffer + j * step, step)
    c.p = buffer
    c.kind = F64 if c.kind == F64 else F32
    c.class_stride = step
    c.row_stride = lane_size(c.kind)
    c.count = c.lanes
    c.direct = True


cdef void put_columns(
    const char *b, Py_ssize_t size, Py_ssize_t n, Py_ssize_t count,   # in (n, LANES)
    char *out, Py_ssize_t class_stride, Py_ssize_t row_stride,
) noexcept nogil:
    """Results of n <= COLUMN_BLOCK classes to their places."""
    cdef Py_ssize_t step = LANES * size, done = 0, i, k
    if row_stride == size:
        for k in range(n):
            memcpy(out + k * class_stride, b + k * step, count * size)
        return
    if FX_TILES and size == 4 and class_stride == 4:
        while done + FX_TILE <= count:
            fx_from_lanes(<const float *>(b + 4 * done), LANES, out + done * row_stride, row_stride, <int>n)
            done += FX_TILE
    for i in range(done, count):
        for k in range(n):
            if size == 4:
                memcpy(out + k * class_stride + i * row_stride, b + k * step + i * 4, 4)
            else:
                memcpy(out + k * class_stride + i * row_stride, b + k * step + i * 8, 8)
