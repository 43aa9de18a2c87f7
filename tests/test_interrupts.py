"""Ctrl-C is answered within 0.2 s in every kind of function, and nothing is left behind."""

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from child import PACKAGE
from interrupted import GROUPS

from fastxent.sources import Source, open_logits
from fastxent.sources import base as _base
from fastxent.sources.base import read_ahead

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="open files are counted in /proc")


@linux
@pytest.mark.parametrize("group", GROUPS)
def test_ctrl_c_in_every_function(group, tmp_path):
    script = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, script, group],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in found] == list(GROUPS[group])
    bad = [(name, round(late, 3), wrong) for name, late, wrong in found if wrong or not 0 <= late <= 0.2]
    assert not bad


class Slow(Source):
    """Rows that come one by one, each after a look at whether anybody wants them."""

    name, format = "slow", "npy"
    shape, row_shape, dtype = (10_000,), (), np.dtype(np.uint8)

    def _read(self, start, stop, out):
        for _ in range(stop - start):
            _base.look_up()
            time.sleep(0.01)
        return self.target(stop - start, out)


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "fastxent-read-ahead"]


def test_a_long_read_is_given_up():
    """100 s of it, of which nothing is waited for."""
    blocks = read_ahead([Slow()], [(0, 2), (2, 10_000)], [1])
    next(blocks)
    start = time.monotonic()
    blocks.close()
    assert time.monotonic() - start < 2
    assert not readers()
    _base.look_up()  # of no other thread


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_the_thread_starts(when, monkeypatch):
    """`Thread.start` waits for the thread, and an interrupt may come there: the thread is there, or not."""
    start = threading.Thread.start

    def interrupted(self):
        if when == "after":
            start(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(read_ahead([Slow()], [(0, 2), (2, 10_000)], [1]))
    assert not readers()


def test_a_waiting_reader_is_let_go_at_once(monkeypatch):
    """It waits for room in the queue, for as long as that: the caller who goes makes some."""
    source = Slow()
    monkeypatch.setattr(source, "_read", lambda start, stop, out: source.target(stop - start, out))
    put = queue.Queue.put
    monkeypatch.setattr(queue.Queue, "put", lambda self, item, timeout: put(self, item, timeout=60))
    blocks = read_ahead([source], [(i, i + 1) for i in range(1000)], [1])
    next(blocks)
    time.sleep(0.05)  # the queue is full by now
    start = time.monotonic()
    blocks.close()
    assert time.monotonic() - start < 20
    assert not readers()


@pytest.mark.parametrize("row", [0, 1_500_000])
def test_deflated_rows_far_behind(row, tmp_path):
    """What lies before is decompressed in steps, and again from the start for a row that lies before."""
    np.savez_compressed(tmp_path / "x.npz", np.arange(2_000_000).reshape(-1, 2) % 1000)
    source = open_logits(tmp_path / "x.npz")
    skip = importlib.import_module("fastxent.sources.npz")
    assert skip._SKIP == 1 << 24
    for start in (900_000, row // 2, 900_000):
        want = np.arange(2 * start, 2 * start + 4).reshape(2, 2) % 1000
        np.testing.assert_array_equal(source.read(start, start + 2), want)
