"""Every call with its arrays between pages that nobody may touch; run in a process of its own, which a fault ends.

    python tests/guarded.py [--cases N] [--seed S] [--first I] [--classes C ...] [--threads T] [--write]

The level is the environment's FASTXENT_LEVEL. Inputs are made read-only, and what lies around an `out` is looked at
afterwards. Standard error names each case before it runs, for a fault ends the process; standard output has the number
of calls, of those whose arguments were refused, and which functions refused how many.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import mmap
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent))  # fastxent is built in place and not installed

import numpy as np
from calls import CALLS, STORAGES, Call, Draw
from layouts import Guarded
from numpy.lib.stride_tricks import as_strided

import fastxent as fx

# about the steps of the kernels: lanes, groups, runs, blocks, tiles of rows, column segments
CLASSES = (1, 2, 3, 7, 8, 10, 16, 19, 31, 32, 33, 64, 100, 127, 128, 129, 255, 256, 257, 1000, 4097)
ROWS = (1, 2, 3, 7, 8, 9, 17, 33, 65, 257)
SLOW = ("evaluate", "compare", "fit_temperature", "log_loss")  # they have all that Python does for a report
NAMES = [name for name in CALLS if name not in SLOW] * 4 + [*SLOW, "evaluate", "compare"]
ROOM = 1 << 21
JUNK = 0xA5
LAYOUTS = ("together", "together", "fortran", "gaps", "reversed", "rows reversed", "padded", "zero", "odd", "swapped")


def strides_of(layout: str, shape: tuple[int, ...], size: int) -> list[int]:
    """In bytes, of a layout."""
    order = range(len(shape)) if layout == "fortran" else reversed(range(len(shape)))
    strides, step = [0] * len(shape), 3 * size if layout == "gaps" else size
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
        if layout == "padded":
            step += 5 * size
    if layout == "reversed":
        strides = [-s for s in strides]
    elif layout == "rows reversed" and shape:
        strides[0] = -strides[0]
    elif layout == "zero" and shape:
        strides[0] = 0
    return strides


class Room:
    """Guarded memory for one array at a time."""

    def __init__(self, size: int = ROOM) -> None:
        self.guarded = Guarded(size)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.guarded.memory)) + mmap.PAGESIZE
        self.raw = np.frombuffer(self.guarded.memory, np.uint8, self.guarded.size, mmap.PAGESIZE)

    def protect(self, flags: int) -> None:
        """What may be done to the memory."""
        address, size = ctypes.c_void_p(self.start), ctypes.c_size_t(self.guarded.size)
        assert ctypes.CDLL(None).mprotect(address, size, flags) == 0

    def view(self, shape: tuple[int, ...], dtype: np.dtype, layout: str, end: bool) -> tuple[np.ndarray, np.ndarray]:
        """An array whose outermost byte touches a guard, and the bytes between its first and its last."""
        size = dtype.itemsize
        strides = strides_of(layout, shape, size)
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + size
        if 0 in shape:
            low, high = 0, 0
        off = int(layout == "odd") * (size > 1)  # one byte off the guard, and off any alignment
        first = self.raw.size - (high - low) - off if end else off
        assert first >= 0, (shape, dtype, layout)
        between = self.raw[first : first + high - low]
        origin = self.raw[first - low : first - low + size].view(dtype) if between.size else np.empty(1, dtype)
        return as_strided(origin, shape, strides), between


def place(room: Room, values: np.ndarray, layout: str, end: bool) -> np.ndarray:
    """The values there, read-only."""
    dtype = values.dtype
    if layout == "swapped" and dtype.kind in "iuf" and dtype.itemsize > 1:
        dtype = dtype.newbyteorder()
    room.protect(mmap.PROT_READ | mmap.PROT_WRITE)
    view, between = room.view(values.shape, dtype, layout, end)
    between[...] = JUNK
    if 0 in view.strides and view.size:
        view = view[:1]
        view[...] = values[:1]
        view = as_strided(view, values.shape, (0, *view.strides[1:]))
    else:
        view[...] = values
    room.protect(mmap.PROT_READ)
    view.flags.writeable = False
    return view


class Laid(NamedTuple):
    """A call and where its arrays are to lie: layouts, and whether they end at a guard or begin at one."""

    call: Call
    places: dict[str, tuple[str, bool]]
    out: tuple[str, bool] | None


def lay(call: Call, rng: np.random.Generator) -> Laid:
    """Any layout for each array; a stride of 0 repeats the first of an array's rows."""
    places = {name: (LAYOUTS[rng.integers(len(LAYOUTS))], bool(rng.integers(2))) for name in call.arrays}
    out = (LAYOUTS[rng.integers(7)], bool(rng.integers(2))) if call.out is not None and rng.integers(2) else None
    arrays = {
        name: np.broadcast_to(x[:1], x.shape) if places[name][0] == "zero" and len(x) else x
        for name, x in call.arrays.items()
    }
    return Laid(call._replace(arrays=arrays), places, out)


def run(laid: Laid, rooms: list[Room]) -> Any:
    """What one call gives, or the kind of error."""
    used = iter(rooms)
    arrays = {name: place(next(used), x, *laid.places[name]) for name, x in laid.call.arrays.items()}
    options = dict(laid.call.options)
    if laid.out is not None:
        dtype = next(iter(arrays.values())).dtype
        dtype = np.dtype(np.float64 if dtype.kind in "iub" or dtype.itemsize == 8 else np.float32)
        room = next(used)
        room.protect(mmap.PROT_READ | mmap.PROT_WRITE)
        options["out"], between = room.view(laid.call.out, dtype, *laid.out)
        between[...] = JUNK
        options["out"][...] = 0
        beside = between == JUNK  # no byte of a 0
    try:
        result = getattr(fx, laid.call.name)(**arrays, **options)
    except (ValueError, IndexError, TypeError) as error:
        result = next(kind for kind in (IndexError, TypeError, ValueError) if isinstance(error, kind))
    if laid.out is not None:
        assert (between[beside] == JUNK).all(), "written beside out"
        result = result if isinstance(result, type) else result.copy()
    return result


def drawn(seed: int, case: int, classes: Sequence[int], rows: Sequence[int]) -> Laid:
    """A case, whatever ran before it."""
    rng = np.random.default_rng((seed, case))
    name, dtype = NAMES[case % len(NAMES)], STORAGES[case // len(NAMES) % len(STORAGES)]
    c = int(rng.choice(classes))
    n = min(int(rng.choice(rows)), max(1, ROOM // (160 * c + 256)))
    if name in ("fit_temperature", "kl_bounds", "cross_entropy_bounds"):
        n = min(n, 9)
    return lay(CALLS[name](Draw(rng, dtype, n, c, wild=bool(rng.integers(2)))), rng)


def show(result: Any, file: int) -> None:
    """The bytes of a result, to a file."""
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, (np.ndarray, np.generic, float)):
            os.write(file, np.ascontiguousarray(part).tobytes())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=len(CALLS) * 100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--classes", type=int, nargs="*", default=CLASSES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write all results to the null device (memcheck)")
    args = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    fx.set_num_threads(args.threads)
    rooms, refused, sink = [Room() for _ in range(8)], Counter(), os.open(os.devnull, os.O_WRONLY)
    for case in range(args.first, args.first + args.cases):
        laid = drawn(args.seed, case, args.classes, ROWS)
        shapes = {name: (x.dtype.name, x.shape, *laid.places[name]) for name, x in laid.call.arrays.items()}
        sys.stderr.write(f"case {case}: {laid.call.name} {shapes} {laid.call.options}, out {laid.out}\n")
        result = run(laid, rooms)
        if args.write:
            show(result, sink)
        if isinstance(result, type):
            refused[NAMES[case % len(NAMES)], result.__name__] += 1
    print(args.cases, refused.total(), dict(refused))


if __name__ == "__main__":
    main()
