"""evaluate and Evaluator: every field against the oracle and against NumPy; the same bits however the work is split.

States and what may be merged: test_report.py. Arrays, files and threads: test_sources.py.
"""

import copy
import dataclasses
import itertools
import json
import math
import os
import pickle
import sys
from collections import Counter
from functools import cache

import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import assert_close

import fastxent as fx
from fastxent import evaluator, reference
from fastxent.evaluator import Evaluator

INF, NAN = math.inf, math.nan
DTYPES = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
RELATIVE = {"f64": 1e-13, "f32": 1e-6, "f16": 1e-6, "bf16": 1e-6}


def hard(c):
    """Rows of every hard kind and their labels: ordinary ones, then one of infinite loss, then those left out."""
    plain = np.random.default_rng(c).normal(0, 3, c)
    mid, last = c // 2, c - 1

    def put(places, value):
        row = plain.copy()
        row[places] = value
        return row

    used = [(plain, mid), (plain - 1e4, last), (plain + 1e4, mid)]
    used += [(put(mid, 50.0), mid), (put(0, 50.0), last), (put(slice(1, None, 2), -INF), 0)]  # peaked, peaked, masked
    used += [(np.zeros(c), mid), (np.round(plain), mid), (put([0, last], 9.0), 0), (put([0, last], 9.0), last)]  # ties
    infinite = [(put(0, -INF), 0)] if c > 1 else []
    out = [(put(mid, NAN), 0), (put(last, INF), 0), (np.full(c, -INF), mid)]
    out += [(put(0, NAN), -100), (plain, -100), (put(0, NAN), c), (plain, -1)]
    return used, infinite, out


def pack(cases, dtype):
    return np.array([row for row, _ in cases]).astype(dtype), np.array([label for _, label in cases])


def numbers(result):
    """All of it but where it came from; NaN as text, so that == compares it."""
    return {k: v for k, v in result.to_dict().items() if k != "provenance"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [1, 2, 10, 300, 5000, 70000])
def test_against_reference(c, dtype):
    used, infinite, out = hard(c)
    parts = [used + out, used + infinite + out]
    if c <= 300:  # every row alone: a mean could hide one in a thousand
        parts += [[case] for case in used + infinite + out]
    elif c == 5000:  # the reference takes its time
        parts = parts[:1]
    else:  # half of the kinds to each precision
        i = list(DTYPES).index(dtype) % 2
        parts = [used[2 + 3 * i : 5 + 3 * i] + out[i : i + 1]]
    for cases in parts:
        x, y = pack(cases, DTYPES[dtype])
        # rows that are the same but for their offset differ by rounding, and so may their order
        options = {"topk": (1, 2, 5), "worst": int(len(cases) == 1)}
        got = dataclasses.asdict(fx.evaluate(x, y, **options))
        want = reference.evaluate(x.astype(float), y, **options)
        assert_close(got, want, RELATIVE[dtype])
        assert got.keys() - want.keys() == {"provenance", "calibration"}


def sequences():
    """Rows (4, 12) of sequences, with all that may stand beside them; float64."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 3, (4, 12, 5)), rng.integers(0, 5, (4, 12))
    y[0, 2], y[1, 3], x[2, 4], x[3, 1, 0], x[0, 5] = -100, 5, NAN, -INF, np.round(x[0, 5])
    beside = {
        "mask": rng.random((4, 12)) < 0.9,
        "sample_weight": rng.integers(0, 3, (4, 12)) * rng.random((4, 12)),
        "groups": rng.integers(-3, 3, (4, 12)),
        "byte_counts": rng.integers(0, 9, (4, 12)),
        "word_counts": rng.integers(0, 3, (4, 12)),
    }
    return x, y, beside


OPTIONS = [
    {},
    {"shift": 1},
    {"shift": 2, "lengths": np.array([12, 7, 0, 3])},
    {"temperature": 1.7, "temperatures": [0.5, 3.0]},
    {"classes": 4, "worst": 3, "topk": (2,), "bins": 4},
]


@pytest.mark.parametrize("names", [(), ("mask", "sample_weight"), ("groups", "byte_counts", "word_counts"), None])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_field_of_every_option_is_the_references(options, names):
    x, y, beside = sequences()
    some = {name: values for name, values in beside.items() if names is None or name in names}
    got = dataclasses.asdict(fx.evaluate(x, y, **some, **options))
    want = reference.evaluate(x, y, **some, **options)
    assert_close(got, want, 1e-12)
    assert (got["groups"] is not None) == ("groups" in some)


def test_inputs_of_every_kind_are_the_references():
    x, y, _ = sequences()
    x, y = x[[0, 1]], np.abs(y[[0, 1]]) % 5
    p = np.exp(x - x.max(-1, keepdims=True))
    for scores, labels, options in (
        (p * 3, y, {"inputs": "probs"}),
        (np.log(p), y, {"inputs": "log_probs"}),
        (x[..., 0], y % 2, {"binary": True, "groups": np.array([[f"g{i % 3}" for i in range(12)]] * 2)}),
        (x[..., :1], y % 2, {"binary": True, "temperature": 2.0}),
        (p[..., 0], y % 2, {"binary": True, "inputs": "probs"}),
    ):
        got = dataclasses.asdict(fx.evaluate(scores, labels, **options))
        assert_close(got, reference.evaluate(scores, labels, **options), 1e-12)
    with pytest.raises(ValueError, match="probabilities"):
        reference.evaluate(x, y, inputs="probs")
    lengths = np.array([5, 0, 7])
    got = dataclasses.asdict(fx.evaluate(x[0], y[0], shift=1, lengths=lengths))
    assert_close(got, reference.evaluate(x[0], y[0], shift=1, lengths=lengths), 1e-12)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_are_the_references(n):
    x, y = np.random.default_rng(n).normal(size=(n, 3)), np.arange(n)
    for some in ({}, {"sample_weight": np.zeros(n)}, {"sample_weight": np.ones(n), "groups": np.arange(n)}):
        got = dataclasses.asdict(fx.evaluate(x, y, **some))
        assert_close(got, reference.evaluate(x, y, **some), 1e-12)


def script(x, y, bins):
    """A plain evaluation in NumPy, float64; all rows are used."""
    x, n = x.astype(float), len(x)
    own, lse, onehot = x[np.arange(n), y], np.log(np.exp(x).sum(1)), np.eye(x.shape[1])[y]
    p, loss = np.exp(x - lse[:, None]), lse - own
    rank = np.array([(row > a).sum() + (row[:k] == a).sum() for row, a, k in zip(x, own, y, strict=True)])
    hit, place = rank == 0, np.minimum((p.max(1) * bins).astype(int), bins - 1)
    groups = [(hit[place == b], p.max(1)[place == b]) for b in range(bins)]
    return {
        "cross_entropy": loss.mean(),
        "cross_entropy_stderr": loss.std(ddof=1) / n**0.5,
        "bits": loss.mean() / np.log(2),
        "perplexity": np.exp(loss.mean()),
        "perplexity_stderr": np.exp(loss.mean()) * loss.std(ddof=1) / n**0.5,
        "z_loss": (lse**2).mean(),
        "accuracy_bound": np.exp(-loss.mean()),
        "expected_accuracy": p[np.arange(n), y].mean(),
        "accuracy": (x.argmax(1) == y).mean(),
        "accuracy_stderr": hit.std(ddof=1) / n**0.5,
        "topk": {k: (rank < k).mean() for k in (1, 3)},
        "mean_rank": rank.mean(),
        "mean_reciprocal_rank": (1 / (1 + rank)).mean(),
        "entropy": -(p * np.log(p)).sum(1).mean(),
        "brier": ((p - onehot) ** 2).sum(1).mean(),
        "ece": sum(abs(h.sum() - q.sum()) for h, q in groups) / n,
        "mce": max(abs(h.mean() - q.mean()) for h, q in groups if len(h)),
        "reliability": [{"count": len(h), "accuracy": h.mean() if len(h) else NAN} for h, _ in groups],
    }


@pytest.mark.parametrize("c", [2, 10, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_numpy(c, dtype, level):
    rng = np.random.default_rng(c)
    x = rng.normal(0, 2, (500, c)).astype(DTYPES[dtype])
    y = np.where(rng.random(500) < 0.5, x.astype(float).argmax(1), rng.integers(0, c, 500))
    got = dataclasses.asdict(fx.evaluate(x, y, topk=(1, 3), bins=7))
    assert_close(got, script(x, y, 7), max(RELATIVE[dtype], 1e-12))


@cache
def peaked_rows(dtype):
    """Gaps of the largest to the others, rows, and their entropies."""
    rng, found = np.random.default_rng(3), []
    for gap in (0.0, 1.0, 5.0, 20.0, 40.0, 80.0, *([300.0, 690.0] if dtype == "f64" else [])):
        row = rng.normal(0, 1, 300).astype(DTYPES[dtype])
        row[3], row[7] = -500, row.max() + gap
        row += 1e4 if gap == 5.0 else 0
        with mpmath.workdps(400):
            terms = [mpmath.exp(mpmath.mpf(float(v)) - float(row[7])) for v in row]
            total = mpmath.fsum(terms)
            found.append((gap, row, float(-mpmath.fsum(t / total * mpmath.log(t / total) for t in terms))))
    return found


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_entropy(dtype, level):
    for gap, row, truth in peaked_rows(dtype):
        for label in (7, 0, 3):
            assert fx.evaluate(row[None], [label]).entropy == pytest.approx(truth, rel=RELATIVE[dtype], abs=0), gap


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_is_that_of_cross_entropy(dtype):
    for c in (1, 2, 10, 300):
        used, infinite, out = hard(c)
        x, y = pack(used * 7 + out[3:5], DTYPES[dtype])  # but for what raises or is NaN there
        assert fx.evaluate(x, y).cross_entropy == fx.cross_entropy(x, y, reduction="mean")
        x, y = pack(used[:1] + infinite, DTYPES[dtype])
        assert fx.evaluate(x, y).cross_entropy == fx.cross_entropy(x, y) == (INF if infinite else 0.0)


@pytest.mark.filterwarnings("ignore:the rows of logits look like probabilities")
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=16), min_size=1, max_size=4),
    st.integers(0, 3),
    st.lists(st.floats(0, 2**-10, width=32), min_size=1, max_size=4),
    st.sampled_from(list(DTYPES)),
)
def test_bound_is_below_expected_accuracy(row, label, shifts, dtype):
    x = np.array([[row[0] + shift, *row[1:]] for shift in shifts]).astype(DTYPES[dtype])
    result = fx.evaluate(x, np.full(len(x), label % len(row)))
    assert result.accuracy_bound <= result.expected_accuracy


@pytest.mark.parametrize("dtype", DTYPES)
def test_confidence_is_the_rows_own(dtype):
    for label in (0, 1):
        assert fx.evaluate(np.zeros((1, 2), DTYPES[dtype]), [label], bins=2).reliability[1].count == 1
    row = np.array([[4, 1, -2]], DTYPES[dtype])
    one, other = (fx.evaluate(row, [label], bins=1).reliability[0].confidence for label in (0, 1))
    assert one == pytest.approx(other, rel=4e-16 if dtype == "f64" else 2e-7)  # of other sums


def test_error_of_nearly_equal_losses():
    x, y = [[0, 1000 + k * 2.0**-30] for k in range(50)], [0] * 50
    want = reference.evaluate(x, y)["cross_entropy_stderr"]
    assert fx.evaluate(x, y).cross_entropy_stderr == pytest.approx(want, rel=1e-12, abs=0)


def test_no_rows():
    want = Evaluator().result()
    of_none = reference.evaluate(np.zeros((0, 5)), np.zeros(0, int)) | {"classes": None}
    assert_close(dataclasses.asdict(want), of_none, 0.0)
    for dtype in DTYPES.values():
        got = fx.evaluate(np.zeros((0, 5), dtype), [])
        assert got.classes.count.tolist() == [0] * 5  # which an evaluator that saw no array cannot know
        assert numbers(dataclasses.replace(got, classes=None)) == numbers(want)


def _data():
    """Hard rows of every kind among ordinary ones: 400 rows of 30 classes, float32."""
    rng = np.random.default_rng(0)
    x, y = pack([*itertools.chain(*hard(30))] * 6, np.float32)
    x = np.concatenate([x, rng.normal(0, 4, (400 - len(x), 30)).astype(np.float32)])
    order = rng.permutation(400)
    return x[order], np.concatenate([y, rng.integers(-1, 31, 400 - len(y))])[order]


X, Y = _data()


def block(start, stop, into=None):
    one = into or Evaluator()
    one.update(X[start:stop], Y[start:stop], start=start)
    return one


TRIPS = [
    lambda e: e,
    copy.deepcopy,
    lambda e: pickle.loads(pickle.dumps(e)),
    lambda e: Evaluator.from_state(json.loads(json.dumps(e.state(), allow_nan=False))),
]


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, len(X)), max_size=8), st.randoms(use_true_random=False))
def test_any_chunking_and_merge_tree(cuts, random):
    bounds = [0, *sorted(cuts), len(X)]
    blocks = list(itertools.pairwise(bounds))
    random.shuffle(blocks)
    parts = [Evaluator() for _ in range(random.randint(1, 4))]
    for start, stop in blocks:
        i = random.randrange(len(parts))
        parts[i] = block(start, stop, random.choice(TRIPS)(parts[i]))
    while len(parts) > 1:
        left, right = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        left.merge(random.choice(TRIPS)(right))
        parts.append(random.choice(TRIPS)(left))
    assert parts[0].state() == block(0, len(X)).state()
    assert numbers(parts[0].result()) == numbers(fx.evaluate(X, Y))


def test_first_places():
    used = np.flatnonzero(Y != -100)
    invalid = used[(Y[used] < 0) | (Y[used] >= 30)]
    nonfinite = np.setdiff1d(used[np.isnan(X[used]).any(1) | np.isinf(X[used].max(1))], invalid)
    backwards, forwards = Evaluator(), Evaluator()
    for start in range(0, 400, 20):
        block(380 - start, 400 - start, backwards)
        forwards.update(X[start : start + 20], Y[start : start + 20])  # from where the last block ended
    for result in (backwards.result(), forwards.result(), fx.evaluate(X, Y)):
        assert (result.first_invalid, result.first_nonfinite) == (invalid[0], nonfinite[0])
        assert (result.invalid, result.nonfinite) == (len(invalid), len(nonfinite))


def test_interrupted_update_changes_nothing(monkeypatch):
    def halfway(*args, **options):
        yield next(run(*args, **options))
        raise KeyboardInterrupt

    run, one, before = evaluator.run, block(0, 400), block(0, 400).state()
    monkeypatch.setattr("fastxent._passes.rows.BLOCK_ROWS", 150)
    monkeypatch.setattr(evaluator, "run", halfway)
    with pytest.raises(KeyboardInterrupt):
        one.update(X, Y)
    assert one.state() == before


def lines_of(call):
    """The lines of the package that run in a call, in order."""
    folder, found, before = os.path.dirname(evaluator.__file__), [], sys.gettrace()

    def trace(frame, event, _):
        if event == "line":
            found.append((frame.f_code.co_filename, frame.f_lineno))
        return trace if frame.f_code.co_filename.startswith(folder) else None

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return found


def interrupted(call, line):
    """Whether a KeyboardInterrupt at the line-th line that runs in the package came before the end of the call."""
    folder, count, before = os.path.dirname(evaluator.__file__), 0, sys.gettrace()

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        if event == "line" and count == line:
            raise KeyboardInterrupt
        return trace if frame.f_code.co_filename.startswith(folder) else None

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("what", ["update", "merge", "state"])
def test_interrupt_at_any_line(what):
    """The first three times that each line of the source comes, so that loops are left in their middle, too."""

    def start():
        one = block(0, 40, Evaluator(bins=1))
        if what != "merge":
            return one, {"update": lambda: block(40, 80, one), "state": one.state}[what]
        other = block(40, 80, Evaluator(bins=1))
        return one, lambda: one.merge(other)

    before, (one, call) = start()[0].state(), start()
    ran, times, caught = lines_of(call), Counter(), []
    after = one.state()
    for place, line in enumerate(ran, 1):
        times[line] += 1
        if times[line] <= 3:
            one, call = start()
            caught.append(interrupted(call, place))
            assert one.state() in (before, after), f"neither the state before nor the one after, at {line}"
    assert caught.count(True) > 100
