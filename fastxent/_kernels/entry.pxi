# What Python calls: a Rows object walks the rows of an array block by block, and the exact sums and elementary functions
# have a function each.
#
# Values are checked by fastxent/_arrays.py; here only what would read or write outside an array is refused. The loops
# release the GIL, raise nothing and give counts; the facade words the errors.


cdef inline void set_mode(Job *job, int mode) noexcept nogil:
    # few classes would fill no vector: lanes are rows then, as where the class axis is strided
    cdef bint few
    job.mode = mode
    few = job.classes <= (NARROW_SINGLE if job.single and not has_outputs(job) else NARROW)
    if mode == ENTROPY:
        # a strided class axis goes row by row
        job.strided = few and job.class_stride == itemsize(job.kind)
    else:
        job.strided |= few


@cython.freelist(4)
cdef class Rows:
    """The rows of one array, with their labels and where their results go.

    Parameters
    ----------
    x
        Array of any strides, of a storage `kind`; the buffer protocol gives shape and strides.
    kind
        0 float32, 1 float16 (raw), 2 bfloat16 (raw), 3 float64.
    axis
        The class axis, not negative.
    labels, label_code
        Array of x's shape without the axis, or None; size of its items + 16 if signed + 32 if byte-swapped.
    out
        For row results: x's shape without the axis. For softmax: x's shape. Or None. float32, or float64 for kind 3.
    classes
        For a row that comes in windows (window.pxi): how many it has; `x`, and `out` of softmax, are the window then,
        of one axis. Each reading of the row is one call of `run` for each window, until the stage is DONE.
    """

    cdef Job job
    cdef Py_buffer x, labels, out
    cdef bint has_x, has_labels, has_out
    cdef Window window

    def __init__(self, x, int kind, int axis, labels=None, int label_code=0, out=None, Py_ssize_t classes=-1):
        self.set_up(x, kind, axis, labels, label_code, out, classes)

    cdef int set_up(
        self, x, int kind, int axis, labels, int label_code, out, Py_ssize_t classes
    ) except -1:
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef Py_ssize_t steps[MOST_ARRAYS][MOST_AXES]
        cdef int d, e = 0, a
        cdef bint full
        if self.has_x:
            raise ValueError("set up already")
        PyObject_GetBuffer(x, &self.x, PyBUF_STRIDED_RO)
        self.has_x = True
        if labels is not None:
            PyObject_GetBuffer(labels, &self.labels, PyBUF_STRIDED_RO)
            self.has_labels = True
        if out is not None:
            PyObject_GetBuffer(out, &self.out, PyBUF_STRIDED_RO | PyBUF_WRITABLE)
            self.has_out = True
        full = self.has_out and self.out.ndim == self.x.ndim
        if self.x.ndim > MOST_AXES or not 0 <= axis < self.x.ndim:
            raise ValueError("axis out of range")
        if (self.has_labels and self.labels.ndim != self.x.ndim - 1) or (
            self.has_out and not full and self.out.ndim != self.x.ndim - 1
        ):
            raise ValueError("dimensions do not match")
        for d in range(self.x.ndim):
            if d == axis:
                if full and self.out.shape[d] != self.x.shape[d]:
                    raise ValueError("shapes do not match")
                continue
            shape[e] = self.x.shape[d]
            steps[X][e] = self.x.strides[d]
            steps[LABELS][e] = steps[OUT][e] = 0
            if self.has_labels:
                if self.labels.shape[e] != shape[e]:
                    raise ValueError("shapes do not match")
                steps[LABELS][e] = self.labels.strides[e]
            if self.has_out:
                if self.out.shape[d if full else e] != shape[e]:
                    raise ValueError("shapes do not match")
                steps[OUT][e] = self.out.strides[d if full else e]
            e += 1
        for a in range(ROW_ARRAYS):
            strides[a] = steps[a]
        lay_out(e, shape, strides, ROW_ARRAYS, &self.job.layout)
        self.job.kind = kind
        self.job.label_code = label_code if self.has_labels else 0
        self.job.x = <const char *>self.x.buf
        self.job.labels = <const char *>self.labels.buf
        self.job.out = <char *>self.out.buf
        self.job.single = kind != F64
        self.job.classes = self.x.shape[axis]
        self.job.class_stride = self.x.strides[axis]
        self.job.out_class_stride = self.out.strides[axis] if full else 0
        if classes >= 0:
            if self.x.ndim != 1:
                raise ValueError("a window has one axis")
            self.window.columns = self.job.classes
            self.job.window = &self.window
            self.job.classes = classes
        self.job.segments = max(1, (self.job.classes + SEGMENT - 1) // SEGMENT)
        self.job.strided = self.job.classes > 1 and self.job.class_stride != itemsize(kind)
        if self.job.classes <= 1:
            self.job.class_stride = itemsize(kind)
        self.job.inner = 1
        if self.job.layout.axes:
            self.job.inner = max(1, self.job.layout.shape[self.job.layout.axes - 1])
        return 0

    def __dealloc__(self):
        if self.has_x:
            PyBuffer_Release(&self.x)
        if self.has_labels:
            PyBuffer_Release(&self.labels)
        if self.has_out:
            PyBuffer_Release(&self.out)

    @property
    def count(self):
        """Number of rows."""
        return self.job.layout.rows

    @property
    def inner(self):
        """Rows that lie in one line; a block of strided rows may end anywhere in the last line of its range."""
        return self.job.inner

    @property
    def segments(self):
        """Column segments a row."""
        return self.job.segments

    @property
    def writes(self):
        """Whether the next reading of a row in windows gives its outputs."""
        return self.window.stage == OUTPUTS

    @property
    def done(self):
        """Whether a row in windows wants no further reading."""
        return self.window.stage == DONE

    def label(self, ignore=None):
        """Column of the label of a row in windows; -1 without one that counts."""
        cdef Job job = self.job
        cdef LabelStatus status
        if job.window == NULL:
            raise ValueError("not a row in windows")
        if ignore is not None:
            job.has_ignore = True
            job.ignore = ignore
        return label_of(&job, 0, &status)

    def take_label(self):
        """Take the first element of the window as the label's."""
        if self.window.columns < 1:
            raise ValueError("no window")
        self.window.x_label = load_one(self.job.x, self.job.kind)

    def run(
        self, int mode, Py_ssize_t row0, Py_ssize_t row1, int threads, *,
        Py_ssize_t segment0=0, Py_ssize_t segment1=-1,
        uint8_t[::1] workspace=None,
        ignore=None,
        const double[::1] weights=None,
        double[::1] row_weights=None,
        flat=None,
        double[:, ::1] stats=None,
        uint8_t[::1] status=None,
        double unit=1.0,
        double seconds=INFINITY,
    ):
        """Do a block, or, where a row is one segment, its first rows: nothing is begun when `seconds` are over.

        Gives how many, and the numbers of ignored and of invalid rows (at the last segment, else zeros).

        `workspace` holds `partial_size` bytes a row and segment and lives as long as the rows' segments are under way; it
        is wanted where a row has several. `flat` takes the row results of the block instead of `out`; `stats`, (rows, 8),
        those of mode 2: loss, lse, p_label, confidence, entropy, brier and, as int64, argmax and rank. Without labels loss
        and p_label are NaN, rank is -1, and brier is the sum of the squared probabilities. `unit` is the unit of the
        entropies of mode 5, in nats.
        """
        cdef Job job = self.job
        cdef const char[::1] out
        cdef int64_t counts
        cdef Py_ssize_t rows = row1 - row0
        if not 0 <= row0 <= row1 <= job.layout.rows:
            raise ValueError("rows out of range")
        set_mode(&job, mode)
        job.unit = unit
        job.row0 = row0
        job.row1 = row1
        job.segment0 = segment0
        job.segment1 = job.segments if segment1 < 0 else segment1
        if not 0 <= job.segment0 <= job.segment1 <= job.segments:
            raise ValueError("segments out of range")
        if job.window != NULL and min(job.classes, job.segment1 * SEGMENT) - job.segment0 * SEGMENT > job.window.columns:
            raise ValueError("the window is too small")
        if job.segments > 1 or job.window != NULL:
            if workspace is None or workspace.shape[0] < rows * job.segments * <Py_ssize_t>sizeof(Partial):
                raise ValueError("workspace too small")
            if rows:
                job.parts = <Partial *>&workspace[0]
        if ignore is not None:
            job.has_ignore = True
            job.ignore = ignore
        if weights is not None:
            if weights.shape[0] != job.classes:
                raise ValueError("weights do not match")
            if job.classes:
                job.weights = &weights[0]
        if row_weights is not None and rows and job.weights != NULL:
            if row_weights.shape[0] < rows:
                raise ValueError("row_weights too small")
            job.row_weights = &row_weights[0]
        if status is not None and rows:
            if status.shape[0] < rows:
                raise ValueError("status too small")
            job.status = &status[0]
        if flat is not None:
            out = flat.view("b") if rows else None
            if rows:
                if out.shape[0] < rows * (4 if job.single else 8):
                    raise ValueError("flat too small")
                job.out = <char *>&out[0]
            job.flat = True
        if mode == STATS:
            if stats is None or stats.shape[0] < rows or stats.shape[1] * 8 != sizeof(RowStats) or self.job.strided:
                raise ValueError("stats do not match")
            if rows:
                job.stats = <RowStats *>&stats[0, 0]
        elif not job.flat and not self.has_out:
            raise ValueError("no room for results")
        if mode == LOSS and not self.has_labels:
            raise ValueError("labels are wanted")
        with nogil:
            counts = run_job(&job, threads, seconds)
        return job.row1 - row0, counts & 0xffffffffLL, counts >> 32


    def add_losses(
        self, Py_ssize_t row0, Py_ssize_t row1, int threads, int64_t[:, ::1] sums, uint8_t[:, ::1] room, *,
        ignore=None,
        const double[::1] weights=None,
        double seconds=INFINITY,
    ):
        """Add the losses of the first rows, of one segment each, to exact sums: nothing is begun when `seconds` are over.

        Gives what `run` gives. `sums` has one for each thread, `room` some rows' losses.
        """
        cdef Job job = self.job
        cdef Adders adders
        cdef int64_t counts
        if not 0 <= row0 < row1 <= job.layout.rows:
            raise ValueError("rows out of range")
        set_mode(&job, LOSS)
        job.row0 = row0
        job.row1 = row1
        job.segment1 = job.segments
        adders.rows = room.shape[1] // (4 if job.single else 8)
        if job.segments > 1 or job.window != NULL or not self.has_labels:
            raise ValueError("labels and rows of one segment are wanted")
        if threads < 1 or room.shape[0] < threads or adders.rows < 1:
            raise ValueError("no room for results")
        if sums.shape[0] < threads or sums.shape[1] != LIMBS + SPECIAL:
            raise ValueError("sums do not match")
        if ignore is not None:
            job.has_ignore = True
            job.ignore = ignore
        if weights is not None:
            if weights.shape[0] != job.classes:
                raise ValueError("weights do not match")
            job.weights = &weights[0]
        adders.sums = &sums[0, 0]
        adders.room = <char *>&room[0, 0]
        with nogil:
            counts = run_adders(&adders, &job, threads, seconds)
        return job.row1 - row0, counts & 0xffffffffLL, counts >> 32


cdef int hold_limbs(sums, Py_buffer *view, bint writable) except -1:
    """The 73 integers of an exact sum. A typed memoryview would take a microsecond."""
    PyObject_GetBuffer(sums, view, PyBUF_ND | (PyBUF_WRITABLE if writable else 0))
    if view.len != (LIMBS + SPECIAL) * 8 or view.itemsize != 8:
        PyBuffer_Release(view)
        raise ValueError("sums do not match")
    return 0


def add_exact(sums, values):
    """Add float32 or float64 `values`, contiguous, to an exact sum of 73 integers (exact.pxi)."""
    cdef Py_buffer limbs, view
    cdef uint64_t control
    hold_limbs(sums, &limbs, True)
    try:
        PyObject_GetBuffer(values, &view, PyBUF_ND)
        try:
            if view.itemsize != 4 and view.itemsize != 8:
                raise ValueError("values are float32 or float64")
            with nogil:
                control = fx_fp_enter()
                add_many(
                    <int64_t *>limbs.buf, <const char *>view.buf, view.itemsize == 4, view.len // view.itemsize
                )
                fx_fp_leave(control)
        finally:
            PyBuffer_Release(&view)
    finally:
        PyBuffer_Release(&limbs)


def exact_mean(sums, uint64_t divisor):
    """An exact sum over a divisor in [1, 2^32), rounded once."""
    cdef Py_buffer view
    cdef int64_t limbs[LIMBS + SPECIAL]
    if not 0 < divisor < <uint64_t>1 << 32:
        raise ValueError("divisor out of range")
    hold_limbs(sums, &view, False)
    memcpy(limbs, view.buf, sizeof(limbs))
    PyBuffer_Release(&view)
    return exact_quotient(limbs, divisor)


def add_exact_products(int64_t[::1] sums, const double[::1] x, const double[::1] y):
    """Add the exact products x y of contiguous values to an exact sum (exact.pxi)."""
    cdef uint64_t control
    if sums.shape[0] != LIMBS + SPECIAL or x.shape[0] != y.shape[0]:
        raise ValueError("sums do not match")
    if x.shape[0]:
        with nogil:
            control = fx_fp_enter()
            add_products(&sums[0], &x[0], &y[0], x.shape[0])
            fx_fp_leave(control)


def exact_span(const double[::1] values):
    """Lowest limb that the finite values touch, and the one behind the highest; (0, 0) where all are 0."""
    cdef Py_ssize_t i
    cdef uint64_t bits
    cdef int64_t place, low = LIMBS, high = 0
    with nogil:
        for i in range(values.shape[0]):
            memcpy(&bits, &values[i], 8)
            place = <int64_t>((bits >> 52) & 2047)
            if place == 2047 or bits << 1 == 0:
                continue
            place = (max(place, 1) - 1) >> 5
            low = min(low, place)
            high = max(high, place + 3)
    return (low if high else 0), high


def add_exact_at(int64_t[:, :] sums, Py_ssize_t first, const int64_t[::1] places, const double[::1] values):
    """Add each value to the exact sum of its place.

    A sum here is a window of limbs, from limb `first` on, and the three counts: many sums of ordinary size need not
    hold the limbs of 1e-300. Nothing is carried: 2^30 additions fit. The window must hold `exact_span` of the values.
    """
    cdef Py_ssize_t i, k, limbs = sums.shape[1] - SPECIAL
    cdef int64_t digits[3]
    cdef int64_t place, special
    cdef bint fits = limbs >= 3
    if places.shape[0] != values.shape[0]:
        raise ValueError("sums do not match")
    with nogil:
        for i in range(values.shape[0]):
            special = digits_of(values[i], &place, digits)
            if not 0 <= places[i] < sums.shape[0]:
                fits = False
            elif special >= 0:
                sums[places[i], limbs + special] += 1
            elif place >= 0:
                if place < first or place + 3 > first + limbs:
                    fits = False
                else:
                    for k in range(3):
                        sums[places[i], place - first + k] += digits[k]
    if not fits:
        raise ValueError("a value lies outside the sums")


def elementary(str name, const double[::1] x, double[::1] out):
    """exp, log, log1p or expm1 of each value."""
    cdef Py_ssize_t i
    cdef int which = ("exp", "log", "log1p", "expm1").index(name)
    cdef uint64_t control
    if x.shape[0] != out.shape[0]:
        raise ValueError("shapes do not match")
    with nogil:
        control = fx_fp_enter()
        for i in range(x.shape[0]):
            if which == 0:
                out[i] = exp_(x[i])
            elif which == 1:
                out[i] = log_(x[i])
            elif which == 2:
                out[i] = log1p_(x[i])
            else:
                out[i] = expm1_(x[i])
        fx_fp_leave(control)


cdef inline void elementary_lanes(int which, const char *x, char *out, Py_ssize_t n, vec like) noexcept nogil:
    """A function of n contiguous values, FX_NI vectors at a time; the last ones through a buffer."""
    cdef vec a[FX_NI]
    cdef vec b[FX_NI]
    cdef Py_ssize_t i, lanes = FX_NI * width(like), size = sizeof(vec) // width(like)
    i = -lanes
    while i + lanes < n:
        i += lanes
        memset(a, 0, sizeof(a))
        memcpy(a, x + i * size, min(lanes, n - i) * size)
        if which == 1:
            vlog(a, b)
        elif which == 2:
            vlog1p(a, b)
        else:
            vexpm1(a, b)
        memcpy(out + i * size, b, min(lanes, n - i) * size)


def elementary_vectors(str name, x, out):
    """log, log1p or expm1 of each float32 or float64 value, by the vector functions: for the tests."""
    cdef const uint8_t[::1] source = x.view("u1")
    cdef uint8_t[::1] result = out.view("u1")
    cdef int which = ("exp", "log", "log1p", "expm1").index(name)
    cdef bint single = x.itemsize == 4
    cdef Py_ssize_t n = len(x)
    cdef uint64_t control
    if which == 0 or x.itemsize != out.itemsize or x.itemsize not in (4, 8) or len(out) != n or n == 0:
        raise ValueError("arrays do not match")
    with nogil:
        control = fx_fp_enter()
        if single:
            elementary_lanes(which, <const char *>&source[0], <char *>&result[0], n, vf_splat(0))
        else:
            elementary_lanes(which, <const char *>&source[0], <char *>&result[0], n, vd_splat(0))
        fx_fp_leave(control)


cdef double read_lines(const char *x, Py_ssize_t vectors) noexcept nogil:
    cdef vf acc[8]
    cdef Py_ssize_t i, k
    for k in range(8):
        acc[k] = vf_splat(0)
    for i in range(0, vectors - 7, 8):
        fx_prefetch(x + i * sizeof(vf) + 4 * FX_PREFETCH)
        fx_prefetch(x + i * sizeof(vf) + 4 * FX_PREFETCH + 64)
        if sizeof(vf) > 16:
            fx_prefetch(x + i * sizeof(vf) + 4 * FX_PREFETCH + 128)
            fx_prefetch(x + i * sizeof(vf) + 4 * FX_PREFETCH + 192)
        for k in range(8):
            acc[k] = acc[k] + vf_load(x + (i + k) * sizeof(vf))
    return vf_top(acc[0] + acc[1] + acc[2] + acc[3] + acc[4] + acc[5] + acc[6] + acc[7])


def read_all(const float[::1] x, int threads):
    """Read an array as a plain vectorised sum does: the yardstick of bench/. Gives no sum worth having."""
    cdef Py_ssize_t piece = 1 << 18, pieces = x.shape[0] // (1 << 18), i
    cdef double total = 0.0
    if pieces == 0:
        return 0.0
    cdef const char *p = <const char *>&x[0]
    for i in prange(pieces, num_threads=threads, schedule="static", nogil=True):
        total += read_lines(p + i * piece * 4, piece * 4 // <Py_ssize_t>sizeof(vf))
    return total


row_format = ROW_FORMAT
segment_columns = SEGMENT
partial_size = sizeof(Partial)
exact_size = LIMBS + SPECIAL
fused = bool(FX_FMA)
