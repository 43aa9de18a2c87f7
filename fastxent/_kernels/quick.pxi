# Rows of float32 and smaller, lanes being rows, to float32 losses and log-sum-exps: FX_BATCH of them at a time, as quick.h
# has it; for a log-sum-exp the largest logit stands in the label's place. Rows that are out of the ordinary are marked
# and left to others (pixeljob.pxi).

cdef extern from "along.h" nogil:
    enum: FX_ALONG
    void fx_sums_along(
        const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, const int32_t *, vf *, vf *, vf *
    )

cdef extern from "two.h" nogil:
    void fx_two_across(const char *, const int32_t *, vf *, vf *)
    void fx_two_down(const char *, Py_ssize_t, int, Py_ssize_t, const int32_t *, vf *, vf *)
    void fx_two_finish(const vf *, const vf *, int, vf *, vf *, vf *, vi *)

cdef extern from "quick.h" nogil:
    enum: FX_NQ
    enum: FX_BATCH
    enum: FX_SUMS
    const double FX_MOST_OWN
    void fx_sums_across(const char *, Py_ssize_t, int, Py_ssize_t, const int32_t *, vf *, vf *, vf *)
    void fx_sums_three(const char *, const int32_t *, vf *, vf *, vf *)
    Py_ssize_t fx_batch(Py_ssize_t, Py_ssize_t)
    void fx_sums_down(
        const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const int32_t *, vf *, vf *, vf *
    )
    void fx_tops_across(const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, vf *, int32_t *)
    void fx_tops_down(const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, vf *, int32_t *)
    void fx_quick_finish(const vf *, const vf *, const vf *, int, vf *, vf *, vf *, vi *)
    bint fx_all(const vi *)

cdef enum:
    MOST_TOPS = 256        # classes: rows are read twice for their largest logit, the second time from cache

# results of up to FX_PIXELS rows; a batch may end behind the last one
cdef struct Quick:
    int32_t labels[FX_PIXELS + FX_BATCH]     # in, for losses; for log-sum-exps the first class of the largest logit
    float values[FX_PIXELS + FX_BATCH]
    float main[FX_PIXELS + FX_BATCH]         # with `exact`: the loss is main + rest, before it was rounded to float32
    float rest[FX_PIXELS + FX_BATCH]
    int32_t ok[FX_PIXELS + FX_BATCH]         # -1, or 0 where nothing above holds
    const char *ahead                        # the labels of the next rows, to be fetched meanwhile, some bytes apart
    Py_ssize_t ahead_stride


cdef inline void widen(const char *x, int kind, Py_ssize_t n, float *out) noexcept nogil:
    """n contiguous elements of 16 bits to float32."""
    cdef Py_ssize_t i
    for i in range(n // FX_VF):
        fx_stream(x + i * FX_VF * 2 + FX_PREFETCH)
        vf_store(out + i * FX_VF, load(x + i * FX_VF * 2, kind, vf_splat(0)))
    for i in range(n // FX_VF * FX_VF, n):
        out[i] = <float>load_one(x + 2 * i, kind)


cdef inline void gather_lanes(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows, float *out
) noexcept nogil:
    """Rows anywhere into columns: out (n, FX_BATCH), 0 behind the last row."""
    cdef Py_ssize_t i, j
    for j in range(n):
        for i in range(FX_BATCH):
            out[j * FX_BATCH + i] = (
                <float>load_one(x + j * class_stride + i * row_stride, kind) if i < rows else <float>0.0
            )


cdef inline void bring_rows(
    const char *x, int kind, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows, Py_ssize_t lanes, float *out
) noexcept nogil:
    """n contiguous elements of each row into (lanes, n); lanes behind the last row repeat the first."""
    cdef Py_ssize_t i
    if kind != F32 and row_stride == n * itemsize(kind):
        widen(x, kind, n * rows, out)
    else:
        for i in range(rows):
            if kind == F32:
                memcpy(out + i * n, x + i * row_stride, 4 * n)
            else:
                widen(x + i * row_stride, kind, n, out + i * n)
    for i in range(rows, lanes):
        memcpy(out + i * n, out, 4 * n)


cdef inline bint all_far(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    const int32_t *labels,
) noexcept nogil:
    """Whether each row's label has a logit beyond FX_MOST_OWN: none of the sums is of any use then; two classes have none.
    The first row that is not so ends the search, nearly always the first of all."""
    cdef double own
    cdef Py_ssize_t i
    cdef bint found = False
    if n == 2:
        return False
    for i in range(rows):
        if labels[i] >= 0:
            own = load_one(x + i * row_stride + labels[i] * class_stride, kind)
            if -FX_MOST_OWN <= own <= FX_MOST_OWN:
                return False
            found = True
    return found


cdef inline void sums_of_part(
    const char *p, Py_ssize_t stride, int vectors, Py_ssize_t n, Py_ssize_t j, Py_ssize_t some, const int32_t *labels,
    vf *s, vf *lo, vf *own,
) noexcept nogil:
    """`some` classes from j on, of n, of contiguous rows: all of fewer than FX_ALONG."""
    if n == 2:
        fx_two_across(p, labels, s, own)
    elif n == 3:
        fx_sums_three(p, labels, s, lo, own)
    elif n < FX_ALONG:
        fx_sums_across(p, stride, vectors, n, labels, s, lo, own)
    else:
        fx_sums_along(p, stride, vectors, j, some, labels, s, lo, own)


cdef inline bint sums_across(
    const char *x, int kind, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    bint lse, int32_t *labels, vf *s, vf *lo, vf *own,
) noexcept nogil:
    """Sums of a batch of rows whose classes lie side by side, n <= NARROW_SINGLE, their labels' terms left out, and the
    labels' logits (of two classes, instead of the sum, the other logit): where they lie, or some classes at a time in a
    buffer. A few rows leave vectors out. True, and no more, where all rows are far off."""
    cdef float room[NARROW * FX_BATCH]
    cdef vf top[FX_NQ]
    cdef bint lies = rows == FX_BATCH and kind == F32 and (n >= 4 or row_stride == n * 4)
    cdef int vectors = <int>((rows + FX_VF - 1) // FX_VF) if n >= 4 else FX_NQ
    # for the largest logit two parts of much the same length, for the last one must have a quad
    cdef Py_ssize_t step = n if lies or n <= NARROW else ((n + 1) // 2 + 7) // 8 * 8
    cdef Py_ssize_t j = 0, some, stride = row_stride
    cdef bint brought = False
    cdef const char *p = x
    while lse and j < n:
        some = min(step, n - j)
        if not lies:
            bring_rows(x + j * itemsize(kind), kind, row_stride, some, rows, vectors * FX_VF, room)
            p = <const char *>room
            stride = 4 * some
            brought = some == n
        fx_tops_across(p, stride, vectors, j, some, top, labels)
        j += some
    if lse and all_far(x, kind, itemsize(kind), row_stride, n, rows, labels):
        return True
    # parts for fx_sums_along, which wants multiples of FX_MOST_LANED; what was brought whole is there whole
    step = n if lies or n <= NARROW else NARROW
    j = 0
    while j < n:
        some = min(step, n - j)
        p = x + j * itemsize(kind)
        if not lies:
            if not brought:
                bring_rows(p, kind, row_stride, some, rows, vectors * FX_VF, room)
            p = <const char *>room
            stride = 4 * some
        sums_of_part(p, stride, vectors, n, j, some, labels, s, lo, own)
        j += some
    return False


cdef inline bint sums_down(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    bint lse, int32_t *labels, vf *s, vf *lo, vf *own,
) noexcept nogil:
    """The same of rows whose classes lie apart: of those that lie side by side any number."""
    cdef float room[NARROW * FX_BATCH]
    cdef vf top[FX_NQ]
    cdef Py_ssize_t i, j, k, some, row, size = itemsize(kind)
    cdef bint lies = rows >= FX_BATCH and row_stride == size
    cdef Py_ssize_t batches = (rows + FX_BATCH - 1) // FX_BATCH, parts = (n + NARROW - 1) // NARROW
    if not lse and all_far(x, kind, class_stride, row_stride, n, rows, labels):
        return True
    for i in range(batches * FX_NQ):
        s[i] = lo[i] = own[i] = vf_splat(0)
    if lse:
        for k in range(batches):
            row = fx_batch(k, rows) if lies else 0
            memset(labels + row, 255, 4 * FX_BATCH)
            for i in range(FX_NQ):
                top[i] = vf_splat(-INFINITY)
            if lies:
                fx_tops_down(x + row * size, class_stride, kind, size, 0, n, top, labels + row)
                continue
            for i in range(parts):
                j = i * NARROW
                some = min(<Py_ssize_t>NARROW, n - j)
                gather_lanes(x + j * class_stride, kind, class_stride, row_stride, some, rows, room)
                fx_tops_down(<const char *>room, 4 * FX_BATCH, F32, 4, j, some, top, labels)
        if all_far(x, kind, class_stride, row_stride, n, rows, labels):
            return True
    if n == 2:
        for k in range(batches):
            row = fx_batch(k, rows) if lies else 0
            if lies:
                fx_two_down(
                    x + row * size, class_stride, kind, size, labels + row, s + k * FX_NQ, own + k * FX_NQ
                )
            else:
                gather_lanes(x, kind, class_stride, row_stride, n, rows, room)
                fx_two_down(<const char *>room, 4 * FX_BATCH, F32, 4, labels, s, own)
        return False
    for i in range(parts):
        j = i * NARROW
        some = min(<Py_ssize_t>NARROW, n - j)
        if lies:
            fx_sums_down(x + j * class_stride, class_stride, kind, size, j, some, rows, labels, s, lo, own)
        else:
            gather_lanes(x + j * class_stride, kind, class_stride, row_stride, some, rows, room)
            fx_sums_down(<const char *>room, 4 * FX_BATCH, F32, 4, j, some, FX_BATCH, labels, s, lo, own)
    return False


cdef inline bint finish_batch(
    const vf *s, const vf *lo, const vf *own, Py_ssize_t n, bint lse, bint exact, Py_ssize_t i, Quick *out
) noexcept nogil:
    """Results of a batch of rows of n classes, whose first row is i; whether all are done."""
    cdef Py_ssize_t j
    cdef vf y[FX_NQ]
    cdef vf a[FX_NQ]
    cdef vf b[FX_NQ]
    cdef vi ok[FX_NQ]
    cdef Py_ssize_t v
    for j in range(0, FX_BATCH * out.ahead_stride, 64):
        fx_prefetch(out.ahead + i * out.ahead_stride + j)
    if n == 2:
        if exact:
            fx_two_finish(s, own, False, y, a, b, ok)
        else:
            fx_two_finish(s, own, lse, y, NULL, NULL, ok)
    elif exact:
        fx_quick_finish(s, lo, own, False, y, a, b, ok)
    else:
        fx_quick_finish(s, lo, own, lse, y, NULL, NULL, ok)
    for v in range(FX_NQ):
        vf_store(&out.values[i + v * FX_VF], y[v])
        vf_store(&out.ok[i + v * FX_VF], <vf>ok[v])
        if exact:
            vf_store(&out.main[i + v * FX_VF], a[v])
            vf_store(&out.rest[i + v * FX_VF], b[v])
    return fx_all(ok)


cdef inline Py_ssize_t quick_rows(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    bint lse, bint exact, Quick *out,
) noexcept nogil:
    """Up to FX_PIXELS rows; give the number of batches that leave something to do."""
    cdef vf s[FX_NQ]
    cdef vf lo[FX_NQ]
    cdef vf own[FX_NQ]
    cdef Py_ssize_t i, k, some = min(<Py_ssize_t>FX_BATCH, rows), left = 0
    cdef const char *p
    cdef bint far
    for k in range((rows + FX_BATCH - 1) // FX_BATCH):
        i = fx_batch(k, rows) if rows > FX_BATCH else 0
        p = x + i * row_stride
        if class_stride == itemsize(kind) and n <= NARROW_SINGLE:
            far = not lse and all_far(p, kind, class_stride, row_stride, n, some, &out.labels[i])
            far = far or sums_across(p, kind, row_stride, n, some, lse, &out.labels[i], s, lo, own)
        else:
            far = sums_down(p, kind, class_stride, row_stride, n, some, lse, &out.labels[i], s, lo, own)
        if far:
            memset(&out.ok[i], 0, 4 * FX_BATCH)
            left += 1
        else:
            left += not finish_batch(s, lo, own, n, lse, exact, i, out)
    return left


cdef inline Py_ssize_t neighbouring_rows(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t n, Py_ssize_t rows, bint lse, bint exact, Quick *out
) noexcept nogil:
    """The same of rows that lie side by side, FX_BATCH of them at least."""
    cdef vf s[FX_SUMS]
    cdef vf lo[FX_SUMS]
    cdef vf own[FX_SUMS]
    cdef Py_ssize_t k, left = 0, batches = (rows + FX_BATCH - 1) // FX_BATCH
    if sums_down(x, kind, class_stride, itemsize(kind), n, rows, lse, out.labels, s, lo, own):
        memset(out.ok, 0, 4 * rows)
        return batches
    for k in range(batches):
        left += not finish_batch(
            s + k * FX_NQ, lo + k * FX_NQ, own + k * FX_NQ, n, lse, exact, fx_batch(k, rows), out
        )
    return left


cdef inline Py_ssize_t rows_that_lie(
    const char *x, Py_ssize_t n, Py_ssize_t rows, bint lse, bint exact, Quick *out
) noexcept nogil:
    """The same of contiguous float32 rows, FX_BATCH of them at least."""
    cdef vf s[FX_NQ]
    cdef vf lo[FX_NQ]
    cdef vf own[FX_NQ]
    cdef vf top[FX_NQ]
    cdef Py_ssize_t i, k, left = 0
    cdef const char *p
    for k in range((rows + FX_BATCH - 1) // FX_BATCH):
        i = fx_batch(k, rows)
        p = x + 4 * n * i
        if lse:
            fx_tops_across(p, 4 * n, FX_NQ, 0, n, top, &out.labels[i])
        if n != 2 and all_far(p, F32, 4, 4 * n, n, FX_BATCH, &out.labels[i]):
            memset(&out.ok[i], 0, 4 * FX_BATCH)
            left += 1
            continue
        sums_of_part(p, 4 * n, FX_NQ, n, 0, n, &out.labels[i], s, lo, own)
        left += not finish_batch(s, lo, own, n, lse, exact, i, out)
    return left


cdef Py_ssize_t two_quick_rows(const char *x, Py_ssize_t rows, bint lse, bint exact, Quick *out) noexcept nogil:
    if lse and exact:
        return rows_that_lie(x, 2, rows, True, True, out)
    if lse:
        return rows_that_lie(x, 2, rows, True, False, out)
    if exact:
        return rows_that_lie(x, 2, rows, False, True, out)
    return rows_that_lie(x, 2, rows, False, False, out)


cdef Py_ssize_t three_quick_rows(const char *x, Py_ssize_t rows, bint lse, bint exact, Quick *out) noexcept nogil:
    if lse and exact:
        return rows_that_lie(x, 3, rows, True, True, out)
    if lse:
        return rows_that_lie(x, 3, rows, True, False, out)
    if exact:
        return rows_that_lie(x, 3, rows, False, True, out)
    return rows_that_lie(x, 3, rows, False, False, out)


cdef Py_ssize_t lying_quick_rows(
    const char *x, Py_ssize_t n, Py_ssize_t rows, bint lse, bint exact, Quick *out
) noexcept nogil:
    """Of two classes and of three by functions of their own: half of their time went into what a number that is not
    known wants."""
    if n == 2:
        return two_quick_rows(x, rows, lse, exact, out)
    if n == 3:
        return three_quick_rows(x, rows, lse, exact, out)
    return rows_that_lie(x, n, rows, lse, exact, out)


cdef inline Py_ssize_t quick_rows_of(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    bint lse, bint exact, Quick *out,
) noexcept nogil:
    if row_stride == itemsize(kind) and rows > FX_BATCH:
        return neighbouring_rows(x, kind, class_stride, n, rows, lse, exact, out)
    return quick_rows(x, kind, class_stride, row_stride, n, rows, lse, exact, out)


cdef Py_ssize_t any_quick_rows(
    const char *x, int kind, Py_ssize_t class_stride, Py_ssize_t row_stride, Py_ssize_t n, Py_ssize_t rows,
    bint lse, bint exact, Quick *out,
) noexcept nogil:
    if kind == F32 and class_stride == 4 and row_stride == 4 * n and n <= NARROW_SINGLE and rows >= FX_BATCH:
        return lying_quick_rows(x, n, rows, lse, exact, out)
    if kind == F32:
        return quick_rows_of(x, F32, class_stride, row_stride, n, rows, lse, exact, out)
    if kind == F16:
        return quick_rows_of(x, F16, class_stride, row_stride, n, rows, lse, exact, out)
    return quick_rows_of(x, BF16, class_stride, row_stride, n, rows, lse, exact, out)
