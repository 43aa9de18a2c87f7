"""What results are made of: tables, a column each, and the way from them to what JSON has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from math import isinf, isnan
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


class Table(Generic[Item]):
    """Columns, arrays or dictionaries of such, equal where all are: a dataclass whose fields `ITEM` has for a row."""

    ITEM: ClassVar[Any]
    OPTIONAL: ClassVar[tuple[str, ...]] = ()  # columns that JSON has where they say something

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def dictionaries(self) -> list[dict[str, Any]]:
        """A dictionary a row, as JSON has it."""
        columns = {f.name: getattr(self, f.name) for f in fields(self.ITEM)}
        for name in self.OPTIONAL:
            if np.isnan(columns[name]).all():
                del columns[name]
        count = next(len(column) for column in columns.values() if not isinstance(column, dict))
        lists = [plain([_item(column, i) for i in range(count)]) for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


class Named(Table[Item]):
    """A table whose rows have names, in order; an item is a row."""

    name: NDArray[Any]

    def __len__(self) -> int:
        return len(self.name)

    def __iter__(self) -> Iterator[Item]:
        return (self._at(i) for i in range(len(self)))

    def __getitem__(self, name: int | str) -> Item:
        """The row of a name; KeyError where there is none."""
        place = int(np.searchsorted(self.name, name)) if isinstance(name, str) == (self.name.dtype.kind == "U") else -1
        if not 0 <= place < len(self) or self.name[place] != name:
            raise KeyError(name)
        return self._at(place)

    def _at(self, i: int) -> Item:
        item: Item = self.ITEM(**{f.name: _item(getattr(self, f.name), i) for f in fields(self.ITEM)})
        return item


def _item(column: Any, i: int) -> Any:
    return {k: _item(some, i) for k, some in column.items()} if isinstance(column, dict) else column[i].item()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b or (a != a and b != b))


def plain(x: Any) -> Any:
    """What JSON has for it: lists, dictionaries with text for keys, infinities and NaN as text.

    Of an item whose `count` is 0 NaN is null.
    """
    if isinstance(x, float) and (isnan(x) or isinf(x)):
        return str(x)
    if isinstance(x, np.ndarray):
        return plain(x.tolist())
    if isinstance(x, Table):
        return x.dictionaries()
    if is_dataclass(x):
        empty = getattr(x, "count", None) == 0  # of no row nothing is said
        items = {f.name: plain(getattr(x, f.name)) for f in fields(x)}
        return {name: None if empty and value == "nan" else value for name, value in items.items()}
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return x
