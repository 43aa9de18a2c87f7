"""``.safetensors`` files: a JSON header, then the tensors' bytes; no library is wanted to read them.

Eight bytes, little-endian: the header's length; the header: name -> dtype, shape and data_offsets, counted from the
header's end. Source: https://huggingface.co/docs/safetensors/index#format. bfloat16 and float16 are read as they lie.
"""

from __future__ import annotations

import json
import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fastxent._arrays import BFLOAT16_BITS
from fastxent.sources.base import FormatError, Options, Source, check_shape, pick
from fastxent.sources.raw import RawSource

_LONGEST_HEADER = 100_000_000  # the library's own limit
_DTYPES: dict[str, np.dtype[Any]] = {
    "BF16": BFLOAT16_BITS,
    "BOOL": np.dtype(np.bool_),
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    **{f"I{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
}


def open_safetensors(path: Path, options: Options) -> Source:
    """A tensor of a file as a source."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise FormatError(f"{path}: truncated: a header of {length} bytes at byte 8, the file ends at byte {size}")
        if length > _LONGEST_HEADER:
            raise FormatError(f"{path}: a header of {length} bytes at byte 8; at most {_LONGEST_HEADER}")
        text = file.read(length)
    try:
        header = json.loads(text.decode("utf8"))
        if not isinstance(header, dict):
            raise ValueError(f"a {type(header).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no .safetensors header at byte 8: {' '.join(str(error).split())[:200]}") from None
    header.pop("__metadata__", None)
    tensor = pick(list(header), options, str(path), "tensor")
    name = f"{path}:{tensor}"
    shape, dtype, start = _entry(header[tensor], name, size - 8 - length)
    source = RawSource(path, name, 8 + length + start, shape, dtype, options, size=size)
    source.format = "safetensors"
    return source


def _entry(entry: Any, name: str, size: int) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and first byte of a tensor, whose data must lie within `size` bytes."""
    try:
        kind, shape = entry["dtype"], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        if any(type(n) is not int for n in (*shape, start, stop)) or not isinstance(kind, str):
            raise TypeError("numbers wanted")
    except (TypeError, ValueError, KeyError) as error:
        raise FormatError(f"{name}: the header's entry is broken: {type(error).__name__}: {error}") from None
    if kind not in _DTYPES:
        raise FormatError(f"{name}: tensors of {kind} are not read; known: {', '.join(sorted(_DTYPES))}")
    dtype = _DTYPES[kind]
    check_shape(shape, dtype, name)
    wanted = prod(shape) * dtype.itemsize
    if not 0 <= start <= stop or stop - start != wanted:
        raise FormatError(f"{name}: shape {shape} of {kind} wants {wanted} bytes, the header says {start} to {stop}")
    if stop > size:
        raise FormatError(f"{name}: truncated: its data end at byte {stop} behind the header, the file at {size}")
    return shape, dtype, start
