# Losses against a distribution a row, from logits or probabilities, and the gradient by the logits: tasks and entry.
#
# The formulas are in target_terms.pxi and target_rows.pxi. A task is some rows, some pieces of rows that are taken in
# lanes (target_lanes.pxi), or, where a row has several segments, one of a row: three phases then, of which the first
# leaves a TargetPart for each segment, the second merges them and the third writes the gradient.


cdef inline Scored *scored_of(const TargetJob *job, Py_ssize_t row) noexcept nogil:
    """What the second phase leaves of a row for the third, in the place of its first part."""
    return <Scored *>&job.parts[(row - job.row0) * job.segments]


cdef inline void take_label(
    const TargetJob *job, Py_ssize_t row, int64_t label, Py_ssize_t s, TargetPart *part
) noexcept nogil:
    """Keep the label's element, if it is in segment s: the row may be out of reach when it is finished."""
    if label >= 0 and label // SEGMENT == s:
        part.x_label = load_one(job.x + offset_of(&job.layout, X, row) + label * job.class_stride, job.kind)


cdef int64_t finish_row_target(
    const TargetJob *job, Py_ssize_t row, int64_t label, double x_label, uint8_t status, TargetPart *part,
    Scored *scored,
) noexcept nogil:
    """Write a row's loss; give its counts."""
    cdef double sample = 1.0, w = 1.0, loss = 0.0
    cdef int64_t counts = count_of(status)
    if job.sample != NULL:
        sample = load_one(job.sample + offset_of(&job.layout, SAMPLE, row), job.sample_kind)
    if label >= 0 and job.weights != NULL:
        w = job.weights[label]
    if job.row_weights != NULL:
        job.row_weights[row - job.row0] = sample * w if status == USED else 0.0
    if job.count_only:
        return counts
    scored.factor = scored.total = scored.total_lo = scored.hi = 0.0
    scored.k = -1
    # such a row counts nothing, whatever its logits
    if status == USED and sample != 0.0 and not (w == 0.0 and job.own_label):
        if part.bad:
            counts += <int64_t>1 << (2 * COUNT_BITS)
        loss = sample * finish_target(job, label, x_label, w, part, scored)
        scored.factor = sample / job.denominator / job.temperature
    put_number(place_of_loss(job, row), job.single, loss)
    return counts


cdef void write_row_gradient(
    const TargetJob *job, Py_ssize_t row, int64_t label, const Scored *scored, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    write_gradient(
        job, job.x + offset_of(&job.layout, X, row), job.target + offset_of(&job.layout, TARGET, row), label, scored,
        first, end, job.gradient + offset_of(&job.layout, GRADIENT, row),
    )


cdef int64_t score_row(const TargetJob *job, Py_ssize_t row) noexcept nogil:
    """A row of one segment, from end to end; its counts."""
    cdef TargetPart part
    cdef Scored scored
    cdef uint8_t status
    cdef int64_t label, counts
    read_targets(job, row, 1, &label, &status)
    part.x_label = 0.0
    if status == USED and not job.count_only:
        target_segment(
            job, job.x + offset_of(&job.layout, X, row), job.target + offset_of(&job.layout, TARGET, row), 0, label,
            &part,
        )
        take_label(job, row, label, 0, &part)
    counts = finish_row_target(job, row, label, part.x_label, status, &part, &scored)
    if job.gradient != NULL and not job.count_only:
        write_row_gradient(job, row, label, &scored, 0, job.classes)
    return counts


cdef int64_t target_phase(const TargetJob *job, int phase, Py_ssize_t task) noexcept nogil:
    """A task of one of the three phases of rows of several segments."""
    cdef Py_ssize_t many = job.segment1 - job.segment0, s = job.segment0 + task % many, row = job.row0 + task // many
    cdef TargetPart *parts
    cdef Scored scored
    cdef uint8_t status
    cdef int64_t label, counts
    if phase == 2:
        row = job.row0 + task
    parts = &job.parts[(row - job.row0) * job.segments]
    read_targets(job, row, 1, &label, &status)
    if phase == 1:
        if status == USED:
            target_segment(
                job, job.x + offset_of(&job.layout, X, row), job.target + offset_of(&job.layout, TARGET, row), s,
                label, &parts[s],
            )
            take_label(job, row, label, s, &parts[s])
        return 0
    if phase == 3:
        write_row_gradient(job, row, label, scored_of(job, row), s * SEGMENT, min((s + 1) * SEGMENT, job.classes))
        return 0
    if status == USED:
        for s in range(1, job.segments):
            merge_target(job, parts, &parts[s])
    counts = finish_row_target(
        job, row, label, parts[label // SEGMENT].x_label if label >= 0 else 0.0, status, parts, &scored
    )
    memcpy(parts, &scored, sizeof(Scored))
    return counts


cdef int64_t target_rows_task(const TargetJob *job, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t start = job.row0 + task * job.rows_a_task, row
    cdef int64_t counts = 0
    for row in range(start, min(start + job.rows_a_task, job.row1)):
        counts += score_row(job, row)
    return counts


cdef int64_t target_lanes_task(const TargetJob *job, int phase, Py_ssize_t task) noexcept nogil:
    """Some pieces of neighbouring rows, or one segment of a piece; a piece lies in one line."""
    cdef Py_ssize_t many = job.segment1 - job.segment0, piece, line, first, count
    cdef int64_t counts = 0
    for piece in range(task * job.pieces_a_task, (task + 1) * job.pieces_a_task):
        line = job.row0 // job.inner + piece // many // job.pieces_a_line
        first = max(job.row0, line * job.inner) + piece // many % job.pieces_a_line * job.rows_a_task
        count = min(min(job.rows_a_task, job.row1 - first), (line + 1) * job.inner - first)
        if count > 0 and phase:
            part_lanes(job, first, count, job.segment0 + piece % many)
        elif count > 0:
            counts += score_lanes(job, first, count)
    return counts


cdef int64_t target_task(const void *of, int phase, Py_ssize_t task) noexcept nogil:
    cdef const TargetJob *job = <const TargetJob *>of
    cdef uint64_t control = fx_fp_enter()
    cdef int64_t counts
    if job.in_lanes and phase <= 1:
        counts = target_lanes_task(job, phase, task)
    elif phase:
        counts = target_phase(job, phase, task)
    else:
        counts = target_rows_task(job, task)
    fx_fp_leave(control)
    return counts


cdef int64_t run_targets(TargetJob *job, int threads, bint writing) noexcept nogil:
    cdef Py_ssize_t rows = job.row1 - job.row0, columns = job.segment1 - job.segment0, lines, most, tasks
    cdef Py_ssize_t classes = max(1, job.classes)
    cdef int phase = 0
    cdef int64_t counts
    if rows <= 0:
        return 0
    if job.count_only:
        job.in_lanes = False
    elif job.segments > 1:
        phase = 3 if writing else 1
    if job.in_lanes and not writing:
        # as many rows as are held in a buffer, and not so few that a piece is hardly worth it
        most = 8 * HELD_DOUBLES // (classes * lane_size(job.kind)) // LANE_GROUP * LANE_GROUP
        job.rows_a_task = LANES if most < 2 * LANE_GROUP else min(most, LANES)
        lines = (job.row1 - 1) // job.inner - job.row0 // job.inner + 1
        job.pieces_a_line = (min(job.inner, rows) + job.rows_a_task - 1) // job.rows_a_task
        job.pieces_a_task = 1 if phase else max(1, CHUNK // classes // job.rows_a_task)
        tasks = (lines * job.pieces_a_line + job.pieces_a_task - 1) // job.pieces_a_task * columns
    else:
        job.rows_a_task = max(1, CHUNK // classes)
        tasks = rows * columns if phase else (rows + job.rows_a_task - 1) // job.rows_a_task
    counts = run_tasks(target_task, job, phase, tasks, SEGMENT if phase else CHUNK, threads, INFINITY, NULL)
    if phase != 1:
        return counts
    return run_tasks(target_task, job, 2, rows, SEGMENT, threads, INFINITY, NULL) if job.segment1 == job.segments else 0


cdef inline void set_own_label(TargetJob *job) noexcept nogil:
    """After target, smoothing and `probabilities`: is all that is wanted of a row its label's loss? It goes in lanes where
    Rows has it so, whose bits it has."""
    job.own_label = job.target_code < SOFT and job.smoothing == 0.0
    job.in_lanes |= job.own_label and not job.probabilities and job.single and job.classes <= NARROW_SINGLE


@cython.freelist(4)
cdef class Targets:
    """The rows of one array with their targets, and where losses and gradients go.

    Parameters
    ----------
    x, kind, axis
        As `Rows` has them.
    target, target_code
        Labels of x's shape without the axis, and their code; or probabilities of x's shape, and their kind + 256.
    sample, sample_kind
        Sample weights of x's shape without the axis, or None.
    loss
        Array of x's shape without the axis, or None; float32, or float64 for kind 3.
    gradient
        Array of x's shape and loss's dtype, or None.
    classes, column
        For a row that comes in windows: how many it has, and the first that the arrays (of one axis) hold. A run is for
        segments that lie in them.
    """

    cdef TargetJob job
    cdef Py_buffer views[TARGET_ARRAYS]
    cdef bint held[TARGET_ARRAYS]
    cdef Py_ssize_t first, end      # columns that the arrays hold

    def __init__(self, x, int kind, int axis, target, int target_code, sample=None, int sample_kind=0,
                 loss=None, gradient=None, Py_ssize_t classes=-1, Py_ssize_t column=0):
        self.set_up(x, kind, axis, target, target_code, sample, sample_kind, loss, gradient, classes, column)

    cdef int set_up(
        self, x, int kind, int axis, target, int target_code, sample, int sample_kind, loss, gradient,
        Py_ssize_t classes, Py_ssize_t column,
    ) except -1:
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef Py_ssize_t steps[TARGET_ARRAYS][MOST_AXES]
        cdef bint full[TARGET_ARRAYS]
        cdef Py_buffer *view
        cdef int d, e, a, axes
        if self.held[X]:
            raise ValueError("set up already")
        memset(steps, 0, sizeof(steps))
        for a, array in enumerate((x, target, gradient, sample, loss)):
            if array is not None:
                PyObject_GetBuffer(
                    array, &self.views[a],
                    PyBUF_STRIDED_RO | PyBUF_WRITABLE if a == GRADIENT or a == LOSS_OUT else PyBUF_STRIDED_RO,
                )
                self.held[a] = True
        axes = self.views[X].ndim
        if axes > MOST_AXES or not 0 <= axis < axes:
            raise ValueError("axis out of range")
        for a in range(TARGET_ARRAYS):
            view = &self.views[a]
            full[a] = a == X or a == GRADIENT or (a == TARGET and target_code >= SOFT)
            strides[a] = steps[a]
            if not self.held[a]:
                continue
            if view.ndim != axes - (not full[a]):
                raise ValueError("dimensions do not match")
            e = 0
            for d in range(axes):
                if d == axis and not full[a]:
                    continue
                if view.shape[e] != self.views[X].shape[d]:
                    raise ValueError("shapes do not match")
                if d != axis:
                    steps[a][d - (d > axis)] = view.strides[e]
                e += 1
        for d in range(axes):
            if d != axis:
                shape[d - (d > axis)] = self.views[X].shape[d]
        lay_out(axes - 1, shape, strides, TARGET_ARRAYS, &self.job.layout)
        self.job.kind = kind
        self.job.single = kind != F64
        self.job.target_code = target_code
        self.job.sample_kind = sample_kind
        self.job.x = <const char *>self.views[X].buf
        self.job.target = <const char *>self.views[TARGET].buf
        self.job.sample = <const char *>self.views[SAMPLE].buf if sample is not None else NULL
        self.job.loss = <char *>self.views[LOSS_OUT].buf
        self.job.gradient = <char *>self.views[GRADIENT].buf if gradient is not None else NULL
        self.job.classes = self.views[X].shape[axis]
        self.job.class_stride = self.views[X].strides[axis]
        # few classes would fill no vector, and as Rows has it
        self.job.in_lanes = self.job.classes <= NARROW or self.job.class_stride != itemsize(kind)
        if self.job.classes <= 1:
            self.job.class_stride = itemsize(kind)
        self.job.target_stride = self.views[TARGET].strides[axis] if full[TARGET] else 0
        self.job.gradient_stride = self.views[GRADIENT].strides[axis] if gradient is not None else 0
        self.first = 0
        self.end = self.job.classes
        if classes >= 0:
            if axes != 1 or not 0 <= column <= classes - self.end:
                raise ValueError("the window does not fit")
            self.first = column
            self.end += column
            self.job.classes = classes
            # to where column 0 would be
            self.job.x -= column * self.job.class_stride
            if full[TARGET]:
                self.job.target -= column * self.job.target_stride
            if gradient is not None:
                self.job.gradient -= column * self.job.gradient_stride
        self.job.segments = max(1, (self.job.classes + SEGMENT - 1) // SEGMENT)
        self.job.inner = 1
        if self.job.layout.axes:
            self.job.inner = max(1, self.job.layout.shape[self.job.layout.axes - 1])
        return 0

    def __dealloc__(self):
        cdef int a
        for a in range(TARGET_ARRAYS):
            if self.held[a]:
                PyBuffer_Release(&self.views[a])

    @property
    def count(self):
        """Number of rows."""
        return self.job.layout.rows

    @property
    def segments(self):
        """Column segments a row."""
        return self.job.segments

    def run(
        self, Py_ssize_t row0, Py_ssize_t row1, int threads, *,
        Py_ssize_t segment0=0, Py_ssize_t segment1=-1,
        uint8_t[::1] workspace=None,
        bint writing=False,
        ignore=None,
        const double[::1] weights=None,
        double smoothing=0.0,
        bint probabilities=False,
        double denominator=1.0,
        double temperature=1.0,
        flat=None,
        double[::1] row_weights=None,
        bint count_only=False,
    ):
        """Do a block; give the numbers of ignored rows, of invalid ones, and of those with bad probabilities.

        `workspace` holds `target_part_size` bytes a row and segment and lives as long as the rows' segments are under
        way; it is wanted where a row has several. The losses are then there with the last segment, and the gradient
        is written by a second round over the segments, with `writing`.
        """
        cdef TargetJob job = self.job
        cdef const char[::1] out
        cdef int64_t counts, mask = (1 << COUNT_BITS) - 1
        cdef Py_ssize_t rows = row1 - row0
        if not 0 <= row0 <= row1 <= job.layout.rows or rows > mask:
            raise ValueError("rows out of range")
        job.row0 = row0
        job.row1 = row1
        job.segment0 = segment0
        job.segment1 = job.segments if segment1 < 0 else segment1
        if not 0 <= job.segment0 <= job.segment1 <= job.segments:
            raise ValueError("segments out of range")
        if not count_only and not in_window(job.segment0, job.segment1, job.classes, self.first, self.end):
            raise ValueError("segments outside the window")
        if job.segments > 1 and not count_only:
            if workspace is None or workspace.shape[0] < rows * job.segments * <Py_ssize_t>sizeof(TargetPart):
                raise ValueError("workspace too small")
            if rows:
                job.parts = <TargetPart *>&workspace[0]
        if ignore is not None:
            job.has_ignore = True
            job.ignore = ignore
        if weights is not None:
            if weights.shape[0] != job.classes:
                raise ValueError("weights do not match")
            if job.classes:
                job.weights = &weights[0]
        if row_weights is not None and rows:
            if row_weights.shape[0] < rows:
                raise ValueError("row_weights too small")
            job.row_weights = &row_weights[0]
        if flat is not None:
            if rows:
                out = flat.view("b")
                if out.shape[0] < rows * (4 if job.single else 8):
                    raise ValueError("flat too small")
                job.loss = <char *>&out[0]
            job.flat = True
        elif not self.held[LOSS_OUT] and not count_only:
            raise ValueError("no room for results")
        if writing and job.gradient == NULL:
            raise ValueError("there is no gradient")
        job.smoothing = smoothing
        job.probabilities = probabilities
        set_own_label(&job)
        job.denominator = denominator
        job.temperature = temperature
        job.count_only = count_only
        with nogil:
            counts = run_targets(&job, threads, writing)
        return counts & mask, (counts >> COUNT_BITS) & mask, counts >> (2 * COUNT_BITS)


target_part_size = sizeof(TargetPart)
