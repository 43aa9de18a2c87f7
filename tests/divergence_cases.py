"""Functions that compare two distributions, by name, and what they are called with."""

import math

import numpy as np
from accuracy import agree
from hypothesis import strategies as st
from test_distributions import FLOATS, INTEGERS, numbers, outcome

import fastxent as fx
from fastxent import reference

INF, NAN = math.inf, math.nan
LOGITS = ("kl_divergence_with_logits", "js_divergence_with_logits")
SHARES = ("kl_divergence", "js_divergence")
ALL = ("entropy", "entropy_with_logits", *SHARES, *LOGITS)
logits = st.floats(-50, 50, width=32) | st.sampled_from([-INF, 0.0, 1.0, -100.0])


def both(name, *args, **options):
    found, expected = (outcome(getattr(module, name), *args, **options) for module in (fx, reference))
    span = 0.0
    if len(args) == 2 and np.ndim(found) == np.ndim(expected):
        with np.errstate(all="ignore"):
            gaps = np.abs(np.asarray(args[0], "f8") - np.asarray(args[1], "f8"))
        span = gaps[np.isfinite(gaps)].max(initial=0.0) / options.get("temperature", 1.0)
    agree(found, expected, span=span)


def pair(dtype, shape=(3, 4, 5), spread=0.3):
    """Ordinary, tied and masked logits, the same classes masked in both, and their neighbours."""
    p = numbers(dtype, shape)
    noise = np.random.default_rng(5).normal(0, spread, shape) if dtype in FLOATS else np.zeros(shape)
    q = p.copy() if dtype == "bool" else (p.astype(np.float64) + noise).astype(p.dtype)
    if dtype in INTEGERS:
        q = q[::-1].copy()
    return p, q


def shares(dtype, shape=(3, 4, 5), seed=0):
    """Counts, or probabilities up to scale, of all sizes; the same classes 0 in any two, and some more in the last."""
    rng = np.random.default_rng(seed)
    if dtype in INTEGERS:
        x = rng.integers(0, 2 if dtype == "bool" else 100, shape)
        x[..., -1] = 1
        return x.astype(dtype)
    x = rng.gamma(0.3, size=shape) * (3.0 if dtype == "float16" else 1e3)
    x[..., 0] = x[..., 0] * 100
    x[np.random.default_rng(99).random(shape) < 0.15] = 0.0
    if seed and len(shape) > 1:
        x[-1, ..., -1] = 0.0
    x[..., 1] = 0.75
    return x.astype(dtype)


def arguments(name, dtype="float32", shape=(3, 4, 5)):
    """Arrays to call a function with."""
    arrays = pair(dtype, shape) if name.endswith("logits") else (shares(dtype, shape), shares(dtype, shape, 1))
    return arrays[: 1 if name.startswith("entropy") else 2]
