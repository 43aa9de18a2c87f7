"""The values of every row in a file, .npy or .parquet, written as they come."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastxent._scoring.accumulator import USED
from fastxent._scoring.compared_rows import Rows

READ_ROWS = 1 << 16  # of items that are brought from one format into the other

EVALUATED = np.dtype(
    [
        ("status", "u1"),
        ("label", "<i8"),
        *((name, "<f8") for name in ("loss", "lse", "p_label", "confidence", "entropy", "brier")),
        ("margin", "<f8"),
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
    job
        Which job it is that a checkpoint may resume: until the file is whole its items are kept in one beside it, whose
        name has this. The same job writes the same items, so any of its files will do that has enough of them. None for
        none: an error leaves nothing.
    done
        How many rows are there already; what lies behind them is written anew.

    Raises
    ------
    ValueError
        For another ending of the name, and where the rows that are done are not there.
    ImportError, OSError
        Without pyarrow; where it cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], rows: int, dtype: np.dtype[Any], job: str | None = None, done: int = 0
    ) -> None:
        self.path, self._rows, self._dtype = Path(path), rows, dtype
        self.keep = done > 0  # the items, after an error: a checkpoint counts on them
        self._temporary = self.path.with_name(f".{self.path.name}.{job or os.getpid()}")
        suffix = self.path.suffix.lower()
        if suffix not in (".npy", ".parquet"):
            raise ValueError(f"{self.path}: rows are written as .npy or .parquet, by the file's name")
        self._parquet: Any = _parquet(self.path) if suffix == ".parquet" else None
        self._file: Any = None
        self._writer: Any = None
        self._whole = done == rows > 0 and not self._temporary.exists() and self._is_whole()
        if self._whole:  # a job that had come to its end
            return
        with self._named():
            self._file = self._open(done, raw=job is not None or self._parquet is None)
        if self._parquet is not None and job is None:
            self._writer = self._parquet_writer(self._file)

    def _open(self, done: int, raw: bool) -> Any:
        """The file of the items, behind those that are done."""
        header = io.BytesIO()
        about = {"descr": self._dtype.descr, "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(header, about)  # type: ignore[arg-type, unused-ignore]
        if not done:
            file: Any = open(self._temporary, "wb")
            if raw:
                file.write(header.getvalue())
            return file
        end = len(header.getvalue()) + done * self._dtype.itemsize
        with suppress(FileNotFoundError):
            file = open(self._temporary, "r+b")
            if file.read(len(header.getvalue())) == header.getvalue() and file.seek(0, os.SEEK_END) >= end:
                file.truncate(end)
                file.seek(end)
                return file
            file.close()
        raise ValueError(
            f"{self.path}: the values of the first {done} rows should be in {self._temporary.name} beside it, and are "
            "not; delete the checkpoint to begin anew"
        )

    def _is_whole(self) -> bool:
        """Whether the file is there, with all its rows."""
        try:
            if self._parquet is not None:
                about = self._parquet.ParquetFile(self.path)
                return bool(about.metadata.num_rows == self._rows and about.schema_arrow.names == [*self._names])
            array = np.load(self.path, mmap_mode="r")
            return bool(array.dtype == self._dtype and array.shape == (self._rows,))
        except (OSError, ValueError, EOFError):
            return False

    @property
    def _names(self) -> tuple[str, ...]:
        return self._dtype.names or ()

    def _parquet_writer(self, file: Any) -> Any:
        arrow = importlib.import_module("pyarrow")
        fields = [(name, arrow.from_numpy_dtype(self._dtype[name])) for name in self._names]
        return self._parquet.ParquetWriter(file, arrow.schema(fields))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """An OSError names the file that was asked for."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from None

    def add(self, items: NDArray[Any]) -> None:
        """Write a block, which begins where the last one ended."""
        with self._named():
            if self._writer is None:
                self._file.write(items.data)
            else:
                self._write_table(self._writer, items)

    def _write_table(self, writer: Any, items: NDArray[Any]) -> None:
        columns = {name: np.ascontiguousarray(items[name]) for name in self._names}
        writer.write_table(importlib.import_module("pyarrow").table(columns))

    def sync(self) -> None:
        """Let what was added outlive a crash, before a checkpoint says that it is done."""
        if not self._whole:
            with self._named():
                self._file.flush()
                os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Give the file its name."""
        if self._whole:
            return
        with self._named():
            if self._writer is not None:
                self._writer.close()
            self.sync()
            self._file.close()
            made = self._temporary
            if self._parquet is not None and self._writer is None:
                made = self._as_parquet()
            os.replace(made, self.path)
            if made != self._temporary:
                self._temporary.unlink()
        self._whole = True

    def _as_parquet(self) -> Path:
        """A Parquet file of the items."""
        made = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        items = np.load(self._temporary, mmap_mode="r")
        try:
            with open(made, "wb") as file:
                with self._parquet_writer(file) as writer:
                    for start in range(0, self._rows, READ_ROWS):
                        self._write_table(writer, items[start : start + READ_ROWS])
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        return made

    def close(self) -> None:
        """Give up what is not whole; keep it where a checkpoint may want it."""
        if not self._whole:
            with suppress(OSError):  # the disk is full, which was said already
                self._file.close()
            if not self.keep:
                self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()


def _parquet(path: Path) -> Any:
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(f'{path}: writing it needs pyarrow: pip install "fastxent[io]" ({error})') from None


def evaluated(
    _: int,
    stats: NDArray[np.float64],
    status: NDArray[np.uint8],
    labels: NDArray[np.int64],
    margin: NDArray[np.float64],
) -> NDArray[Any]:
    """Items of the kernels' row statistics, and of the margins of the largest logits to the second."""
    items = np.empty(len(status), EVALUATED)
    items["status"], items["label"] = status, labels
    left_out = status != USED
    for i, name in enumerate(("loss", "lse", "p_label", "confidence", "entropy", "brier")):
        items[name] = np.where(left_out, np.nan, stats[:, i])
    items["margin"] = np.where(left_out, np.nan, margin)
    for i, name in ((6, "argmax"), (7, "rank")):
        items[name] = np.where(left_out, -1, np.ascontiguousarray(stats[:, i]).view(np.int64))
    return items


def compared(_: int, rows: Rows, labels: NDArray[np.int64] | None) -> NDArray[Any]:
    """Items of compared rows."""
    items = np.empty(len(rows.status), COMPARED)
    items["status"] = rows.status
    items["label"] = -1 if labels is None else labels
    left_out = rows.status != USED
    for name, predicted in (("argmax", rows.prediction), ("argmax_base", rows.prediction_base)):
        items[name] = np.where(left_out, -1, predicted)
    for name in COMPARED.names or ():
        if COMPARED[name].kind == "f":
            items[name] = np.where(left_out, np.nan, rows.value.get(name, np.nan))
    return items


class PerRow(NamedTuple):
    """A file of rows that is asked for: where, its items, and what makes them of the arguments of a sink."""

    path: str | os.PathLike[str]
    dtype: np.dtype[Any]
    items: Callable[..., NDArray[Any]]

    def sink(self, file: RowFile) -> Callable[..., None]:
        """What an accumulator gives its rows to."""
        return lambda *row: file.add(self.items(*row))
