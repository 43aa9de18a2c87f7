"""A table of two variables, and the sums over its cells that entropies and mutual information are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite, nan
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, Logits, as_logits
from fastxent._dispatch import kernels
from fastxent._passes.plain import plain
from fastxent._threads import default_floats, taking

BLOCK_CELLS = 1 << 18
FEW_CELLS = 1 << 10  # of which it is not looked whether most are 0
SERIAL_CELLS = 1 << 14
MOST_COUNTS = 1 << 31

# terms of the kernels (_kernels/tables.pxi)
JOINT, GIVEN_ROW, GIVEN_COLUMN, MUTUAL = range(4)

Places = NDArray[np.int64]


def as_log_base(base: float | None) -> float:
    """The logarithm to divide by: 1 for nats."""
    if base is None:
        return 1.0
    if isinstance(base, (bool, np.bool_)) or not isinstance(base, (int, float, np.integer, np.floating)):
        raise TypeError(f"base must be a number or None, got {base!r}")
    value = float(base)
    if not (isfinite(value) and value > 0 and value != 1):
        raise ValueError(f"base must be positive, finite and not 1, got {base!r}")
    return log_of(value)


def log_of(x: float) -> float:
    """The logarithm of one number."""
    out = np.empty(1)
    kernels.elementary("log", np.array([x]), out)
    return float(out[0])


class Table:
    """Entries up to scale: an array of two dimensions, or the rows, columns and values of those that are not 0.

    Attributes
    ----------
    largest
        Of the entries; NaN where one is, 0 where there is none.

    Raises
    ------
    ValueError
        For a negative or infinite entry, naming its place.
    """

    __slots__ = ("columns", "dense", "largest", "rows", "shape", "single", "values")

    def __init__(
        self,
        shape: tuple[int, int],
        dense: Logits | None,
        rows: Places | None = None,
        columns: Places | None = None,
        values: NDArray[Any] | None = None,
        name: str = "table",
    ) -> None:
        self.shape = shape
        self.dense = dense
        self.rows, self.columns, self.values = rows, columns, values
        self.single: list[tuple[int, NDArray[np.float64]]] | None = None  # the block, where there is one
        self.largest = 0.0
        for start, some in self.blocks():
            top, bad = kernels.table_extent(some)
            if bad >= 0:
                self._refuse(name, start + bad, some[bad])
            if top > self.largest or top != top:  # and nothing is above NaN
                self.largest = top

    def _refuse(self, name: str, number: int, value: float) -> NoReturn:
        row, column = (int(place[0]) for place in self.places(number, 1))
        raise ValueError(f"{name}[{row}, {column}] is {value}; probabilities and counts are finite and not negative")

    def blocks(self) -> Iterable[tuple[int, NDArray[np.float64]]]:
        """Values, block by block in C order, and the number of the first."""
        return self.single if self.single is not None else self._blocks()

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        array = self.values if self.dense is None else self.dense.array
        assert array is not None
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat  # `flat` copies, and takes its time
        for start in range(0, array.size, BLOCK_CELLS):
            block = flat[start : start + BLOCK_CELLS]
            if self.dense is not None and self.dense.kind == BF16:
                # the upper half of a float32
                block = (block.astype(np.uint32) << 16).view(np.float32)
            if block.dtype != np.float64 or not block.flags.aligned:
                with default_floats():
                    block = block.astype(np.float64)
            if array.size <= BLOCK_CELLS:
                self.single = [(start, block)]
            yield start, block

    def places(self, start: int, count: int) -> tuple[Places, Places]:
        """The rows and columns of so many values from one on."""
        if self.rows is not None and self.columns is not None:
            return self.rows[start : start + count], self.columns[start : start + count]
        return np.divmod(np.arange(start, start + count), self.shape[1])


def of_array(array: NDArray[Any]) -> Table:
    """The table of an array."""
    return Table((array.shape[0], array.shape[1]), as_logits(array, "table"))


def of_cells(
    shape: tuple[int, int],
    rows: Places,
    columns: Places,
    values: NDArray[Any],
    name: str = "table",
    sparse: bool = False,
) -> Table:
    """The table with these values, and 0 elsewhere. Rows and columns without a value are left out.

    A small one becomes dense, unless it is to be `sparse`: what the other cells add to the mutual information is a
    difference else, right to 1e-32 only.
    """
    Table(shape, None, rows, columns, values, name)  # refuses by the places that the caller knows
    (height, rows), (width, columns) = _numbered(rows, shape[0]), _numbered(columns, shape[1])
    if not sparse and height * width <= BLOCK_CELLS:
        dense = np.zeros((height, width), values.dtype)
        dense[rows, columns] = values
        return of_array(dense)
    return Table((height, width), None, rows, columns, values)


def _numbered(places: Places, size: int) -> tuple[int, Places]:
    """How many different places there are, and the number of each among them."""
    if size <= FEW_CELLS + 8 * len(places):
        there = np.zeros(size, bool)
        there[places] = True
        numbers = np.cumsum(there) - 1
        return int(np.count_nonzero(there)), numbers[places]
    some, numbers = np.unique(places, return_inverse=True)
    return len(some), numbers


def as_table(table: Any, name: str = "table") -> Table:
    """Check a table.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For other than two dimensions; for a negative or infinite entry.
    """
    if type(table).__module__.startswith("scipy.sparse"):
        if len(table.shape) != 2:
            raise _not_two_dimensional(name, table.shape)
        cells = table.tocoo(copy=True)
        cells.sum_duplicates()
        as_logits(cells.data, name)
        rows, columns = (np.asarray(index, np.int64) for index in (cells.row, cells.col))
        order = np.lexsort((columns, rows))
        return of_cells(table.shape, rows[order], columns[order], cells.data[order], name)
    dense = as_logits(table, name)
    shape = dense.array.shape
    if len(shape) != 2:
        raise _not_two_dimensional(name, shape)
    counted = _mostly_empty(dense.array) if dense.array.size > FEW_CELLS and dense.array.dtype.kind in "uib" else None
    return Table((shape[0], shape[1]), dense, name=name) if counted is None else of_cells(shape, *counted, name, True)


def _mostly_empty(counts: NDArray[Any]) -> tuple[Places, Places, NDArray[Any]] | None:
    """Rows, columns and counts of the cells that are not 0, where these are few.

    A cell of 0 whose row and column have some of n counts is at least 1/n^2 of information, of which a difference keeps
    13 digits.
    """
    if 8 * np.count_nonzero(counts) > counts.size:
        return None
    rows, columns = np.divmod(np.flatnonzero(np.not_equal(counts, 0, order="C")), counts.shape[1])
    values = counts[rows, columns]
    return (rows, columns, values) if values.sum(dtype=np.float64) <= MOST_COUNTS else None


def _not_two_dimensional(name: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(f"{name} has shape {shape}; it must be of 2 dimensions, X along axis 0, Y along axis 1")


def _mean(which: int, table: Table) -> float:
    if not table.largest > 0:
        return nan
    sums = kernels.TableSums(which, *table.shape, table.largest)
    # the cells that are 0: the products of their marginals
    empty = (
        which == MUTUAL and table.values is not None
        and np.count_nonzero(table.values) < table.shape[0] * table.shape[1]
    )  # fmt: skip
    for start, some in table.blocks():
        sums.add(some, start, *_given(table, start, some))
    for start, some in table.blocks():
        with taking(None if len(some) > SERIAL_CELLS else 1) as threads:
            sums.add_terms(some, start, threads, *_given(table, start, some), empty)
    return float(sums.mean(empty))


def _given(table: Table, start: int, some: NDArray[Any]) -> tuple[Places | None, Places | None]:
    """The places of a block, where they do not follow from its start."""
    return (None, None) if table.rows is None else table.places(start, len(some))


def information(which: int, table: Any, base: float | None) -> float:
    """A measure of a table that nobody has checked: H(X, Y), H(Y|X), H(X|Y) or I(X; Y)."""
    log_base = as_log_base(base)
    found: float | None = plain.information(which, table, log_base)
    return _mean(which, as_table(table)) / log_base if found is None else found


def mutual(table: Table) -> float:
    """I(X; Y) in nats."""
    return _mean(MUTUAL, table)
