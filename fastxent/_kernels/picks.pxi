# The label's element of each row and nothing else: minus it, times weights, is the negative log-likelihood.
#
# One element a row is read, of any dtype and byte order, wherever it lies: what this costs is cache misses. Labels are
# read once, checked, and used from the register (labels.pxi).

# arrays of a Layout
cdef enum:
    PICKED_X = 0
    PICKED_LABELS = 1
    PICKED_SAMPLE = 2
    PICKED_OUT = 3
    PICKED_ARRAYS = 4

cdef enum:
    PICKED_TASK = 4096     # rows a thread takes at a time
    PICKED_AHEAD = 24      # rows ahead, whose element is fetched


cdef struct PickJob:
    Layout layout
    char *data[PICKED_ARRAYS]
    int code[PICKED_ARRAYS]  # label's: labels.pxi; all others': elementitems.pxi
    bint has_ignore
    uint64_t ignore
    Py_ssize_t classes, class_stride
    const double *weights    # a class, or NULL
    double *row_weights      # a row from `start`, or NULL
    bint single              # results are float32
    char *flat               # a result a row from `start`, instead of the array
    Py_ssize_t start, stop


cdef inline double item_of(const char *p, int code) noexcept nogil:
    """One number of any dtype and byte order."""
    cdef char raw[16]
    cdef double value
    cdef Py_ssize_t size
    if code == F32:
        return fx_f32(p)
    if code == F64:
        return fx_f64(p)
    size = code_size(code)
    memcpy(raw, p, size)
    if code & SWAPPED:
        swap_bytes(raw, size, 1)
    convert_items(raw, code & 31, 1, &value)
    return value


cdef inline void find_line(const PickJob *job, Py_ssize_t row, char **at, Py_ssize_t *step) noexcept nogil:
    """Where the arrays are at a row, and how far it is to the next one of its line."""
    cdef int a
    for a in range(PICKED_ARRAYS):
        at[a] = job.data[a]
        step[a] = 0
        if at[a] != NULL and job.layout.axes:
            at[a] += offset_of(&job.layout, a, row)
            step[a] = job.layout.strides[a][job.layout.axes - 1]


cdef inline double factor_of(const PickJob *job, uint64_t label, const char *sample, int64_t *counts) noexcept nogil:
    """What a row counts with; 0 for an ignored one and an invalid one, which are counted."""
    cdef double factor = 1.0
    if job.has_ignore and label == job.ignore:
        counts[0] += 1
        return 0.0
    if label >= <uint64_t>job.classes:
        counts[0] += <int64_t>1 << 32
        return 0.0
    if job.weights != NULL:
        factor = job.weights[label]
    if sample != NULL:
        factor = factor * item_of(sample, job.code[PICKED_SAMPLE])
    return factor


cdef inline int64_t pick_line(
    const PickJob *job, Py_ssize_t n, const char *x, Py_ssize_t step, const char *labels, Py_ssize_t label_step,
    char *place, Py_ssize_t place_step, int x_code, Py_ssize_t ahead,
) noexcept nogil:
    """Rows of one line without weights, with labels of int64; x_code and `ahead` are constants."""
    cdef uint64_t label, classes = <uint64_t>job.classes, ignore = job.ignore
    cdef bint has_ignore = job.has_ignore, single = job.single
    cdef Py_ssize_t stride = job.class_stride, i
    cdef int64_t counts = 0
    cdef double loss
    cdef float narrow
    for i in range(n):
        if ahead:
            memcpy(&label, labels + ahead * label_step, 8)
            if label < classes:
                fx_prefetch(x + ahead * step + <Py_ssize_t>label * stride)
        memcpy(&label, labels, 8)
        loss = 0.0
        if has_ignore and label == ignore:
            counts += 1
        elif label >= classes:
            counts += <int64_t>1 << 32
        else:
            loss = -1.0 * item_of(x + <Py_ssize_t>label * stride, x_code)
        if single:
            narrow = <float>loss
            memcpy(place, &narrow, 4)
        else:
            memcpy(place, &loss, 8)
        x += step
        labels += label_step
        place += place_step
    return counts


cdef inline int64_t pick_lines(const PickJob *job, Py_ssize_t start, Py_ssize_t stop, int x_code) noexcept nogil:
    """Line by line; the last rows of a line have none ahead."""
    cdef Py_ssize_t row = start, line = job.layout.shape[job.layout.axes - 1] if job.layout.axes else 1, n, some
    cdef Py_ssize_t size = 4 if job.single else 8
    cdef char *at[PICKED_ARRAYS]
    cdef Py_ssize_t step[PICKED_ARRAYS]
    cdef int64_t counts = 0
    cdef int a
    while row < stop:
        n = min(line - row % line, stop - row)
        find_line(job, row, at, step)
        if job.flat != NULL:
            at[PICKED_OUT] = job.flat + (row - job.start) * size
            step[PICKED_OUT] = size
        some = max(0, n - PICKED_AHEAD)
        counts += pick_line(
            job, some, at[PICKED_X], step[PICKED_X], at[PICKED_LABELS], step[PICKED_LABELS], at[PICKED_OUT],
            step[PICKED_OUT], x_code, PICKED_AHEAD,
        )
        for a in range(PICKED_ARRAYS):
            at[a] += some * step[a]
        counts += pick_line(
            job, n - some, at[PICKED_X], step[PICKED_X], at[PICKED_LABELS], step[PICKED_LABELS], at[PICKED_OUT],
            step[PICKED_OUT], x_code, 0,
        )
        row += n
    return counts


cdef int64_t pick_any(const PickJob *job, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Rows with labels of any dtype, and any weights."""
    cdef uint64_t label, ahead
    cdef int64_t counts = 0
    cdef Py_ssize_t row, line = job.layout.shape[job.layout.axes - 1] if job.layout.axes else 1, left = 0
    cdef char *at[PICKED_ARRAYS]
    cdef Py_ssize_t step[PICKED_ARRAYS]
    cdef int label_code = job.code[PICKED_LABELS]
    cdef double factor, loss
    cdef float single
    cdef char *place
    cdef int a
    for row in range(start, stop):
        if left == 0:
            left = min(line - row % line, stop - row)
            find_line(job, row, at, step)
        left -= 1
        if left >= PICKED_AHEAD:
            ahead = read_label(at[PICKED_LABELS] + PICKED_AHEAD * step[PICKED_LABELS], label_code)
            if ahead < <uint64_t>job.classes:
                fx_prefetch(at[PICKED_X] + PICKED_AHEAD * step[PICKED_X] + <Py_ssize_t>ahead * job.class_stride)
        label = read_label(at[PICKED_LABELS], label_code)
        factor = factor_of(job, label, at[PICKED_SAMPLE], &counts)
        loss = 0.0
        # a weight of 0 counts nothing, whatever the loss
        if factor != 0.0:
            loss = -factor * item_of(at[PICKED_X] + <Py_ssize_t>label * job.class_stride, job.code[PICKED_X])
        if job.row_weights != NULL:
            job.row_weights[row - job.start] = factor
        place = at[PICKED_OUT]
        if job.flat != NULL:
            place = job.flat + (row - job.start) * (4 if job.single else 8)
        if job.single:
            single = <float>loss
            memcpy(place, &single, 4)
        else:
            memcpy(place, &loss, 8)
        for a in range(PICKED_ARRAYS):
            at[a] += step[a]
    return counts


cdef int64_t pick_rows(const PickJob *job, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Score the rows; counts as `run_job` gives them."""
    cdef uint64_t control = fx_fp_enter()
    cdef bint weighted = job.data[PICKED_SAMPLE] != NULL or job.weights != NULL or job.row_weights != NULL
    cdef int64_t counts
    if weighted or job.code[PICKED_LABELS] != 8 + SIGNED:
        counts = pick_any(job, start, stop)
    elif job.code[PICKED_X] == F32:
        counts = pick_lines(job, start, stop, F32)
    elif job.code[PICKED_X] == F64:
        counts = pick_lines(job, start, stop, F64)
    else:
        counts = pick_any(job, start, stop)
    fx_fp_leave(control)
    return counts


@cython.freelist(4)
cdef class Picks:
    """Rows of which the label's element is wanted.

    Parameters
    ----------
    x, x_code
        Array of any strides; its dtype as elementitems.pxi numbers them.
    axis
        The class axis, not negative.
    labels, label_code
        Array of x's shape without the axis; labels.pxi.
    sample, sample_code
        A weight for each row, of the labels' shape, or None.
    out
        For results, native float32 or float64, of the labels' shape, or None.
    single
        Whether results are float32.
    """

    cdef PickJob job
    cdef Py_buffer buffers[PICKED_ARRAYS]
    cdef int held[PICKED_ARRAYS]

    def __init__(
        self, x, int x_code, int axis, labels, int label_code, sample, int sample_code, out, bint single
    ):
        self.set_up(x, x_code, axis, labels, label_code, sample, sample_code, out, single)

    cdef int set_up(
        self, x, int x_code, int axis, labels, int label_code, sample, int sample_code, out, bint single
    ) except -1:
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t steps[MOST_ARRAYS][MOST_AXES]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef int a, d, e, axes
        cdef int codes[PICKED_ARRAYS]
        if self.held[PICKED_X]:
            raise ValueError("set up already")
        memset(steps, 0, sizeof(steps))
        codes[:] = [x_code, label_code, sample_code, F32 if single else F64]
        for a, array in enumerate((x, labels, sample, out)):
            strides[a] = steps[a]
            if array is None:
                continue
            PyObject_GetBuffer(
                array, &self.buffers[a], PyBUF_STRIDED_RO | (PyBUF_WRITABLE if a == PICKED_OUT else 0)
            )
            self.held[a] = 1
            self.job.data[a] = <char *>self.buffers[a].buf
            self.job.code[a] = codes[a]
            if a != PICKED_LABELS and self.buffers[a].itemsize != code_size(self.job.code[a]):
                raise ValueError("dtypes do not match")
        axes = self.buffers[PICKED_X].ndim
        if not self.held[PICKED_LABELS] or axes > MOST_AXES or not 0 <= axis < axes:
            raise ValueError("axis out of range")
        e = 0
        for d in range(axes):
            if d == axis:
                continue
            shape[e] = self.buffers[PICKED_X].shape[d]
            steps[PICKED_X][e] = self.buffers[PICKED_X].strides[d]
            for a in range(1, PICKED_ARRAYS):
                if self.held[a]:
                    if self.buffers[a].ndim != axes - 1 or self.buffers[a].shape[e] != shape[e]:
                        raise ValueError("shapes do not match")
                    steps[a][e] = self.buffers[a].strides[e]
            e += 1
        lay_out(e, shape, strides, PICKED_ARRAYS, &self.job.layout)
        self.job.classes = self.buffers[PICKED_X].shape[axis]
        self.job.class_stride = self.buffers[PICKED_X].strides[axis]
        self.job.single = single
        return 0

    def __dealloc__(self):
        cdef int a
        for a in range(PICKED_ARRAYS):
            if self.held[a]:
                PyBuffer_Release(&self.buffers[a])

    @property
    def count(self):
        """Number of rows."""
        return self.job.layout.rows

    def run(
        self, Py_ssize_t start, Py_ssize_t stop, int threads, *,
        ignore=None, const double[::1] weights=None, double[::1] row_weights=None, flat=None,
    ):
        """Do the rows from `start` to `stop`; give the numbers of ignored and of invalid ones.

        `flat` takes their results instead of `out`, `row_weights` what each counts with.
        """
        cdef PickJob job = self.job
        cdef const char[::1] results
        cdef int64_t counts = 0
        cdef Py_ssize_t rows = stop - start, task, tasks = (rows + PICKED_TASK - 1) // PICKED_TASK
        if not 0 <= start <= stop <= job.layout.rows:
            raise ValueError("rows out of range")
        if rows == 0:
            return 0, 0
        job.start, job.stop = start, stop
        if ignore is not None:
            job.has_ignore, job.ignore = True, ignore
        if weights is not None:
            if weights.shape[0] != job.classes:
                raise ValueError("weights do not match")
            job.weights = &weights[0]
        if row_weights is not None:
            if row_weights.shape[0] < rows:
                raise ValueError("row_weights too small")
            job.row_weights = &row_weights[0]
        if flat is not None:
            results = flat.view("b")
            if results.shape[0] < rows * (4 if job.single else 8):
                raise ValueError("flat too small")
            job.flat = <char *>&results[0]
        elif job.data[PICKED_OUT] == NULL:
            raise ValueError("no room for results")
        if threads <= 1 or tasks <= 1:
            with nogil:
                counts = pick_rows(&job, start, stop)
        else:
            for task in prange(tasks, num_threads=threads, schedule="dynamic", nogil=True):
                counts += pick_rows(&job, start + task * PICKED_TASK, min(start + (task + 1) * PICKED_TASK, stop))
        return counts & 0xffffffffLL, counts >> 32
