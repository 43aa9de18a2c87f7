# What plain calls (plain.pxi) are made of beside the jobs themselves: options, samples, class weights, sums and means.

cdef enum:
    PLAIN_ROWS = 512       # losses that wait on the stack for their exact sum
    PLAIN_PAIRS = 128      # pairs of rows, of all statistics
    DENSE_CELLS = 1 << 24  # of a contingency table, as _passes/contingency.py has it

# what becomes of row results
cdef enum Reduction:
    NONE = 0
    SUM = 1
    MEAN = 2
    UNKNOWN = 3


cdef Reduction reduction_of(reduction, bint batchmean):
    if type(reduction) is not str:
        return UNKNOWN
    if reduction == "mean" or (batchmean and reduction == "batchmean"):
        return MEAN
    return NONE if reduction == "none" else SUM if reduction == "sum" else UNKNOWN


cdef inline Py_ssize_t sample_offset(const Py_buffer *x, Py_ssize_t i) noexcept nogil:
    """Byte offset of element number i, in C order."""
    cdef Py_ssize_t offset = 0
    cdef int d
    for d in range(x.ndim - 1, -1, -1):
        offset += i % x.shape[d] * x.strides[d]
        i = i // x.shape[d]
    return offset


cdef bint like_shares(const Py_buffer *x, int kind, Py_ssize_t size) noexcept nogil:
    """Whether three elements are in [0, 1], as looks_normalised (_passes/targets.py) asks first of all."""
    cdef Py_ssize_t i
    for i in range(3):
        if not 0 <= load_one(<const char *>x.buf + sample_offset(x, i * size // 3), kind) <= 1:
            return False
    return True


cdef void add_up(int64_t *limbs, const char *values, bint single, Py_ssize_t n) noexcept nogil:
    """Add values to an exact sum, whatever the floating-point control of the caller's thread."""
    cdef uint64_t control = fx_fp_enter()
    add_many(limbs, values, single, n)
    fx_fp_leave(control)


cdef object integer_of(const int64_t *limbs, Py_ssize_t low, Py_ssize_t high):
    """The limbs from `high` down to `low` of a carried sum that is not negative, as one integer."""
    cdef Py_ssize_t i
    whole = limbs[high]
    for i in range(high - 1, low - 1, -1):
        whole = whole << 32 | limbs[i]
    return whole


cdef object mean_of(int64_t *sums, int64_t *weights):
    """A sum over the sum of its weights, rounded once; None unless both are finite, and above 0.

    Both are integers of one unit, whose division rounds once; limbs that are 0 in both are left out. The limbs are used up.
    """
    cdef Py_ssize_t low = 0, high = LIMBS - 1
    if special_of(sums) != 0.0 or special_of(weights) != 0.0:
        return None
    carry(sums)
    carry(weights)
    if sums[LIMBS - 1] < 0 or weights[LIMBS - 1] < 0:
        return None
    while high > 0 and sums[high] == 0 and weights[high] == 0:
        high -= 1
    while low < high and sums[low] == 0 and weights[low] == 0:
        low += 1
    divisor = integer_of(weights, low, high)
    if divisor == 0:
        return None
    try:
        return integer_of(sums, low, high) / divisor
    except OverflowError:
        return None


cdef class ClassWeights:
    """A number for each class, of an array of float64, held while it is read."""

    cdef Py_buffer view
    cdef bint held

    cdef const double *take(self, weight, Py_ssize_t classes) except? NULL:
        """The weights; NULL for an array that does not lie as `classes` numbers side by side."""
        PyObject_GetBuffer(weight, &self.view, PyBUF_STRIDED_RO)
        self.held = True
        if self.view.ndim != 1 or self.view.shape[0] != classes or self.view.itemsize != 8:
            return NULL
        if (classes > 1 and self.view.strides[0] != 8) or <size_t>self.view.buf % sizeof(double):
            return NULL
        return <const double *>self.view.buf

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)
