"""What every source is, and the reading ahead."""

from __future__ import annotations

import hashlib
import importlib
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import dtype_name, is_bfloat16

MEMORY = 1 << 30  # what a source may hold of a file that cannot be read row by row
BLOCK_BYTES = 1 << 24
BLOCK_ROWS = 1 << 18

# of the fingerprint; a change makes checkpoints of older versions refuse their own data
_SAMPLES = 8
_SAMPLE_BYTES = 4096
_PIECES = 4  # of a long row


# what breaks a line or acts on a terminal, in a name that a file gives a member, spelt out
_SPELT = {c: chr(c).encode("unicode_escape").decode() for c in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class FormatError(ValueError):
    """A file that cannot be read as what it claims to be; names the file and, where it can, the byte. One line."""

    def __init__(self, message: str) -> None:
        super().__init__(message.translate(_SPELT))


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be opened; every reader gets the same."""

    name: str | None = None  # of the member, tensor, dataset or column
    labels: bool = False  # no class axis: every item is a row
    axis: int = -1  # the class axis
    memory: int = MEMORY


class Source(ABC):
    """Rows of one array: read-only, of any length, for one thread at a time.

    Attributes
    ----------
    shape
        The class axis of logits is the last one; the other axes are rows in C order.
    dtype
        Of the storage. bfloat16 is carried as uint16 with metadata; `fastxent._arrays.is_bfloat16` tells it.
    row_shape
        Shape of one row: (classes,) of logits, () of labels.
    name
        What a message or a report calls it.
    format
        ``"array"``, ``"npy"``, ``"npz"``, ``"safetensors"``, ``"zarr"``, ``"hdf5"``, ``"parquet"``, ``"arrow"`` or
        ``"llama.cpp"``.
    inputs
        ``"logits"``, or ``"log_probs"`` of a format that holds nothing else.
    in_memory
        Whether `read` gives a view, so that there is nothing to read ahead.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    inputs = "logits"
    in_memory = False
    reopen: Callable[..., Source] | None = None  # the same file with other options; set by open_logits

    @property
    def rows(self) -> int:
        """Number of rows."""
        return prod(self.shape[: len(self.shape) - len(self.row_shape)])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.row_shape) * self.dtype.itemsize

    def read(self, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` as they count in C order, of shape ``(rows, *row_shape)``, the class axis contiguous.

        `out` is a buffer that the result may be laid into; it is overwritten by the next read into it.

        Raises
        ------
        IndexError
            For rows that are not there.
        FormatError
            Where the file is corrupt, or has become shorter meanwhile.
        """
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(f"{self.name}: rows {start} to {stop} of {self.rows}")
        return self._read(start, stop, out)

    @abstractmethod
    def _read(self, start: int, stop: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        """`read`, of rows that are there."""

    def close(self) -> None:  # noqa: B027 (most have nothing open)
        """Let go of open files and buffers; the next read opens them again."""

    def blocks(self, rows: int | None = None) -> Iterator[NDArray[Any]]:
        """All rows in order, `rows` (by default about 16 MB) at a time, read ahead; each is valid until the next."""
        size = max(1, self.row_bytes)
        step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // size)) if rows is None else rows
        if step < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        ranges = Ranges(0, self.rows, step)
        for (block,) in read_ahead((self,), ranges, (size,)):
            yield block

    def fingerprint(self) -> str:
        """Hash of shape, dtype and the values of a few rows, the same whatever the format or byte order.

        Cheap, but of a deflated .npz member, which is decompressed once: 8 samples, each of the rows in 4 KB, or of one
        row; of a row above 16 KB, its two ends and two pieces between, of 4 KB each. It tells that data are others, not
        that they are the same.
        """
        kind = dtype_name(self.dtype)
        digest = hashlib.blake2b(f"{self.shape} {self.row_shape} {kind}".encode(), digest_size=16)
        count = min(self.rows, max(1, _SAMPLE_BYTES // max(1, self.row_bytes)))
        for start in sorted({(self.rows - count) * i // (_SAMPLES - 1) for i in range(_SAMPLES)}):
            block = self.read(start, start + count)
            plain = (block.view(np.uint16) if is_bfloat16(block.dtype) else block).reshape(-1)
            size = max(1, _SAMPLE_BYTES // max(1, plain.itemsize))
            begins = [(plain.size - size) * i // (_PIECES - 1) for i in range(_PIECES)]
            for piece in [plain] if plain.size <= _PIECES * size else [plain[i : i + size] for i in begins]:
                digest.update(piece.astype(piece.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()

    def target(self, rows: int, out: NDArray[np.uint8] | None) -> NDArray[Any]:
        """An array of so many rows in `out`, or a new one."""
        size = rows * self.row_bytes
        raw = np.empty(size, np.uint8) if out is None else out[:size]
        return raw.view(self.dtype).reshape(rows, *self.row_shape)


def optional(module: str, name: str) -> Any:
    """Import a library that only some formats want.

    Raises
    ------
    ImportError
        Names the file `name` and the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(f'{name}: reading it needs {library}: pip install "fastxent[io]" ({error})') from None


@contextmanager
def reading(name: str, what: str = "cannot be read") -> Iterator[None]:
    """Whatever a library raises about a corrupt file becomes a FormatError of one line that names the file.

    MemoryError, too: a corrupt size makes libraries ask for more than there is.
    """
    try:
        yield
    except (FormatError, FileNotFoundError, PermissionError, ImportError, Stopped):
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise FormatError(f"{name}: {what}: {words}") from None


def pick(names: Sequence[str], options: Options, file: str, what: str, usual: Sequence[str] = ()) -> str:
    """The member that was named, the only one, or the one of a usual name.

    Raises
    ------
    FormatError
        Where that is none; lists the names there are.
    """
    usual = usual or (("labels", "label", "targets", "target", "tokens", "y") if options.labels else ("logits",))
    listed = ", ".join(sorted(names)[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    if options.name is not None:
        if options.name not in names:
            raise FormatError(f"{file}: no {what} {options.name!r}; there is {listed or 'none'}")
        return options.name
    for name in [names[0]] if len(names) == 1 else usual:
        if name in names:
            return name
    if not names:
        raise FormatError(f"{file}: holds no {what}")
    raise FormatError(f"{file}: holds several {what}s; name one of {listed}")


def check_numbers(dtype: np.dtype[Any], name: str) -> None:
    """Refuse what holds no numbers."""
    if dtype.hasobject:
        raise FormatError(f"{name}: an object array, and loading one runs code; save numbers, or text of fixed width")
    if dtype.subdtype or dtype.names or dtype.itemsize == 0:
        raise FormatError(f"{name}: items of dtype {dtype} are no numbers")


def check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse a shape that no memory could address."""
    if any(n < 0 for n in shape) or prod(max(1, n) for n in shape) * dtype.itemsize >= 1 << 63 or len(shape) > 32:
        raise FormatError(f"{name}: the header has the shape {shape}")


class Ranges(Sequence[tuple[int, int]]):
    """(start, stop), (stop, ...) of `step` rows each, the last one perhaps shorter; made when they are asked for.

    A file may claim 2^60 rows, of which a list of ranges would fill the memory.

    Examples
    --------
    >>> list(Ranges(2, 9, 3))
    [(2, 5), (5, 8), (8, 9)]
    """

    def __init__(self, start: int, stop: int, step: int) -> None:
        self._starts, self._stop = range(start, stop, step), stop

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, i: Any) -> Any:
        start = self._starts[i]
        return start, min(start + self._starts.step, self._stop)

    @property
    def longest(self) -> int:
        """Rows of the longest range."""
        return self[0][1] - self[0][0] if self else 0


class Stopped(Exception):
    """The caller of `read_ahead` has gone: what its thread still reads is wanted by nobody."""


_here = threading.local()  # `stopped` of the thread that reads ahead


def look_up() -> None:
    """Raise Stopped where the reading is in vain; for loops of many small reads, as of a column-major file."""
    stopped = getattr(_here, "stopped", None)
    if stopped is not None and stopped.is_set():
        raise Stopped


def read_ahead(
    sources: Sequence[Source], ranges: Sequence[tuple[int, int]], bytes_a_row: Sequence[int]
) -> Iterator[tuple[NDArray[Any], ...]]:
    """Read the same ranges of several sources, one range ahead of the caller, in a thread.

    Three buffers a source go round: one being read, one waiting, one with the caller, who may use what he gets until he
    asks for the next. Memory stays flat whatever the size of the source.
    """
    if all(source.in_memory for source in sources):
        for start, stop in ranges:
            yield tuple(source.read(start, stop) for source in sources)
        return
    lengths = [ranges.longest] if isinstance(ranges, Ranges) else [stop - start for start, stop in ranges]
    longest = max(lengths, default=0)
    buffers = [[np.empty(longest * size, np.uint8) for size in bytes_a_row] for _ in range(min(3, max(1, len(ranges))))]
    ready: queue.Queue[tuple[NDArray[Any], ...] | BaseException] = queue.Queue(1)
    stopped = threading.Event()

    def put(item: tuple[NDArray[Any], ...] | BaseException) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        _here.stopped = stopped
        try:
            for i, (start, stop) in enumerate(ranges):
                if stopped.is_set():
                    return
                into = buffers[i % len(buffers)]
                put(tuple(source.read(start, stop, out) for source, out in zip(sources, into, strict=True)))
        except BaseException as error:  # handed to the caller, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="fastxent-read-ahead", daemon=True)
    try:
        # an interrupt may come while `start` waits for the thread: it is there then, and is to go
        if not _started(thread):
            for start, stop in ranges:
                yield tuple(source.read(start, stop, out) for source, out in zip(sources, buffers[0], strict=True))
            return
        for _ in ranges:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        with suppress(queue.Empty):  # it may wait for room
            ready.get_nowait()
        while thread in threading.enumerate():
            if thread.ident is None:  # cannot be joined yet
                time.sleep(1e-4)
            else:
                thread.join()


def _started(thread: threading.Thread) -> bool:
    """Start a thread; False where the system has no more of them."""
    try:
        thread.start()
    except RuntimeError:  # "can't start new thread"
        return False
    return True
