"""Tables by key, means and worst rows against plain sums of fractions; the same state in any order."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxent._accumulators import keyed as _keyed
from fastxent._accumulators.keyed import Keyed
from fastxent._accumulators.means import Means
from fastxent._accumulators.worst import Worst
from fastxent._exact import quotient

INF, NAN = math.inf, math.nan
VALUES = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 5e-324, -1e300, 1e300, 1e-30, INF, -INF])
ROWS = st.lists(st.tuples(st.integers(-3, 3) | st.just(10**12), VALUES, st.booleans()), max_size=12)


def table(rows, kind=int):
    t = Keyed(3, 2)
    if rows:
        keys, values, hits = zip(*rows, strict=True)
        x = np.array(values, float)
        t.add(np.array([kind(k) for k in keys]), [None, np.array(hits), np.arange(len(x))], [(x,), (x, x)])
    return t


def fractions(rows, key):
    values = [v for k, v, _ in rows if k == key]
    return None if any(math.isinf(v) for v in values) else sum(map(Fraction, values))


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, max_size=5), st.randoms(use_true_random=False), st.sampled_from([int, str]))
def test_any_order(blocks, random, kind):
    rows = [row for block in blocks for row in block]
    want = table([])
    for block in blocks:
        want = want.merged(table(block, kind))
    parts = [table(block, kind) for block in blocks] or [table([])]
    while len(parts) > 1:
        one, other = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        parts.append(Keyed.from_state(json.loads(json.dumps(one.merged(other).state())), 3, 2))
    assert parts[0].state() == want.state()
    keys, counts = want.counts()
    assert keys.tolist() == sorted({kind(k) for k, _, _ in rows})
    for i, key in enumerate(keys.tolist()):
        own = [(v, h) for k, v, h in rows if kind(k) == key]
        assert counts[i, :2].tolist() == [len(own), sum(h for _, h in own)]
        one, other = want.sums(0)[i], want.sums(1)[i]
        exact = fractions(rows, int(key))
        assert (one.special() is None) == (exact is not None)
        if exact is not None:
            assert one.fraction() == exact
            assert other.fraction() == 2 * exact


def test_carries(monkeypatch):
    """Many additions before a carry, and carrying at any time: the same state."""
    values = np.random.default_rng(0).normal(size=1000) * 1e5
    keys = np.arange(1000) % 3
    states = []
    for carry_at in (1 << 29, 1):
        monkeypatch.setattr(_keyed, "CARRY_AT", carry_at)
        t = Keyed(1, 1)
        for some in np.array_split(np.arange(1000), 50):
            t.add(keys[some], [None], [(values[some],)])
        states.append(t.state())
        assert [s.value() for s in t.sums(0)] == [math.fsum(values[keys == k]) for k in range(3)]
    assert states[0] == states[1]


def test_a_million_groups():
    n = 1_000_000
    rng = np.random.default_rng(0)
    keys, values = rng.permutation(n), rng.exponential(size=n)
    t = Keyed(1, 1)
    for some in np.array_split(np.arange(n), 16):
        t.add(keys[some], [None], [(values[some],)])
    found, counts = t.counts()
    assert found.size == counts.sum() == n
    totals, shift = t.totals(0)
    want = np.empty(n)
    want[keys] = values
    unit = Fraction(2) ** (shift - 1074)
    assert all(total * unit == Fraction(value) for total, value in zip(totals[:50], want, strict=False))


# ---- means ----


@pytest.mark.parametrize("weighted", [False, True])
def test_means(weighted):
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 2, (2, 300))
    w = rng.integers(0, 3, 300) * rng.random(300) if weighted else np.ones(300)
    x[w == 0] = NAN  # counts for nothing
    m = Means(["x", "y"], [("x", "x"), ("x", "y")], weighted)
    for some in np.array_split(rng.permutation(300), 7):
        one = Means(["x", "y"], [("x", "x"), ("x", "y")], weighted)
        one.add({"x": x[some], "y": y[some]}, w[some] if weighted else None)
        m = m.merged(one)
    again = Means(["x", "y"], [("x", "x"), ("x", "y")], weighted)
    again.load(json.loads(json.dumps(m.state())))
    assert again.state() == m.state()
    x, y, w = x[w > 0], y[w > 0], w[w > 0]
    n, mean_x, mean_y = len(x), (w * x).sum() / w.sum(), (w * y).sum() / w.sum()
    assert m.mean("x") == pytest.approx(mean_x, rel=1e-14)
    variance = n / (n - 1) * (w**2 * (x - mean_x) ** 2).sum() / w.sum() ** 2
    assert m.stderr("x") == pytest.approx(variance**0.5, rel=1e-12)
    covariance = n / (n - 1) * (w**2 * (x - mean_x) * (y - mean_y)).sum() / w.sum() ** 2
    assert quotient(*m.covariance("x", "y")) == pytest.approx(covariance, rel=1e-12)
    if not weighted:
        assert m.stderr("x") == pytest.approx(x.std(ddof=1) / n**0.5, rel=1e-12)
    assert m.ratio("x", "y") == pytest.approx((w * x).sum() / (w * y).sum(), rel=1e-14)


def test_means_of_nothing():
    m = Means(["x"], [("x", "x")])
    assert math.isnan(m.mean("x"))
    m.add({"x": np.array([INF])})
    assert m.mean("x") == INF
    m.add({"x": np.array([1.0])})
    assert (m.mean("x"), math.isnan(m.stderr("x"))) == (INF, True)


# ---- worst rows ----


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, INF]), max_size=40),
    st.integers(0, 5),
    st.sets(st.integers(0, 40), max_size=5),
    st.randoms(use_true_random=False),
)
def test_worst(values, k, cuts, random):
    x = np.array(values)
    blocks = np.array_split(np.arange(len(x)), sorted(c for c in cuts if c <= len(x)) or 1)
    random.shuffle(blocks)
    w = Worst(k, 1)
    for some in blocks:
        one = Worst(k, 1)
        for part in np.array_split(some, 2):
            one.add(x[part], part, part * 2)
        w = w.merged(one)
    want = sorted(range(len(x)), key=lambda i: (-x[i], i))[:k]
    assert (w.rows.tolist(), w.values.tolist()) == (want, x[want].tolist())
    assert w.columns.tolist() == [[2 * i for i in want]]
    again = Worst(k, 1)
    again.load(json.loads(json.dumps(w.state())))
    assert again.state() == w.state()
