# Windows: a row that must be converted first and is too long for one buffer comes through it piece by piece.
#
# The buffer holds whole column segments. They are summed as those of a row in memory are, merged in the order of columns,
# and so have its bits. What would look at the row again (its largest term left out, outputs as large as the row) makes it
# come once more: the stage says what for.

cdef enum Stage:
    SUMS = 0
    AGAIN = 1        # with the hole of the reading that is wanted
    OUTPUTS = 2
    DONE = 3


cdef int64_t window_task(const Job *job, Py_ssize_t task) noexcept nogil:
    """Sum or write segment number `task` of those in the window."""
    cdef const Window *window = job.window
    cdef const Reading *reading = &window.readings.of[window.readings.done]
    cdef Py_ssize_t s = job.segment0 + task, n = segment_length(job, s)
    cdef const char *x = job.x + task * SEGMENT * job.class_stride
    cdef Partial *part = &job.parts[s]
    cdef Pixels pixel
    cdef LabelStatus status
    cdef int64_t hole
    if window.stage == OUTPUTS:
        any_write_row(
            x, job.kind, job.class_stride, n, &window.norm, job.mode == LOG_SOFTMAX,
            job.out + task * SEGMENT * job.out_class_stride, job.out_class_stride, writes_past(job),
        )
        return 0
    if window.stage == AGAIN:
        any_segment(
            x, job.kind, job.class_stride, n, reading.hole - s * SEGMENT, reading.moments, reading.x_label, part
        )
        return 0
    hole = label_of(job, 0, &status)
    if status != USED:
        return 0
    hole = hole - s * SEGMENT if hole >= 0 else -1
    if job.strided:
        any_pixel_segment(x, job.kind, job.class_stride, 0, n, 1, &hole if job.label_code else NULL, &pixel)
        partial_of(&pixel, 0, x, job.kind, job.class_stride, n, hole, part)
    else:
        any_segment(
            x, job.kind, job.class_stride, n, hole, job.mode == STATS or job.mode == ENTROPY, window.x_label, part
        )
    if job.label_code == 0 and part.argmax < 0:
        # the term that a log-sum-exp near 0 leaves out
        part.argmax = any_find(x, job.kind, job.class_stride, n, part.top)
    return 0


cdef int64_t finish_window(const Job *job) noexcept nogil:
    """Behind the last window: merge the segments, finish the row as far as it goes, and say what comes next."""
    cdef Window *window = job.window
    cdef Readings *readings = &window.readings
    cdef Partial part
    cdef LabelStatus status
    cdef Py_ssize_t s
    cdef int64_t counts, label
    if window.stage == OUTPUTS:
        window.stage = DONE
        return 0
    label = label_of(job, 0, &status)
    if status == USED:
        for s in range(1, job.segments):
            merge(&job.parts[0], &job.parts[s], s * SEGMENT)
    if window.stage == AGAIN:
        readings.of[readings.done].others = job.parts[0]
        readings.done += 1
        readings.wanted = False
    else:
        window.row = job.parts[0]
    part = window.row
    counts = finish_row(job, 0, &part, label, status, &window.norm)
    if readings.wanted:
        window.stage = AGAIN
        return 0
    window.stage = OUTPUTS if has_outputs(job) else DONE
    return counts
