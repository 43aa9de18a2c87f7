# Declarations that every kernel file shares: vectors, their exponential, the storage kinds, a row's partial result.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "platform.h" nogil:
    uint64_t fx_fp_enter()
    void fx_fp_leave(uint64_t old)
    Py_ssize_t fx_take(Py_ssize_t *, Py_ssize_t)
    double fx_seconds()

cdef extern from "exponential.h" nogil:
    # Cython takes the vectors for numbers, which makes their operators compile to vector C
    ctypedef float vf
    ctypedef double vd
    ctypedef int32_t vi
    ctypedef int64_t vl
    ctypedef uint32_t vu
    enum: FX_NV
    enum: FX_NH
    enum: FX_NI
    enum: FX_NE
    enum: FX_LESS_ONE
    enum: FX_PREFETCH
    enum: FX_FMA
    enum: FX_PIXELS
    enum: FX_PIXEL_VECTORS
    enum: FX_VF
    enum: FX_VD
    enum: FX_RUN
    enum: FX_CHAIN_F
    enum: FX_CHAIN_D
    enum: FX_PART_F
    enum: FX_PART_D
    enum: FX_STEPS
    enum: FX_RUN_DOUBLES
    enum: FX_BLOCK
    double FX_LOG2E, FX_LN2_33, FX_LN2_REST, FX_LN2_HI_D, FX_LN2_LO_D, FX_LN2_HI_F, FX_LN2_LO_F
    double FX_MAGIC_F, FX_MAGIC_D, FX_FAR_F, FX_FAR_D
    vf vf_splat(float)
    vd vd_splat(double)
    vf vf_load(const void *)
    vd vd_load(const void *)
    vd vd_load_f32(const void *)
    vf vf_load_bf16(const void *)
    vf vf_load_f16(const void *)
    float fx_f32(const void *)
    float fx_f16(const void *)
    float fx_bf16(const void *)
    double fx_f64(const void *)
    void vf_store(void *, vf)
    void vd_store(void *, vd)
    vf vf_max(vf, vf)
    vd vd_max(vd, vd)
    void vf_terms(const vf *, vf *)
    void vd_terms(const vd *, vd *)
    void vf_lifted(const vf *, vf *, vf *)
    void vd_lifted(const vd *, vd *, vd *)
    vf vf_eight(const char *, Py_ssize_t, int, int, const int32_t *, int32_t)
    vd vd_eight(const char *, Py_ssize_t, int, const int64_t *, int64_t)
    vd vd_exponent(vd)
    vf vf_fma(vf, vf, vf)
    vd vd_fma(vd, vd, vd)
    vf vf_by_sign(vf, vf, vf)
    vd vd_by_sign(vd, vd, vd)
    vf vf_pick(vi, vf, vf)
    vd vd_pick(vl, vd, vd)
    void vf_exp(const vf *, vf, int, vf *, vf *)
    void vd_exp(const vd *, vd, int, vd *, vd *)
    void vf_exp_sum(const vf *, vf, vf *, vf *)
    void vd_exp_sum(const vd *, vd, vd *, vd *)
    void vf_add_exp(const vf *, vf, vf *)
    void vd_add_exp(const vd *, vd, vd *)
    void vf_add_moments(const vf *, vf, vf, vf *, vf *, vf *)
    void vd_add_moments(const vd *, vd, vd, vd *, vd *, vd *)
    double vf_top(vf)
    double vd_top(vd)
    int64_t vi_total(vi)
    int64_t vl_total(vl)
    int vi_any(vi)
    const bint FX_PERMUTES
    vf vf_permute(vf, vi)
    int vl_any(vl)
    vf vf_without(vf, const int32_t *, int32_t)
    vd vd_without(vd, const int64_t *, int64_t)
    vf vf_power(vf)
    vd vd_power(vd)
    void vf_scale_flush(double *, vf, vf)
    vf vf_abs(vf)
    vd vd_abs(vd)
    vf vf_no_nan(vf)
    vd vd_no_nan(vd)
    vf vf_scale(vf)
    vd vd_scale(vd)
    vf vf_exp_tail(vf)
    vd vd_exp_tail(vd)
    vf vf_artanh_tail(vf)
    vd vd_artanh_tail(vd)
    vi vf_ge(vf, vf)
    vl vd_ge(vd, vd)
    vi vf_eq(vf, vf)
    vl vd_eq(vd, vd)
    void vf_flush(double *, vf)
    void vd_flush(double *, double *, vd)
    double fx_fma(double, double, double)
    void fx_prefetch(const void *)
    void fx_stream(const char *)

cdef extern from "past.h" nogil:
    Py_ssize_t FX_PAST
    Py_ssize_t fx_before_line(const char *)
    void fx_store_past(char *, vf)
    void fx_copy_past(char *, const char *, Py_ssize_t)
    void fx_past_done()

cdef extern from "groups.h" nogil:
    void fx_copy_but(const char *, int, int, int, uint64_t, char *)
    void fx_copy_last(const char *, Py_ssize_t, int, bint, uint64_t, char *)
    double fx_fold(const double *)
    void fx_fold_pairs(double *, double *)

cdef extern from "labels.h" nogil:
    bint fx_plain_labels(const char *, Py_ssize_t, int64_t, bint, int64_t, int32_t *)

cdef extern from "tiles.h" nogil:
    enum: FX_TILE
    enum: FX_TILES
    void fx_to_lanes(const char *, Py_ssize_t, int, float *, Py_ssize_t)
    void fx_from_lanes(const float *, Py_ssize_t, char *, Py_ssize_t, int)
    void vd_store_f32(void *, vd)
    void fx_row_sums_f32(const float *, Py_ssize_t, Py_ssize_t, double *)
    void fx_row_sums_f64(const double *, Py_ssize_t, Py_ssize_t, double *, double *)

cdef extern from "vmath.h" nogil:
    void vf_split(const vf *, vf *, vf *)
    void vd_split(const vd *, vd *, vd *)
    void vf_log(const vf *, vf *)
    void vd_log(const vd *, vd *)
    void vf_log1p(const vf *, vf *)
    void vd_log1p(const vd *, vd *)
    void vf_log1p_near(const vf *, vf *)
    void vd_log1p_near(const vd *, vd *)
    void vf_decayed(const vf *, vf *)
    void vd_decayed(const vd *, vd *)
    void vf_softplus(const vf *, vf *, vf *)
    void vd_softplus(const vd *, vd *, vd *)
    void vf_binary(const vf *, const vf *, const vf *, vf *)
    void vd_binary(const vd *, const vd *, const vd *, vd *)
    void vd_exp_full(const vd *, vd *)
    void vd_exp_short(const vd *, vd *)
    void vd_log_short(const vd *, vd *)
    void vd_log1p_short(const vd *, vd *)

cdef extern from "pairmath.h" nogil:
    void vf_add_shares(const char *, const char *, bint, vf *, vu *)
    void vf_decay(const vf *, bint, vf *, vf *, vf *, vf *)
    void vd_decay(const vd *, bint, vd *, vd *, vd *, vd *)
    void vf_half_js(const vf *, const vf *, const vf *, vf *)
    void vd_half_js(const vd *, const vd *, const vd *, vd *)
    void vf_phi(const vf *, vf *)
    void vd_phi(const vd *, vd *)
    void vf_expm1(const vf *, vf *)
    void vd_expm1(const vd *, vd *)
    void vf_logit(const vf *, vf *)
    void vd_logit(const vd *, vd *)
    void vf_log_base(const vf *, const float *, vf *)
    void vd_log_base(const vd *, const double *, vd *)
    bint vf_outside(vf, float, float, bint)
    bint vd_outside(vd, double, double, bint)
    vf vf_only(vi, vf)
    vd vd_only(vl, vd)

ctypedef fused vec:
    vf
    vd

# storage of the logits
cdef enum Kind:
    F32 = 0
    F16 = 1
    BF16 = 2
    F64 = 3

cdef extern from "<math.h>" nogil:
    double INFINITY
    double NAN

cdef extern from *:
    """
    #define FX_LN2 0x1.62e42fefa39efp-1
    """
    const double LN2 "FX_LN2"

# What a column segment of a row leaves behind. "The others" are all columns but the hole (the label's column, or none).
# Their sum is s e^shift 2^c, so that it neither overflows nor loses the small; states merge in the order of columns.
cdef struct Partial:
    double s         # sum over the others of e^(x - shift) 2^-c
    double s_lo      # its rounding error, float64 storage only
    double w         # sum over the others of e (top - x), in the same scale (with moments)
    double q         # sum over the others of e^2, in that scale squared (with moments)
    double shift     # 0, or the far maximum that was subtracted
    double top       # largest of the others; -inf for none
    int64_t c        # base-2 reference
    int64_t argmax   # first column of top (with moments)
    int64_t above    # others ranked before the label (with moments)
