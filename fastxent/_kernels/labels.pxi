# Labels of any integer dtype, read one at a time as they lie: each is brought into a register, checked there and used
# from there, so that no value, and no other thread that changes the array meanwhile, makes a read out of bounds.

cdef enum LabelStatus:
    USED = 0
    IGNORED = 1
    INVALID = 2

# size in bytes, plus these
cdef enum:
    SIGNED = 16
    SWAPPED = 32
    BOOLEAN = 64       # any byte but 0 is the label 1

cdef extern from *:
    """
    #define FX_BSWAP16 __builtin_bswap16
    #define FX_BSWAP32 __builtin_bswap32
    #define FX_BSWAP64 __builtin_bswap64
    """
    unsigned short FX_BSWAP16(unsigned short) nogil
    unsigned int FX_BSWAP32(unsigned int) nogil
    uint64_t FX_BSWAP64(uint64_t) nogil


cdef inline uint64_t read_label(const char *p, int code) noexcept nogil:
    """The label, its sign extended to 64 bits."""
    cdef uint8_t b1
    cdef unsigned short b2
    cdef unsigned int b4
    cdef uint64_t b8
    cdef int size = code & 15
    if size == 8:
        memcpy(&b8, p, 8)
        return FX_BSWAP64(b8) if code & SWAPPED else b8
    if size == 4:
        memcpy(&b4, p, 4)
        b4 = FX_BSWAP32(b4) if code & SWAPPED else b4
        return <uint64_t><int64_t><int32_t>b4 if code & SIGNED else b4
    if size == 2:
        memcpy(&b2, p, 2)
        b2 = FX_BSWAP16(b2) if code & SWAPPED else b2
        return <uint64_t><int64_t><short>b2 if code & SIGNED else b2
    memcpy(&b1, p, 1)
    if code & BOOLEAN:
        return b1 != 0
    return <uint64_t><int64_t><signed char>b1 if code & SIGNED else b1
