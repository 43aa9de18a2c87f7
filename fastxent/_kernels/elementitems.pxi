# Elements of arrays of any dtype and strides: brought into a small buffer of the working precision, and results back to
# their places. An array that is contiguous and of that precision is read where it lies.

# an element dtype is a Kind (0 to 3) or one of these; + SWAPPED in the other byte order
cdef enum:
    I8 = 4
    U8 = 5
    I16 = 6
    U16 = 7
    I32 = 8
    U32 = 9
    I64 = 10
    U64 = 11
    BOOL = 12

# arrays
cdef enum:
    TARGETS = 1
    FACTORS = 2
    POS_FACTORS = 3
    RESULTS = 4
    GRADIENTS = 5
    OPERANDS = 6

cdef enum:
    PIECE = 512        # a multiple of all FX_NE vectors
    TASK = 16384
    BATCH = 2048       # of the losses that wait for being added up

# what was wrong with an element, as bits
cdef enum:
    BAD_X = 1
    BAD_TARGET = 2

ctypedef fused real:
    float
    double

cdef struct ElementJob:
    int function
    bint single            # computed in float32
    bint single_out        # RESULTS and GRADIENTS are float32
    Layout layout
    char *data[OPERANDS]   # NULL where there is none
    int code[OPERANDS]
    double constants[4]    # of SURPRISAL_TO_BASE (vmath.h)
    double divisor         # of the gradient
    int64_t *sums          # an exact sum a task from `start`, or NULL
    Py_ssize_t start, stop


cdef inline Py_ssize_t code_size(int code) noexcept nogil:
    code = code & 31
    if code == I8 or code == U8 or code == BOOL:
        return 1
    if code == I16 or code == U16 or code == F16 or code == BF16:
        return 2
    return 8 if code == I64 or code == U64 or code == F64 else 4


cdef inline void gather_items(const char *p, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t n, char *out) noexcept nogil:
    """n items of `size` bytes side by side; the size is a constant where it is called."""
    cdef Py_ssize_t k
    if stride == size:
        memcpy(out, p, n * size)
    else:
        for k in range(n):
            memcpy(out + k * size, p + k * stride, size)


cdef inline void scatter_items(const char *p, Py_ssize_t size, Py_ssize_t n, char *out, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t k
    if stride == size:
        memcpy(out, p, n * size)
    else:
        for k in range(n):
            memcpy(out + k * stride, p + k * size, size)


cdef void swap_bytes(char *p, Py_ssize_t size, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k, j
    cdef char b
    for k in range(n):
        for j in range(size // 2):
            b = p[k * size + j]
            p[k * size + j] = p[k * size + size - 1 - j]
            p[k * size + size - 1 - j] = b


cdef inline Py_ssize_t line_length(const Layout *layout) noexcept nogil:
    return layout.shape[layout.axes - 1] if layout.axes else 1


cdef void move_items(const ElementJob *job, int a, Py_ssize_t i, Py_ssize_t n, char *items, bint out) noexcept nogil:
    """n items from number i on, out of an array or (`out`) into it."""
    cdef Py_ssize_t size = code_size(job.code[a]), line = line_length(&job.layout), at = i % line, k = 0, some
    cdef Py_ssize_t stride = job.layout.strides[a][job.layout.axes - 1] if job.layout.axes else size
    cdef char *p
    while k < n:
        some = min(n - k, line - at)
        p = job.data[a] + offset_of(&job.layout, a, i + k)
        if out:
            if size == 4:
                scatter_items(items + k * 4, 4, some, p, stride)
            else:
                scatter_items(items + k * 8, 8, some, p, stride)
        elif size == 1:
            gather_items(p, stride, 1, some, items + k)
        elif size == 2:
            gather_items(p, stride, 2, some, items + k * 2)
        elif size == 4:
            gather_items(p, stride, 4, some, items + k * 4)
        else:
            gather_items(p, stride, 8, some, items + k * 8)
        k += some
        at = 0


cdef void convert_items(const char *p, int code, Py_ssize_t n, real *out) noexcept nogil:
    """Items of a dtype, side by side, as numbers of the working precision."""
    cdef Py_ssize_t k
    if code == F32:
        for k in range(n):
            out[k] = <real>(<const float *>p)[k]
    elif code == F64:
        for k in range(n):
            out[k] = <real>(<const double *>p)[k]
    elif code == F16 or code == BF16:
        if real is float:
            for k in range((n + FX_VF - 1) // FX_VF):  # there is room for whole vectors
                if code == F16:
                    vf_store(out + k * FX_VF, vf_load_f16(p + 2 * k * FX_VF))
                else:
                    vf_store(out + k * FX_VF, vf_load_bf16(p + 2 * k * FX_VF))
        else:
            for k in range(n):
                out[k] = fx_f16(p + 2 * k) if code == F16 else fx_bf16(p + 2 * k)
    elif code == I8:
        for k in range(n):
            out[k] = <real>(<const int8_t *>p)[k]
    elif code == U8:
        for k in range(n):
            out[k] = <real>(<const uint8_t *>p)[k]
    elif code == I16:
        for k in range(n):
            out[k] = <real>(<const int16_t *>p)[k]
    elif code == U16:
        for k in range(n):
            out[k] = <real>(<const uint16_t *>p)[k]
    elif code == I32:
        for k in range(n):
            out[k] = <real>(<const int32_t *>p)[k]
    elif code == U32:
        for k in range(n):
            out[k] = <real>(<const uint32_t *>p)[k]
    elif code == I64:
        for k in range(n):
            out[k] = <real>(<const int64_t *>p)[k]
    elif code == U64:
        for k in range(n):
            out[k] = <real>(<const uint64_t *>p)[k]
    else:
        for k in range(n):
            out[k] = <real>((<const uint8_t *>p)[k] != 0)


cdef inline Py_ssize_t vectors_length(int code) noexcept nogil:
    """Elements that are computed together."""
    return FX_NE * (FX_VF if code == F32 else FX_VD)


cdef inline bint as_it_lies(const ElementJob *job, int a, Py_ssize_t i, Py_ssize_t n, int code) noexcept nogil:
    """Whether n items from number i on lie side by side, of dtype `code`, and are whole vectors."""
    cdef Py_ssize_t line = line_length(&job.layout), stride
    stride = job.layout.strides[a][job.layout.axes - 1] if job.layout.axes else 0
    return job.code[a] == code and stride == code_size(code) and i % line + n <= line and n % vectors_length(code) == 0


cdef const char *stage(const ElementJob *job, int a, Py_ssize_t i, Py_ssize_t n, char *raw, char *buffer) noexcept nogil:
    """Where n elements of the working precision are, from number i on; copies of the last fill up the vectors."""
    cdef int code = job.code[a] & 31, native = F32 if job.single else F64
    cdef Py_ssize_t size = code_size(native), k
    if job.data[a] == NULL:
        return NULL
    if as_it_lies(job, a, i, n, native):
        return job.data[a] + offset_of(&job.layout, a, i)
    if code == native:
        move_items(job, a, i, n, buffer, False)
        if job.code[a] & SWAPPED:
            swap_bytes(buffer, size, n)
    else:
        move_items(job, a, i, n, raw, False)
        if job.code[a] & SWAPPED:
            swap_bytes(raw, code_size(code), n)
        if job.single:
            convert_items(raw, code, n, <float *>buffer)
        else:
            convert_items(raw, code, n, <double *>buffer)
    for k in range(n, (n + vectors_length(native) - 1) // vectors_length(native) * vectors_length(native)):
        memcpy(buffer + k * size, buffer + (n - 1) * size, size)
    return buffer
