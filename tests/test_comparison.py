"""compare: every number against float64 NumPy; llama.cpp's formulas; the same bits in any order; what is refused."""

import dataclasses
import itertools
import json
import math
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from child import run_python
from comparison_oracle import C, N, check, data, llama, log_softmax, mean_and_error, numbers, row_values, top
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import fused_levels
from twins import assert_close

import fastxent as fx
from fastxent import comparator, reference
from fastxent._accumulators.quantiles import LIMIT
from fastxent._scoring import reading as _reading
from fastxent.comparator import Comparator

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_every_number(labelled, weighted):
    p, q, labels, columns = data()
    values, confidence = row_values(p, q, labels if labelled else None)
    w = columns["sample_weight"] if weighted else np.ones(N)
    got = fx.compare(p, q, labels if labelled else None, sample_weight=w if weighted else None)
    check(got, values, confidence, w, labelled)
    order = np.lexsort((np.arange(N), -values["kl_mean"]))[:10]
    assert [r.row for r in got.worst] == order.tolist()
    for r in got.worst:
        assert r.kl == pytest.approx(values["kl_mean"][r.row])
        assert (r.prediction_base, r.prediction) == (p[r.row].argmax(), q[r.row].argmax())
        assert r.label == (labels[r.row] if labelled else None)
    fields = got.to_dict()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    for name in ("ppl", "log_ppl_correlation", "delta_p_quantiles", "accuracy_base"):
        assert (fields[name] is not None) == labelled


@pytest.mark.parametrize("weighted", [True, False])
def test_groups(weighted):
    p, q, labels, columns = data()
    w = columns["sample_weight"] if weighted else np.ones(N)
    labels[:50] = -100
    got = fx.compare(p, q, labels, groups=columns["groups"], sample_weight=w if weighted else None)
    used = np.arange(N) >= 50
    values, _ = row_values(p, q, np.where(used, labels, 0))
    assert [g.name for g in got.groups] == sorted(set(columns["groups"]))
    sums = {}
    for group in got.groups:
        of = columns["groups"] == group.name
        some = of & used
        assert (group.rows, group.used) == (of.sum(), some.sum())
        mean, error = mean_and_error(values["kl_mean"][some], w[some])
        assert (group.kl_mean, group.kl_mean_stderr) == pytest.approx((mean, error))
        assert group.same_top == pytest.approx(np.average(values["same_top"][some], weights=w[some]))
        for loss, ppl in (("cross_entropy", group.ppl), ("cross_entropy_base", group.ppl_base)):
            assert math.log(ppl) == pytest.approx(np.average(values[loss][some], weights=w[some]))
        for name, x in (
            ("kl_mean", values["kl_mean"]),
            ("same_top", values["same_top"]),
            ("log_ppl_ratio", values["cross_entropy"] - values["cross_entropy_base"]),
        ):
            residual = w * (x - np.average(x[used], weights=w[used]))
            sums.setdefault(name, []).append(residual[some].sum())
    for name, e in sums.items():
        error = (len(e) / (len(e) - 1) * np.square(e).sum()) ** 0.5 / w[used].sum()
        assert getattr(got, f"{name}_cluster_stderr") == pytest.approx(error), name
    assert got.groups[4] == next(g for g in got.groups if g.name == 4)
    with pytest.raises(KeyError):
        got.groups[5]


def test_identities():
    p, q, labels, _ = data()
    p[:, 4] = 0
    one, two = fx.compare(p, q, labels), fx.compare(q, p, labels)
    assert (one.kl_mean, one.reverse_kl_mean) == (two.reverse_kl_mean, two.kl_mean)
    assert (one.js_mean, one.tv_mean, one.same_top) == (two.js_mean, two.tv_mean, two.same_top)
    assert one.delta_p_mean == -two.delta_p_mean
    assert one.log_ppl_ratio == -two.log_ppl_ratio
    assert 0 <= one.js_mean <= math.log(2)
    assert 2 * one.tv_mean**2 <= one.kl_mean  # Pinsker
    same = fx.compare(p, p, labels)
    assert (same.kl_mean, same.kl_max, same.tv_mean, same.delta_p_rms, same.log_ppl_ratio_stderr) == (0, 0, 0, 0, 0)
    assert (same.ppl_ratio, same.same_top, same.log_ppl_correlation) == (1, 1, pytest.approx(1))
    own = fx.evaluate(q, labels)
    assert (one.ppl, one.ppl_stderr, one.accuracy) == (own.perplexity, own.perplexity_stderr, own.accuracy)
    assert one.entropy == pytest.approx(own.entropy, rel=1e-14)


def test_left_out():
    p, q, labels, _ = data(n=60)
    clean = fx.compare(*(np.delete(x, [3, 8, 20, 21, 40], 0) for x in (p, q, labels)))
    p[20, 1], q[8] = NAN, -INF
    q[21, 0] = INF
    labels[3], labels[40] = -100, 99
    got = fx.compare(p, q, labels)
    assert (got.rows, got.used, got.ignored, got.invalid, got.nonfinite) == (60, 55, 1, 1, 3)
    assert (got.first_invalid, got.first_nonfinite) == (40, 8)
    assert got.kl_mean == clean.kl_mean
    assert got.ppl_difference_stderr == clean.ppl_difference_stderr
    with pytest.raises(ValueError, match="3 non-finite rows, the first in row 8"):
        fx.compare(p, q, labels, strict=True)
    masked = fx.compare(p, q, labels, mask=np.arange(60) > 30)
    assert (masked.masked, masked.nonfinite, masked.used) == (31, 0, 28)
    assert fx.compare(p, q, mask=np.arange(60) > 30).used == 29
    hidden = fx.compare([[0.0, 0.0]], [[0.0, -INF]], [1])
    assert (hidden.kl_mean, hidden.ppl, hidden.infinite, hidden.infinite_kl) == (INF, INF, 1, 1)
    nothing = fx.compare(np.empty((0, 3)), np.empty((0, 3)))
    assert math.isnan(nothing.kl_mean)
    assert nothing.rows == 0


OPTIONS = [
    {"topk": (1, 2, 9)},
    {"temperature": 1.7, "worst": 3},
    {"classes": 5, "kl_cutoff": -2.0, "worst": 3},
    {"base_inputs": "log_probs", "kl_cutoff": -3.0, "worst": 3},
    {"inputs": "probs"},
    {"binary": True},
]


@pytest.mark.parametrize("names", [(), None])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("labelled", [True, False])
def test_every_field_is_the_references(labelled, options, names):
    p, q, labels, columns = data(n=26)
    if "base_inputs" in options:
        p = log_softmax(p)
    if "inputs" in options:
        p, q = np.exp(p - 30), np.exp(np.minimum(q, 99) - 30)
    if options.get("binary"):
        p, q, labels = p[:, 0], q[:, 0], labels % 2
        p[9] = q[11] = NAN
    else:
        labels[8], p[9, 0], q[11] = 9, NAN, np.nan
    labels[3], labels[12] = -100, -1
    labels = labels if labelled else None
    some = {name: x for name, x in columns.items() if names is None or name in names}
    want = reference.compare(p, q, labels, **some, **options)
    got = dataclasses.asdict(fx.compare(p, q, labels, **some, **options))
    assert_close(got, want, 1e-11, least=1e-14)
    assert (got.keys() - want.keys() == {"provenance"}) == labelled
    assert want["used"] > 9


def test_sequences_are_the_references():
    p, q, labels, _ = data(n=24)
    p, q, labels = p.reshape(4, 6, C), q.reshape(4, 6, C), labels.reshape(4, 6)
    q[1, 2, labels[1, 3]] = -INF
    for options in ({"shift": 1}, {"shift": 2, "lengths": np.array([6, 5, 0, 1])}):
        got = dataclasses.asdict(fx.compare(p, q, labels, **options))
        assert_close(got, reference.compare(p, q, labels, **options), 1e-11, least=1e-14)
        assert got["infinite"] == (options["shift"] == 1)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows_are_the_references(n):
    p, q, labels, _ = data(n=n)
    for some in ({}, {"sample_weight": np.zeros(n)}, {"sample_weight": np.ones(n), "groups": np.arange(n)}):
        got = dataclasses.asdict(fx.compare(p, q, labels, **some))
        assert_close(got, reference.compare(p, q, labels, **some), 1e-11, least=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, 90), max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_any_chunks_in_any_order(seed, cuts, random, labelled):
    p, q, labels, columns = data(seed, 90)
    labels = labels if labelled else None
    p[5] = NAN
    options = {"topk": (1, 3), "worst": 4}
    want = fx.compare(p, q, labels, **columns, **options)
    ends = [0, *sorted(cuts), 90]
    parts = []
    for a, b in itertools.pairwise(ends):
        one = Comparator(**options)
        some = {name: x[a:b] for name, x in columns.items()}
        one.update(p[a:b], q[a:b], None if labels is None else labels[a:b], start=a, **some)
        parts.append(one)
    while len(parts) > 1:
        random.shuffle(parts)
        left, right = parts.pop(), parts.pop()
        if random.random() < 0.5:
            right = Comparator.from_state(json.loads(json.dumps(right.state())))
        if random.random() < 0.5:
            left = pickle.loads(pickle.dumps(left))
        left.merge(right)
        parts.append(left)
    assert numbers(parts[0].result()) == numbers(want)


def test_blocks_and_threads(monkeypatch):
    p, q, labels, columns = data(n=300)
    want = numbers(fx.compare(p, q, labels, **columns))
    for size, threads in ((1000, 1), (7000, 3)):
        monkeypatch.setattr(comparator, "CACHE_BYTES", size)
        with fx.num_threads(threads):
            assert numbers(fx.compare(p, q, labels, **columns)) == want


def layouts(x):
    wide = np.zeros((len(x), 2 * x.shape[1] + 1), x.dtype)
    wide[:, 1::2] = x
    return x, np.asfortranarray(x), wide[:, 1::2], x.astype(x.dtype.newbyteorder()), x[::-1].copy()[::-1]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int16])
def test_layouts_and_dtypes(dtype):
    p, q, labels, _ = data(n=80)
    p, q = (np.clip(x, -99, 99).astype(dtype) for x in (p, q))
    want = fx.compare(p, q, labels)
    values, _ = row_values(p.astype(np.float64), q.astype(np.float64), labels)
    assert want.kl_mean == pytest.approx(values["kl_mean"].mean(), rel=1e-5)
    assert want.topk_agreement[5]["set"] == values["set", 5].mean()
    for a, b in itertools.product(layouts(p), layouts(q)[:3]):
        assert numbers(fx.compare(a, b, labels)) == numbers(want)
    deep = fx.compare(p.reshape(8, 10, C), q.reshape(8, 10, C), labels.reshape(8, 10))
    assert numbers(deep) == numbers(want)
    moved = fx.compare(p.T, q.T, labels, axis=0)
    assert numbers(moved) == numbers(want)


def test_of_two_dtypes():
    p, q, labels, _ = data(n=80)
    got = fx.compare(p, q.astype(np.float32), labels)
    wide = q.astype(np.float32).astype(np.float64)
    assert got.kl_mean == pytest.approx(fx.compare(p, wide, labels).kl_mean, rel=1e-12)
    raw = np.clip(p, -99, 99).astype(ml_dtypes.bfloat16)
    want = fx.compare(raw, q, labels)
    got = fx.compare(raw.view(np.uint16), q, labels, logits_dtype="bfloat16")
    assert numbers(got) == numbers(want)
    assert [got.provenance[what]["dtype"] for what in ("base", "other")] == ["bfloat16", "float64"]


def test_inputs():
    p, q, labels, _ = data(n=80)
    p, q = (np.clip(x - x.max(1, keepdims=True), -30, 0) for x in (p, q))
    want = fx.compare(p, q, labels)
    probs = [np.exp(log_softmax(x)) for x in (p, q)]
    for a, b, options in (
        (*probs, {"inputs": "probs"}),
        (probs[0], q, {"base_inputs": "probs"}),
        (log_softmax(p), log_softmax(q), {"inputs": "log_probs"}),
    ):
        got = fx.compare(a, b, labels, **options)
        assert (got.kl_mean, got.ppl_ratio) == pytest.approx((want.kl_mean, want.ppl_ratio), rel=1e-9)
    hot = fx.compare(p, q, labels, temperature=2.5)
    assert hot.kl_mean == pytest.approx(fx.compare(p / 2.5, q / 2.5, labels).kl_mean, rel=1e-12)
    two = fx.compare(p[:, 0], q[:, 0], labels > 3, binary=True)
    pair = [np.stack([np.zeros(80), x[:, 0]], 1) for x in (p, q)]
    assert numbers(two) == numbers(fx.compare(*pair, labels > 3))
    bad = probs[0].copy()
    bad[2, 1] = -1
    with pytest.raises(ValueError, match=r"base\[2, 1\] is -1.0, no probability"):
        fx.compare(bad, probs[1], labels, inputs="probs")


def test_widths():
    p, q, labels, _ = data(n=30)
    wide = np.concatenate([q, np.full((30, 3), 50.0)], 1)
    with pytest.raises(ValueError, match=r"base has 9 classes, but other has 12; .* classes=9 uses the first 9"):
        fx.compare(p, wide, labels)
    with pytest.raises(ValueError, match="classes=9"):
        Comparator().update(p, wide)
    assert numbers(fx.compare(p, wide, labels, classes=9)) == numbers(fx.compare(p, q, labels))


WRONG = [
    ({"topk": [0]}, ValueError), ({"worst": -1}, ValueError), ({"inputs": "p"}, ValueError),
    ({"base_inputs": "q"}, ValueError), ({"temperature": 0.0}, ValueError), ({"classes": 10}, ValueError),
    ({"kl_cutoff": NAN}, ValueError), ({"kl_cutoff": -16, "temperature": 2.0}, ValueError),
    ({"groups": np.ones(29, int)}, ValueError), ({"groups": np.ones(30)}, TypeError),
    ({"sample_weight": -np.ones(30)}, ValueError), ({"mask": np.ones(30)}, TypeError), ({"axis": 2}, ValueError),
    ({"logits_dtype": "bfloat16"}, ValueError), ({"per_row": "x.csv"}, ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error"), WRONG, ids=lambda x: str(x)[:30])
def test_wrong_options(options, error):
    p, q, labels, _ = data(n=30)
    with pytest.raises(error):
        fx.compare(p, q, labels, **options)


def test_wrong_arrays():
    p, q, labels, _ = data(n=30)
    with pytest.raises(ValueError, match="labels have shape"):
        fx.compare(p, q, labels[1:])
    with pytest.raises(ValueError, match=r"base has shape \(30, 9\), but other has \(29, 9\)"):
        fx.compare(p, q[1:], labels)
    with pytest.raises(TypeError, match="other has dtype"):
        fx.compare(p, q.astype(complex), labels)
    with pytest.raises(TypeError, match="labels"):
        fx.compare(p, q, labels * 1.0)
    with pytest.raises(ValueError, match="no dimension"):
        fx.compare(1.0, 1.0)
    with pytest.raises(ValueError, match="no class"):
        fx.compare(np.empty((3, 0)), np.empty((3, 0)))
    with pytest.raises(ValueError, match="there are no labels"):
        fx.compare(p, q, shift=1)


def test_states_are_checked():
    p, q, labels, columns = data(n=50)
    one = Comparator()
    one.update(p, q, labels, **columns)
    state = one.state()
    means = state["parts"]["means"]
    assert state == Comparator.from_state(state).state()
    for wrong in (None, {}, fx.Evaluator().state()):
        with pytest.raises(ValueError, match="no state of a Comparator"):
            Comparator.from_state(wrong)
    with pytest.raises(ValueError, match="version 2"):
        Comparator.from_state({**state, "version": 2})
    for key, value in (
        ("options", {}), ("layout", None), ("layout", {**state["layout"], "labelled": 1}), ("next", 0.5),
        ("layout", {**state["layout"], "labelled": False}), ("counts", {**state["counts"], "rows": 51}),
        ("counts", {**state["counts"], "infinite_kl": 51}), ("first", {}), ("parts", {}), ("row_format", 1),
        ("parts", {**state["parts"], "confidence": state["parts"]["groups"]}),
        ("parts", {**state["parts"], "kl_quantiles": Comparator().state()}),
        ("parts", {**state["parts"], "groups": state["parts"]["confidence"]}),
        ("parts", {**state["parts"], "means": {**means, "sums": [["-0x1", 0, 0, 0]] * len(means["sums"])}}),
        ("parts", {**state["parts"], "means": {**means, "n": 0}}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="broken state of a Comparator"):
            Comparator.from_state({**state, key: value})
    for other in (Comparator(topk=[2]), Comparator(kl_cutoff=-16.0)):
        with pytest.raises(ValueError, match="other options"):
            one.merge(other)
    with pytest.raises(ValueError, match="no labels"):
        one.update(p, q, **columns)
    with pytest.raises(ValueError, match="9 classes"):
        one.update(p[:, :5], q[:, :5], labels % 5, **columns)
    assert one.state() == state


def test_quantiles_of_many_rows():
    rng = np.random.default_rng(0)
    p, q = (rng.normal(size=(LIMIT + 999, 2)).astype(np.float32) for _ in range(2))
    got = fx.compare(p, q)
    assert not got.quantiles_exact
    kl = np.sort(fx.kl_divergence_with_logits(p, q).astype(np.float64))
    assert got.kl_max == kl[-1]
    assert got.kl_median == pytest.approx(kl[len(kl) // 2], rel=0.005)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cutoff(dtype):
    p, q, labels, _ = data(n=200, c=40)
    q = np.where(q == -INF, 0, q) * 2
    log_p = np.maximum(log_softmax(p * 3), -17.0)  # sums that are not 1, and many terms at the floor
    log_p, q = log_p.astype(dtype), q.astype(dtype)
    kl, base, loss, delta = llama(log_p.astype(np.float64), q.astype(np.float64), labels)
    rel = 1e-9 if dtype == np.float64 else 2e-5
    got = fx.compare(log_p, q, labels, base_inputs="log_probs", kl_cutoff=-16)
    assert got.kl_cutoff == -16.0
    assert got.kl_mean == pytest.approx(kl.mean(), rel=rel)
    assert (got.kl_min, got.kl_max) == pytest.approx((kl.min(), kl.max()), rel=rel, abs=1e-6)
    assert (got.ppl, got.ppl_base) == pytest.approx((math.exp(loss.mean()), math.exp(base.mean())), rel=rel)
    assert got.delta_p_mean == pytest.approx(delta.mean(), rel=20 * rel, abs=1e-9)
    # of logits, whose probabilities sum to 1
    got = fx.compare(p * 3, q.astype(np.float64), labels, kl_cutoff=-16)
    assert got.kl_mean == pytest.approx(llama(log_softmax(p * 3), q.astype(np.float64), labels)[0].mean(), rel=1e-9)
    assert fx.compare(p, q, kl_cutoff=-1e9).kl_mean == pytest.approx(fx.compare(p, q).kl_mean, rel=1e-9)
    assert fx.compare(p, q, kl_cutoff=0.0).kl_mean == 0  # no term is left


@pytest.mark.parametrize("rows", [None, 7])
def test_files(tmp_path, monkeypatch, rows):
    if rows:
        monkeypatch.setattr(_reading, "BLOCK_ROWS", rows)
    p, q, labels, columns = data(n=100)
    for name, x in {"p": p, "q": q, "y": labels, **columns}.items():
        np.save(tmp_path / f"{name}.npy", x)
    want = fx.compare(p, q, labels, **columns)
    paths = {name: tmp_path / f"{name}.npy" for name in columns}
    done = []
    got = fx.compare(
        tmp_path / "p.npy", tmp_path / "q.npy", tmp_path / "y.npy", **paths,
        checkpoint=tmp_path / "state", progress=lambda n, total: done.append((n, total)),
    )  # fmt: skip
    assert numbers(got) == numbers(want)
    assert done[-1] == (100, 100)
    assert got.provenance["base"]["name"] == str(tmp_path / "p.npy")
    paths["checkpoint"] = tmp_path / "state"
    again = fx.compare(tmp_path / "p.npy", tmp_path / "q.npy", tmp_path / "y.npy", **paths)
    assert numbers(again) == numbers(want)
    with pytest.raises(ValueError, match="another job"):
        fx.compare(tmp_path / "q.npy", tmp_path / "p.npy", tmp_path / "y.npy", **paths)
    with pytest.raises(ValueError, match=r"p.npy has 9 classes, but .*p.npy has 5; .*classes=5"):
        fx.compare(tmp_path / "p.npy", fx.open_logits(tmp_path / "p.npy", columns=5))


def test_shift_and_lengths():
    p, q, _, _ = data(n=40)
    labels = np.random.default_rng(1).integers(0, 4, (4, 10))
    x, y = p.reshape(4, 10, C), q.reshape(4, 10, C)
    got = fx.compare(x, y, labels, shift=1, lengths=[10, 3, 0, 7])
    keep = [(b, t) for b, n in enumerate([10, 3, 0, 7]) for t in range(n - 1)]
    want = fx.compare([x[i] for i in keep], [y[i] for i in keep], [labels[b, t + 1] for b, t in keep])
    assert (got.rows, got.used) == (40, len(keep))
    assert numbers(got, "rows", "masked", "worst") == numbers(want, "rows", "masked", "worst")


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_per_row(tmp_path, suffix):
    p, q, labels, _ = data(n=60)
    labels[3], p[9, 0] = -100, NAN
    fx.compare(p, q, labels, per_row=tmp_path / f"rows.{suffix}")
    if suffix == "npy":
        rows = np.load(tmp_path / "rows.npy")
    else:
        pytest.importorskip("pyarrow")
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
        rows = {name: table[name].to_numpy() for name in table.column_names}
    used = rows["status"] == 0
    assert np.flatnonzero(~used).tolist() == [3, 9]
    assert np.isnan(rows["kl"][~used]).all()
    assert (rows["kl"][used] == fx.kl_divergence_with_logits(p, q)[used]).all()
    fx.evaluate(p, labels, per_row=tmp_path / "own.npy")
    assert (rows["loss_base"][used] == np.load(tmp_path / "own.npy")["loss"][used]).all()
    assert (rows["argmax"][used] == q.argmax(1)[used]).all()
    assert (rows["label"] == labels).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 20), st.integers(0, 9), st.sampled_from(["f2", "f4", "f8", "bf16"]))
def test_top_columns(c, k, seed, dtype):
    """Ties by column, subnormals told apart, in every span of the scan."""
    from fastxent._arrays import as_logits
    from fastxent._passes.topk import top_columns

    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 9 if seed % 2 else 900, (5, c)).astype(np.float64)
    x[rng.random(x.shape) < 0.05] = -INF
    if seed % 3 == 0:
        x *= 2.0**-24  # subnormal in float16
    x = x.astype(ml_dtypes.bfloat16 if dtype == "bf16" else dtype)
    k = min(k, c)
    assert (top_columns(as_logits(x), k) == top(x.astype(np.float64), k)).all()
    assert (top_columns(as_logits(x[:, ::-1]), k, 2) == top(x[:, ::-1].astype(np.float64), k)).all()


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
def test_levels():
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_comparison import *
        p, q, labels, columns = data()
        for dtype in ("f8", "f4", "f2"):
            a, b = (np.clip(x, -99, 99).astype(dtype) for x in (p, q))
            print(json.dumps(numbers(fx.compare(a, b, labels, **columns))))
    """
    found = [run_python(code, FASTXENT_LEVEL=level) for level in fused_levels()]
    assert [(x.returncode, x.stderr) for x in found] == [(0, "")] * len(found)
    assert len({x.stdout for x in found}) == 1
    assert len(found[0].stdout) > 1000
