"""Arrays in every layout, the comparison of bits, levels to switch to: what several test files want and no fixture is.

The idea of one generator of layouts for all tests is bottleneck's (bottleneck/tests/util.py).
"""

import ctypes
import mmap
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastxent import _dispatch
from fastxent._passes.plain import of_level

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STORAGES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16), BFLOAT16)


def storage_ids(dtype: np.dtype) -> str:
    """The name of a parameter."""
    return np.dtype(dtype).name


# ---- levels ----


def use_level(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Put a level's kernels in the place of those in use, in every module of the package that holds them."""
    kernels = _dispatch.load_level(name)
    for module in [m for full, m in sys.modules.items() if full.partition(".")[0] == "fastxent"]:
        if isinstance(getattr(module, "kernels", None), ModuleType):
            monkeypatch.setattr(module, "kernels", kernels)
        if type(getattr(module, "plain", None)).__name__ == "Plain":
            monkeypatch.setattr(module, "plain", of_level(kernels))
    monkeypatch.setattr(_dispatch, "level", name)
    monkeypatch.setattr(_dispatch, "row_format", f"{kernels.row_format}{'' if kernels.fused else '-baseline'}")
    return kernels


def fused_levels() -> tuple[str, ...]:
    """Usable levels with a fused multiply-add: those that owe each other the same bits."""
    return tuple(name for name in _dispatch.usable_levels() if _dispatch.load_level(name).fused)


# ---- bits ----


def bits(x) -> np.ndarray:
    """An array's bits as integers, every NaN the same, -0 unlike 0."""
    x = np.asarray(x)
    plain = np.where(x != x, np.asarray(np.nan, x.dtype), x) if x.dtype.kind in "fV" else x
    return np.ascontiguousarray(plain, plain.dtype.newbyteorder("=")).view(f"u{x.dtype.itemsize}")


def same_bits(a, b) -> bool:
    """Whether two arrays or numbers are the same in dtype, shape and bits, NaN equal to NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and bool((bits(a) == bits(b)).all())


# ---- layouts ----


def _junk(dtype: np.dtype):
    """What fills the gaps: a value that no result can hide."""
    return np.iinfo(dtype).max if dtype.kind in "iu" else True if dtype.kind == "b" else np.nan


def gapped(values: np.ndarray, gaps: tuple[int, ...]) -> np.ndarray:
    """A view whose elements lie `gap` elements apart along each axis (1: side by side), junk between."""
    room = np.full([max(1, n * g) for n, g in zip(values.shape, gaps, strict=True)], _junk(values.dtype), values.dtype)
    view = room[tuple(slice(0, n * g, g) for n, g in zip(values.shape, gaps, strict=True))]
    view[...] = values
    return view


def padded_rows(values: np.ndarray) -> np.ndarray:
    """The last axis contiguous, with junk around every line of it."""
    room = np.full((*values.shape[:-1], values.shape[-1] + 5), _junk(values.dtype), values.dtype)
    room[..., 2:-3] = values
    return room[..., 2:-3]


def unaligned(values: np.ndarray, offset: int = 1) -> np.ndarray:
    """A C-ordered copy that begins `offset` bytes off any alignment."""
    buffer = np.empty(values.nbytes + offset + 64, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    copy = buffer[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def moved_axis(values: np.ndarray) -> np.ndarray:
    """As (N, C, d1, ...) logits with their classes moved to the end, or (C, N) ones."""
    where = 1 if values.ndim > 2 else 0
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, -1, where)), where, -1)


def memory_mapped(values: np.ndarray) -> np.memmap:
    """A read-only memory map, 4 bytes into a file that is gone from its folder already."""
    with tempfile.TemporaryFile() as file:
        file.write(b"head" + values.tobytes() + b"tail")
        file.flush()
        return np.memmap(file, values.dtype, "r", 4, values.shape)


def broadcast(values: np.ndarray) -> np.ndarray | None:
    """A zero-stride view along every axis whose slices are equal; None where there is none."""
    strides = list(values.strides)
    for axis, n in enumerate(values.shape):
        if n and (bits(values) == bits(values.take([0], axis))).all():
            strides[axis] = 0
    return None if 0 not in strides else as_strided(values.copy(), values.shape, strides, writeable=False)


def layouts(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same values in every layout: (name, array). Arrays of one or more axes."""
    values = np.ascontiguousarray(values)
    ndim = values.ndim
    yield "C", values.copy()
    yield "fortran", np.asfortranarray(values)
    yield "moved-axis", moved_axis(values)
    yield (
        "transposed-batch",
        values.transpose(*range(ndim - 1)[::-1], ndim - 1).copy().transpose(*range(ndim - 1)[::-1], ndim - 1),
    )
    reverse = (slice(None, None, -1),) * ndim
    yield "reversed", values[reverse].copy()[reverse]
    yield "reversed-rows", values[(*reverse[1:], slice(None))].copy()[(*reverse[1:], slice(None))]
    yield "every-second", gapped(values, (2,) * ndim)
    yield "every-second-row", gapped(values, (*(2,) * (ndim - 1), 1))
    yield "every-third-class", gapped(values, (*(1,) * (ndim - 1), 3))
    yield "padded-rows", padded_rows(values)
    yield "unaligned", unaligned(values)
    yield "unaligned-fortran", unaligned(np.ascontiguousarray(values.T), 3).T
    if values.dtype.kind in "iuf":  # ml_dtypes has one byte order
        swapped = values.dtype.newbyteorder()
        yield "byte-swapped", values.astype(swapped)
        yield "byte-swapped-fortran", np.asfortranarray(values.astype(swapped))
        yield "byte-swapped-unaligned", unaligned(values.astype(swapped))
    frozen = values.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    if values.size:
        yield "memory-mapped", memory_mapped(values)
        repeated = broadcast(values)
        if repeated is not None:
            yield "broadcast", repeated


def classes_lie_together(array: np.ndarray) -> bool:
    """Whether the last axis is contiguous: the one thing about a layout that may choose another kernel."""
    return array.shape[-1] <= 1 or array.strides[-1] == array.itemsize


# ---- rows ----

POOL = 200  # a long row draws from this many numbers, so that a slow oracle has few exponentials to work out
# about where kernels begin to subtract a reference first, at one level or another (simd.h, FX_FAR_F and FX_FAR_D)
FAR = (256.0, 1024.0, 65536.0, 524288.0, 2.0**30, 2.0**40)


def hard_rows(dtype: np.dtype, c: int) -> Iterator[tuple[str, np.ndarray]]:
    """Rows of c classes of every hard kind, in the working precision."""
    rng = np.random.default_rng(c)
    single = dtype == np.float32
    plain = rng.permutation(np.resize(3 * rng.standard_normal(POOL), c))
    deep = rng.permutation(np.resize(rng.uniform(-85 if single else -690, -36, POOL), c))
    lse = plain.max() + np.log(np.exp(plain - plain.max()).sum())
    odd, late = np.arange(c) % 2 == 1, np.arange(c) >= c // 2
    huge, offset = (3e38, 1e4) if single else (1.7e308, 1e300)

    def put(row: np.ndarray, value: float) -> np.ndarray:
        row = row.copy()
        row[c // 2] = value
        return row

    yield "normal", plain
    yield "uniform distribution", np.full(c, -np.log(c))
    yield "equal", np.zeros(c)
    yield "peaked", put(plain, 30.0)
    yield "tied", np.where(odd, plain.max(), plain)
    yield "half masked", np.where(odd, -np.inf, plain)
    yield "one finite", put(np.full(c, -np.inf), 1.7)
    yield "zero and tiny", put(deep, 0.0)
    yield "zero and tiniest", put(np.full(c, deep.min()), 0.0)
    yield "ramp up", np.sort(deep)
    yield "ramp down", np.sort(deep)[::-1]
    yield "far up", plain + offset
    yield "far down", plain - offset
    yield "both ends", np.where(odd, -huge, huge)
    yield "huge and masked", np.where(odd, -np.inf, huge)
    yield "subnormal", plain.round() * np.finfo(dtype).smallest_subnormal
    yield "one far above", put(plain - 50, 40.0)
    yield "one out of sight above", put(plain - 1000, 40.0)
    # the running reference is raised by more than 32 binades only (rows.pxi, JUMP)
    yield "later half 31.9 binades above", np.where(late, 0.3, -21.8)
    yield "later one 31.9 binades above", put(np.where(late, -90.0, -21.8), 0.3)
    yield "confident, 1e-20", put(plain, lse + 46)
    yield "confident, least", put(plain, lse + (85 if single else 700))
    for far in (sign * limit for limit in FAR for sign in (1, -1)):
        if c <= 4097:
            yield f"about {far}", plain + far
        if c > 1000:  # several blocks (rows.pxi, FX_BLOCK), or column segments
            yield f"halves either side of {far}", np.where(late, 0.5, -0.5) + far
            some = put(np.full(c, -huge), far + 0.5)
            some[-1] = far - 0.5
            yield f"two either side of {far}", some


def special_rows(dtype: np.dtype, c: int) -> np.ndarray:
    """Rows with NaN, infinities and masked classes in many places."""
    rng = np.random.default_rng(c)
    rows = 2 * rng.standard_normal((24, c))
    for row, value in zip(rows, [np.nan, -np.nan, np.inf, -np.inf] * 5, strict=False):
        row[rng.integers(c, size=1 + c // 50)] = value
    rows[18] = -np.inf
    rows[19, rng.integers(c)] = np.inf
    rows[20] = np.where(np.arange(c) < c // 2, -np.inf, rows[20])
    rows[21] = np.where(np.arange(c) < c - 1, -np.inf, rows[21])
    rows[22] *= 1e4
    with np.errstate(over="ignore"):
        return rows.astype(dtype)


def rows_of(storage: np.dtype, c: int) -> np.ndarray:
    """Hard, special and random rows of c classes, as a storage holds them."""
    working = np.dtype(np.float32) if storage.itemsize == 2 else storage
    with np.errstate(over="ignore"):
        hard = np.stack([row for _, row in hard_rows(working, c)]).astype(storage)
    some = 4 if c > 5000 else 2 if c > 1000 else 1
    return np.concatenate([hard[::some], special_rows(storage, c)[::some]])


def labels_of(rows: np.ndarray) -> np.ndarray:
    """The likeliest class, the last, the first, any; some rows are to be ignored."""
    *batch, c = rows.shape
    n = int(np.prod(batch))
    rng = np.random.default_rng(n)
    labels = rng.integers(c, size=n)
    labels[::4] = np.nan_to_num(rows.reshape(n, c)[::4].astype(float), nan=-np.inf).argmax(axis=1)
    labels[1::8] = c - 1
    labels[5::16] = -100
    return labels.reshape(batch)


# ---- memory with an end ----


class Guarded:
    """Memory between two pages that nobody may touch (POSIX): a read or write outside ends the process."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self.memory = mmap.mmap(-1, self.size + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for guard in (start, start + page + self.size):
            if ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                raise OSError("mprotect failed")

    def put(self, values: np.ndarray, end: bool) -> np.ndarray:
        """A C-ordered copy whose last byte lies before the one guard, or whose first lies behind the other."""
        offset = mmap.PAGESIZE + (self.size - values.nbytes if end else 0)
        copy = np.frombuffer(self.memory, values.dtype, values.size, offset).reshape(values.shape)
        copy[...] = values
        return copy

    def put_strided(self, values: np.ndarray, gap: int, end: bool) -> np.ndarray:
        """A copy whose elements lie `gap` apart along the last axis, the first and the last of them at the guards."""
        flat = np.full(max(0, values.size * gap - gap + 1), _junk(values.dtype), values.dtype)
        flat[::gap] = values.ravel()
        flat = self.put(flat, end)
        strides = [gap * s for s in np.empty(values.shape, values.dtype).strides]
        return as_strided(flat, values.shape, strides)
