# A job: one block of rows, cut into tasks that threads share, and ended early when it takes long: the rows done are the
# first ones then.
#
# A task is some whole rows, a piece of neighbouring rows whose class axis is strided, or one column segment of either
# where rows have several. Each runs under default floating-point control. No result depends on who runs what.

cdef enum Mode:
    LSE = 0
    LOSS = 1
    STATS = 2
    SOFTMAX = 3
    LOG_SOFTMAX = 4
    ENTROPY = 5

# arrays of a Layout
cdef enum:
    X = 0
    LABELS = 1
    OUT = 2
    ROW_ARRAYS = 3

cdef enum:
    LEAST_CLASSES = 16  # that strided rows count as: one out of the ordinary takes as long as many elements


# what is known of a row that comes in windows (window.pxi)
cdef struct Window:
    int stage
    Py_ssize_t columns       # that the window holds
    double x_label
    Partial row              # of the first reading
    Readings readings        # the others
    Normaliser norm


cdef struct Job:
    int mode
    int kind
    int label_code           # 0: no labels
    double unit              # nats that a unit of the entropy is
    bint has_ignore
    bint strided             # the class axis
    bint flat                # out is counted by rows from row0
    bint single              # out holds float32
    Layout layout
    const char *x
    const char *labels
    char *out
    const double *weights    # a class, or NULL
    double *row_weights      # a row from row0, or NULL
    RowStats *stats          # a row from row0 (mode STATS)
    uint8_t *status          # a row from row0, or NULL
    Window *window           # NULL for rows that lie in memory
    Partial *parts           # (row, segment) from row0, or NULL where a row is one segment
    uint64_t ignore
    Py_ssize_t classes, class_stride, out_class_stride
    Py_ssize_t segments, segment0, segment1
    Py_ssize_t row0, row1
    Py_ssize_t inner         # rows of one line of pixels
    Py_ssize_t rows_a_task, tasks_a_line


cdef inline bint has_outputs(const Job *job) noexcept nogil:
    """Outputs as large as the inputs."""
    return job.mode == SOFTMAX or job.mode == LOG_SOFTMAX


cdef inline bint writes_past(const Job *job) noexcept nogil:
    return has_outputs(job) and job.layout.rows * job.classes * (8 if job.kind == F64 else 4) >= FX_PAST


cdef inline int64_t label_of(const Job *job, Py_ssize_t row, LabelStatus *status) noexcept nogil:
    """The row's label; -1 without one that counts."""
    cdef uint64_t label
    status[0] = USED
    if job.label_code == 0:
        return -1
    label = read_label(job.labels + offset_of(&job.layout, LABELS, row), job.label_code)
    if job.has_ignore and label == job.ignore:
        status[0] = IGNORED
        return -1
    if label >= <uint64_t>job.classes:
        status[0] = INVALID
        return -1
    return <int64_t>label


cdef inline Py_ssize_t segment_length(const Job *job, Py_ssize_t s) noexcept nogil:
    return min(SEGMENT, job.classes - s * SEGMENT)


cdef inline char *place_of(const Job *job, Py_ssize_t row) noexcept nogil:
    """Where the result of a row goes."""
    if job.flat:
        return job.out + (row - job.row0) * (4 if job.single else 8)
    return job.out + offset_of(&job.layout, OUT, row)


cdef inline void put(const Job *job, char *p, double value) noexcept nogil:
    cdef float single
    if job.single:
        single = <float>value
        memcpy(p, &single, 4)
    else:
        memcpy(p, &value, 8)


cdef inline void put_loss(const Job *job, Py_ssize_t row, char *p, int64_t label, double value) noexcept nogil:
    """Write a row's loss, times the weight of its label."""
    if job.weights != NULL:
        # a class of weight 0 counts nothing, whatever its loss
        value = value * job.weights[label] if job.weights[label] != 0.0 else 0.0
    if job.row_weights != NULL:
        job.row_weights[row - job.row0] = job.weights[label]
    if job.status != NULL:
        job.status[row - job.row0] = <uint8_t>USED
    put(job, p, value)


cdef inline void put_plain(const Job *job, Py_ssize_t row, const RowStats *stats) noexcept nogil:
    """Write what was asked for of a row without a label."""
    if job.mode == ENTROPY:
        put(job, place_of(job, row), stats.entropy / job.unit)
        return
    job.stats[row - job.row0] = stats[0]
    if job.status != NULL:
        job.status[row - job.row0] = <uint8_t>USED


cdef int64_t finish_row(
    const Job *job, Py_ssize_t row, Partial *part, int64_t label, LabelStatus status, Normaliser *norm
) noexcept nogil:
    """Write what is known of a summed row; give 1 for an ignored row, 2^32 for an invalid one."""
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    cdef double value, lo, x_label
    cdef Py_ssize_t i = row - job.row0
    cdef RowStats stats
    cdef Readings *readings = &job.window.readings if job.window != NULL else NULL
    if job.mode == ENTROPY or (job.mode == STATS and job.label_code == 0):
        plain_stats_of(x, job.kind, job.class_stride, job.classes, part, readings, &stats)
        put_plain(job, row, &stats)
        return 0
    if job.mode == LOSS or job.mode == STATS:
        if job.status != NULL:
            job.status[i] = <uint8_t>status
        if label < 0:
            if job.row_weights != NULL:
                job.row_weights[i] = 0.0
            if job.mode == LOSS:
                put(job, place_of(job, row), 0.0)
            return 1 if status == IGNORED else <int64_t>1 << 32
        if job.window != NULL:
            x_label = job.window.x_label
        else:
            x_label = load_one(x + label * job.class_stride, job.kind)
        if job.mode == STATS:
            stats_of(
                x, job.kind, job.class_stride, job.classes, label, x_label, part, loss_of(part, x_label), job.single,
                readings, &job.stats[i],
            )
            return 0
        put_loss(job, row, place_of(job, row), label, loss_of(part, x_label))
        return 0
    if job.mode == SOFTMAX:
        # it divides by the sum, and wants no logarithm
        normaliser_of(part, 0.0, 0.0, job.kind, norm)
        return 0
    lse_read(x, job.kind, job.class_stride, job.classes, part, readings, &value, &lo)
    if job.mode == LSE:
        put(job, place_of(job, row), value)
    else:
        normaliser_of(part, value, lo, job.kind, norm)
    return 0


cdef inline void sum_part(const Job *job, Py_ssize_t row, Py_ssize_t s, int64_t label, Partial *part) noexcept nogil:
    """Sum segment s of a row."""
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    cdef double x_label = 0.0
    cdef Py_ssize_t j = s * SEGMENT
    if label >= 0 and job.mode == STATS:
        x_label = load_one(x + label * job.class_stride, job.kind)
    any_segment(
        x + j * job.class_stride, job.kind, job.class_stride, segment_length(job, s),
        <Py_ssize_t>label - j if label >= 0 else -1, job.mode == STATS or job.mode == ENTROPY, x_label, part,
    )


cdef inline void write_part(const Job *job, Py_ssize_t row, Py_ssize_t s, const Normaliser *norm) noexcept nogil:
    """Write the outputs of segment s of a row."""
    cdef Py_ssize_t j = s * SEGMENT
    any_write_row(
        job.x + offset_of(&job.layout, X, row) + j * job.class_stride, job.kind, job.class_stride,
        segment_length(job, s), norm, job.mode == LOG_SOFTMAX,
        job.out + offset_of(&job.layout, OUT, row) + j * job.out_class_stride, job.out_class_stride, writes_past(job),
    )


cdef int64_t whole_rows(const Job *job, Py_ssize_t task) noexcept nogil:
    """Rows of one segment: sum, finish and write them while they are in cache."""
    cdef Partial parts[ROWS_AT_ONCE]
    cdef LabelStatus statuses[ROWS_AT_ONCE]
    cdef int64_t labels[ROWS_AT_ONCE]
    cdef double values[ROWS_AT_ONCE]
    cdef Normaliser norm
    cdef int64_t counts = 0
    cdef Py_ssize_t row = job.row0 + task * job.rows_a_task, end = min(row + job.rows_a_task, job.row1), some, i
    while row < end:
        some = 1 if has_outputs(job) else min(ROWS_AT_ONCE, end - row)
        for i in range(some):
            labels[i] = label_of(job, row + i, &statuses[i])
            values[i] = ODD
            if statuses[i] == USED:
                sum_part(job, row + i, 0, labels[i], &parts[i])
                if job.mode == LOSS and labels[i] >= 0:
                    values[i] = load_one(
                        job.x + offset_of(&job.layout, X, row + i) + labels[i] * job.class_stride, job.kind
                    )
        if job.mode == LOSS:
            losses_of_parts(parts, some, values)
        for i in range(some):
            if values[i] != ODD:
                put_loss(job, row + i, place_of(job, row + i), labels[i], values[i])
                continue
            counts += finish_row(job, row + i, &parts[i], labels[i], statuses[i], &norm)
            if has_outputs(job):
                write_part(job, row + i, 0, &norm)
        row += some
    return counts


cdef bint pixels_of(const Job *job, Py_ssize_t piece, Py_ssize_t *row, Py_ssize_t *count) noexcept nogil:
    """First row and number of rows of piece number `piece` of the block; False where there are none."""
    cdef Py_ssize_t line = job.row0 // job.inner + piece // job.tasks_a_line
    cdef Py_ssize_t first = max(job.row0, line * job.inner) + piece % job.tasks_a_line * FX_PIXELS
    count[0] = min(min(FX_PIXELS, job.row1 - first), (line + 1) * job.inner - first)
    row[0] = first
    return count[0] > 0


cdef inline Py_ssize_t pixel_stride(const Job *job, int array) noexcept nogil:
    return job.layout.strides[array][job.layout.axes - 1] if job.layout.axes else 0


cdef void write_pixels_of(
    const Job *job, Py_ssize_t row, Py_ssize_t count, const Normaliser *norms
) noexcept nogil:
    any_write_pixels(
        job.x + offset_of(&job.layout, X, row), job.kind, job.class_stride, pixel_stride(job, X),
        job.classes, count, norms, job.mode == LOG_SOFTMAX,
        job.out + offset_of(&job.layout, OUT, row), job.out_class_stride, pixel_stride(job, OUT),
    )


cdef int64_t part_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Sum one segment of a row, or of a piece of rows, into the workspace."""
    cdef Py_ssize_t many = job.segment1 - job.segment0
    cdef Py_ssize_t s = job.segment0 + task % many, unit = task // many, row, count
    cdef LabelStatus status
    cdef int64_t label
    if job.strided:
        if pixels_of(job, unit, &row, &count):
            parts_of_pixels(job, row, count, s, &job.parts[(row - job.row0) * job.segments + s], job.segments)
        return 0
    row = job.row0 + unit
    label = label_of(job, row, &status)
    if status == USED:
        sum_part(job, row, s, label, &job.parts[unit * job.segments + s])
    return 0


cdef int64_t finish_task(const Job *job, Py_ssize_t unit) noexcept nogil:
    """Merge the segments of a row, or of a piece of rows, in the order of columns, and finish."""
    cdef Py_ssize_t row, count, i, s
    cdef Partial *parts
    cdef Partial *part
    cdef LabelStatus status
    cdef Normaliser norms[FX_PIXELS]
    cdef int64_t label, counts = 0
    if job.strided:
        if not pixels_of(job, unit, &row, &count):
            return 0
    else:
        row = job.row0 + unit
        count = 1
    parts = &job.parts[(row - job.row0) * job.segments]
    for i in range(count):
        label = label_of(job, row + i, &status)
        part = &parts[i * job.segments]
        if status == USED:
            for s in range(1, job.segments):
                merge(part, &part[s], s * SEGMENT)
        counts += finish_row(job, row + i, part, label, status, &norms[i])
    if has_outputs(job):
        if job.strided:
            write_pixels_of(job, row, count, norms)
        else:
            for s in range(job.segments):
                write_part(job, row, s, &norms[0])
    return counts


cdef int64_t row_task(const Job *job, Py_ssize_t unit) noexcept nogil:
    """Sum and write a row of several segments while it is in cache."""
    cdef Py_ssize_t s
    for s in range(job.segments):
        part_task(job, unit * job.segments + s)
    return finish_task(job, unit)


cdef int64_t one_task(const void *of, int phase, Py_ssize_t task) noexcept nogil:
    cdef const Job *job = <const Job *>of
    cdef uint64_t control = fx_fp_enter()
    cdef int64_t counts
    if phase == 1:
        counts = part_task(job, task)
    elif phase == 2:
        counts = finish_task(job, task)
    elif phase == 3:
        counts = window_task(job, task)
    elif phase == 5:
        counts = row_task(job, task)
    elif phase == 4:
        counts = finish_window(job)
    elif job.strided and has_outputs(job):
        counts = whole_outputs(job, task)
    elif job.strided:
        counts = whole_pixels(job, task)
    else:
        counts = whole_rows(job, task)
    if writes_past(job):
        fx_past_done()
    fx_fp_leave(control)
    return counts


cdef int64_t run_job(Job *job, int threads, double seconds) noexcept nogil:
    """The first rows of the block; row1 becomes the end of those that are done. Rows of several segments all are."""
    cdef Py_ssize_t rows = job.row1 - job.row0, units = rows, lines, done, row, count
    cdef int64_t counts
    cdef int phase = 3 if job.window != NULL else 1
    if rows <= 0:
        return 0
    if job.strided:
        lines = (job.row1 - 1) // job.inner - job.row0 // job.inner + 1
        job.tasks_a_line = (min(job.inner, rows) + FX_PIXELS - 1) // FX_PIXELS
        units = lines * job.tasks_a_line
    if has_outputs(job) and job.parts != NULL and units >= 2 * threads and job.segment1 - job.segment0 == job.segments:
        return run_tasks(one_task, job, 5, units, job.classes, threads, INFINITY, NULL)
    if job.parts != NULL or job.window != NULL:
        run_tasks(one_task, job, phase, units * (job.segment1 - job.segment0), SEGMENT, threads, INFINITY, NULL)
        if job.segment1 < job.segments:
            return 0
        return run_tasks(one_task, job, phase + 1, units, SEGMENT, threads, INFINITY, NULL)
    if job.strided:
        count = FX_PIXELS * max(LEAST_CLASSES, job.classes)
        counts = run_tasks(one_task, job, 0, units, count, threads, seconds, &done)
        while not pixels_of(job, done - 1, &row, &count):
            done -= 1
        job.row1 = row + count
        return counts
    job.rows_a_task = max(1, CHUNK // max(1, job.classes))
    units = (rows + job.rows_a_task - 1) // job.rows_a_task
    counts = run_tasks(one_task, job, 0, units, job.rows_a_task * job.classes, threads, seconds, &done)
    job.row1 = min(job.row0 + done * job.rows_a_task, job.row1)
    return counts
