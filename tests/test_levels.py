"""Same bits: whatever level, threads, blocks, storage and layout, compared with == and never with a tolerance.

The SSE2 baseline has bits of its own, and so may rows whose class axis is strided; each keeps every other independence.
"""

import json
from fractions import Fraction

import numpy as np
import pytest
from accuracy import exact_sum
from child import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    BFLOAT16,
    STORAGES,
    classes_lie_together,
    fused_levels,
    gapped,
    labels_of,
    layouts,
    rows_of,
    same_bits,
    storage_ids,
    use_level,
)

import fastxent as fx
from fastxent import _arrays, _dispatch
from fastxent._passes import rows as _rows

LEVELS = _dispatch.usable_levels()
# the row kernels' steps: 16 and 32 lanes a group, 8 groups a run, 16 runs a block, 65,536 columns a segment
CLASSES = (1, 2, 5, 16, 33, 129, 300, 2049, 4100, 70000)
every_storage = pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)
every_order = pytest.mark.parametrize("order", ["contiguous", "strided"])


# ---- everything that is computed from logits and labels ----


def weights_of(c: int) -> np.ndarray:
    return np.random.default_rng(c).choice([0.0, 0.5, 1.0, 3.7, 1e-3], c)


def results(x: np.ndarray, labels: np.ndarray, axis: int = -1) -> dict[str, np.ndarray]:
    """Everything that is computed from logits and labels."""
    weights = weights_of(x.shape[axis])
    found = {name: fx.cross_entropy(x, labels, axis=axis, reduction=name) for name in ("none", "mean", "sum")}
    found["none, weighted"] = fx.cross_entropy(x, labels, weights, axis=axis, reduction="none")
    found["mean, weighted"] = fx.cross_entropy(x, labels, weights, axis=axis)
    found["logsumexp"] = fx.logsumexp(x, axis=axis)
    found["softmax"] = fx.softmax(x, axis=axis)
    found["log_softmax"] = fx.log_softmax(x, axis=axis)
    if axis == -1:
        evaluator = fx.Evaluator()
        evaluator.update(x, labels)
        found["evaluator"] = np.frombuffer(json.dumps(evaluator.state()).encode(), np.uint8)
    return {name: np.asarray(value) for name, value in found.items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], where: object = "") -> None:
    assert [name for name in expected if not same_bits(found[name], expected[name])] == [], where


def tiny_blocks(monkeypatch: pytest.MonkeyPatch, elements: int, rows: int, conversion: int = 1 << 19) -> None:
    """Blocks far smaller than they are, and threads for however few elements."""
    monkeypatch.setattr(_rows, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(_rows, "STRIDED_ELEMENTS", elements)
    monkeypatch.setattr(_rows, "LONGER", 1)
    monkeypatch.setattr(_rows, "BLOCK_ROWS", rows)
    monkeypatch.setattr(_rows, "SERIAL_ELEMENTS", 0)
    monkeypatch.setattr(_arrays, "CONVERSION_ELEMENTS", conversion)


# ---- levels ----


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
@every_storage
@every_order
def test_levels(storage, order):
    first, *others = fused_levels()
    for c in CLASSES:
        x = rows_of(storage, c)
        x, labels = np.asfortranarray(x) if order == "strided" else x, labels_of(x)
        with pytest.MonkeyPatch.context() as monkeypatch:
            use_level(monkeypatch, first)
            expected = results(x, labels)
            for level in others:
                use_level(monkeypatch, level)
                assert_same(results(x, labels), expected, (level, c))


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
def test_elementary_of_levels():
    x = np.concatenate([np.linspace(-800, 800, 20001), np.geomspace(1e-320, 1e308, 20001), [0.0, -0.0, np.inf, np.nan]])
    for name in ("exp", "log", "log1p", "expm1"):
        found = [np.empty_like(x) for _ in fused_levels()]
        for level, y in zip(fused_levels(), found, strict=True):
            _dispatch.load_level(level).elementary(name, x, y)
            assert same_bits(y, found[0])
    with np.errstate(over="ignore"):
        single = x.astype(np.float32)
    for values in (x, single):  # the scalar and the vector functions are one in float64: test_numerics
        for name in ("log", "log1p", "expm1"):
            found = [np.empty_like(values) for _ in fused_levels()]
            for level, y in zip(fused_levels(), found, strict=True):
                _dispatch.load_level(level).elementary_vectors(name, values, y)
                assert same_bits(y, found[0])


@pytest.mark.parametrize("level", LEVELS)
def test_level_from_the_environment(level):
    done = run_python("from fastxent import _dispatch as d; print(d.level, d.kernels.__name__)", FASTXENT_LEVEL=level)
    assert done.stdout.split() == [level, f"fastxent._kernels.{level}"], done.stderr


@pytest.mark.parametrize("level", ["sse9", "AVX2 ", *(set(_dispatch.LEVELS) - set(LEVELS))])
def test_level_that_does_not_run_here(level):
    done = run_python("import fastxent", FASTXENT_LEVEL=level)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: ")
    assert all(name in error for name in {level.strip(), *LEVELS} & {level.strip(), *_dispatch.LEVELS})


# ---- threads and blocks ----


@every_order
@pytest.mark.parametrize("shape", [(300, 301), (5000, 11), (2, 140_000)], ids=str)
def test_threads(level, monkeypatch, shape, order):
    x = 3 * np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    x[0, :5] = -np.inf
    x[-1] += 1e5
    labels = labels_of(x)
    x = np.asfortranarray(x) if order == "strided" else x
    monkeypatch.setattr(_rows, "SERIAL_ELEMENTS", 0)
    with fx.num_threads(1):
        expected = results(x, labels)
    for threads in (2, 3, 4):
        with fx.num_threads(threads):
            assert_same(results(x, labels), expected, threads)


@every_order
@every_storage
def test_blocks(level, storage, order):
    for c in (1, 33, 2100):
        rows = rows_of(storage, c)
        n = min(len(rows), 60) // 6 * 6
        x, labels = rows[-n:].reshape(2, 3, n // 6, c), labels_of(rows[-n:]).reshape(2, 3, n // 6)
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1) if order == "strided" else x
        swapped = x if storage == BFLOAT16 else x.astype(x.dtype.newbyteorder(), order="K")
        expected = results(x, labels)
        for elements, block_rows, conversion in ((1 << 23, 1, 1), (3 * c, 1 << 18, 5 * c), (7 * c, 4, n // 6 * c)):
            with pytest.MonkeyPatch.context() as monkeypatch, fx.num_threads(2):
                tiny_blocks(monkeypatch, elements, block_rows, conversion)
                assert_same(results(x, labels), expected, (c, elements))
                assert_same(results(swapped, labels), expected, (c, elements, "byte-swapped"))


@pytest.mark.parametrize(("dtype", "order"), [(np.float64, "contiguous"), (np.float32, "strided")])
def test_blocks_of_huge_rows(level, monkeypatch, dtype, order):
    """Rows of several column segments, in blocks of some rows, of one row, and of some segments."""
    x = (4 * np.random.default_rng(2).standard_normal((3, 140_000))).astype(dtype)
    x[1, 130_000:] += 60
    x[2, 60_000:130_000] = -np.inf
    x, labels = gapped(x, (1, 2)) if order == "strided" else x, np.array([139_999, 3, 65_536])
    with fx.num_threads(1):
        expected = results(x, labels)
    for elements in (1 << 16, 1 << 17, 300_000):
        tiny_blocks(monkeypatch, elements, 1 << 18)
        assert_same(results(x, labels), expected, elements)


# ---- storage and layout ----


@pytest.mark.parametrize("storage", [np.float32, np.float64])
def test_wherever_the_largest_lies(level, storage):
    # the loss looks at the first run alone for its reference, the evaluation at all of a block
    for low in (0.0, -30.0, -60.0, -2e3, -1e5, -3e9, -np.inf):
        for first in (1, 256, 4096, 4700):
            x = np.random.default_rng(first).normal(0, 2, (1, 5000)).astype(storage)
            x[0, :first] += storage(low)
            report = fx.evaluate(x, np.array([4800]))
            assert report.cross_entropy == fx.cross_entropy(x, np.array([4800]), reduction="none")[0], (low, first)
            wide = x.astype(np.longdouble)
            want = np.log(np.sum(np.exp(wide - wide.max()))) + wide.max() - wide[0, 4800]
            np.testing.assert_allclose(report.cross_entropy, float(want), 4 * np.finfo(storage).eps)


@pytest.mark.parametrize("storage", [np.float16, BFLOAT16], ids=storage_ids)
@every_order
def test_halves_as_their_float32_copy(level, storage, order):
    every_one = np.arange(1 << 16, dtype=np.uint16).view(storage)
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them, at which NumPy's conversions warn
        halves_as_their_float32_copy(every_one, storage, order)


def halves_as_their_float32_copy(every_one, storage, order):
    """Every 16-bit number alone, and in rows."""
    assert same_bits(fx.logsumexp(every_one[:, None], axis=1), every_one.astype(np.float32) + np.float32(0))
    for c in (7, 300):
        rows = np.concatenate([rows_of(np.dtype(storage), c), np.resize(every_one, (1 << 16) // c * c).reshape(-1, c)])
        x, wide = rows, rows.astype(np.float32)
        if order == "strided":
            x, wide = gapped(x, (1, 2)), gapped(wide, (1, 2))
        assert_same(results(x, labels_of(rows)), results(wide, labels_of(rows)), c)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "uint64", ">i8"])
def test_integers_as_their_float64_copy(level, dtype):
    x = np.random.default_rng(4).integers(0, 2 if dtype == "bool" else 100, (3, 40, 21)).astype(dtype)
    expected = results(x.astype(np.float64), labels_of(x))
    for name, array in layouts(x):
        assert_same(results(array, labels_of(x)), expected, name)


@every_storage
def test_layouts(level, storage):
    for c, dtype in ((1, "i2"), (2, ">i4"), (9, "i1"), (257, "i8")):
        rows = rows_of(storage, c)
        values = rows[: len(rows) // 4 * 4].reshape(4, -1, c)
        labels = labels_of(values)
        expected = {True: results(values, labels), False: results(np.asfortranarray(values), labels)}
        expected[False]["evaluator"] = expected[True]["evaluator"]  # it brings its rows into one order
        for (name, x), (_, y) in zip(layouts(values), layouts(labels.astype(dtype)), strict=False):
            assert_same(results(x, y), expected[classes_lie_together(x)], name)


def test_zero_strides(level):
    for c in (1, 20, 300):
        x, labels = np.broadcast_to(np.random.default_rng(c).standard_normal(c), (500, c)), np.arange(500) % c
        assert_same(results(x, labels), results(x.copy(), labels))
        x = np.broadcast_to(np.float64(0.7), (500, c))
        assert_same(results(x, labels), results(np.asfortranarray(x), labels))


@every_storage
def test_rows_do_not_feel_their_neighbours(level, storage):
    """Strided classes: any place in a line, any neighbours, side by side or not."""
    rng = np.random.default_rng(5)
    for c in (2, 9, 70):
        rows = rows_of(storage, c)
        labels = labels_of(rows)
        alone = [results(gapped(row[None], (1, 2)), label[None]) for row, label in zip(rows, labels, strict=True)]
        names = ("none", "none, weighted", "logsumexp", "softmax", "log_softmax")
        for count in (2, 7, 255, 256, 257, 700):
            which = rng.integers(len(rows), size=count)
            line = np.asfortranarray(rows[which])
            for x in (line, gapped(line.T, (1, 3)).T, line[::-1]):
                order = which[::-1] if x.strides[0] < 0 else which
                found = results(x, labels[order], axis=1)
                expected = {name: np.concatenate([alone[i][name] for i in order]) for name in names}
                assert_same(found, expected, (c, count))


@every_storage
def test_out_in_every_layout(level, storage):
    values = rows_of(storage, 35)[-50:].reshape(5, 10, 35)
    labels = labels_of(values)
    for x in (values, np.asfortranarray(values)):
        expected = results(x, labels)
        wide, narrow = np.zeros_like(expected["softmax"]), np.zeros_like(expected["none"])
        outs = [(a, b) for (_, a), (_, b) in zip(layouts(wide), layouts(narrow), strict=False)]
        for all_, one in [(a, b) for a, b in outs if a.flags.writeable and b.flags.writeable and a.dtype.isnative]:
            for name, out in (("softmax", all_), ("log_softmax", all_)):
                assert same_bits(getattr(fx, name)(x, axis=-1, out=out), expected[name])
            assert same_bits(fx.logsumexp(x, axis=-1, out=one), expected["logsumexp"])
            assert same_bits(fx.cross_entropy(x, labels, axis=-1, reduction="none", out=one), expected["none"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_anything_at_once(data):
    shape = (*data.draw(st.lists(st.integers(1, 7), max_size=2), "batch"), data.draw(st.integers(1, 150), "C"))
    storage = data.draw(st.sampled_from(STORAGES), "storage")
    special = [0.0, -0.0, 1.0, -3.3, 1e-30, 88.0, -1e4, np.inf, -np.inf, np.nan, 7e4]
    elements = st.sampled_from(special) | st.floats(-9, 9)
    pool = data.draw(st.lists(elements, min_size=1, max_size=30), "pool")
    with np.errstate(over="ignore"):
        values = np.random.default_rng(0).choice(np.array(pool), shape).astype(storage)
    labels = labels_of(values)
    name, x = data.draw(st.sampled_from(list(layouts(values))), "layout")
    _, y = data.draw(st.sampled_from(list(layouts(labels))), "labels") if labels.ndim else ("", labels)
    level = data.draw(st.sampled_from(LEVELS), "level")
    plain = values if classes_lie_together(x) else gapped(values, (*(1,) * (values.ndim - 1), 2))
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_level(monkeypatch, fused_levels()[0] if level in fused_levels() else level)
        expected = results(plain, labels)
        use_level(monkeypatch, level)
        sizes = (data.draw(st.integers(shape[-1], 2000)), data.draw(st.integers(1, 20)), data.draw(st.integers(1, 500)))
        tiny_blocks(monkeypatch, *sizes)
        with fx.num_threads(data.draw(st.integers(1, 4), "threads")):
            assert_same(results(x, y), expected, name)


# ---- sums over rows ----


def rounded(x: Fraction) -> float:
    return x.numerator / x.denominator


@pytest.mark.parametrize("storage", [np.float32, np.float64])
def test_sums_are_those_of_the_rows(level, monkeypatch, storage):
    tiny_blocks(monkeypatch, 1 << 23, 7000)
    for n, c in ((1, 3), (1000, 17), (20_000, 2)):
        rng = np.random.default_rng(n)
        x = (8 * rng.standard_normal((n, c))).astype(storage)
        x[:: 1 + n // 10, 0] = 60  # confident rows, whose losses are tiny
        labels = rng.integers(-1, c, n)
        labels[0], labels[-1] = -1, c - 1
        weights = weights_of(c) + 0.1
        total = exact_sum(fx.cross_entropy(x, labels, ignore_index=-1, reduction="none"))
        used = int((labels >= 0).sum())
        assert fx.cross_entropy(x, labels, ignore_index=-1, reduction="sum") == rounded(total)
        assert fx.cross_entropy(x, labels, ignore_index=-1) == rounded(total / used)
        total = exact_sum(fx.cross_entropy(x, labels, weights, ignore_index=-1, reduction="none"))
        weight = sum(Fraction(weights[k]) * int((labels == k).sum()) for k in range(c))
        assert fx.cross_entropy(x, labels, weights, ignore_index=-1, reduction="sum") == rounded(total)
        assert fx.cross_entropy(x, labels, weights, ignore_index=-1) == rounded(total / weight)
