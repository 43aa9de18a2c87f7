# Losses against a distribution a row, from logits or probabilities, and the gradient by the logits.
#
# The target of a row is a vector a >= 0 of the classes: a_j = w_j p'_j, p' the given probabilities, or the label's one-hot
# vector, smoothed towards 1 / C. The loss is sum_j a_j (lse - x_j): no term is negative, so nothing cancels. A row is read
# twice, the second time from cache: first the log-sum-exp, as rows.pxi has it, kept as a pair (hi, lo); then the terms
# a_j ((hi - x_j) + lo), in float64 whatever the storage. Only one class can have lse - x_j < log 2, the *peak*: its own
# log1p(S_others / e^x), which has every digit, stands for the difference. A label's own term is always that one.
# A term whose a_j is 0 is 0, whatever its logit: a masked class costs only what the target puts on it.
#
# The gradient is f (A s_j - a_j), A = sum a, s the softmax of outputs.pxi in the working precision, the rest in float64. At
# the peak k, where A s - a would cancel, it is f ((A - a_k) s_k + a_k expm1(-loss_k)).
#
# Probabilities q, up to scale: the same with log q_j for x_j and log S for lse, S = sum q.
#
# Order of additions: 16 lanes of a group of 16, added for a run of TERMS columns, folded and flushed into float64 pairs;
# column segments as in rows.pxi, added in order. All of it is counted from the row's start.

cdef enum:
    TERMS = 256

# arrays of the two layouts, which number the rows alike, for the logits come first in both
cdef enum:
    TARGET = 1       # of `places`
    GRADIENT = 2
    SAMPLE = 1       # of `rows`
    LOSS_OUT = 2

# what the target is
cdef enum:
    SOFT = 256       # added to a storage kind: probabilities; otherwise the code of labels.pxi

# counts of a task, in one integer
cdef enum:
    COUNT_BITS = 21


cdef struct TargetJob:
    Layout places            # x, target, gradient
    Layout rows              # x, sample weight, loss
    const char *x
    const char *target
    const char *sample       # or NULL
    char *loss
    char *gradient           # or NULL
    int kind, target_code, sample_kind
    bint has_ignore, flat, single
    bint probabilities       # x is q, not logits
    bint count_only          # fill row_weights, read no row
    uint64_t ignore
    const double *weights    # a class, or NULL
    double *row_weights      # a row from row0, or NULL
    double smoothing
    double denominator       # the gradient's
    double temperature       # by which the logits have been divided: the gradient is by what they were before
    Py_ssize_t classes, class_stride, target_stride, gradient_stride
    Py_ssize_t row0, row1, rows_a_task


# a row after its first pass
cdef struct Scored:
    double hi, lo        # log-sum-exp, or log of the sum of probabilities 2^-binades
    int64_t binades      # so that the logarithms of a row's probabilities do not cancel against a large one of their sum
    double label_loss
    int64_t peak         # the class of lse - x_j < log 2, where it is known; or -1
    double gap           # its lse - x_j, exactly
    double total, total_lo   # sum of a


cdef inline void widen(const char *p, int kind, Py_ssize_t stride, Py_ssize_t n, double *out, vec like) noexcept nogil:
    """Bring up to TERMS elements into float64."""
    cdef float lanes[FX_VF]
    cdef Py_ssize_t i = 0, k, w = width(like)
    if stride == itemsize(kind):
        if vec is vf:
            while i + w <= n:
                vf_store(lanes, load(p + i * stride, kind, like))
                for k in range(FX_VF):
                    out[i + k] = lanes[k]
                i += w
        else:
            memcpy(out, p, n * 8)
            i = n
    while i < n:
        out[i] = load_one(p + i * stride, kind)
        i += 1


cdef void any_widen(const char *p, int kind, Py_ssize_t stride, Py_ssize_t n, double *out) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if kind == F32:
        widen(p, F32, stride, n, out, f)
    elif kind == F16:
        widen(p, F16, stride, n, out, f)
    elif kind == BF16:
        widen(p, BF16, stride, n, out, f)
    else:
        widen(p, F64, stride, n, out, d)


cdef void target_run(
    const TargetJob *job, const char *target, Py_ssize_t j, Py_ssize_t n, int64_t label, bint whole, double *a
) noexcept nogil:
    """a_j of up to TERMS columns from j on; for a label without `whole` only what smoothing spreads, not yet times eps / C."""
    cdef Py_ssize_t i
    cdef double share = job.smoothing / <double>job.classes
    if job.target_code >= SOFT:
        any_widen(target + j * job.target_stride, job.target_code - SOFT, job.target_stride, n, a)
        if job.smoothing != 0.0:
            for i in range(n):
                a[i] = fx_fma(a[i], 1.0 - job.smoothing, share)
    else:
        for i in range(n):
            a[i] = share if whole else 1.0
        if whole and 0 <= label - j < n:
            a[label - j] = share + (1.0 - job.smoothing)
    if job.weights != NULL:
        for i in range(n):
            a[i] = a[i] * job.weights[j + i] if a[i] != 0.0 else 0.0


cdef void log_run(double *x, Py_ssize_t n, int64_t binades) noexcept nogil:
    """Logarithms of a run of probabilities 2^-binades, up to the end of its last group."""
    cdef double was[TERMS]
    cdef double half = power_of_two(-(binades // 2)), rest = power_of_two(binades // 2 - binades)
    cdef vd y[FX_NI]
    cdef Py_ssize_t i, v
    for i in range(n):
        was[i] = x[i]
        x[i] = x[i] * half * rest
    i = 0
    while i < n:
        for v in range(FX_NI):
            y[v] = vd_load(x + i + v * FX_VD)
        vd_log(y, y)
        for v in range(FX_NI):
            vd_store(x + i + v * FX_VD, y[v])
        i += FX_NI * FX_VD
    if binades > 0:
        for i in range(n):
            if x[i] < -708.0 and was[i] > 0.0:
                # scaled below the smallest normal number
                x[i] = log_(was[i]) - <double>binades * LN2


cdef void add_terms(
    const double *x, const double *a,   # in (TERMS,), a 0 behind the last column
    Py_ssize_t n, double hi, double lo,
    double *sums,                       # in, out (4, 8): sum of a (lse - x), sum of a, each with its error
) noexcept nogil:
    cdef vd loss[FX_NV]
    cdef vd total[FX_NV]
    cdef vd zero = vd_splat(0), hi_ = vd_splat(hi), lo_ = vd_splat(lo), t
    cdef Py_ssize_t g, v, k
    for v in range(FX_NV):
        loss[v] = zero
        total[v] = zero
    for g in range((n + 15) // 16):
        for v in range(FX_NV):
            k = g * 16 + v * FX_VD
            t = vd_load(a + k)
            total[v] = total[v] + t
            loss[v] = vd_fma(vd_pick(vd_eq(t, zero), zero, (hi_ - vd_load(x + k)) + lo_), t, loss[v])
    flush(loss, sums, sums + 8)
    flush(total, sums + 16, sums + 24)


cdef void add_pairs(double *sums, double *total, double *total_lo) noexcept nogil:
    """Add the lanes of a segment, (8,) and their errors (8,), to a row's pair."""
    cdef double hi[8]
    cdef double s, s_lo
    cdef Py_ssize_t i
    memcpy(hi, sums, sizeof(hi))
    fold(sums, sums + 8, &s, &s_lo, vd_splat(0))
    if s != s:
        # an infinite term has made its error NaN
        s = s_lo = 0.0
        for i in range(8):
            s = s + hi[i]
    two_sum(total[0], s, total, &s)
    total_lo[0] = total_lo[0] + (s + s_lo)


cdef inline double of_pair(double hi, double lo) noexcept nogil:
    return hi + lo if -INFINITY < hi < INFINITY else hi


cdef double terms(const TargetJob *job, const char *x, const char *target, int64_t label, Scored *row) noexcept nogil:
    """sum of a_j (lse - x_j) of a row, and `total`; for a label the sums that smoothing wants, without eps / C."""
    cdef double xs[TERMS]
    cdef double a[TERMS]
    cdef double sums[32]
    cdef double loss = 0.0, loss_lo = 0.0, s, at_peak = 0.0
    # a quarter of everything where lse - x might overflow
    cdef double scale = 0.25 if row.hi > 1e307 else 1.0
    cdef Py_ssize_t j = 0, n, end, i
    row.total = row.total_lo = 0.0
    while j < job.classes:
        end = min(j + SEGMENT, job.classes)
        memset(sums, 0, sizeof(sums))
        while j < end:
            n = min(TERMS, end - j)
            any_widen(x + j * job.class_stride, job.kind, job.class_stride, n, xs)
            target_run(job, target, j, n, label, False, a)
            if 0 <= row.peak - j < n:
                at_peak = a[row.peak - j]
                a[row.peak - j] = 0.0
            for i in range(n, (n + 15) // 16 * 16):
                xs[i] = a[i] = 0.0
            if job.probabilities:
                log_run(xs, n, row.binades)
            if scale != 1.0:
                for i in range(n):
                    xs[i] = scale * xs[i]
            add_terms(xs, a, n, scale * row.hi, scale * row.lo, sums)
            j += n
        add_pairs(sums, &loss, &loss_lo)
        add_pairs(sums + 16, &row.total, &row.total_lo)
    two_sum(row.total, at_peak, &row.total, &s)
    row.total_lo = row.total_lo + s
    if at_peak != 0.0:
        loss_lo = loss_lo + scale * (at_peak * row.gap)
    return of_pair(loss, loss_lo) / scale


cdef double share_of(
    const TargetJob *job, const char *x, Py_ssize_t hole, double *top, int64_t *argtop
) noexcept nogil:
    """Sum of a row's probabilities without the hole; its largest, and where; -1 where an entry is negative or infinite."""
    cdef double xs[TERMS]
    cdef double sums[32]
    cdef vd acc[FX_NV]
    cdef double total = 0.0, total_lo = 0.0
    cdef Py_ssize_t j = 0, n, end, i, v
    cdef bint bad = False
    top[0] = 0.0
    argtop[0] = -1
    while j < job.classes:
        end = min(j + SEGMENT, job.classes)
        memset(sums, 0, sizeof(sums))
        while j < end:
            n = min(TERMS, end - j)
            any_widen(x + j * job.class_stride, job.kind, job.class_stride, n, xs)
            for i in range(n):
                bad |= xs[i] < 0.0 or xs[i] == INFINITY
            for i in range(n):
                if xs[i] > top[0]:
                    top[0] = xs[i]
                    argtop[0] = j + i
            if 0 <= hole - j < n:
                xs[hole - j] = 0.0
            for i in range(n, (n + 15) // 16 * 16):
                xs[i] = 0.0
            for v in range(FX_NV):
                acc[v] = vd_splat(0)
            for i in range((n + 15) // 16):
                for v in range(FX_NV):
                    acc[v] = acc[v] + vd_load(xs + i * 16 + v * FX_VD)
            flush(acc, sums, sums + 8)
            j += n
        add_pairs(sums, &total, &total_lo)
    return -1.0 if bad else of_pair(total, total_lo)


cdef double surprise_of(double others, double q) noexcept nogil:
    """-log of q / (others + q)."""
    cdef double ratio
    if q == 0.0:
        return NAN if others == 0.0 else others * INFINITY
    ratio = others / q
    if ratio < 1e18 or ratio != ratio:
        return log1p_(ratio)
    return log_(others) - log_(q)


cdef void log_of_sum(double s, Scored *row) noexcept nogil:
    row.hi = NAN
    if 0.0 < s < INFINITY:
        row.hi = log_(split_exponent(s, &row.binades))


cdef bint score_probabilities(const TargetJob *job, const char *x, int64_t label, Scored *row) noexcept nogil:
    """First pass over a row of probabilities; False where an entry is negative or infinite."""
    cdef double s, top
    cdef int64_t k
    s = share_of(job, x, label, &top, &k)
    if s < 0.0:
        return False
    if label >= 0:
        top = load_one(x + label * job.class_stride, job.kind)
        k = label
    elif k >= 0 and top > 0.5 * s:
        s = share_of(job, x, k, &top, &k)
        top = load_one(x + k * job.class_stride, job.kind)
    else:
        # no class has half of it
        log_of_sum(s, row)
        return True
    row.label_loss = surprise_of(s, top)
    log_of_sum(s + top, row)
    if row.label_loss < LN2:
        row.peak = k
        row.gap = row.label_loss
    return True


cdef void score_logits(const TargetJob *job, const char *x, int64_t label, Scored *row) noexcept nogil:
    """First pass over a row of logits."""
    cdef Partial p
    cdef double top, lost, keep
    cdef int64_t k = label
    sum_row(x, job.kind, job.class_stride, job.classes, label, False, 0.0, &p)
    if label >= 0:
        top = load_one(x + label * job.class_stride, job.kind)
        row.label_loss = loss_of(&p, top)
        if row.label_loss == INFINITY:
            # the others are the whole distribution
            lse_row(x, job.kind, job.class_stride, job.classes, &p, &row.hi, &row.lo)
            return
        if row.label_loss >= LN2:
            # of the others, to which the label adds no more than they have
            lse_of(&p, &row.hi, &row.lo)
            two_sum(row.hi, log1p_(exp_(-((row.hi - top) + row.lo))), &row.hi, &lost)
            row.lo = row.lo + lost
            if job.smoothing != 0.0 and (row.hi - p.top) + row.lo < 0.75:
                keep = row.label_loss
                score_logits(job, x, -1, row)
                row.label_loss = keep
            return
    else:
        lse_of(&p, &row.hi, &row.lo)
        top = p.top
        if not (-INFINITY < row.hi < INFINITY and (row.hi - top) + row.lo < 0.75):
            return
        k = any_find(x, job.kind, job.class_stride, job.classes, top)
        if k < 0:  # another thread has changed the input meanwhile
            return
        sum_row(x, job.kind, job.class_stride, job.classes, k, False, 0.0, &p)
        row.label_loss = loss_of(&p, top)
    two_sum(top, row.label_loss, &row.hi, &row.lo)
    if row.label_loss < LN2:
        row.peak = k
        row.gap = row.label_loss


cdef void normaliser_from(const Scored *row, int kind, Normaliser *out) noexcept nogil:
    """What turns a row into its softmax: e^(x - shift) 2^-c times `inverse`."""
    cdef double y, lo = row.lo, hi = row.hi
    cdef int64_t n
    out.shift = out.inverse_lo = out.hi = out.lo = 0.0
    out.c = 0
    out.inverse = NAN
    if not -INFINITY < row.hi < INFINITY:
        return
    if not -FX_FAR_F < hi < FX_FAR_F:
        out.shift = hi if kind == F64 else <float>hi
        two_sum(hi, -out.shift, &hi, &y)
        two_sum(hi, lo + y, &hi, &lo)
    y = exp_reduced(-hi, 0.0, &n)
    y = fx_fma(-lo, y, y)
    out.c = -n
    out.inverse = y
    if kind != F64:
        out.inverse = <float>y
        out.inverse_lo = y - out.inverse


cdef void write_gradient(
    const TargetJob *job, const char *x, const char *target, int64_t label, const Scored *row, double factor, char *out
) noexcept nogil:
    """f (A s - a) of a row; zeros for a factor of 0."""
    cdef double softmaxes[TERMS]
    cdef double s[TERMS]
    cdef double a[TERMS]
    cdef Normaliser norm
    cdef Py_ssize_t j = 0, n, i, k, size = 4 if job.single else 8
    cdef double value, total = of_pair(row.total, row.total_lo)
    cdef float single
    normaliser_from(row, job.kind, &norm)
    while j < job.classes:
        n = min(TERMS, job.classes - j)
        if factor == 0.0:
            memset(s, 0, sizeof(s))
        else:
            any_write_row(
                x + j * job.class_stride, job.kind, job.class_stride, n, &norm, False, <char *>softmaxes, size
            )
            any_widen(<char *>softmaxes, F32 if job.single else F64, size, n, s)
            target_run(job, target, j, n, label, True, a)
            k = row.peak - j
            value = 0.0
            if 0 <= k < n:
                value = ((row.total - a[k]) + row.total_lo) * exp_(-row.gap) + a[k] * expm1_(-row.gap)
            for i in range(n):
                s[i] = factor * fx_fma(total, s[i], -a[i])
            if 0 <= k < n:
                s[k] = factor * value
        for i in range(n):
            if job.single:
                single = <float>s[i]
                memcpy(out + (j + i) * job.gradient_stride, &single, 4)
            else:
                memcpy(out + (j + i) * job.gradient_stride, &s[i], 8)
        j += n


cdef void put_target_loss(const TargetJob *job, Py_ssize_t row, double value) noexcept nogil:
    cdef char *p = job.loss
    cdef float single
    if job.flat:
        p += (row - job.row0) * (4 if job.single else 8)
    else:
        p += offset_of(&job.rows, LOSS_OUT, row)
    if job.single:
        single = <float>value
        memcpy(p, &single, 4)
    else:
        memcpy(p, &value, 8)


cdef int64_t target_label(const TargetJob *job, const char *p, LabelStatus *status) noexcept nogil:
    """The row's label; -1 for probabilities and without one that counts."""
    cdef uint64_t label
    status[0] = USED
    if job.target_code >= SOFT:
        return -1
    label = read_label(p, job.target_code)
    if job.has_ignore and label == job.ignore:
        status[0] = IGNORED
        return -1
    if label >= <uint64_t>job.classes:
        status[0] = INVALID
        return -1
    return <int64_t>label


cdef int64_t target_row(const TargetJob *job, Py_ssize_t r) noexcept nogil:
    """Score one row; give its count: ignored, invalid, bad probabilities."""
    cdef const char *x = job.x + offset_of(&job.places, X, r)
    cdef const char *target = job.target + offset_of(&job.places, TARGET, r)
    cdef char *gradient = NULL
    cdef LabelStatus status
    cdef Scored row
    cdef double sample = 1.0, w = 1.0, loss = 0.0
    cdef int64_t label = target_label(job, target, &status), counts = 0
    if job.sample != NULL:
        sample = load_one(job.sample + offset_of(&job.rows, SAMPLE, r), job.sample_kind)
    if label >= 0 and job.weights != NULL:
        w = job.weights[label]
    if job.row_weights != NULL:
        job.row_weights[r - job.row0] = sample * w if status == USED else 0.0
    if status != USED:
        counts = 1 if status == IGNORED else <int64_t>1 << COUNT_BITS
    if job.count_only:
        return counts
    row.hi = row.lo = row.label_loss = row.gap = row.total = row.total_lo = 0.0
    row.binades = 0
    row.peak = -1
    if job.gradient != NULL:
        gradient = job.gradient + offset_of(&job.places, GRADIENT, r)
    # such a row counts nothing, whatever its logits
    if status != USED or sample == 0.0 or (label >= 0 and w == 0.0 and job.smoothing == 0.0):
        put_target_loss(job, r, 0.0)
        if gradient != NULL:
            write_gradient(job, x, target, label, &row, 0.0, gradient)
        return counts
    if job.probabilities:
        if not score_probabilities(job, x, label, &row):
            counts += <int64_t>1 << (2 * COUNT_BITS)
    else:
        score_logits(job, x, label, &row)
    if label < 0:
        loss = terms(job, x, target, label, &row)
    else:
        if w != 0.0 and job.smoothing != 1.0:
            loss = (1.0 - job.smoothing) * (w * row.label_loss)
        row.total = w
        if job.smoothing != 0.0:
            add_smoothing(job, x, target, label, w, &row, &loss)
    if not -INFINITY < row.hi < INFINITY:
        # NaN, +inf or nothing but -inf
        loss = NAN
    put_target_loss(job, r, sample * loss)
    if gradient != NULL:
        write_gradient(job, x, target, label, &row, sample / job.denominator / job.temperature, gradient)
    return counts


cdef void add_smoothing(
    const TargetJob *job, const char *x, const char *target, int64_t label, double w, Scored *row, double *loss
) noexcept nogil:
    """Add what smoothing spreads over all classes to a label's loss, and to the sum of a."""
    cdef double share = job.smoothing / <double>job.classes
    loss[0] = loss[0] + share * terms(job, x, target, label, row)
    row.total = share * row.total
    row.total_lo = share * row.total_lo
    two_sum(row.total, (1.0 - job.smoothing) * w, &row.total, &share)
    row.total_lo = row.total_lo + share


cdef int64_t target_task(const TargetJob *job, Py_ssize_t task) noexcept nogil:
    cdef uint64_t control = fx_fp_enter()
    cdef int64_t counts = 0
    cdef Py_ssize_t r, start = job.row0 + task * job.rows_a_task
    for r in range(start, min(start + job.rows_a_task, job.row1)):
        counts += target_row(job, r)
    fx_fp_leave(control)
    return counts


cdef int64_t run_targets(TargetJob *job, int threads) noexcept nogil:
    cdef int64_t counts = 0
    cdef Py_ssize_t rows = job.row1 - job.row0, task, tasks
    if rows <= 0:
        return 0
    job.rows_a_task = max(1, CHUNK // max(1, job.classes))
    tasks = (rows + job.rows_a_task - 1) // job.rows_a_task
    if threads <= 1 or tasks <= 1:
        for task in range(tasks):
            counts += target_task(job, task)
    else:
        for task in prange(tasks, num_threads=<int>min(<Py_ssize_t>threads, tasks), schedule="dynamic"):
            counts += target_task(job, task)
    return counts


cdef class Targets:
    """The rows of one array with their targets, and where losses and gradients go.

    Parameters
    ----------
    x, kind, axis
        As `Rows` has them.
    target, target_code
        Labels of x's shape without the axis, and their code; or probabilities of x's shape, and their kind + 256.
    sample, sample_kind
        Sample weights of x's shape without the axis, or None.
    loss
        Array of x's shape without the axis, or None; float32, or float64 for kind 3.
    gradient
        Array of x's shape and loss's dtype, or None.
    """

    cdef TargetJob job
    cdef Py_buffer views[5]
    cdef bint held[5]

    def __cinit__(self, x, int kind, int axis, target, int target_code, sample=None, int sample_kind=0,
                  loss=None, gradient=None):
        cdef Py_ssize_t *strides[MOST_ARRAYS]
        cdef Py_ssize_t shape[MOST_AXES]
        cdef Py_ssize_t steps[5][MOST_AXES]
        cdef Py_buffer *view
        cdef int d, e, a, axes
        cdef bint full[5]
        memset(&self.job, 0, sizeof(TargetJob))
        memset(self.views, 0, sizeof(self.views))
        memset(self.held, 0, sizeof(self.held))
        for a, array in enumerate((x, target, sample, loss, gradient)):
            if array is not None:
                PyObject_GetBuffer(
                    array, &self.views[a], PyBUF_STRIDED_RO | PyBUF_WRITABLE if a > 2 else PyBUF_STRIDED_RO
                )
                self.held[a] = True
        axes = self.views[0].ndim
        if axes > MOST_AXES or not 0 <= axis < axes:
            raise ValueError("axis out of range")
        for a in range(5):
            view = &self.views[a]
            full[a] = a == 0 or a == 4 or (a == 1 and target_code >= SOFT)
            if not self.held[a]:
                memset(steps[a], 0, sizeof(steps[a]))
                continue
            if view.ndim != axes - (not full[a]):
                raise ValueError("dimensions do not match")
            e = 0
            for d in range(axes):
                if d == axis and not full[a]:
                    continue
                if view.shape[e] != self.views[0].shape[d]:
                    raise ValueError("shapes do not match")
                if d != axis:
                    steps[a][d - (d > axis)] = view.strides[e]
                e += 1
        for d in range(axes):
            if d != axis:
                shape[d - (d > axis)] = self.views[0].shape[d]
        strides[0], strides[1], strides[2] = steps[0], steps[1], steps[4]
        lay_out(axes - 1, shape, strides, 3, &self.job.places)
        strides[0], strides[1], strides[2] = steps[0], steps[2], steps[3]
        lay_out(axes - 1, shape, strides, 3, &self.job.rows)
        self.job.kind = kind
        self.job.single = kind != F64
        self.job.target_code = target_code
        self.job.sample_kind = sample_kind
        self.job.x = <const char *>self.views[0].buf
        self.job.target = <const char *>self.views[1].buf
        self.job.sample = <const char *>self.views[2].buf if sample is not None else NULL
        self.job.loss = <char *>self.views[3].buf
        self.job.gradient = <char *>self.views[4].buf if gradient is not None else NULL
        self.job.classes = self.views[0].shape[axis]
        self.job.class_stride = self.views[0].strides[axis]
        if self.job.classes <= 1:
            self.job.class_stride = itemsize(kind)
        self.job.target_stride = self.views[1].strides[axis] if full[1] else 0
        self.job.gradient_stride = self.views[4].strides[axis] if gradient is not None else 0

    def __dealloc__(self):
        cdef int a
        for a in range(5):
            if self.held[a]:
                PyBuffer_Release(&self.views[a])

    @property
    def count(self):
        """Number of rows."""
        return self.job.places.rows

    def run(
        self, Py_ssize_t row0, Py_ssize_t row1, int threads, *,
        ignore=None,
        const double[::1] weights=None,
        double smoothing=0.0,
        bint probabilities=False,
        double denominator=1.0,
        double temperature=1.0,
        flat=None,
        double[::1] row_weights=None,
        bint count_only=False,
    ):
        """Do a block; give the numbers of ignored rows, of invalid ones, and of those with bad probabilities."""
        cdef TargetJob job = self.job
        cdef const char[::1] out
        cdef int64_t counts, mask = (1 << COUNT_BITS) - 1
        cdef Py_ssize_t rows = row1 - row0
        if not 0 <= row0 <= row1 <= job.places.rows or rows > mask:
            raise ValueError("rows out of range")
        job.row0 = row0
        job.row1 = row1
        if ignore is not None:
            job.has_ignore = True
            job.ignore = ignore
        if weights is not None:
            if weights.shape[0] != job.classes:
                raise ValueError("weights do not match")
            if job.classes:
                job.weights = &weights[0]
        if row_weights is not None and rows:
            if row_weights.shape[0] < rows:
                raise ValueError("row_weights too small")
            job.row_weights = &row_weights[0]
        if flat is not None:
            if rows:
                out = flat.view("b")
                if out.shape[0] < rows * (4 if job.single else 8):
                    raise ValueError("flat too small")
                job.loss = <char *>&out[0]
            job.flat = True
        elif not self.held[3] and not count_only:
            raise ValueError("no room for results")
        job.smoothing = smoothing
        job.probabilities = probabilities
        job.denominator = denominator
        job.temperature = temperature
        job.count_only = count_only
        with nogil:
            counts = run_targets(&job, threads)
        return counts & mask, (counts >> COUNT_BITS) & mask, counts >> (2 * COUNT_BITS)
