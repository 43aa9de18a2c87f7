"""What the accumulators share: counts, first places and parts that merge, and a state that is checked when it is read.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastxent import _dispatch
from fastxent._accumulators.state import keys_of, whole, whole_or_none
from fastxent.results import wrong_rows

# what became of a row, in files of rows too; the kernels say the first three of its label (_kernels/labels.pxi)
STATUS = ("used", "ignored", "invalid", "nonfinite", "masked")
USED, IGNORED, INVALID, NONFINITE, MASKED = range(5)

FIRST = ("invalid", "nonfinite")  # of which the first place is kept


class AnyLayout(Protocol):
    """What every block of an accumulator brings."""

    def words_of(self) -> str: ...
    def state(self) -> dict[str, Any]: ...


Self = TypeVar("Self", bound="Accumulator")


class Accumulator(ABC):
    """Rows added in blocks, in any order, merged in any order, to the same bits."""

    STATE_FORMAT: ClassVar[str]
    STATE_VERSION: ClassVar[int]
    COUNTS: ClassVar[tuple[str, ...]]  # merge by addition

    def __init__(self, logits_dtype: str | None = None) -> None:
        self._logits_dtype = logits_dtype
        self._row_format = _dispatch.row_format
        self._layout: Any = None  # what the blocks bring, from the first one on
        self._next = 0  # row number that an update without `start` begins with
        self._counts = dict.fromkeys(self.COUNTS, 0)
        self._first: dict[str, int | None] = dict.fromkeys(FIRST)
        self._parts: dict[str, Any] = {}  # by name; each has merged, state and a way back

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options, JSON-able; accumulators merge where theirs are equal."""

    @abstractmethod
    def _update(self, *arguments: Any) -> None:
        """Add a block: logits, in the order of the class's `update`, labels, start, columns, threads, sink."""

    @abstractmethod
    def _adopt(self, layout: Any) -> None:
        """Take a layout, and make empty parts for it."""

    @abstractmethod
    def _load(self, layout: Any, parts: Any) -> None:
        """Take the states of the layout, where there is one, and of the parts."""

    def _empty_like(self: Self, layout: AnyLayout) -> Self:
        """An accumulator for a block of that layout, which goes with those before."""
        if self._row_format != _dispatch.row_format:
            raise ValueError(f"rows of row format {self._row_format} and {_dispatch.row_format} do not mix")
        self._check_layout(layout)
        block = type(self)(**self.options)
        block._adopt(layout)
        return block

    def _check_layout(self, layout: AnyLayout) -> None:
        if self._layout not in (None, layout):
            raise ValueError(f"rows of {layout.words_of()} do not go with those before, of {self._layout.words_of()}")

    def _tally(self, status: NDArray[np.uint8], row: int) -> int:
        """Count what became of rows, the first of which has that number; gives how many are used."""
        by_status: list[int] = np.bincount(status, minlength=len(STATUS)).tolist()
        self._counts["rows"] += len(status)
        for code, name in enumerate(STATUS):
            if code != USED:
                self._counts[name] += by_status[code]
            if name in FIRST and by_status[code]:
                self._first[name] = smallest(self._first[name], row + int(np.argmax(status == code)))
        return by_status[USED]

    def wrong_rows(self) -> str:
        """Invalid labels and non-finite rows in words, for who wants none; else an empty string."""
        return wrong_rows(
            self._counts["invalid"], self._first["invalid"], self._counts["nonfinite"], self._first["nonfinite"]
        )

    def merge(self: Self, other: Self) -> None:
        """Add another accumulator. The order of merging changes no bit of a result.

        Raises
        ------
        ValueError
            For other options, another number of classes, other columns, or rows of another row format.
        """
        if other.options != self.options:
            raise ValueError(f"accumulators of other options do not merge: {self.options} and {other.options}")
        if other._layout is not None:
            self._check_layout(other._layout)
        if self._row_format != other._row_format:
            raise ValueError(f"rows of row format {self._row_format} and {other._row_format} do not mix")
        if self._layout is None or other._layout is None:
            parts = self._parts or other._parts
        else:
            parts = {name: part.merged(other._parts[name]) for name, part in self._parts.items()}
        both = {
            "_layout": self._layout or other._layout,
            "_next": max(self._next, other._next),
            "_counts": {name: n + other._counts[name] for name, n in self._counts.items()},
            "_first": {what: smallest(row, other._first[what]) for what, row in self._first.items()},
            "_parts": parts,
        }
        # in one step: a signal is looked at before or after it
        self.__dict__.update(both)

    def state(self) -> dict[str, Any]:
        """The accumulator as JSON-able data, with a version."""
        return {
            "format": self.STATE_FORMAT,
            "version": self.STATE_VERSION,
            "row_format": self._row_format,
            "options": self.options,
            "logits_dtype": self._logits_dtype,
            "layout": None if self._layout is None else self._layout.state(),
            "next": self._next,
            "counts": dict(self._counts),
            "first": dict(self._first),
            "parts": {name: part.state() for name, part in self._parts.items()},
        }

    @classmethod
    def from_state(cls: type[Self], state: dict[str, Any]) -> Self:
        """The accumulator that `state` was called on, in this process or another.

        Raises
        ------
        ValueError
            For anything but a state of a known version.
        """
        what = f"{'an' if cls.__name__[0] in 'AEIOU' else 'a'} {cls.__name__}"
        if not isinstance(state, dict) or state.get("format") != cls.STATE_FORMAT:
            raise ValueError(f"no state of {what}: its format should be {cls.STATE_FORMAT!r}")
        if state.get("version") != cls.STATE_VERSION:
            raise ValueError(f"state of version {state.get('version')!r}; this fastxent knows {cls.STATE_VERSION}")
        try:
            return cls._from_state(state)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"broken state of {what}: {error}") from None

    @classmethod
    def _from_state(cls: type[Self], state: dict[str, Any]) -> Self:
        options = state["options"]
        whole(options["ignore_index"], "ignore_index", -(1 << 63))
        if not isinstance(state["row_format"], str):
            raise ValueError(f"row_format is {state['row_format']!r}")
        if state["logits_dtype"] not in (None, "bfloat16"):
            raise ValueError(f"logits_dtype is {state['logits_dtype']!r}")
        self = cls(**options, logits_dtype=state["logits_dtype"])
        if self.options != options:
            raise ValueError(f"its options are {options}")
        self._row_format = state["row_format"]
        self._next = whole(state["next"], "next", -(1 << 63))
        keys_of(state["counts"], set(cls.COUNTS), "counts")
        keys_of(state["first"], set(FIRST), "first places")
        self._counts = {name: whole(state["counts"][name], name) for name in cls.COUNTS}
        self._first = {what: whole_or_none(state["first"][what], f"first {what}", -(1 << 63)) for what in FIRST}
        self._load(state["layout"], state["parts"])
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(type(self).from_state(state).__dict__)


def smallest(a: int | None, b: int | None) -> int | None:
    """The smaller row number of two first places."""
    return b if a is None else a if b is None else min(a, b)


def at_least(least: int, n: Any, name: str) -> int:
    """An option that is an integer from `least` on."""
    try:
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {n!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def counts_of(ks: Any, name: str) -> tuple[int, ...]:
    """An option that is several counts, in order."""
    if isinstance(ks, str) or not isinstance(ks, Iterable):
        raise TypeError(f"{name} must be several integers, such as (1, 5), got {ks!r}")
    return tuple(sorted({at_least(1, k, name) for k in ks}))
