"""Every public function beside the usual way to write it with NumPy, SciPy or scikit-learn, small arrays included.

The two take turns, and the ratio of their best times counts: above 1 fastxent is faster. `--bench-threads` goes for
fastxent alone, for NumPy and SciPy have one thread here. Results are compared before anything is timed.

Of 10^9 elements (`--bench-mb 4096`, 14 GB of memory) fastxent takes all in one call. The usual way, whose temporary
arrays memory does not hold, takes a tenth of the rows, and its time counts ten times.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from settings import Settings

pytest.importorskip("scipy", reason="the usual way is SciPy's")
pytest.importorskip("sklearn", reason="the usual way is scikit-learn's")
from usual import FUNCTIONS, TABLES, Inputs

# rows, classes; those of more than --bench-mb are left out
SHAPES = ((32, 10), (32, 1000), (1000, 10), (1000, 1000), (100_000, 10), (64, 32768), (1_000_000, 10), (1, 10_000_000),
          (10_000, 10_000), (100_000, 10_000))  # fmt: skip
PART = 100_000_000  # elements that the usual way takes at once
MEMORY = 14 << 30
SECONDS = 0.05  # for each of the two; a run of little data is a smoke test
MOST_CLASSES = dict.fromkeys(TABLES, 1000)
# relative; float32 as the usual way rounds it
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


@lru_cache(maxsize=1)
def _inputs(rows: int, classes: int, dtype: str) -> Inputs:
    return Inputs(rows, classes, dtype)


def _best(call: Callable[[], Any], times: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(times):
        call()
    return (clock() - start) / times


def _available() -> int:
    """Bytes of memory that are to be had; as many as are asked for where nobody says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file)
        return int(found["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError):
        return MEMORY


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_beside_the_usual_way(
    benchmark: Any, name: str, shape: tuple[int, int], dtype: str, settings: Settings
) -> None:
    rows, classes = shape
    if rows * classes * np.dtype(dtype).itemsize > settings.mb << 20 or classes > MOST_CLASSES.get(name, classes):
        pytest.skip("too large")
    data = _inputs(rows, classes, dtype)
    parts = max(1, rows * classes // PART)
    if parts > 1:
        data.forget()
        if _available() < MEMORY:
            pytest.skip("too little memory")
    ours, usual = FUNCTIONS[name](data)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the peers'
        checked = ours
        if parts > 1:
            ours()  # makes what it reads
            checked, usual = FUNCTIONS[name](data.part(rows // parts))
        np.testing.assert_allclose(checked(), usual(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        one = max(_best(usual, 1, time.perf_counter), 1e-7)
        times = max(1, min(1000, int(1e-3 / one)))
        best = [float("inf"), float("inf")]
        spent = 0.0
        while spent < 2 * (SECONDS if settings.mb > 64 else 0.003):
            for i, call in enumerate((ours, usual)):
                took = _best(call, times, settings.clock)
                best[i] = min(best[i], took)
                spent += max(took, 1e-9) * times
        benchmark.extra_info.update(
            function=name, shape=f"{rows}x{classes}", dtype=dtype, usual_over_ours=parts * best[1] / best[0],
            microseconds=best[0] * 1e6, threads=settings.threads, clock=settings.clock.__name__,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            fastxent=settings.version, level=settings.level, cpu=settings.cpu,
        )  # fmt: skip
        benchmark.pedantic(ours, rounds=1)
