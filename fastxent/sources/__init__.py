"""Sources: where logits and labels come from, as rows whose class axis is contiguous. No mathematics in here.

`open_logits` picks the reader by the file's name; one file a format. An array is a source, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastxent.sources.array import ArraySource
from fastxent.sources.base import FormatError, Source
from fastxent.sources.npy import NpySource

__all__ = ["ArraySource", "FormatError", "NpySource", "Source", "as_source", "open_logits"]

# formats whose loading runs code that the file brings along
_UNSAFE = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".joblib"}


def open_logits(path: str | os.PathLike[str], *, labels: bool = False) -> Source:
    """Open a file of logits or labels as a source of rows, without reading its data.

    Parameters
    ----------
    path
        A ``.npy`` file. Files larger than memory are ordinary.
    labels
        The file has no class axis: every item is a row.

    Returns
    -------
    Source
        With `shape`, `dtype`, `name` and ``read(start, stop)``.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    FormatError
        For a format that is not known, is refused because loading it would run code, or whose header and size do not
        agree; names the file and the byte.

    Examples
    --------
    >>> import fastxent as fx
    >>> from importlib.resources import files
    >>> source = fx.open_logits(str(files("fastxent.data") / "digits_logits.npy"))
    >>> source.shape[1], str(source.dtype)
    (10, 'float32')
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix in _UNSAFE:
        raise FormatError(f"{file}: {suffix} files are pickles, and loading a pickle runs code; save the array as .npy")
    if not file.exists():
        raise FileNotFoundError(f"no file {file}")
    if suffix != ".npy":
        raise FormatError(f"{file}: no reader for {suffix or 'a name without suffix'}; known: .npy")
    return NpySource(file, labels)


def as_source(x: Any, axis: int | None = -1) -> Source:
    """A path as the file's source, anything else as an array's; labels have the axis None."""
    if isinstance(x, NpySource):
        return NpySource(x.path, labels=axis is None)
    if isinstance(x, ArraySource):
        return x
    if isinstance(x, (str, os.PathLike)):
        return open_logits(x, labels=axis is None)
    name = "labels" if axis is None else "logits"
    if isinstance(x, (list, tuple)) and any(isinstance(item, (str, os.PathLike)) for item in x):
        raise ValueError(f"{name}: a list of files is not supported yet; give one path")
    return ArraySource(x, axis, name)
