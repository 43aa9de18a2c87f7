"""The right answers, in float64 from the stored values, and how far a result is from them.

Sums run over what is left of a row without its largest term (or without the label's), so that the truth of a confident
row is as good as that of another: Blanchard, Higham, Higham, IMA J. Numer. Anal. 41(4), 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import inf

import numpy as np
from numpy.typing import NDArray
from workloads import Data

# how far a peer may be off before something is wrong with the comparison itself; its error is recorded
PEER_LIMIT = {"float64": 1e-9, "float32": 1e-3, "float16": 5e-2, "bfloat16": 1e-1}


def _over_blocks(data: Data, threads: int, work: Callable[[slice, NDArray[np.float64]], None]) -> None:
    """Call work(rows, values) for all blocks."""

    def one(job: tuple[slice, NDArray[np.generic]]) -> None:
        rows, block = job
        work(rows, np.ascontiguousarray(block.astype(np.float64)))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, data.blocks(data.x)))


@lru_cache(maxsize=1)
def row_values(data: Data, threads: int) -> dict[str, NDArray[np.float64]]:
    """Log-sum-exp and loss of every row."""
    labels = data.labels.reshape(-1)
    out = {name: np.empty(labels.size) for name in ("lse", "loss")}

    def work(rows: slice, x: NDArray[np.float64]) -> None:
        each, label = np.arange(len(x)), labels[rows]
        first = x.argmax(axis=1)
        top, own = x[each, first], x[each, label]
        e = np.exp(x - top[:, None])
        e[each, first] = 0
        rest = e.sum(axis=1)
        out["lse"][rows] = top + np.log1p(rest)
        # the others' sum, without the label's term and with the largest one's
        e[each, first] = 1
        e[each, label] = 0
        out["loss"][rows] = np.log1p(e.sum(axis=1) * np.exp(top - own))

    _over_blocks(data, threads, work)
    return out


@lru_cache(maxsize=1)
def report_rows(data: Data, threads: int) -> dict[str, NDArray[np.float64]]:
    """What an evaluation takes the means of."""
    labels = data.labels.reshape(-1)
    out = {name: np.empty(labels.size) for name in ("entropy", "brier", "rank", "confidence")}

    def work(rows: slice, x: NDArray[np.float64]) -> None:
        each, label = np.arange(len(x)), labels[rows]
        own = x[each, label][:, None]
        first = x.argmax(axis=1)
        e = np.exp(x - x[each, first][:, None])
        e[each, first] = 0
        rest = e.sum(axis=1, keepdims=True)
        e[each, first] = 1
        # -log p of every class; 0 log 0 = 0
        surprisal = np.log1p(rest) + (x[each, first][:, None] - x)
        p = e / (1 + rest)
        out["entropy"][rows] = np.where(p > 0, p * np.where(p > 0, surprisal, 0), 0).sum(axis=1)
        out["confidence"][rows] = p[each, first]
        before = (x == own) & (np.arange(x.shape[1]) < label[:, None])
        out["rank"][rows] = (x > own).sum(axis=1) + before.sum(axis=1)
        # (1 - p_label)^2 from the other terms' sum, for 1 - p is all cancellation in a confident row
        e[each, label] = 0
        others = e.sum(axis=1) / (1 + rest[:, 0])
        p[each, label] = others
        out["brier"][rows] = (p * p).sum(axis=1)

    _over_blocks(data, threads, work)
    return out


def evaluation(data: Data, threads: int) -> dict[str, float]:
    """Means over all rows, under the names that `fastxent.Evaluation` has."""
    rows, report = row_values(data, threads), report_rows(data, threads)
    return {
        "cross_entropy": float(rows["loss"].mean()),
        "entropy": float(report["entropy"].mean()),
        "brier": float(report["brier"].mean()),
        "confidence": float(report["confidence"].mean()),
        "accuracy": float((report["rank"] < 1).mean()),
        "top5": float((report["rank"] < 5).mean()),
        "mean_rank": float(report["rank"].mean()),
    }


def softmax_sample(data: Data) -> list[tuple[int, NDArray[np.float64]]]:
    """The softmax of the first, a middle and the last block of rows, and the block's number."""
    blocks = [block for _, block in data.blocks(data.x)]
    sample = []
    for i in sorted({0, len(blocks) // 2, len(blocks) - 1}):
        x = blocks[i].astype(np.float64)
        e = np.exp(x - x.max(axis=1, keepdims=True))
        sample.append((i, e / e.sum(axis=1, keepdims=True)))
    return sample


def worst_softmax(data: Data, got: NDArray[np.generic], sample: list[tuple[int, NDArray[np.float64]]]) -> float:
    """Largest relative error of entries above the smallest normal number; those below it may be 0."""
    if got.shape != data.x.shape:
        return inf
    blocks = [block for _, block in data.blocks(got)]
    floor = 2 * tiny(data.case.dtype)
    return max(
        max(
            worst_relative(blocks[i][want >= floor], want[want >= floor], floor),
            # 0, or of the size of the smallest number
            inf if (blocks[i][want < floor] > 2 * floor).any() else 0.0,
        )
        for i, want in sample
    )


def worst_evaluation(got: dict[str, float], want: dict[str, float]) -> float:
    """Largest relative error of a mean; shares of rows by their difference."""
    return max(
        worst_relative(np.array(got[name]), np.array(mean), 1.0 if name in ("accuracy", "top5") else 1e-300)
        for name, mean in want.items()
    )


def worst_relative(got: NDArray[np.generic], want: NDArray[np.float64], floor: float) -> float:
    """Largest |got - want| / max(|want|, floor); inf where only one of the two is finite, or they have other shapes."""
    got, want = np.asarray(got).astype(np.float64).reshape(-1), want.reshape(-1)
    if got.shape != want.shape:
        return inf
    with np.errstate(invalid="ignore"):
        error = np.abs(got - want) / np.maximum(np.abs(want), floor)
    error[(got == want) | (np.isnan(got) & np.isnan(want))] = 0
    return float(np.nan_to_num(error, nan=inf, posinf=inf).max(initial=0))


def result_dtype(dtype: str) -> type[np.float64] | type[np.float32]:
    """What fastxent gives for logits of that dtype."""
    return np.float64 if dtype == "float64" else np.float32


def tiny(dtype: str) -> float:
    """The smallest normal number of the result."""
    return float(np.finfo(result_dtype(dtype)).tiny)


def bound(dtype: str, ulps: int) -> float:
    """What `ulps` units in the last place of the result are at most, relative to its value.

    The truth is float64 itself, a plain sum of up to 128,256 terms: a float64 result may differ by more than promised.
    """
    return max(ulps * float(np.finfo(result_dtype(dtype)).eps), 1e-13)
