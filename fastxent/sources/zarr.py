"""Zarr stores, version 2 and 3, through zarr 3: a band of chunks at a time. A chunk that is missing is its fill value.

The store's metadata choose the codecs, and one of them is pickle: only codecs that are known to run no code are let in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import BLOCK_BYTES, FormatError, Options, check_numbers, check_shape, optional, pick, reading
from fastxent.sources.boxes import Box, BoxSource

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_CODECS = {
    "bytes", "endian", "transpose", "sharding_indexed", "crc32c", "crc32", "adler32", "fletcher32", "jenkins_lookup3",
    "gzip", "zlib", "zstd", "blosc", "lz4", "lz4hc", "bz2", "lzma", "shuffle", "bitround", "delta", "quantize",
    "fixedscaleoffset", "packbits", "astype",
}  # fmt: skip
_MOST_NAMES = 10_000


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


class ZarrSource(BoxSource):
    """Rows of an array in a store."""

    format = "zarr"

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        if not is_zarr(path):
            raise FormatError(f"{path}: no Zarr store: no zarr.json, .zarray or .zgroup in it")
        if (path / ".zarray").is_file() or _node_type(path / "zarr.json") == "array":
            if options.name is not None:
                raise FormatError(f"{path}: is one array, with no member {options.name!r}")
            self.member, name = "", str(path)
        else:
            self.member = pick(list(_arrays(path)), options, str(path), "array")
            name = f"{path}:{self.member}"
        _check_codecs(path / self.member, name)
        array = self._open(name)
        with reading(name, "corrupt"):
            dtype, shape = np.dtype(array.dtype), tuple(array.shape)
            check_numbers(dtype, name)
            if dtype.kind not in "fiub":
                raise FormatError(f"{name}: items of dtype {dtype} are no numbers")
            check_shape(shape, dtype, name)
            chunks = tuple(array.chunks)
        super().__init__(name, shape, dtype, options, chunks=chunks, band_bytes=BLOCK_BYTES)
        for axis, length in enumerate(shape):  # a chunk is decoded whole, however little of it the array has
            if chunks[axis] < 1:
                raise FormatError(f"{name}: corrupt: chunks of {chunks[axis]} along axis {axis} of {length}")
        size = int(np.prod(chunks, dtype=object)) * dtype.itemsize
        self.check_memory(size, f"a chunk {chunks}")
        self._array: Any = None

    def close(self) -> None:
        """Let go of the store."""
        super().close()
        self._array = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}

    def _open(self, name: str) -> Any:
        zarr = optional("zarr", name)
        with reading(name, "no Zarr array, or a corrupt one"):
            return zarr.open_array(store=str(self.path), path=self.member, mode="r")

    def _read_box(self, box: Box) -> NDArray[Any]:
        if self._array is None:
            self._array = self._open(self.name)
        with reading(self.name, "corrupt"):
            values = np.asarray(self._array[box])
            if values.dtype != self.dtype:
                raise FormatError(f"{self.name}: corrupt: values of {values.dtype}, not {self.dtype}")
            return values


def _metadata(path: Path) -> dict[str, Any]:
    """A JSON object of a store."""
    if path.stat().st_size > 1 << 26:
        raise FormatError(f"{path}: metadata of {path.stat().st_size} bytes")
    try:
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no JSON of a Zarr store: {' '.join(str(error).split())[:200]}") from None
    return found


def _node_type(path: Path) -> Any:
    return _metadata(path).get("node_type") if path.is_file() else None


def _arrays(root: Path) -> Iterator[str]:
    """Names of the arrays in a group; links are not followed."""
    folders = [root]
    count = 0
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_symlink() or not path.is_dir():
                continue
            if (path / ".zarray").is_file() or _node_type(path / "zarr.json") == "array":
                yield path.relative_to(root).as_posix()
            elif (path / ".zgroup").is_file() or (path / "zarr.json").is_file():
                folders.append(path)
            count += 1
            if count > _MOST_NAMES:
                raise FormatError(f"{root}: more than {_MOST_NAMES} groups and arrays")


def _check_codecs(path: Path, name: str) -> None:
    """Refuse codecs that are not known to run no code, before a library sees them."""
    mark = next(m for m in _MARKS if (path / m).is_file())
    meta = _metadata(path / mark)
    queue: list[Any] = [meta.get(key) for key in ("codecs", "filters", "compressor", "storage_transformers")]
    while queue:
        item = queue.pop()
        if isinstance(item, list):
            queue.extend(item)
        elif isinstance(item, dict):
            codec = item.get("name", item.get("id"))
            if str(codec).removeprefix("numcodecs.") not in _CODECS:
                raise FormatError(f"{name}: codec {codec!r} is not let in: it is unknown, or runs code from the file")
            configuration = item.get("configuration")
            if isinstance(configuration, dict):
                queue += [configuration.get("codecs"), configuration.get("index_codecs")]
        elif isinstance(item, str):
            queue.append({"name": item})
