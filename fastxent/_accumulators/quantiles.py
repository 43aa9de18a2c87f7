"""Quantiles of any number of values, of which no order of adding or merging changes a bit.

Up to 2^20 values are kept, and their quantiles are exact. Beyond, each value is counted in a bin whose name is the
upper part of its bits (sign, exponent and 7 bits of the fraction), so that the middle of a bin is within 2^-8, 0.4 %,
of every value in it (but for numbers below the smallest normal one); the smallest and the largest stay exact.
HdrHistogram and DDSketch (Masson, Rim, Lee, PVLDB 12(12), 2019) have such bins; here the exponent field stands for the
logarithm. The number of values alone decides which it is.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.state import keys_of, pack, unpack, whole

LIMIT = 1 << 20  # values that are kept; fixed in the state's format
PREFIX_BITS = 19  # 1 of sign, 11 of exponent, 7 of fraction
BINS = 1 << PREFIX_BITS
PENDING = 1 << 16  # values that wait for their bins, whose table is long
DROPPED = 64 - PREFIX_BITS
PIECE = 1 << 14  # values whose bins are found together, in cache


def prefixes(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bins of values, in the values' order: the negative ones count downwards below 2^18."""
    bits = (values + 0.0).view(np.int64)  # -0 + 0 is 0
    half = BINS >> 1
    if bits.size and bits.min() >= 0:
        bits >>= DROPPED
        bits += half
        return bits
    prefix = (bits & np.int64((1 << 63) - 1)) >> DROPPED
    bins: NDArray[np.int64] = np.where(bits < 0, half - 1 - prefix, half + prefix)
    return bins


def middle(place: int) -> float:
    """The middle of a bin; 0 of that which holds 0 (and numbers below 2^-1029), infinity of infinity's."""
    half = BINS >> 1
    prefix = place - half if place >= half else half - 1 - place
    if prefix == 0:
        return 0.0
    # infinity is alone in its bin: a NaN is never added
    bits = prefix << DROPPED | (0 if prefix == 2047 << (PREFIX_BITS - 12) else 1 << (DROPPED - 1))
    size = float(np.int64(bits).view(np.float64))
    return size if place >= half else -size


class Quantiles:
    """Quantiles of values that are added and merged in any order.

    Examples
    --------
    >>> import numpy as np
    >>> q = Quantiles()
    >>> q.add(np.array([3.0, 1.0, 2.0, 10.0]))
    >>> q.exact, q.at(0.5), q.at(1)
    (True, 2.5, 10.0)
    """

    __slots__ = ("_bins", "_chunks", "_largest", "_smallest", "count")

    def __init__(self) -> None:
        self.count = 0
        self._chunks: tuple[NDArray[np.float64], ...] = ()  # values that no bin counts yet
        self._bins: NDArray[np.int64] | None = None  # count of each bin, beyond LIMIT
        self._smallest, self._largest = inf, -inf

    @property
    def exact(self) -> bool:
        """Whether all values are kept."""
        return self.count <= LIMIT

    def add(self, values: NDArray[Any]) -> None:
        """Add float32 or float64 values; infinities are ordinary, a NaN is not to be given."""
        if values.size == 0:
            return
        one = Quantiles()
        one.count = values.size
        one._chunks = (values.astype(np.float64),)
        one._smallest, one._largest = float(values.min()) + 0.0, float(values.max()) + 0.0  # -0 + 0 is 0
        both = self.merged(one)
        for name in self.__slots__:
            setattr(self, name, getattr(both, name))

    def merged(self, other: Quantiles) -> Quantiles:
        """The quantiles of both; neither is changed."""
        both = Quantiles()
        both.count = self.count + other.count
        both._smallest = min(self._smallest, other._smallest)
        both._largest = max(self._largest, other._largest)
        both._chunks = _joined((*self._chunks, *other._chunks))
        some = [part._bins for part in (self, other) if part._bins is not None]
        both._bins = some[0] if len(some) == 1 else some[0] + some[1] if some else None
        if both.count > LIMIT and sum(chunk.size for chunk in both._chunks) >= PENDING:
            both._bins, both._chunks = both._table(), ()
        return both

    def _table(self) -> NDArray[np.int64]:
        """The counts of all bins."""
        bins = np.zeros(BINS, np.int64) if self._bins is None else self._bins.copy()
        for chunk in self._chunks:
            for start in range(0, chunk.size, PIECE):
                places = prefixes(chunk[start : start + PIECE])
                low = int(places.min())
                places -= low
                some = np.bincount(places)
                bins[low : low + some.size] += some
        return bins

    def at(self, fraction: float | Fraction) -> float:
        """The value at fraction (n - 1) of the sorted values, between two of them by linear interpolation."""
        return self.many((fraction,))[0]

    def many(self, fractions: tuple[float | Fraction, ...]) -> list[float]:
        """Several quantiles; NaN where there is no value."""
        if not self.count:
            return [nan] * len(fractions)
        last = self.count - 1
        ratios = [fraction.as_integer_ratio() for fraction in fractions]
        places = [last * numerator // denominator for numerator, denominator in ratios]
        found = self._order([*places, *(min(place + 1, last) for place in places)])
        out = []
        for (numerator, denominator), a, b in zip(ratios, found[: len(places)], found[len(places) :], strict=True):
            part = last * numerator % denominator / denominator
            # not a (1 - part) + b part, which leaves equal values; and infinity times 0 is NaN
            out.append(a if part == 0.0 or a == b or (a == -inf and b < inf) else a + part * (b - a))
        return out

    def _order(self, places: list[int]) -> list[float]:
        """The order statistics at places from 0 on."""
        if self.exact:
            in_order: list[float] = self._sorted()[places].tolist()
            return in_order
        bins = np.searchsorted(np.cumsum(self._table()), places, side="right").tolist()
        return [
            self._smallest
            if place == 0
            else self._largest
            if place == self.count - 1
            else min(max(middle(b), self._smallest), self._largest)
            for place, b in zip(places, bins, strict=True)
        ]

    def _sorted(self) -> NDArray[np.float64]:
        return np.sort(np.concatenate(self._chunks)) + 0.0 if self._chunks else np.empty(0)  # -0 + 0 is 0

    def histogram(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Counts of values below each edge, at which a bin begins: exact whether the values are kept or not."""
        if self.exact:
            return np.searchsorted(self._sorted(), edges).astype(np.int64)
        below = np.concatenate([[0], np.cumsum(self._table())])
        counts: NDArray[np.int64] = below[prefixes(edges)]
        return counts

    def state(self) -> dict[str, Any]:
        """JSON-able: the sorted values, or the bins that are not empty, and their counts."""
        if self.exact:
            return {"count": self.count, "values": pack(self._sorted())}
        bins = self._table()
        places = np.flatnonzero(bins)
        ends = np.array([self._smallest, self._largest]) + 0.0
        return {"count": self.count, "bins": pack(places), "counts": pack(bins[places]), "ends": pack(ends)}

    @classmethod
    def from_state(cls, state: Any) -> Quantiles:
        """The quantiles that `state` was called on; ValueError for what it cannot have given."""
        self = cls()
        exact = isinstance(state, dict) and "values" in state
        keys_of(state, {"count", "values"} if exact else {"count", "bins", "counts", "ends"}, "quantiles")
        count = whole(state["count"], "count of quantiles")
        if exact:
            values = unpack(state["values"], np.float64, "values of quantiles", -1)
            if values.size != count or count > LIMIT or np.isnan(values).any():
                raise ValueError(f"quantiles of {count} values hold {values.size}, or NaN")
            self.add(values)
            return self
        places = unpack(state["bins"], np.int64, "bins of quantiles", -1)
        counts = unpack(state["counts"], np.int64, "counts of quantiles", places.size)
        ends = unpack(state["ends"], np.float64, "ends of quantiles", 2)
        if places.size == 0 or places[0] < 0 or places[-1] >= BINS or (np.diff(places) <= 0).any():
            raise ValueError("bins of quantiles are not in order")
        if (counts <= 0).any() or sum(counts.tolist()) != count or count <= LIMIT:
            raise ValueError(f"counts of quantiles do not make {count}")
        if np.isnan(ends).any() or (prefixes(ends) != places[[0, -1]]).any():
            raise ValueError("ends of quantiles do not lie in their bins")
        self.count = count
        self._smallest, self._largest = ends.tolist()
        self._bins = np.zeros(BINS, np.int64)
        self._bins[places] = counts
        return self


def _joined(chunks: tuple[NDArray[np.float64], ...]) -> tuple[NDArray[np.float64], ...]:
    """Chunks each less than half as long as the one before, so that few stand side by side and each moves seldom."""
    kept: list[NDArray[np.float64]] = []
    for chunk in chunks:
        while kept and 2 * chunk.size >= kept[-1].size:
            chunk = np.concatenate([kept.pop(), chunk])
        kept.append(chunk)
    return tuple(kept)
