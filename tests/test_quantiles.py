"""Quantiles: exact ones against NumPy's, the histogram's within 0.5 %, and the same bits in any order."""

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxent._accumulators import quantiles as _quantiles
from fastxent._accumulators.quantiles import Quantiles
from fastxent._scoring.histogram import EDGES, histogram

INF = math.inf
FRACTIONS = (0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1)
VALUES = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, INF, -INF, 5e-324, -1.0, 1.0])


def filled(chunks):
    q = Quantiles()
    for chunk in chunks:
        q.add(np.asarray(chunk))
    return q


@pytest.fixture(params=[1 << 20, 7])
def limit(request, monkeypatch):
    """Exact and, with few values already, the histogram."""
    monkeypatch.setattr(_quantiles, "LIMIT", request.param)
    monkeypatch.setattr(_quantiles, "PENDING", 3)
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact(dtype):
    for n in (1, 2, 3, 10, 1001):
        values = np.random.default_rng(n).normal(size=n).astype(dtype)
        q = filled([values[: n // 2], values[n // 2 :]])
        assert q.exact
        assert q.many(FRACTIONS) == pytest.approx(np.quantile(values.astype(float), FRACTIONS), rel=1e-12, abs=1e-15)
        assert q.at(Fraction(1, 2)) == q.at(0.5)
    assert math.isnan(Quantiles().at(0.5))


def test_infinities():
    assert filled([[-INF, 1.0, 2.0, INF, INF]]).many((0, 0.1, 0.3, 0.5, 0.6, 0.9, 1)) == [
        -INF, -INF, 1.2, 2.0, INF, INF, INF,
    ]  # fmt: skip


@pytest.mark.parametrize("scale", [1e-290, 1e-30, 1.0, 1e30])
def test_histogram_is_within_half_a_percent(scale, limit):
    values = scale * np.random.default_rng(0).normal(0, 1, 3001) ** 3
    values[:50], values[50:60], values[60:70] = 0.0, INF, -INF
    q = filled(np.array_split(values, 7))
    assert q.exact == (limit > 7)
    for place, want in enumerate(np.sort(values).tolist()):
        got = q.at(Fraction(place, 3000))
        assert got == want or abs(got - want) <= 0.005 * abs(want)
    assert (q.at(0), q.at(1)) == (-INF, INF)
    finite = filled(np.array_split(values[70:], 7))
    assert (finite.at(0), finite.at(1)) == (values[70:].min(), values[70:].max())


def test_switch_depends_on_the_number_alone():
    values = np.random.default_rng(0).random(_quantiles.LIMIT + 1)
    most = filled([values[:-1]])
    assert most.exact
    assert most.at(0.5) == np.quantile(values[:-1], 0.5)
    more = most.merged(filled([values[-1:]]))
    assert not more.exact
    assert more.state() == filled(np.array_split(values, 5)[::-1]).state()
    assert more.at(0.5) == pytest.approx(np.quantile(values, 0.5), rel=0.005)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=6), max_size=6), st.randoms(use_true_random=False))
def test_any_order(chunks, random):
    for limit in (1 << 20, 7):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_quantiles, "LIMIT", limit)
            patch.setattr(_quantiles, "PENDING", 3)
            want = filled([[x] for chunk in chunks for x in chunk])
            parts = [filled([chunk]) for chunk in chunks] or [Quantiles()]
            while len(parts) > 1:
                one, other = (parts.pop(random.randrange(len(parts))) for _ in range(2))
                parts.append(Quantiles.from_state(json.loads(json.dumps(one.merged(other).state()))))
            assert parts[0].state() == want.state()
            assert str(parts[0].many(FRACTIONS)) == str(want.many(FRACTIONS))


def test_histogram_counts(limit):
    values = np.random.default_rng(0).exponential(size=500)
    edges = np.array([0.0, 0.5, 1.0, 2.0, 4.0])  # powers of two begin a bin
    assert filled([values]).histogram(edges).tolist() == [(values < edge).sum() for edge in edges]


def test_histogram_of_losses_is_exact(limit):
    """At each edge, one step below it, and everywhere between, kept or not."""
    inner = np.array(EDGES[:-1])
    values = np.concatenate([inner, np.nextafter(inner[1:], 0), [0.0, -0.0, 5e-324, 1e300, INF, INF]])
    values = np.concatenate([values, np.random.default_rng(0).lognormal(-3, 8, 2000)])
    parts = [filled([chunk]) for chunk in np.array_split(values, 9)]
    whole = parts[4]
    for part in parts[:4] + parts[:4:-1]:
        whole = part.merged(whole)
    assert whole.exact == (limit > 7)
    got = histogram(whole)
    assert got.edges == EDGES
    assert got.counts == tuple(
        int(np.count_nonzero((values >= a) & ((values < b) | (b == INF)))) for a, b in pairwise(EDGES)
    )
    assert sum(got.counts) == len(values)
    assert tuple(map(sum, zip(*(histogram(part).counts for part in parts), strict=True))) == got.counts
    assert set(histogram(Quantiles()).counts) == {0}


def test_edges_of_the_histogram():
    """The documented ones: octaves from 2^-40 on, quarters of octaves from 1/16 to 256."""
    assert (EDGES[0], EDGES[1], EDGES[36], EDGES[37], EDGES[41], EDGES[-2:]) == (
        0.0, 2.0**-40, 2.0**-5, 2.0**-4, 2.0**-3, (256.0, INF),
    )  # fmt: skip
    assert EDGES[-10:-1] == (64, 80, 96, 112, 128, 160, 192, 224, 256)
    assert len(EDGES) == 87
