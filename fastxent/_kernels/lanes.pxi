# From the sums of up to FX_PIXELS rows to their losses or log-sum-exps, lanes being rows.
#
# What quick.pxi leaves, and results in float64. For those in float32, where a float64 logarithm needs no second word:
# loss = log1p(s e^(c log 2 - x_label)) and lse = c log 2 + log s, as loss_of and lse_of (finish.pxi) have them. A row that
# is out of the ordinary, or whose log-sum-exp wants its largest term left out, comes out as ODD and is finished alone.

cdef enum:
    ROWS_AT_ONCE = 16    # rows whose classes are lanes that are finished together: a multiple of FX_NI FX_VD


cdef inline vd vd_mended(const Pixels *pixels, Py_ssize_t i) noexcept nogil:
    """c log 2, and the logarithm of the factor that `mend` takes out."""
    cdef vd rounding = vd_splat(FX_MAGIC_D)
    cdef vd c = vd_load(&pixels.c[i])
    if FX_FMA:
        return vd_fma(
            c, vd_splat(LN2),
            (vd_fma(vd_load(&pixels.top[i]), vd_splat(FX_LOG2E), rounding) - rounding)
            * vd_splat(-<double>FX_LN2_LO_F),
        )
    return c * vd_splat(LN2)


cdef inline vd vd_within(vd x, double limit, vd yes) noexcept nogil:
    """`yes` where -limit <= x <= limit, else ODD."""
    return vd_pick(vd_ge(vd_splat(limit), x), vd_pick(vd_ge(x, vd_splat(-limit)), yes, vd_splat(ODD)), vd_splat(ODD))


cdef Py_ssize_t count_odd(const double *values, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, n = 0
    for i in range(count):
        n += values[i] == ODD
    return n


cdef Py_ssize_t losses_of(const Pixels *pixels, const double *x_label, Py_ssize_t count, double *out) noexcept nogil:
    """Losses, for float32, of rows whose label was left out; ODD, and counted, where `loss_of` must do it."""
    cdef vd a[FX_NI]
    cdef vd y[FX_NI]
    cdef Py_ssize_t i, k, v
    cdef vd none = vd_splat(0.0), odd = vd_splat(ODD), limit = vd_splat(500.0)
    cdef vl ok[FX_NI]
    for k in range((count + FX_NI * FX_VD - 1) // (FX_NI * FX_VD)):
        i = k * FX_NI * FX_VD
        for v in range(FX_NI):
            a[v] = vd_mended(pixels, i + v * FX_VD) - vd_load(x_label + i + v * FX_VD)
            # ODD, NaN and what is near overflow must not reach the exponent's bits
            ok[v] = vd_ge(limit, vd_abs(a[v]))
            a[v] = vd_pick(ok[v], a[v], none)
        vd_exp_short(a, y)
        for v in range(FX_NI):
            y[v] = vd_load(&pixels.s[i + v * FX_VD]) * y[v]
        vd_log1p_short(y, y)
        for v in range(FX_NI):
            vd_store(out + i + v * FX_VD, vd_pick(ok[v], y[v], odd))
    return count_odd(out, count)


cdef Py_ssize_t double_losses_of(
    const Pixels *pixels, const double *x_label, Py_ssize_t count, double *out
) noexcept nogil:
    """The same for results in float64, of rows summed without a reference (c = 0)."""
    cdef vd a[FX_NI]
    cdef vd y[FX_NI]
    cdef vd scale[FX_NI]
    cdef vl ok[FX_NI]
    cdef Py_ssize_t i, k, v
    cdef vd none = vd_splat(0.0), odd = vd_splat(ODD), limit = vd_splat(600.0), most = vd_splat(1e300), s, n
    cdef vd magic = magic_of(0, none)
    for k in range((count + FX_NI * FX_VD - 1) // (FX_NI * FX_VD)):
        i = k * FX_NI * FX_VD
        for v in range(FX_NI):
            a[v] = none - vd_load(x_label + i + v * FX_VD)
            ok[v] = vd_ge(limit, vd_abs(a[v])) & vd_eq(vd_load(&pixels.c[i + v * FX_VD]), none)
            a[v] = vd_pick(ok[v], a[v], none)
        vd_exp(a, magic, True, y, scale)
        for v in range(FX_NI):
            s = vd_load(&pixels.s[i + v * FX_VD])
            n = vd_load(&pixels.top[i + v * FX_VD]) * vd_splat(FX_LOG2E)
            if FX_FMA:
                # as `mend` has it
                s = s + vd_fma(s, n * vd_splat(-FX_LN2_LO_D), vd_load(&pixels.s_lo[i + v * FX_VD]))
            else:
                s = s + vd_load(&pixels.s_lo[i + v * FX_VD])
            y[v] = s * y[v] * scale[v]
            ok[v] = ok[v] & vd_ge(most, y[v])
        vd_log1p(y, y)
        for v in range(FX_NI):
            vd_store(out + i + v * FX_VD, vd_pick(ok[v], y[v], odd))
    return count_odd(out, count)


cdef void lses_of(const Pixels *pixels, Py_ssize_t count, double *out) noexcept nogil:
    """Log-sum-exps; ODD where `lse_row` must do it."""
    cdef vd s[FX_NI]
    cdef vd y[FX_NI]
    cdef Py_ssize_t i, k, v
    cdef vd left, sure = vd_splat(1e-6), odd = vd_splat(ODD), near = vd_splat(0.5)
    for k in range((count + FX_NI * FX_VD - 1) // (FX_NI * FX_VD)):
        i = k * FX_NI * FX_VD
        for v in range(FX_NI):
            s[v] = vd_load(&pixels.s[i + v * FX_VD])
        vd_log(s, y)
        for v in range(FX_NI):
            y[v] = y[v] + vd_mended(pixels, i + v * FX_VD)
            left = y[v] - vd_load(&pixels.top[i + v * FX_VD])
            # close to 0, too little is left beside the largest term
            left = vd_pick(vd_ge(near, y[v]), vd_pick(vd_ge(y[v], vd_splat(-0.5)), left - vd_splat(0.13), left), left)
            y[v] = vd_within(y[v], 1e9, y[v])
            vd_store(out + i + v * FX_VD, vd_pick(vd_ge(left, sure), y[v], odd))


cdef void losses_of_parts(const Partial *parts, Py_ssize_t count, double *values) noexcept nogil:
    """Logits of labels to losses, in place, with the bits of `loss_of`; ODD where it must do it, and where ODD came.

    One alone waits for itself most of the time. `values` has room for ROWS_AT_ONCE.
    """
    cdef double s[ROWS_AT_ONCE]
    cdef double c[ROWS_AT_ONCE]
    cdef vd a[FX_NI]
    cdef vd y[FX_NI]
    cdef vl ok[FX_NI]
    cdef vd none = vd_splat(0.0), odd = vd_splat(ODD), one = vd_splat(1.0), far = vd_splat(500.0)
    cdef vd least = vd_splat(1e-290), most = vd_splat(1e18)
    cdef Py_ssize_t i, v, step = FX_NI * FX_VD
    for i in range((count + step - 1) // step * step):
        if i < count and parts[i].shift == 0.0 and -1000 < parts[i].c < 1000:
            s[i] = parts[i].s
            c[i] = <double>parts[i].c
        else:
            s[i] = c[i] = 0.0
            values[i] = ODD
    i = 0
    while i < count:
        for v in range(FX_NI):
            a[v] = none - vd_load(values + i + v * FX_VD)
            ok[v] = vd_ge(far, vd_abs(a[v]))
            a[v] = vd_pick(ok[v], a[v], none)
        vd_exp_full(a, y)
        for v in range(FX_NI):
            y[v] = y[v] * vd_load(s + i + v * FX_VD) * vd_power(vd_load(c + i + v * FX_VD))
            ok[v] = ok[v] & vd_ge(y[v], least) & vd_ge(most, y[v])
            y[v] = vd_pick(ok[v], y[v], one)
        vd_log1p(y, y)
        for v in range(FX_NI):
            vd_store(values + i + v * FX_VD, vd_pick(ok[v], y[v], odd))
        i += step
