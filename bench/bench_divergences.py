"""KL and Jensen-Shannon divergence of the rows of two arrays, from logits and from probabilities.

The second array is the first with noise of 0.1, as a quantised model's logits differ from its original's: a KL of 5e-3.
`redone`, in the figures' extra_info, is the share of rows that KL from logits reads twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import peers
import peers_divergences
import pytest
import truth
from numpy.typing import NDArray
from settings import Settings
from workloads import HARD, NARROW, WIDE, Case, Data
from yardstick import Read

from fastxent._arrays import as_logits
from fastxent._passes import pairs as _pairs

CASES = (WIDE[0], WIDE[1], WIDE[2], WIDE[3], NARROW[0], NARROW[1], *(c for c in HARD if c.group == "wide"))
# numerics.md, and what is left of it where the values are 16 bits wide or a truth in float64 is all there is
LIMIT = {"float64": 1e-11, "float32": 1e-5, "float16": 1e-5, "bfloat16": 1e-5}


@lru_cache(maxsize=1)
def second(data: Data) -> NDArray[np.generic]:
    """The other model's logits."""
    y = np.empty_like(data.x)
    for i, (rows, block) in enumerate(data.blocks(data.x)):
        noise = np.random.default_rng([3, i]).standard_normal(block.shape, dtype=np.float32)
        y[rows] = (block.astype(np.float64) + 0.1 * noise).astype(y.dtype)
    return y


@lru_cache(maxsize=2)
def shares(data: Data, other: bool) -> NDArray[np.generic]:
    """Softmax of one of the two."""
    x = second(data) if other else data.x
    p = np.empty_like(x)
    for rows, block in data.blocks(x):
        e = np.exp(block.astype(np.float64) - block.max(axis=1, keepdims=True).astype(np.float64))
        p[rows] = (e / e.sum(axis=1, keepdims=True)).astype(p.dtype)
    return p


@lru_cache(maxsize=1)
def row_values(data: Data, operation: str) -> NDArray[np.float64]:
    """In float64, as a sum of terms that are not negative."""
    logits = operation.endswith("logits")
    out = np.empty(len(data.x))
    p_all, q_all = (data.x, second(data)) if logits else (shares(data, False), shares(data, True))
    for rows, block in data.blocks(p_all):
        p, log_p = _distribution(block, logits)
        q, log_q = _distribution(q_all[rows], logits)
        if operation.startswith("kl"):
            out[rows] = _kl(p, log_p, q, log_q)
        else:
            m = (p + q) / 2
            log_m = np.log(np.where(m > 0, m, 1))
            out[rows] = (_kl(p, log_p, m, log_m) + _kl(q, log_q, m, log_m)) / 2
    return out


def _distribution(block: NDArray[np.generic], logits: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = block.astype(np.float64)
    if logits:
        x -= x.max(axis=1, keepdims=True)
        x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
        return np.exp(x), x
    p = x / x.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return p, np.log(p)


def _kl(p: Any, log_p: Any, q: Any, log_q: Any) -> NDArray[np.float64]:
    d = np.where(p > 0, log_p - np.where(q > 0, log_q, 0), 0)
    values: NDArray[np.float64] = np.where(p > 0, p * (np.expm1(-d) + d), q).sum(axis=1)
    return values


def redone(data: Data) -> float:
    """Share of the rows that KL from logits reads twice."""
    p, q = as_logits(data.x), as_logits(second(data))
    values = np.empty((_pairs.block_rows(len(data.x), data.classes), 4))
    return sum(n for _, n in _pairs.run(_pairs.KL, (p, q), 1, values=values)) / len(data.x)


@pytest.mark.parametrize(("case", "library"), peers.pairs(CASES, (*peers.LIBRARIES, "numkong")))
@pytest.mark.parametrize("operation", peers_divergences.OPERATIONS)
def test_divergence(
    measure: Callable[..., None],
    benchmark: Any,
    data: Data,
    case: Case,
    library: str,
    operation: str,
    settings: Settings,
) -> None:
    logits = operation.endswith("logits")
    p, q = (data.x, second(data)) if logits else (shares(data, False), shares(data, True))
    want = row_values(data, operation)
    if library == "fastxent" and operation == "kl_with_logits":
        benchmark.extra_info["redone"] = redone(data)
    # the textbook's sum p (log p - log q) loses a KL of 5e-3 in part: a peer's error is taken at 1
    floor = 1e-6 if library == "fastxent" else 1.0
    measure(
        operation,
        peers_divergences.divergence(operation, library, p, q, settings.threads),
        error=lambda got: truth.worst_relative(peers.as_numpy(got), want, floor),
        limit=LIMIT[case.dtype],
        nbytes=p.nbytes + q.nbytes,
        yardstick=Read(p, settings.threads),
    )

