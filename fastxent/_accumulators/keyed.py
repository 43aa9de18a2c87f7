"""Counts and exact sums by key: bins, classes, groups and pairs of classes are all tables of this kind.

A key is an integer or a string. A table is a list of parts, each less than half as long as the one before, so that a
block of rows adds a short part and long ones move seldom; parts are never changed, so that an interrupt leaves a table
as it was. The sums are windows of the limbs of an exact sum (_kernels/exact.pxi), as wide as the values so far want: a
million groups of ordinary losses take about 90 bytes a sum, where a whole sum takes 584.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.state import keys_of, pack, unpack, whole
from fastxent._dispatch import kernels
from fastxent._exact import LIMB_BITS, SCALE, ExactSum

SPECIAL = 3  # behind a sum's limbs: counts of inf, -inf and NaN
CARRY_AT = 1 << 29  # additions of 2^32 at most, which 64 bits hold
MOST_LIMBS = 80
_HALF = 1 << (LIMB_BITS - 1)


@dataclass(frozen=True)
class Part:
    """Keys in order, each once, and what belongs to them."""

    keys: NDArray[Any]  # (n,)
    counts: NDArray[np.int64]  # (n, counts)
    sums: NDArray[np.int64]  # (n, sums, limbs + SPECIAL)
    first: int  # the first of the limbs
    added: int  # at most so many additions to one sum since the last carry

    @property
    def limbs(self) -> int:
        return int(self.sums.shape[2]) - SPECIAL


class Keyed:
    """Integer counts and exact sums by key, in any order of adding and merging the same.

    Parameters
    ----------
    counts, sums
        How many of each a key has.

    Examples
    --------
    >>> import numpy as np
    >>> t = Keyed(1, 1)
    >>> t.add(np.array([7, 3, 7]), [None], [(np.array([0.5, 1.0, 2.0]),)])
    >>> keys, counts = t.counts()
    >>> keys.tolist(), counts.tolist(), t.sums(0)[1].value()
    ([3, 7], [[1], [2]], 2.5)
    """

    def __init__(self, counts: int, sums: int) -> None:
        self._parts: tuple[Part, ...] = ()
        self._widths = (counts, sums)

    def add(
        self,
        keys: NDArray[Any],
        counts: Sequence[NDArray[Any] | None],
        sums: Sequence[tuple[NDArray[np.float64], ...]] = (),
    ) -> None:
        """Add rows.

        Parameters
        ----------
        keys
            A key a row, of one integer dtype or strings.
        counts
            For each count, integers or booleans a row; None counts the rows.
        sums
            For each sum, contiguous float64 values a row; several arrays where a value has a rounding error beside it.
        """
        if keys.size == 0:
            return
        unique, codes, rows = distinct(keys)
        table = np.empty((rows.size, len(counts)), np.int64)
        for i, column in enumerate(counts):
            if column is None:
                table[:, i] = rows
            elif column.dtype == bool:
                table[:, i] = np.bincount(codes[column], minlength=rows.size)
            else:
                whole_ = np.zeros(rows.size, np.int64)
                np.add.at(whole_, codes, column.astype(np.int64, copy=False))
                table[:, i] = whole_
        spans = [span for parts in sums for values in parts if (span := kernels.exact_span(values))[1]]
        first, end = min((a for a, _ in spans), default=0), max((b for _, b in spans), default=3)
        limbs = np.zeros((rows.size, len(sums), end - first + SPECIAL), np.int64)
        for i, parts in enumerate(sums):
            for values in parts:
                kernels.add_exact_at(limbs[:, i], first, codes, values)
        if unique.size < rows.size:
            there = rows > 0
            table, limbs = table[there], limbs[there]
        self._parts = _joined((*self._parts, Part(unique, table, limbs, first, 2 * keys.size)))

    def merged(self, other: Keyed) -> Keyed:
        """The table of both; neither is changed."""
        both = Keyed(*self._widths)
        # the longer ones first, as a list of parts has them
        both._parts = _joined(tuple(sorted((*self._parts, *other._parts), key=lambda part: -part.keys.size)))
        return both

    def part(self) -> Part:
        """All of it as one part."""
        if not self._parts:
            counts, sums = self._widths
            empty = np.zeros((0, counts), np.int64), np.zeros((0, sums, 3 + SPECIAL), np.int64)
            return Part(np.empty(0, np.int64), *empty, 0, 0)
        parts = list(self._parts)
        while len(parts) > 1:
            parts.append(_union(parts.pop(), parts.pop()))
        self._parts = (parts[0],)
        return parts[0]

    def counts(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The keys in order, and their counts, (keys, counts)."""
        part = self.part()
        return part.keys, part.counts

    def totals(self, which: int) -> tuple[list[int | None], int]:
        """A sum of each key as an integer times 2^(shift - SCALE), None where it is not finite; and the shift.

        The shift is at most SCALE, so that 1 is a multiple of the unit, whatever the sums are.
        """
        part = self.part()
        digits = part.sums[:, which, : part.limbs]
        # the halves of the digits, the upper ones made positive, are the bytes of two numbers
        low = digits.astype("<u4").tobytes()
        high = ((digits >> LIMB_BITS) + _HALF).astype("<u4").tobytes()
        size, shift = 4 * part.limbs, LIMB_BITS * part.first
        halves = _HALF * (((1 << 8 * size) - 1) // ((1 << LIMB_BITS) - 1))  # one in each digit
        more = max(0, shift - SCALE)
        odd: list[bool] = part.sums[:, which, part.limbs :].any(axis=1).tolist()  # type: ignore[assignment, union-attr, unused-ignore]
        whole_ = [
            None
            if special
            else (
                int.from_bytes(low[i : i + size], "little")
                + (int.from_bytes(high[i : i + size], "little") - halves << LIMB_BITS)
            )
            << more
            for i, special in zip(range(0, len(low), size), odd, strict=True)
        ]
        return whole_, shift - more

    def sums(self, which: int) -> list[ExactSum]:
        """A sum of each key, for tables of few keys."""
        special = self.part().sums[:, which, -SPECIAL:].tolist()
        totals, shift = self.totals(which)
        out = []
        for total, (positive, negative, nan_) in zip(totals, special, strict=True):
            one = ExactSum()
            one.total = (total or 0) << shift
            one.positive, one.negative, one.nan = positive, negative, nan_
            out.append(one)
        return out

    def state(self) -> dict[str, Any]:
        """JSON-able, and the same for the same content."""
        part = _trimmed(_carried(self.part()))
        text = part.keys.dtype.kind == "U"
        return {
            "keys": part.keys.tolist() if text else pack(part.keys),
            "counts": pack(part.counts),
            "first": part.first,
            "limbs": part.limbs,
            "sums": pack(part.sums),
        }

    @classmethod
    def from_state(cls, state: Any, counts: int, sums: int, what: str = "a table") -> Keyed:
        """The table that `state` was called on; ValueError for what it cannot have given."""
        keys_of(state, {"keys", "counts", "first", "limbs", "sums"}, what)
        limbs = whole(state["limbs"], f"limbs of {what}", 3, MOST_LIMBS)
        first = whole(state["first"], f"first limb of {what}", 0, MOST_LIMBS)
        if isinstance(state["keys"], list):
            if not all(isinstance(key, str) for key in state["keys"]):
                raise ValueError(f"keys of {what} are no strings")
            keys: NDArray[Any] = np.array(state["keys"], np.str_)
        else:
            keys = unpack(state["keys"], np.int64, f"keys of {what}", -1)
        if (keys[1:] <= keys[:-1]).any():
            raise ValueError(f"keys of {what} are not in order")
        numbers = unpack(state["counts"], np.int64, f"counts of {what}", keys.size, counts)
        digits = unpack(state["sums"], np.int64, f"sums of {what}", keys.size, sums, limbs + SPECIAL)
        low, top, special = digits[..., : limbs - 1], digits[..., limbs - 1], digits[..., limbs:]
        if (numbers < 0).any() or (special < 0).any() or ((low < 0) | (low >> LIMB_BITS > 0)).any():
            raise ValueError(f"a count or a digit of {what} is out of range")
        if (np.abs(top) >> (LIMB_BITS + 1) > 0).any():
            raise ValueError(f"a digit of {what} is out of range")
        self = cls(counts, sums)
        if keys.size:
            self._parts = (Part(keys, numbers, digits, first, 1),)
        return self


def distinct(keys: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The different keys in order, each row's place in a table, and how many rows are at each of its places.

    The table has a place for each key, in order; where the keys lie close, for the keys between them, too, with 0 rows.
    """
    if keys.dtype.kind != "U":
        keys = keys.astype(np.int64, copy=False)
        low, high = int(keys.min()), int(keys.max())
        if high - low < keys.size // 16 or (0 <= low and high < keys.size // 16):  # no sorting, and no second look
            low = 0 if 0 <= low and high < keys.size // 16 else low
            codes = keys - low if low else keys
            rows = np.bincount(codes)
            return np.flatnonzero(rows) + low, codes, rows
        if high - low < 4 * keys.size:  # no sorting
            places = keys - low
            rows = np.bincount(places)
            there = rows.nonzero()[0]
            codes = np.empty(rows.size, np.int64)
            codes[there] = np.arange(there.size)
            return there + low, codes[places], rows[there]
        unique, codes = np.unique(keys, return_inverse=True)
        codes = codes.astype(np.int64, copy=False)
    else:
        # rows of one document lie together: sort the heads of the runs alone
        change = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        heads = np.concatenate([[0], change])
        unique, codes = np.unique(keys[heads], return_inverse=True)
        codes = np.repeat(codes.astype(np.int64, copy=False), np.diff(np.append(heads, keys.size)))
    return unique, codes, np.bincount(codes, minlength=unique.size)


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    kept: list[Part] = []
    for part in parts:
        while kept and 2 * part.keys.size >= kept[-1].keys.size:
            part = _union(kept.pop(), part)
        kept.append(part)
    return tuple(kept)


def _union(a: Part, b: Part) -> Part:
    """The part with the keys of both."""
    if a.added + b.added > CARRY_AT:
        a, b = _carried(a), _carried(b)
    if a.keys.size == b.keys.size and (a.keys == b.keys).all():
        keys, places = a.keys, np.arange(2 * a.keys.size) % max(1, a.keys.size)
    else:
        keys, places = np.unique(np.concatenate([a.keys, b.keys]), return_inverse=True)
    first = min(a.first, b.first)
    end = max(a.first + a.limbs, b.first + b.limbs)
    counts = np.zeros((keys.size, a.counts.shape[1]), np.int64)
    sums = np.zeros((keys.size, a.sums.shape[1], end - first + SPECIAL), np.int64)
    for part, where in ((a, places[: a.keys.size]), (b, places[a.keys.size :])):
        counts[where] += part.counts
        low = part.first - first
        sums[where, :, low : low + part.limbs] += part.sums[..., : part.limbs]
        sums[where, :, end - first :] += part.sums[..., part.limbs :]
    return Part(keys, counts, sums, first, a.added + b.added)


def _carried(part: Part) -> Part:
    """The part with every digit but the last in [0, 2^32), and room above."""
    n, columns, _ = part.sums.shape
    # 2^30 additions of 2^32 and the carries of the limb below are less than 2^63: two limbs more hold all
    sums = np.zeros((n, columns, part.limbs + 2 + SPECIAL), np.int64)
    sums[..., : part.limbs] = part.sums[..., : part.limbs]
    sums[..., part.limbs + 2 :] = part.sums[..., part.limbs :]
    for i in range(part.limbs + 1):
        up = sums[..., i] >> LIMB_BITS
        sums[..., i] -= up << LIMB_BITS
        sums[..., i + 1] += up
    return _trimmed(replace(part, sums=sums, added=1))


def _trimmed(part: Part) -> Part:
    """A carried part without limbs that say nothing: the same digits for the same numbers, whatever the window was."""
    digits = part.sums[..., : part.limbs]
    special = part.sums[..., part.limbs :]
    said = np.flatnonzero(digits.any(axis=(0, 1)))
    if said.size == 0:
        sums = np.zeros((*part.sums.shape[:2], 3 + SPECIAL), np.int64)
        sums[..., 3:] = special
        return replace(part, sums=sums, first=0)
    start, end = int(said[0]), digits.shape[2]
    # the sign's extension, 0 or -1, goes into the digit below
    while end - start > 3 and ((digits[..., end - 1] == 0) | (digits[..., end - 1] == -1)).all():
        digits = digits[..., :end].copy()
        digits[..., end - 2] += digits[..., end - 1] << LIMB_BITS
        end -= 1
    return replace(part, sums=np.concatenate([digits[..., start:end], special], axis=2), first=part.first + start)
