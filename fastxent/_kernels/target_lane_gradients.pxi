# The gradient of rows whose lanes are rows (target_lanes.pxi), written class by class.

# what a row's softmax and gradient want, in lanes of the working precision and of float64
cdef struct LaneGradient:
    double floor_[LANES]       # float32 lanes use half of each
    double magic[LANES]
    double inverse[LANES]
    double inverse_lo[LANES]
    double shift[LANES]
    double lost[LANES]         # expm1(-gap)
    double total[LANES]        # A0


cdef inline void set_lane(double *lanes, Py_ssize_t i, double x, vec like) noexcept nogil:
    if vec is vf:
        (<float *>lanes)[i] = <float>x
    else:
        lanes[i] = x


cdef inline void prepare_gradients(
    const TargetJob *job, const LanePiece *piece, const Columns *raw, LaneGradient *out, vec like
) noexcept nogil:
    cdef vd hi[FX_NI]
    cdef vd y[FX_NI]
    cdef vd scale[FX_NI]
    cdef vd n
    cdef double shift[LANES]
    cdef double c[LANES]
    cdef double inverse[LANES]
    cdef double inverse_lo[LANES]
    cdef Py_ssize_t i, v, lanes = piece.x.lanes
    cdef Py_ssize_t h
    cdef Scored row
    cdef Normaliser norm
    for h in range(lanes // (FX_NI * FX_VD)):
        i = h * FX_NI * FX_VD
        for v in range(FX_NI):
            y[v] = -vd_load(piece.gap + i + v * FX_VD)
        vd_expm1(y, scale)
        for v in range(FX_NI):
            vd_store(out.lost + i + v * FX_VD, scale[v])
            # e^-lse = e^r 2^n, |r| <= log 2 / 2: float64 as it stands is good enough for float32
            hi[v] = y[v] - vd_load(piece.top + i + v * FX_VD)
            n = (hi[v] * FX_LOG2E + FX_MAGIC_D) - FX_MAGIC_D
            vd_store(c + i + v * FX_VD, -n)
            hi[v] = vd_fma(n, vd_splat(-FX_LN2_REST), vd_fma(n, vd_splat(-FX_LN2_33), hi[v]))
        vd_exp(hi, magic_of(0, hi[0]), True, y, scale)
        for v in range(FX_NI):
            vd_store(inverse + i + v * FX_VD, y[v] * scale[v])
    for i in range(lanes):
        shift[i] = inverse_lo[i] = 0.0
        out.total[i] = piece.a0[i] + piece.a0_lo[i]
        if vec is vd:
            if i < raw.count:
                row.hi = piece.hi[i]
                row.lo = piece.lo[i]
                normaliser_from(&row, F64, &norm)
                shift[i] = norm.shift
                c[i] = <double>norm.c
                inverse[i] = norm.inverse
        else:
            inverse_lo[i] = inverse[i] - <float>inverse[i]
    for i in range(lanes):
        if i >= raw.count or piece.odd[i]:
            c[i] = 0.0  # there is no row, or it is rewritten later
        set_lane(out.floor_, i, (c[i] - (127.0 if vec is vf else 1023.0)) * LN2 + 0.07, like)
        set_lane(out.magic, i, (FX_MAGIC_F + 127.0 if vec is vf else FX_MAGIC_D + 1023.0) - c[i], like)
        set_lane(out.inverse, i, inverse[i], like)
        set_lane(out.inverse_lo, i, inverse_lo[i], like)
        set_lane(out.shift, i, shift[i], like)  # float32 rows that want one are odd


cdef void put_exceptions(
    const TargetJob *job, const LanePiece *piece, const LaneGradient *of, const Columns *raw, char *out
) noexcept nogil:
    """What is not f (A0 s - a): zeros of rows that count nothing, and the classes of the label and of the known gap."""
    cdef Py_ssize_t i, k, row_stride = stride_of(job, GRADIENT)
    cdef double f, a, value, one_hot, total
    cdef bint soft = job.target_code >= SOFT, single = job.single
    cdef char *o
    for i in range(raw.count):
        f = piece.factor[i]
        o = out + i * row_stride
        if f == 0.0:
            for k in range(job.classes):
                put_number(o + k * job.gradient_stride, single, 0.0)
            continue
        k = piece.own[i]
        one_hot = 0.0 if soft else (1.0 - job.smoothing) * piece.weight[i]
        if job.own_label:
            put_number(o + k * job.gradient_stride, single, f * (one_hot * of.lost[i]))
            continue
        if not soft and (piece.label[i] != k or not piece.gap[i] < LN2):
            o += piece.label[i] * job.gradient_stride
            value = load_one(o, F32 if single else F64)
            put_number(o, single, value - f * one_hot)
            o = out + i * row_stride
        if piece.gap[i] < LN2:
            # A0 s - a would cancel there
            a = job.smoothing / <double>job.classes
            if soft:
                a = fx_fma(
                    load_one(
                        piece.target.p + i * piece.target.row_stride + k * piece.target.class_stride, piece.target.kind
                    ),
                    1.0 - job.smoothing, a,
                )
            if job.weights != NULL:
                a = a * job.weights[k]
            if piece.label[i] == k:
                a = a + one_hot
            total = of.total[i]
            put_number(o + k * job.gradient_stride, single, f * ((total - a) * (1.0 + of.lost[i]) + a * of.lost[i]))


cdef inline void lane_gradients(const TargetJob *job, LanePiece *piece, const Columns *raw, vec like) noexcept nogil:
    cdef LaneGradient of
    cdef double xs[COLUMN_BLOCK * LANES]
    cdef double as_[COLUMN_BLOCK * LANES]
    cdef double result[COLUMN_BLOCK * LANES]
    cdef vec x[FX_NI]
    cdef vec e[FX_NI]
    cdef vec scale[FX_NI]
    cdef vec inverse, inverse_lo, floor_, magic, shift
    cdef vd factor[2]
    cdef vd total[2]
    cdef vd a
    cdef const double *weights = job.weights
    cdef bint soft = job.target_code >= SOFT, a_wide = job.target_code == SOFT + F64
    cdef bint plain = soft and job.weights == NULL and job.smoothing == 0.0
    cdef Py_ssize_t w = width(like), size = sizeof(vec) // w, lanes = piece.x.lanes, x_step = 0, a_step = 0
    cdef Py_ssize_t n = job.classes, row_stride = stride_of(job, GRADIENT), out_step
    cdef Py_ssize_t b, j, k, g, h, i, v, u, some
    cdef const char *p
    cdef const char *t = NULL
    cdef char *o
    cdef char *out = job.gradient + offset_of(&job.layout, GRADIENT, piece.row)
    cdef bint direct = row_stride == size and raw.count == lanes
    cdef double share = job.smoothing / <double>job.classes, left = 1.0 - job.smoothing, weight
    prepare_gradients(job, piece, raw, &of, like)
    for b in range((n + COLUMN_BLOCK - 1) // COLUMN_BLOCK):
        j = b * COLUMN_BLOCK
        some = min(COLUMN_BLOCK, n - j)
        p = block_of(&piece.x, j, some, <char *>xs, &x_step)
        if soft:
            t = block_of(&piece.target, j, some, <char *>as_, &a_step)
        o = out + j * job.gradient_stride if direct else <char *>result
        out_step = job.gradient_stride if direct else LANES * size
        for v in range(lanes // w):
            inverse = load(<char *>of.inverse + v * sizeof(vec), native(like), like)
            inverse_lo = load(<char *>of.inverse_lo + v * sizeof(vec), native(like), like)
            floor_ = load(<char *>of.floor_ + v * sizeof(vec), native(like), like)
            magic = load(<char *>of.magic + v * sizeof(vec), native(like), like)
            shift = load(<char *>of.shift + v * sizeof(vec), native(like), like)
            for u in range(w // FX_VD):
                factor[u] = vd_load(piece.factor + v * w + u * FX_VD)
                total[u] = vd_load(of.total + v * w + u * FX_VD)
            for g in range((some + FX_NI - 1) // FX_NI):
                h = g * FX_NI
                for k in range(FX_NI):
                    i = min(h + k, some - 1)
                    x[k] = load(p + i * x_step + v * sizeof(vec), native(like), like)
                    if vec is vd:
                        x[k] = x[k] - shift
                    x[k] = vmax(floor_, x[k])
                vexp(x, magic, FX_LESS_ONE, e, scale)
                for k in range(min(FX_NI, some - h)):
                    # as outputs.pxi has the softmax
                    e[k] = (inverse + vfma(e[k], inverse, vfma(e[k], inverse_lo, inverse_lo))) * scale[k]
                    weight = 1.0 if weights == NULL else weights[j + h + k]
                    for u in range(w // FX_VD):
                        i = v * w + u * FX_VD
                        if soft:
                            a = doubles_at(t + (h + k) * a_step + i * (8 if a_wide else 4), a_wide)
                            if not plain:
                                a = vd_fma(a, vd_splat(left), vd_splat(share)) * weight
                        else:
                            a = vd_splat(share * weight if share != 0.0 else 0.0)
                        if vec is vf:
                            a = factor[u] * vd_fma(total[u], vd_load_f32(<char *>&e[k] + u * FX_VD * 4), -a)
                            vd_store_f32(o + (h + k) * out_step + i * 4, a)
                        else:
                            a = factor[u] * vd_fma(total[u], e[k], -a)
                            vd_store(o + (h + k) * out_step + i * 8, a)
        if not direct:
            put_columns(
                <char *>result, size, some, raw.count, out + j * job.gradient_stride, job.gradient_stride, row_stride
            )
    put_exceptions(job, piece, &of, raw, out)


cdef void write_lane_gradients(const TargetJob *job, LanePiece *piece, const Columns *raw) noexcept nogil:
    cdef vf f = vf_splat(0)
    cdef vd d = vd_splat(0)
    if job.kind == F64:
        lane_gradients(job, piece, raw, d)
    else:
        lane_gradients(job, piece, raw, f)
