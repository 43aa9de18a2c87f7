"""What a dump holds, made into logits: temperature, log-probabilities, probabilities, padded classes, binary scores.

Where the kernels cannot read the values as they lie, a block at a time is brought into a small buffer.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, F32, F64, Logits, as_logits
from fastxent._dispatch import kernels
from fastxent.sources.array import ArraySource

INPUTS = ("logits", "log_probs", "probs")
BUFFER_ELEMENTS = 1 << 19  # of a converted block: 2 or 4 MB
COPY_ELEMENTS = 1 << 20  # of a block whose class axis must be made contiguous


def as_temperature(temperature: Any, name: str = "temperature") -> float:
    """A finite number above 0."""
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {temperature!r}")
    if not 0.0 < temperature < inf:
        raise ValueError(f"{name} must be finite and above 0, got {temperature}")
    return float(temperature)


@dataclass(frozen=True)
class Inputs:
    """What the scores of a model are; `check` and `blocks` make logits of them.

    Attributes
    ----------
    inputs
        "logits", "log_probs" (which are logits) or "probs".
    temperature
        Divides the logits.
    classes
        Columns that are used; the others are padding. None for all.
    binary
        One score a row, the second class's; the first one's is 0 ("probs": the second class's probability).
    """

    inputs: str = "logits"
    temperature: float = 1.0
    classes: int | None = None
    binary: bool = False

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise ValueError(f"inputs must be one of {', '.join(INPUTS)}, got {self.inputs!r}")
        object.__setattr__(self, "temperature", as_temperature(self.temperature))
        object.__setattr__(self, "binary", bool(self.binary))
        if self.classes is not None:
            object.__setattr__(self, "classes", operator.index(self.classes))
            if self.classes < 1:
                raise ValueError(f"classes must be at least 1, got {self.classes}")
        if self.binary and (self.classes is not None or self.inputs == "log_probs"):
            raise ValueError("binary scores have no other classes, and are logits or probabilities")

    def check(self, logits: Any, logits_dtype: str | None = None, name: str = "logits") -> Logits:
        """The scores as an array (..., C) of the columns that are used; (..., 1) where they are binary."""
        x = as_logits(logits, name, logits_dtype)
        array = x.array
        if self.binary:
            return x._replace(array=array[..., None] if array.ndim < 2 or array.shape[-1] != 1 else array)
        if array.ndim == 0 or array.shape[-1] == 0:
            raise ValueError(f"{name} of shape {array.shape} has no class")
        if self.classes is None:
            return x
        if self.classes > array.shape[-1]:
            raise ValueError(
                f"classes is {self.classes}, but {name} of shape {array.shape} has fewer columns"
            )
        return x._replace(array=array[..., : self.classes])

    def width(self, columns: int) -> int:
        """The number of classes of scores of so many columns."""
        return 2 if self.binary else self.classes or columns

    @property
    def plain(self) -> bool:
        """Whether the kernels can read the values as they lie, the temperature apart."""
        return self.inputs != "probs" and not self.binary

    def blocks(
        self, x: Logits, first_row: int = 0, small: bool = False, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int, Logits]]:
        """Rows in C order, all or some, as logits whose class axis is contiguous: (start, stop, (stop - start, C)).

        They are not divided by the temperature yet; `small` gives blocks as small as a buffer for that should be. Where
        nothing is copied, the rows are one block.
        """
        array = x.array if x.array.ndim > 1 else x.array[None]
        columns = array.shape[-1]
        source = ArraySource(array)
        stop = source.rows if stop is None else stop
        size = max(1, stop - start)
        if small or not self.plain:
            size = min(size, max(1, BUFFER_ELEMENTS // max(2, columns)))
        elif not source.views:
            size = min(size, max(1, COPY_ELEMENTS // columns))
        for a in range(start, stop, size):
            b = min(a + size, stop)
            yield a, b, self.convert(x._replace(array=source.read(a, b)), first_row + a)

    def convert(self, x: Logits, first_row: int = 0, name: str = "logits") -> Logits:
        """A block (n, columns) as logits (n, C); itself where it is read as it lies."""
        if self.plain:
            return x
        values = decoded(x)
        n, columns = values.shape
        buffer = np.empty((n, 2 if self.binary else columns), values.dtype)
        if self.inputs == "probs":
            bad = (values < 0) | (values == inf)
            if self.binary:
                bad |= values > 1
            if bad.any():
                row, column = (int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
                place = f"{first_row + row}" if self.binary else f"{first_row + row}, {column}"
                raise ValueError(
                    f"{name}[{place}] is {values[row, column]}, no probability; "
                    "inputs='probs' wants none that is negative or infinite" + (" or above 1" if self.binary else "")
                )
            if self.binary:
                # in float64: what 1 - p loses in float32 is the loss itself
                pair = np.empty((n, 2))
                pair[:, 1:] = values
                pair[:, 0] = 1.0 - pair[:, 1]
                logs = np.empty(pair.size)
                kernels.elementary_vectors("log", pair.reshape(-1), logs)
                buffer[...] = logs.reshape(n, 2)
            elif values.size:
                flat = np.ascontiguousarray(values).reshape(-1)
                kernels.elementary_vectors("log", flat, buffer.reshape(-1))
        else:
            buffer[:, 0] = 0
            buffer[:, 1:] = values
        return Logits(buffer, F64 if buffer.dtype == np.float64 else F32, None)


def divided(x: Logits, temperature: float) -> Logits:
    """A block of logits over the temperature, in working precision; itself for a temperature of 1."""
    if temperature == 1.0:
        return x
    values = decoded(x)
    buffer = np.empty(values.shape, values.dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.divide(values, values.dtype.type(temperature), out=buffer)
    return Logits(buffer, F64 if buffer.dtype == np.float64 else F32, None)


def decoded(x: Logits) -> NDArray[Any]:
    """A block in working precision: float32, or float64 for what is stored in 64 bits or as integers."""
    array = x.array
    if x.kind == BF16:
        # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64 if x.kind == F64 else np.float32, copy=False)
