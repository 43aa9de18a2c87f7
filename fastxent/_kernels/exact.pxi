# Exact sums of float64 values: the order of addition is of no consequence, to the last bit.
#
# A sum is LIMBS signed 64-bit limbs of weight 2^(32 i - 1074): a superaccumulator as in Neal, arXiv 1505.05571, with the
# chunks 32 bits apart, so that 2^30 additions fit before a carry. Its value is one integer times 2^-1074, which Python
# forms, adds and divides exactly (fastxent/_exact.py). Infinities and NaN are counted beside it.
#
# The ordinary value is a multiple of 2^-72 below 2^26 in size: it falls into two integers by adding constants that
# align it (1.5 2^28 leaves a multiple of 2^-24, 1.5 2^-20 the rest), which costs a tenth. Anything else takes the side
# path through the limbs. Both are exact, so which one is taken changes nothing.
#
# float32 values below 128 fall into digits of 23 bits in the same way, within float32: 1.5 2^8 leaves a multiple of 2^-15,
# 1.5 2^-15 one of 2^-38, and so on to 2^-149, which all of them are multiples of. Most have nothing left after two digits.

cdef extern from *:
    """
    #define FX_LEADING_ZEROS __builtin_clzll
    """
    int FX_LEADING_ZEROS(uint64_t) nogil

cdef enum:
    LIMBS = 70
    SPECIAL = 3        # behind the limbs: counts of +inf, -inf, NaN
    FAST_LANES = 8
    PRODUCTS = 256     # products at a time
    FAST_TURNS = 512   # 512 turns of 8 lanes of integers up to 2^50 stay below 2^63
    SINGLES = 32       # float32 values at a time
    SINGLE_TURNS = 64  # each adds at most 8 integers up to 2^22 to a lane: below 2^31
    DIGITS = 7
    DIGIT_BITS = 23


cdef inline int64_t digits_of(double x, int64_t *place, int64_t *digits) noexcept nogil:
    """The three digits of x from limb `place` on, -1 for 0; gives which of the special counts it is, or -1."""
    cdef uint64_t bits, fraction, low
    cdef int64_t exponent
    cdef int shift
    memcpy(&bits, &x, 8)
    exponent = <int64_t>((bits >> 52) & 2047)
    fraction = bits & 0xfffffffffffffLL
    place[0] = -1
    if exponent == 2047:
        return 2 if fraction else 1 if bits >> 63 else 0
    if exponent:
        fraction |= <uint64_t>1 << 52
        exponent -= 1
    elif fraction == 0:
        return -1
    place[0] = exponent >> 5
    shift = <int>(exponent & 31)
    low = fraction << shift
    digits[0] = <int64_t>(low & 0xffffffffLL)
    digits[1] = <int64_t>(low >> 32)
    digits[2] = 0
    if shift > 11:
        digits[2] = <int64_t>(fraction >> (64 - shift))
    if bits >> 63:
        digits[0], digits[1], digits[2] = -digits[0], -digits[1], -digits[2]
    return -1


cdef inline void add_exactly(int64_t *limbs, double x) noexcept nogil:
    cdef int64_t digits[3]
    cdef int64_t place
    cdef int64_t special = digits_of(x, &place, digits)
    if special >= 0:
        limbs[LIMBS + special] += 1
    elif place >= 0:
        limbs[place] += digits[0]
        limbs[place + 1] += digits[1]
        limbs[place + 2] += digits[2]


cdef inline void add_integer(int64_t *limbs, int64_t value, int64_t bit) noexcept nogil:
    """Add value 2^(bit - 1074)."""
    cdef uint64_t size = <uint64_t>value
    cdef int64_t sign = 1
    cdef Py_ssize_t place = bit >> 5
    cdef int shift = <int>(bit & 31)
    if value < 0:
        size = 0 - size
        sign = -1
    # 64 bits moved by up to 31 places fall into three limbs
    limbs[place] += sign * <int64_t>((size << shift) & 0xffffffffLL)
    limbs[place + 1] += sign * <int64_t>(((size >> 1) >> (31 - shift)) & 0xffffffffLL)
    limbs[place + 2] += sign * <int64_t>(((size >> 32) >> 1) >> (31 - shift))


cdef void carry(int64_t *limbs) noexcept nogil:
    """Bring every limb but the last into [0, 2^32)."""
    cdef Py_ssize_t i
    cdef int64_t up
    for i in range(LIMBS - 1):
        up = limbs[i] >> 32
        limbs[i] -= up * 0x100000000LL  # 2^32: a shift of a negative number is undefined
        limbs[i + 1] += up


cdef inline void add_scaled(
    int64_t *limbs, const double *d, Py_ssize_t n, double scale, int64_t bits
) noexcept nogil:
    """Add n values that lie side by side; the ordinary one after a factor 2^bits."""
    cdef vl high[FAST_LANES]
    cdef vl low[FAST_LANES]
    cdef vl odd, wrong
    cdef int64_t sum_high, sum_low
    cdef vd top = vd_splat(402653184.0)             # 1.5 2^28: its last place is 2^-24
    cdef vd rest = vd_splat(1.430511474609375e-06)  # 1.5 2^-20: its last place is 2^-72
    cdef vd limit = vd_splat(67108864.0), factor = vd_splat(scale), none = vd_splat(0.0)
    cdef vd a[FAST_LANES]
    cdef vd b[FAST_LANES]
    cdef vd x, r
    cdef Py_ssize_t i = 0, k, turns
    while i + FAST_LANES <= n:
        for k in range(FAST_LANES // FX_VD):
            high[k] = <vl>none
            low[k] = <vl>none
        turns = 0
        while i + FAST_LANES <= n and turns < FAST_TURNS:
            odd = <vl>none
            for k in range(FAST_LANES // FX_VD):
                x = vd_load(d + i + k * FX_VD) * factor
                a[k] = x + top
                r = x - (a[k] - top)
                b[k] = r + rest
                # beyond 2^26, or with places below 2^-72; a NaN is odd, too
                wrong = ~(vd_ge(limit, vd_abs(x)) & vd_eq(b[k] - rest, r))
                odd = odd | wrong
            if vl_any(odd):
                for k in range(FAST_LANES):
                    add_exactly(limbs, fx_f64(d + i + k))
            else:
                for k in range(FAST_LANES // FX_VD):
                    high[k] = high[k] + (<vl>a[k] - <vl>top)
                    low[k] = low[k] + (<vl>b[k] - <vl>rest)
            i += FAST_LANES
            turns += 1
        sum_high = sum_low = 0
        for k in range(FAST_LANES // FX_VD):
            sum_high += vl_total(high[k])
            sum_low += vl_total(low[k])
        add_integer(limbs, sum_high, 1074 - 24 - bits)
        add_integer(limbs, sum_low, 1074 - 72 - bits)
        carry(limbs)
    while i < n:
        add_exactly(limbs, fx_f64(d + i))
        i += 1
    carry(limbs)


cdef inline vf digit_top(int digit) noexcept nogil:
    """What is added to find a digit."""
    return vf_splat(<float>(1.5 * power_of_two(8 - DIGIT_BITS * digit)))


cdef inline void add_digit(int64_t *limbs, vu sum, int digit, uint32_t terms) noexcept nogil:
    """Add lanes of `terms` bit patterns each: less that many of what was added to them."""
    cdef int64_t last = min(15 + DIGIT_BITS * digit, 149)  # the last top is subnormal
    add_integer(limbs, vi_total(<vi>(sum - <vu>digit_top(digit) * terms)), 1074 - last)


cdef inline void add_low_digits(vf *x, vu *sums, uint32_t *terms) noexcept nogil:
    """Add what two digits leave of SINGLES values: x (FX_NV,), used up. Four digits without a look at what is left, which
    would end a chain that others follow; the last, a subnormal, where it is wanted only."""
    cdef vf top, a
    cdef vu left = <vu>vf_splat(0.0)
    cdef Py_ssize_t k
    cdef int digit
    for digit in range(2, DIGITS - 1):
        top = digit_top(digit)
        for k in range(FX_NV):
            a = x[k] + top
            x[k] = x[k] - (a - top)
            sums[digit] = sums[digit] + <vu>a
    terms[0] += FX_NV
    for k in range(FX_NV):
        left = left | <vu>x[k]
    if vi_any(<vi>left):
        for k in range(FX_NV):
            sums[DIGITS - 1] = sums[DIGITS - 1] + <vu>(x[k] + digit_top(DIGITS - 1))
        terms[1] += FX_NV


cdef void add_singles(int64_t *limbs, const float *f, Py_ssize_t n) noexcept nogil:
    """Add n float32 values that lie side by side, 2^20 at most; a carry is for the caller to do."""
    cdef vu sums[DIGITS]
    cdef uint32_t terms, some, low[2]    # of the first two digits; of those behind them but the last, and of the last
    cdef vf rest[FX_NV]
    cdef vu none = <vu>vf_splat(0.0), far, left, first, second, old_first, old_second
    cdef vf top = digit_top(0), next_top = digit_top(1), a, b, x
    cdef Py_ssize_t i = 0, k, turns
    cdef int digit
    while i + SINGLES <= n:
        for digit in range(DIGITS):
            sums[digit] = none
        terms = low[0] = low[1] = 0
        first = second = none
        turns = 0
        while i + SINGLES <= n and turns < SINGLE_TURNS:
            old_first = first
            old_second = second
            far = left = none
            for k in range(FX_NV):
                x = vf_load(f + i + k * FX_VF)
                a = x + top
                x = x - (a - top)
                b = x + next_top
                x = x - (b - next_top)
                rest[k] = x
                first = first + <vu>a
                second = second + <vu>b
                # beyond 128, infinite or NaN: another exponent
                far = far | (<vu>a ^ <vu>top)
                left = left | <vu>x
            far = far & <uint32_t>0x7f800000
            if vi_any(<vi>(far | left)):
                if vi_any(<vi>far):
                    for k in range(SINGLES):
                        add_exactly(limbs, fx_f32(f + i + k))
                    first = old_first
                    second = old_second
                    terms -= FX_NV
                else:
                    add_low_digits(rest, sums, low)
            terms += FX_NV
            i += SINGLES
            turns += 1
        sums[0] = first
        sums[1] = second
        for digit in range(DIGITS):
            some = terms if digit < 2 else low[digit == DIGITS - 1]
            if some:
                add_digit(limbs, sums[digit], digit, some)
    while i < n:
        add_exactly(limbs, fx_f32(f + i))
        i += 1


cdef void add_many(int64_t *limbs, const char *values, bint single, Py_ssize_t n) noexcept nogil:
    """Add n float32 (`single`) or float64 values that lie side by side."""
    cdef Py_ssize_t i
    if not single:
        add_scaled(limbs, <const double *>values, n, 1.0, 0)
    else:
        for i in range(0, n, 1 << 20):
            add_singles(limbs, <const float *>values + i, min(n - i, <Py_ssize_t>1 << 20))
            carry(limbs)


cdef void add_errors(int64_t *limbs, const double *values, Py_ssize_t n) noexcept nogil:
    """Add what products lost: 2^-53 of them at most, so the window of the ordinary value lies 72 bits lower."""
    add_scaled(limbs, values, n, 4722366482869645213696.0, 72)


cdef void add_products(int64_t *limbs, const double *x, const double *y, Py_ssize_t n) noexcept nogil:
    """Add the exact products: each as it rounds, and its rounding error (Dekker, Numer. Math. 18, 1971).

    Exact for sizes between 2^-480 and 2^500; a product beyond is as it rounds.
    """
    cdef double high[PRODUCTS]
    cdef double low[PRODUCTS]
    cdef double a, b, c, d, split, error
    cdef Py_ssize_t i = -PRODUCTS, k, m
    cdef bint rounded
    while i + PRODUCTS < n:
        i += PRODUCTS
        m = min(<Py_ssize_t>PRODUCTS, n - i)
        rounded = False
        for k in range(m):
            high[k] = x[i + k] * y[i + k]
            split = 134217729.0 * x[i + k]  # 2^27 + 1
            a = split - (split - x[i + k])
            b = x[i + k] - a
            split = 134217729.0 * y[i + k]
            c = split - (split - y[i + k])
            d = y[i + k] - c
            error = ((a * c - high[k]) + a * d + b * c) + b * d
            low[k] = error if -INFINITY < error < INFINITY else 0.0
            rounded |= low[k] != 0.0
        add_many(limbs, <const char *>high, False, m)
        if rounded:
            add_errors(limbs, low, m)


cdef inline double special_of(const int64_t *limbs) noexcept nogil:
    """What a sum with infinities or NaN is; 0 for a finite one."""
    if limbs[LIMBS + 2] or (limbs[LIMBS] and limbs[LIMBS + 1]):
        return NAN
    return INFINITY if limbs[LIMBS] else -INFINITY if limbs[LIMBS + 1] else 0.0


cdef double exact_quotient(int64_t *limbs, uint64_t divisor) noexcept nogil:
    """The sum over a divisor in [1, 2^32), rounded once to the nearest; the limbs are used up.

    Schoolbook division, limb by limb from the highest; three digits of the quotient and whether anything is left are all
    that rounding wants (Knuth, The Art of Computer Programming 2, 4.3.1).
    """
    cdef uint64_t digits = 0, low = 0, left = 0, half, sign = 0
    cdef int64_t i, first = -1, exponent
    cdef double value = special_of(limbs)
    cdef int zeros
    cdef bint more
    if value != 0.0:
        return value
    carry(limbs)
    if limbs[LIMBS - 1] < 0:
        sign = <uint64_t>1 << 63
        for i in range(LIMBS):
            limbs[i] = -limbs[i]
        carry(limbs)
    i = LIMBS - 1
    while i > 0 and limbs[i] == 0:
        i -= 1
    # digits at `first` and `first` - 1 come into `digits`, the third into `low`
    while i >= 0 and (first < 0 or first - i < 3):
        left = left << 32 | <uint64_t>limbs[i]
        half = left // divisor
        left = left % divisor
        if first < 0 and half:
            first = i
        if first - i < 2:
            digits = digits << 32 | half
        else:
            low = half << 32
        i -= 1
    if first <= 0 or (first == 1 and digits >> 53 == 0):
        # a number of 2^-1074, of 53 bits or less: the integer itself is its bits
        half = 2 * left
        digits += 1 if half > divisor or (half == divisor and digits & 1) else 0
        digits |= sign
        memcpy(&value, &digits, 8)
        return value
    more = left != 0
    while i >= 0:
        more = more or limbs[i] != 0
        i -= 1
    zeros = FX_LEADING_ZEROS(digits)
    if zeros:
        digits = digits << zeros | low >> (64 - zeros)
        low = low << zeros
    more = more or low != 0
    exponent = 32 * (first - 1) - zeros + 12  # as float64 keeps it
    half = digits & 0x7ff
    digits >>= 11
    if half > 0x400 or (half == 0x400 and (more or digits & 1)):
        digits += 1
    if exponent >= 2047:
        return -INFINITY if sign else INFINITY
    digits = (digits - (<uint64_t>1 << 52)) + (<uint64_t>exponent << 52) | sign
    memcpy(&value, &digits, 8)
    return value
