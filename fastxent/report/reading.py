"""What a report is made of: the dictionary of a result, as `to_dict` gives it and as ``--json`` wrote it.

A field that is not there, or null, is left out of the report, and one that nobody knows is passed over, so that results
of older and newer versions can be read. A field of the wrong kind is an error, in one line that names it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastxent.report._numbers import visible

SPECIALS = ("inf", "-inf", "nan")
KINDS = {  # known by any of these fields
    "comparison": ("kl_mean", "ppl_base", "kl_quantiles", "same_top"),
    "evaluation": ("cross_entropy", "entropy", "accuracy", "reliability"),
}
QUANTILES = {"min": 0.0, "minimum": 0.0, "median": 0.5, "max": 1.0, "maximum": 1.0}

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One result: what it is called in the report, which kind it is, its fields."""

    name: str
    kind: str  # "evaluation" or "comparison"
    data: Mapping[str, Any]

    def number(self, name: str) -> float | None:
        """A number, or None where there is none."""
        return self.as_number(self.data.get(name), name)

    def count(self, name: str) -> int | None:
        """A whole number, or None where there is none."""
        x = self.data.get(name)
        if x is not None and type(x) is not int:
            raise self.error(name, x, "no whole number")
        return x

    def rows(self, name: str) -> list[Row]:
        """A table: a list of rows, rows by name, or a dictionary of columns."""
        x = self.data.get(name)
        if x is None:
            return []
        if isinstance(x, Mapping) and any(isinstance(column, (list, tuple)) for column in x.values()):
            x = self._columns(x, name)
        elif isinstance(x, Mapping):
            x = [{"name": key, **(row if isinstance(row, Mapping) else {"value": row})} for key, row in x.items()]
        if not isinstance(x, (list, tuple)) or not all(isinstance(row, Mapping) for row in x):
            raise self.error(name, x, "no table")
        return [dict(row) for row in x]

    def _columns(self, x: Mapping[str, Any], name: str) -> list[Row]:
        """Rows of columns, which are as long as the first; what is no column of plain values is left out."""
        lists = {key: column for key, column in x.items() if isinstance(column, (list, tuple))}
        if any(lists.values()):  # an empty list among full ones is a table without rows of its own
            lists = {key: column for key, column in lists.items() if column}
        columns = {
            key: column
            for key, column in lists.items()
            if not any(isinstance(cell, (list, tuple, Mapping)) for cell in column)
        }
        if len({len(column) for column in columns.values()}) > 1:
            raise self.error(name, x, "no table: its columns are of unequal length")
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def curve(self, name: str) -> list[tuple[float, float]]:
        """Numbers by number, sorted by the first: {"1": 0.5, "5": 0.75}, or pairs."""
        x = self.data.get(name)
        if x is None:
            return []
        if not isinstance(x, (Mapping, list, tuple)):
            raise self.error(name, x, "no table of numbers")
        found = []
        for key, value in _pairs(x):
            where, y = QUANTILES.get(str(key)), self.as_number(value, name)
            if where is None:
                try:
                    where = float(str(key).rstrip("%")) / (100 if str(key).endswith("%") else 1)
                except ValueError:
                    raise self.error(name, key, "no number") from None
            if y is not None:
                found.append((where, y))
        return sorted(found)

    def block(self, name: str) -> Mapping[str, Any]:
        """A dictionary within."""
        x = self.data.get(name)
        if x is not None and not isinstance(x, Mapping):
            raise self.error(name, x, "no object")
        return x or {}

    def as_number(self, x: Any, name: str) -> float | None:
        """A number as JSON has it."""
        if x is None:
            return None
        if isinstance(x, (int, float)) and not isinstance(x, bool):
            try:
                return float(x)
            except OverflowError:
                return float("inf") if x > 0 else float("-inf")
        if isinstance(x, str) and x in SPECIALS:
            return float(x)
        raise self.error(name, x, "no number")

    def error(self, name: str, x: Any, words: str) -> ValueError:
        """What to raise for a field of the wrong kind."""
        shown = repr(x)
        return ValueError(f"{self.name}: {name} is {shown[:40]}{'...' if len(shown) > 40 else ''}, {words}")


def _pairs(x: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(x, Mapping):
        return x.items()
    return [tuple(item) if isinstance(item, (list, tuple)) and len(item) == 2 else (item, None) for item in x]


def read(path: str | os.PathLike[str]) -> Result:
    """A result from a file that ``--json`` wrote.

    Raises
    ------
    ValueError
        For a file that is no JSON, or JSON of another kind.
    OSError
        Where it cannot be read.
    """
    name = visible(os.fspath(path))
    try:
        data = json.loads(Path(path).read_bytes())
    except RecursionError:
        raise ValueError(f"{name} is no result: its JSON is nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, of a number with thousands of digits
        raise ValueError(f"{name} is no JSON, as --json writes it: {visible(error)}") from None
    return as_result(data, name)


def as_result(x: Any, name: str | None = None) -> Result:
    """A result from what Python has: an `Evaluation`, or the dictionary that `to_dict` gives."""
    if isinstance(x, Result):
        return x
    data = x.to_dict() if hasattr(x, "to_dict") else x
    where = name or "the result"
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} is no result of fastxent, but {type(data).__name__}")
    if isinstance(data.get("format"), str) and "row_format" in data:
        raise ValueError(f"{where} is an accumulator's state; a report is made of its result")
    kinds = [kind for kind, known in KINDS.items() if any(field in data for field in known)]
    if not kinds or "rows" not in data:
        raise ValueError(f"{where} is no result of fastxent eval or fastxent compare: it has no field cross_entropy")
    result = Result(where, kinds[0], data)
    return result if name else Result(_given_name(result), kinds[0], data)


def _given_name(result: Result) -> str:
    """What the provenance calls it."""
    inputs = result.block("provenance")
    found = [inputs.get(key) for key in ("logits", "base", "other")]
    return visible(", ".join(str(x["name"]) for x in found if isinstance(x, Mapping) and "name" in x)) or "logits"


def results_of_one_kind(results: Iterable[Any]) -> list[Result]:
    """Results for one report: at least one, all of one kind, their names told apart."""
    found = [as_result(x) for x in results]
    if not found:
        raise ValueError("a report wants at least one result")
    for other in found[1:]:
        if other.kind != found[0].kind:
            raise ValueError(
                f"results of one kind go side by side, but {found[0].name} is an {found[0].kind}, "
                f"{other.name} an {other.kind}".replace("an comp", "a comp")
            )
    return _told_apart(found)


def _told_apart(results: list[Result]) -> list[Result]:
    """Short names: without the folders, but with them, or else with a number, where names are the same."""
    short = [Path(r.name).name or r.name for r in results]
    if len(set(short)) < len(short):
        whole = [r.name for r in results]
        short = whole if len(set(whole)) == len(whole) else [f"{name} ({i})" for i, name in enumerate(short, 1)]
    return [Result(name, r.kind, r.data) for name, r in zip(short, results, strict=True)]
