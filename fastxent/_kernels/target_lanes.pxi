# Rows against their targets, lanes being rows: from the sums of target_lane_sums.pxi to the results.

cdef void finish_lanes(const TargetJob *job, LanePiece *piece, const Columns *raw, double *loss) noexcept nogil:
    """Losses, weights of the rows and factors of their gradients; odd ones are not yet known."""
    cdef const char *samples = NULL
    cdef double sample = 1.0, w = 1.0, lost, x_label
    cdef Py_ssize_t i, stride = stride_of(job, SAMPLE), row = piece.row
    cdef bint labels = job.target_code < SOFT
    if job.sample != NULL:
        samples = job.sample + offset_of(&job.layout, SAMPLE, row)
    if not job.own_label:
        for i in range(raw.count):
            loss[i] = 4.0 * (piece.a1[i] + (piece.a1_lo[i] + 0.25 * (piece.gap[i] * (piece.a0[i] + piece.a0_lo[i]))))
    if not labels and samples == NULL:
        for i in range(raw.count):
            piece.factor[i] = 1.0
            piece.odd[i] = piece.odd[i] or not -INFINITY < loss[i] < INFINITY
            if job.row_weights != NULL:
                job.row_weights[row + i - job.row0] = 1.0
    else:
        for i in range(raw.count):
            if samples != NULL:
                sample = load_one(samples + i * stride, job.sample_kind)
            if job.weights != NULL and labels:
                w = job.weights[max(piece.label[i], 0)]
            if job.own_label:
                piece.a0[i] = w
                piece.a0_lo[i] = 0.0
                loss[i] = w * piece.plain[i]
                if not job.probabilities and job.gradient == NULL:
                    # a loss that is no finite number is as good as another
                    piece.odd[i] = False
            else:
                if piece.label[i] >= 0 and w != 0.0 and job.smoothing != 1.0:
                    x_label = load_one(raw.p + i * raw.row_stride + piece.label[i] * raw.class_stride, raw.kind)
                    lost = (1.0 - job.smoothing) * w
                    loss[i] = loss[i] + 4.0 * (
                        lost * (log_between(job, piece.top[i], x_label) + 0.25 * piece.gap[i])
                    )
                    two_sum(piece.a0[i], lost, &piece.a0[i], &lost)
                    piece.a0_lo[i] = piece.a0_lo[i] + lost
                piece.odd[i] = piece.odd[i] or not -INFINITY < loss[i] < INFINITY
            piece.weight[i] = w
            piece.factor[i] = sample
            loss[i] = loss[i] * sample
            if piece.status[i] != USED or sample == 0.0 or (w == 0.0 and job.own_label):
                # such a row counts nothing, whatever its logits
                piece.factor[i] = loss[i] = 0.0
                piece.odd[i] = False
            if job.row_weights != NULL:
                job.row_weights[row + i - job.row0] = sample * w if piece.status[i] == USED else 0.0
    if job.gradient != NULL:
        for i in range(raw.count):
            piece.factor[i] = piece.factor[i] / job.denominator / job.temperature


cdef int64_t score_lanes(const TargetJob *job, Py_ssize_t row, Py_ssize_t count) noexcept nogil:
    """Score neighbouring rows of one segment; give their counts."""
    cdef LanePiece piece
    cdef double held[HELD_DOUBLES]
    cdef Columns raw
    cdef double loss[LANES]
    cdef float narrow
    cdef int64_t counts = 0
    cdef Py_ssize_t i, n = job.classes, step
    cdef bint soft = job.target_code >= SOFT, plain
    cdef char *place
    piece.row = row
    set_columns(
        &raw, job.x + offset_of(&job.layout, X, row), job.kind, job.class_stride, stride_of(job, X), count
    )
    read_targets(job, row, count, piece.label, piece.status)
    piece.x = raw
    plain = job.own_label and not job.probabilities and job.gradient == NULL   # one look is enough
    if not plain and n * raw.lanes * lane_size(raw.kind) <= 8 * HELD_DOUBLES:
        hold_columns(&piece.x, n, <char *>held)
    if soft:
        set_columns(
            &piece.target, job.target + offset_of(&job.layout, TARGET, row), job.target_code - SOFT, job.target_stride,
            stride_of(job, TARGET), count,
        )
    if job.own_label:
        for i in range(raw.lanes):
            piece.own[i] = piece.label[i] if i < count else -1
            piece.top[i] = 1.0
            if i < count:
                piece.top[i] = load_one(
                    raw.p + i * raw.row_stride + max(piece.own[i], 0) * raw.class_stride, raw.kind
                )
    else:
        any_find_tops(&piece.x, n, piece.own, piece.top)
    gaps_of_lanes(job, &piece, &raw, n)
    if not job.own_label:
        any_add_lanes(job, &piece, 0, n)
    finish_lanes(job, &piece, &raw, loss)
    place = place_of_loss(job, row)
    step = place_of_loss(job, row + 1) - place if count > 1 else 0
    if job.single:
        for i in range(count):
            narrow = <float>loss[i]
            memcpy(place + i * step, &narrow, 4)
    else:
        for i in range(count):
            memcpy(place + i * step, &loss[i], 8)
    for i in range(count):
        counts += count_of(piece.status[i])
    if job.gradient != NULL:
        write_lane_gradients(job, &piece, &raw)
    for i in range(count):
        if piece.odd[i]:
            counts += score_row(job, row + i)
    return counts


cdef void part_lanes(const TargetJob *job, Py_ssize_t row, Py_ssize_t count, Py_ssize_t s) noexcept nogil:
    """Segment s of neighbouring rows into their parts, where a row has several."""
    cdef LanePiece piece
    cdef Pixels pixels
    cdef TargetPart *part
    cdef const char *x
    cdef Py_ssize_t first = s * SEGMENT, n = min(SEGMENT, job.classes - s * SEGMENT), i
    cdef bint odd
    read_targets(job, row, count, piece.label, piece.status)
    set_columns(
        &piece.x, job.x + offset_of(&job.layout, X, row) + first * job.class_stride, job.kind, job.class_stride,
        stride_of(job, X), count,
    )
    if job.own_label:
        for i in range(count):
            piece.own[i] = piece.label[i] - first if piece.label[i] >= 0 else -1
    elif not job.probabilities:  # which go row by row
        any_find_tops(&piece.x, n, piece.own, piece.top)
        if job.target_code >= SOFT:
            set_columns(
                &piece.target, job.target + offset_of(&job.layout, TARGET, row) + first * job.target_stride,
                job.target_code - SOFT, job.target_stride, stride_of(job, TARGET), count,
            )
        any_add_lanes(job, &piece, first, n)
    if not job.probabilities:
        any_pixel_segment(
            piece.x.p, piece.x.kind, piece.x.class_stride, piece.x.row_stride, n, count, piece.own, &pixels
        )
    for i in range(count):
        if piece.status[i] != USED:
            continue
        part = &job.parts[(row + i - job.row0) * job.segments + s]
        x = piece.x.p + i * piece.x.row_stride
        odd = job.probabilities
        if not job.own_label:
            odd = odd or pixels.c[i] == ODD or not -INFINITY < piece.a1[i] + piece.a0[i] < INFINITY
        if odd:
            target_segment(
                job, x - first * job.class_stride, job.target + offset_of(&job.layout, TARGET, row + i), s,
                piece.label[i], part,
            )
            continue
        part.bad = False
        partial_of(&pixels, i, x, job.kind, job.class_stride, n, piece.own[i], &part.rest)
        if job.own_label:
            part.k = piece.label[i]
            continue
        part.k = first + piece.own[i]
        part.own = piece.top[i]
        part.rest.top = min(part.rest.top, part.own)  # it may stand for the exponent of the sum (ordinary.pxi)
        part.a0 = piece.a0[i]
        part.a0_lo = piece.a0_lo[i]
        part.a1 = piece.a1[i]
        part.a1_lo = piece.a1_lo[i]
    for i in range(count):
        take_label(job, row + i, piece.label[i], s, &job.parts[(row + i - job.row0) * job.segments + s])
