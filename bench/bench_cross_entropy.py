"""Softmax cross-entropy with integer labels: a loss for each row, and the mean."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
import truth
from settings import Settings
from workloads import CASES, Case, Data
from yardstick import Read


@pytest.mark.parametrize("library", peers.LIBRARIES)
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cross_entropy(
    measure: Callable[..., None], data: Data, case: Case, reduction: str, library: str, settings: Settings
) -> None:
    if reduction == "mean" and library in peers.SINGLE_THREADED:
        pytest.skip("the mean costs these nothing: see 'none'")
    want = truth.row_values(data, settings.threads)["loss"]
    if reduction == "mean":
        want = want.mean(keepdims=True)
    measure(
        "cross_entropy" if reduction == "none" else "cross_entropy, mean",
        peers.cross_entropy(library, data, settings.threads, reduction),
        error=lambda got: truth.worst_relative(peers.as_numpy(got), want, floor=truth.tiny(case.dtype)),
        limit=truth.bound(case.dtype, ulps=4),
        nbytes=data.x.nbytes + data.labels.nbytes,
        yardstick=Read(data.x, settings.threads),
    )
