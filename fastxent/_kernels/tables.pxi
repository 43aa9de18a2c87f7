# Tables of two variables: marginal sums, and the terms of their entropies and of their mutual information.
#
# Entries w are given up to scale, the largest below 1, with marginal sums r, c and the total t as pairs of doubles. All
# terms are what they are in exact arithmetic to a few ULP, and not negative, so that their sums keep every digit:
#
# entropy      w log(t / w), or log(r / w); from 1 - w / t where that is small.
# information  of independence m = r c / t:  w log(w / m) - w + m = m h(d), d = w / m - 1, h(d) = (1 + d) log(1 + d) - d.
#              d from products of pairs, w t - r c (Dekker, Numer. Math. 18, 1971), so that nearly independent tables keep
#              their digits. h from s = d / (2 + d), where log(1 + d) = 2 (s + s^3/3 + ...) gives
#              h = 2 s^2 (1 + (1 + s) s (1/3 + s^2/5 + ...)) / (1 - s), without cancellation.

cdef enum TableTerm:
    JOINT = 0
    GIVEN_ROW = 1
    GIVEN_COLUMN = 2
    MUTUAL = 3


cdef enum:
    CELLS = 1024           # cells at a time, in buffers on the stack
    SIDE_ROWS = 8          # rows whose sums are added up side by side: none waits for another's
    PARALLEL_CELLS = 1 << 14


cdef struct TableJob:
    int which
    Py_ssize_t width       # cells of a row
    double factors[2]      # of entries, powers of two whose product may be out of range
    double *row_high       # sums of rows and of columns as pairs of doubles; NULL where they are not wanted
    double *row_low
    double *column_high
    double *column_low
    double total[2]


cdef inline void two_product(double a, double b, double *p, double *error) noexcept nogil:
    """p + error = a b exactly, by splitting: the same at levels without a fused multiply-add."""
    cdef double t = 134217729.0 * a, a_hi, a_lo, b_hi, b_lo
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t = 134217729.0 * b
    b_hi = t - (t - b)
    b_lo = b - b_hi
    p[0] = a * b
    error[0] = ((a_hi * b_hi - p[0]) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


cdef inline double entropy_term(double w, const double *t) noexcept nogil:
    """w log(t / w), for 0 <= w <= t."""
    cdef double rest
    if w == 0.0:
        return 0.0
    if w + w > t[0]:
        rest = (t[0] - w) + t[1]
        return 0.0 if rest <= 0.0 else -(w * log1p_(-(rest / t[0])))
    return -(w * log_(w / t[0]))


cdef inline double mutual_term(double w, const double *r, const double *c, const double *t) noexcept nogil:
    """m h(w / m - 1), for m = r c / t; m for w = 0."""
    cdef double a, a_lo, b, b_lo, d, s, z, p, m
    two_product(r[0], c[0], &b, &b_lo)
    m = b / t[0]
    if w == 0.0:
        return m
    two_product(w, t[0], &a, &a_lo)
    d = (a - b) + ((a_lo - b_lo) + (w * t[1] - (r[0] * c[1] + r[1] * c[0])))
    if b < 1e-280:
        # about to underflow
        return max(0.0, w * (log_(w / r[0]) - log_(c[0] / t[0])) - d / t[0])
    s = d / b
    if not -0.25 < s < 0.25:
        return w * log_(a / b) - d / t[0]
    s = s / (2.0 + s)
    z = s * s
    p = 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    return m * (2.0 * z * (1.0 + (1.0 + s) * s * p) / (1.0 - s))


cdef inline double entry_of(const TableJob *job, double w) noexcept nogil:
    return w * job.factors[0] * job.factors[1]


cdef void add_to_columns(const TableJob *job, const double *w, Py_ssize_t n, Py_ssize_t column) noexcept nogil:
    """Add n cells of one row, from a column on, to the columns' sums."""
    cdef Py_ssize_t i
    for i in range(n):
        add_to_pair(&job.column_high[column + i], &job.column_low[column + i], entry_of(job, w[i]))


cdef void add_to_rows(const TableJob *job, const double *w, Py_ssize_t row) noexcept nogil:
    """Add SIDE_ROWS whole rows to their sums."""
    cdef double high[SIDE_ROWS]
    cdef double low[SIDE_ROWS]
    cdef Py_ssize_t i, k
    for k in range(SIDE_ROWS):
        high[k] = low[k] = 0.0
    for i in range(job.width):
        for k in range(SIDE_ROWS):
            add_to_pair(&high[k], &low[k], entry_of(job, w[k * job.width + i]))
    memcpy(job.row_high + row, high, sizeof(high))
    memcpy(job.row_low + row, low, sizeof(low))


cdef void add_margins(const TableJob *job, const double *w, Py_ssize_t n, Py_ssize_t start) noexcept nogil:
    """Add n cells in C order, from number `start` on, to the sums of their rows and columns."""
    cdef Py_ssize_t row = start // job.width, column = start % job.width, i = 0, k, count, span
    while i < n:
        span = min(job.width - column, n - i)
        count = SIDE_ROWS if column == 0 and n - i >= SIDE_ROWS * job.width else 1
        if job.column_high != NULL:
            for k in range(count):
                add_to_columns(job, w + i + k * span, span, column)
        if job.row_high != NULL:
            if count == SIDE_ROWS:
                add_to_rows(job, w + i, row)
            else:
                for k in range(span):
                    add_to_pair(&job.row_high[row], &job.row_low[row], entry_of(job, w[i + k]))
        i += count * span
        column += span
        if column == job.width:
            row += count
            column = 0


cdef void add_cells(
    const TableJob *job, const double *w, Py_ssize_t n, const int64_t *rows, const int64_t *columns
) noexcept nogil:
    """Add cells to the sums of their rows and columns."""
    cdef Py_ssize_t i
    for i in range(n):
        if job.row_high != NULL:
            add_to_pair(&job.row_high[rows[i]], &job.row_low[rows[i]], entry_of(job, w[i]))
        if job.column_high != NULL:
            add_to_pair(&job.column_high[columns[i]], &job.column_low[columns[i]], entry_of(job, w[i]))


cdef void places_of(const TableJob *job, Py_ssize_t start, Py_ssize_t n, int64_t *rows, int64_t *columns) noexcept nogil:
    """Rows and columns of n cells in C order, from number `start` on."""
    cdef int64_t row = start // job.width, column = start % job.width
    cdef Py_ssize_t i
    for i in range(n):
        rows[i] = row
        columns[i] = column
        column += 1
        if column == job.width:
            row += 1
            column = 0


cdef inline void total_of(
    const TableJob *job, const int64_t *rows, const int64_t *columns, Py_ssize_t i, double *t
) noexcept nogil:
    """What cell i is a share of, as a pair."""
    if job.which == JOINT:
        t[0], t[1] = job.total[0], job.total[1]
    elif job.which == GIVEN_ROW:
        t[0], t[1] = job.row_high[rows[i]], job.row_low[rows[i]]
    else:
        t[0], t[1] = job.column_high[columns[i]], job.column_low[columns[i]]


cdef void entropy_terms(
    const TableJob *job, const double *w, const int64_t *rows, const int64_t *columns, Py_ssize_t n, double *out,
) noexcept nogil:
    """w log(t / w), side by side; each by itself where nearly all of t is in one cell, or nearly nothing."""
    cdef double share[CELLS]
    cdef double t[2]
    cdef const double *whole = job.row_high if job.which == GIVEN_ROW else job.column_high
    cdef const int64_t *places = rows if job.which == GIVEN_ROW else columns
    cdef Py_ssize_t i
    cdef bint odd = False
    for i in range(n):
        # nothing is a share of 0 of anything
        share[i] = w[i] / (job.total[0] if job.which == JOINT else whole[places[i]] if w[i] != 0.0 else 1.0)
    for i in range(n):
        # of 0 it is 0; a share that underflows is nothing beside the others
        share[i] = share[i] if share[i] != 0.0 else 0.25
        odd = odd | (share[i] > 0.49) | (share[i] < 1e-300)
    elementary_lanes(1, <const char *>share, <char *>out, n, vd_splat(0))
    for i in range(n):
        out[i] = out[i] * -w[i]
    if odd:
        for i in range(n):
            if share[i] > 0.49 or share[i] < 1e-300:
                total_of(job, rows, columns, i, t)
                out[i] = entropy_term(w[i], t)


cdef void mutual_terms(
    const TableJob *job, const double *w, const int64_t *rows, const int64_t *columns, Py_ssize_t n, bint products,
    double *out,
) noexcept nogil:
    """m h(w / m - 1), or the products m themselves."""
    cdef double r[2]
    cdef double c[2]
    cdef Py_ssize_t i
    for i in range(n):
        r[0], r[1] = job.row_high[rows[i]], job.row_low[rows[i]]
        c[0], c[1] = job.column_high[columns[i]], job.column_low[columns[i]]
        out[i] = r[0] * c[0] / job.total[0] if products else mutual_term(w[i], r, c, job.total)


cdef void add_piece(
    const TableJob *job, const double *w, const int64_t *rows, const int64_t *columns, Py_ssize_t start, Py_ssize_t n,
    bint products, int64_t *limbs,
) noexcept nogil:
    """Add the terms of at most CELLS cells to an exact sum."""
    cdef double x[CELLS]
    cdef double out[CELLS]
    cdef int64_t row[CELLS]
    cdef int64_t column[CELLS]
    cdef Py_ssize_t i
    cdef uint64_t control = fx_fp_enter()
    if rows == NULL and job.which != JOINT:
        places_of(job, start, n, row, column)
        rows, columns = row, column
    for i in range(n):
        x[i] = entry_of(job, w[i])
    if job.which == MUTUAL:
        mutual_terms(job, x, rows, columns, n, products, out)
    else:
        entropy_terms(job, x, rows, columns, n, out)
    add_many(limbs, <const char *>out, False, n)
    fx_fp_leave(control)


cdef bint are_places(const int64_t[::1] places, Py_ssize_t cells, Py_ssize_t n) noexcept:
    """Whether there is a place for each cell, all of them from 0 to n - 1."""
    cdef Py_ssize_t i
    cdef bint good = places.shape[0] == cells
    for i in range(places.shape[0]):
        good = good & (0 <= places[i] < n)
    return good


cdef Py_ssize_t extent_of(const double *w, Py_ssize_t n, double *largest) noexcept nogil:
    """The largest entry, NaN where one is, and the place of the first that is negative or infinite, or -1."""
    cdef Py_ssize_t i = 0, bad = -1
    cdef vd top = vd_splat(0.0), none = vd_splat(0.0), limit = vd_splat(1.7976931348623157e308), x
    cdef vl fine = vd_eq(none, none)
    cdef uint64_t control = fx_fp_enter()
    while i + FX_VD <= n:
        x = vd_load(w + i)
        fine = fine & vd_ge(x, none) & vd_ge(limit, x)
        top = vd_max(top, x)
        i += FX_VD
    largest[0] = vd_top(top)
    if vl_any(~fine):
        i = 0
        largest[0] = 0.0
    while i < n and bad < 0:
        if w[i] < 0.0 or w[i] == INFINITY:
            bad = i
        largest[0] = w[i] if w[i] > largest[0] or w[i] != w[i] else largest[0]
        i += 1
    fx_fp_leave(control)
    return bad


def table_extent(const double[::1] w):
    """The largest of the entries, NaN where one is, and the place of the first that is negative or infinite, or -1."""
    cdef double largest = 0.0
    cdef Py_ssize_t bad = extent_of(&w[0], w.shape[0], &largest) if w.shape[0] else -1
    return largest, bad


cdef class TableSums:
    """The sums of a table, and of the terms of an entropy or of the mutual information.

    Entries come in blocks, of all cells in C order or of some with their rows and columns; first all of them to `add`,
    then to `add_terms`.

    Parameters
    ----------
    which
        0 H(X, Y), 1 H(Y|X), 2 H(X|Y), 3 I(X; Y).
    rows, columns
        The shape of the table.
    largest
        The largest entry, positive and finite: sums are of entries scaled below 1.
    """

    cdef TableJob job
    cdef Py_ssize_t rows
    cdef bytearray room
    cdef bint settled
    cdef int64_t weight[LIMBS + SPECIAL]
    cdef int64_t terms[LIMBS + SPECIAL]
    cdef int64_t products[LIMBS + SPECIAL]

    def __init__(self, int which, Py_ssize_t rows, Py_ssize_t columns, double largest):
        self.set_up(which, rows, columns, largest)

    cdef int set_up(self, int which, Py_ssize_t rows, Py_ssize_t columns, double largest) except -1:
        cdef double *place
        cdef int64_t exponent
        if not (JOINT <= which <= MUTUAL and rows > 0 and columns > 0 and 0.0 < largest < INFINITY):
            raise ValueError("no such table")
        if split_exponent(largest, &exponent) >= 1.0:
            exponent += 1
        self.job.which = which
        self.job.width = columns
        self.rows = rows
        self.job.factors[0] = power_of_two(-(exponent // 2))
        self.job.factors[1] = power_of_two(-(exponent - exponent // 2))
        self.room = bytearray(16 * (rows + columns) if which else 0)
        place = <double *><char *>self.room
        if which == GIVEN_ROW or which == MUTUAL:
            self.job.row_high, self.job.row_low = place, place + rows
        if which == GIVEN_COLUMN or which == MUTUAL:
            self.job.column_high, self.job.column_low = place + 2 * rows, place + 2 * rows + columns
        return 0

    cdef int check(
        self, const double[::1] w, Py_ssize_t start, const int64_t[::1] rows, const int64_t[::1] columns,
    ) except -1:
        cdef bint good
        if rows is None or columns is None:
            good = 0 <= start <= self.rows * self.job.width - w.shape[0]
        else:
            good = are_places(rows, w.shape[0], self.rows) and are_places(columns, w.shape[0], self.job.width)
        if not good:
            raise ValueError("cells outside the table")
        return 0

    def add(self, const double[::1] w, Py_ssize_t start, const int64_t[::1] rows=None, const int64_t[::1] columns=None):
        """Add entries, from cell number `start` on or at some rows and columns, to the sums."""
        self.check(w, start, rows, columns)
        if w.shape[0]:
            with nogil:
                self.add_block(
                    &w[0], w.shape[0], start, NULL if rows is None else &rows[0], NULL if columns is None else &columns[0]
                )

    cdef void add_block(
        self, const double *w, Py_ssize_t n, Py_ssize_t start, const int64_t *rows, const int64_t *columns
    ) noexcept nogil:
        cdef double x[CELLS]
        cdef Py_ssize_t i, piece, done = 0
        cdef uint64_t control = fx_fp_enter()
        while done < n:
            piece = min(CELLS, n - done)
            for i in range(piece):
                x[i] = entry_of(&self.job, w[done + i])
            add_many(self.weight, <const char *>x, False, piece)
            done += piece
        if self.job.which != JOINT and rows == NULL:
            add_margins(&self.job, w, n, start)
        elif self.job.which != JOINT:
            add_cells(&self.job, w, n, rows, columns)
        fx_fp_leave(control)

    cdef void settle(self) noexcept nogil:
        """The exact total, as a pair."""
        cdef int64_t limbs[LIMBS + SPECIAL]
        memcpy(limbs, self.weight, sizeof(limbs))
        self.job.total[0] = exact_quotient(limbs, 1)
        memcpy(limbs, self.weight, sizeof(limbs))
        add_exactly(limbs, -self.job.total[0])
        self.job.total[1] = exact_quotient(limbs, 1)
        self.settled = True

    def add_terms(
        self, const double[::1] w, Py_ssize_t start, int threads, const int64_t[::1] rows=None,
        const int64_t[::1] columns=None, bint products=False,
    ):
        """Add the terms of entries, as `add` takes them; with `products` those of the marginals, too."""
        cdef const int64_t *row = NULL
        cdef const int64_t *column = NULL
        cdef int64_t *limbs
        cdef bytearray room
        cdef Py_ssize_t i, k, n = w.shape[0], pieces = (n + CELLS - 1) // CELLS
        self.check(w, start, rows, columns)
        if n == 0:
            return
        if rows is not None:
            row, column = &rows[0], &columns[0]
        if not self.settled:
            self.settle()
        if threads < 2 or n < PARALLEL_CELLS:
            with nogil:
                for i in range(pieces):
                    self.do_piece(&w[0], row, column, start, i, n, False, self.terms)
                    if products:
                        self.do_piece(&w[0], row, column, start, i, n, True, self.products)
            return
        room = bytearray(16 * (LIMBS + SPECIAL) * threads)
        limbs = <int64_t *><char *>room
        for i in prange(pieces, num_threads=threads, schedule="static", nogil=True):
            self.do_piece(&w[0], row, column, start, i, n, False, limbs + 2 * (LIMBS + SPECIAL) * threadid())
            if products:
                self.do_piece(&w[0], row, column, start, i, n, True, limbs + (LIMBS + SPECIAL) * (2 * threadid() + 1))
        for i in range(threads):
            for k in range(LIMBS):
                self.terms[k] += limbs[2 * (LIMBS + SPECIAL) * i + k]
                self.products[k] += limbs[(LIMBS + SPECIAL) * (2 * i + 1) + k]

    cdef inline void do_piece(
        self, const double *w, const int64_t *rows, const int64_t *columns, Py_ssize_t start, Py_ssize_t i, Py_ssize_t n,
        bint products, int64_t *limbs,
    ) noexcept nogil:
        """Piece i of a block of n cells."""
        cdef Py_ssize_t at = i * CELLS
        add_piece(
            &self.job, w + at, NULL if rows == NULL else rows + at, NULL if columns == NULL else columns + at, start + at,
            min(CELLS, n - at), products, limbs,
        )

    def mean(self, bint empty=False):
        """The sum of the terms over that of the entries; with that of the `empty` cells, whose terms are the products.

        All products of the marginals add up to the total: what those of the cells that were given leave of it.
        """
        cdef int64_t rest[LIMBS + SPECIAL]
        cdef Py_ssize_t i
        if empty:
            for i in range(LIMBS):
                rest[i] = self.weight[i] - self.products[i]
            carry(rest)
            for i in range(LIMBS if rest[LIMBS - 1] >= 0 else 0):
                self.terms[i] += rest[i]
        found = mean_of(self.terms, self.weight)
        return NAN if found is None else found  # of a table that another thread changes
