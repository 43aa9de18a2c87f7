"""Exact sums: one integer times 2^-1074, beside counts of what is not finite.

The kernels add into limbs (``_kernels/exact.pxi``); here the limbs become a Python integer, with which everything else
is exact: merging, squares of sums, and a quotient that is rounded once (Python's integer division is).
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._dispatch import kernels

SCALE = 1074  # a sum is an integer times 2^-SCALE
LIMB_BITS = 32
_UNIT = 1 << SCALE


class ExactSum:
    """The exact sum of any number of float32 or float64 values.

    Adding, merging and the value are independent of the order, to the last bit.

    Examples
    --------
    >>> import numpy as np
    >>> s = ExactSum()
    >>> s.add(np.array([1e300, 1.0, -1e300]))
    >>> s.value()
    1.0
    """

    __slots__ = ("_limbs", "nan", "negative", "positive", "total")

    def __init__(self) -> None:
        self._limbs: NDArray[np.int64] | None = None  # what `total` does not hold yet
        self.total = 0
        self.positive = self.negative = self.nan = 0

    def add(self, values: NDArray[Any]) -> None:
        """Add contiguous float32 or float64 values."""
        if self._limbs is None:
            self._limbs = np.zeros(kernels.exact_size, np.int64)
        kernels.add_exact(self._limbs, values)

    def add_sums(self, sums: NDArray[np.int64]) -> None:
        """Add sums that the kernels have filled, of shape (n, limbs)."""
        limbs = sums.sum(axis=0)
        self._limbs = limbs if self._limbs is None else self._limbs + limbs

    def add_limbs(self, limbs: NDArray[np.int64]) -> None:
        """Add limbs that the kernels have filled."""
        *numbers, positive, negative, nan_ = limbs.tolist()
        for i in limbs[:-3].nonzero()[0].tolist():  # few: a small call must not pay for all
            self.total += numbers[i] << (LIMB_BITS * i)
        self.positive += positive
        self.negative += negative
        self.nan += nan_

    def settle(self) -> None:
        """Bring what was added into the integer `total` and the counts."""
        if self._limbs is not None:
            self.add_limbs(self._limbs)
            self._limbs = None

    def take(self, other: ExactSum) -> None:
        """Add a settled sum."""
        self.total += other.total
        self.positive += other.positive
        self.negative += other.negative
        self.nan += other.nan

    def merge(self, other: ExactSum) -> None:
        """Add another sum."""
        self.settle()
        other.settle()
        self.take(other)

    @property
    def finite(self) -> bool:
        """Whether nothing but finite values was added."""
        self.settle()
        return not (self.positive or self.negative or self.nan)

    def special(self) -> float | None:
        """Infinity or NaN where the sum is not finite, else None."""
        self.settle()
        if self.nan or (self.positive and self.negative):
            return nan
        if self.positive:
            return inf
        return -inf if self.negative else None

    def fraction(self) -> Fraction:
        """The finite part, exactly."""
        self.settle()
        return Fraction(self.total, _UNIT)

    def value(self) -> float:
        """The sum, rounded once."""
        return self.mean(1)

    def mean(self, weight: int | Fraction) -> float:
        """The sum over `weight`, rounded once; as IEEE division for a weight of 0."""
        if self._limbs is not None and type(weight) is int and 0 < weight < 1 << 32:
            if not (self.total or self.positive or self.negative or self.nan):
                # all is in the limbs, and a small call need not make an integer of them
                mean: float = kernels.exact_mean(self._limbs, weight)
                return mean
        special = self.special()
        if weight == 0:
            return quotient(self.total, 0) if special is None else special
        if special is not None:
            return special if weight > 0 else -special
        return quotient(self.total * weight.denominator, weight.numerator * _UNIT)

    def over(self, weight: ExactSum) -> float:
        """The sum over another one, which is finite; as `mean` of its fraction."""
        special = self.special()
        weight.settle()
        if special is None and weight.total > 0:
            # both are integers of one unit
            return quotient(self.total, weight.total)
        return self.mean(weight.fraction())

    def state(self) -> list[str | int]:
        """JSON-able: the integer as text (JSON numbers end at 2^53), then the three counts."""
        self.settle()
        return [hex(self.total), self.positive, self.negative, self.nan]

    @classmethod
    def from_state(cls, state: list[str | int]) -> ExactSum:
        """The sum that `state` was called on."""
        text, positive, negative, nan_ = state
        self = cls()
        self.total = int(str(text), 16)
        self.positive, self.negative, self.nan = int(positive), int(negative), int(nan_)
        return self


def to_float(x: Fraction) -> float:
    """The nearest float64; infinity beyond its range."""
    return quotient(x.numerator, x.denominator)


def quotient(numerator: int, denominator: int) -> float:
    """The float64 nearest to a quotient; infinity beyond its range, as IEEE division for a denominator of 0.

    Python's division of integers rounds once.
    """
    if denominator == 0:
        return nan if numerator == 0 else inf if numerator > 0 else -inf
    try:
        return numerator / denominator
    except OverflowError:
        return inf if (numerator > 0) == (denominator > 0) else -inf


def two_product(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Arrays whose sum is x y exactly: the product and, where there is any, its rounding error.

    Dekker, Numer. Math. 18 (1971). Exact for sizes between 2^-480 and 2^500; a product beyond is as it rounds.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        high = x * y
        split = 134217729.0 * x  # 2^27 + 1
        a = split - (split - x)
        b = x - a
        split = 134217729.0 * y
        c = split - (split - y)
        d = y - c
        low = ((a * c - high) + a * d + b * c) + b * d
    if not low.any():
        return (high,)
    low[~np.isfinite(low)] = 0.0
    return high, low


class ExactSums:
    """A table of exact sums that are added to together: the sums of an accumulator.

    A block is added to a table of its own, and a new table made of both, so that an interrupt changes neither.
    """

    __slots__ = ("_found", "_limbs", "_sums")

    def __init__(self, n: int) -> None:
        self._limbs: NDArray[np.int64] = np.zeros((n, kernels.exact_size), np.int64)
        self._sums = [ExactSum() for _ in range(n)]
        self._found: list[ExactSum] | None = None  # the sums of both

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, place: int, values: NDArray[np.float64]) -> None:
        """Add contiguous values to one sum."""
        self._found = None
        kernels.add_exact(self._limbs[place], values)

    def add_products(self, place: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """Add the exact products of values to one sum."""
        self._found = None
        kernels.add_exact_products(self._limbs[place], x, y)

    def merged(self, other: ExactSums) -> ExactSums:
        """A table with the sums of both, sum by sum. 2^30 tables' limbs add up before they could overflow."""
        both = ExactSums(len(self))
        np.add(self._limbs, other._limbs, out=both._limbs)
        for total, mine, theirs in zip(both._sums, self._sums, other._sums, strict=True):
            total.take(mine)
            total.take(theirs)
        return both

    def __getitem__(self, place: int) -> ExactSum:
        """The sum at a place."""
        if self._found is None:
            self._found = self._all()
        return self._found[place]

    def _all(self) -> list[ExactSum]:
        both = [ExactSum() for _ in self._sums]
        for total, before, (positive, negative, nan_) in zip(
            both, self._sums, self._limbs[:, -3:].tolist(), strict=True
        ):
            total.take(before)
            total.positive += positive
            total.negative += negative
            total.nan += nan_
        numbers = self._limbs[:, :-3]
        where = numbers.nonzero()  # few
        for place, i, number in zip(*(x.tolist() for x in where), numbers[where].tolist(), strict=True):
            both[place].total += number << (LIMB_BITS * i)
        return both

    def state(self) -> list[list[str | int]]:
        """JSON-able."""
        return [self[i].state() for i in range(len(self))]

    @classmethod
    def from_state(cls, state: list[list[str | int]]) -> ExactSums:
        """The table that `state` was called on."""
        self = cls(len(state))
        self._sums = [ExactSum.from_state(s) for s in state]
        return self
