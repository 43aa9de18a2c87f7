"""Sources: where logits and labels come from, as rows whose class axis is contiguous. No mathematics in here.

`open_logits` picks the reader by the file's name; one file a format. An array is a source, too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastxent.sources.array import ArraySource
from fastxent.sources.arrow import ArrowSource, ParquetSource
from fastxent.sources.base import MEMORY, FormatError, Options, Source
from fastxent.sources.hdf5 import Hdf5Source
from fastxent.sources.llama import is_llama, open_llama
from fastxent.sources.npy import NpySource
from fastxent.sources.npz import open_npz
from fastxent.sources.safetensors import open_safetensors
from fastxent.sources.shards import PartSource, ShardSource, as_slice, find_files
from fastxent.sources.zarr import ZarrSource, is_zarr

__all__ = [
    "MEMORY",
    "ArraySource",
    "FormatError",
    "NpySource",
    "Source",
    "as_slice",
    "as_source",
    "is_llama",
    "open_logits",
]

_READERS: dict[str, Callable[[Path, Options], Source]] = {
    ".npy": NpySource,
    ".npz": open_npz,
    ".safetensors": open_safetensors,
    ".zarr": ZarrSource,
    ".h5": Hdf5Source,
    ".hdf5": Hdf5Source,
    ".parquet": ParquetSource,
    ".arrow": ArrowSource,
    ".feather": ArrowSource,
    ".kld": open_llama,
}
KNOWN = f"{', '.join(_READERS)} and llama.cpp's KL base files"

# formats whose loading runs code that the file brings along
_UNSAFE = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".joblib", ".ckpt"}

_TEXT = {".txt", ".csv", ".tsv"}

Path_ = str | os.PathLike[str]


def open_logits(
    path_or_paths: Path_ | Sequence[Path_],
    *,
    name: str | None = None,
    labels: bool = False,
    rows: slice | tuple[int | None, int | None] | str | None = None,
    columns: slice | tuple[int | None, int | None] | str | int | None = None,
    axis: int = -1,
    memory: int = MEMORY,
) -> Source:
    """Open a file, or the shards, of logits or labels as a source of rows, without reading its data.

    Parameters
    ----------
    path_or_paths
        A file (``.npy``, ``.npz``, ``.safetensors``, ``.zarr``, ``.h5``, ``.parquet``, ``.arrow``, ``.feather``, a KL
        base file of llama.cpp), a folder or a pattern (``"dump-*.npy"``) of such files, or a list of them. Several
        files are one array along the first axis, in natural order; a list keeps its own. Files larger than memory are
        ordinary.
    name
        Which member, tensor, dataset or column of the file; of one column a class, a pattern (``"class_*"``). Default:
        the only one, or the one named ``logits`` (``labels``).
    labels
        The file has no class axis: every item is a row.
    rows
        Only these rows, counted in C order: a slice, ``(100, None)`` or ``"100:"``. The shape becomes (rows, C).
    columns
        Only these classes: K for the first K, or a slice.
    axis
        The class axis of the stored array.
    memory
        Bytes that a source may hold of a format that cannot be read row by row (compressed chunks, column-major).

    Returns
    -------
    Source
        With `shape`, `dtype`, `name`, ``read(start, stop)``, ``blocks()`` and ``fingerprint()``.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    FormatError
        For a format that is not known, is refused because loading it would run code, or whose header and size do not
        agree; names the file and the byte. For shards that do not fit each other, and names all of them.
    ImportError
        Where a library is missing; names the extra to install.

    Examples
    --------
    >>> import fastxent as fx
    >>> from importlib.resources import files
    >>> source = fx.open_logits(str(files("fastxent.data") / "digits_logits.npy"), rows="100:200")
    >>> source.shape, str(source.dtype)
    ((100, 10), 'float32')
    """
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise ValueError(f"memory must be a number of bytes from 1 on, got {memory!r}")
    options = Options(name, labels, axis, memory)
    part = as_slice(rows, "rows"), as_slice(columns, "columns")
    if isinstance(path_or_paths, (str, os.PathLike)):
        source = _open_path(Path(path_or_paths), options)
    else:
        paths = list(path_or_paths)
        if not paths:
            raise ValueError("an empty list of files")
        source = ShardSource([_open_path(Path(path), options) for path in paths])
    if any(item is not None for item in part):
        source = PartSource(source, *part)
    source.reopen = partial(
        open_logits, path_or_paths, name=name, labels=labels, rows=rows, columns=columns, axis=axis, memory=memory
    )
    return source


def _open_path(path: Path, options: Options) -> Source:
    """A file, a folder or a pattern."""
    suffix = path.suffix.lower()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if any(mark in str(path) for mark in "*?["):
            return ShardSource([_open_path(shard, options) for shard in find_files(path, list(_READERS))])
        _refuse_pickle(path, suffix)
        raise FileNotFoundError(f"no file {path}") from None
    if stat.S_ISDIR(mode):
        if is_zarr(path) or suffix == ".zarr":
            return ZarrSource(path, options)
        if suffix in _READERS:
            raise FormatError(f"{path}: a folder, not a {suffix} file")
        return ShardSource([_open_path(shard, options) for shard in find_files(path, list(_READERS))])
    if not stat.S_ISREG(mode):
        raise FormatError(f"{path}: a pipe or a device; files are read at several places, so save it as one first")
    if is_llama(path):  # of any name: llama.cpp asks for none
        return open_llama(path, options)
    _refuse_pickle(path, suffix)
    if suffix not in _READERS:
        hint = f"; for text, numpy.save('{path.stem}.npy', numpy.loadtxt('{path.name}', dtype=int))" * (suffix in _TEXT)
        raise FormatError(f"{path}: no reader for {suffix or 'a name without suffix'}; known: {KNOWN}{hint}")
    if suffix == ".kld":
        raise FormatError(f"{path}: no KL base file of llama.cpp: it does not begin with _logits_")
    return _READERS[suffix](path, options)


def _refuse_pickle(path: Path, suffix: str) -> None:
    if suffix in _UNSAFE:
        raise FormatError(f"{path}: {suffix} files are pickles, and loading a pickle runs code; save the array as .npy")


def as_source(x: Any, axis: int | None = -1) -> Source:
    """A path, or a list of paths, as the files' source, anything else as an array's; labels have the axis None."""
    if isinstance(x, Source):
        if axis is None and x.row_shape and x.reopen is not None:
            return x.reopen(labels=True)
        if axis not in (None, -1, len(x.shape) - 1):
            raise ValueError(f"{x.name} is open already, with its class axis last; give axis {axis} to open_logits")
        return x
    if _is_path(x) or (isinstance(x, (list, tuple)) and x and all(_is_path(item) for item in x)):
        try:
            return open_logits(x, labels=True) if axis is None else open_logits(x, axis=axis)
        except FileNotFoundError as error:
            if axis is not None or isinstance(x, (str, os.PathLike)) or any(Path(item).suffix for item in x):
                raise
            hint = "class names get numbers by numpy.unique(..., return_inverse=True)[1]"
            raise FileNotFoundError(f"{error}; labels that are a list of text are a list of paths; {hint}") from None
    name = "labels" if axis is None else "logits"
    if isinstance(x, (list, tuple)) and any(_is_path(item) for item in x):
        raise ValueError(f"{name}: a list of paths and other things")
    return ArraySource(x, axis, name)


def _is_path(x: Any) -> bool:
    return isinstance(x, (str, os.PathLike))
