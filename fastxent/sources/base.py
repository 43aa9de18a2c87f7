"""What every source is, and the reading ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class FormatError(ValueError):
    """A file that cannot be read as what it claims to be; names the file and, where it can, the byte."""


class Source(Protocol):
    """Rows of one array: read-only, of any length."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape; the class axis of logits is the last one, the other axes are rows in C order."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Storage dtype."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (classes,) of logits, () of labels."""

    @property
    def name(self) -> str:
        """What a message or a report calls it."""

    @property
    def in_memory(self) -> bool:
        """Whether `read` gives a view, so that there is nothing to read ahead."""

    def read(self, start: int, stop: int, out: NDArray[np.uint8] | None = None) -> NDArray[Any]:
        """Rows `start` to `stop` as they count in C order, of shape (rows, *row_shape).

        `out` is a buffer that the result may be laid into; it is overwritten by the next read into it.
        """


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
    longest = max((stop - start for start, stop in ranges), default=0)
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
        try:
            for i, (start, stop) in enumerate(ranges):
                if stopped.is_set():
                    return
                into = buffers[i % len(buffers)]
                put(tuple(source.read(start, stop, out) for source, out in zip(sources, into, strict=True)))
        except BaseException as error:  # handed to the caller, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="fastxent-read-ahead", daemon=True)
    thread.start()
    try:
        for _ in ranges:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
