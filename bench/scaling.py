"""Time of cross_entropy against the number of rows and of classes: straight lines, if nothing falls off a cliff.

python bench/scaling.py                # a table, and bench/results/scaling-<cpu>-<level>.json
python bench/scaling.py --seconds 0.05 # for each point and library; 0.2 unless given

Libraries take turns, and the best of all turns counts; a peer whose call takes more than a second is left out from
there on. Losses are float32 with int64 labels, the mean; JAX is left out, for it compiles anew for each shape.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import pytest
import truth
from settings import settings_for
from table import RESULTS, result_path
from workloads import Case, Data

LIBRARIES = ("fastxent", "pytorch", "numba", "numpy")
MOST = 1 << 26  # elements
# rows at a fixed number of classes, and classes at a fixed number of elements
ROWS = [(1 << n, c) for c in (10, 1000) for n in range(0, 24, 2) if (c << n) <= MOST]
CLASSES = [(max(1, n >> i), 1 << i) for n in (1 << 14, 1 << 24) for i in range(1, 25) if 1 << i <= n]
PATIENCE = 1.0  # seconds a call


def _calls(x: Any, labels: Any, threads: int, names: list[str]) -> dict[str, Callable[[], Any]]:
    data = Data(Case("scaling", "float32", x.shape), x, labels)
    calls = {}
    for name in names:
        with contextlib.suppress(pytest.skip.Exception):  # a peer that is not there, or cannot do it
            calls[name] = peers.cross_entropy(name, data, threads, "mean")
    return calls


def measure(shape: tuple[int, int], threads: int, seconds: float, names: list[str]) -> dict[str, float]:
    """Best seconds a call of each library."""
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0])
    calls = _calls(x, labels, threads, names)
    own = np.take_along_axis(x, labels[:, None], 1)[:, 0].astype(np.float64)
    want = float(np.mean(np.log(np.exp(x.astype(np.float64)).sum(axis=1)) - own))
    times = {}
    for name, call in calls.items():
        got = float(np.mean(peers.as_numpy(call())))
        limit = 1e-6 if name == "fastxent" else truth.PEER_LIMIT["float32"]
        # a peer's plain float32 sum of very many terms is off: a point that is not drawn
        if abs(got - want) > limit * max(abs(want), 1e-3):
            if name == "fastxent":
                raise SystemExit(f"{shape}: {got} is not {want}")
            continue
        start = time.perf_counter()
        call()
        times[name] = max(1, min(10000, math.ceil(1e-3 / max(time.perf_counter() - start, 1e-7))))
    best = dict.fromkeys(times, math.inf)
    end = time.perf_counter() + seconds * len(times)
    turns = 0
    while turns < 3 or time.perf_counter() < end:
        for name, n in times.items():
            start = time.perf_counter()
            for _ in range(n):
                calls[name]()
            best[name] = min(best[name], (time.perf_counter() - start) / n)
        turns += 1
        if turns >= 3 and max(best.values()) > PATIENCE:
            break
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/, too")
    options = parser.parse_args()
    settings = settings_for(MOST >> 18, options.threads, None, time.perf_counter)
    peers.set_threads(settings.threads)
    points = []
    for series, shapes in (("rows", ROWS), ("classes", CLASSES)):
        names = list(LIBRARIES)
        fixed = None
        for shape in shapes:
            now = shape[1] if series == "rows" else shape[0] * shape[1]
            if now != fixed:
                names, fixed = list(LIBRARIES), now
            best = measure(shape, settings.threads, options.seconds, names)
            names = [n for n in names if n == "fastxent" or best.get(n, 0) < PATIENCE]
            points.append({"series": series, "fixed": fixed, "rows": shape[0], "classes": shape[1], "seconds": best})
            print(f"{shape[0]:>9} x {shape[1]:<9}", *(f"{n} {s * 1e6:.4g} us" for n, s in best.items()))
    facts = {"fastxent": settings.version, "cpu": settings.cpu, "level": settings.level, "threads": settings.threads}
    if options.save:
        path = result_path(facts, RESULTS)
        path = path.with_name(f"scaling-{path.name}")
        path.write_text(json.dumps({**facts, "points": points}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
