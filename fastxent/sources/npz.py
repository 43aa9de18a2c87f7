"""NumPy's ``.npz`` files: zip archives of ``.npy`` members, stored or deflated, read as a stream.

A stored member lies in the archive as it is and is read in place; a deflated one is decompressed as it is read, in
order, and again from its start for a row that lies before. Nothing is read whole, whatever size a member claims.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastxent.sources.base import FormatError, Options, Source, look_up, pick, reading
from fastxent.sources.npy import read_header
from fastxent.sources.raw import RawSource

_SKIP = 1 << 24
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field (APPNOTE.TXT 4.3.7)


def open_npz(path: Path, options: Options) -> Source:
    """A member of an archive as a source; its name with or without ``.npy``."""
    with reading(str(path), "no .npz archive"), zipfile.ZipFile(path) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if options.name is not None:
            options = Options(options.name.removesuffix(".npy"), options.labels, options.axis, options.memory)
        member = pick(list(infos), options, str(path), "member")
        info = infos[member]
        name = f"{path}:{member}"
        if info.flag_bits & 1:
            raise FormatError(f"{name}: encrypted")
        # other methods' decompressors give as much at once as the data make them
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FormatError(f"{name}: compressed by method {info.compress_type}; known: stored, deflated")
        with reading(name, "corrupt"), archive.open(info) as file:
            shape, fortran, dtype = read_header(file, name)  # type: ignore[arg-type]
            offset = file.tell()
        wanted = offset + prod(shape) * dtype.itemsize
        if info.file_size != wanted:
            raise FormatError(
                f"{name}: shape {shape} of {dtype} wants {wanted} bytes, but the archive says {info.file_size}"
            )
        if info.compress_type == zipfile.ZIP_DEFLATED:
            deflated = _DeflatedSource(path, name, offset, shape, dtype, options, size=wanted, fortran=fortran)
            deflated.member = info.filename
            return deflated
        size = os.path.getsize(path)
        with open(path, "rb") as plain:
            plain.seek(info.header_offset)
            _, *lengths = _LOCAL_HEADER.unpack(plain.read(_LOCAL_HEADER.size))
        offset += info.header_offset + _LOCAL_HEADER.size + sum(lengths)
    source = RawSource(path, name, offset, shape, dtype, options, size=size, fortran=fortran)
    source.format = "npz"
    return source


class _DeflatedSource(RawSource):
    """Rows of a deflated member; the stream stays open between reads, for it only goes forward."""

    format = "npz"

    member: str
    _stream: BinaryIO | None = None

    def close(self) -> None:
        super().close()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stream": None}

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self._stream is None:
            with zipfile.ZipFile(self.path) as archive:  # the stream keeps the file open
                self._stream = archive.open(self.member)  # type: ignore[assignment]
        assert self._stream is not None
        try:
            yield self._stream
        except BaseException:
            self.close()
            raise

    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        with reading(self.name, "corrupt"):
            return super()._read(start, stop, out)

    def _fill(self, file: BinaryIO, place: int, target: NDArray[Any]) -> None:
        # what lies before is decompressed, in steps between which a caller who has gone is noticed
        if place < file.tell():
            file.seek(0)
        while place - file.tell() > _SKIP:
            look_up()
            before = file.tell()
            if file.seek(before + _SKIP) == before:
                break  # ends here, which `_fill` words
        super()._fill(file, place, target)
