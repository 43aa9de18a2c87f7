"""Weights, groups and classes: every number against a float64 NumPy script; the same bits in any order."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastxent as fx
from fastxent import reference
from fastxent.evaluator import Evaluator

INF, NAN = math.inf, math.nan
N, C = 600, 6


def data(seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 2, (N, C)), rng.integers(0, C, N)
    y = np.where(rng.random(N) < 0.4, x.argmax(1), y)
    columns = {
        "groups": rng.integers(-3, 12, N) ** 2,
        "sample_weight": rng.integers(0, 4, N) * rng.random(N),
        "mask": rng.random(N) < 0.9,
        "byte_counts": rng.integers(0, 9, N),
        "word_counts": rng.integers(0, 3, N),
    }
    return x, y, columns


def script(x, y, w, bins=15):
    """What `evaluate` says of rows with weights, in NumPy."""
    n = len(x)
    lse = np.log(np.exp(x).sum(1))
    p, loss = np.exp(x - lse[:, None]), lse - x[np.arange(n), y]
    rank = (x > x[np.arange(n), y][:, None]).sum(1)
    brier = ((p - np.eye(x.shape[1])[y]) ** 2).sum(1)
    columns = {
        "cross_entropy": loss,
        "expected_accuracy": np.exp(-loss),
        "accuracy": rank == 0,
        "mean_rank": rank,
        "mean_reciprocal_rank": 1 / (1 + rank),
        "entropy": -(p * np.log(p)).sum(1),
        "brier": brier,
    }
    out = {"z_loss": (w * lse**2).sum() / w.sum(), "weight": w.sum()}
    m = np.count_nonzero(w)
    for name, v in columns.items():
        out[name] = (w * v).sum() / w.sum()
        out[f"{name}_stderr"] = (m / (m - 1) * (w**2 * (v - out[name]) ** 2).sum()) ** 0.5 / w.sum()
    out["topk"] = {k: (w * (rank < k)).sum() / w.sum() for k in (1, 5)}
    places = np.minimum((p.max(1) * bins).astype(int), bins - 1)
    gaps = [abs((w * ((rank == 0) - p.max(1)))[places == b].sum()) for b in range(bins)]
    out["ece"] = sum(gaps) / w.sum()
    of_bin = [w[places == b].sum() for b in range(bins)]
    out["mce"] = max(gap / s for gap, s in zip(gaps, of_bin, strict=True) if s)
    q = np.bincount(y, w) / w.sum()
    out["label_entropy"] = -(q[q > 0] * np.log(q[q > 0])).sum()
    out["explained"] = 1 - out["cross_entropy"] / out["label_entropy"]
    return out, loss, rank


def cluster_error(v, w, groups):
    mean = (w * v).sum() / w.sum()
    e = np.array([(w * (v - mean))[groups == g].sum() for g in np.unique(groups)])
    return (len(e) / (len(e) - 1) * (e**2).sum()) ** 0.5 / w.sum()


def evaluator(x, y, columns, start=0, **options):
    one = Evaluator(**options)
    one.update(x, y, start=start, **columns)
    return one


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_against_numpy(weighted, text):
    x, y, columns = data()
    names = columns["groups"]
    if text:
        columns["groups"] = np.array([f"doc {g}" for g in names])
    if not weighted:
        del columns["sample_weight"]
    got = evaluator(x, y, columns).result()
    use = columns["mask"]
    w = columns.get("sample_weight", np.ones(N))[use]
    want, loss, rank = script(x[use], y[use], w)
    for name, value in want.items():
        if "rank_stderr" in name:
            continue
        assert getattr(got, name) == pytest.approx(value, rel=1e-12), name
    assert (got.rows, got.used, got.masked) == (N, use.sum(), N - use.sum())
    groups, of_bytes, of_words = names[use], columns["byte_counts"][use], columns["word_counts"][use]
    assert got.cross_entropy_cluster_stderr == pytest.approx(cluster_error(loss, w, groups), rel=1e-12)
    assert got.accuracy_cluster_stderr == pytest.approx(cluster_error(rank == 0, w, groups), rel=1e-12)
    bits = (w * loss).sum() / np.log(2)
    assert got.bits_per_byte == pytest.approx(bits / (w * of_bytes).sum(), rel=1e-12)
    assert got.word_perplexity == pytest.approx(np.exp((w * loss).sum() / (w * of_words).sum()), rel=1e-12)
    assert list(got.groups.name) == sorted(set(columns["groups"].tolist()))
    for group in got.groups:
        number = int(str(group.name).removeprefix("doc "))
        own, v, u = groups == number, loss[groups == number], w[groups == number]
        one, *_ = script(x[use][own], y[use][own], u)
        assert (group.rows, group.used) == ((names == number).sum(), own.sum())
        same = ["cross_entropy", "cross_entropy_stderr", "accuracy", "accuracy_stderr", "expected_accuracy", "brier"]
        same += ["entropy", "mean_rank", "mean_reciprocal_rank"]
        assert group.topk == pytest.approx(one["topk"], rel=1e-11)
        for name in same:
            assert getattr(group, name) == pytest.approx(one[name], rel=1e-11, abs=1e-12), name
        assert group.bits == pytest.approx(group.cross_entropy / np.log(2), rel=1e-14)
        assert group.perplexity == pytest.approx(np.exp(group.cross_entropy), rel=1e-14)
        assert group.bits_per_byte == pytest.approx((u * v).sum() / np.log(2) / (u * of_bytes[own]).sum(), rel=1e-12)
        assert group.word_perplexity == pytest.approx(np.exp((u * v).sum() / (u * of_words[own]).sum()), rel=1e-12)
        assert got.groups[group.name] == group
    macro = np.array([g.cross_entropy for g in got.groups])
    assert got.groups.macro["cross_entropy"] == pytest.approx(macro.mean(), rel=1e-14)
    assert got.groups.macro["cross_entropy_stderr"] == pytest.approx(macro.std(ddof=1) / len(macro) ** 0.5, rel=1e-12)
    with pytest.raises(KeyError):
        got.groups["none"]


@pytest.mark.parametrize("weighted", [False, True])
def test_classes(weighted):
    x, y, columns = data()
    use, w = columns["mask"], columns["sample_weight"] if weighted else np.ones(N)
    x[np.flatnonzero(columns["sample_weight"] == 0)[0], 0] = -30.0
    got = evaluator(x, y, {"mask": use, "sample_weight": w if weighted else None}).result().classes
    table = np.zeros((C, C), int)
    np.add.at(table, (y[use], x[use].argmax(1)), 1)
    assert (got.table() == table).all()
    assert (got.count == table.sum(1)).all()
    assert (got.predicted == table.sum(0)).all()
    assert got.recall == pytest.approx(table.diagonal() / table.sum(1))
    assert got.precision == pytest.approx(table.diagonal() / table.sum(0))
    loss = script(x[use], y[use], np.ones(use.sum()))[1]
    want = [np.average(loss[y[use] == c], weights=w[use][y[use] == c]) for c in range(C)]
    assert got.cross_entropy == pytest.approx(want, rel=1e-13)
    p = table / table.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / np.outer(p.sum(1), p.sum(0))), 0)
    assert got.mutual_information == pytest.approx(terms.sum(), rel=1e-12)


def test_many_classes():
    """No table beyond 4096 classes; the labels are counted up to 2^22."""
    for c, classes, labels in ((4096, True, True), (4097, False, True), ((1 << 22) + 1, False, False)):
        x = np.broadcast_to(np.zeros(1, np.float32), (2, c))
        got = fx.evaluate(x, [0, c - 1])
        assert (got.classes is not None) == classes
        assert got.label_entropy == pytest.approx(math.log(2) if labels else NAN, nan_ok=True)
        assert got.explained == pytest.approx(1 - math.log(c) / math.log(2) if labels else NAN, nan_ok=True)


def test_rows_of_weight_zero_count_for_nothing():
    x, y, columns = data()
    w = columns["sample_weight"]
    x[w == 0], x[np.flatnonzero(w == 0)[0], :2] = -INF, 0.0
    got = evaluator(x, y, {"sample_weight": w, "groups": columns["groups"]}).result()
    want = evaluator(x[w > 0], y[w > 0], {"sample_weight": w[w > 0], "groups": columns["groups"][w > 0]}).result()
    for name in ("cross_entropy", "cross_entropy_stderr", "cross_entropy_cluster_stderr", "ece", "brier", "explained"):
        assert getattr(got, name) == getattr(want, name), name


def test_no_weight_at_all():
    x, y, columns = data()
    got = evaluator(x, y, {"sample_weight": np.zeros(N), "groups": columns["groups"]}).result()
    assert (got.used, got.weight) == (N, 0.0)
    for name in ("cross_entropy", "perplexity", "accuracy", "ece", "mce", "label_entropy", "explained", "brier"):
        assert math.isnan(getattr(got, name)), name
    assert np.isnan(got.classes.cross_entropy).all()
    assert np.isnan(got.groups.cross_entropy).all()


def test_whole_losses_beyond_the_unit_of_the_sums():
    """Multiples of 2^40 alone: a table's sums begin at a limb above that of 1."""
    x = np.array([[0.0, 2.0**40], [2.0**41, 0.0]])
    result = fx.evaluate(x, [0, 1], groups=[5, 6])
    assert result.groups.cross_entropy.tolist() == result.classes.cross_entropy.tolist() == [2.0**40, 2.0**41]
    other = fx.compare(x, x[:, ::-1].copy(), [0, 1], groups=[5, 6])
    assert other.groups.kl_mean.tolist() == [2.0**40, 2.0**41]
    assert other.kl_by_confidence[-1].kl_mean == 1.5 * 2.0**40


def test_infinite_losses_of_groups():
    x, y, groups = np.zeros((4, 2)), [0, 0, 1, 1], [5, 5, 7, 7]
    x[2, 1] = -INF
    got = evaluator(x, y, {"groups": groups}).result()
    assert (got.groups[5].cross_entropy, got.groups[7].cross_entropy) == (pytest.approx(math.log(2)), INF)
    assert math.isnan(got.cross_entropy_cluster_stderr)
    assert got.groups.macro["cross_entropy"] == INF
    assert json.dumps(got.to_dict(), allow_nan=False)


TRIPS = [lambda e: e, lambda e: Evaluator.from_state(json.loads(json.dumps(e.state(), allow_nan=False)))]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, N), max_size=6), st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_any_chunking_and_merge_tree(cuts, random, weighted, text):
    x, y, columns = data(1)
    x[::50], x[7::50], y[9::60], y[11::70] = NAN, -INF, -100, 99
    if text:
        columns["groups"] = columns["groups"].astype(str)
    if not weighted:
        del columns["sample_weight"]

    def block(a, b):
        return evaluator(x[a:b], y[a:b], {name: column[a:b] for name, column in columns.items()}, a)

    parts = [block(a, b) for a, b in itertools.pairwise([0, *sorted(cuts), N])]
    while len(parts) > 1:
        left, right = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        left.merge(random.choice(TRIPS)(right))
        parts.append(random.choice(TRIPS)(left))
    assert parts[0].state() == block(0, N).state()
    assert parts[0].result().to_dict() == block(0, N).result().to_dict()


def test_worst_rows():
    x, y, _ = data()
    y[::7] = -100
    got = fx.evaluate(x, y).worst
    used = np.flatnonzero(y != -100)
    loss = script(x[used], y[used], np.ones(len(used)))[1]
    order = used[np.argsort(-loss, kind="stable")[:10]]
    assert [w.row for w in got] == order.tolist()
    assert [w.loss for w in got] == pytest.approx(np.sort(loss)[::-1][:10].tolist(), rel=1e-13)
    assert [(w.label, w.prediction) for w in got] == [(y[i], x[i].argmax()) for i in order]


REFUSED = [("groups", [0.5] * 3, TypeError), ("groups", [0], ValueError), ("mask", [1.0, 0.0, 1.0], TypeError)]
REFUSED += [("mask", [1, 2, 0], ValueError)]
REFUSED += [("sample_weight", [1.0, -1.0, 0.0], ValueError), ("sample_weight", [1.0, NAN, 0.0], ValueError)]
REFUSED += [("sample_weight", ["a"] * 3, TypeError), ("byte_counts", [1, -1, 0], ValueError)]
REFUSED += [("word_counts", [1.0, 1.0, 0.0], TypeError), ("groups", np.full(3, 2**63, np.uint64), ValueError)]


@pytest.mark.parametrize(("name", "values", "error"), REFUSED)
def test_wrong_columns_are_refused(name, values, error):
    one = Evaluator()
    with pytest.raises(error, match=name):
        one.update(np.zeros((3, 2)), [0, 0, 0], **{name: values})
    assert one.state() == Evaluator().state()


def test_a_mask_of_integers():
    """As tokenizers give it, with padding among sequences of the next token, too."""
    x, y, columns = data()
    for options in ({}, {"shift": 1, "lengths": [N - 50, 50]}):
        want = fx.evaluate(x, y, mask=columns["mask"], **options)
        for dtype in (np.int64, np.uint8):
            got = fx.evaluate(x, y, mask=columns["mask"].astype(dtype), **options)
            assert (got.masked, got.cross_entropy, got.ece) == (want.masked, want.cross_entropy, want.ece)
    with pytest.raises(ValueError, match=r"mask\[1\] is 2; it must be bool, 0 or 1"):
        fx.evaluate(x, y, mask=np.resize([1, 2], N), shift=1)


def test_blocks_of_other_columns_are_refused():
    x, y, columns = data()
    for names in ([], ["groups"], ["sample_weight", "groups"], ["groups", "byte_counts"]):
        one = evaluator(x, y, {"groups": columns["groups"], "word_counts": columns["word_counts"]})
        before = one.state()
        other = evaluator(x, y, {name: columns[name] for name in names})
        with pytest.raises(ValueError, match="6 classes, groups of integers, word_counts"):
            one.merge(other)
        with pytest.raises(ValueError, match="word_counts"):
            one.update(x, y, **{name: columns[name] for name in names})
        assert one.state() == before


def test_losses_over_no_bytes_are_as_ieee_division_has_them():
    logits, labels = [[0.0, 1.0], [0.0, -np.inf], [0.0, -np.inf]], [0, 1, 0]
    options = {"groups": [0, 1, 2], "byte_counts": [0, 0, 0]}
    got, want = fx.evaluate(logits, labels, **options), reference.evaluate(logits, labels, **options)
    # log(1 + e) / 0, inf / 0, 0 / 0
    assert got.groups.bits_per_byte.tolist()[:2] == want["groups"]["bits_per_byte"][:2] == [math.inf, math.inf]
    assert math.isnan(got.groups.bits_per_byte[2])
    assert math.isnan(want["groups"]["bits_per_byte"][2])
    assert got.bits_per_byte == want["bits_per_byte"] == math.inf
