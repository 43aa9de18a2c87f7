"""The bandwidth that everything is measured against, and how: yardstick and function by turns, the best of each.

RB, the read bandwidth, is a plain vectorised sum with software prefetch over the very bytes that are measured. For
outputs as large as the input the yardstick is a copy: NumPy's copyto, a memcpy in slices, one slice a thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._dispatch import kernels

# OpenMP's threads, ours and the peers', wait spinning after a parallel region: let them go to sleep
CALM_SECONDS = 0.003
# a call that takes longer is measured thrice only
SLOW_SECONDS = 0.7
SLOW_ROUNDS = 3


def _as_bytes(a: NDArray[np.generic]) -> NDArray[np.uint8]:
    return a.reshape(-1).view(np.uint8)


class Read:
    """Reads an array as a plain sum does, with the kernels' own `read_all`."""

    name = "read"

    def __init__(self, a: NDArray[np.generic], threads: int) -> None:
        flat = _as_bytes(a)
        self._words = flat[: flat.size // 4 * 4].view(np.float32)
        self._threads = threads
        # read_all takes whole pieces of 2^18 floats
        self.nbytes = self._words.size // (1 << 18) * (1 << 20)
        if not self.nbytes:
            raise ValueError(f"{a.nbytes} bytes are too few to measure a bandwidth")

    def run(self) -> None:
        kernels.read_all(self._words, self._threads)


class Copy:
    """Copies the bytes of one array over those of another, which is at least as large; counts them read and written."""

    name = "copy"

    def __init__(self, source: NDArray[np.generic], target: NDArray[np.generic], threads: int) -> None:
        a, b = _as_bytes(source), _as_bytes(target)[: source.nbytes]
        step = -(-a.size // threads)
        self._slices = [(b[i : i + step], a[i : i + step]) for i in range(0, a.size, step)]
        self._pool = ThreadPoolExecutor(threads)
        self.nbytes = 2 * a.size

    def run(self) -> None:
        list(self._pool.map(np.copyto, *zip(*self._slices, strict=True)))


def rounds_for(first_seconds: float, rounds: int) -> int:
    """How often to measure a function whose first call took that long."""
    return rounds if first_seconds < SLOW_SECONDS else min(rounds, SLOW_ROUNDS)


def alternate(
    benchmark: Any,
    function: Callable[[], Any],
    yardstick: Read | Copy,
    nbytes: int,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Run yardstick and function by turns under pytest-benchmark; bandwidths from the best of each, and their ratio.

    `clock` is the one that pytest-benchmark uses.
    """
    best = float("inf")
    held: list[Any] = []

    def before() -> None:
        nonlocal best
        time.sleep(CALM_SECONDS)
        start = clock()
        yardstick.run()
        best = min(best, clock() - start)
        time.sleep(CALM_SECONDS)

    def after() -> None:
        held.clear()  # freeing the result is not part of the measured time, and no two results are alive at once

    benchmark.pedantic(lambda: held.append(function()), setup=before, teardown=after, rounds=rounds, iterations=1)
    held.clear()
    if benchmark.disabled:
        return {}
    speed, yard = nbytes / benchmark.stats.stats.min, yardstick.nbytes / best
    return {
        "gb_per_s": speed / 1e9,
        "rb_gb_per_s": yard / 1e9,
        "fraction": speed / yard,
        "yardstick": yardstick.name,
        "rounds": rounds,
    }


class PeakMemory:
    """Growth of the resident memory to its peak, in MB; None where the system does not tell (Linux only).

    Native allocations are seen, too, which tracemalloc does not see.
    """

    def __enter__(self) -> PeakMemory:
        self.extra: float | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
            self._before = self._status("VmRSS")
        except OSError:
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            self.extra = max(0.0, (self._status("VmHWM") - self._before) / 1024)

    @staticmethod
    def _status(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found is None:
            raise OSError(f"no {name} in /proc/self/status")
        return int(found[1])
