"""The values of every row of a block of two models' logits: both blocks are read several times, the first from memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import F32, F64, Labels, Logits
from fastxent._counts import exps
from fastxent._passes import pairs as _pairs
from fastxent._passes.rows import STATS, run
from fastxent._passes.topk import agreement, top_columns
from fastxent._scoring.accumulator import NONFINITE, USED
from fastxent._scoring.inputs import decoded

LABEL_CODE = 8 + 16  # int64 (_kernels/labels.pxi)


@dataclass
class Rows:
    """Rows of two models: what became of each, and a column of values for each statistic."""

    status: NDArray[np.uint8]
    value: dict[str, NDArray[np.float64]]
    prediction_base: NDArray[np.int64]
    prediction: NDArray[np.int64]


def compare_rows(
    base: Logits,
    other: Logits,
    labels: NDArray[np.int64] | None,
    *,
    ignore_index: int,
    topk: tuple[int, ...],
    cutoff: float | None,
    log_probs: bool,
    threads: int | None,
) -> Rows:
    """Compare a block.

    Parameters
    ----------
    base, other
        Of shape (n, C), the class axis contiguous.
    labels
        Or None.
    cutoff, log_probs
        Skip KL terms with log p_base <= cutoff; whether the base's values are log p_base as they stand, which are not
        normalised then.
    """
    n, classes = base.array.shape
    sides = []
    status = np.zeros(n, np.uint8)
    for x in (base, other):
        stats = np.empty((n, 8))
        targets = None if labels is None else Labels(labels, LABEL_CODE, ignore_index & 0xFFFFFFFFFFFFFFFF)
        _collect(STATS, x, stats, status, targets, threads)
        sides.append(stats)
    columns = [np.ascontiguousarray(stats.T) for stats in sides]
    (loss_base, lse, p_base, confidence, entropy_base), (loss, _, p, _, entropy) = (c[:5] for c in columns)
    argmax_base, argmax = (c[6].view(np.int64) for c in columns)
    kl, reverse, js, tv = _divergences(15, base, other, threads)
    with np.errstate(invalid="ignore", over="ignore"):
        if cutoff is not None:
            # the kernels normalise; a log-probability as it stands has a log-sum-exp of 0
            offset = np.zeros(n) if log_probs else lse
            kl = _kl_above(base, other, offset, cutoff, threads)
            if log_probs:
                confidence = exps(_picked(base, argmax_base))
                if labels is not None:
                    loss_base = -_picked(base, labels)
                    p_base = exps(-loss_base)
        status[(status == USED) & (np.isnan(kl) | np.isnan(entropy_base) | np.isnan(entropy))] = NONFINITE
        value = {"kl": kl, "reverse_kl": reverse, "js": js, "tv": tv, "entropy": entropy, "entropy_base": entropy_base}
        value["confidence_base"] = confidence
        value["same_top"] = (argmax_base == argmax).astype(np.float64)
        most = min(max(topk, default=0), classes)
        first_base, first = (top_columns(x, most, threads) for x in (base, other))
        for k in topk:
            for how, same in zip(("ordered", "set"), agreement(first_base, first, k), strict=True):
                value[f"{how}{k}"] = same.astype(np.float64)
        if labels is not None:
            delta = p - p_base
            value |= {"loss": loss, "loss_base": loss_base, "delta_p": delta, "delta_p_squared": delta * delta}
            value |= {"p_label": p, "p_label_base": p_base}
            value["accuracy"] = (argmax == labels).astype(np.float64)
            value["accuracy_base"] = (argmax_base == labels).astype(np.float64)
    return Rows(status, value, argmax_base, argmax)


def _collect(
    mode: int,
    x: Logits,
    stats: NDArray[np.float64],
    status: NDArray[np.uint8],
    labels: Labels | None,
    threads: int | None,
) -> None:
    """Row statistics of a block; the larger status of two models' stays."""
    found = np.zeros(len(stats), np.uint8)
    for _ in run(mode, x, 1, labels=labels, stats=stats, status=found, threads=threads):
        pass
    np.maximum(status, found, out=status)


def _divergences(what: int, p: Logits, q: Logits, threads: int | None) -> NDArray[np.float64]:
    """KL, reverse KL, JS and TV of each row, (4, n); those not asked for are NaN."""
    n, classes = p.array.shape
    values, out = np.empty((_pairs.block_rows(n, classes), 4)), np.empty((4, n))
    done = 0
    for count, _ in _pairs.run(what, (p, q), 1, values=values, threads=threads):
        out[:, done : done + count] = values[:count].T
        done += count
    return out


def _kl_above(
    base: Logits, other: Logits, offset: NDArray[np.float64], cutoff: float, threads: int | None
) -> NDArray[np.float64]:
    """KL without the terms of classes with log p_base = x - offset <= cutoff, and without normalising what is left.

    Without these classes the kernel normalises by their mass Z: it gives D = sum p/Z (log p/Z - log q), and the sum
    wanted is Z (D + log Z).
    """
    x = decoded(base)
    masked = np.where(x <= (offset + cutoff)[:, None], -np.inf, x).astype(x.dtype, copy=False)
    left = Logits(masked, F64 if masked.dtype == np.float64 else F32, None)
    stats, status = np.empty((len(x), 8)), np.zeros(len(x), np.uint8)
    _collect(STATS, left, stats, status, None, threads)
    log_mass = stats[:, 1] - offset
    kl = exps(log_mass) * (_divergences(_pairs.KL, left, other, threads)[0] + log_mass)
    # nothing is left: a sum without terms
    kl[(masked == -np.inf).all(axis=1) & ~(x == -np.inf).all(axis=1)] = 0.0
    result: NDArray[np.float64] = kl
    return result


def _picked(x: Logits, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The element of each row at a column; at a column that is none, any."""
    n, classes = x.array.shape
    some = Logits(x.array[np.arange(n), np.clip(columns, 0, classes - 1)], x.kind, x.convert)
    return np.asarray(decoded(some), np.float64)
