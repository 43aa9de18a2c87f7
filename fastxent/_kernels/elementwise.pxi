# Elementwise functions and the binary losses: out[i] = f(x[i], target[i], weight[i], pos_weight[i]) over arrays of any dtype
# and strides, a broadcast one by zero strides.
#
# A task is TASK elements, taken PIECE at a time: each array that is not contiguous and of the working precision is brought
# into a small buffer on the stack, the function is computed FX_NI vectors at a time, and the result goes where it belongs,
# or into an exact sum. Every lane stands for itself, so no result depends on where an element lies.
#
# Error in ULP with a fused multiply-add (tests/test_elementwise.py and test_binary.py measure it): sigmoid, log_sigmoid
# and logit below 3, surprisal below 1 (to a base below 3), the losses below 4.
#
# Binary cross-entropy of logits is a weighted sum of softplus(-x) = -log sigmoid(x) and softplus(x): with
# l = log(1 + e^-|x|) the two are l and |x| + l. All terms are >= 0 for targets in [0, 1], so nothing cancels and a
# confident right answer keeps its digits; its gradient is a difference of two products only where the target is soft.
# (PyTorch's (1 - y) x - log sigmoid(x), the same number, loses them all at y = 0 and x < -40.)

cdef enum Function:
    SIGMOID = 0
    LOG_SIGMOID = 1
    LOGIT = 2
    SURPRISAL = 3
    SURPRISAL_TO_BASE = 4
    BINARY = 5             # of probabilities
    BINARY_LOGITS = 6

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
    PIECE = 512        # a multiple of all FX_NI vectors
    TASK = 16384

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
    return FX_NI * (FX_VF if code == F32 else FX_VD)


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


cdef inline vec times(vec a, vec x) noexcept nogil:
    """a x; 0 times infinity is 0."""
    if vec is vf:
        return vf_only(~(vf_eq(a, splat(0, a)) & vf_eq(x, splat(INFINITY, a))), a * x)
    else:
        return vd_only(~(vd_eq(a, splat(0, a)) & vd_eq(x, splat(INFINITY, a))), a * x)


cdef inline vec pick_ge(vec a, vec b, vec yes, vec no) noexcept nogil:
    """a >= b ? yes : no, a lane."""
    if vec is vf:
        return vf_pick(vf_ge(a, b), yes, no)
    else:
        return vd_pick(vd_ge(a, b), yes, no)


cdef inline vec absolute(vec x) noexcept nogil:
    if vec is vf:
        return vf_abs(x)
    else:
        return vd_abs(x)


cdef inline bint outside(vec x, double high, bint nan_ok) noexcept nogil:
    """Whether a lane is outside [0, high]."""
    if vec is vf:
        return vf_outside(x, 0, <float>high, nan_ok)
    else:
        return vd_outside(x, 0, high, nan_ok)


cdef inline void decay(const vec *x, vec *e) noexcept nogil:
    """2^64 e^-|x|: that far up, what will be subnormal keeps its digits."""
    cdef vec t[FX_NI]
    cdef vec scale[FX_NI]
    cdef Py_ssize_t v
    for v in range(FX_NI):
        t[v] = vmax(floor_of(-64, x[v]), -absolute(x[v]))
    vexp(t, magic_of(-64, x[0]), True, e, scale)
    for v in range(FX_NI):
        e[v] = e[v] * scale[v]


cdef inline void softplus(const vec *e, vec *y) noexcept nogil:
    """log(1 + e^-|x|), of what decay gives."""
    cdef vec t[FX_NI]
    cdef Py_ssize_t v
    for v in range(FX_NI):
        t[v] = e[v] * splat(5.421010862427522e-20, e[v])  # 2^-64
    vlog1p(t, y)


cdef inline void binary_logits(
    const vec *x, const vec *target, const vec *weight, const vec *pos_weight, bint want_gradient, vec divisor,
    vec *y, vec *gradient,
) noexcept nogil:
    """Loss and gradient; weight and pos_weight may be NULL."""
    cdef vec e[FX_NI]
    cdef vec rest[FX_NI]
    cdef vec zero = splat(0, divisor), one = splat(1, divisor), small = splat(5.421010862427522e-20, divisor)
    cdef vec a, b, far, u, near
    cdef Py_ssize_t v
    decay(x, e)
    softplus(e, rest)
    for v in range(FX_NI):
        # a counts softplus of the sign that is small, b the other's
        far = absolute(x[v]) + rest[v]
        a = target[v] if pos_weight == NULL else pos_weight[v] * target[v]
        b = one - target[v]
        near = a
        a = pick_ge(x[v], zero, a, b)
        b = pick_ge(x[v], zero, b, near)
        # an infinite logit on the right side costs nothing
        y[v] = vfma(a, rest[v], times(b, far))
        if want_gradient:
            u = one + e[v] * small
            near = b * (one / u)
            gradient[v] = near - a * ((e[v] / u) * small)
            gradient[v] = pick_ge(x[v], zero, gradient[v], -gradient[v])
        if weight != NULL:
            y[v] = y[v] * weight[v]
            if want_gradient:
                gradient[v] = gradient[v] * weight[v]
        if want_gradient:
            gradient[v] = gradient[v] / divisor


cdef inline void binary(const vec *p, const vec *target, const vec *weight, vec *y) noexcept nogil:
    """Loss of probabilities, their logarithms cut off at -100."""
    cdef vec minus[FX_NI]
    cdef vec hit[FX_NI]
    cdef vec miss[FX_NI]
    cdef vec least = splat(-100, p[0]), one = splat(1, p[0])
    cdef Py_ssize_t v
    for v in range(FX_NI):
        minus[v] = -p[v]
    vlog(p, hit)
    vlog1p(minus, miss)
    for v in range(FX_NI):
        hit[v] = -vmax(least, hit[v])
        miss[v] = -vmax(least, miss[v])
        y[v] = vfma(target[v], hit[v], (one - target[v]) * miss[v])
        if weight != NULL:
            y[v] = y[v] * weight[v]


cdef inline void function_of(
    int function, const vec *x, const vec *target, const vec *weight, const vec *pos_weight, const double *constants,
    bint want_gradient, vec divisor, vec *y, vec *gradient,
) noexcept nogil:
    """One function of FX_NI vectors; `function` is a constant where this is called."""
    cdef vec e[FX_NI]
    cdef vec small = splat(5.421010862427522e-20, divisor), zero = splat(0, divisor)
    cdef float single[4]
    cdef Py_ssize_t v
    if function == SIGMOID:
        decay(x, e)
        for v in range(FX_NI):
            # 1 / (1 + e^-x) or e^x / (1 + e^x), times 2^64 until the last product
            y[v] = pick_ge(x[v], zero, splat(18446744073709551616.0, zero), e[v]) / (splat(1, zero) + e[v] * small) * small
    elif function == LOG_SIGMOID:
        decay(x, e)
        softplus(e, e)
        for v in range(FX_NI):
            y[v] = pick_ge(x[v], zero, -e[v], x[v] - e[v])
    elif function == LOGIT:
        if vec is vf:
            vf_logit(x, y)
        else:
            vd_logit(x, y)
    elif function == SURPRISAL or function == SURPRISAL_TO_BASE:
        if function == SURPRISAL:
            vlog(x, e)
        elif vec is vf:
            for v in range(4):
                single[v] = <float>constants[v]
            vf_log_base(x, single, e)
        else:
            vd_log_base(x, constants, e)
        for v in range(FX_NI):
            y[v] = zero - e[v]  # and not -0 for p = 1
    elif function == BINARY:
        binary(x, target, weight, y)
    else:
        binary_logits(x, target, weight, pos_weight, want_gradient, divisor, y, gradient)


cdef inline int compute(
    int function, const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *out_gradient, vec like,
) noexcept nogil:
    """A piece of n elements, whole vectors of them; gives what was wrong."""
    cdef vec a[4][FX_NI]
    cdef vec y[FX_NI]
    cdef vec gradient[FX_NI]
    cdef Py_ssize_t i, v, step = width(like) * code_size(native(like)), lanes = FX_NI * width(like)
    cdef vec divisor = splat(job.divisor, like)
    cdef double most = 3.4028234663852886e38 if native(like) == F32 else 1.7976931348623157e308
    cdef int k, bad = 0, wanted = 2 if function >= BINARY else 1
    cdef int arrays = 4 if function == BINARY_LOGITS else 3 if function == BINARY else 1
    i = -lanes
    while i + lanes < n:
        i += lanes
        for k in range(arrays):
            if k < wanted or data[k] != NULL:
                for v in range(FX_NI):
                    a[k][v] = load(data[k] + v * step, native(like), like)
                data[k] += FX_NI * step
        if function == SURPRISAL or function == SURPRISAL_TO_BASE:
            for v in range(FX_NI):
                if outside(a[0][v], most, True):
                    bad |= BAD_X
        if function == BINARY:
            for v in range(FX_NI):
                if outside(a[0][v], 1.0, False):
                    bad |= BAD_X
                if outside(a[1][v], 1.0, False):
                    bad |= BAD_TARGET
        function_of(
            function, a[0], a[1], a[2] if data[2] != NULL else NULL, a[3] if data[3] != NULL else NULL,
            job.constants, out_gradient != NULL, divisor, y, gradient,
        )
        for v in range(FX_NI):
            store(out, y[v])
            out += step
            if function == BINARY_LOGITS and out_gradient != NULL:
                store(out_gradient, gradient[v])
                out_gradient += step
    return bad


cdef int compute_f32(const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *gradient) noexcept nogil:
    cdef vf like = vf_splat(0)
    if job.function == SIGMOID:
        return compute(SIGMOID, job, data, n, out, gradient, like)
    if job.function == LOG_SIGMOID:
        return compute(LOG_SIGMOID, job, data, n, out, gradient, like)
    if job.function == LOGIT:
        return compute(LOGIT, job, data, n, out, gradient, like)
    if job.function == SURPRISAL:
        return compute(SURPRISAL, job, data, n, out, gradient, like)
    if job.function == SURPRISAL_TO_BASE:
        return compute(SURPRISAL_TO_BASE, job, data, n, out, gradient, like)
    if job.function == BINARY:
        return compute(BINARY, job, data, n, out, gradient, like)
    return compute(BINARY_LOGITS, job, data, n, out, gradient, like)


cdef int compute_f64(const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *gradient) noexcept nogil:
    cdef vd like = vd_splat(0)
    if job.function == SIGMOID:
        return compute(SIGMOID, job, data, n, out, gradient, like)
    if job.function == LOG_SIGMOID:
        return compute(LOG_SIGMOID, job, data, n, out, gradient, like)
    if job.function == LOGIT:
        return compute(LOGIT, job, data, n, out, gradient, like)
    if job.function == SURPRISAL:
        return compute(SURPRISAL, job, data, n, out, gradient, like)
    if job.function == SURPRISAL_TO_BASE:
        return compute(SURPRISAL_TO_BASE, job, data, n, out, gradient, like)
    if job.function == BINARY:
        return compute(BINARY, job, data, n, out, gradient, like)
    return compute(BINARY_LOGITS, job, data, n, out, gradient, like)


cdef void put_piece(const ElementJob *job, int a, Py_ssize_t i, Py_ssize_t n, char *items) noexcept nogil:
    """n results where they belong; float64 ones are made float32 in place where that is asked for."""
    cdef Py_ssize_t k
    cdef double value
    cdef float single
    if job.single_out and not job.single:
        for k in range(n):
            memcpy(&value, items + 8 * k, 8)
            single = <float>value
            memcpy(items + 4 * k, &single, 4)
    if job.data[a] != NULL:
        move_items(job, a, i, n, items, True)


cdef int element_task(const ElementJob *job, Py_ssize_t task) noexcept nogil:
    cdef char raw[8 * PIECE]
    cdef char buffers[OPERANDS][8 * PIECE]
    cdef const char *data[4]
    cdef char *out
    cdef char *gradient
    cdef int a, bad = 0, native = F32 if job.single else F64
    cdef uint64_t control = fx_fp_enter()
    cdef Py_ssize_t i = job.start + task * TASK, n = 0, whole = vectors_length(native)
    cdef Py_ssize_t end = min(job.start + (task + 1) * TASK, job.stop)
    while i + n < end:
        i += n
        n = min(PIECE, end - i)
        if n > whole:
            n -= n % whole  # the last ones, which fill no vectors, come by themselves
        for a in range(4):
            data[a] = stage(job, a, i, n, raw, buffers[a])
        out = buffers[RESULTS]
        gradient = buffers[GRADIENTS] if job.data[GRADIENTS] != NULL else NULL
        if job.data[RESULTS] != NULL and as_it_lies(job, RESULTS, i, n, native):
            out = job.data[RESULTS] + offset_of(&job.layout, RESULTS, i)
        if gradient != NULL and as_it_lies(job, GRADIENTS, i, n, native):
            gradient = job.data[GRADIENTS] + offset_of(&job.layout, GRADIENTS, i)
        if job.single:
            bad |= compute_f32(job, data, n, out, gradient)
        else:
            bad |= compute_f64(job, data, n, out, gradient)
        if out == buffers[RESULTS]:
            put_piece(job, RESULTS, i, n, out)
        if gradient == buffers[GRADIENTS]:
            put_piece(job, GRADIENTS, i, n, gradient)
        if job.sums != NULL:
            add_many(job.sums + task * (LIMBS + SPECIAL), out, job.single_out, n)
    fx_fp_leave(control)
    return bad


cdef int run_elements(const ElementJob *job, int threads) noexcept nogil:
    cdef Py_ssize_t tasks = (job.stop - job.start + TASK - 1) // TASK, task
    cdef int bad_x = 0, bad_target = 0, bad
    if threads <= 1 or tasks <= 1:
        for task in range(tasks):
            bad = element_task(job, task)
            bad_x += bad & BAD_X
            bad_target += bad & BAD_TARGET
    else:
        for task in prange(tasks, num_threads=<int>min(<Py_ssize_t>threads, tasks), schedule="dynamic"):
            bad = element_task(job, task)
            bad_x += bad & BAD_X
            bad_target += bad & BAD_TARGET
    return (BAD_X if bad_x else 0) | (BAD_TARGET if bad_target else 0)


@cython.freelist(4)
cdef class Elements:
    """Arrays that a function is applied to, element by element.

    Parameters
    ----------
    function
        Number of the function.
    arrays, codes
        x, target, weight, pos_weight, result and gradient, or None, all of one shape and any strides; their dtypes. The
        last two are native float32 or float64 and writable.
    single
        Whether to compute in float32.
    single_out
        Whether results are float32.
    constants, divisor
        What SURPRISAL_TO_BASE and the gradient want.
    """

    cdef ElementJob job
    cdef Py_buffer buffers[OPERANDS]
    cdef int held[OPERANDS]

    def __init__(self, int function, arrays, codes, bint single, bint single_out, *, constants=(0.0,) * 4,
                 double divisor=1.0):
        cdef int numbers[OPERANDS]
        cdef int a
        if len(arrays) != OPERANDS or len(codes) != OPERANDS:
            raise ValueError("arrays do not match")
        for a in range(OPERANDS):
            numbers[a] = codes[a]
        for a in range(4):
            self.job.constants[a] = constants[a]
        self.set_up(function, tuple(arrays), numbers, single, single_out, divisor)

    cdef int set_up(
        self, int function, tuple arrays, const int *codes, bint single, bint single_out, double divisor
    ) except -1:
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t steps[MOST_ARRAYS][MOST_AXES]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef int a, d, axes
        if self.held[X]:
            raise ValueError("set up already")
        memset(steps, 0, sizeof(steps))
        if not 0 <= function <= BINARY_LOGITS or len(arrays) != OPERANDS or arrays[0] is None:
            raise ValueError("arrays do not match")
        if function >= BINARY and arrays[TARGETS] is None:
            raise ValueError("a target is wanted")
        for a in range(OPERANDS):
            if arrays[a] is not None:
                PyObject_GetBuffer(
                    arrays[a], &self.buffers[a], PyBUF_STRIDED_RO | (PyBUF_WRITABLE if a >= RESULTS else 0)
                )
                self.held[a] = 1
                self.job.data[a] = <char *>self.buffers[a].buf
                self.job.code[a] = codes[a]
                axes = self.buffers[a].ndim
                if axes != self.buffers[0].ndim or axes > MOST_AXES:
                    raise ValueError("dimensions do not match")
                if self.buffers[a].itemsize != code_size(self.job.code[a]):
                    raise ValueError("dtypes do not match")
                for d in range(axes):
                    steps[a][d] = self.buffers[a].strides[d]
                    shape[d] = self.buffers[0].shape[d]
                    if self.buffers[a].shape[d] != shape[d]:
                        raise ValueError("shapes do not match")
            strides[a] = steps[a]
            if a >= RESULTS and self.held[a] and self.job.code[a] != <int>(F32 if single_out else F64):
                raise ValueError("dtypes do not match")
        self.job.single_out = single_out
        lay_out(self.buffers[0].ndim, shape, strides, OPERANDS, &self.job.layout)
        self.job.function = function
        self.job.single = single
        self.job.divisor = divisor
        return 0

    def __dealloc__(self):
        cdef int a
        for a in range(OPERANDS):
            if self.held[a]:
                PyBuffer_Release(&self.buffers[a])

    @property
    def count(self):
        """Number of elements."""
        return self.job.layout.rows

    def run(self, Py_ssize_t start, Py_ssize_t stop, int threads, int64_t[:, ::1] sums=None):
        """Do the elements from `start` to `stop`; give what was wrong: 1 for an x out of range, 2 for a target.

        `sums` has an exact sum for each `element_task` elements, to which the results are added.
        """
        cdef ElementJob job = self.job
        cdef int bad
        if not 0 <= start <= stop <= job.layout.rows:
            raise ValueError("elements out of range")
        job.start = start
        job.stop = stop
        if sums is not None and stop > start:
            if sums.shape[0] * TASK < stop - start or sums.shape[1] != LIMBS + SPECIAL:
                raise ValueError("sums do not match")
            job.sums = &sums[0, 0]
        with nogil:
            bad = run_elements(&job, threads)
        return bad


element_task_size = TASK
