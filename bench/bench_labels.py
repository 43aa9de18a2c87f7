"""Contingency tables of two label arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from settings import Settings
from workloads import Case, Data
from yardstick import Read

import fastxent as fx

# kind: how the labels come, and how many classes there are
CASES = (
    Case("labels", "int64", (1 << 25,), "random-2"),
    Case("labels", "int64", (1 << 25,), "random-100"),
    Case("labels", "int64", (1 << 25,), "sorted-100"),
    Case("labels", "int64", (1 << 25,), "random-1000"),
    Case("labels", "int32", (1 << 26,), "random-100"),
    Case("labels", "uint8", (1 << 28,), "random-20"),
)
LIBRARIES = ("fastxent", "numpy", "histogram2d", "sklearn")


@lru_cache(maxsize=1)
def _make(case: Case, mb: int) -> Data:
    (n,) = case.scaled(mb)
    order, classes = case.kind.split("-")
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, int(classes), n, case.dtype) for _ in "xy")
    if order == "sorted":
        x.sort()
        y.sort()
    return Data(case, x, y)


@pytest.fixture
def data(case: Case, settings: Settings) -> Data:
    return _make(case, settings.mb)


def _classes(data: Data) -> int:
    return int(data.case.kind.split("-")[1])


def _bincount(data: Data) -> NDArray[np.int64]:
    n = _classes(data)
    return np.bincount(data.x.astype(np.int64) * n + data.labels, minlength=n * n).reshape(n, n)


def _call(library: str, data: Data) -> Callable[[], Any]:
    n = _classes(data)
    if library == "fastxent":
        return lambda: fx.contingency_table(data.x, data.labels)
    if library == "numpy":
        return lambda: _bincount(data)
    if library == "histogram2d":
        return lambda: np.histogram2d(data.x, data.labels, bins=n, range=((0, n), (0, n)))[0]
    cluster = pytest.importorskip("sklearn.metrics.cluster", reason="a peer")
    return lambda: cluster.contingency_matrix(data.x, data.labels)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("library", LIBRARIES)
def test_contingency_table(
    measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings
) -> None:
    if library == "sklearn" and case.dtype == "uint8":
        pytest.skip("sorts the labels: half a minute")
    want = _bincount(data)
    measure(
        "contingency_table",
        _call(library, data),
        error=lambda got: 0.0 if np.array_equal(got, want) else float("inf"),
        limit=0.0,
        nbytes=data.x.nbytes + data.labels.nbytes,
        yardstick=Read(data.x, settings.threads),
    )
