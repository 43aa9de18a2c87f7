# Tasks of the elementwise functions, and the class that Python calls: TASK elements each, taken PIECE at a time through
# small buffers on the stack; the results go where they belong, or into an exact sum.

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


cdef int64_t element_task(const void *of, int phase, Py_ssize_t task) noexcept nogil:
    """Whether an x was out of range, and 2^32 times whether a target was."""
    cdef const ElementJob *job = <const ElementJob *>of
    cdef char raw[8 * PIECE]
    cdef char buffers[OPERANDS][8 * PIECE]
    cdef char batch[4 * BATCH]  # results that are only added up
    cdef Py_ssize_t waiting = 0
    cdef const char *data[4]
    cdef char *out
    cdef char *gradient
    cdef int a, bad = 0, native = F32 if job.single else F64
    cdef bint batched = job.sums != NULL and job.single and job.data[RESULTS] == NULL
    cdef bint past = job.layout.rows * code_size(native) >= FX_PAST, lies
    cdef uint64_t control = fx_fp_enter()
    cdef Py_ssize_t i = job.start + task * TASK, n = 0, whole = vectors_length(native)
    cdef Py_ssize_t start = i, end = min(job.start + (task + 1) * TASK, job.stop), head
    while i + n < end:
        i += n
        n = min(PIECE, end - i)
        if past and i == start and job.data[RESULTS] != NULL:
            head = fx_before_line(job.data[RESULTS] + offset_of(&job.layout, RESULTS, i)) // code_size(native)
            if head:
                n = min(n, head)
        if n > whole:
            n -= n % whole  # the last ones, which fill no vectors, come by themselves
        for a in range(4):
            data[a] = stage(job, a, i, n, raw, buffers[a])
        out = buffers[RESULTS]
        lies = job.data[RESULTS] != NULL and as_it_lies(job, RESULTS, i, n, native)
        gradient = buffers[GRADIENTS] if job.data[GRADIENTS] != NULL else NULL
        if batched:
            out = batch + 4 * waiting
        elif lies and not past:
            out = job.data[RESULTS] + offset_of(&job.layout, RESULTS, i)
        if gradient != NULL and as_it_lies(job, GRADIENTS, i, n, native):
            gradient = job.data[GRADIENTS] + offset_of(&job.layout, GRADIENTS, i)
        if job.single:
            bad |= compute_f32(job, data, n, out, gradient)
        else:
            bad |= compute_f64(job, data, n, out, gradient)
        if lies and past:
            fx_copy_past(job.data[RESULTS] + offset_of(&job.layout, RESULTS, i), out, n * code_size(native))
        elif out == buffers[RESULTS]:
            put_piece(job, RESULTS, i, n, out)
        if gradient == buffers[GRADIENTS]:
            put_piece(job, GRADIENTS, i, n, gradient)
        if batched:
            waiting += n
            if waiting + PIECE > BATCH or i + n == end:
                add_singles(job.sums + task * (LIMBS + SPECIAL), <const float *>batch, waiting)
                waiting = 0
        elif job.sums != NULL:
            add_many(job.sums + task * (LIMBS + SPECIAL), out, job.single_out, n)
    if job.sums != NULL:
        carry(job.sums + task * (LIMBS + SPECIAL))
    if past:
        fx_past_done()
    fx_fp_leave(control)
    return (1 if bad & BAD_X else 0) + ((<int64_t>1 << 32) if bad & BAD_TARGET else 0)


cdef int run_elements(ElementJob *job, int threads, double seconds) noexcept nogil:
    """The first elements, as many as there is time for; `stop` becomes their end."""
    cdef Py_ssize_t tasks = (job.stop - job.start + TASK - 1) // TASK, done
    cdef int64_t counts = run_tasks(element_task, job, 0, tasks, TASK, threads, seconds, &done)
    job.stop = min(job.start + done * TASK, job.stop)
    return (BAD_X if counts & 0xffffffffLL else 0) | (BAD_TARGET if counts >> 32 else 0)


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

    def run(
        self, Py_ssize_t start, Py_ssize_t stop, int threads, int64_t[:, ::1] sums=None, double seconds=INFINITY
    ):
        """Do the elements from `start` to `stop`, or the first of them: nothing is begun when `seconds` are over.

        Gives where it ended, and what was wrong: 1 for an x out of range, 2 for a target.

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
            bad = run_elements(&job, threads, seconds)
        return job.stop, bad


element_task_size = TASK
