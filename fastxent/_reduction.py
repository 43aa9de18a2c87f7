"""Row losses become a result: an array, their exact sum, or their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import as_out, bad_label
from fastxent._exact import ExactSum, to_float

Blocks = Iterator[tuple[int, int]]  # rows of a block, and how many of them were left out


def check_options(reduction: str, invalid: str, empty: str, out: Any) -> None:
    """Refuse options that no loss has."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if invalid not in ("raise", "ignore"):
        raise ValueError(f"invalid must be 'raise' or 'ignore', got {invalid!r}")
    if empty not in ("nan", "zero", "raise"):
        raise ValueError(f"empty must be 'nan', 'zero' or 'raise', got {empty!r}")
    if out is not None and reduction != "none":
        raise ValueError(f"out is taken with reduction='none' only, not with {reduction!r}")


def checked(blocks: Iterator[tuple[int, int, int]], target: Any, invalid: str, classes: int) -> Blocks:
    """Raise for the first invalid label, or leave its row out as an ignored one."""
    for rows, ignored, bad in blocks:
        if bad and invalid == "raise":
            raise bad_label(target, target.ignore_index, classes)
        yield rows, ignored + bad


def added(blocks: Blocks, total: ExactSum | None, flat: NDArray[Any] | None) -> Blocks:
    """The same blocks, whose losses, in `flat`, are added to a sum."""
    for rows, left_out in blocks:
        if total is not None and flat is not None:
            total.add(flat[:rows])
        yield rows, left_out


def reduced(
    score: Callable[..., Blocks],
    reduction: str,
    empty: str,
    out: NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    block: int,
    divisor: Divisor,
    inputs: dict[str, NDArray[Any]],
) -> Any:
    """The losses that `score` puts into `out`, or adds to `total`; `flat` has room for a block."""
    if reduction == "none":
        result = as_out(out, shape, dtype, **inputs)
        for _ in score(out=result):
            pass
        return result[()] if out is None else result
    total = ExactSum()
    losses = np.empty(block, dtype)
    for rows, left_out in score(total=total, flat=losses, row_weights=divisor.row_weights):
        divisor.add(rows, left_out)
    return np.float64(total.value()) if reduction == "sum" else divisor.mean(total, empty)


class Divisor:
    """What the mean divides by: the number of rows that count, or the sum of their weights."""

    __slots__ = ("_total", "row_weights", "used")

    def __init__(self, block: int, weighted: bool) -> None:
        self.row_weights: NDArray[np.float64] | None = np.empty(block) if weighted else None
        self._total = ExactSum() if weighted else None
        self.used = 0  # rows, but for those of weight 0

    def add(self, rows: int, left_out: int) -> None:
        """Add a block, whose weights are in `row_weights`."""
        if self.row_weights is None or self._total is None:
            self.used += rows - left_out
        else:
            self._total.add(self.row_weights[:rows])
            self.used += int(np.count_nonzero(self.row_weights[:rows]))

    def settle(self) -> None:
        """Bring what was added into one integer."""
        if self._total is not None:
            self._total.settle()

    def take(self, other: Divisor) -> None:
        """Add a settled one's rows."""
        if self._total is not None and other._total is not None:
            self._total.take(other._total)
        self.used += other.used

    def exactly(self) -> int | Fraction | None:
        """The divisor; None where it is not finite."""
        if self._total is None:
            return self.used
        return None if self._total.special() is not None else self._total.fraction()

    def value(self) -> float:
        """The divisor, rounded once; NaN where it is not finite, 1 where no row counts."""
        exact = self.exactly()
        return 1.0 if self.used == 0 else nan if exact is None else to_float(Fraction(exact))

    def mean(self, total: ExactSum, empty: str) -> Any:
        """The mean of what `total` has summed; over no row as `empty` says."""
        if self.used == 0:
            if empty == "raise":
                raise ValueError("the mean over no row: every label is ignored or out of range, or there is none")
            return np.float64(0.0 if empty == "zero" else nan)
        if self._total is None:
            return np.float64(total.mean(self.used))
        return np.float64(nan if self._total.special() is not None else total.over(self._total))
