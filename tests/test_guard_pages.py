"""Nothing is read or written outside the arrays, whatever stands in the labels, and whoever changes them meanwhile.

Arrays lie between pages that may not be touched (guarded.py), so a read past an end is a fault that ends the process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from calls import CALLS
from child import PACKAGE, run_python

from fastxent import _dispatch

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is written for Linux")
SCRIPT = Path(__file__).with_name("guarded.py")
every_level = pytest.mark.parametrize("level", _dispatch.usable_levels())


def guarded(level: str, *options: object) -> tuple[int, str]:
    """Number of calls that were made, and what was said."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, options)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "FASTXENT_LEVEL": level},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout.split()[0]), done.stdout


@every_level
def test_every_call_between_guards(level):
    cases = 32 * len(CALLS)
    made, said = guarded(level, "--cases", cases, "--seed", 1)
    assert made == cases
    assert int(said.split()[1]) < cases // 8  # most calls are sound


@every_level
def test_rows_of_several_segments(level):
    """65,536 columns a segment; and two threads. Other calls at each level, and slow ones among them."""
    cases = len(CALLS)
    first = 3 * cases * _dispatch.usable_levels().index(level) + 2 * cases
    options = ("--first", first, "--seed", 2, "--threads", 2, "--classes", 65536, 65537)
    assert guarded(level, "--cases", cases, *options)[0] == cases


def test_a_read_past_the_end_is_seen():
    """The guards guard: one element behind an array, or before it, ends the process."""
    for place, end in ((3, True), (-1, False)):
        done = run_python(
            f"""
            import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})
            import ctypes
            import numpy as np
            from guarded import Room, place
            a = place(Room(), np.ones(3, np.float32), "together", {end})
            assert a.sum() == 3
            ctypes.c_float.from_address(a.ctypes.data + 4 * {place}).value
            """
        )
        assert done.returncode < 0, done.stderr


@every_level
def test_arrays_that_another_thread_changes(level):
    """Labels that turn wild, logits that turn NaN, between the look at them and their use: wrong numbers, no fault."""
    done = run_python(
        f"""
        import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})
        import threading, time, warnings
        import numpy as np, fastxent as fx
        from guarded import Room
        warnings.simplefilter("ignore")
        fx.set_num_threads(2)
        rng = np.random.default_rng(0)
        stop, calls = threading.Event(), 0
        for c, n in ((2, 20000), (10, 8000), (300, 300), (4097, 40)):
            rooms = [Room(n * c * 8) for _ in range(4)]
            put = lambda room, values, end: room.view(values.shape, values.dtype, "together", end)[0]
            x, y = (rng.normal(size=(n, c)).astype(np.float32) for _ in "xy")
            p = rng.random((n, c))
            sound = rng.integers(0, c, n)
            wild = np.where(rng.random(n) < 0.5, sound, rng.integers(-(1 << 63), (1 << 63) - 1, n))
            wild[::3] = np.resize([-1, c, 1 << 40, -(1 << 63), (1 << 63) - 1, 1 << 31], wild[::3].size)
            odd = np.where(rng.random((n, c)) < 0.3, np.nan, np.where(rng.random((n, c)) < 0.5, -np.inf, 1e38 * x))
            odd = odd.astype(np.float32)
            X, P = put(rooms[0], x, True), put(rooms[1], p, False)
            L, M = put(rooms[2], sound, True), put(rooms[3], sound, False)
            X[...], P[...], L[...], M[...] = x, p, sound, sound
            stop.clear()
            def scribble():
                while not stop.is_set():
                    for labels, logits, shares in ((wild, odd, -p), (sound, x, p)):
                        np.copyto(L, labels), np.copyto(M, labels), np.copyto(X, logits), np.copyto(P, shares)
                        time.sleep(0)
            thread = threading.Thread(target=scribble); thread.start()
            weight = np.linspace(0, 1, c)
            jobs = [
                lambda: fx.cross_entropy(X, L), lambda: fx.cross_entropy(X, M, invalid="ignore"),
                lambda: fx.cross_entropy(X, L, weight, invalid="ignore", label_smoothing=0.1),
                lambda: fx.cross_entropy(X, M, weight, invalid="ignore", return_grad=True),
                lambda: fx.cross_entropy(X.T, L, axis=0, invalid="ignore"),
                lambda: fx.cross_entropy(P, L, from_logits=False, invalid="ignore"),
                lambda: fx.cross_entropy(X, P), lambda: fx.nll_loss(X, M, weight, invalid="ignore"),
                lambda: fx.logsumexp(X, axis=1), lambda: fx.softmax(X, axis=1), lambda: fx.log_softmax(X.T, axis=0),
                lambda: fx.kl_divergence_with_logits(X, y), lambda: fx.kl_divergence(P, p),
                lambda: fx.entropy(P), lambda: fx.evaluate(X, L), lambda: fx.compare(X, y, M),
                lambda: fx.contingency_table(L, M), lambda: fx.contingency_table(L, M, shape=(c, c)),
                lambda: fx.contingency_table(L, M, shape=(c, c), sparse=True), lambda: fx.mutual_info_score(L, M),
                lambda: fx.binary_cross_entropy(P, p), lambda: fx.sigmoid(X), lambda: fx.log_loss(sound, P),
                lambda: fx.kl_bounds(np.log(p[:, :1]), L[:, None], y), lambda: fx.evaluate(X, sound, groups=L),
            ]
            until = time.monotonic() + 0.4
            while time.monotonic() < until:
                for job in jobs:
                    calls += 1
                    try: job()
                    except (ValueError, IndexError, MemoryError): pass
            stop.set(); thread.join()
        print(calls)
        """,
        FASTXENT_LEVEL=level,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 100  # each of them for each shape
