# Contingency tables: how often each pair of labels occurs in two label arrays, each read once.
#
# Labels are brought piece by piece into a small buffer of this thread's own, checked there and counted from there, so that
# no value, and no other thread that changes the arrays meanwhile, makes a write out of bounds. A chunk with a label outside
# the table is not counted at all; its largest labels tell the caller so, and how large a table it wants.
#
# Each thread counts into uint32 tables of its own, which the caller provides, adds up and clears before 2^32 labels.
# All are integers, so the counts do not depend on who counted what. A small table has several copies, in which labels are
# counted by turns: equal pairs, one after the other, would each wait for the last one's store (it saves a tenth at most
# on an AMD EPYC).

from cython.parallel cimport threadid

cdef enum:
    PAIR_CHUNK = 2048  # labels that are checked together; their buffers are 16 KB of stack
    PAIR_COPIES = 4
    FEW_CELLS = 1024   # whose copies are on the stack

# the two arrays of a Counting
cdef enum:
    PAIR_X = 0
    PAIR_Y = 1

cdef struct Counting:
    Layout layout
    const char *labels[2]
    int codes[2]           # labels.pxi
    uint64_t limits[2]     # rows and columns of the table, at most 2^31
    uint32_t *counters     # (threads, copies, room), room for the cells at least
    Py_ssize_t room, copies


cdef inline uint64_t widen_labels(const char *p, Py_ssize_t stride, Py_ssize_t n, int code, uint32_t *out) noexcept nogil:
    """The lower halves of n labels, and all their upper halves' bits; a negative label is at least 2^31 in either."""
    cdef uint64_t high = 0, label
    cdef Py_ssize_t i
    for i in range(n):
        label = read_label(p + i * stride, code)
        out[i] = <uint32_t>label
        if code & 15 == 8:
            high |= label
    return high >> 32


cdef inline uint64_t widen_labels_as(const char *p, Py_ssize_t stride, Py_ssize_t n, int code, uint32_t *out) noexcept nogil:
    # labels that lie together are a loop of their own, which the compiler vectorises
    if stride == code & 15:
        return widen_labels(p, code & 15, n, code, out)
    return widen_labels(p, stride, n, code, out)


cdef uint64_t any_widen_labels(const char *p, Py_ssize_t stride, Py_ssize_t n, int code, uint32_t *out) noexcept nogil:
    if code & 15 >= 4 and not code & SWAPPED:
        code &= 15  # no sign to extend
    if code == 8:
        return widen_labels_as(p, stride, n, 8, out)
    if code == 4:
        return widen_labels_as(p, stride, n, 4, out)
    if code == 2:
        return widen_labels_as(p, stride, n, 2, out)
    if code == 2 + SIGNED:
        return widen_labels_as(p, stride, n, 2 + SIGNED, out)
    if code == 1:
        return widen_labels_as(p, stride, n, 1, out)
    if code == 1 + SIGNED:
        return widen_labels_as(p, stride, n, 1 + SIGNED, out)
    if code == 1 + BOOLEAN:
        return widen_labels_as(p, stride, n, 1 + BOOLEAN, out)
    return widen_labels(p, stride, n, code, out)


cdef uint64_t gather_labels(
    const Counting *job, int array, Py_ssize_t start, Py_ssize_t n, uint32_t *out
) noexcept nogil:
    """Fill `out`; give the largest label, as the buffer has it unless it is beyond 32 bits."""
    cdef const Layout *layout = &job.layout
    cdef Py_ssize_t line = layout.shape[layout.axes - 1] if layout.axes else 1, i = 0, some
    cdef Py_ssize_t stride = layout.strides[array][layout.axes - 1] if layout.axes else 0
    cdef uint64_t high = 0, label, largest = 0
    cdef uint32_t top = 0
    while i < n:
        some = min(n - i, line - (start + i) % line)
        high |= any_widen_labels(
            job.labels[array] + offset_of(layout, array, start + i), stride, some, job.codes[array], out + i
        )
        i += some
    # of the buffer, which nobody else can change
    for i in range(n):
        top = max(top, out[i])
    if high == 0 and top < 0x80000000u:
        return top
    for i in range(n):
        label = read_label(job.labels[array] + offset_of(layout, array, start + i), job.codes[array])
        largest = max(largest, label)
    # not less than what the buffer was refused for, should another thread have changed it meanwhile
    return max(largest, <uint64_t>0x80000000u)


cdef void largest_labels(const Counting *job, uint64_t *tops) noexcept nogil:
    """The largest label of either array, a negative one as 2^64 more."""
    cdef uint32_t some[PAIR_CHUNK]
    cdef Py_ssize_t start = 0, n
    cdef int a
    tops[0] = tops[1] = 0
    while start < job.layout.rows:
        n = min(PAIR_CHUNK, job.layout.rows - start)
        for a in range(2):
            tops[a] = max(tops[a], gather_labels(job, a, start, n, some))
        start += n


cdef Py_ssize_t cells_of(const Counting *job, Py_ssize_t chunk, uint32_t *cells, uint64_t *tops) noexcept nogil:
    """The cells of a chunk's pairs; their number, 0 where a label is outside the table; `tops` are its largest labels."""
    cdef uint32_t y[PAIR_CHUNK]
    cdef Py_ssize_t start = chunk * PAIR_CHUNK, n = min(PAIR_CHUNK, job.layout.rows - start), i
    cdef uint32_t columns = <uint32_t>job.limits[PAIR_Y]
    tops[PAIR_X] = gather_labels(job, PAIR_X, start, n, cells)
    tops[PAIR_Y] = gather_labels(job, PAIR_Y, start, n, y)
    if tops[PAIR_X] >= job.limits[PAIR_X] or tops[PAIR_Y] >= job.limits[PAIR_Y]:
        return 0
    for i in range(n):
        cells[i] = cells[i] * columns + y[i]
    return n


cdef inline void count_cells(
    const uint32_t *cells, Py_ssize_t n, uint32_t *counters, Py_ssize_t room, Py_ssize_t copies,
    const char *ahead_x, const char *ahead_y, Py_ssize_t ahead,   # bytes of each that are fetched meanwhile
) noexcept nogil:
    cdef Py_ssize_t i = 0, k
    while i + 8 <= n:
        if i * 8 < ahead:
            fx_prefetch(ahead_x + i * 8)
            fx_prefetch(ahead_y + i * 8)
        if copies == PAIR_COPIES:
            for k in range(8):
                counters[k % PAIR_COPIES * room + cells[i + k]] += 1
        else:
            for k in range(8):
                counters[cells[i + k]] += 1
        i += 8
    while i < n:
        counters[cells[i]] += 1
        i += 1


cdef void count_chunk(const Counting *job, Py_ssize_t chunk, int thread, uint64_t *tops) noexcept nogil:
    """Count a chunk, or nothing of it where a label is outside the table; `tops` are its largest labels."""
    cdef uint32_t cells[PAIR_CHUNK]
    cdef Py_ssize_t n = cells_of(job, chunk, cells, tops), next_ = (chunk + 1) * PAIR_CHUNK, ahead = 0
    cdef const char *x = NULL
    cdef const char *y = NULL
    cdef uint32_t *counters
    if job.layout.axes == 1 and next_ + PAIR_CHUNK <= job.layout.rows:
        # the next chunk, where both arrays lie as one
        ahead = PAIR_CHUNK * min(magnitude(job.layout.strides[PAIR_X][0]), magnitude(job.layout.strides[PAIR_Y][0]))
        x = job.labels[PAIR_X] + next_ * job.layout.strides[PAIR_X][0]
        y = job.labels[PAIR_Y] + next_ * job.layout.strides[PAIR_Y][0]
    counters = job.counters + thread * job.copies * job.room
    if job.copies == PAIR_COPIES:
        count_cells(cells, n, counters, job.room, PAIR_COPIES, x, y, ahead)
    else:
        count_cells(cells, n, counters, job.room, 1, x, y, ahead)


cdef bint count_few(const Counting *job, int64_t *table, uint64_t *tops) noexcept nogil:
    """Count all pairs, in this thread; False, and `tops` the largest labels, where one is outside the table."""
    cdef uint32_t cells[PAIR_CHUNK]
    cdef uint32_t counters[PAIR_COPIES * FEW_CELLS]
    cdef uint64_t some[2]
    cdef Py_ssize_t chunk, n, i, room = <Py_ssize_t>(job.limits[PAIR_X] * job.limits[PAIR_Y])
    cdef bint inside = True, copies = room <= FEW_CELLS and job.layout.rows >= PAIR_COPIES * room
    tops[PAIR_X] = tops[PAIR_Y] = 0
    if copies:
        memset(counters, 0, PAIR_COPIES * room * 4)
    for chunk in range((job.layout.rows + PAIR_CHUNK - 1) // PAIR_CHUNK):
        n = cells_of(job, chunk, cells, some)
        inside = inside and n > 0
        tops[PAIR_X] = max(tops[PAIR_X], some[PAIR_X])
        tops[PAIR_Y] = max(tops[PAIR_Y], some[PAIR_Y])
        if copies:
            count_cells(cells, n, counters, room, PAIR_COPIES, NULL, NULL, 0)
        else:
            for i in range(n):
                table[cells[i]] += 1
    if copies:
        for i in range(room):
            table[i] += <int64_t>counters[i] + counters[room + i] + counters[2 * room + i] + counters[3 * room + i]
    return inside


@cython.freelist(4)
cdef class LabelPairs:
    """Two label arrays of one shape, to be counted.

    Parameters
    ----------
    x, y
        Arrays of one shape and any strides, of integers or bool.
    x_code, y_code
        Size of their items + 16 if signed + 32 if byte-swapped + 64 if bool.
    """

    cdef Counting job
    cdef Py_buffer x, y
    cdef bint has_x, has_y

    def __init__(self, x, int x_code, y, int y_code):
        self.set_up(x, x_code, y, y_code)

    cdef int set_up(self, x, int x_code, y, int y_code) except -1:
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t steps[MOST_ARRAYS][MOST_AXES]
        cdef int d, a
        if self.has_x:
            raise ValueError("set up already")
        PyObject_GetBuffer(x, &self.x, PyBUF_STRIDED_RO)
        self.has_x = True
        PyObject_GetBuffer(y, &self.y, PyBUF_STRIDED_RO)
        self.has_y = True
        if self.x.ndim != self.y.ndim or self.x.ndim > MOST_AXES:
            raise ValueError("dimensions do not match")
        if x_code & 15 != self.x.itemsize or y_code & 15 != self.y.itemsize:
            raise ValueError("codes do not match")
        for d in range(self.x.ndim):
            if self.x.shape[d] != self.y.shape[d]:
                raise ValueError("shapes do not match")
            steps[PAIR_X][d] = self.x.strides[d]
            steps[PAIR_Y][d] = self.y.strides[d]
        for a in range(MOST_ARRAYS):
            strides[a] = steps[a]
        lay_out(self.x.ndim, self.x.shape, strides, 2, &self.job.layout)
        self.job.labels[PAIR_X] = <const char *>self.x.buf
        self.job.labels[PAIR_Y] = <const char *>self.y.buf
        self.job.codes[PAIR_X] = x_code
        self.job.codes[PAIR_Y] = y_code
        return 0

    def __dealloc__(self):
        if self.has_x:
            PyBuffer_Release(&self.x)
        if self.has_y:
            PyBuffer_Release(&self.y)

    @property
    def chunks(self):
        """Number of chunks, of `pair_chunk` labels but for the last."""
        return (self.job.layout.rows + PAIR_CHUNK - 1) // PAIR_CHUNK

    def tops(self):
        """The largest label of x and of y, a negative one as 2^64 more; of at least one label."""
        cdef Counting job = self.job
        cdef uint32_t unused[PAIR_CHUNK]
        cdef uint64_t largest[2]
        cdef Py_ssize_t start, chunk
        cdef int a
        largest[PAIR_X] = largest[PAIR_Y] = 0
        with nogil:
            for chunk in range((job.layout.rows + PAIR_CHUNK - 1) // PAIR_CHUNK):
                start = chunk * PAIR_CHUNK
                for a in range(2):
                    largest[a] = max(
                        largest[a], gather_labels(&job, a, start, min(PAIR_CHUNK, job.layout.rows - start), unused)
                    )
        return largest[PAIR_X], largest[PAIR_Y]

    def count_few(self, int64_t[:, ::1] table):
        """Add all pairs to a table, in one thread: not many, for no signal is looked at meanwhile.

        Gives None, or the largest labels, as `tops`, where one is outside the table.
        """
        cdef Counting job = self.job
        cdef uint64_t largest[2]
        cdef bint inside
        if not (table.shape[0] <= 1 << 31 and table.shape[1] <= 1 << 31 and table.shape[0] * table.shape[1] <= 1 << 31):
            raise ValueError("table too large")
        job.limits[PAIR_X] = table.shape[0]
        job.limits[PAIR_Y] = table.shape[1]
        with nogil:
            inside = count_few(&job, &table[0, 0] if job.limits[PAIR_X] * job.limits[PAIR_Y] else NULL, largest)
        return None if inside else (largest[PAIR_X], largest[PAIR_Y])

    def count(
        self, const int64_t[::1] chunks, Py_ssize_t rows, Py_ssize_t columns, uint32_t[:, :, ::1] counters,
        uint64_t[:, ::1] tops,
    ):
        """Add the pairs of some chunks to `counters`, (threads, copies, at least rows x columns).

        `tops`, (chunks, 2), takes the largest label of each chunk in x and in y, a negative one as 2^64 more. A chunk is
        counted where both are inside the table.
        """
        cdef Counting job = self.job
        cdef Py_ssize_t i, n = chunks.shape[0], all_ = self.chunks
        cdef int threads = <int>counters.shape[0]
        if not (0 <= rows <= 1 << 31 and 0 <= columns <= 1 << 31 and rows * columns <= 1 << 31):
            raise ValueError("table too large")
        if counters.shape[2] < rows * columns or counters.shape[1] not in (1, PAIR_COPIES):
            raise ValueError("counters do not match")
        if tops.shape[0] != n or tops.shape[1] != 2 or threads < 1:
            raise ValueError("tops do not match")
        for i in range(n):
            if not 0 <= chunks[i] < all_:
                raise ValueError("chunks out of range")
        if n == 0:
            return
        job.limits[PAIR_X] = rows
        job.limits[PAIR_Y] = columns
        job.room = counters.shape[2]
        job.copies = counters.shape[1]
        job.counters = &counters[0, 0, 0] if job.room else NULL
        with nogil:
            if threads == 1:
                for i in range(n):
                    count_chunk(&job, chunks[i], 0, &tops[i, 0])
            else:
                for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=8):
                    count_chunk(&job, chunks[i], threadid(), &tops[i, 0])


pair_chunk = PAIR_CHUNK
pair_copies = PAIR_COPIES
