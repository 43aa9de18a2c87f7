"""Binary scores: the mean loss of 10^8 logits and labels, against the read bandwidth; sigmoid against the copy."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import peers_elementwise
import pytest
import truth
from numpy.typing import NDArray
from peers import as_numpy
from settings import Settings
from workloads import Case, Data
from yardstick import Copy, Read

# the targets are of the logits' dtype, as PyTorch has them, so both together are twice as large
CASES = (
    Case("binary", "float32", (1 << 27,)),
    Case("binary", "float64", (1 << 26,)),
    Case("binary", "float32", (1 << 27,), "peaked"),
)


@lru_cache(maxsize=1)
def _make(case: Case, mb: int) -> Data:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(case.scaled(mb), dtype=np.dtype(case.dtype).type)
    if case.kind == "peaked":
        x *= 20
    targets = (rng.integers(0, 2, x.shape, dtype=np.int8) > 0).astype(x.dtype)
    return Data(case, x, targets)  # type: ignore[arg-type]


@pytest.fixture
def data(case: Case, settings: Settings) -> Data:
    return _make(case, settings.mb)


def _pieces(data: Data) -> Any:
    for i in range(0, len(data.x), 1 << 20):
        yield slice(i, i + (1 << 20)), data.x[i : i + (1 << 20)].astype(np.float64)


def _mean_loss(data: Data) -> NDArray[np.float64]:
    total = 0.0
    for rows, x in _pieces(data):
        total += float(np.sum(np.maximum(x, 0) - x * data.labels[rows] + np.log1p(np.exp(-np.abs(x)))))
    return np.array([total / len(data.x)])


def _worst_sigmoid(data: Data, got: NDArray[Any]) -> float:
    floor = truth.tiny(data.case.dtype)
    return max(truth.worst_relative(got[rows], 1 / (1 + np.exp(-x)), floor) for rows, x in _pieces(data))


CALLS = [
    pytest.param(case, library, id=f"{case}-{library}")
    for case in CASES
    for library in peers_elementwise.LIBRARIES
    if library == "fastxent" or case.kind == "normal"
]


@pytest.mark.parametrize(("case", "library"), CALLS)
def test_binary(measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings) -> None:
    want = _mean_loss(data)
    measure(
        "binary_cross_entropy_with_logits",
        peers_elementwise.binary(library, data.x, data.labels, settings.threads),
        error=lambda got: truth.worst_relative(as_numpy(got), want, floor=1e-300),
        # of a mean of losses that are float32
        limit=truth.bound(case.dtype, ulps=4),
        nbytes=data.x.nbytes + data.labels.nbytes,
        yardstick=Read(data.x, settings.threads),
    )


@pytest.mark.parametrize(("case", "library"), CALLS)
def test_sigmoid(measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings) -> None:
    out = np.zeros_like(data.x)
    measure(
        "sigmoid",
        peers_elementwise.sigmoid(library, data.x, out, settings.threads),
        error=lambda got: _worst_sigmoid(data, as_numpy(got)),
        limit=truth.bound(case.dtype, ulps=4),
        nbytes=data.x.nbytes + out.nbytes,
        yardstick=Copy(data.x, out, settings.threads),
    )
