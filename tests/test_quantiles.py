"""Quantiles: exact ones against NumPy's, the histogram's within 0.5 %, and the same bits in any order."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxent._accumulators import quantiles as _quantiles
from fastxent._accumulators.quantiles import Quantiles

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
