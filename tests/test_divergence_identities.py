"""Entropy and divergences: accuracy, SciPy's and PyTorch's meaning, the identities that they satisfy."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats
from divergence_cases import INF, LOGITS, SHARES, logits, pair, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import same_bits

import fastxent as fx
from fastxent import reference

# ---- accuracy ----


def hard_pair(kind, spread, dtype, c):
    """Rows and near neighbours, about `spread` apart."""
    rng = np.random.default_rng(c)
    p = rng.normal(0, 3, (4, c))
    if kind == "peaked":
        p[:, c // 2] += 15
    elif kind == "masked":
        p[:, ::3] = -INF
    elif kind == "offset":
        p += 700
    elif kind == "rising":
        p += np.linspace(0, 60, c)
    p = p.astype(dtype)
    q = (p + spread * rng.normal(size=p.shape) + 0.25).astype(dtype)
    return p, q


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("kind", ["normal", "peaked", "masked", "offset", "rising"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_accuracy(name, kind, dtype):
    """The bounds of numerics.md, from a divergence of 1e-16 (float64) or 1e-8 (float32) on."""
    seen = []
    for spread in (3e-8, 1e-6, 3e-4, 0.01, 0.3) if dtype == "float64" else (3e-4, 0.01, 0.3):
        for c in (7, 300):
            p, q = hard_pair(kind, spread, dtype, c)
            if c > 7:  # the reference takes 60 digits of each class: two rows, near ones and others
                if spread not in ((3e-8, 0.3) if dtype == "float64" else (3e-4, 0.3)):
                    continue
                p, q = p[:2], q[:2]
            want = np.asarray(getattr(reference, name)(p, q))
            error = np.abs(getattr(fx, name)(p, q).astype("f8") - want) / want
            if dtype == "float64":
                bound = np.where(want >= 1e-16, 1e-12, np.inf)
            else:
                bound = np.where(want >= 1e-3, 1e-6, np.where(want >= 1e-8, 1e-4, np.inf))
            # beyond the rounding of a - b, which moves log p - log q, the root of twice the divergence, by as much
            with np.errstate(invalid="ignore"):
                lost = np.abs((p.astype("g") - q.astype("g")) - (p - q).astype("g")).astype("f8")
            bound += 3 * np.nan_to_num(lost).max(1) / np.sqrt(want)
            assert (error <= bound).all(), (spread, c, error, want)
            seen += want.tolist()
    assert min(seen) < (1e-14 if dtype == "float64" else 1e-7)
    assert max(seen) > 1e-4


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [3, 20, 33, 300])
def test_one_of_them_sure_of_what_the_other_is_not(name, dtype, c):
    """Far apart: what is left of sums that nearly cancel must not be all that the divergence has."""
    rng = np.random.default_rng(c)
    for peak in (4.0, 8.0, 14.0) if c < 100 else (8.0,):
        p = (rng.normal(size=(4, c)) * [[0], [1], [0], [1]]).astype(dtype)
        q = (rng.normal(size=(4, c)) * [[0], [0], [1], [1]]).astype(dtype)
        q[np.arange(4), rng.integers(0, c, 4)] += peak
        for a, b in ((p, q), (q, p)):
            want = np.asarray(getattr(reference, name)(a, b))
            error = np.abs(getattr(fx, name)(a, b).astype("f8") - want) / want
            assert (error <= (1e-12 if dtype == "float64" else 1e-6)).all(), (peak, error.max())


# ---- the meaning that SciPy and PyTorch have ----


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 1e-5)])
def test_scipys(dtype, rtol):
    p, q = (np.random.default_rng(i).normal(0, 2, (20, 30)).astype(dtype) for i in (1, 2))
    a, b = (scipy.special.softmax(x.astype(np.float64), axis=1) for x in (p, q))
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q), scipy.special.rel_entr(a, b).sum(1), rtol)
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q, base=2), scipy.stats.entropy(a, b, 2, axis=1), rtol)
    js = scipy.spatial.distance.jensenshannon(a, b, base=2, axis=1) ** 2
    np.testing.assert_allclose(fx.js_divergence_with_logits(p, q, base=2), js, rtol)
    np.testing.assert_allclose(fx.entropy_with_logits(p, base=10), scipy.stats.entropy(a, base=10, axis=1), rtol)
    np.testing.assert_allclose(fx.entropy(7 * a, base=10), scipy.stats.entropy(7 * a, base=10, axis=1), 1e-12)
    np.testing.assert_allclose(fx.kl_divergence(3 * a, b, base=2), scipy.stats.entropy(3 * a, b, 2, axis=1), 1e-12)
    np.testing.assert_allclose(fx.js_divergence(a, 5 * b, base=2), js, 1e-11)


def test_torchs():
    torch = pytest.importorskip("torch")
    p, q = (torch.tensor(x) for x in pair("float64", (9, 40)))
    log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
    p, q = p.masked_fill(p == -INF, -5.0), q.masked_fill(q == -INF, -5.0)
    log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
    want = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    np.testing.assert_allclose(fx.kl_divergence_with_logits(p, q), want, 1e-9)
    mean = torch.nn.functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    assert fx.kl_divergence_with_logits(p, q, reduction="batchmean") == pytest.approx(float(mean), rel=1e-9)
    half = [x.to(torch.bfloat16) for x in (p, q)]
    both_ways = fx.kl_divergence_with_logits(*half), fx.kl_divergence_with_logits(*(x.float() for x in half))
    assert same_bits(*both_ways)


# ---- identities ----


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_identities(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    p, q = (data.draw(hnp.arrays(dtype, shape, elements=logits)) for _ in "pq")
    single = dtype == np.float32
    kl, js = fx.kl_divergence_with_logits(p, q), fx.js_divergence_with_logits(p, q)
    assert same_bits(js, fx.js_divergence_with_logits(q, p))
    sound = ~np.isnan(kl)
    assert (sound == ~np.isnan(js)).all()
    assert (kl[sound] >= 0).all()
    assert (js[sound] >= 0).all()
    assert (js[sound] <= math.log(2)).all()
    assert (fx.js_divergence_with_logits(p, q, base=2)[sound] <= 1).all()
    for same in (fx.kl_divergence_with_logits(p, p), fx.js_divergence_with_logits(q, q)):
        assert (same[~np.isnan(same)] == 0).all()
    # H(X) <= log |A|
    entropy = fx.entropy_with_logits(p)[sound]
    assert (entropy >= 0).all()
    assert (entropy <= math.log(shape[1]) * (1 + (1e-6 if single else 1e-15))).all()
    # H(P, Q) = H(P) + KL(P||Q)
    a, log_q = scipy.special.softmax(p[sound].astype("f8"), axis=1), fx.log_softmax(q[sound].astype("f8"), axis=1)
    cross = np.where(a > 0, -a * np.where(a > 0, log_q, 0.0), 0.0).sum(1)
    rtol, atol = (2e-6, 1e-12) if single else (1e-12, 1e-15)  # of log_softmax
    np.testing.assert_allclose(cross, entropy.astype("f8") + kl[sound], rtol, atol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_only_for_equal_rows(dtype):
    x = np.random.default_rng(0).normal(0, 3, (50, 17)).astype(dtype)
    y = x.copy()
    y[:, 3] = np.nextafter(y[:, 3], np.inf, dtype=dtype)
    for name in LOGITS:
        assert (getattr(fx, name)(x, x) == 0).all()
        assert (getattr(fx, name)(x, y) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_are_the_softmax_of_their_logarithms(dtype):
    p, q = shares(dtype, (40, 60)), shares(dtype, (40, 60), 1)
    with np.errstate(divide="ignore"):
        a, b = np.log(p.astype("f8")), np.log(q.astype("f8"))
    rtol = 1e-6 if dtype == "float32" else 1e-12
    for name in SHARES:
        np.testing.assert_allclose(getattr(fx, name)(p, q), getattr(fx, f"{name}_with_logits")(a, b), rtol)
    np.testing.assert_allclose(fx.entropy(p), fx.entropy_with_logits(a), rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scale_is_of_no_consequence(dtype):
    """A power of two changes no bit, another factor the last."""
    p, q = shares(dtype, (40, 60)), shares(dtype, (40, 60), 1)
    for name in SHARES:
        found = getattr(fx, name)(p, q)
        assert same_bits(getattr(fx, name)(p * p.dtype.type(2**20), q * q.dtype.type(0.25)), found)
        assert (getattr(fx, name)(p, p) == 0).all()
        assert (getattr(fx, name)(p, p * p.dtype.type(8)) == 0).all()
        np.testing.assert_allclose(getattr(fx, name)(p * p.dtype.type(3), q), found, 1e-6)


def test_disjoint_distributions():
    p, q = np.array([1.0, 2.0, -INF, -INF]), np.array([-INF, -INF, 0.5, 3.0])
    for dtype in (np.float32, np.float64):
        a, b = p.astype(dtype), q.astype(dtype)
        assert fx.kl_divergence_with_logits(a, b) == INF
        js = fx.js_divergence_with_logits(a, b)
        assert js <= math.log(2)
        assert js == pytest.approx(math.log(2), rel=1e-7)
        assert fx.js_divergence_with_logits(a, b, base=2) == pytest.approx(1, rel=1e-7)


def test_one_hot_cross_entropy_is_kl():
    x = np.random.default_rng(3).normal(0, 4, (30, 12))
    labels = np.arange(30) % 12
    hot = np.where(np.eye(12)[labels] > 0, 0.0, -INF)
    np.testing.assert_allclose(
        fx.kl_divergence_with_logits(hot, x), fx.cross_entropy(x, labels, reduction="none"), 1e-13, 0
    )
    assert (fx.entropy_with_logits(hot) == 0).all()
