"""Contingency tables over dtypes, layouts, threads; mutual information and its family: mpmath, scikit-learn."""

import math
import threading

import mpmath
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from layouts import BFLOAT16, fused_levels, layouts, use_level

import fastxent as fx
from fastxent import reference
from fastxent._passes import contingency as _contingency

DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
MEASURES = {
    "joint_entropy": (fx.joint_entropy, reference.joint_entropy),
    "conditional_entropy": (fx.conditional_entropy, reference.conditional_entropy),
    "the other one": (
        lambda t, **options: fx.conditional_entropy(t, given=1, **options),
        lambda t, **options: reference.conditional_entropy(t, given=1, **options),
    ),
    "mutual_information": (fx.mutual_information, reference.mutual_information),
}


def plain_table(x, y, shape=None):
    """By NumPy."""
    x, y = (np.asarray(a).ravel().astype(int) for a in (x, y))
    table = np.zeros((max(x, default=-1) + 1, max(y, default=-1) + 1) if shape is None else shape, np.int64)
    np.add.at(table, (x, y), 1)
    return table


def same_table(got, want):
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, want, strict=True)


# ---- Counting ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (2047,), (2049,), (70000,), (30, 400), (3, 0), (2, 5, 7)], ids=str)
def test_every_dtype_and_layout(dtype, shape):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if dtype == "bool" else 90, shape).astype(dtype)
    y = rng.integers(0, 40, shape).astype(np.int16)
    want = plain_table(x, y)
    for _, array in layouts(x):
        same_table(fx.contingency_table(array, y), want)
    for _, array in layouts(y):
        same_table(fx.contingency_table(x, array), want)


@given(st.data())
def test_against_reference(data):
    shape = data.draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    dtypes = st.sampled_from(("u1", ">i2", "i4", "<u8", ">i8"))
    labels = [data.draw(arrays(data.draw(dtypes), shape, elements=st.integers(0, 9))) for _ in "xy"]
    want = reference.contingency_table(*labels)
    assert fx.contingency_table(*labels).tolist() == want
    assert fx.contingency_table(*labels, sparse=True).toarray().tolist() == want
    wider = fx.contingency_table(*labels, shape=(12, 10))
    assert wider.tolist() == reference.contingency_table(*labels, shape=(12, 10))


def test_n_dimensional_labels_that_lie_differently():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 9, (2, 40, 30, 20))
    want = plain_table(x, y)
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        same_table(fx.contingency_table(x, y.transpose(order).copy().transpose(np.argsort(order))), want)
    repeated = np.broadcast_to(y[:1], y.shape)
    same_table(fx.contingency_table(x, repeated), plain_table(x, repeated))


@pytest.mark.parametrize("classes", [1, 2, 45, 46, 300, 4096])
def test_threads_and_levels_do_not_matter(level, classes):
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, classes, (2, 200_000))
    x[: 1 << 16] = y[: 1 << 16] = 0
    want = plain_table(x, y, (classes, classes))
    for n in (1, 2, 5) if classes < 4096 else (5,):  # 128 MB a table
        with fx.num_threads(n):
            same_table(fx.contingency_table(x, y, shape=(classes, classes)), want)


def test_a_table_that_grows(monkeypatch):
    monkeypatch.setattr(_contingency, "BLOCK_LABELS", 4096)
    x = np.sort(np.random.default_rng(3).integers(0, 3000, 100_000))
    y = x[::-1] % 7
    same_table(fx.contingency_table(x, y), plain_table(x, y))
    same_table(fx.contingency_table(y, x), plain_table(y, x))
    assert fx.contingency_table(np.array([(1 << 24) - 1]), np.array([0])).shape == (1 << 24, 1)


def test_counters_do_not_overflow(monkeypatch):
    monkeypatch.setattr(_contingency, "COUNTER_LABELS", 1 << 14)
    monkeypatch.setattr(_contingency, "BLOCK_LABELS", 4096)
    flushes = []
    flush = _contingency._Counter.flush
    monkeypatch.setattr(_contingency._Counter, "flush", lambda self: flushes.append(flush(self)))
    same_table(fx.contingency_table(np.zeros(100_000, int), np.zeros(100_000, int)), np.array([[100_000]]))
    assert len(flushes) > 6


@pytest.mark.parametrize("blocks", [100, 1 << 18])
@pytest.mark.parametrize("shape", [None, (10**7, 5 * 10**6)], ids=str)
def test_sparse_tables(monkeypatch, shape, blocks):
    monkeypatch.setattr(_contingency, "SORTED_LABELS", blocks)
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 4_000_000, 3000), np.sort(rng.integers(0, 3_000_000, 3000))
    x[1500:], y[1500:] = x[:1500], y[:1500]
    got = fx.contingency_table(x, y, shape=shape, sparse=True)
    want = scipy.sparse.coo_array((np.ones(3000, np.int64), (x, y)), shape=shape)
    assert got.shape == want.shape
    assert got.dtype == np.int64
    assert (got != want.tocsr()).nnz == 0
    assert got.nnz == want.tocsr().nnz
    with pytest.raises(ValueError, match=r"^shape \(.*\) makes .* cells; a dense table has at most 16,777,216"):
        fx.contingency_table(x, y, shape=shape)
    assert fx.mutual_information(got) == fx.mutual_info_score(x, y)


def test_sparse_wants_scipy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        fx.contingency_table([0], [0], sparse=True)


@pytest.mark.parametrize(
    ("kind", "message", "x", "y", "options"),
    [
        (IndexError, r"^x\[2\] is -1, outside \[0, inf\)", [0, 1, -1], [0, 0, 0], {}),
        (IndexError, r"^y\[1\] is -3, outside \[0, inf\)", [0, 1, 2], [0, -3, -4], {"sparse": True}),
        (IndexError, r"^x\[0, 1\] is 7, outside \[0, 7\)", [[0, 7]], [[0, 9]], {"shape": (7, 7)}),
        (IndexError, r"^y\[1\] is 9, outside \[0, 7\)", [0, 3], [0, 9], {"shape": (7, 7)}),
        (IndexError, r"^y\[1\] is 9, outside \[0, 7\)", [0, 3], [0, 9], {"shape": (1 << 30, 7), "sparse": True}),
        (IndexError, r"^x\[0\] is 0, outside \[0, 0\)", [0], [0], {"shape": (0, 0)}),
        (IndexError, r"^x\[0\] is -1, outside \[0, inf\)", np.array([-1], ">i8"), np.array([1 << 40]), {}),
        (ValueError, r"^shape \(18446744073709551517, 1\)", np.array([2**64 - 100], np.uint64), [0], {}),
        (ValueError, r"^shape \(18446744073709551517, 1\)", np.array([2**64 - 100], "u8"), [0], {"sparse": True}),
        (ValueError, r"^shape \(4294967297, 1\)", [1 << 32], [0], {}),
        (ValueError, r"^shape \(.*number the labels", [1 << 40], [1 << 40], {"sparse": True}),
        (ValueError, r"^x has shape \(2,\) and y \(1,\)", [0, 1], [0], {}),
        (ValueError, "^shape must be two numbers", [0], [0], {"shape": (1, 2, 3)}),
        (ValueError, "^shape must not be negative", [0], [0], {"shape": (-1, 2)}),
        (TypeError, "^shape must be two integers", [0], [0], {"shape": 5}),
        (TypeError, "^shape must be two integers", [0], [0], {"shape": (1.5, 2)}),
        (TypeError, "^x has dtype float64", [0.5], [0], {}),
        (TypeError, "^y has dtype bfloat16", [0], np.array([1], BFLOAT16), {}),
    ],
)
def test_what_cannot_be_counted(kind, message, x, y, options):
    with pytest.raises(kind, match=message):
        fx.contingency_table(x, y, **options)


def test_a_label_out_of_range_far_inside():
    x = np.zeros(300_000, np.int32)
    x[250_001] = 5
    with pytest.raises(IndexError, match=r"^y\[250001\] is 5, outside \[0, 5\)"):
        fx.contingency_table(np.zeros_like(x), x, shape=(1, 5))


def test_labels_that_change_meanwhile():
    x, stop = np.zeros(1 << 16, np.int64), threading.Event()

    def scribble():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            x[:] = rng.integers(-(1 << 62), 1 << 62, x.size)
            x[:] = 3

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        for _ in range(100):
            try:
                assert fx.contingency_table(x, x, shape=(4, 4)).sum() == x.size
            except IndexError:
                pass
    finally:
        stop.set()
        thread.join()


# ---- Measures of a table ----


def truth(table):
    """H(X, Y), H(Y|X), H(X|Y) and I(X; Y) at 60 digits."""
    with mpmath.workdps(60):
        table = [[mpmath.mpf(float(w)) for w in row] for row in np.asarray(table)]
        rows, columns = [mpmath.fsum(row) for row in table], [mpmath.fsum(c) for c in zip(*table, strict=True)]
        total = mpmath.fsum(rows)
        cells = [(w, rows[i], columns[j]) for i, row in enumerate(table) for j, w in enumerate(row) if w]
        return [
            mpmath.fsum(w * mpmath.log(total / w) for w, _, _ in cells) / total,
            mpmath.fsum(w * mpmath.log(r / w) for w, r, _ in cells) / total,
            mpmath.fsum(w * mpmath.log(c / w) for w, _, c in cells) / total,
            mpmath.fsum(w * mpmath.log(w * total / (r * c)) for w, r, c in cells) / total,
        ]


def hard_tables():
    rng = np.random.default_rng(5)
    for shape in ((1, 1), (1, 5), (2, 2), (3, 4), (6, 5), (20, 30)):
        plain = rng.random(shape)
        product = np.outer(rng.random(shape[0]), rng.random(shape[1]))
        yield plain
        yield plain**30
        yield np.where(plain < 0.4, 0.0, plain) + np.eye(*shape)
        yield plain * 1e305
        yield plain * 1e-305
        yield rng.integers(0, 50, shape) + np.eye(*shape, dtype=int)
        yield rng.integers(1, 1 << 48, shape)
        yield np.eye(*shape) + 1e-9 * plain
        yield np.eye(*shape) * np.exp(rng.uniform(-300, 0, shape))
        for k in (1, 2, 4, 8, 12, 15, 17):
            yield product * (1 + 10.0**-k * rng.standard_normal(shape))
            yield np.rint(1e6 * product) * 1000 + rng.integers(0, 3, shape)
        yield product
    yield np.outer([3, 5, 7], [1, 10, 100])


def relative(value, exact):
    return 0.0 if exact == 0 and value == 0 else float(abs(value - exact) / abs(exact)) if exact else math.inf


@pytest.mark.parametrize("table", list(hard_tables()), ids=lambda t: f"{t.dtype}-{t.shape}")
def test_accuracy(table):
    for (function, twin), exact in zip(MEASURES.values(), truth(table), strict=True):
        value = function(table)
        assert value >= 0
        # a table that is a product in exact arithmetic has no information, which 60 digits do not show
        if abs(exact) < 1e-45:
            assert value < 1e-40
            continue
        assert relative(value, exact) < 1e-13
        assert relative(twin(table), exact) < 1e-13
        assert relative(function(scipy.sparse.coo_array(table)), exact) < 1e-13
        assert relative(function(table, base=2) * math.log(2), exact) < 2e-13


@pytest.mark.parametrize("table", list(hard_tables())[::3], ids=lambda t: f"{t.dtype}-{t.shape}")
def test_identities(table):
    rows, columns = table.sum(axis=1, keepdims=True), table.sum(axis=0, keepdims=True)
    h, h_x, h_y = (fx.joint_entropy(t) for t in (table, rows, columns))
    i = fx.mutual_information(table)
    close = {"rel": 1e-12, "abs": 1e-12}
    assert h_x <= math.log(len(rows)) * (1 + 1e-15)
    assert h <= math.log(table.size) * (1 + 1e-15)
    assert i == pytest.approx(h_x + h_y - h, **close)
    assert i == pytest.approx(h_x - fx.conditional_entropy(table, given=1), **close)
    assert i == pytest.approx(h_y - fx.conditional_entropy(table, given=0), **close)
    assert h == pytest.approx(h_x + fx.conditional_entropy(table), **close)
    assert i == pytest.approx(fx.mutual_information(table.T), rel=1e-14)
    assert fx.conditional_entropy(table, given=-1) == fx.conditional_entropy(table, given=1)


def test_independence_and_certainty_are_exact():
    assert fx.mutual_information(np.outer([1, 2, 3], [5, 7])) == 0
    assert fx.mutual_information([[4.0]]) == fx.joint_entropy([[4.0]]) == fx.conditional_entropy([[1, 0], [0, 5]]) == 0
    assert fx.mutual_information(np.eye(4), base=2) == 2
    assert fx.joint_entropy(np.ones((4, 4)), base=4) == 2


@pytest.mark.parametrize("name", MEASURES)
def test_special_tables(name):
    function, twin = MEASURES[name]
    for table in ([[1.0, math.nan]], [[0, 0], [0, 0]], np.zeros((0, 3)), np.zeros((3, 0)), [[math.nan]]):
        assert math.isnan(function(table))
        assert math.isnan(twin(table))
    for table, message in (
        ([[1.0, 2.0], [math.nan, -1.0]], r"^table\[1, 1\] is -1.0"),
        ([[1.0, math.inf], [math.nan, -1.0]], r"^table\[0, 1\] is inf"),
        ([1.0, 2.0], r"^table .*shape \(2,\)"),
        (np.ones((2, 2, 2)), r"^table .*dimensions"),
    ):
        for f in (function, twin):
            with pytest.raises(ValueError, match=message if f is function else "^table"):
                f(table)
    with pytest.raises(ValueError, match=r"^table\[1, 0\] is -2.0"):
        function(scipy.sparse.csr_array([[0, 1.0], [-2.0, 0]]))
    for table in ([["a"]], [[1j]], np.ma.array([[1]])):
        with pytest.raises(TypeError, match=r"^table"):
            function(table)
    for base, kind in ((0, ValueError), (1, ValueError), (-2, ValueError), (math.inf, ValueError), ("2", TypeError)):
        with pytest.raises(kind, match=r"^base must be"):
            function([[1, 2]], base=base)


@pytest.mark.parametrize("given_", [2, -3, 0.5, None, True])
def test_given_is_an_axis(given_):
    with pytest.raises(ValueError, match=r"^given must be"):
        fx.conditional_entropy([[1]], given=given_)


@pytest.mark.parametrize("shape", [(20, 30), (40, 30), (130, 140)], ids=str)  # small ones take a way of their own
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16, "uint8", "int32", "int64"], ids=str)
def test_tables_in_every_layout(dtype, shape, monkeypatch):
    table = np.random.default_rng(6).integers(0, 60, shape).astype(dtype)
    want = [function(table.astype(float)) for function, _ in MEASURES.values()]
    for level in fused_levels():
        use_level(monkeypatch, level)
        for n in (1, 3):
            with fx.num_threads(n):
                for _, array in layouts(table):
                    assert [function(array) for function, _ in MEASURES.values()] == want


@pytest.mark.parametrize("shape", [(1, 300_000), (300_000, 1), (3, 100_000), (700, 401), (263_000, 2)], ids=str)
def test_large_tables_and_sparse_ones_have_the_same_bits(shape, monkeypatch):
    """Of more than one block, whose rows are not whole; and given cell by cell."""
    table = np.random.default_rng(7).random(shape)
    cells = scipy.sparse.coo_array(table)
    want = [function(table) for function, _ in MEASURES.values()]
    for level in fused_levels():
        use_level(monkeypatch, level)
        for n in (1, 3):
            with fx.num_threads(n):
                assert [function(table) for function, _ in MEASURES.values()] == want
        assert [function(cells) for function, _ in MEASURES.values()] == want
    assert [function(np.asfortranarray(table)) for function, _ in MEASURES.values()] == want
    flat = table / table.sum()
    assert want[0] == pytest.approx(-(flat * np.log(flat)).sum(), rel=1e-12)
    for axis, value in ((1, want[1]), (0, want[2])):
        known = flat.sum(axis=axis, keepdims=True)
        assert value == pytest.approx((flat * np.log(known / flat)).sum(), rel=1e-9, abs=1e-13)


def test_nan_in_any_block():
    table = np.ones((2, 300_000))
    for place in (0, 299_999, 599_999):
        some = table.copy()
        some.flat[place] = math.nan
        for function, _ in MEASURES.values():
            assert math.isnan(function(some))
        some.flat[place - 1] = -1
        with pytest.raises(ValueError, match=r"^table\[\d, \d+\] is -1.0"):
            fx.joint_entropy(some)


@pytest.mark.parametrize("scale", [2.0**-1074, 2.0**-1060, 2.0**-500, 2.0**900, 2.0**1018])
def test_tables_at_the_ends_of_the_range(scale):
    table = np.array([[3.0, 5.0, 0.0], [7.0, 1.0, 2.0]])
    for function, _ in MEASURES.values():
        assert function(table * scale) == function(table)
        assert function(np.repeat(table, 500, 0) * scale) == function(np.repeat(table, 500, 0))


@pytest.mark.parametrize("counts", [1, 3, 200])
def test_tables_of_counts_that_are_mostly_0(counts):
    """They are gone through without the empty cells, to 13 digits of what the table as it is has."""
    rng = np.random.default_rng(counts)
    table = np.zeros((80, 70), np.int64)
    np.add.at(table, (rng.integers(0, 60, counts), rng.integers(3, 70, counts)), rng.integers(1, 9, counts))
    table[0, :2] = 5, 1  # a row that tells little
    for function in (fx.mutual_information, fx.joint_entropy, fx.conditional_entropy):
        whole = function(table.astype(np.float64))
        assert whole > 0
        assert function(table) == pytest.approx(whole, rel=1e-13, abs=0)


def test_labels_of_more_cells_than_labels():
    x = np.arange(400) % 397
    y = x * 7 % 391
    table = fx.contingency_table(x, y).astype(np.float64)
    assert fx.mutual_info_score(x, y) == pytest.approx(fx.mutual_information(table), rel=1e-13, abs=0)
    assert fx.mutual_info_score(x * 10**12, -y) == fx.mutual_info_score(x, y)


def test_sparse_tables_with_empty_rows_and_double_entries():
    table = scipy.sparse.coo_array(([1.0, 2.0, 3.0, 4.0], ([0, 0, 10**9, 10**9], [5, 5, 7, 10**12])))
    dense = np.array([[3.0, 0, 0], [0, 3.0, 4.0]])
    for function, _ in MEASURES.values():
        assert function(table) == pytest.approx(function(dense), rel=1e-15)
        assert function(scipy.sparse.csc_matrix(dense)) == pytest.approx(function(dense), rel=1e-15)


# ---- mutual_info_score ----

LABELS = {
    "numbers": (np.arange(60) % 4, np.arange(60) % 7 // 2),
    "negative": (np.arange(60) % 4 - 9, np.arange(60, dtype=np.uint8) % 5),
    "wide": (np.arange(60) ** 5, np.arange(60) % 7 * 10**12),
    "strings": (np.array(["a", "bb", "c"] * 20), ["x", "y", "x", "zz"] * 15),
    "floats": (np.array([0.0, 1.0, 2.0] * 20), [1.0, 0.0] * 30),
    "bools": (np.array([True, False] * 30), [False] * 10 + [True] * 50),
    "alike": (np.zeros(60, int), np.arange(60) % 2),
    "objects": (np.array(["a", "b", "c"] * 20, object), np.array(["u", "v"] * 30, object)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_mutual_info_score_is_scikit_learns(kind):
    metrics = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")
    a, b = LABELS[kind]
    want = metrics.mutual_info_score(a, b)
    assert fx.mutual_info_score(a, b) == pytest.approx(want, rel=1e-12, abs=1e-14)
    assert reference.mutual_info_score(a, b) == pytest.approx(want, rel=1e-12, abs=1e-14)
    assert fx.mutual_info_score(a, a) == pytest.approx(metrics.mutual_info_score(a, a), rel=1e-12, abs=1e-14)
    long = np.resize(a, 70_000)
    assert fx.mutual_info_score(long, np.sort(long)) == pytest.approx(metrics.mutual_info_score(long, np.sort(long)))


def test_mutual_info_score_takes_what_can_be_hashed():
    mixed = [1, "1", (2, 3), None] * 5
    assert fx.mutual_info_score(mixed, mixed) == reference.mutual_info_score(mixed, mixed) == pytest.approx(math.log(4))
    assert fx.mutual_info_score([2**70, 0], [0, -(2**70)]) == pytest.approx(math.log(2))
    for a, b, kind, message in (
        ([0, 1], [0], ValueError, "2 labels and labels_pred 1"),
        (np.zeros((2, 2), int), [0], ValueError, "^labels_true has shape"),
        ([0], [[0]], TypeError, "^labels_pred holds a label that is not hashable"),
    ):
        with pytest.raises(kind, match=message):
            fx.mutual_info_score(a, b)


@pytest.mark.parametrize("none", [[], np.zeros(0, int), np.zeros(0, "U3")], ids=repr)
def test_mutual_info_score_of_no_sample_is_refused(none):
    """scikit-learn's is a ValueError, too."""
    with pytest.raises(ValueError, match="no sample"):
        fx.mutual_info_score(none, none)
    with pytest.raises(ValueError, match="no label"):
        reference.mutual_info_score(none, none)


def test_no_label_is_copied():
    import tracemalloc

    x = np.zeros(1 << 23, np.int32)
    x[-1] = 40
    tracemalloc.start()
    fx.contingency_table(x, x[::-1])
    fx.mutual_info_score(x.astype(">i4"), x)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    fx.contingency_table(x, x[::-1])
    assert tracemalloc.get_traced_memory()[1] - before < 1 << 21
    tracemalloc.stop()
