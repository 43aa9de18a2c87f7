"""Rows too long for the buffer that converts them: the bits of a row in memory, whatever is asked of it."""

import json
import tracemalloc

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx


def long_rows(dtype) -> dict[str, np.ndarray]:
    """Rows of two segments: ordinary, and all that is read more than once."""
    most = 120 if np.dtype(dtype).kind == "i" else 20000  # far off for float32, as int8 has it and float16
    plain = np.random.default_rng(9).normal(0, 3, 70_001).clip(-most, most)
    column = 68_000
    rows = {"plain": plain.round() if np.dtype(dtype).kind == "i" else plain}
    for name, top, others in (("one class", 60, -60), ("near 0", 0, -40), ("peaked", 30, 0), ("alone", most, -most)):
        rows[name] = np.full(plain.size, others, float)
        rows[name][column] = top
        rows[name + ", tied"] = rows[name].copy()
        rows[name + ", tied"][[7, 65_600]] = top
    if np.dtype(dtype).kind != "i":
        for name, value in (("masked", -np.inf), ("NaN", np.nan), ("inf", np.inf)):
            rows[name] = plain.copy()
            rows[name][[0, column]] = value
        rows["all masked"] = np.full(plain.size, -np.inf)
    return {name: row.astype(dtype) for name, row in rows.items()}


def results_of_long_row(x: np.ndarray, axis: int | tuple[int, ...], label: int) -> dict[str, np.ndarray]:
    found = {
        "lse": fx.logsumexp(x, axis),
        "softmax": fx.softmax(x, axis).ravel(),
        "log_softmax": fx.log_softmax(x, axis).ravel(),
    }
    if axis == 0:
        weights = np.arange(x.size) / 7
        found["loss"] = fx.cross_entropy(x, label, axis=0)
        found["weighted"] = fx.cross_entropy(x, label, weights, axis=0, reduction="sum")
        found["ignored"] = fx.cross_entropy(x, label, axis=0, ignore_index=label, reduction="sum")
        found["entropy"] = fx.entropy_with_logits(x, axis=0)
        found["mean entropy"] = fx.entropy_with_logits(x, axis=0, reduction="mean")
        if x.strides == (x.itemsize,):
            evaluator = fx.Evaluator()
            evaluator.update(x[np.newaxis], np.array([label]))
            found["report"] = np.frombuffer(json.dumps(evaluator.state()).encode(), np.uint8)
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "int8"])
@fx.num_threads(1)
def test_rows_too_long_for_a_buffer(dtype, monkeypatch):
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for name, row in long_rows(dtype).items():
        native = row.astype("float64" if dtype == "int8" else row.dtype.newbyteorder("="))
        for label in (68_000, 3) if "," not in name else (68_000,):
            want = results_of_long_row(native, 0, label)
            found = results_of_long_row(row, 0, label)
            assert [what for what in want if not same_bits(found[what], want[what])] == [], (name, label)
        if dtype != "int8" and name in ("plain", "near 0", "one class, tied", "masked"):
            strided, want = (np.repeat(some, 2)[::2] for some in (row, native))
            found, want = (results_of_long_row(some, 0, 68_000) for some in (strided, want))
            assert [what for what in want if not same_bits(found[what], want[what])] == [], (name, "strided")


def test_long_axes_that_do_not_join(monkeypatch):
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for name, row in long_rows("float32").items():
        x = np.stack([row[:69_000]] * 2, 1).reshape(23, 10, 300, 2)
        given = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        found = [results_of_long_row(given, (0, 2, 3), 0), results_of_long_row(given[:, :1], (0, 2, 3), 0)]
        want = results_of_long_row(row[:69_000], 0, 0)
        for which in ("lse", "softmax", "log_softmax"):
            assert same_bits(found[1][which].ravel(), want[which].ravel()), (name, which)
        assert same_bits(found[0]["lse"], np.repeat(want["lse"], 2)), name
        both = found[0]["softmax"].reshape(given.shape)
        assert same_bits(np.ascontiguousarray(both[:, 1]).ravel(), want["softmax"]), name


def test_the_statistics_of_several_rows_in_windows(monkeypatch):
    rows = np.stack([long_rows("float32")["plain"] * k for k in (1, 2, 3)])
    labels = np.array([5, -100, 70_000])
    found = []
    for storage in ("<f4", ">f4"):
        result = fx.evaluate(rows.astype(storage), labels).to_dict()
        del result["provenance"]
        found.append(result)
        monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    assert str(found[0]) == str(found[1])


def pair_results(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """Everything about two rows of logits, and as far as they may be ones of probabilities."""
    found = {
        "KL": fx.kl_divergence_with_logits(a, b),
        "KL, backwards": fx.kl_divergence_with_logits(b, a),
        "JS": fx.js_divergence_with_logits(a, b, temperature=1.5),
        "JS, mean": fx.js_divergence_with_logits(a[np.newaxis], b[np.newaxis], reduction="mean"),
    }
    p, q = abs(a), abs(b)
    if np.isfinite(p).all() and np.isfinite(q).all():
        found |= {"KL of shares": fx.kl_divergence(p, q), "JS of shares": fx.js_divergence(p, q)}
        found |= {"entropy": fx.entropy(p), "mean entropy": fx.entropy(q[np.newaxis], reduction="mean")}
    return {name: np.asarray(value) for name, value in found.items()}


def target_results(x: np.ndarray, target: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """Losses and gradients of one row, against a distribution and against a label that is smoothed."""
    x, target = x[np.newaxis], target[np.newaxis]
    weights, labels = np.arange(x.size) / 7, np.array([label])
    options = {
        "soft": (target, {}),
        "soft, weighted": (target, {"weight": weights, "label_smoothing": 0.2}),
        "smoothed": (labels, {"label_smoothing": 0.1}),
        "smoothed, weighted": (labels, {"weight": weights, "label_smoothing": 0.1, "sample_weight": [0.7]}),
        "label": (labels, {}),
        "ignored": (labels, {"ignore_index": label, "label_smoothing": 0.1, "reduction": "sum"}),
    }
    found = {}
    for name, (goal, more) in options.items():
        found[name], found["gradient, " + name] = fx.cross_entropy(x, goal, return_grad=True, **more)
    found["none"] = fx.cross_entropy(x, target, reduction="none")
    if (x >= 0).all() and np.isfinite(x).all():
        found["of shares"] = fx.cross_entropy(x, target, from_logits=False)
        found["of shares, label"] = fx.cross_entropy(x, labels, from_logits=False, label_smoothing=0.1)
    return {name: np.asarray(value) for name, value in found.items()}


PAIRS = (
    *(("plain", "one class"), ("one class, tied", "one class"), ("peaked", "peaked, tied"), ("near 0", "near 0")),
    *(("alone", "plain"), ("masked", "plain"), ("NaN", "plain"), ("plain", "inf")),
)


def native_of(row: np.ndarray) -> np.ndarray:
    return row.astype("float64" if row.dtype.kind == "i" else row.dtype.newbyteorder("="))


def differing(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> list[str]:
    return [name for name in want if not same_bits(found[name], want[name])]


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "int8"])
def test_pairs_too_long_for_a_buffer(dtype, monkeypatch):
    rows = long_rows(dtype)
    # integers are float64 once they are converted
    pairs = [pair for pair in PAIRS[: 2 if dtype == "int8" else None] if set(pair) <= set(rows)]
    want = {pair: pair_results(*(native_of(rows[name]) for name in pair)) for pair in pairs}
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for pair in pairs:
        a, b = (rows[name] for name in pair)
        assert differing(pair_results(a, b), want[pair]) == [], pair
        if pair == PAIRS[0]:
            # beside a row that lies in memory as it is to be read, and that has another stride
            assert differing(pair_results(np.repeat(native_of(a), 2)[::2], b), want[pair]) == [], pair


@pytest.mark.filterwarnings("ignore::fastxent.NormalizedInputWarning")
@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "int8"])
def test_targets_of_rows_too_long_for_a_buffer(dtype, monkeypatch):
    rows = long_rows(dtype)
    names = ("plain",) if dtype == "int8" else ("plain", "one class, tied", "masked", "NaN")
    rows = {name: rows[name] for name in names}
    rows["shares"] = abs(rows["plain"])
    soft = np.random.default_rng(3).random(70_001)
    want, strided = {}, {}
    for name, row in rows.items():
        want[name] = target_results(native_of(row), soft.astype("f4"), 68_000)
        if name == "masked":  # never integers: their buffer is contiguous whatever lies in memory
            strided[name] = target_results(np.repeat(native_of(row), 2)[::2], soft.astype("f4"), 3)
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for name, row in rows.items():
        assert differing(target_results(row, soft.astype("f4"), 68_000), want[name]) == [], name
        if name == "plain":
            assert differing(target_results(native_of(row), soft.astype(">f4"), 68_000), want[name]) == [], name
        if name in strided:
            assert differing(target_results(np.repeat(row, 2)[::2], soft.astype(">f4"), 3), strided[name]) == [], name


def test_rows_of_pairs_and_targets_are_not_copied_whole():
    x = np.zeros((1, 1 << 23), ">f4")
    q = np.ones((1, 1 << 23), ">f4")
    calls = {
        "KL": lambda: fx.kl_divergence_with_logits(x, q),
        "JS": lambda: fx.js_divergence_with_logits(x, q, temperature=2.0),
        "shares": lambda: fx.kl_divergence(q, q),
        "entropy": lambda: fx.entropy(q),
        "soft": lambda: fx.cross_entropy(x, q),
        "smoothed": lambda: fx.cross_entropy(x, [5], label_smoothing=0.1),
    }
    for name, call in calls.items():
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < x.nbytes * 0.75, name
