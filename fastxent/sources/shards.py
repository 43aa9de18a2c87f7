"""Several files as one array, along the first axis; and a part of a source: some rows, some classes."""

from __future__ import annotations

import glob
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import dtype_name
from fastxent.sources.base import FormatError, Source


class ShardSource(Source):
    """The rows of several sources one after the other; only the shard that is being read is open."""

    def __init__(self, shards: Sequence[Source]) -> None:
        first = shards[0]
        self._shards = shards
        self.format, self.inputs, self.dtype = first.format, first.inputs, first.dtype
        self.name = f"{first.name} and {len(shards) - 1} more" if len(shards) > 1 else first.name

        def kind(source: Source) -> tuple[object, ...]:
            return len(source.shape), source.shape[1:], source.dtype.str, dtype_name(source.dtype)

        bad = [_describe(shard) for shard in shards if kind(shard) != kind(first)]
        if not first.shape or (first.row_shape and len(first.shape) < 2):
            raise FormatError(f"{_describe(first)}: a shard wants an axis of rows")
        if bad:
            raise FormatError(f"shards do not fit {_describe(first)}: {', '.join(bad)}")
        self.shape = (sum(s.shape[0] for s in shards), *first.shape[1:])
        self.row_shape = first.row_shape
        self._starts = [0, *accumulate(s.rows for s in shards)]
        self._open = 0

    def close(self) -> None:
        """Close the shard that is open."""
        self._shards[self._open].close()

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        result = None
        row = start
        while row < stop or result is None:
            index = min(bisect_right(self._starts, row), len(self._shards)) - 1
            if index != self._open:
                self.close()
                self._open = index
            first, last = self._starts[index : index + 2]
            end = min(stop, last)
            if row == start and end == stop:
                return self._shards[index].read(start - first, stop - first, out)
            if result is None:
                result = self.target(stop - start, out)
            raw = result[row - start : end - start].reshape(-1).view(np.uint8)
            got = self._shards[index].read(row - first, end - first, raw)
            if not np.shares_memory(got, raw):
                result[row - start : end - start] = got
            row = end
        return result


class PartSource(Source):
    """Rows and columns of another source; rows count in C order, whatever its shape was."""

    def __init__(self, whole: Source, rows: slice | None, columns: slice | None) -> None:
        self._whole = whole
        self.name, self.format, self.inputs, self.dtype = whole.name, whole.format, whole.inputs, whole.dtype
        self.in_memory = whole.in_memory
        self.row_shape = whole.row_shape
        self._first = 0
        self._columns = slice(None)
        batch = whole.shape[: len(whole.shape) - len(whole.row_shape)]
        if rows is not None:
            self._first, last = _range(rows, whole.rows, "rows", self.name)
            batch = (last - self._first,)
        if columns is not None:
            if not whole.row_shape:
                raise ValueError(f"columns: {self.name} has no class axis")
            low, high = _range(columns, whole.row_shape[0], "columns", self.name)
            self._columns = slice(low, high)
            self.row_shape = (high - low,)
        self.shape = (*batch, *self.row_shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it is read."""
        return self._whole.row_bytes

    def close(self) -> None:
        """Close the whole."""
        self._whole.close()

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        block = self._whole.read(self._first + start, self._first + stop, out)
        return block[:, self._columns] if self.row_shape else block


def as_slice(value: Any, name: str) -> slice | None:
    """A slice from itself, from a pair, from "A:B" with either left out, or from K for the first K.

    Raises
    ------
    ValueError
        For anything else.
    """
    if value is None or (isinstance(value, slice) and value.step in (None, 1)):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*(-?\d+)?\s*(:\s*(-?\d+)?\s*)?", value) and value.strip():
        parts = [int(part) if part.strip() else None for part in value.split(":")]
        return slice(*parts)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return slice(int(value))
    if isinstance(value, tuple) and len(value) == 2 and all(n is None or isinstance(n, int) for n in value):
        return slice(*value)
    raise ValueError(f"{name} must be a slice without a step, 'A:B' or a number, got {value!r}")


def find_files(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The shards of a folder, or of a pattern, in natural order: shard-2 before shard-10.

    Raises
    ------
    FormatError
        Where a folder holds none of the known formats, or several.
    FileNotFoundError
        Where nothing fits the pattern.
    """
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
        kinds = sorted({p.suffix.lower() for p in found})
        if not found:
            raise FormatError(f"{path}: no file in this folder has a known format; known: {', '.join(suffixes)}")
        if len(kinds) > 1:
            raise FormatError(f"{path}: this folder holds {' and '.join(kinds)} files; name them by a pattern")
    else:
        found = [Path(p) for p in glob.glob(str(path))]
        if not found:
            raise FileNotFoundError(f"no file {path}")
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", os.fspath(path))]


def _range(part: slice, length: int, name: str, file: str) -> tuple[int, int]:
    """First and behind the last of a slice, which must lie inside; negative numbers count from the end."""
    low = 0 if part.start is None else part.start + length * (part.start < 0)
    high = length if part.stop is None else part.stop + length * (part.stop < 0)
    said = ":".join("" if n is None else str(n) for n in (part.start, part.stop))
    if not (0 <= low <= length and 0 <= high <= length):
        raise ValueError(f"{name} {said} reach outside the {length} of {file}")
    if low > high:
        raise ValueError(f"{name} {said} end before they begin")
    return low, high


def _describe(source: Source) -> str:
    return f"{source.name} of shape {source.shape} {source.dtype}"
