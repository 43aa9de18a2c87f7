"""Arrays in every layout, the comparison of bits, levels to switch to: what several test files want and no fixture is.

The idea of one generator of layouts for all tests is bottleneck's (bottleneck/tests/util.py).
"""

import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastxent import _dispatch

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
    yield "transposed-batch", values.transpose(*range(ndim - 1)[::-1], ndim - 1).copy().transpose(
        *range(ndim - 1)[::-1], ndim - 1
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
