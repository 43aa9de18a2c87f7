# Elementwise functions and the binary losses: out[i] = f(x[i], target[i], weight[i], pos_weight[i]) over arrays of any dtype
# and strides, a broadcast one by zero strides.
#
# Here is what is computed, FX_NE vectors at a time; elementitems.pxi brings the elements, elementjob.pxi has the tasks.
# Every lane stands for itself, so no result depends on where an element lies.
#
# Error in ULP with a fused multiply-add (tests/test_elementwise.py and test_binary.py measure it): sigmoid, log_sigmoid
# and logit below 3, surprisal below 1 (to a base below 3), the losses below 4.
#
# Binary cross-entropy of logits is a weighted sum of softplus(-x) = -log sigmoid(x) and softplus(x): with
# l = log(1 + e^-|x|) the two are l and |x| + l, and without a factor for one of them it is l + ((x >= 0) - y) x. All terms
# are >= 0 for targets in [0, 1], so nothing cancels and a confident right answer keeps its digits; its gradient is a
# difference of two products only where the target is soft.
# (PyTorch's (1 - y) x - log sigmoid(x), the same number, loses them all at y = 0 and x < -40.)

cdef enum Function:
    SIGMOID = 0
    LOG_SIGMOID = 1
    LOGIT = 2
    SURPRISAL = 3
    SURPRISAL_TO_BASE = 4
    BINARY = 5             # of probabilities
    BINARY_LOGITS = 6


cdef inline vec times(vec a, vec x) noexcept nogil:
    """a x; 0 times infinity is 0."""
    if vec is vf:
        return vf_only(~(vf_eq(a, splat(0, a)) & vf_eq(x, splat(INFINITY, a))), a * x)
    else:
        return vd_only(~(vd_eq(a, splat(0, a)) & vd_eq(x, splat(INFINITY, a))), a * x)


cdef inline vec pick_ge(vec a, vec b, vec yes, vec no) noexcept nogil:
    """a >= b ? yes : no, a lane."""
    if vec is vf:
        return vf_pick(vf_ge(a, b), yes, no)
    else:
        return vd_pick(vd_ge(a, b), yes, no)


cdef inline vec absolute(vec x) noexcept nogil:
    if vec is vf:
        return vf_abs(x)
    else:
        return vd_abs(x)


cdef inline bint outside(vec x, double high, bint nan_ok) noexcept nogil:
    """Whether a lane is outside [0, high]."""
    if vec is vf:
        return vf_outside(x, 0, <float>high, nan_ok)
    else:
        return vd_outside(x, 0, high, nan_ok)


cdef inline void softplus(const vec *x, vec *e, vec *y) noexcept nogil:
    """e = 2^64 e^-|x|: that far up, what will be subnormal keeps its digits; y = log(1 + e^-|x|)."""
    if vec is vf:
        vf_softplus(x, e, y)
    else:
        vd_softplus(x, e, y)


cdef inline void rated(const vec *x, const vec *target, const vec *rest, vec *y) noexcept nogil:
    """Loss without factors, of what softplus gives."""
    if vec is vf:
        vf_binary(x, target, rest, y)
    else:
        vd_binary(x, target, rest, y)


cdef inline void binary_logits(
    const vec *x, const vec *target, const vec *weight, const vec *pos_weight, bint want_gradient, vec divisor,
    vec *y, vec *gradient,
) noexcept nogil:
    """Loss and gradient; weight and pos_weight may be NULL."""
    cdef vec e[FX_NE]
    cdef vec rest[FX_NE]
    cdef vec zero = splat(0, divisor), one = splat(1, divisor), small = splat(5.421010862427522e-20, divisor)
    cdef vec a, b, far, u, near
    cdef Py_ssize_t v
    softplus(x, e, rest)
    if pos_weight == NULL:
        rated(x, target, rest, y)
    for v in range(FX_NE):
        if pos_weight != NULL or want_gradient:
            # a counts softplus of the sign that is small, b the other's
            a = target[v] if pos_weight == NULL else pos_weight[v] * target[v]
            b = one - target[v]
            near = a
            a = pick_ge(x[v], zero, a, b)
            b = pick_ge(x[v], zero, b, near)
        if pos_weight != NULL:
            far = absolute(x[v]) + rest[v]
            # an infinite logit on the right side costs nothing
            y[v] = vfma(a, rest[v], times(b, far))
        if want_gradient:
            u = one + e[v] * small
            near = b * (one / u)
            gradient[v] = near - a * ((e[v] / u) * small)
            gradient[v] = pick_ge(x[v], zero, gradient[v], -gradient[v])
        if weight != NULL:
            y[v] = y[v] * weight[v]
            if want_gradient:
                gradient[v] = gradient[v] * weight[v]
        if want_gradient:
            gradient[v] = gradient[v] / divisor


cdef inline void binary(const vec *p, const vec *target, const vec *weight, vec *y) noexcept nogil:
    """Loss of probabilities, their logarithms cut off at -100: log of the smaller one of p and 1 - p, which is exact."""
    cdef vec rare[FX_NE]
    cdef vec often[FX_NE]
    cdef vec least = splat(-100, p[0]), one = splat(1, p[0]), half = splat(0.5, p[0]), hit, miss
    cdef Py_ssize_t v, h
    for v in range(FX_NE):
        rare[v] = pick_ge(p[v], half, one - p[v], p[v])
        often[v] = -rare[v]
    for h in range(FX_NE // FX_NI):
        if vec is vf:
            vf_log1p_near(often + h * FX_NI, often + h * FX_NI)
        else:
            vd_log1p_near(often + h * FX_NI, often + h * FX_NI)
        vlog(rare + h * FX_NI, rare + h * FX_NI)
    for v in range(FX_NE):
        hit = -vmax(least, pick_ge(p[v], half, often[v], rare[v]))
        miss = -vmax(least, pick_ge(p[v], half, rare[v], often[v]))
        y[v] = vfma(target[v], hit, (one - target[v]) * miss)
        if weight != NULL:
            y[v] = y[v] * weight[v]


cdef inline void function_of(
    int function, const vec *x, const vec *target, const vec *weight, const vec *pos_weight, const double *constants,
    bint want_gradient, vec divisor, vec *y, vec *gradient,
) noexcept nogil:
    """One function of FX_NE vectors; `function` is a constant where this is called."""
    cdef vec e[FX_NE]
    cdef vec small = splat(5.421010862427522e-20, divisor), zero = splat(0, divisor)
    cdef float single[4]
    cdef Py_ssize_t v, h
    if function == SIGMOID:
        if vec is vf:
            vf_decayed(x, e)
        else:
            vd_decayed(x, e)
        for v in range(FX_NE):
            # 1 / (1 + e^-x) or e^x / (1 + e^x), times 2^64 until the last product
            y[v] = pick_ge(x[v], zero, splat(18446744073709551616.0, zero), e[v]) / (splat(1, zero) + e[v] * small) * small
    elif function == LOG_SIGMOID:
        softplus(x, e, y)
        for v in range(FX_NE):
            y[v] = pick_ge(x[v], zero, -y[v], x[v] - y[v])
    elif function == LOGIT:
        for h in range(FX_NE // FX_NI):
            if vec is vf:
                vf_logit(x + h * FX_NI, y + h * FX_NI)
            else:
                vd_logit(x + h * FX_NI, y + h * FX_NI)
    elif function == SURPRISAL or function == SURPRISAL_TO_BASE:
        if vec is vf and function == SURPRISAL_TO_BASE:
            for v in range(4):
                single[v] = <float>constants[v]
        for h in range(FX_NE // FX_NI):
            if function == SURPRISAL:
                vlog(x + h * FX_NI, e + h * FX_NI)
            elif vec is vf:
                vf_log_base(x + h * FX_NI, single, e + h * FX_NI)
            else:
                vd_log_base(x + h * FX_NI, constants, e + h * FX_NI)
        for v in range(FX_NE):
            y[v] = zero - e[v]  # and not -0 for p = 1
    elif function == BINARY:
        binary(x, target, weight, y)
    else:
        binary_logits(x, target, weight, pos_weight, want_gradient, divisor, y, gradient)


cdef inline int compute(
    int function, bint plain, const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *out_gradient,
    vec like,
) noexcept nogil:
    """A piece of n elements, whole vectors of them; gives what was wrong. `plain`: neither weights nor a gradient."""
    cdef vec a[4][FX_NE]
    cdef vec y[FX_NE]
    cdef vec gradient[FX_NE]
    cdef Py_ssize_t i, v, step = width(like) * code_size(native(like)), lanes = FX_NE * width(like)
    cdef vec divisor = splat(job.divisor, like)
    cdef double most = 3.4028234663852886e38 if native(like) == F32 else 1.7976931348623157e308
    cdef int k, bad = 0, wanted = 2 if function >= BINARY else 1
    cdef int arrays = wanted if plain else 4 if function == BINARY_LOGITS else 3
    i = -lanes
    while i + lanes < n:
        i += lanes
        for k in range(arrays):
            if k < wanted or data[k] != NULL:
                for v in range(FX_NE * step // 64):
                    fx_stream(data[k] + FX_PREFETCH + 64 * v)
                for v in range(FX_NE):
                    a[k][v] = load(data[k] + v * step, native(like), like)
                data[k] += FX_NE * step
        if function == SURPRISAL or function == SURPRISAL_TO_BASE:
            for v in range(FX_NE):
                if outside(a[0][v], most, True):
                    bad |= BAD_X
        if function == BINARY:
            for v in range(FX_NE):
                if outside(a[0][v], 1.0, False):
                    bad |= BAD_X
                if outside(a[1][v], 1.0, False):
                    bad |= BAD_TARGET
        function_of(
            function, a[0], a[1], NULL if plain or data[2] == NULL else a[2],
            NULL if plain or data[3] == NULL else a[3], job.constants, not plain and out_gradient != NULL, divisor,
            y, gradient,
        )
        for v in range(FX_NE):
            store(out, y[v])
            out += step
            if function == BINARY_LOGITS and not plain and out_gradient != NULL:
                store(out_gradient, gradient[v])
                out_gradient += step
    return bad


cdef int compute_f32(const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *gradient) noexcept nogil:
    cdef vf like = vf_splat(0)
    if job.function == SIGMOID:
        return compute(SIGMOID, True, job, data, n, out, gradient, like)
    if job.function == LOG_SIGMOID:
        return compute(LOG_SIGMOID, True, job, data, n, out, gradient, like)
    if job.function == LOGIT:
        return compute(LOGIT, True, job, data, n, out, gradient, like)
    if job.function == SURPRISAL:
        return compute(SURPRISAL, True, job, data, n, out, gradient, like)
    if job.function == SURPRISAL_TO_BASE:
        return compute(SURPRISAL_TO_BASE, True, job, data, n, out, gradient, like)
    if job.function == BINARY:
        return compute(BINARY, False, job, data, n, out, gradient, like)
    if data[FACTORS] == NULL and data[POS_FACTORS] == NULL and gradient == NULL:
        return compute(BINARY_LOGITS, True, job, data, n, out, gradient, like)
    return compute(BINARY_LOGITS, False, job, data, n, out, gradient, like)


cdef int compute_f64(const ElementJob *job, const char **data, Py_ssize_t n, char *out, char *gradient) noexcept nogil:
    cdef vd like = vd_splat(0)
    if job.function == SIGMOID:
        return compute(SIGMOID, True, job, data, n, out, gradient, like)
    if job.function == LOG_SIGMOID:
        return compute(LOG_SIGMOID, True, job, data, n, out, gradient, like)
    if job.function == LOGIT:
        return compute(LOGIT, True, job, data, n, out, gradient, like)
    if job.function == SURPRISAL:
        return compute(SURPRISAL, True, job, data, n, out, gradient, like)
    if job.function == SURPRISAL_TO_BASE:
        return compute(SURPRISAL_TO_BASE, True, job, data, n, out, gradient, like)
    if job.function == BINARY:
        return compute(BINARY, False, job, data, n, out, gradient, like)
    if data[FACTORS] == NULL and data[POS_FACTORS] == NULL and gradient == NULL:
        return compute(BINARY_LOGITS, True, job, data, n, out, gradient, like)
    return compute(BINARY_LOGITS, False, job, data, n, out, gradient, like)
