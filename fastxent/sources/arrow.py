"""Parquet and Arrow IPC files through pyarrow: a list column of scores, or a column for each class; a label column.

Parquet is read a batch of rows at a time within its row groups, an IPC file a record batch at a time. IPC files are
read, never mapped: a file truncated under a map kills the process.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import BLOCK_BYTES, FormatError, Options, Source, optional, pick, reading
from fastxent.sources.ipc import record_batches


class TableSource(Source):
    """Rows of some columns of a table that lies in pieces: row groups, or record batches."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.name = str(path)
        if options.axis != -1 and not options.labels:
            raise ValueError(f"{path}: the class axis of a table is its last one, not {options.axis}")
        self._memory = options.memory
        self._pa = optional("pyarrow", self.name)
        self._handle: Any = None
        self._longest = 0  # items of the longest column of a piece that is read as a whole
        self._batches: Iterator[Any] = iter(())
        self._first = self._last = 0  # rows of the batch at hand
        self._values: NDArray[Any] | None = None
        with reading(self.name, "cannot be read"):
            schema, lengths = self._open_table()
            if any(n < 0 for n in lengths) or sum(lengths) >= 1 << 60:
                raise FormatError(f"{self.name}: corrupt: pieces of {lengths[:5]} rows")
            self._starts = [0, *accumulate(lengths)]
            self._columns = _choose(schema, options, self.name, self._pa)
            if len(self._columns) == 1:
                self.name = f"{path}:{self._columns[0]}"
            self.dtype, width = self._kind(schema)
            # compressed, a piece may be a thousandth of what it becomes
            most = self._longest * self.dtype.itemsize * (len(self._columns) if width is None else 1)
            if most > self._memory:
                raise _too_large(most, self.name, self._memory)
            self.row_shape = () if options.labels else (len(self._columns) if width is None else width,)
            if width == -1:  # a list column without a length: the first row has it
                self._load(0, 1)
                self.row_shape = (self._values.shape[1] if self._values is not None else 0,)
        self.shape = (self._starts[-1], *self.row_shape)
        self.close()

    @abstractmethod
    def _open_table(self) -> tuple[Any, list[int]]:
        """The schema, and the number of rows in each piece."""

    @abstractmethod
    def _read_piece(self, index: int, rows: int) -> Iterator[Any]:
        """The record batches of a piece, of about so many rows, with the chosen columns."""

    def close(self) -> None:
        """Close the file and let go of the batch."""
        self._batches = iter(())
        self._values = None
        self._first = self._last = 0
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        lost = {"_handle": None, "_batches": (), "_values": None, "_first": 0, "_last": 0, "_pa": None}
        return {**self.__dict__, **lost}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._batches = iter(())
        self._pa = optional("pyarrow", self.name)

    def _kind(self, schema: Any) -> tuple[np.dtype[Any], int | None]:
        """dtype, and the number of scores in a list: None of scalar columns, -1 where only the data tell it."""
        kinds = set()
        width: int | None = None
        for column in self._columns:
            kind = _storage(schema.field(column).type)
            if _is_list(kind, self._pa):
                width = kind.list_size if self._pa.types.is_fixed_size_list(kind) else -1
                kind = kind.value_type
            kinds.add(np.dtype(kind.to_pandas_dtype()))
        if len(kinds) > 1:
            raise FormatError(f"{self.name}: the columns have several types: {', '.join(sorted(map(str, kinds)))}")
        return kinds.pop(), width

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        result = self.target(stop - start, out)
        row = start
        while row < stop:
            with reading(self.name, "corrupt"):
                self._load(row, max(1, min(1 << 16, BLOCK_BYTES // max(1, self.row_bytes))))
            assert self._values is not None
            end = min(stop, self._last)
            result[row - start : end - start] = self._values[row - self._first : end - self._first]
            row = end
        return result

    def _load(self, row: int, rows: int) -> None:
        """Go on, or start again in the row's piece, until the batch at hand holds the row."""
        if row >= self._starts[-1]:
            return
        piece = bisect_right(self._starts, row) - 1
        if not (self._values is not None and self._starts[piece] <= self._first <= row):
            self._first = self._last = self._starts[piece]
            self._batches = self._read_piece(piece, rows)
        while row >= self._last:
            self._values = None
            batch = next(self._batches, None)
            if batch is None:
                raise FormatError(f"{self.name}: ends at row {self._last}, its header says {self._starts[-1]}")
            self._first = self._last
            self._last += batch.num_rows
            if self._last > self._starts[piece + 1]:
                raise FormatError(f"{self.name}: more rows than its header says, {self._starts[piece + 1]}")
            if row < self._last:
                self._values = self._as_rows(batch)

    def _as_rows(self, batch: Any) -> NDArray[Any]:
        """A batch's values as (rows, *row_shape)."""
        columns = []
        for name in self._columns:
            column = batch.column(batch.schema.get_field_index(name))
            column = getattr(column, "storage", column)
            column.validate()
            self._refuse_nulls(column, name)
            if not _is_list(column.type, self._pa):
                columns.append(column.to_numpy(zero_copy_only=False))
                continue
            values = column.flatten()
            self._refuse_nulls(values, name, max(1, len(values) // max(1, len(column))))
            width = self.row_shape[0]
            if not self._pa.types.is_fixed_size_list(column.type):
                lengths = np.diff(column.offsets.to_numpy())
                width = int(lengths[0]) if width < 0 else width
                if (lengths != width).any():
                    bad = int(np.argmax(lengths != width))
                    raise FormatError(
                        f"{self.name}: row {self._first + bad} has {lengths[bad]} scores, the first one {width}"
                    )
            return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)
        return np.stack(columns, 1) if self.row_shape else columns[0]

    def _refuse_nulls(self, column: Any, name: str, each: int = 1) -> None:
        if column.null_count:
            bad = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // each
            raise FormatError(f"{self.path}: column {name} is null in row {self._first + bad}")


class ParquetSource(TableSource):
    """Rows of a Parquet file."""

    format = "parquet"

    def _open_table(self) -> tuple[Any, list[int]]:
        meta = self._file().metadata
        return self._file().schema_arrow, [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]

    def _file(self) -> Any:
        if self._handle is None:
            parquet = optional("pyarrow.parquet", self.name)
            # a limit on what a corrupt footer may ask for
            self._handle = parquet.ParquetFile(
                self.path,
                memory_map=False,
                pre_buffer=False,
                buffer_size=1 << 20,
                thrift_string_size_limit=1 << 26,
                thrift_container_size_limit=1 << 24,
            )
        return self._handle

    def _read_piece(self, index: int, rows: int) -> Iterator[Any]:
        batches: Iterator[Any] = self._file().iter_batches(
            rows, row_groups=[index], columns=self._columns, use_threads=False
        )
        return batches


class ArrowSource(TableSource):
    """Rows of an Arrow IPC file (Feather version 2 is one)."""

    format = "arrow"

    def _open_table(self) -> tuple[Any, list[int]]:
        with open(self.path, "rb") as file:
            sizes = list(record_batches(file, self.name))
        most = max((size for _, size, _ in sizes), default=0)
        if most > self._memory:
            raise _too_large(most, self.name, self._memory)
        self._longest = max((items for _, _, items in sizes), default=0)
        reader = self._file()
        if reader.num_record_batches != len(sizes):
            said = reader.num_record_batches
            raise FormatError(f"{self.name}: corrupt: {len(sizes)} record batches, but {said} in its footer")
        return reader.schema, [rows for rows, _, _ in sizes]

    def _file(self) -> Any:
        if self._handle is None:
            self._handle = self._pa.OSFile(str(self.path), "rb")
        ipc = self._pa.ipc
        columns = getattr(self, "_columns", None)
        included = None
        if columns:
            schema = ipc.open_file(self._handle).schema
            included = [schema.get_field_index(name) for name in columns]
        return ipc.open_file(self._handle, options=ipc.IpcReadOptions(included_fields=included, use_threads=False))

    def _read_piece(self, index: int, rows: int) -> Iterator[Any]:
        yield self._file().get_batch(index)


def _too_large(size: int, name: str, memory: int) -> FormatError:
    return FormatError(
        f"{name}: a record batch of {size:,} bytes, the option memory allows {memory:,}; write smaller ones"
    )


def _storage(kind: Any) -> Any:
    """The type under an extension type, such as a tensor of fixed shape."""
    return getattr(kind, "storage_type", kind)


def _is_list(kind: Any, pa: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _choose(schema: Any, options: Options, file: str, pa: Any) -> list[str]:
    """Names of the columns to read: one of labels or of lists, or one for each class."""
    types = pa.types
    kinds = {field.name: _storage(field.type) for field in schema}
    if len(kinds) < len(schema):
        raise FormatError(f"{file}: two columns of the same name")

    def numeric(kind: Any) -> bool:
        return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))

    lists = [n for n, kind in kinds.items() if _is_list(kind, pa) and numeric(kind.value_type)]
    scalars = [n for n, kind in kinds.items() if numeric(kind)]
    if options.labels:
        whole = [n for n in scalars if not types.is_floating(kinds[n])]
        if options.name is None and not whole:
            there = ", ".join(f"{n} of {kind}" for n, kind in kinds.items())[:200]
            words = "holds no column of integers, and text is not read from tables"
            raise FormatError(f"{file}: {words}; there is {there}")
        return [pick(scalars if options.name is not None else whole, options, file, "label column")]
    if options.name is not None and options.name not in lists and any(mark in options.name for mark in "*?["):
        found = [n for n in scalars if fnmatchcase(n, options.name)]
        if found:
            return found
    if options.name in scalars:
        return [str(options.name)]
    floats = [n for n in scalars if types.is_floating(kinds[n])]
    if options.name is None and not lists and floats:
        return floats
    return [pick(lists, options, file, "column of lists of scores")]
