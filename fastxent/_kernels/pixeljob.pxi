# Tasks of neighbouring rows, lanes being rows: their labels, their sums, and their results side by side; what is out of
# the ordinary goes row by row.

cdef inline void read_labels(
    const char *p, Py_ssize_t stride, int code, Py_ssize_t count, int64_t *labels
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        labels[i] = <int64_t>read_label(p + i * stride, code)


cdef bint labels_of(
    const Job *job, Py_ssize_t row, Py_ssize_t count, int64_t *labels, uint8_t *status
) noexcept nogil:
    """Labels of neighbouring pixels, -1 for one that does not count; each is read once. Whether all count."""
    cdef Py_ssize_t i, wrong = 0, stride = pixel_stride(job, LABELS)
    cdef uint64_t classes = <uint64_t>job.classes, skip = job.ignore if job.has_ignore else <uint64_t>-1, label
    cdef const char *p
    memset(status, USED, count)
    if job.label_code == 0:
        for i in range(count):
            labels[i] = -1
        return True
    p = job.labels + offset_of(&job.layout, LABELS, row)
    if job.label_code == 8 + SIGNED and stride == 8:
        memcpy(labels, p, 8 * count)
    elif job.label_code == 4 + SIGNED and stride == 4:
        read_labels(p, 4, 4 + SIGNED, count, labels)
    else:
        read_labels(p, stride, job.label_code, count, labels)
    for i in range(count):
        label = <uint64_t>labels[i]
        wrong += (label >= classes) | (label == skip)
    if wrong:
        for i in range(count):
            label = <uint64_t>labels[i]
            if (label >= classes) | (label == skip):
                status[i] = IGNORED if job.has_ignore and label == skip else INVALID
                labels[i] = -1
    return not wrong


cdef void sum_pixels(
    const Job *job, Py_ssize_t row, Py_ssize_t count, Py_ssize_t s, const int64_t *labels, Pixels *out
) noexcept nogil:
    """Sum segment s of neighbouring rows, `labels` (or NULL) left out."""
    cdef int64_t holes[FX_PIXELS]
    cdef Py_ssize_t i, j = s * SEGMENT
    if j and labels != NULL:
        for i in range(count):
            holes[i] = labels[i] - j if labels[i] >= 0 else -1
        labels = holes
    any_pixel_segment(
        job.x + offset_of(&job.layout, X, row) + j * job.class_stride, job.kind, job.class_stride,
        pixel_stride(job, X), segment_length(job, s), count, labels, out,
    )


cdef void parts_of_pixels(
    const Job *job, Py_ssize_t row, Py_ssize_t count, Py_ssize_t s, Partial *parts, Py_ssize_t step
) noexcept nogil:
    """Sum segment s of neighbouring rows into their partial results, `step` apart."""
    cdef Pixels pixels
    cdef int64_t labels[FX_PIXELS]
    cdef uint8_t status[FX_PIXELS]
    cdef Py_ssize_t i, j = s * SEGMENT
    cdef const char *x = job.x + offset_of(&job.layout, X, row) + j * job.class_stride
    labels_of(job, row, count, labels, status)
    sum_pixels(job, row, count, s, labels if job.label_code else NULL, &pixels)
    for i in range(count):
        partial_of(
            &pixels, i, x + i * pixel_stride(job, X), job.kind, job.class_stride, segment_length(job, s),
            labels[i] - j if labels[i] >= 0 else -1, &parts[i * step],
        )


cdef inline void pick_labels(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t stride, Py_ssize_t count, const int64_t *labels,
    double *out,
) noexcept nogil:
    """The label's logit of each row; class 0 where there is no label."""
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = load_one(x + i * stride + max(labels[i], <int64_t>0) * class_stride, kind)


cdef Py_ssize_t pick_losses(
    const Job *job, const char *x, Py_ssize_t count, const int64_t *labels, Pixels *pixels,
    double *x_label, double *values,
) noexcept nogil:
    """Losses side by side, and the labels' logits; ODD, and counted, for those that are left to do."""
    cdef Py_ssize_t i, stride = pixel_stride(job, X)
    # lanes behind the last row
    for i in range(count, min(FX_PIXELS, count + FX_NI * FX_VD)):
        pixels.s[i] = 1.0
        pixels.s_lo[i] = pixels.top[i] = pixels.c[i] = x_label[i] = 0.0
    if job.kind == F32:
        pick_labels(x, F32, job.class_stride, stride, count, labels, x_label)
    else:
        pick_labels(x, job.kind, job.class_stride, stride, count, labels, x_label)
    if job.single:
        return losses_of(pixels, x_label, count, values)
    return double_losses_of(pixels, x_label, count, values)


cdef void put_many(const Job *job, Py_ssize_t row, Py_ssize_t count, const double *values) noexcept nogil:
    """Results of neighbouring rows."""
    cdef char *place = place_of(job, row)
    cdef Py_ssize_t i, step = place_of(job, row + 1) - place if count > 1 else 0
    for i in range(count):
        put(job, place + i * step, values[i])


cdef void put_singles(const Job *job, Py_ssize_t row, Py_ssize_t count, const float *values) noexcept nogil:
    """The same of float32."""
    cdef char *place = place_of(job, row)
    cdef Py_ssize_t i, step = place_of(job, row + 1) - place if count > 1 else 4
    if step == 4:
        memcpy(place, values, 4 * count)
    else:
        for i in range(count):
            memcpy(place + i * step, &values[i], 4)


cdef void redo_rows(
    const Job *job, Py_ssize_t row, Py_ssize_t count, const Quick *quick, bint lse, Pixels *pixels, double *values
) noexcept nogil:
    """What `quick` left of neighbouring rows, by the kernel with references: their sums, and their losses or log-sum-exps,
    ODD for those that it leaves, too. Some rows at a time, wherever one among them was left."""
    cdef Pixels some
    cdef int64_t holes[FX_PIXELS]
    cdef double x_label[FX_PIXELS]
    cdef double again[FX_PIXELS]
    cdef Py_ssize_t i, k, many, unit = FX_NI * FX_VD, stride = pixel_stride(job, X)
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    cdef bint wanted
    for k in range((count + unit - 1) // unit):
        many = min(unit, count - k * unit)
        wanted = False
        for i in range(k * unit, k * unit + many):
            wanted |= not quick.ok[i]
            holes[i - k * unit] = quick.labels[i]
        if not wanted:
            continue
        any_referred_segment(
            x + k * unit * stride, job.kind, job.class_stride, stride, job.classes, many, holes, &some
        )
        pick_losses(job, x + k * unit * stride, many, holes, &some, x_label, again)
        for i in range(many):
            if not quick.ok[k * unit + i]:
                pixels.s[k * unit + i], pixels.s_lo[k * unit + i] = some.s[i], some.s_lo[i]
                pixels.top[k * unit + i], pixels.c[k * unit + i] = some.top[i], some.c[i]
                values[k * unit + i] = again[i] + x_label[i] if lse and again[i] != ODD else again[i]


cdef void many_stats(
    const Job *job, Py_ssize_t row, Py_ssize_t count,
    const int64_t *labels, const double *x_label, const double *losses, const double *as_given,
    uint8_t *done,                 # out (FX_PIXELS,)
) noexcept nogil:
    """Everything about neighbouring narrow rows; which of them were done."""
    cdef Moments moments
    cdef Py_ssize_t i, some, lanes = LANE_BYTES // (8 if job.kind == F64 else 4), stride = pixel_stride(job, X)
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    for i in range((count + lanes - 1) // lanes):
        some = min(lanes, count - i * lanes)
        any_moments(
            x + i * lanes * stride, job.kind, stride, job.classes, some, labels + i * lanes, x_label + i * lanes,
            &moments,
        )
        stats_of_lanes(
            &moments, labels + i * lanes, x_label + i * lanes, losses + i * lanes, as_given + i * lanes, some,
            FX_FAR_D if job.kind == F64 else FX_FAR_F, &job.stats[row - job.row0 + i * lanes], done + i * lanes,
        )


cdef void pixel_stats(const Job *job, Py_ssize_t row, int64_t label, Partial *part, double loss) noexcept nogil:
    """Everything about a pixel: its loss to the bits that LOSS gives, the moments from another look at its row."""
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    cdef double x_label = load_one(x + label * job.class_stride, job.kind)
    if loss == ODD:
        loss = loss_of(part, x_label)
    sum_part(job, row, 0, label, part)
    stats_of(
        x, job.kind, job.class_stride, job.classes, label, x_label, part, loss, job.single, NULL,
        &job.stats[row - job.row0],
    )
    if job.status != NULL:
        job.status[row - job.row0] = <uint8_t>USED


cdef void plain_pixels(const Job *job, Py_ssize_t row, Py_ssize_t count) noexcept nogil:
    """Neighbouring narrow rows without a label: their entropies, or everything about them."""
    cdef Moments moments
    cdef RowStats stats[MOST_LANES]
    cdef uint8_t done[MOST_LANES]
    cdef int64_t labels[MOST_LANES]
    cdef double x_label[MOST_LANES]
    cdef Partial part
    cdef Normaliser unused
    cdef Py_ssize_t i, j, k, some, lanes = LANE_BYTES // (8 if job.kind == F64 else 4), stride = pixel_stride(job, X)
    cdef const char *x = job.x + offset_of(&job.layout, X, row)
    for i in range(lanes):
        labels[i] = -1
        x_label[i] = 0.0
    for k in range((count + lanes - 1) // lanes):
        i = k * lanes
        some = min(lanes, count - i)
        any_moments(x + i * stride, job.kind, stride, job.classes, some, labels, x_label, &moments)
        if job.kind == F64:
            plain_stats_of_lanes(&moments, some, FX_FAR_D, 1e-280, stats, done)
        else:
            plain_stats_of_lanes(&moments, some, FX_FAR_F, 1e-28, stats, done)
        for j in range(some):
            if done[j]:
                put_plain(job, row + i + j, &stats[j])
            else:
                sum_part(job, row + i + j, 0, -1, &part)
                finish_row(job, row + i + j, &part, -1, USED, &unused)


cdef int64_t whole_pixels(const Job *job, Py_ssize_t piece) noexcept nogil:
    """Neighbouring rows of one segment: sum and finish them."""
    cdef Pixels pixels
    cdef Partial part
    cdef Normaliser unused
    cdef int64_t labels[FX_PIXELS]
    cdef uint8_t status[FX_PIXELS]
    cdef double x_label[FX_PIXELS]
    cdef double values[FX_PIXELS]
    cdef double as_given[FX_PIXELS]
    cdef uint8_t done[FX_PIXELS]
    cdef int64_t counts = 0
    cdef Quick quick
    cdef bint counted, with_top, single, plain
    cdef Py_ssize_t row, count, left, i, stride = pixel_stride(job, X), label_stride
    cdef const char *x
    cdef char *place = NULL
    cdef Py_ssize_t step = 0
    if not pixels_of(job, piece, &row, &count):
        return 0
    if job.mode == ENTROPY or (job.mode == STATS and job.label_code == 0):
        plain_pixels(job, row, count)
        return 0
    x = job.x + offset_of(&job.layout, X, row)
    with_top = job.mode == LSE and job.classes <= MOST_TOPS and job.classes > 1 and job.single
    single = with_top or (
        job.single and job.classes > 1 and job.label_code and (job.mode == LOSS or job.mode == STATS)
    )
    left = count
    label_stride = pixel_stride(job, LABELS) if job.label_code else 0
    # those that all count, in lanes of 32 bits from the first; else whatever they are
    plain = single and label_stride == 8 and job.label_code == 8 + SIGNED and fx_plain_labels(
        job.labels + offset_of(&job.layout, LABELS, row), count, job.classes, job.has_ignore, <int64_t>job.ignore,
        quick.labels,
    )
    counted = plain or labels_of(job, row, count, labels, status)
    if single:
        for i in range(count if plain else 0, max(count, <Py_ssize_t>FX_BATCH)):
            quick.labels[i] = <int32_t>labels[i] if i < count else -1
        quick.ahead_stride = label_stride if 0 < label_stride <= 64 else 0
        quick.ahead = job.labels + offset_of(&job.layout, LABELS, row) + count * label_stride if quick.ahead_stride else NULL
        left = any_quick_rows(
            x, job.kind, job.class_stride, stride, job.classes, count, with_top, job.mode == STATS, &quick
        )
        if not left and counted and job.mode <= LOSS and job.weights == NULL:
            put_singles(job, row, count, quick.values)
            if job.status != NULL:
                memset(job.status + (row - job.row0), USED, count)
            return 0
        if plain:
            memset(status, USED, count)
            for i in range(count):
                labels[i] = quick.labels[i]
        for i in range(count):
            values[i] = quick.values[i] if quick.ok[i] else ODD
            pixels.c[i] = ODD
        if left:
            redo_rows(job, row, count, &quick, with_top, &pixels, values)
        if job.mode == STATS:
            pick_labels(x, job.kind, job.class_stride, stride, count, labels, x_label)
            for i in range(count):
                if quick.ok[i]:
                    values[i] = <double>quick.main[i] + quick.rest[i]
    else:
        sum_pixels(job, row, count, 0, labels if job.label_code else NULL, &pixels)
        if job.label_code and (job.mode == LOSS or job.mode == STATS):
            left = pick_losses(job, x, count, labels, &pixels, x_label, values)
        elif job.single and job.mode == LSE:
            for i in range(count, min(FX_PIXELS, count + FX_NI * FX_VD)):
                pixels.s[i] = 1.0
                pixels.top[i] = pixels.c[i] = 0.0
            lses_of(&pixels, count, values)
            left = count_odd(values, count)
        else:
            for i in range(count):
                values[i] = ODD
        if not left and counted and job.mode <= LOSS and job.weights == NULL:
            put_many(job, row, count, values)
            if job.status != NULL:
                memset(job.status + (row - job.row0), USED, count)
            return 0
    if job.mode <= LOSS:
        place = place_of(job, row)
        step = place_of(job, row + 1) - place if count > 1 else 0
    elif job.mode == STATS:
        for i in range(count):
            as_given[i] = values[i]
            if single and quick.ok[i]:
                as_given[i] = quick.values[i]
            elif job.single:
                as_given[i] = <float>values[i]
        many_stats(job, row, count, labels, x_label, values, as_given, done)
    for i in range(count):
        if job.mode == STATS and done[i] and labels[i] >= 0:
            if job.status != NULL:
                job.status[row + i - job.row0] = USED
            continue
        if values[i] != ODD:
            if job.mode == LSE:
                put(job, place + i * step, values[i])
                continue
            if labels[i] >= 0 and job.mode == LOSS:
                put_loss(job, row + i, place + i * step, labels[i], values[i])
                continue
        if with_top:
            any_segment(x + i * stride, job.kind, job.class_stride, job.classes, -1, False, 0.0, &part)
        elif status[i] == USED:
            partial_of(&pixels, i, x + i * stride, job.kind, job.class_stride, job.classes, labels[i], &part)
            if job.mode == STATS:
                if job.single and <double><float>values[i] != as_given[i]:  # it is rounded there
                    values[i] = as_given[i]
                pixel_stats(job, row + i, labels[i], &part, values[i])
                continue
        counts += finish_row(job, row + i, &part, labels[i], <LabelStatus>status[i], &unused)
    return counts


