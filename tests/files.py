"""What the tests of the file formats share: reading in pieces, damage, limits on memory."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from child import run_python

from fastxent.sources import FormatError, Source, open_logits


def rows_of(source: Source, step: int) -> np.ndarray:
    """All rows, read in pieces of `step` into one buffer."""
    buffer = np.empty(step * source.row_bytes, np.uint8)
    pieces = [source.read(i, min(i + step, source.rows), buffer).copy() for i in range(0, source.rows, step)]
    return np.concatenate(pieces) if pieces else source.read(0, 0, buffer)


def check(source: Source, want: np.ndarray) -> None:
    """The source gives these rows, whatever the pieces and their order, again after it was closed."""
    flat = want.reshape(-1, *source.row_shape)
    assert source.shape == want.shape
    assert source.rows == len(flat)
    for step in (1, 3, 1000):
        got = rows_of(source, step)
        assert got.astype(want.dtype).tobytes() == np.ascontiguousarray(flat).tobytes()
    source.close()
    for start in reversed(range(0, len(flat), 5)):
        got = source.read(start, min(start + 7, len(flat)))
        assert got.dtype == source.dtype
        assert not source.row_shape or got.strides[1] == got.itemsize or got.shape[1] <= 1
        assert got.astype(want.dtype).tobytes() == np.ascontiguousarray(flat[start : start + 7]).tobytes()
    for start, stop in ((-1, 0), (0, len(flat) + 1), (1, 0)):
        with pytest.raises(IndexError, match="rows"):
            source.read(start, stop)
    source.close()


def damage(path: Path, cases: int, head: int, most: int = 1 << 26, **options) -> int:
    """Flip bytes of a file, the first `head` ones mostly, and cut it; gives how many could still be read.

    Nothing but a FormatError may come of it, in one line that names the file, and no more than `most` bytes of memory.
    """
    whole, chance, fine = path.read_bytes(), random.Random(cases), 0
    tracemalloc.start()
    for _ in range(cases):
        raw = bytearray(whole)
        for _ in range(chance.randint(0, 3)):
            place = chance.randrange(min(head, len(raw)) if chance.random() < 0.8 else len(raw))
            flipped = raw[place] ^ 1 << chance.randrange(8)
            raw[place] = chance.choice((0, 1, 127, 128, 255, flipped, chance.randrange(256)))
        if chance.random() < 0.3:
            del raw[chance.randrange(len(raw)) :]
        path.write_bytes(raw)
        said = ""
        try:
            source = open_logits(path, **options)
            with contextlib.closing(source):
                if source.rows * source.row_bytes < 1 << 20:
                    rows_of(source, 1 + source.rows // 2)
            fine += 1
        except FormatError as error:
            said = str(error)
        assert not said or (str(path) in said and "\n" not in said)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    path.write_bytes(whole)
    assert peak < most
    return fine


def growth(path: Path, options: str = "") -> float:
    """Megabytes by which reading all of a file grows a process."""
    done = run_python(f"""
        import resource
        import numpy as np, fastxent as fx
        source = fx.open_logits({str(path)!r}, {options})
        source.read(0, min(2, source.rows))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert sum(len(block) for block in source.blocks()) == source.rows
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


def refused(write: Callable[[], object], path: Path, match: str, **options) -> None:
    """What `write` makes is refused, in one line."""
    write()
    with pytest.raises(FormatError, match=match) as caught:
        rows_of(open_logits(path, **options), 100)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
