"""fastxent.dask: the bits of one machine, whatever the chunks, on threads and on a cluster of processes."""

import inspect
import threading

import ml_dtypes
import numpy as np
import pytest
from dask_arrays import chunks_of, equal, some
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import same_bits

import fastxent as fx
from fastxent import _threads

dask = pytest.importorskip("dask", reason="an extra of the package")
da = pytest.importorskip("dask.array", reason="an extra of the package")
import fastxent.dask as fd  # noqa: E402
from fastxent.dask import chunks as _chunks  # noqa: E402
from fastxent.dask import tree as _tree  # noqa: E402

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.dtype(">f4")]


@pytest.fixture(autouse=True, scope="module")
def threads():
    """The threaded scheduler with two threads; a test may set another one."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


# shape, class axis
SHAPES = [((60, 7), 1), ((60, 7), 0), ((5, 4, 6, 3), 1), ((3, 5, 4, 6), 3), ((1, 40, 1, 1), 1), ((9,), 0), ((0, 3), 1)]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.integers(0, 9))
def test_any_chunks_give_the_same_bits(data, case, dtype, seed):
    shape, axis = case
    x, y = some(shape, axis, dtype, seed)
    d = da.from_array(x, chunks=data.draw(chunks_of(shape)))
    labels = da.from_array(y, chunks=data.draw(chunks_of(y.shape))) if data.draw(st.booleans()) else y
    split = data.draw(st.sampled_from([None, 2, 5]))
    assert equal(fd.evaluate(d, labels, axis=axis, split_every=split), fx.evaluate(x, y, axis=axis))
    weight = data.draw(st.sampled_from([None, np.resize([0.0, 0.3, 1.7], shape[axis])]))
    for reduction in ("none", "sum", "mean"):
        options = {"axis": axis, "reduction": reduction, "weight": weight}
        got, want = fd.cross_entropy(d, labels, **options), fx.cross_entropy(x, y, **options)
        assert isinstance(got, da.Array)
        assert got.dtype == want.dtype
        assert same_bits(got.compute(), want)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.booleans(), st.integers(0, 9))
def test_any_chunks_of_weighted_and_soft_targets(data, case, dtype, soft, seed):
    """Sample weights, probabilities for targets and gradients, whatever the reduction."""
    shape, axis = case
    x, y = some(shape, axis, dtype, seed)
    rng = np.random.default_rng(seed)
    if soft:
        y = rng.dirichlet(np.ones(shape[axis]), y.shape).astype(data.draw(st.sampled_from([np.float32, np.float64])))
        y = np.moveaxis(y, -1, axis)
    batch = np.moveaxis(x, axis, -1).shape[:-1]
    sample = data.draw(st.sampled_from([None, "all", "last"]))
    if sample:
        sample = rng.choice([0.0, 0.5, 1.7], batch if sample == "all" else batch[-1:]).astype(np.float32)
    weight = data.draw(st.sampled_from([None, np.resize([0.0, 0.3, 1.7], shape[axis])]))
    gradient = data.draw(st.booleans())
    options = {"axis": axis, "weight": weight, "return_grad": gradient}
    options["label_smoothing"] = data.draw(st.sampled_from([0.0, 0.1]))
    options["temperature"] = data.draw(st.sampled_from([1.0, 0.7]))
    d = da.from_array(x, chunks=data.draw(chunks_of(shape)))
    target = da.from_array(y, chunks=data.draw(chunks_of(y.shape)))
    weights = sample
    if sample is not None and data.draw(st.booleans()):
        weights = da.from_array(sample, chunks=data.draw(chunks_of(sample.shape)))
    for reduction in ("none", "sum", "mean"):
        options["reduction"] = reduction
        want = fx.cross_entropy(x, y, sample_weight=sample, **options)
        got = fd.cross_entropy(d, target, sample_weight=weights, **options)
        pairs = zip(dask.compute(*got), want, got, strict=True) if gradient else [(got.compute(), want, got)]
        for computed, wanted, lazy in pairs:
            assert isinstance(lazy, da.Array)
            assert (lazy.shape, lazy.dtype) == (wanted.shape, wanted.dtype)
            assert same_bits(computed, wanted)


def test_probabilities_for_rows():
    q = np.random.default_rng(0).dirichlet(np.ones(5), 30)
    y = np.arange(30) % 5
    d = da.from_array(q, chunks=(7, 3))
    for target in (y, q[::-1]):
        want = fx.cross_entropy(q, target, from_logits=False)
        assert fd.cross_entropy(d, target, from_logits=False).compute() == want
    with pytest.raises(ValueError, match="there are none"):
        fd.cross_entropy(d, y, from_logits=False, return_grad=True)
    with pytest.warns(fx.NormalizedInputWarning):
        fd.cross_entropy(d, y).compute(scheduler="synchronous")


def test_the_gradient_comes_of_the_same_read():
    read = []

    def spy(block):
        read.append(len(block))
        return block

    x, y = some((20, 5))
    d = da.from_array(x, chunks=(5, 5)).map_blocks(spy, meta=np.empty((0, 0), x.dtype))
    loss, gradient = fd.cross_entropy(d, y, reduction="mean", return_grad=True)
    assert not read
    dask.compute(loss, gradient)
    assert sum(read) == 20


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from([((60, 7), 1), ((7, 60), 0), ((5, 12, 3), 2), ((2, 3, 6, 4), 3)]), st.booleans())
def test_any_chunks_of_sequences(data, case, masked):
    """Labels of the next token, from the chunk beside where they must; lengths of sequences."""
    shape, axis = case
    x, y = some(shape, axis)
    rng = np.random.default_rng(1)
    d = da.from_array(x, chunks=data.draw(chunks_of(shape)))
    labels = da.from_array(y, chunks=data.draw(chunks_of(y.shape))) if data.draw(st.booleans()) else y
    options = {"axis": axis, "shift": data.draw(st.sampled_from([0, 1, 3, 100]))}
    options["mask"] = rng.random(y.shape) < 0.8 if masked else None
    lengths = None
    if data.draw(st.booleans()):
        lengths = np.array([10, 0, 20, 30]) if y.ndim == 1 else rng.integers(0, y.shape[-1] + 1, y.shape[:-1])
    lazily = da.from_array(lengths) if lengths is not None and data.draw(st.booleans()) else lengths
    got = fx.evaluate(d, labels, lengths=lazily, **options)
    assert equal(got, fx.evaluate(x, y, lengths=lengths, **options))
    got = fx.compare(d, -d, labels, lengths=lazily, **options)
    assert equal(got, fx.compare(x, -x, y, lengths=lengths, **options))


OPTIONS = {
    "axis": 0, "topk": (2,), "bins": 4, "ignore_index": 3, "temperature": 0.7, "temperatures": (0.5, 2.0),
    "inputs": "log_probs", "base_inputs": "log_probs", "classes": 4, "binary": True, "logits_dtype": "bfloat16",
    "shift": 1, "lengths": [10, 20, 10], "mask": np.arange(40) % 3 > 0, "sample_weight": np.arange(40) / 7.0,
    "groups": [f"document {i // 7}" for i in range(40)], "byte_counts": np.arange(40),
    "word_counts": np.arange(40) // 2, "worst": 2, "strict": True, "kl_cutoff": -16.0,
}  # fmt: skip
REFUSED = {"progress": True, "per_row": "rows.npy", "checkpoint": "state"}


@pytest.mark.parametrize("function", [fx.evaluate, fx.compare])
def test_every_option_is_handed_over_or_refused_by_name(function):
    names = set(inspect.signature(function).parameters) - {"logits", "labels", "base", "other"}
    assert names <= set(OPTIONS) | set(REFUSED)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 4, 40)
    for name in sorted(names):
        array, labels, value = x, y, {**OPTIONS, **REFUSED}[name]
        if name == "axis":
            array = x.T
        elif name == "logits_dtype":
            array = x.astype(ml_dtypes.bfloat16).view(np.uint16)
        elif name == "binary":
            array, labels = x[:, 0], y % 2
        inputs = (array,) if function is fx.evaluate else (array, array[::-1].copy())
        lazy = [da.from_array(some, chunks=(7, *some.shape[1:])) for some in inputs]
        if name in REFUSED:
            with pytest.raises(ValueError, match=f"Dask arrays are scored without {name}: .*Dask|chunks"):
                function(*lazy, labels, **{name: value})
            continue
        got, want = function(*lazy, labels, **{name: value}), function(*inputs, labels, **{name: value})
        assert equal(got, want), name
        if name in ("mask", "sample_weight", "groups"):  # beside arrays in memory, too
            column = np.asarray(value)
            assert equal(function(*inputs, labels, **{name: da.from_array(column, chunks=9)}), want)


@pytest.mark.parametrize("shape", [(40,), (40, 1), (8, 5)], ids=str)
def test_binary_scores(shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.integers(0, 2, shape[:1] if shape[1:] == (1,) else shape)
    d = da.from_array(x, chunks=7)
    assert equal(fx.evaluate(d, y, binary=True), fx.evaluate(x, y, binary=True))
    assert equal(fx.compare(d, -d, y, binary=True), fx.compare(x, -x, y, binary=True))
    assert fx.compare(d, -d, binary=True).kl_mean == fx.compare(x, -x, binary=True).kl_mean


def test_strict_and_strings():
    x, y = some((40, 6))
    x[3] = np.nan
    d = da.from_array(x, chunks=(9, 6))
    later = fd.evaluate(d, y, strict=True, compute=False)
    with pytest.raises(ValueError, match=r"non-finite rows?, the first in row"):
        later.compute()
    with pytest.raises(ValueError, match=r"non-finite rows?, the first in row"):
        fx.compare(d, d, strict=True)
    names = np.array([f"d{i % 3}" for i in range(40)], object)
    got = fx.evaluate(d, y, groups=da.from_array(names, chunks=9)).groups
    assert got == fx.evaluate(x, y, groups=names).groups


def test_temperature_of_dask_arrays():
    rng = np.random.default_rng(0)
    x, y = 3 * rng.normal(size=(200, 4)), rng.integers(0, 4, 200)
    y[:120] = x[:120].argmax(1)
    got = fx.fit_temperature(da.from_array(x, chunks=(30, 4)), y)
    assert got.temperature == fx.fit_temperature(x, y).temperature


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda d: fx.cross_entropy(d, np.zeros(6, int)), "logits is a Dask Array; fastxent.dask has .*cross_entropy"),
        (lambda d: fx.cross_entropy(np.zeros((6, 4)), d), "target is a Dask Array"),
        (lambda d: fx.logsumexp(d), "a is a Dask Array; .*logsumexp"),
        (lambda d: fx.softmax(d), "x is a Dask Array; .*softmax"),
        (lambda d: fx.entropy_with_logits(d), r"is a Dask Array; .*compute\(\)"),
        (lambda d: fx.Evaluator().update(d, np.zeros(6, int)), "logits is a Dask Array"),
    ],
)
def test_no_other_function_loads_a_dask_array_whole(function, words):
    d = da.zeros((6, 4), chunks=(2, 2)).map_blocks(lambda block: 1 / 0, meta=np.empty((0, 0)))
    with pytest.raises(TypeError, match=words):
        function(d)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(SHAPES), st.sampled_from(DTYPES))
def test_any_chunks_of_distributions(data, case, dtype):
    shape, _ = case
    x, _ = some(shape, -1, dtype)
    d = da.from_array(x, chunks=data.draw(chunks_of(shape)))
    axes = data.draw(st.one_of(st.none(), st.lists(st.integers(0, len(shape) - 1), unique=True).map(tuple)))
    keep = data.draw(st.booleans())
    got, want = fd.logsumexp(d, axes, keepdims=keep), fx.logsumexp(x, axes, keepdims=keep)
    assert got.shape == want.shape
    assert same_bits(got.compute(), want)
    if 0 not in shape:
        for name in ("softmax", "log_softmax"):
            got, want = getattr(fd, name)(d, axes), getattr(fx, name)(x, axes)
            assert got.shape == want.shape
            assert same_bits(got.compute(), want)


def test_how_a_chunk_lies_changes_no_bit():
    """The kernel of a strided class axis has last bits of its own: chunks that lie otherwise must not choose."""
    x, y = some((200, 301))
    for lies in (np.asfortranarray(x), x[::-1, ::-1].copy()[::-1, ::-1]):
        for d in (da.from_array(lies, chunks=(50, 301)), da.from_array(lies, chunks=(1, 301))):
            assert same_bits(fd.logsumexp(d, 1).compute(), fx.logsumexp(x, 1))
            got = fd.cross_entropy(d, y, reduction="none").compute()
            assert same_bits(got, fx.cross_entropy(x, y, reduction="none"))
    x, y = some((4, 301, 5, 2), 1)
    for chunks in ((4, 301, 5, 2), (1, 301, 1, 1), (2, 301, 5, 1)):
        d = da.from_array(x, chunks=chunks).map_blocks(np.ascontiguousarray)
        assert same_bits(fd.cross_entropy(d, y, reduction="none").compute(), fx.cross_entropy(x, y, reduction="none"))
        assert same_bits(fd.softmax(d, 1).compute(), fx.softmax(x, 1))


def test_evaluate_hands_dask_arrays_over():
    x, y = some((50, 6))
    want = fx.evaluate(x, y, topk=(2,), bins=4, ignore_index=3)
    for logits, labels in ((da.from_array(x, chunks=9), da.from_array(y, chunks=4)), (x, da.from_array(y, chunks=4))):
        assert equal(fx.evaluate(logits, labels, topk=(2,), bins=4, ignore_index=3), want)
    with pytest.raises(ValueError, match="shown by Dask"):
        fx.evaluate(da.from_array(x), y, progress=True)


def test_raw_bfloat16():
    x, y = some((50, 6), dtype=ml_dtypes.bfloat16)
    d = da.from_array(x.view(np.uint16), chunks=(7, 4))
    result = fd.evaluate(d, y, logits_dtype="bfloat16")
    assert result.cross_entropy == fx.evaluate(x, y).cross_entropy
    compared = fd.compare(d, d.astype(np.float32), logits_dtype="bfloat16")
    dtypes = [r.provenance[what]["dtype"] for r, what in ((result, "logits"), (compared, "base"), (compared, "other"))]
    assert dtypes == ["bfloat16", "bfloat16", "float32"]
    got = fd.cross_entropy(d, y, logits_dtype="bfloat16", reduction="none")
    assert same_bits(got.compute(), fx.cross_entropy(x, y, reduction="none"))


def test_nothing_is_computed_before_it_is_asked_for():
    def explode(block):
        raise AssertionError("computed")

    d = da.zeros((8, 3), chunks=(2, 3)).map_blocks(explode, meta=np.empty((0, 0)))
    later = fd.evaluate(d, np.zeros(8, int), compute=False)
    lazy = [fd.cross_entropy(d, np.zeros(8, int), reduction=r) for r in ("none", "sum", "mean")]
    lazy += [fd.logsumexp(d, 1), fd.softmax(d, 1), fd.log_softmax(d, 1)]
    for one in (later, *lazy):
        with pytest.raises(AssertionError, match="computed"):
            one.compute()
    x, y = some((8, 3))
    assert equal(fd.evaluate(da.from_array(x, chunks=3), y, compute=False).compute(), fx.evaluate(x, y))


# ---- the tree ----


class Grouped:
    """An accumulator of two arrays with something for each row: what the tree must hand to whom."""

    def __init__(self):
        self.rows = []

    def update(self, base, other, labels, *, start=None, groups):
        assert base.shape == other.shape
        columns = base[..., 0].ravel(), other[..., 0].ravel(), labels.ravel(), groups.ravel()
        for i, row in enumerate(zip(*columns, strict=True)):
            self.rows.append((start + i, *map(int, row)))

    def merge(self, other):
        self.rows += other.rows


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_arrays_rows_and_numbers_go_together(data):
    shape = (4, 3, 5, 2)
    base = np.arange(120).reshape(shape)
    labels = np.arange(60).reshape(shape[:-1])
    d = da.from_array(base, chunks=(*data.draw(chunks_of(shape[:-1])), 2))
    rows = {"labels": _chunks.cut_alike(labels, "labels", d), "groups": _chunks.cut_alike(labels + 7, "groups", d)}
    rows["mask"] = None
    got = _tree.tree_reduce(Grouped, [d, -d], rows, lambda grouped: sorted(grouped.rows))
    assert _tree.item(got).compute() == [(i, 2 * i, -2 * i, i, i + 7) for i in range(60)]


def test_merging_leaves_a_tasks_result_alone():
    """Dask may hand it to another task, too."""
    x, y = some((40, 5))
    cells = np.empty((2, 1), object)
    for i in (0, 1):
        cells[i, 0] = fx.Evaluator()
        cells[i, 0].update(x[20 * i : 20 * i + 20], y[20 * i : 20 * i + 20], start=20 * i)
    before = [one.state() for one in cells.flat]
    merged = _tree._merged(fx.Evaluator, cells, axis=(0, 1), keepdims=True)
    finished = _tree._finished(fx.Evaluator, fx.Evaluator.result, cells[:1], axis=(0, 1), keepdims=False)
    assert merged[0, 0].result().rows == 40
    assert finished.item().rows == 20
    assert [one.state() for one in cells.flat] == before


# ---- schedulers ----


def test_a_task_uses_one_thread(monkeypatch):
    seen = []
    update = fx.Evaluator.update

    def spy(self, logits, labels, *, start=None):
        seen.append((threading.get_ident(), fx.get_num_threads()))
        update(self, logits, labels, start=start)

    monkeypatch.setattr(fx.Evaluator, "update", spy)
    with fx.num_threads(3):
        fd.evaluate(da.zeros((40, 2), chunks=(2, 2)), np.zeros(40, int))
        assert fx.get_num_threads() == 3
    # the caller's thread has tried the options on nothing
    assert [n for who, n in seen if who == threading.get_ident()] == [3]
    assert [n for who, n in seen if who != threading.get_ident()] == [1] * 20
    with _threads.one_thread():
        with _threads.one_thread():
            pass
        assert fx.get_num_threads() == 1


def test_synchronous_scheduler():
    x, y = some((60, 5))
    with dask.config.set(scheduler="synchronous"):
        assert equal(fd.evaluate(da.from_array(x, chunks=(7, 2)), y), fx.evaluate(x, y))


@pytest.fixture(scope="module")
def client():
    """Two worker processes on this machine."""
    distributed = pytest.importorskip("distributed", reason="an extra of the package")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_cluster_of_processes(client):
    x, y = some((300, 4, 11))
    d = da.from_array(x, chunks=(99, 4, 11))
    with dask.config.set(scheduler=client):
        assert equal(fx.evaluate(d, y), fx.evaluate(x, y))
        got = fd.evaluate(da.from_array(x, chunks=(150, 3, 11)), da.from_array(y, chunks=150), compute=False)
        assert equal(client.compute(got).result(), fx.evaluate(x, y))
        for reduction in ("none", "sum", "mean"):
            lazy = fd.cross_entropy(d, y, axis=-1, reduction=reduction)
            assert same_bits(lazy.compute(), fx.cross_entropy(x, y, axis=-1, reduction=reduction))
            pair = fd.cross_entropy(d, y, axis=-1, reduction=reduction, sample_weight=y % 2, return_grad=True)
            want = fx.cross_entropy(x, y, axis=-1, reduction=reduction, sample_weight=y % 2, return_grad=True)
            assert all(map(same_bits, dask.compute(*pair), want))
        options = {"shift": 1, "lengths": np.arange(300) % 5, "groups": np.arange(1200).reshape(300, 4) // 7}
        assert equal(fx.evaluate(d, y, **options), fx.evaluate(x, y, **options))
        assert equal(fx.compare(d, -d, y, **options), fx.compare(x, -x, y, **options))
        assert same_bits(fd.logsumexp(d, 2).compute(), fx.logsumexp(x, 2))
        assert same_bits(fd.softmax(d, 2).compute(), fx.softmax(x, 2))
        y[201, 3] = 11
        with pytest.raises(IndexError, match=r"target\[201, 3\] is 11"):
            fd.cross_entropy(d, y, axis=-1).compute()
