"""Bounds from the k largest probabilities: against every P that fits, and against what attains them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def known(p, k):
    """What an API says of a distribution."""
    classes = np.argsort(-p, kind="stable")[:k]
    return np.log(p[classes]), classes


def kl(p, q):
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum(-1)


def fitting(p, k, rng, n):
    """Distributions with the same k largest probabilities: others at random, and all corners."""
    classes = known(p, k)[1]
    others = np.setdiff1d(np.arange(p.size), classes)
    mass, limit = p[others].sum(), p[classes].min()
    rows = []
    for _ in range(n):
        share = rng.dirichlet(np.full(others.size, rng.choice([0.1, 1, 10]))) * mass
        if share.max(initial=0) <= limit:
            rows.append(share)
    for order in itertools.permutations(range(others.size)):
        share, left = np.zeros(others.size), mass
        for j in order:
            share[j] = min(limit, left)
            left -= share[j]
        rows.append(share)
    out = np.tile(p, (len(rows), 1))
    out[:, others] = rows
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 7), st.sampled_from([0.1, 1, 4]))
def test_every_fitting_distribution_lies_between(seed, c, k, scale):
    rng = np.random.default_rng(seed)
    k = min(k, c)
    p, q = softmax(rng.normal(0, scale, c)), softmax(rng.normal(0, 2, c))
    log_p, classes = known(p, k)
    rows = fitting(p, k, rng, 300)
    for bounds, values in (
        (fx.kl_bounds(log_p, classes, np.log(q)), kl(rows, q)),
        (fx.cross_entropy_bounds(log_p, classes, np.log(q)), -(rows * np.log(q)).sum(1)),
    ):
        assert bounds.lower <= values.min() + 1e-12
        assert bounds.upper == pytest.approx(values.max(), rel=1e-9, abs=1e-12)  # a corner
    assert fx.cross_entropy_bounds(log_p, classes, np.log(q)).lower == pytest.approx(
        (rows * -np.log(q)).sum(1).min(), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_lower_bound_of_kl_is_attained(seed):
    """By a general optimiser's minimum."""
    rng = np.random.default_rng(seed)
    p, q = softmax(rng.normal(0, 0.4, 7)), softmax(rng.normal(0, 2, 7))
    log_p, classes = known(p, 3)
    others = np.setdiff1d(np.arange(7), classes)
    limit, mass = p[classes].min(), p[others].sum()

    def f(share):
        return (share * np.log(share / q[others])).sum()

    found = minimize(
        f, np.full(4, mass / 4), method="SLSQP", bounds=[(1e-12, limit)] * 4, tol=1e-13,
        constraints={"type": "eq", "fun": lambda share: share.sum() - mass},
    )  # fmt: skip
    head = (p[classes] * np.log(p[classes] / q[classes])).sum()
    assert fx.kl_bounds(log_p, classes, np.log(q)).lower == pytest.approx(max(0, head + found.fun), abs=2e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 6))
def test_the_reference(seed, c, k):
    rng = np.random.default_rng(seed)
    p, logits = softmax(rng.normal(0, rng.choice([0.1, 2]), c)), rng.normal(0, 2, c)
    log_p, classes = known(p, min(k, c))
    for name in ("kl_bounds", "cross_entropy_bounds"):
        want = getattr(reference, name)(log_p.tolist(), classes.tolist(), logits.tolist())
        assert tuple(getattr(fx, name)(log_p, classes, logits)) == pytest.approx(want, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("name", ["kl_bounds", "cross_entropy_bounds"])
def test_arrays_and_special_values_are_the_references(name):
    rng = np.random.default_rng(0)
    p, logits = softmax(rng.normal(0, 1, (2, 3, 6))), rng.normal(0, 2, (2, 3, 6))
    classes = np.argsort(-p, axis=-1)[..., :3]
    log_p = np.log(np.take_along_axis(p, classes, -1))
    classes[0, 1, 2] = -1  # nothing is known of the third
    logits[1, 0, classes[1, 0, 0]], logits[1, 1, 4], logits[0, 2] = -INF, NAN, -INF
    logits[1, 2, np.setdiff1d(range(6), classes[1, 2])[0]] = -INF
    got, want = (np.array(getattr(module, name)(log_p, classes, logits)) for module in (fx, reference))
    assert got == pytest.approx(want, rel=1e-10, nan_ok=True)
    assert np.isnan(got).sum() == 4
    assert np.isinf(got).sum() == 3


def test_the_references_of_q_far_apart():
    """What is left goes to the class that Q holds for nearly sure: the sum can be written down."""
    log_p, q = math.log(0.53), [-93.0, 38.0, 50.0, -33.0]
    want = 0.53 * (log_p + 83.0) + 0.47 * math.log(0.47)
    for bounds in (fx.kl_bounds, reference.kl_bounds):
        assert bounds([[log_p]], [[3]], [q])[0][0] == pytest.approx(want, rel=1e-6)


def test_identities():
    rng = np.random.default_rng(0)
    p, logits = softmax(rng.normal(0, 2, (4, 5, 30))), rng.normal(0, 2, (4, 5, 30)).astype(np.float32)
    classes = np.argsort(-p, axis=-1)
    log_p = np.log(np.take_along_axis(p, classes, -1))
    whole = fx.kl_bounds(log_p, classes, logits)
    assert whole.lower.shape == (4, 5)
    assert whole.lower == pytest.approx(whole.upper, abs=1e-12)
    assert whole.lower == pytest.approx(fx.kl_divergence_with_logits(np.log(p), logits.astype(np.float64)), abs=1e-12)
    wider = whole
    for k in (29, 20, 10, 3, 1):
        bounds = fx.kl_bounds(log_p[..., :k], classes[..., :k], logits)
        assert (bounds.lower <= wider.lower + 1e-12).all()
        assert (bounds.upper >= wider.upper - 1e-12).all()
        wider = bounds
        mixed = rng.permutation(k)
        again = fx.kl_bounds(log_p[..., :k][..., mixed], classes[..., :k][..., mixed].astype(np.uint16), logits)
        assert again.lower == pytest.approx(bounds.lower)
    # an empty place says nothing
    ends = [(0, 0), (0, 0), (0, 2)]
    padded = [np.pad(x[..., :3], ends, constant_values=-1) for x in (log_p, classes)]
    assert (fx.kl_bounds(*padded, logits).upper == fx.kl_bounds(log_p[..., :3], classes[..., :3], logits).upper).all()


def test_special_values():
    logits = np.array([[0.0, 0.0, -INF], [0.0, NAN, 0.0], [-INF, -INF, -INF]])
    log_p, classes = np.log(np.full((3, 1), 0.5)), np.zeros((3, 1), int)
    lower, upper = fx.kl_bounds(log_p, classes, logits)
    assert (lower[0], upper[0]) == (0, INF)  # the rest may lie on the class that Q rules out, or not
    assert np.isnan([lower[1:], upper[1:]]).all()
    assert fx.kl_bounds([0.0], [1], [5.0, 5.0]).upper == pytest.approx(math.log(2))
    # rounded by who sent them
    assert fx.kl_bounds(np.log([0.5001, 0.5001]), [0, 1], [0.0, 0.0]).lower == pytest.approx(0, abs=1e-3)
    assert fx.kl_bounds(np.log([0.4999]), [0], [0.0, 0.0]).upper < 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0.0], [2], [0.0, 0.0]), ValueError, "row 0 are"),
        (([-1.0, -1.0], [1, 1], [0.0, 0.0, 1.0]), ValueError, "twice"),
        (([[-1.0], [0.1]], [[0], [0]], np.zeros((2, 3))), ValueError, "row 1 sum to"),
        (([-3.0], [0], [0.0, 0.0]), ValueError, "leave 0.95"),
        (([NAN], [0], [0.0, 0.0]), ValueError, "row 0"),
        (([-1.0], [[0]], [0.0, 0.0]), ValueError, "do not fit"),
        (([-1.0], [0], np.zeros((2, 2))), ValueError, "do not fit"),
        (([-1.0], [0.0], [0.0, 0.0]), TypeError, "topk_indices"),
        (([1], [0], [0.0, 0.0]), TypeError, "topk_log_probs"),
        ((np.empty(0), np.empty(0, int), [0.0]), ValueError, "at least 1"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    for function in (fx.kl_bounds, fx.cross_entropy_bounds):
        with pytest.raises(error, match=words):
            function(*arguments)
    if error is ValueError:
        with pytest.raises(error):
            reference.kl_bounds(*arguments)
