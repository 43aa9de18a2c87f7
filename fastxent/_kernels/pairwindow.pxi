# Two rows of which one must be converted first and is too long for the buffer that converts it: a window goes along both.
#
# The arrays hold whole column segments of the one row that they have, and what each leaves is merged as that of a row in
# memory. A row that is nearly all its largest term, which a row in memory reads again at once (`lse_read`), comes once more
# before the pairs of elements: its first part says which class is left out then.

cdef void note_top(const PairJob *job, const Operand *side, Py_ssize_t segment, Partial *part) noexcept nogil:
    """The class of the largest term, which may have to be left out."""
    if part.argmax < 0:
        part.argmax = any_find(
            side.x + segment * SEGMENT * side.stride, side.kind, side.stride, columns(job, segment), part.top
        )


cdef void normalise_windows(PairPart *first, int s, bint done) noexcept nogil:
    """`normalise` of merged sums; with `done` the row has been read again, and `part` are the others."""
    cdef Readings readings
    cdef Partial row = first.part[s]
    readings.done = 0
    readings.wanted = False
    if done:
        row = first.merged[s]
        readings.done = 1
        readings.of[0].hole = first.hole[s]
        readings.of[0].moments = False
        readings.of[0].others = first.part[s]
    first.hole[s] = -1
    first.part[s] = row
    if row.shift != 0.0:
        row.shift = 0.0
        lse_of(&row, &first.lse[s], &first.lse_lo[s])
        return
    lse_read(NULL, 0, 0, 0, &row, &readings, &first.lse[s], &first.lse_lo[s])
    if readings.wanted:
        first.merged[s] = first.part[s]
        first.hole[s] = readings.of[0].hole


cdef void read_window_again(
    const PairJob *job, const Operand *side, Py_ssize_t segment, int s, PairPart *parts
) noexcept nogil:
    """A segment of row s without the class that it leaves out."""
    if parts[0].hole[s] >= 0:
        any_segment(
            side.x + segment * SEGMENT * side.stride, side.kind, side.stride, columns(job, segment),
            parts[0].hole[s] - segment * SEGMENT, False, 0.0, &parts[segment].part[s],
        )


cdef void finish_reading(const PairJob *job, int s, PairPart *parts) noexcept nogil:
    cdef Py_ssize_t i
    if parts[0].hole[s] >= 0:
        for i in range(1, job.segments):
            merge(&parts[0].part[s], &parts[i].part[s], i * SEGMENT)
        normalise_windows(parts, s, True)
