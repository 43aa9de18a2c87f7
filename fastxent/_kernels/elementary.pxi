# exp, log, log1p, expm1 of one double: no libm enters a result, for its bits change with system and CPU.
#
# Error below 1 ULP with a fused multiply-add (tests/test_numerics.py measures it against mpmath), somewhat more on the
# SSE2 baseline. Coefficients: tools/minimax.py. Every multiply-add is written out as fx_fma.


cdef inline void two_sum(double a, double b, double *s, double *error) noexcept nogil:
    """s + error = a + b exactly (Knuth, TAOCP 2, 4.2.2)."""
    cdef double t = a + b
    cdef double bb = t - a
    error[0] = (a - (t - bb)) + (b - bb)
    s[0] = t


cdef inline void add_to_pair(double *high, double *low, double x) noexcept nogil:
    cdef double error
    two_sum(high[0], x, high, &error)
    low[0] += error


cdef inline double reciprocal_rest(double m, double m_lo) noexcept nogil:
    """1 / (m + m_lo) - 1 / m rounded."""
    cdef double y = 1.0 / m, product = y * m, a, b, c, d
    # the product's error without a fused multiply-add, too
    a = 134217729.0 * m
    a = a - (a - m)
    b = m - a
    c = 134217729.0 * y
    c = c - (c - y)
    d = y - c
    return ((1.0 - product) - (((a * c - product) + a * d + b * c) + b * d) - m_lo * y) * y


cdef inline double power_of_two(int64_t e) noexcept nogil:
    """2^e for -1022 <= e <= 1023."""
    cdef uint64_t bits = <uint64_t>(e + 1023) << 52
    cdef double y
    memcpy(&y, &bits, 8)
    return y


cdef inline double scaled(double y, int64_t e) noexcept nogil:
    """y 2^e, rounded once (y normal or zero), to infinity or through the subnormals to 0."""
    if e > 1023:
        y = y * power_of_two(1023)
        e = e - 1023
        if e > 1023:
            y = y * power_of_two(1023)
            e = e - 1023
            if e > 1023:
                e = 1023
    elif e < -1022:
        # 2^-969 leaves 53 bits above the smallest subnormal, so only the last product rounds
        y = y * power_of_two(-969)
        e = e + 969
        if e < -1022:
            y = y * power_of_two(-969)
            e = e + 969
            if e < -1022:
                e = -1022
    return y * power_of_two(e)


cdef inline double split_exponent(double x, int64_t *e) noexcept nogil:
    """m and e with x = m 2^e and sqrt(1/2) <= m < sqrt(2), for finite x > 0."""
    cdef int64_t bits, top
    cdef int64_t extra = 0
    if x < 2.2250738585072014e-308:
        x = x * 18014398509481984.0  # 2^54
        extra = -54
    memcpy(&bits, &x, 8)
    # sqrt(1/2) is 0x3fe6a09e667f3bcd: the exponent of x / sqrt(1/2), rounded down
    top = (bits - 0x3fe6a09e667f3bcdLL) >> 52
    bits = bits - top * 0x10000000000000LL  # 2^52: a shift of a negative number is undefined
    memcpy(&x, &bits, 8)
    e[0] = top + extra
    return x


cdef inline void reduce(double t, double *r, double *r_lo) noexcept nogil:
    """r - t LO as a pair, for r = x - t HI: the rounding of r is what an exponential would lose."""
    cdef double hi = r[0], lo = t * -FX_LN2_LO_D
    r[0] = hi + lo
    r_lo[0] = (hi - r[0]) + lo


cdef inline int64_t whole_of(double x) noexcept nogil:
    """n for x = n + FX_MAGIC_D, |n| < 2^51; some such n for any other x.

    What another thread writes may turn a number NaN after it was looked at, and the conversion of that is undefined.
    """
    cdef int64_t bits
    memcpy(&bits, &x, 8)
    return (bits & 0xfffffffffffffLL) - 0x8000000000000LL


cdef inline double exp_reduced(double x, double x_lo, int64_t *n) noexcept nogil:
    """p and n with e^(x + x_lo) = p 2^n, for |x| < 2^45; |x_lo| is so small that its square does not matter."""
    cdef double whole = x * FX_LOG2E + FX_MAGIC_D, t = whole - FX_MAGIC_D
    cdef double r = fx_fma(t, -FX_LN2_HI_D, x)
    cdef double p, r_lo
    reduce(t, &r, &r_lo)
    n[0] = whole_of(whole)
    # e^r = 1 + (r + r^2 q(r))
    p = 2.4999962752161227e-08
    p = fx_fma(p, r, 2.7630378614888184e-07)
    p = fx_fma(p, r, 2.7557587350023017e-06)
    p = fx_fma(p, r, 2.4801492762837084e-05)
    p = fx_fma(p, r, 0.00019841269504757152)
    p = fx_fma(p, r, 0.0013888888943922556)
    p = fx_fma(p, r, 0.008333333333495627)
    p = fx_fma(p, r, 0.04166666666652919)
    p = fx_fma(p, r, 0.1666666666666641)
    p = fx_fma(p, r, 0.5000000000000011)
    p = r * r * p
    return 1.0 + (r + (p + (r_lo + x_lo) * (1.0 + (r + p))))


cdef inline double exp_(double x) noexcept nogil:
    """e^x."""
    cdef int64_t n
    cdef double p
    if x != x:
        return x
    if x > 710.0:
        return INFINITY
    if x < -746.0:
        return 0.0
    p = exp_reduced(x, 0.0, &n)
    return scaled(p, n)


cdef inline double log_reduced(double f) noexcept nogil:
    """log(1 + f) - f, for sqrt(1/2) <= 1 + f <= sqrt(2).

    With s = f / (2 + f), log(1 + f) = 2 s + s^3 q(s^2), and 2 s = f - s f, so that with h = f^2 / 2
    log(1 + f) = f - (h - s (h + s^2 q)): the small terms are put together before the large one (fdlibm, e_log.c).
    """
    cdef double s = f / (2.0 + f)
    cdef double z = s * s
    cdef double h = 0.5 * f * f
    cdef double q = 0.14797507719057545
    q = fx_fma(q, z, 0.15313903245641833)
    q = fx_fma(q, z, 0.18183569739853522)
    q = fx_fma(q, z, 0.2222219847598521)
    q = fx_fma(q, z, 0.2857142874326269)
    q = fx_fma(q, z, 0.3999999999941109)
    q = fx_fma(q, z, 0.6666666666666735)
    return fx_fma(s, fx_fma(z, q, h), -h)


cdef inline double log_(double x) noexcept nogil:
    """log x."""
    cdef int64_t e
    cdef double f, tail
    if x != x or x < 0.0:
        return NAN
    if x == 0.0:
        return -INFINITY
    if x == INFINITY:
        return x
    f = split_exponent(x, &e) - 1.0
    tail = log_reduced(f)
    return <double>e * FX_LN2_33 + (f + fx_fma(<double>e, FX_LN2_REST, tail))


cdef inline double log1p_(double x) noexcept nogil:
    """log(1 + x)."""
    cdef int64_t e = 0
    cdef double u, f, lost
    if x != x or x < -1.0:
        return NAN
    if x == -1.0:
        return -INFINITY
    if x == INFINITY:
        return x
    if -1.4e-17 < x < 1.4e-17:
        return x
    if -0.2928 < x < 0.4142:
        return x + log_reduced(x)
    u = 1.0 + x
    # what the sum lost, relative to u: log(u + lost) = log u + lost / u
    lost = (1.0 - (u - x) if x > 1.0 else x - (u - 1.0)) / u
    f = split_exponent(u, &e) - 1.0
    lost = lost + log_reduced(f)
    return <double>e * FX_LN2_33 + (f + fx_fma(<double>e, FX_LN2_REST, lost))


cdef inline double expm1_(double x) noexcept nogil:
    """e^x - 1."""
    cdef double t, r, lo, p, scale, whole, error
    cdef bint over
    if x != x:
        return x
    if x > 710.0:
        return INFINITY
    if x < -40.0:
        return -1.0
    if -1e-300 < x < 1e-300:
        return x
    t = (x * FX_LOG2E + FX_MAGIC_D) - FX_MAGIC_D
    r = fx_fma(t, -FX_LN2_HI_D, x)
    reduce(t, &r, &lo)
    p = 2.4999962752161227e-08
    p = fx_fma(p, r, 2.7630378614888184e-07)
    p = fx_fma(p, r, 2.7557587350023017e-06)
    p = fx_fma(p, r, 2.4801492762837084e-05)
    p = fx_fma(p, r, 0.00019841269504757152)
    p = fx_fma(p, r, 0.0013888888943922556)
    p = fx_fma(p, r, 0.008333333333495627)
    p = fx_fma(p, r, 0.04166666666652919)
    p = fx_fma(p, r, 0.1666666666666641)
    p = fx_fma(p, r, 0.5000000000000011)
    whole = r * r
    error = fx_fma(r, r, -whole)
    p = fx_fma(whole, p, fx_fma(error, p, lo))  # e^r - 1 = r + p
    # 2^t (1 + r + p) - 1, where 2^t r is exact: the large terms as a sum with its errors, then the small ones; 2^1024 is
    # out of range, so half of it is taken and the result doubled
    over = t > 1023.0
    scale = power_of_two(<int64_t>t - over)
    two_sum(scale, -1.0, &whole, &lo)
    two_sum(whole, scale * r, &whole, &error)
    whole = whole + fx_fma(scale, p, error + lo)
    return whole + whole if over else whole
