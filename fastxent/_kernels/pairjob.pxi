# Two arrays walked together: a block of pairs of rows, cut into tasks that threads share.
#
# A task is some whole pairs of rows; where a row is several column segments, first the sums of every segment of either
# row, then their merging, then the pairs of segments, then the sum over them, each of these in the order of columns.
# KL alone takes one reading where it can (divergence.pxi; of probabilities once.pxi, and JS alone, too), and these steps only
# for the rows that it does not cover. Beside other statistics KL from logits comes from the same arithmetic, which gives the
# sums as well: a row's KL has the same bits either way.

cdef enum:
    Q = 1   # array of a Layout beside X, which is p, and OUT

cdef struct PairJob:
    int what
    int sides                # 2; 1 for the entropy of one array's rows
    bint shares              # probabilities up to scale, not logits
    bint single              # results are rounded to float32; out holds it
    bint windows             # the row comes in windows (pairwindow.pxi)
    double unit              # nats that a unit of the results is
    Layout layout
    Operand side[2]          # where row 0 lies; kind and stride
    char *out                # one statistic, or NULL
    double *values           # (rows, STATISTICS) from row0, or NULL
    PairPart *parts          # (row, segment) from row0, or NULL where a row is one segment
    Py_ssize_t classes, segments, segment0, segment1
    Py_ssize_t row0, row1
    Py_ssize_t rows_a_task


cdef inline Py_ssize_t columns(const PairJob *job, Py_ssize_t segment) noexcept nogil:
    return min(SEGMENT, job.classes - segment * SEGMENT)


cdef inline void sum_side(const PairJob *job, Py_ssize_t row, Py_ssize_t segment, int s, Partial *out) noexcept nogil:
    cdef const Operand *side = &job.side[s]
    cdef Operand there
    if job.shares:
        there = side[0]
        there.x += offset_of(&job.layout, s, row)
        any_sum_shares(&there, segment * SEGMENT, columns(job, segment), out)
        return
    any_segment(
        side.x + offset_of(&job.layout, s, row) + segment * SEGMENT * side.stride, side.kind, side.stride,
        columns(job, segment), -1, False, 0.0, out,
    )


cdef inline void find_rows(const PairJob *job, Py_ssize_t row, Pair *pair) noexcept nogil:
    cdef int s
    for s in range(2):
        pair.side[s] = job.side[s]
        pair.side[s].x += offset_of(&job.layout, s, row)
        if job.shares:
            pair.side[s].shift = 1.0


cdef inline void pair_sums(
    const PairJob *job, const Pair *pair, bint sound, int what, Py_ssize_t segment, double *sums
) noexcept nogil:
    cdef int s
    if not sound:
        for s in range(STATISTICS):
            sums[s] = 0.0
    elif job.shares and job.side[0].kind == F64:
        share_segment_d(pair, segment * SEGMENT, columns(job, segment), job.sides, what, sums)
    elif job.shares:
        if not share_segment_f(pair, segment * SEGMENT, columns(job, segment), job.sides, what, sums):
            share_segment_d(pair, segment * SEGMENT, columns(job, segment), job.sides, what, sums)
    elif job.side[0].kind == F64:
        pair_segment_d(pair, segment * SEGMENT, columns(job, segment), what, sums)
    else:
        pair_segment_f(pair, segment * SEGMENT, columns(job, segment), what, sums)


cdef void write_pair(const PairJob *job, Py_ssize_t row, bint sound, double *sums) noexcept nogil:
    cdef int s
    cdef float single
    cdef char *p
    if sound:
        if job.sides == 1:
            finish_entropy(sums)
        finish_pair(sums, job.what, job.unit, job.single)
    else:
        for s in range(STATISTICS):
            sums[s] = NAN
    if job.values != NULL:
        memcpy(&job.values[(row - job.row0) * STATISTICS], sums, STATISTICS * sizeof(double))
    if job.out != NULL:
        p = job.out + offset_of(&job.layout, OUT, row)
        s = 0
        while not job.what >> s & 1:
            s += 1
        if job.single:
            single = <float>sums[s]
            memcpy(p, &single, 4)
        else:
            memcpy(p, &sums[s], 8)


cdef inline bint in_one_reading(const PairJob *job) noexcept nogil:
    if not job.shares:
        return job.what == KL
    # the sums of half precision's probabilities differ by too much for JS
    return job.sides == 2 and (
        job.what == KL and job.side[0].kind != F64
        or job.what == JS and job.side[0].kind == F32 and job.side[1].kind == F32
    )


cdef inline void spread_of(
    const PairJob *job, const Pair *pair, Py_ssize_t segment, int s, PairPart *out, bint partial
) noexcept nogil:
    """KL of row s from the other one, of a segment, and its sum of exponentials."""
    cdef const Operand *p = &pair.side[s]
    cdef const Operand *q = &pair.side[1 - s]
    cdef Py_ssize_t start = segment * SEGMENT, n = columns(job, segment)
    cdef Partial *part = &out.part[s] if partial else NULL
    if job.shares:
        out.covered[s] = once_segment(p, q, start, n, job.what, &out.spread[s])
    elif p.kind == F64:
        out.covered[s] = spread_segment_d(p, q, start, n, &out.spread[s], part)
    else:
        out.covered[s] = spread_segment_f(p, q, start, n, &out.spread[s], part)


cdef inline void sum_or_spread(
    const PairJob *job, Py_ssize_t row, const Pair *pair, Py_ssize_t segment, int s, PairPart *out
) noexcept nogil:
    """Sum a segment of row s; where KL is wanted beside others, by the way to it."""
    out.covered[s] = False
    if not job.shares and job.what != KL and job.what & (REVERSE if s else KL):
        spread_of(job, pair, segment, s, out, True)
    if not out.covered[s]:
        sum_side(job, row, segment, s, &out.part[s])


cdef inline double kl_of(const Spread *spread) noexcept nogil:
    return log1p_(spread.u / spread.s)


cdef inline bint put_reading(const PairJob *job, const Spread *spread, double *sums) noexcept nogil:
    """What one reading of a row says; False where it does not."""
    if job.shares:
        return once_of(spread, job.what, &sums[0 if job.what == KL else 2])
    sums[0] = kl_of(spread)
    return True


cdef bint scaled_reading(const PairJob *job, Py_ssize_t row, PairPart *sums) noexcept nogil:
    """The same of a summed row of probabilities times powers of two, where there are some that help."""
    cdef Pair pair
    find_rows(job, row, &pair)
    if not job.shares or not in_one_reading(job) or not scale_once(sums.part, job.what, pair.side):
        return False
    spread_of(job, &pair, 0, 0, sums, False)
    return sums.covered[0] and put_reading(job, &sums.spread[0], sums.sums)


cdef inline int left_of(const PairJob *job, const PairPart *first) noexcept nogil:
    """What is left to measure once the spreads are there."""
    cdef int left = job.what
    if job.shares or job.what == KL:
        return left
    if first.done[0] and first.done[1] and left & ~(KL | REVERSE):
        left &= ~(KL | REVERSE)
    return left


cdef inline void put_spreads(const PairJob *job, PairPart *first) noexcept nogil:
    """The divergences of covered rows in the place of what the pass over pairs has found, or not looked for."""
    cdef int s
    if not job.shares and job.what != KL:
        for s in range(2):
            if first.done[s]:
                first.sums[s] = kl_of(&first.spread[s])


cdef inline void gather_spreads(const PairJob *job, PairPart *parts, int s) noexcept nogil:
    """Merge a row's spreads in the order of columns, where all its segments have one."""
    cdef Py_ssize_t i
    parts.done[s] = parts.covered[s]
    for i in range(1, job.segments):
        parts.done[s] = parts.done[s] and parts[i].covered[s]
        if parts.done[s] and job.shares:
            merge_once(&parts.spread[s], &parts[i].spread[s])
        elif parts.done[s]:
            merge_spreads(&parts.spread[s], &parts[i].spread[s])


cdef inline bint prepare(const PairJob *job, PairPart *sums, Pair *pair) noexcept nogil:
    """What the pass over pairs wants of a summed row; False for one that is no distribution."""
    if job.shares:
        return shares_of(sums, job.sides, pair)
    return pair_of(sums, pair)


cdef inline int64_t is_bad(const PairJob *job, const PairPart *sums) noexcept nogil:
    """1 where an entry is negative or infinite and they should be probabilities."""
    if not job.shares:
        return 0
    return sums.part[0].above | (sums.part[1].above if job.sides == 2 else 0)


cdef int64_t pair_row(const PairJob *job, Py_ssize_t row, const Few *few, Py_ssize_t lane) noexcept nogil:
    """One row of one segment, from end to end, but for what is there in a lane of `few`; the counts of run_pairs."""
    cdef PairPart sums
    cdef Pair pair
    cdef bint sound = True, once = False
    cdef int s
    find_rows(job, row, &pair)
    if in_one_reading(job):
        spread_of(job, &pair, 0, 0, &sums, False)
        once = sums.covered[0] and put_reading(job, &sums.spread[0], sums.sums)
    if not once:
        for s in range(job.sides):
            sum_or_spread(job, row, &pair, 0, s, &sums)
            sums.done[s] = sums.covered[s]
            if not job.shares:
                normalise(&pair.side[s], job.classes, &sums, s)
        once = scaled_reading(job, row, &sums)
    if not once:
        sound = prepare(job, &sums, &pair)
        pair_sums(job, &pair, sound, left_of(job, &sums), 0, sums.sums)
        put_spreads(job, &sums)
    if few != NULL and sound:
        for s in range(STATISTICS):
            if job.what >> s & 1 and few.covered[s][lane]:
                sums.sums[s] = few.sums[s][lane]
    write_pair(job, row, sound, sums.sums)
    if job.shares:
        return 0 if once else is_bad(job, &sums)
    return 1 if in_one_reading(job) and not once else 0


cdef int64_t few_pairs(const PairJob *job, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Rows of few classes, a vector of them at a time."""
    cdef Few few
    cdef double sums[STATISTICS]
    cdef bint double_ = job.side[0].kind == F64, covered
    cdef Py_ssize_t lanes = FX_VD if double_ else FX_VF, row = start, count, i
    cdef int64_t found = 0
    cdef int s
    while row < stop:
        count = min(lanes, stop - row)
        if double_:
            few_rows_d(job.side, &job.layout, row, count, job.classes, job.sides, job.shares, job.what, &few)
        else:
            few_rows_f(job.side, &job.layout, row, count, job.classes, job.sides, job.shares, job.what, &few)
        for i in range(count):
            covered = True
            for s in range(STATISTICS):
                sums[s] = few.sums[s][i]
                covered = covered and (not job.what >> s & 1 or few.covered[s][i])  # only those asked for are there
            if covered:
                write_pair(job, row + i, True, sums)
            else:
                found += pair_row(job, row + i, &few, i)
        row += count
    return found


cdef int64_t pair_rows(const PairJob *job, Py_ssize_t task) noexcept nogil:
    """Rows of one segment, from end to end."""
    cdef int64_t found = 0
    cdef Py_ssize_t row, start = job.row0 + task * job.rows_a_task, stop = min(start + job.rows_a_task, job.row1)
    if 0 < job.classes <= FEW:
        return few_pairs(job, start, stop)
    for row in range(start, stop):
        found += pair_row(job, row, NULL, 0)
    return found


cdef int64_t pair_task(const void *of, int phase, Py_ssize_t task) noexcept nogil:
    cdef const PairJob *job = <const PairJob *>of
    cdef uint64_t control = fx_fp_enter()
    cdef Py_ssize_t many = job.segment1 - job.segment0, row, segment, i
    cdef PairPart *parts
    cdef Pair pair
    cdef bint sound
    cdef int64_t bad = 0
    cdef int s
    if phase == 0:
        bad = pair_rows(job, task)
    elif phase == 5:
        row = task // many
        segment = job.segment0 + task % many
        parts = &job.parts[row * job.segments + segment]
        find_rows(job, job.row0 + row, &pair)
        spread_of(job, &pair, segment, 0, parts, False)
    elif phase == 6:
        parts = &job.parts[task * job.segments]
        gather_spreads(job, parts, 0)
        parts.done[0] = parts.done[0] and put_reading(job, &parts.spread[0], parts.sums)
        if parts.done[0]:
            write_pair(job, job.row0 + task, True, parts.sums)
        bad = 0 if parts.done[0] else 1
    elif phase < 7 and in_one_reading(job) and job.parts[(
        task // job.sides // many if phase == 1 else task // many if phase == 3 else task
    ) * job.segments].done[0]:
        pass
    elif phase == 1:
        # a segment of one row of the two
        s = <int>(task % job.sides)
        row = task // job.sides // many
        segment = job.segment0 + task // job.sides % many
        find_rows(job, job.row0 + row, &pair)
        sum_or_spread(job, job.row0 + row, &pair, segment, s, &job.parts[row * job.segments + segment])
        if job.windows and not job.shares:
            note_top(job, &pair.side[s], segment, &job.parts[segment].part[s])
    elif phase == 2:
        parts = &job.parts[task * job.segments]
        find_rows(job, job.row0 + task, &pair)
        for s in range(job.sides):
            for i in range(1, job.segments):
                if job.shares:
                    merge_shares(&parts.part[s], &parts[i].part[s])
                else:
                    merge(&parts.part[s], &parts[i].part[s], i * SEGMENT)
            if not job.shares:
                if job.windows:
                    normalise_windows(parts, s, False)
                else:
                    normalise(&pair.side[s], job.classes, parts, s)
                if job.what != KL:
                    gather_spreads(job, parts, s)
        bad = is_bad(job, parts)
    elif phase == 7:
        s = <int>(task % job.sides)
        segment = job.segment0 + task // job.sides
        find_rows(job, job.row0, &pair)
        read_window_again(job, &pair.side[s], segment, s, job.parts)
    elif phase == 8:
        for s in range(job.sides):
            finish_reading(job, s, job.parts)
    elif phase == 3:
        row = task // many
        segment = job.segment0 + task % many
        parts = &job.parts[row * job.segments]
        find_rows(job, job.row0 + row, &pair)
        sound = prepare(job, parts, &pair)
        pair_sums(job, &pair, sound, left_of(job, parts), segment, parts[segment].sums)
    else:
        parts = &job.parts[task * job.segments]
        find_rows(job, job.row0 + task, &pair)
        sound = prepare(job, parts, &pair)
        for i in range(1, job.segments):
            for s in range(STATISTICS):
                parts.sums[s] = parts.sums[s] + parts[i].sums[s]
        put_spreads(job, parts)
        write_pair(job, job.row0 + task, sound, parts.sums)
    fx_fp_leave(control)
    return bad


cdef int64_t pair_phase(const PairJob *job, int phase, Py_ssize_t tasks, int threads) noexcept nogil:
    cdef Py_ssize_t elements = SEGMENT if phase else job.sides * job.rows_a_task * job.classes
    return run_tasks(pair_task, job, phase, tasks, elements, threads, INFINITY, NULL)


cdef int64_t run_pairs(PairJob *job, bint first, bint sums, bint again, bint pairs, int threads) noexcept nogil:
    """Give the number of rows with an entry that is no probability, or of those that one reading does not cover."""
    cdef Py_ssize_t rows = job.row1 - job.row0, many = job.segment1 - job.segment0
    cdef int64_t bad = 0
    if job.parts == NULL:
        job.rows_a_task = max(1, CHUNK // 2 // max(1, job.classes))
        return pair_phase(job, 0, (rows + job.rows_a_task - 1) // job.rows_a_task, threads)
    if first and in_one_reading(job):
        pair_phase(job, 5, rows * many, threads)
        if job.segment1 == job.segments:
            bad = pair_phase(job, 6, rows, threads)
            if bad == 0 or not sums:
                return bad
            if job.shares:
                bad = 0
    if sums:
        pair_phase(job, 1, job.sides * rows * many, threads)
        if job.segment1 == job.segments:
            bad += pair_phase(job, 2, rows, threads)
    if again and job.windows and not job.shares:
        pair_phase(job, 7, job.sides * many, threads)
        if job.segment1 == job.segments:
            pair_phase(job, 8, 1, 1)
    if pairs:
        pair_phase(job, 3, rows * many, threads)
        if job.segment1 == job.segments:
            pair_phase(job, 4, rows, threads)
    return bad
