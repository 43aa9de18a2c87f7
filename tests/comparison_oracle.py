"""Two models, and what `compare` must say of them: every number in float64 NumPy, llama.cpp's sums among them."""

import math

import numpy as np
import pytest

INF = math.inf
N, C = 700, 9
PERCENTS = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


def data(seed=0, n=N, c=C):
    """Two models that differ a little, much, and not at all; ties; sure rows; logits of -inf."""
    rng = np.random.default_rng(seed)
    p = rng.normal(0, 3, (n, c)) * rng.choice([0.2, 1], (n, 1))
    q = p + rng.normal(0, 1, (n, c)) * rng.choice([0.0, 0.01, 0.3, 2.0], (n, 1))
    p[::7], q[::7] = np.round(p[::7]), np.round(q[::7])
    p[::11, 2] += 30
    q[::13] -= 1000
    q[::17, 4] = p[::17, 4] = -INF
    labels = np.where(rng.random(n) < 0.5, p.argmax(1), rng.integers(0, c, n))
    labels[labels == 4] = 3
    columns = {
        "groups": rng.integers(-2, 9, n) ** 2,
        "sample_weight": rng.integers(0, 3, n) * rng.random(n),
        "mask": rng.random(n) < 0.9,
    }
    return p, q, labels, columns


def log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def divergence(a, b):
    """sum a log(a / b), of log-probabilities, 0 log 0 = 0."""
    with np.errstate(invalid="ignore"):
        return np.where(np.exp(a) > 0, np.exp(a) * (a - b), 0).sum(1)


def top(x, k):
    return np.argsort(-x, axis=1, kind="stable")[:, :k]


def row_values(p, q, labels=None, topk=(1, 5)):
    """What there is to say of each row, by definition."""
    a, b = log_softmax(p), log_softmax(q)
    middle = np.logaddexp(a, b) - math.log(2)
    out = {
        "kl_mean": divergence(a, b),
        "reverse_kl_mean": divergence(b, a),
        "js_mean": (divergence(a, middle) + divergence(b, middle)) / 2,
        "tv_mean": np.abs(np.exp(a) - np.exp(b)).sum(1) / 2,
        "same_top": p.argmax(1) == q.argmax(1),
        "entropy": divergence(b, np.zeros_like(b)) * -1,
        "entropy_base": divergence(a, np.zeros_like(a)) * -1,
    }
    for k in topk:
        out["ordered", k] = (top(p, k) == top(q, k)).all(1)
        out["set", k] = (np.sort(top(p, k)) == np.sort(top(q, k))).all(1)
    if labels is not None:
        rows = np.arange(len(p))
        out["cross_entropy_base"], out["cross_entropy"] = -a[rows, labels], -b[rows, labels]
        out["accuracy_base"], out["accuracy"] = p.argmax(1) == labels, q.argmax(1) == labels
        out["delta_p_mean"] = np.exp(b[rows, labels]) - np.exp(a[rows, labels])
    return out, np.exp(a.max(1))


def mean_and_error(x, w):
    """Weighted mean and its error; without weights the error is sqrt((E[x^2] - E[x]^2) / (n - 1))."""
    m, mean = np.count_nonzero(w), (w * x).sum() / w.sum()
    return mean, (m / (m - 1) * (w**2 * (x - mean) ** 2).sum()) ** 0.5 / w.sum()


def covariance(x, y, w):
    m = np.count_nonzero(w)
    dx, dy = (v - (w * v).sum() / w.sum() for v in (x, y))
    return m / (m - 1) * (w**2 * dx * dy).sum() / w.sum() ** 2


def check(got, values, confidence, w, labelled):
    n = len(w)
    assert (got.used, got.weight) == (n, pytest.approx(w.sum()))
    for name, x in values.items():
        mean, error = mean_and_error(x, w)
        if isinstance(name, tuple):
            how, k = name
            assert got.topk_agreement[k][how] == pytest.approx(mean, rel=1e-12)
            assert got.topk_agreement[k][f"{how}_stderr"] == pytest.approx(error, rel=1e-9, abs=1e-12)
        else:
            assert getattr(got, name) == pytest.approx(mean, rel=1e-9, abs=1e-12), name
            assert getattr(got, f"{name}_stderr") == pytest.approx(error, rel=1e-9, abs=1e-12), name
    kl = values["kl_mean"]
    want = quantiles(kl, [p for p in PERCENTS if p not in (25, 75)])
    assert got.kl_quantiles == pytest.approx(want, rel=1e-9, abs=1e-13)
    assert (got.kl_min, got.kl_max) == (got.kl_quantiles["min"], got.kl_quantiles["max"])
    assert got.kl_median == got.kl_quantiles["50%"]
    edges = [0, 0.25, 0.5, 0.75, 0.95, 1]
    for bucket, low, high in zip(got.kl_by_confidence, edges, edges[1:], strict=False):
        some = (confidence >= low) & ((confidence < high) | (high == 1))
        assert (bucket.lower, bucket.upper, bucket.count) == (low, high, some.sum())
        if some.any():
            some &= w > 0
            assert some.sum() > 1
            mean, error = mean_and_error(kl[some], w[some])
            assert bucket.kl_mean == pytest.approx(mean, rel=1e-9, abs=1e-13)
            assert bucket.kl_mean_stderr == pytest.approx(error, rel=1e-9, abs=1e-13)
            assert bucket.same_top == pytest.approx(np.average(values["same_top"][some], weights=w[some]))
    if not labelled:
        return
    loss, base, delta = (values[name] for name in ("cross_entropy", "cross_entropy_base", "delta_p_mean"))
    (mean, s), (mean_base, s_base) = mean_and_error(loss, w), mean_and_error(base, w)
    cov = covariance(loss, base, w)
    ratio_error = (s**2 + s_base**2 - 2 * cov) ** 0.5
    ppl, ppl_base = math.exp(mean), math.exp(mean_base)
    rms = (w * delta**2).sum() / w.sum()
    want = {
        "ppl": ppl,
        "ppl_stderr": ppl * s,
        "ppl_base": ppl_base,
        "ppl_base_stderr": ppl_base * s_base,
        "log_ppl_correlation": cov / (s * s_base),
        "log_ppl_ratio": mean - mean_base,
        "log_ppl_ratio_stderr": ratio_error,
        "ppl_ratio": math.exp(mean - mean_base),
        "ppl_ratio_stderr": math.exp(mean - mean_base) * ratio_error,
        "ppl_difference": ppl - ppl_base,
        "ppl_difference_stderr": ((ppl * s) ** 2 + (ppl_base * s_base) ** 2 - 2 * ppl * ppl_base * cov) ** 0.5,
        "delta_p_rms": rms**0.5,
        "delta_p_rms_stderr": 0.5 / rms**0.5 * mean_and_error(delta**2, w)[1],
    }
    for name, x in want.items():
        assert getattr(got, name) == pytest.approx(x, rel=1e-8), name
    assert got.delta_p_quantiles == pytest.approx(quantiles(delta, PERCENTS), abs=1e-13)


def quantiles(x, percents):
    """Linear between the sorted values at fraction (n - 1)."""
    x = np.sort(x)
    out = {"min": x[0], "max": x[-1]}
    for p in percents:
        at = p / 100 * (len(x) - 1)
        low = int(at)
        out[f"{p:g}%"] = x[low] + (at - low) * (x[min(low + 1, len(x) - 1)] - x[low])
    return out


def numbers(result, *left_out):
    return {k: v for k, v in result.to_dict().items() if k not in ("provenance", *left_out)}


def llama(log_p, q, labels, cutoff=-16.0):
    """llama.cpp's sums, in float64: log p as it stands, terms above the cutoff, none normalised."""
    b = log_softmax(q)
    rows = np.arange(len(q))
    with np.errstate(invalid="ignore"):
        kl = np.where(log_p > cutoff, np.exp(log_p) * (log_p - b), 0).sum(1)
    delta = np.exp(b[rows, labels]) - np.exp(log_p[rows, labels])
    return kl, -log_p[rows, labels], -b[rows, labels], delta
