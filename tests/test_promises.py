"""Promises that go across the modules: flat memory, no read out of bounds, fork, interrupts, floating-point control."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from child import PACKAGE, run_python

import fastxent as fx
from fastxent import _dispatch
from fastxent._kernels import machine


def run(code: str, seconds: float = 60) -> str:
    """Run code in a process of its own; a crash, a hang or an error fails the test."""
    done = run_python(code, seconds=seconds)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_memory_is_flat():
    out = run("""
        import resource
        import numpy as np, fastxent as fx
        x = np.zeros((2048, 32768), np.float32); x += 1.0
        y = np.zeros(2048, np.int64)
        fx.cross_entropy(x[:8], y[:8])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fx.cross_entropy(x, y); fx.logsumexp(x, axis=1); fx.logsumexp(x, axis=0)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """)
    assert float(out) < 16


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_fork_after_use():
    out = run("""
        import os, warnings
        import numpy as np, fastxent as fx
        fx.set_num_threads(4)
        x = np.random.default_rng(0).normal(size=(256, 4096)).astype(np.float32)
        before = fx.logsumexp(x, axis=1)
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            os._exit(0 if (fx.logsumexp(x, axis=1) == before).all() else 3)
        assert os.waitpid(child, 0)[1] == 0
        assert (fx.logsumexp(x, axis=1) == before).all()
        print("ok")
    """)
    assert out.strip() == "ok"


def test_ctrl_c_is_answered_at_once():
    out = run("""
        import os, signal, threading, time
        import numpy as np, fastxent as fx
        x = np.broadcast_to(np.zeros((1, 1 << 16), np.float32), (1 << 24, 1 << 16))  # 4 TB that are not there
        sent = []
        def interrupt():
            time.sleep(0.5); sent.append(time.monotonic()); os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            fx.logsumexp(x, axis=1, out=np.empty(1 << 24, np.float32))
        except KeyboardInterrupt:
            print(time.monotonic() - sent[0])
    """)
    assert float(out) < 1.0  # 0.2 s on a machine that is not shared


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect through ctypes is written for Linux")
@pytest.mark.parametrize("level", _dispatch.usable_levels())
def test_nothing_is_read_outside_the_arrays(level):
    """Arrays that end at, or begin behind, a page that may not be read."""
    run(
        f"""
        import os
        os.environ["FASTXENT_LEVEL"] = {level!r}
        import ctypes, mmap
        import numpy as np, fastxent as fx
        libc = ctypes.CDLL(None, use_errno=True)
        page = mmap.PAGESIZE
        size = 64 * page
        memory = mmap.mmap(-1, size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for edge in (start, start + page + size):
            assert libc.mprotect(ctypes.c_void_p(edge), page, 0) == 0
        raw = np.frombuffer(memory, np.uint8)[page : page + size]
        for dtype in (np.float32, np.float64, np.float16):
            for classes in (*range(1, 36), 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 1025):
                for rows in (1, 3):
                    n = rows * classes * np.dtype(dtype).itemsize
                    for part in (raw[:n], raw[-n:]):
                        x = part.view(dtype)
                        x[:] = 1.0
                        for a, axis in ((x.reshape(rows, classes), 1), (x.reshape(classes, rows), 0)):
                            y = np.full(rows, classes - 1)
                            fx.cross_entropy(a, y, axis=axis)
                            fx.logsumexp(a, axis=axis), fx.softmax(a, axis=axis), fx.log_softmax(a, axis=axis)
                            if axis == 1:
                                fx.Evaluator().update(a, y)
        """,
        120,
    )


def test_labels_that_change_during_a_call_never_crash():
    run("""
        import threading
        import numpy as np, fastxent as fx
        x = np.random.default_rng(0).normal(size=(4096, 100)).astype(np.float32)
        y = np.zeros(4096, np.int64)
        stop = threading.Event()
        def scribble():
            rng = np.random.default_rng(1)
            while not stop.is_set():
                y[:] = rng.integers(-(1 << 62), 1 << 62, 4096); y[::2] = 5
        thread = threading.Thread(target=scribble); thread.start()
        for _ in range(100):
            fx.cross_entropy(x, y, invalid="ignore")
            fx.Evaluator().update(x, y)
            try: fx.cross_entropy(x, y)
            except IndexError: pass
        stop.set(); thread.join()
    """)


@pytest.mark.skipif(machine.swap_fp_control() == 0, reason="no floating-point control word on this machine")
def test_floating_point_control():
    """Subnormals and rounding are the kernels' own; the caller finds his word again."""
    x = np.random.default_rng(0).normal(size=(500, 300)).astype(np.float32)
    x[:, 0] = 1e-40
    y = np.arange(500) % 300
    plain = fx.cross_entropy(x, y, reduction="none"), fx.cross_entropy(x, y), fx.evaluate(x, y).cross_entropy
    before = machine.swap_fp_control()
    for word in (0x9FC0, 0x1F80 | 0x2000, 0x1F80 | 0x6000):  # flush to zero; round down; round towards zero
        machine.swap_fp_control(word)
        try:
            changed = fx.cross_entropy(x, y, reduction="none"), fx.cross_entropy(x, y), fx.evaluate(x, y).cross_entropy
            found = machine.swap_fp_control(word)
        finally:
            machine.swap_fp_control(before)
        assert found & 0xFFC0 == word & 0xFFC0
        assert (changed[0] == plain[0]).all()
        assert changed[2] == plain[2]


LAYERS = {
    "__main__": 1, "cli": 1,
    "dask": 2, "report": 2,
    "_scoring": 3, "bounds": 3, "comparator": 3, "comparison": 3, "comparison_results": 3, "evaluation": 3,
    "evaluator": 3, "results": 3, "temperature": 3,
    "_cross_entropy": 4, "_log_loss": 4, "_reduction": 4, "binary": 4, "distributions": 4, "divergences": 4,
    "elementwise": 4, "labels": 4, "losses": 4,
    "_accumulators": 5, "_arrays": 5, "_counts": 5, "_cpus": 5, "_dispatch": 5, "_exact": 5, "_hints": 5,
    "_passes": 5, "_threads": 5, "_version": 5, "config": 5, "data": 5, "sources": 5,
    "_kernels": 6,
}  # fmt: skip
ROOMS = (".", "cli", "dask", "report", "sources", "_accumulators", "_passes", "_scoring")
# the one arrow up, within a function: evaluate hands a Dask array over to the module that depends on Dask
UP = {("evaluation", "dask"), ("comparison", "dask")}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "fastxent" else [node.module]
        found |= {n.split(".")[1] for n in names if n.startswith("fastxent.")}
    return found


@pytest.mark.parametrize(
    "path",
    sorted(path for room in ROOMS for path in PACKAGE.glob(f"{room}/*.py")),
    ids=lambda p: "-".join(p.relative_to(PACKAGE).with_suffix("").parts),
)
def test_imports_go_one_way(path):
    """The reference, which stands apart, has its own such test in test_reference.py."""
    name = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if name == "__init__":
        return
    assert all(LAYERS[other] >= LAYERS[name] or (name, other) in UP for other in imports(path)), imports(path)


def test_no_flag_that_changes_arithmetic():
    setup = PACKAGE.parent / "setup.py"
    if not setup.exists():
        pytest.skip("the source tree is not here")
    code = "\n".join(line.partition("#")[0] for line in setup.read_text().splitlines())
    assert not re.search(r"fast-math|-Ofast|associative-math|unsafe-math", code)
    assert "-ffp-contract=off" in code
