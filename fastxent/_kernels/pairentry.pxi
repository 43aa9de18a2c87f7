# What Python calls to measure the rows of two arrays of logits or probabilities, or of one array of probabilities: a Pairs
# object, as a Rows object of entry.pxi.

@cython.freelist(4)
cdef class Pairs:
    """The rows of one or two arrays of logits or probabilities, and where what is measured of them goes.

    Parameters
    ----------
    p, p_kind, q, q_kind
        Arrays of one shape and any strides, and their storage kinds (`Rows`); both 3 (float64) or neither. Without q
        the entropy of p's rows, probabilities, is measured.
    axis
        The class axis, not negative.
    single
        Results are rounded to float32.
    out
        Array of the batch axes' shape for one statistic, float32 if `single`, else float64; or None.
    shares
        They are probabilities, up to scale.
    classes, column
        For a row that comes in windows (pairwindow.pxi): how many it has, and the first that the arrays (of one axis)
        hold. A run is for segments that lie in them.
    """

    cdef PairJob job
    cdef Py_buffer buffers[3]
    cdef int held
    cdef Py_ssize_t first_column, end     # columns that the arrays hold

    def __init__(self, p, int p_kind, q, int q_kind, int axis, bint single, out=None, bint shares=False,
                 Py_ssize_t classes=-1, Py_ssize_t column=0):
        self.set_up(p, p_kind, q, q_kind, axis, single, out, shares, classes, column)

    cdef int set_up(
        self, p, int p_kind, q, int q_kind, int axis, bint single, out, bint shares, Py_ssize_t classes, Py_ssize_t column
    ) except -1:
        cdef Py_ssize_t *strides[3]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef Py_ssize_t steps[3][MOST_AXES]
        cdef int d, e = 0, a
        cdef bint one = q is None
        if self.held:
            raise ValueError("set up already")
        if one:
            q, q_kind = p, p_kind
        for a in range(3):
            if a == OUT and out is None:
                break
            PyObject_GetBuffer(
                p if a == X else q if a == Q else out, &self.buffers[a], PyBUF_STRIDED_RO | (PyBUF_WRITABLE if a == OUT else 0)
            )
            self.held = a + 1
        if self.buffers[0].ndim > MOST_AXES or not 0 <= axis < self.buffers[0].ndim:
            raise ValueError("axis out of range")
        if self.buffers[1].ndim != self.buffers[0].ndim or (
            self.held > OUT and self.buffers[OUT].ndim != self.buffers[0].ndim - 1
        ):
            raise ValueError("dimensions do not match")
        if (p_kind == F64) != (q_kind == F64):
            raise ValueError("kinds do not match")
        self.job.sides = 1 if one else 2
        self.job.shares = shares or one
        for d in range(self.buffers[0].ndim):
            if self.buffers[1].shape[d] != self.buffers[0].shape[d]:
                raise ValueError("shapes do not match")
            if d == axis:
                continue
            shape[e] = self.buffers[0].shape[d]
            steps[X][e] = self.buffers[0].strides[d]
            steps[Q][e] = self.buffers[1].strides[d]
            steps[OUT][e] = 0
            if self.held > OUT:
                if self.buffers[OUT].shape[e] != shape[e]:
                    raise ValueError("shapes do not match")
                steps[OUT][e] = self.buffers[OUT].strides[e]
            e += 1
        for a in range(3):
            strides[a] = steps[a]
        lay_out(e, shape, strides, 3, &self.job.layout)
        for a in range(2):
            self.job.side[a].x = <const char *>self.buffers[a].buf
            self.job.side[a].kind = q_kind if a else p_kind
            self.job.side[a].stride = self.buffers[a].strides[axis]
        self.job.out = <char *>self.buffers[OUT].buf if self.held > OUT else NULL
        self.job.single = single
        self.job.classes = self.buffers[0].shape[axis]
        self.first_column = 0
        self.end = self.job.classes
        if classes >= 0:
            if self.buffers[0].ndim != 1 or classes <= SEGMENT or not 0 <= column <= classes - self.end:
                raise ValueError("the window does not fit")
            self.first_column = column
            self.end += column
            self.job.windows = True
            self.job.classes = classes
            for a in range(2):
                # to where column 0 would be
                self.job.side[a].x -= column * self.job.side[a].stride
        self.job.segments = max(1, (self.job.classes + SEGMENT - 1) // SEGMENT)
        return 0

    def __dealloc__(self):
        cdef int a
        for a in range(self.held):
            PyBuffer_Release(&self.buffers[a])

    @property
    def count(self):
        """Number of rows."""
        return self.job.layout.rows

    @property
    def segments(self):
        """Column segments a row."""
        return self.job.segments

    def again(self, const uint8_t[::1] workspace):
        """Whether a row in windows wants another reading of its sums, before its pairs."""
        cdef const PairPart *part
        if workspace.shape[0] < <Py_ssize_t>sizeof(PairPart):
            raise ValueError("workspace too small")
        part = <const PairPart *>&workspace[0]
        return self.job.windows and not self.job.shares and (part.hole[0] >= 0 or part.hole[1] >= 0)

    def run(
        self, int what, Py_ssize_t row0, Py_ssize_t row1, int threads, *,
        Py_ssize_t segment0=0, Py_ssize_t segment1=-1, bint first=True, bint sums=True, bint again=False, bint pairs=True,
        uint8_t[::1] workspace=None,
        double[:, ::1] values=None,
        double unit=1.0,
    ):
        """Measure a block; `what` is the sum of 1 KL(P||Q), 2 KL(Q||P), 4 JS, 8 TV (one of them for `out`), 1 for the entropy.

        Gives the number of rows with a negative or infinite probability, once all sums are there; of logits, and with
        `first` alone, the number of those that one reading does not cover.

        `values`, (rows, 4), takes them all, a column each, rounded as `out` is. `workspace` holds `pair_size` bytes a row
        and segment; it is wanted where a row has several, and lives from the first of a row's segments to the last: all
        are to be done with `first` (where `reads_once` says so), then, if a row is left, all with `sums`, then, for a row in
        windows for which `again` says so, all with `again`, then all with `pairs`.
        """
        cdef PairJob job = self.job
        cdef int64_t bad
        cdef Py_ssize_t rows = row1 - row0
        if not 0 <= row0 <= row1 <= job.layout.rows:
            raise ValueError("rows out of range")
        if not 0 < what < 1 << STATISTICS:
            raise ValueError("what is to be measured?")
        job.what = what
        job.row0 = row0
        job.row1 = row1
        job.unit = unit
        job.segment0 = segment0
        job.segment1 = job.segments if segment1 < 0 else segment1
        if not 0 <= job.segment0 <= job.segment1 <= job.segments:
            raise ValueError("segments out of range")
        if not in_window(job.segment0, job.segment1, job.classes, self.first_column, self.end):
            raise ValueError("segments outside the window")
        if values is not None and rows:
            if values.shape[0] < rows or values.shape[1] != STATISTICS:
                raise ValueError("values do not match")
            job.values = &values[0, 0]
        if rows == 0:
            return 0
        if job.segments > 1:
            if workspace is None or workspace.shape[0] < rows * job.segments * <Py_ssize_t>sizeof(PairPart):
                raise ValueError("workspace too small")
            job.parts = <PairPart *>&workspace[0]
        with nogil:
            bad = run_pairs(&job, first, sums, again, pairs, threads)
        return bad


def reads_once(int what, kinds, bint shares):
    """Whether the rows of arrays of these storage kinds are read once for that, where they can be."""
    cdef PairJob job
    cdef int s
    memset(&job, 0, sizeof(job))
    job.what = what
    job.sides = min(2, <int>len(kinds))
    job.shares = shares or job.sides == 1
    for s in range(job.sides):
        job.side[s].kind = kinds[s]
    return in_one_reading(&job)


pair_size = sizeof(PairPart)
