"""The values of every row in a file, .npy or .parquet, written as they come."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPE = np.dtype(
    [
        ("status", "u1"),
        ("label", "<i8"),
        *((name, "<f8") for name in ("loss", "lse", "p_label", "confidence", "entropy", "brier")),
        ("argmax", "<i8"),
        ("rank", "<i8"),
    ]
)
COMPARED = np.dtype(
    [
        ("status", "u1"),
        ("label", "<i8"),
        *((name, "<f8") for name in ("kl", "reverse_kl", "js", "tv", "loss", "loss_base", "p_label", "p_label_base")),
        ("confidence_base", "<f8"),
        ("argmax", "<i8"),
        ("argmax_base", "<i8"),
    ]
)


class RowFile:
    """A file with an item for each row; it takes its name when it is whole.

    Rows that are not used have a status other than 0 (ignored 1, invalid 2, non-finite 3, masked 4), NaN, and -1 for
    argmax and rank.

    Parameters
    ----------
    path
        ``.npy`` (structured items) or ``.parquet`` (a column each; wants pyarrow).
    rows
        How many there will be.
    dtype
        Of an item.
    """

    def __init__(self, path: str | os.PathLike[str], rows: int, dtype: np.dtype[Any] = DTYPE) -> None:
        self.path = Path(path)
        self._names = dtype.names or ()
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._done = False
        suffix = self.path.suffix.lower()
        if suffix not in (".npy", ".parquet"):
            raise ValueError(f"{self.path}: rows are written as .npy or .parquet, by the file's name")
        self._arrow: Any = None
        self._file: Any = None
        try:
            self._file = open(self._temporary, "wb")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        if suffix == ".npy":
            header = {"descr": dtype.descr, "fortran_order": False, "shape": (rows,)}
            np.lib.format.write_array_header_1_0(self._file, header)
            return
        try:
            self._arrow = importlib.import_module("pyarrow")
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            self.close()
            raise ImportError(f'{self.path}: writing it needs pyarrow: pip install "fastxent[io]" ({error})') from None
        fields = [(name, self._arrow.from_numpy_dtype(dtype[name])) for name in self._names]
        self._writer = parquet.ParquetWriter(self._file, self._arrow.schema(fields))

    def add(self, items: NDArray[Any]) -> None:
        """Write a block, which begins where the last one ended."""
        try:
            if self._arrow is None:
                self._file.write(items.data)
                return
            columns = {name: np.ascontiguousarray(items[name]) for name in self._names}
            self._writer.write_table(self._arrow.table(columns))
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from None

    def finish(self) -> None:
        """Give the file its name."""
        try:
            if self._arrow is not None:
                self._writer.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from None
        self._done = True

    def close(self) -> None:
        """Give up what is not whole."""
        if not self._done:
            if self._file is not None:
                try:
                    self._file.close()
                except OSError:  # the disk is full, which was said already
                    pass
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.finish()
        self.close()


def evaluated(stats: NDArray[np.float64], status: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[Any]:
    """Items of the kernels' row statistics."""
    items = np.empty(len(status), DTYPE)
    items["status"], items["label"] = status, labels
    left_out = status != 0
    for i, name in enumerate(("loss", "lse", "p_label", "confidence", "entropy", "brier")):
        items[name] = np.where(left_out, np.nan, stats[:, i])
    for i, name in ((6, "argmax"), (7, "rank")):
        items[name] = np.where(left_out, -1, np.ascontiguousarray(stats[:, i]).view(np.int64))
    return items
