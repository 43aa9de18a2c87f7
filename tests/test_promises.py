"""Promises that go across the modules: flat memory, no read out of bounds, fork, interrupts, floating-point control."""

What may crash, hang or spoil a process runs in one of its own: a `child_*` function below.
"""

import ast
import graphlib
import itertools
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from layouts import STORAGES, Guarded, labels_of, rows_of, same_bits, use_level
from test_levels import assert_same, results

import fastxent as fx
from fastxent import _dispatch, _rows
from fastxent._kernels import machine

HERE = Path(__file__).parent
PACKAGE = Path(fx.__file__).parent
LEVELS = _dispatch.usable_levels()
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the words are those of x86")


def start(child, *arguments) -> subprocess.Popen:
    """Run a function of this file in a fresh Python."""
    path = os.pathsep.join([str(HERE), str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    code = f"import sys, test_promises as t; t.{child.__name__}(*{arguments!r})"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(child, *arguments, timeout: float = 60) -> str:
    """Its output; a crash, an error or a hang fails the test."""
    process = start(child, *arguments)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"{child.__name__}{arguments} hangs: {process.communicate()[1]}")
    assert process.returncode == 0, f"{child.__name__}{arguments} ended with {process.returncode}: {errors}"
    return output


# ---- flat memory ----


def child_memory():
    import resource

    x, labels = np.ones((1 << 16, 1 << 10), np.float32), np.zeros(1 << 16, np.int64)
    cube, cube_labels = x.reshape(64, 1024, 1024), labels.reshape(64, 1024)
    calls = {
        "cross_entropy": lambda: fx.cross_entropy(x, labels),
        "weighted": lambda: fx.cross_entropy(x, labels, np.ones(1 << 10)),
        "strided": lambda: fx.cross_entropy(cube, cube_labels),
        "strided, all at one end": lambda: fx.cross_entropy(cube[:, ::-1], cube_labels),
        "byte-swapped": lambda: fx.cross_entropy(x.view(">f4"), labels),
        "float16": lambda: fx.cross_entropy(x.view(np.float16), labels),
        "bfloat16": lambda: fx.cross_entropy(x.view(np.uint16), labels, logits_dtype="bfloat16"),
        "int16": lambda: fx.cross_entropy(x.view(np.int16), labels),
        "one row": lambda: fx.logsumexp(x),
        "log_softmax, out": lambda: fx.log_softmax(x, axis=1, out=room),
        "Evaluator": lambda: fx.Evaluator().update(x, labels),
        "Evaluator, strided": lambda: fx.Evaluator().update(np.moveaxis(cube, 1, -1), cube_labels),
    }
    room = np.ones_like(x)
    fx.cross_entropy(x[:500], labels[:500])  # the threads and their stacks
    for name, call in calls.items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        call()
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps([name, traced / 2**20, resident / (2**30 if sys.platform == "darwin" else 2**10)]))


@posix
def test_flat_memory():
    found = [json.loads(line) for line in run(child_memory).splitlines()]
    assert len(found) == 12
    assert [line for line in found if max(line[1:]) >= 16] == []


# ---- floating-point control ----

# subnormals flushed; and rounded towards 0; rounded up; rounded down
WORDS = (0x9FC0, 0xFFC0, 0x5F80, 0x3F80)
FLAGS = 0x3F  # say what has happened, and are no setting


def subnormal_cases():
    """Inputs, outputs and sums that flushing or rounding otherwise would change."""
    for storage in STORAGES:
        x = np.concatenate([rows_of(storage, 40), np.full((5, 40), 3e-40 if storage == "f4" else 1e-310).astype(storage)])
        with np.errstate(over="ignore"):
            x[:5, 3] = 95 if storage != "f8" else 715  # losses below the smallest normal number
        yield x, labels_of(x) % 40
    yield np.array([[2**53 + 1, 2**53 + 3, 1]] * 40), np.arange(40) % 3


def child_fp_control():
    cases = [array for x, y in subnormal_cases() for array in ((x, y), (np.asfortranarray(x), y))]
    _rows.SERIAL_ELEMENTS = 0
    with pytest.MonkeyPatch.context() as monkeypatch, fx.num_threads(1):
        expected = {}
        for level in LEVELS:
            use_level(monkeypatch, level)
            expected[level] = [results(x, y) for x, y in cases]
        # new threads of OpenMP take the word over from the one that starts them
        for word, level, threads in itertools.product(WORDS, LEVELS, (2, 3)):
            use_level(monkeypatch, level)
            found = []
            with fx.num_threads(threads):
                machine.pause_openmp()
                for x, y in cases:
                    machine.swap_fp_control(word)
                    found.append(results(x, y))
                    assert machine.swap_fp_control() & ~FLAGS == word
            for i, (one, other) in enumerate(zip(found, expected[level], strict=True)):
                assert_same(one, other, (hex(word), level, i))


@x86
def test_floating_point_control():
    run(child_fp_control)


def child_import(word):
    """Import the package under a word, which its module `machine`, loaded by itself, can set and read."""
    import importlib.util

    for name in [name for name in sys.modules if name.partition(".")[0] == "fastxent"]:
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location("fastxent._kernels.machine", machine.__file__)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    alone.swap_fp_control(word)
    import fastxent

    fastxent.cross_entropy(np.ones((1000, 1000), np.float32), np.zeros(1000, int))
    assert fastxent is not fx
    assert alone.swap_fp_control() & ~FLAGS == word


@x86
@pytest.mark.parametrize("word", [0x1F80, *WORDS], ids=hex)
def test_import_leaves_the_control_word_alone(word):
    run(child_import, word)


# ---- forks ----


def lse(x):
    return fx.logsumexp(x, axis=1)


def fork_once(x, expected) -> int:
    """Exit status of a forked child that computes."""
    child = os.fork()
    if not child:
        os._exit(0 if same_bits(lse(x), expected) else 3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def child_forks():
    x = np.random.default_rng(0).standard_normal((400, 1000), dtype=np.float32)
    fx.set_num_threads(2)
    expected = lse(x)
    statuses = [fork_once(x, expected)]
    threads = [threading.Thread(target=lambda: (lse(x), statuses.append(fork_once(x, expected)))) for _ in range(2)]
    for thread in threads:  # one after the other, then from a child of a child
        thread.start()
        thread.join()
    child = os.fork()
    if not child:
        os._exit(fork_once(x, expected))
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        statuses += [0 if same_bits(y, expected) else 4 for y in pool.map(lse, [x] * 4)]
    assert same_bits(lse(x), expected)
    assert statuses == [0] * 8, statuses


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks():
    run(child_forks, timeout=30)


# ---- Ctrl-C ----


def endless(kind):
    """A call of hours that takes no memory: zero strides stand for 2^40 elements."""
    rng = np.random.default_rng(0)
    x, many, zero = rng.standard_normal((8, 1000), dtype=np.float32), 1 << 27, np.int64(0)
    if kind == "one row":
        return lambda: fx.logsumexp(np.broadcast_to(x, (many, 8, 1000)))
    if kind == "short rows":
        return lambda: fx.cross_entropy(np.broadcast_to(x[0, :2], (many << 9, 2)), np.broadcast_to(zero, many << 9))
    if kind == "strided, out of the ordinary":
        plane = np.full((512, 1 << 14), 1e6, np.float32)
        plane[:, ::2] = np.nan
        y = np.broadcast_to(zero, (many, 1 << 14))
        return lambda: fx.cross_entropy(np.broadcast_to(plane, (many, *plane.shape)), y)
    x = {"float32": x, "far": x + 1e6, "int8": x.astype(np.int8), "byte-swapped": x.astype(">f8")}.get(kind, x)
    x, y = np.broadcast_to(x, (many, *x.shape)), np.broadcast_to(zero, (many, 8))
    if kind == "Evaluator":
        return lambda: fx.Evaluator().update(x, y)
    return lambda: fx.cross_entropy(x, y, axis=-1)


def child_endless(kind):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
    call = endless(kind)
    while True:
        print("ready", flush=True)
        try:
            call()
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)


KINDS = ("float32", "far", "int8", "byte-swapped", "one row", "short rows", "strided, out of the ordinary", "Evaluator")


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_interrupt(kind):
    """Answered within 0.2 s, at best of five: the machine may be busy with something else."""
    process, delays = start(child_endless, kind), []
    with process:
        for _ in range(5):
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
            time.sleep(0.3)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            answer = process.stdout.readline()
            delays.append(float(answer) - sent)
            if delays[-1] < 0.2:
                break
        process.kill()
    assert min(delays) < 0.2, delays
    assert max(delays) < 2.0, delays


# ---- no read out of bounds ----


def child_guard_pages(level):
    logits, targets, weights, outs = (Guarded(1 << 19) for _ in range(4))
    rng = np.random.default_rng(0)
    lengths = [*itertools.product((2,), [*range(1, 71), 255, 257, 511, 513, 2049, 4097])]
    lengths += [*itertools.product([*range(1, 71), 255, 256, 257], (2, 9)), (1, 65537)]
    codes = itertools.cycle(["i1", "u1", "<i2", ">u2", ">i4", "<u4", "<i8", ">u8"])
    done = 0
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_level(monkeypatch, level)
        for storage, (n, c), end in itertools.product(STORAGES, lengths, (True, False)):
            values = rng.standard_normal((n, c)).astype(storage)
            code = np.dtype(next(codes))
            ends = [c - 1, 0, np.iinfo(code).max, np.iinfo(code).min]  # the edges of the row, and far outside
            y = targets.put(np.resize([v % (1 << 63) if v > 0 else v for v in ends], n).astype(code), end)
            w = weights.put(np.ones(c), end)
            wide = np.zeros((n, c), np.float64 if storage == "f8" else np.float32)
            for layout in ("C", "F", "gaps", "backwards"):
                if layout == "C":
                    x, out = logits.put(values, end), outs.put(wide, end)
                elif layout == "F":
                    x, out = logits.put(values.T, end).T, outs.put(wide.T, end).T
                elif layout == "gaps":
                    x, out = logits.put_strided(values, 3, end), outs.put_strided(wide, 2, end)
                else:
                    x, out = (a.put(v, end)[::-1, ::-1] for a, v in ((logits, values), (outs, wide)))
                fx.softmax(x, axis=1, out=out)
                fx.log_softmax(x, axis=1, out=out)
                fx.logsumexp(x, axis=1, out=outs.put(wide[:, 0], end))
                fx.cross_entropy(x, y, w, reduction="none", invalid="ignore", out=outs.put(wide[:, 0], end))
                fx.Evaluator().update(x, y)
                done += 1
    print(done)


@posix
@pytest.mark.parametrize("level", LEVELS)
def test_no_read_outside_the_arrays(level):
    assert int(run(child_guard_pages, level)) > 3000


def child_scribble():
    memory = Guarded(1 << 21)
    rng = np.random.default_rng(0)
    garbage = rng.integers(-(2**63), 2**63 - 1, 1 << 14)
    good = rng.integers(0, 8, 1 << 14)
    stop = threading.Event()
    outcomes = set()
    for shape in ((1 << 14, 8), (3, 70_000)):
        x = memory.put(np.ones(shape, np.float32), True)
        labels = good[: shape[0]].copy()

        def scribble(labels=labels):
            while not stop.is_set():
                for source in (garbage, good):
                    np.copyto(labels, source[: len(labels)])

        writer = threading.Thread(target=scribble)
        writer.start()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            for a, invalid in itertools.product((x, np.moveaxis(x.reshape(shape), 0, 0)[:, ::-1]), ("raise", "ignore")):
                try:
                    fx.cross_entropy(a, labels, np.ones(shape[1]), invalid=invalid)
                    outcomes.add("result")
                except IndexError:
                    outcomes.add("IndexError")
        stop.set()
        writer.join()
        stop.clear()
    print(sorted(outcomes))


@posix
def test_labels_that_change_meanwhile():
    assert run(child_scribble) == "['IndexError', 'result']\n"


# ---- threads ----


def test_limits_of_threadpoolctl_hold():
    with fx.num_threads(4):
        assert fx.get_num_threads() == 4
        with threadpoolctl.threadpool_limits(1):
            assert fx.get_num_threads() == 1
        assert fx.get_num_threads() == 4


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)])
def test_number_of_threads_is_checked(n, error):
    before = fx.get_num_threads()
    for call in (fx.set_num_threads, fx.num_threads(n).__enter__):
        with pytest.raises(error, match="number of threads"):
            call(n) if call is fx.set_num_threads else call()
    assert fx.get_num_threads() == before
