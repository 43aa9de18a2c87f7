"""Softmax cross-entropy with integer labels: a loss for each row, and the mean."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
import truth
from settings import Settings
from workloads import ALL_CASES, FEW, NARROW, WIDE, Case, Data
from yardstick import Read

ROWS = [("none", *p.values) for p in peers.pairs(ALL_CASES)]
# to the single-threaded ones the mean costs nothing
MEAN = [("mean", *p.values) for p in peers.pairs((WIDE[0], *NARROW), ("fastxent", "pytorch", "jax"))]
# into an array that is there: of two classes a new one is a quarter of what is moved, and its pages are cleared first
OUT = [("out", *p.values) for p in peers.pairs(FEW[-2:], ("fastxent",))]


@pytest.mark.parametrize(("reduction", "case", "library"), ROWS + MEAN + OUT, ids=str)
def test_cross_entropy(
    measure: Callable[..., None], data: Data, case: Case, reduction: str, library: str, settings: Settings
) -> None:
    want = truth.row_values(data, settings.threads)["loss"]
    if reduction == "mean":
        want = want.mean(keepdims=True)
    measure(
        "cross_entropy" if reduction == "none" else f"cross_entropy, {reduction}",
        peers.cross_entropy(library, data, settings.threads, reduction),
        error=lambda got: truth.worst_relative(peers.as_numpy(got), want, floor=truth.tiny(case.dtype)),
        limit=truth.bound(case.dtype, ulps=4),
        nbytes=data.x.nbytes + data.labels.nbytes,
        yardstick=Read(data.x, settings.threads),
    )
