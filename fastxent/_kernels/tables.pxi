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
    PRODUCT = 4            # m alone

cdef enum:
    TERM_CHUNK = 4096


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


cdef inline void add_to_pair(double *pair, double x) noexcept nogil:
    cdef double error
    two_sum(pair[0], x, &pair[0], &error)
    pair[1] += error


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


cdef void table_terms_of(
    int which,
    Py_ssize_t n,
    const double *w,           # in (n,)
    const int64_t *rows,       # in (n,)
    const int64_t *columns,    # in (n,)
    const double *row_sums,    # in (rows, 2)
    const double *column_sums, # in (columns, 2)
    const double *total,       # in (2,)
    double *out,               # out (n,)
) noexcept nogil:
    cdef Py_ssize_t i
    cdef const double *r
    cdef const double *c
    cdef uint64_t control = fx_fp_enter()
    for i in range(n):
        r = row_sums + 2 * rows[i]
        c = column_sums + 2 * columns[i]
        if which == JOINT:
            out[i] = entropy_term(w[i], total)
        elif which == GIVEN_ROW:
            out[i] = entropy_term(w[i], r)
        elif which == GIVEN_COLUMN:
            out[i] = entropy_term(w[i], c)
        elif which == MUTUAL:
            out[i] = mutual_term(w[i], r, c, total)
        else:
            out[i] = r[0] * c[0] / total[0]
    fx_fp_leave(control)


cdef bint are_places(const int64_t[::1] places, Py_ssize_t n) noexcept:
    cdef Py_ssize_t i
    cdef bint good = True
    for i in range(places.shape[0]):
        good = good and 0 <= places[i] < n
    return good


def add_margins(
    const double[::1] w, const int64_t[::1] rows, const int64_t[::1] columns,
    double[:, ::1] row_sums, double[:, ::1] column_sums,
):
    """Add entries to the sums of their row and column, (n, 2): in the order given, pairs of doubles."""
    cdef Py_ssize_t i
    cdef uint64_t control
    if (
        w.shape[0] != rows.shape[0] or w.shape[0] != columns.shape[0]
        or row_sums.shape[1] != 2 or column_sums.shape[1] != 2
        or not are_places(rows, row_sums.shape[0]) or not are_places(columns, column_sums.shape[0])
    ):
        raise ValueError("sums do not match")
    with nogil:
        control = fx_fp_enter()
        for i in range(w.shape[0]):
            add_to_pair(&row_sums[rows[i], 0], w[i])
            add_to_pair(&column_sums[columns[i], 0], w[i])
        fx_fp_leave(control)


def table_terms(
    int which, const double[::1] w, const int64_t[::1] rows, const int64_t[::1] columns,
    const double[:, ::1] row_sums, const double[:, ::1] column_sums, const double[::1] total, double[::1] out,
    int threads,
):
    """The terms of some entries: 0 H(X, Y), 1 H(Y|X), 2 H(X|Y), 3 I(X; Y), 4 the products of the marginals."""
    cdef Py_ssize_t n = w.shape[0], i
    if (
        n != rows.shape[0] or n != columns.shape[0] or n != out.shape[0]
        or row_sums.shape[1] != 2 or column_sums.shape[1] != 2 or total.shape[0] != 2
        or not are_places(rows, row_sums.shape[0]) or not are_places(columns, column_sums.shape[0])
    ):
        raise ValueError("terms do not match")
    for i in prange(
        (n + TERM_CHUNK - 1) // TERM_CHUNK, num_threads=threads if n > TERM_CHUNK else 1, schedule="static", nogil=True
    ):
        table_terms_of(
            which, min(TERM_CHUNK, n - i * TERM_CHUNK), &w[i * TERM_CHUNK], &rows[i * TERM_CHUNK],
            &columns[i * TERM_CHUNK], &row_sums[0, 0], &column_sums[0, 0], &total[0], &out[i * TERM_CHUNK],
        )
