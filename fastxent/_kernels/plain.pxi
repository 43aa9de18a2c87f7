# Plain calls, as most small ones are: arrays of NumPy's own that the kernels read as they lie, default options, and so few
# elements that one thread does them in one go.
#
# What such a call costs is not arithmetic but the Python around it: options that are none, arrays that are not converted,
# blocks of which there is one. `Plain` looks at the arrays, makes the result and runs the job of the same class that the
# passes (fastxent/_passes) run, so that every bit is theirs. Its answer to all else, errors and warnings included, is
# None: the general path is taken then.
#
# NumPy is handed in, not imported.

cdef class Plain:
    """Calls of plain arrays; every method gives None where a call is not one.

    Parameters
    ----------
    ndarray, empty, zeros, number
        NumPy's ndarray, empty, zeros and float64.
    dtypes
        NumPy's native dtypes float32, float16, float64, int32 and int64.
    most
        Elements that are done by one thread.
    """

    cdef object ndarray, empty, zeros, number, float32, float16, float64, int32, int64
    cdef Py_ssize_t most

    def __init__(self, ndarray, empty, zeros, number, dtypes, Py_ssize_t most):
        self.ndarray, self.empty, self.zeros, self.number = ndarray, empty, zeros, number
        self.float32, self.float16, self.float64, self.int32, self.int64 = dtypes
        self.most = min(most, SEGMENT - 1)

    cdef int kind_of(self, x):
        """Storage kind of an array that is read as it lies; -1 for all else."""
        if type(x) is not self.ndarray:
            return -1
        dtype = x.dtype
        # the dtypes that NumPy's arrays have are one object each; others of the same meaning take the general path
        if dtype is self.float32:
            return F32
        if dtype is self.float64:
            return F64
        return F16 if dtype is self.float16 else -1

    cdef int label_code_of(self, labels, ignore_index):
        """Code of integer labels that can hold `ignore_index`; -1 for all else."""
        if type(labels) is not self.ndarray or type(ignore_index) is not int:
            return -1
        if not -(1 << 31) <= ignore_index < 1 << 31:
            return -1
        dtype = labels.dtype
        return 8 + SIGNED if dtype is self.int64 else 4 + SIGNED if dtype is self.int32 else -1

    cdef bint few(self, x):
        """Whether there are elements, and one thread does them."""
        return 0 < <Py_ssize_t>x.size <= self.most

    cdef weighted(self, int64_t *sums, int64_t *weights):
        """The weighted mean; None for one that the general path forms."""
        found = mean_of(sums, weights)
        return None if found is None else self.number(found)

    cdef room(self, tuple shape, int kind):
        """An array for results."""
        return self.empty(shape, self.float64 if kind == F64 else self.float32)

    cdef class_axis(self, tuple shape, axis):
        """The class axis from 0 on, and the shape without it; None for an axis that is no plain one."""
        cdef Py_ssize_t axes = len(shape), d
        if type(axis) is not int or not -axes <= axis < axes:
            return None
        d = axis
        d = d + axes if d < 0 else d
        return d, shape[:d] + shape[d + 1 :]

    def elements(self, int function, x, tuple constants=None):
        """An elementwise function of one array."""
        cdef int kind = self.kind_of(x), bad
        cdef int codes[OPERANDS]
        cdef Elements elements
        if kind < 0 or not self.few(x):
            return None
        shape = x.shape
        out = self.room(shape, kind)
        codes[:] = [kind, 0, 0, 0, F64 if kind == F64 else F32, 0]
        elements = Elements.__new__(Elements)
        elements.set_up(function, (x, None, None, None, out, None), codes, kind != F64, kind != F64, 1.0)
        elements.job.stop = elements.job.layout.rows
        if constants is not None:
            for bad in range(4):
                elements.job.constants[bad] = constants[bad]
        with nogil:
            bad = run_elements(&elements.job, 1, INFINITY)
        if bad:
            return None
        return out if shape else out[()]

    def binary(self, int function, x, target, reduction, gradient=False):
        """A binary loss of two arrays of one shape; with `gradient` the pair of loss and gradient."""
        cdef int kind = self.kind_of(x), target_kind = self.kind_of(target), bad = 0
        cdef Reduction how = reduction_of(reduction, False)
        cdef int codes[OPERANDS]
        cdef int64_t limbs[LIMBS + SPECIAL]
        cdef Elements elements
        cdef ElementJob *job
        cdef Py_ssize_t count
        cdef double value
        if kind < 0 or target_kind < 0 or how == UNKNOWN or type(gradient) is not bool or not self.few(x):
            return None
        shape = x.shape
        if target.shape != shape:
            return None
        out = self.room(shape, kind) if how == NONE else None
        slope = self.room(shape, kind) if gradient else None
        codes[:] = [kind, target_kind, 0, 0, F64 if kind == F64 else F32, F64 if kind == F64 else F32]
        elements = Elements.__new__(Elements)
        elements.set_up(
            function, (x, target, None, None, out, slope), codes, kind != F64 and target_kind != F64, kind != F64, 1.0
        )
        job = &elements.job
        count = job.layout.rows
        job.divisor = count if how == MEAN else 1
        if how != NONE:
            job.sums = limbs
        with nogil:
            memset(limbs, 0, sizeof(limbs))
            while job.stop < count and not bad:
                # a task at a time, for it has one sum
                job.start = job.stop
                job.stop = min(job.start + TASK, count)
                bad = run_elements(job, 1, INFINITY)
            value = exact_quotient(limbs, count if how == MEAN else 1) if how != NONE else 0.0
        if bad:
            return None
        loss = self.number(value) if how != NONE else out if shape else out[()]
        return (loss, slope) if gradient else loss

    def rows(self, int mode, x, axis, double unit=1.0):
        """Log-sum-exp, entropy, softmax or log-softmax along an axis, or, of an array that lies as one row, all of it."""
        cdef int kind = self.kind_of(x), d
        cdef bint outputs = mode == SOFTMAX or mode == LOG_SOFTMAX
        cdef Rows rows
        cdef Job *job
        if kind < 0 or not self.few(x):
            return None
        shape = x.shape
        if axis is None and shape:
            if len(shape) > 1 and not x.flags.c_contiguous:
                return None
            d, rest = 0, ()
        else:
            found = self.class_axis(shape, axis)
            if found is None:
                return None
            d, rest = found
        out = self.room(shape if outputs else rest, kind)
        rows = Rows.__new__(Rows)
        if axis is None and len(shape) > 1:
            rows.set_up(x.reshape(-1), kind, 0, None, 0, out.reshape(-1) if outputs else out, -1)
        else:
            rows.set_up(x, kind, d, None, 0, out, -1)
        job = &rows.job
        if job.strided and mode == ENTROPY:
            return None
        set_mode(job, mode)
        job.unit = unit
        job.row1 = job.layout.rows
        job.segment1 = job.segments
        with nogil:
            run_job(job, 1, INFINITY)
        return out if outputs or rest else out[()]

    def losses(self, x, target, weight, ignore_index, reduction, smoothing, from_logits, temperature, gradient):
        """Cross-entropy against a label a row, or class probabilities; with `gradient` the pair of loss and gradient."""
        cdef int kind = self.kind_of(x), code
        cdef Reduction how = reduction_of(reduction, False)
        if kind < 0 or how == UNKNOWN or not self.few(x):
            return None
        if type(smoothing) is not float or type(temperature) is not float or not 0.0 <= smoothing <= 1.0:
            return None
        if temperature != 1.0 or type(from_logits) is not bool or type(gradient) is not bool:
            return None
        found = self.class_axis(x.shape, 0 if x.ndim == 1 else 1)
        code = self.label_code_of(target, ignore_index)
        if found is None:
            return None
        if code < 0:
            code = self.kind_of(target)
            # a label that is ignored is no option beside probabilities
            if code < 0 or target.shape != x.shape or type(ignore_index) is not int or ignore_index >= 0:
                return None
            code += SOFT
        elif target.shape != found[1]:
            return None
        if code < SOFT and smoothing == 0.0 and from_logits and not gradient:
            return self.label_losses(x, kind, found[0], found[1], target, weight, code, ignore_index, how)
        if weight is not None:
            return None
        return self.target_losses(
            x, kind, found[0], found[1], target, code, ignore_index, how, smoothing, not from_logits, gradient
        )

    cdef label_losses(self, x, int kind, int axis, rest, labels, weight, int code, ignore_index, Reduction how):
        cdef double flat[PLAIN_ROWS]
        cdef double row_weights[PLAIN_ROWS]
        cdef int64_t limbs[LIMBS + SPECIAL]
        cdef int64_t weight_limbs[LIMBS + SPECIAL]
        cdef ClassWeights held = None
        cdef int64_t counts = 0
        cdef Py_ssize_t count
        cdef double value = 0.0
        cdef Rows rows = Rows.__new__(Rows)
        cdef Job *job = &rows.job
        out = self.room(rest, kind) if how == NONE else None
        rows.set_up(x, kind, axis, labels, code, out, -1)
        count = job.layout.rows
        if like_shares(&rows.x, kind, count * job.classes) and job.classes > 1:
            return None
        if weight is not None:
            if type(weight) is not self.ndarray or weight.dtype is not self.float64:
                return None
            held = ClassWeights.__new__(ClassWeights)
            job.weights = held.take(weight, job.classes)
            if job.weights == NULL:
                return None
            if how == MEAN:
                job.row_weights = row_weights
        set_mode(job, LOSS)
        job.segment1 = job.segments
        job.has_ignore = True
        job.ignore = <uint64_t><int64_t>ignore_index
        with nogil:
            if how == NONE:
                job.row1 = count
                counts = run_job(job, 1, INFINITY)
            else:
                memset(limbs, 0, sizeof(limbs))
                memset(weight_limbs, 0, sizeof(weight_limbs))
                job.flat = True
                job.out = <char *>flat
                while job.row1 < count:
                    job.row0 = job.row1
                    job.row1 = min(job.row0 + PLAIN_ROWS, count)
                    counts += run_job(job, 1, INFINITY)
                    add_up(limbs, <const char *>flat, job.single, job.row1 - job.row0)
                    if job.row_weights != NULL:
                        add_up(weight_limbs, <const char *>row_weights, False, job.row1 - job.row0)
                count -= counts & 0xffffffffLL
                if count and job.row_weights == NULL:
                    value = exact_quotient(limbs, count if how == MEAN else 1)
        if counts >> 32 or (count == 0 and how == MEAN):
            return None
        if how == NONE:
            return out if rest else out[()]
        return self.number(value) if job.row_weights == NULL else self.weighted(limbs, weight_limbs)

    cdef target_losses(
        self, x, int kind, int axis, rest, target, int code, ignore_index, Reduction how, double smoothing,
        bint probabilities, bint want_gradient,
    ):
        cdef double flat[PLAIN_ROWS]
        cdef int64_t limbs[LIMBS + SPECIAL]
        cdef int64_t counts = 0, mask = (1 << COUNT_BITS) - 1
        cdef Py_ssize_t count
        cdef double value = 0.0
        cdef Targets rows
        cdef TargetJob *job
        cdef TargetJob counting
        if probabilities and want_gradient:
            return None
        rows = Targets.__new__(Targets)
        job = &rows.job
        out = self.room(rest, kind) if how == NONE else None
        gradient = self.room(x.shape, kind) if want_gradient else None
        rows.set_up(x, kind, axis, target, code, None, 0, out, gradient, -1, 0)
        count = job.layout.rows
        if not probabilities and like_shares(&rows.views[X], kind, count * job.classes) and job.classes > 1:
            return None
        job.segment1 = job.segments
        if code < SOFT:
            job.has_ignore = True
            job.ignore = <uint64_t><int64_t>ignore_index
        job.smoothing = smoothing
        job.probabilities = probabilities
        set_own_label(job)
        job.denominator = job.temperature = 1.0
        with nogil:
            if want_gradient and how == MEAN:
                # a job of its own, for what runs it writes there how
                counting = job[0]
                counting.count_only = True
                counting.row1 = count
                job.denominator = max(1, count - (run_targets(&counting, 1, False) & mask))
            if how == NONE:
                job.row1 = count
                counts = run_targets(job, 1, False)
            else:
                memset(limbs, 0, sizeof(limbs))
                job.flat = True
                job.loss = <char *>flat
                while job.row1 < count:
                    job.row0 = job.row1
                    job.row1 = min(job.row0 + PLAIN_ROWS, count)
                    counts += run_targets(job, 1, False)
                    add_up(limbs, <const char *>flat, job.single, job.row1 - job.row0)
                count -= counts & mask
                if count:
                    value = exact_quotient(limbs, count if how == MEAN else 1)
        if counts >> COUNT_BITS or (count == 0 and how == MEAN):
            return None
        loss = self.number(value) if how != NONE else out if rest else out[()]
        return (loss, gradient) if want_gradient else loss

    def picks(self, x, labels, weight, ignore_index, reduction):
        """Minus the label's element of each row, times its weight."""
        cdef int kind = self.kind_of(x), code = self.label_code_of(labels, ignore_index)
        cdef Reduction how = reduction_of(reduction, False)
        cdef double flat[PLAIN_ROWS]
        cdef double row_weights[PLAIN_ROWS]
        cdef int64_t limbs[LIMBS + SPECIAL]
        cdef int64_t weight_limbs[LIMBS + SPECIAL]
        cdef ClassWeights held = None
        cdef int64_t counts = 0
        cdef Py_ssize_t count
        cdef double value = 0.0
        cdef Picks rows
        cdef PickJob *job
        if kind < 0 or code < 0 or how == UNKNOWN or not self.few(labels) or labels.size > self.most >> 3:
            return None
        found = self.class_axis(x.shape, 0 if x.ndim == 1 else 1)
        if found is None or labels.shape != found[1] or x.size == 0:
            return None
        rest = found[1]
        out = self.room(rest, kind) if how == NONE else None
        rows = Picks.__new__(Picks)
        rows.set_up(x, kind, found[0], labels, code, None, 0, out, kind != F64)
        job = &rows.job
        if weight is not None:
            if type(weight) is not self.ndarray or weight.dtype is not self.float64:
                return None
            held = ClassWeights.__new__(ClassWeights)
            job.weights = held.take(weight, job.classes)
            if job.weights == NULL:
                return None
            if how == MEAN:
                job.row_weights = row_weights
        job.has_ignore = True
        job.ignore = <uint64_t><int64_t>ignore_index
        count = job.layout.rows
        with nogil:
            if how == NONE:
                job.stop = count
                counts = pick_rows(job, 0, count)
            else:
                memset(limbs, 0, sizeof(limbs))
                memset(weight_limbs, 0, sizeof(weight_limbs))
                job.flat = <char *>flat
                while job.stop < count:
                    job.start = job.stop
                    job.stop = min(job.start + PLAIN_ROWS, count)
                    counts += pick_rows(job, job.start, job.stop)
                    add_up(limbs, <const char *>flat, job.single, job.stop - job.start)
                    if job.row_weights != NULL:
                        add_up(weight_limbs, <const char *>row_weights, False, job.stop - job.start)
                count -= counts & 0xffffffffLL
                if count and job.row_weights == NULL:
                    value = exact_quotient(limbs, count if how == MEAN else 1)
        if counts >> 32 or (count == 0 and how == MEAN):
            return None
        if how == NONE:
            return out if rest else out[()]
        return self.number(value) if job.row_weights == NULL else self.weighted(limbs, weight_limbs)

    def table(self, x, y, shape):
        """The counts of few pairs of labels."""
        cdef int x_code = self.label_code_of(x, 0), y_code = self.label_code_of(y, 0)
        cdef LabelPairs pairs
        cdef Py_buffer view
        cdef uint64_t tops[2]
        cdef bint counted
        if x_code < 0 or y_code < 0 or not self.few(x) or x.shape != y.shape:
            return None
        pairs = LabelPairs.__new__(LabelPairs)
        pairs.set_up(x, x_code, y, y_code)
        if shape is None:
            with nogil:
                largest_labels(&pairs.job, tops)
            if max(tops[0], tops[1]) >= <uint64_t>DENSE_CELLS:
                return None
            tops[0] += 1
            tops[1] += 1
        else:
            if type(shape) is not tuple or len(shape) != 2 or type(shape[0]) is not int or type(shape[1]) is not int:
                return None
            if not (0 < shape[0] <= DENSE_CELLS and 0 < shape[1] <= DENSE_CELLS):
                return None
            tops[0], tops[1] = shape
        if tops[0] * tops[1] > <uint64_t>DENSE_CELLS:
            return None
        pairs.job.limits[0], pairs.job.limits[1] = tops[0], tops[1]
        out = self.zeros((tops[0], tops[1]), self.int64)  # large ones come from the system, cleared and in the cache
        PyObject_GetBuffer(out, &view, PyBUF_ND | PyBUF_WRITABLE)
        with nogil:
            counted = count_few(&pairs.job, <int64_t *>view.buf, tops)
        PyBuffer_Release(&view)
        return out if counted else None

    def information(self, int which, table, double unit):
        """A measure of a small table, as `TableSums` numbers them, in units of so many nats."""
        cdef double w[CELLS]
        cdef double largest = 0.0
        cdef int kind = self.kind_of(table), code = self.label_code_of(table, 0)
        cdef Py_buffer view
        cdef Py_ssize_t count, i
        cdef const char *p
        cdef uint64_t control
        cdef TableSums sums
        if (kind < 0 and code < 0) or not 0 < table.size <= CELLS or table.ndim != 2:
            return None
        sums = TableSums.__new__(TableSums)
        PyObject_GetBuffer(table, &view, PyBUF_STRIDED_RO)
        count = view.shape[0] * view.shape[1]
        control = fx_fp_enter()
        for i in range(count):
            p = <const char *>view.buf + i // view.shape[1] * view.strides[0] + i % view.shape[1] * view.strides[1]
            w[i] = load_one(p, kind) if kind >= 0 else <double><int64_t>read_label(p, code)
        fx_fp_leave(control)
        rows, columns = view.shape[0], view.shape[1]
        PyBuffer_Release(&view)
        if extent_of(w, count, &largest) >= 0 or not largest > 0.0:
            return None
        sums.set_up(which, rows, columns, largest)
        with nogil:
            sums.add_block(w, count, 0, NULL, NULL)
            sums.settle()
            sums.do_piece(w, NULL, NULL, 0, 0, count, False, sums.terms)
        return sums.mean() / unit

    def pairs(self, int what, p, q, axis, bint shares, double unit, reduction):
        """A measure of the rows of two arrays, one of the bits of `Pairs.run`; without q the entropy of p's."""
        cdef int kind = self.kind_of(p), other = kind if q is None else self.kind_of(q), s = 0
        cdef Reduction how = reduction_of(reduction, True)
        cdef double values[PLAIN_PAIRS][STATISTICS]
        cdef double flat[PLAIN_PAIRS]
        cdef int64_t limbs[LIMBS + SPECIAL]
        cdef int64_t bad = 0
        cdef Py_ssize_t count, i
        cdef double value = 0.0
        cdef Pairs rows
        cdef PairJob *job
        if kind < 0 or other < 0 or (kind == F64) != (other == F64) or how == UNKNOWN or not self.few(p):
            return None
        shape = p.shape
        found = self.class_axis(shape, axis)
        if found is None or (q is not None and q.shape != shape):
            return None
        rest = found[1]
        out = self.room(rest, kind) if how == NONE else None
        rows = Pairs.__new__(Pairs)
        rows.set_up(p, kind, q, other, found[0], kind != F64, out, shares, -1, 0)
        job = &rows.job
        for s in range(2):
            # neighbours elsewhere are brought together first
            if job.classes > 1 and job.side[s].stride != itemsize(job.side[s].kind):
                return None
        s = 0
        while not what >> s & 1:
            s += 1
        job.what = what
        job.unit = unit
        job.segment1 = job.segments
        count = job.layout.rows
        with nogil:
            if how == NONE:
                job.row1 = count
                bad = run_pairs(job, True, True, False, True, 1)
            else:
                memset(limbs, 0, sizeof(limbs))
                job.values = &values[0][0]
                while job.row1 < count:
                    job.row0 = job.row1
                    job.row1 = min(job.row0 + PLAIN_PAIRS, count)
                    bad += run_pairs(job, True, True, False, True, 1)
                    for i in range(job.row1 - job.row0):
                        flat[i] = values[i][s]
                    add_up(limbs, <const char *>flat, False, job.row1 - job.row0)
                value = exact_quotient(limbs, count if how == MEAN else 1)
        if bad and job.shares:
            return None
        if how == NONE:
            return out if rest else out[()]
        return self.number(value)
