# A block of rows with their targets: what is asked for, and where everything lies.

# arrays of the layout, X the first
cdef enum:
    TARGET = 1
    GRADIENT = 2
    SAMPLE = 3
    LOSS_OUT = 4
    TARGET_ARRAYS = 5

# what the target is
cdef enum:
    SOFT = 256       # added to a storage kind: probabilities; otherwise the code of labels.pxi

# counts of a task, in one integer: ignored and invalid rows, those of bad probabilities
cdef enum:
    COUNT_BITS = 21


cdef struct TargetJob:
    Layout layout
    const char *x
    const char *target
    const char *sample       # or NULL
    char *loss
    char *gradient           # or NULL
    int kind, target_code, sample_kind
    bint has_ignore, flat, single
    bint probabilities       # x is q, not logits
    bint own_label           # a label without smoothing: nothing but its own term
    bint count_only          # fill row_weights, read no row
    bint in_lanes            # lanes are rows
    uint64_t ignore
    const double *weights    # a class, or NULL
    double *row_weights      # a row from row0, or NULL
    double smoothing
    double denominator       # the gradient's
    double temperature       # by which the logits have been divided: the gradient is by what they were before
    TargetPart *parts        # (row, segment) from row0, or NULL where a row is one segment
    Py_ssize_t classes, class_stride, target_stride, gradient_stride
    Py_ssize_t row0, row1, segments, segment0, segment1
    Py_ssize_t rows_a_task
    Py_ssize_t inner, pieces_a_line, pieces_a_task   # in lanes: rows of one line, and how it is cut


# what columns of a row leave behind (target_rows.pxi)
cdef struct TargetPart:
    Partial rest     # all, but for the class k; probabilities: their sum (s, s_lo) and the largest
    double own       # element of k
    int64_t k        # the class of the largest element, or the label; -1 where none is left out
    double a0, a0_lo, a1, a1_lo   # target_terms.pxi
    double x_label   # the label's own element, where it is among these columns
    bint bad         # a probability that is negative or infinite


cdef inline Py_ssize_t stride_of(const TargetJob *job, int array) noexcept nogil:
    """From a row to the next one of its line."""
    return job.layout.strides[array][job.layout.axes - 1] if job.layout.axes else 0


cdef inline char *place_of_loss(const TargetJob *job, Py_ssize_t row) noexcept nogil:
    if job.flat:
        return job.loss + (row - job.row0) * (4 if job.single else 8)
    return job.loss + offset_of(&job.layout, LOSS_OUT, row)


cdef inline void put_number(char *p, bint single, double value) noexcept nogil:
    cdef float narrow
    if single:
        narrow = <float>value
        memcpy(p, &narrow, 4)
    else:
        memcpy(p, &value, 8)


cdef inline int64_t count_of(int status) noexcept nogil:
    return 0 if status == USED else 1 if status == IGNORED else <int64_t>1 << COUNT_BITS


cdef inline int64_t target_label(const TargetJob *job, const char *p, int code, uint8_t *status) noexcept nogil:
    """The row's label; -1 without one that counts."""
    cdef uint64_t label = read_label(p, code)
    status[0] = USED
    if job.has_ignore and label == job.ignore:
        status[0] = IGNORED
    elif label >= <uint64_t>job.classes:
        status[0] = INVALID
    return <int64_t>label if status[0] == USED else -1


cdef void read_targets(
    const TargetJob *job, Py_ssize_t row, Py_ssize_t count, int64_t *labels, uint8_t *status
) noexcept nogil:
    """Labels of neighbouring rows; -1 for probabilities and for those that do not count."""
    cdef const char *p = job.target + offset_of(&job.layout, TARGET, row)
    cdef Py_ssize_t i, stride = stride_of(job, TARGET)
    if job.target_code >= SOFT:
        memset(labels, -1, count * 8)
        memset(status, USED, count)
    elif job.target_code == 8 + SIGNED:
        for i in range(count):
            labels[i] = target_label(job, p + i * stride, 8 + SIGNED, &status[i])
    else:
        for i in range(count):
            labels[i] = target_label(job, p + i * stride, job.target_code, &status[i])
