"""NumPy's ``.npy`` files: the header through NumPy, the rows by plain reads.

Source of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import io
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastxent.sources.base import FormatError, Options, check_numbers, check_shape
from fastxent.sources.raw import RawSource

_LONGEST_HEADER = 1 << 16  # NumPy's own limit is 10,000 characters


class NpySource(RawSource):
    """Rows of a ``.npy`` file of any size."""

    format = "npy"

    def __init__(self, path: str | os.PathLike[str], options: Options = Options()) -> None:  # noqa: B008 (frozen)
        path = Path(path)
        with open(path, "rb") as file:
            shape, fortran, dtype = read_header(file, str(path))
            offset = file.tell()
            size = os.fstat(file.fileno()).st_size
        super().__init__(path, str(path), offset, shape, dtype, options, size=size, fortran=fortran)


def read_header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; leaves `file` at the first byte of the data.

    Whatever is wrong with a header is a FormatError.
    """
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8:
        raise FormatError(f"{name}: no .npy header at byte 0: the magic string is missing")
    version = (magic[6], magic[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise FormatError(f"{name}: .npy version {version[0]}.{version[1]} is not known; known: 1.0, 2.0, 3.0")
    size = file.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(size, "little")
    if length > _LONGEST_HEADER:  # checked here, for NumPy reads it first
        raise FormatError(f"{name}: a header of {length} bytes at byte {8 + len(size)}; at most {_LONGEST_HEADER}")
    text = file.read(length)
    try:
        if version == (3, 0):  # 2.0 in another encoding, which numbers do not use
            text = text.decode("utf8").encode("latin1")
            size = len(text).to_bytes(4, "little")
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if _plain(text):
            shape, fortran, dtype = parse(io.BytesIO(size + text))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are fine
                shape, fortran, dtype = parse(io.BytesIO(size + text))
    except Exception as error:  # NumPy's parser lets through what Python's own raises
        words = str(error).partition("max_header_size")[0].partition("\n")[0]
        raise FormatError(f"{name}: no .npy header at byte 0: {words or type(error).__name__}") from None
    check_numbers(dtype, name)
    check_shape(shape, dtype, name)
    return shape, fortran, dtype


def _plain(text: bytes) -> bool:
    """Whether a header is what today's Python writes, of which NumPy does not warn.

    The filters of warnings belong to the process: two threads that set them aside for a while at once may leave them
    aside for ever.
    """
    try:
        ast.literal_eval(text.decode("latin1"))
    except Exception:  # whatever is wrong, NumPy's parser words it
        return False
    return True
