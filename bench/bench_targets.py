"""Losses against class probabilities, with class weights, smoothing and weights of the rows, and their gradients.

Large arrays stand against the bandwidth of the memory; small ones, which are all overhead, against the peers alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import peers_targets
import pytest
import truth
from numpy.typing import NDArray
from peers import as_numpy, pairs
from peers_targets import LIBRARIES, OPERATIONS, Problem
from settings import Settings
from workloads import HARD, NARROW, STRIDED, WIDE, Case, Data
from yardstick import Read

HARD_ROWS = tuple(c for c in HARD if c.dtype == "float32" and c.kind in ("peaked", "tied", "offset"))
CASES = (WIDE[0], WIDE[2], *NARROW, *STRIDED, *HARD_ROWS)
SMALL = ((32, 10), (32, 1000), (1000, 10), (1000, 100), (2, 19, 50, 50))
ULPS = 6
SECONDS = 0.2  # for each library and small shape


@lru_cache(maxsize=1)
def _problem(data: Data) -> Problem:
    return peers_targets.problem(data.x, data.labels)


def _want(operation: str, given: Problem, rows: slice) -> NDArray[np.float64]:
    """The right answer for some rows, from float64 and NumPy's formulas."""
    weight = given.weight
    x, q, p, sample = (a[rows].astype(np.float64) for a in (given.x, given.q, given.p, given.sample))
    some = Problem(x, q, p, given.labels[rows], weight, sample)
    want: NDArray[np.float64] = peers_targets.call(operation, "numpy", some, 1)()
    return want * (some.labels.size / given.labels.size) if operation.endswith("gradient") else want


def _error(operation: str, given: Problem, got: Any) -> float:
    """Worst error on a few rows of both ends, relative to the loss; a gradient's to the largest entry."""
    result, worst = as_numpy(got), 0.0
    for rows in (slice(0, 64), slice(len(given.x) - 64 if len(given.x) > 64 else 0, None)):
        want = _want(operation, given, rows)
        floor = float(np.abs(want).max()) if operation.endswith("gradient") else 1e-3
        worst = max(worst, truth.worst_relative(result[rows], want, floor))
    return worst


@pytest.mark.parametrize(("case", "library"), pairs(CASES, LIBRARIES))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_target(
    measure: Callable[..., None], data: Data, case: Case, library: str, operation: str, settings: Settings
) -> None:
    given = _problem(data)
    measure(
        f"target_{operation}",
        peers_targets.call(operation, library, given, settings.threads),
        error=lambda got: _error(operation, given, got),
        limit=truth.bound(case.dtype, ULPS),
        nbytes=peers_targets.read_bytes(operation, given),
        yardstick=Read(data.x, settings.threads),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", SMALL, ids=lambda s: "x".join(map(str, s)))
def test_small_target(benchmark: Any, operation: str, shape: tuple[int, ...], settings: Settings) -> None:
    """Each library by turns; the ratios of the peers' best times to ours are written down."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(shape, np.float32)
    given = peers_targets.problem(x, rng.integers(0, shape[1], (shape[0], *shape[2:])))
    calls = {name: peers_targets.call(operation, name, given, settings.threads) for name in LIBRARIES}
    for name, function in calls.items():
        limit = truth.bound("float32", ULPS) if name == "fastxent" else truth.PEER_LIMIT["float32"]
        assert _error(operation, given, function()) <= limit, name
    best = dict.fromkeys(LIBRARIES, float("inf"))
    end = time.perf_counter() + SECONDS * len(LIBRARIES)
    while time.perf_counter() < end:
        for name, function in calls.items():
            start = settings.clock()
            for _ in range(20):
                function()
            best[name] = min(best[name], (settings.clock() - start) / 20)
    ratios = {f"{name}_over_ours": best[name] / best["fastxent"] for name in LIBRARIES[1:]}
    benchmark.extra_info.update(
        function=f"target_{operation}", shape="x".join(map(str, shape)), dtype="float32",
        microseconds=best["fastxent"] * 1e6, threads=settings.threads, **ratios,
    )  # fmt: skip
    benchmark.pedantic(calls["fastxent"], rounds=1)
