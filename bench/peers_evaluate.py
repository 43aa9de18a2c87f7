"""A full evaluation as one writes it with each library: mean loss, entropy, Brier score, ranks, calibration.

Each goes through the rows in chunks, for otherwise the intermediate arrays take several times the logits' memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import Call, as_torch, load
from workloads import Data

import fastxent as fx

CHUNK_BYTES = 1 << 25
BINS = 15
# a chunk's sums, in this order; then counts, hits and confidences by bin
NAMES = ("cross_entropy", "entropy", "brier", "confidence", "accuracy", "top5", "mean_rank")


def evaluate(name: str, data: Data, threads: int) -> Call:
    """Gives a dictionary of means, under the names that `fastxent.Evaluation` has."""
    if name == "fastxent":
        return lambda: _of_fastxent(fx.evaluate(data.x, data.labels, axis=1))
    if data.x.ndim > 2:
        pytest.skip(f"no {name} version for classes along another axis than the last")
    if name == "scipy":
        pytest.skip("the numpy version stands for scipy, too")
    module = load(name, threads)
    step = max(1, CHUNK_BYTES // (data.classes * data.x.itemsize))
    if name == "pytorch":
        x, y = as_torch(module, data.x), module.from_numpy(data.labels)
        return lambda: _in_chunks(lambda r: _torch_chunk(module, x[r], y[r]), data, step)
    if name == "jax":
        x, y = module.numpy.asarray(data.x), module.numpy.asarray(data.labels)
        chunk = module.jit(lambda a, b: _array_chunk(module.numpy, a, b))
        return lambda: _in_chunks(lambda r: chunk(x[r], y[r]), data, step)
    return lambda: _in_chunks(lambda r: _array_chunk(np, data.x[r], data.labels[r]), data, step)


def _of_fastxent(result: Any) -> dict[str, float]:
    found = {name: getattr(result, name) for name in NAMES if name not in ("top5", "confidence")}
    confidence = sum(b.count * b.confidence for b in result.reliability if b.count) / max(1, result.used)
    return {**found, "top5": result.topk[5], "confidence": confidence, "ece": result.ece}


def _in_chunks(chunk: Callable[[slice], Any], data: Data, step: int) -> dict[str, float]:
    rows = len(data.x)
    sums, bins = np.zeros(len(NAMES)), np.zeros((3, BINS))
    for row in range(0, rows, step):
        part, by_bin = chunk(slice(row, min(row + step, rows)))
        sums += np.asarray(part, dtype=np.float64)
        bins += np.asarray(by_bin, dtype=np.float64)
    ece = np.abs(bins[1] - bins[2]).sum() / rows
    return {**dict(zip(NAMES, (sums / rows).tolist(), strict=True)), "ece": float(ece)}


def _torch_chunk(torch: Any, z: Any, y: Any) -> tuple[Any, Any]:
    z = z.float() if z.dtype.itemsize == 2 else z
    log_p = torch.log_softmax(z, 1)
    p = log_p.exp()
    own_log_p = log_p.gather(1, y[:, None])
    confidence = p.max(1).values
    rank = (log_p > own_log_p).sum(1)
    sums = (
        -own_log_p.sum(),
        -(p * log_p).sum(),
        ((p * p).sum(1) - 2 * own_log_p.exp().squeeze(1) + 1).sum(),
        confidence.sum(),
        (rank < 1).sum(),
        (rank < 5).sum(),
        rank.sum(),
    )
    where = (confidence * BINS).long().clamp_(max=BINS - 1)
    by_bin = [
        torch.bincount(where, weights=w, minlength=BINS) for w in (torch.ones_like(p[:, 0]), rank < 1, confidence)
    ]
    return [float(s) for s in sums], torch.stack([b.double() for b in by_bin]).numpy()


def _array_chunk(xp: Any, z: Any, y: Any) -> tuple[Any, Any]:
    """NumPy's and JAX's, which have the same names."""
    z = z.astype(xp.float32) if z.dtype.itemsize == 2 else z
    shifted = z - z.max(axis=1, keepdims=True)
    e = xp.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    log_p, p = shifted - xp.log(total), e / total
    own_log_p = xp.take_along_axis(log_p, y[:, None], axis=1)
    confidence = p.max(axis=1)
    rank = (log_p > own_log_p).sum(axis=1)
    sums = (
        -own_log_p.sum(),
        -(p * log_p).sum(),
        ((p * p).sum(axis=1) - 2 * xp.exp(own_log_p[:, 0]) + 1).sum(),
        confidence.sum(),
        (rank < 1).sum(),
        (rank < 5).sum(),
        rank.sum(),
    )
    in_bin = xp.minimum((confidence * BINS).astype(xp.int32), BINS - 1)[:, None] == xp.arange(BINS)
    by_bin = [(in_bin * w[:, None]).sum(axis=0) for w in (xp.ones_like(confidence), rank < 1, confidence)]
    return xp.stack([s.astype(xp.float64) for s in sums]), xp.stack([b.astype(xp.float64) for b in by_bin])
