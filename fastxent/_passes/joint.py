"""A table of two variables, and the sums over its cells that entropies and mutual information are."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, Logits, as_logits
from fastxent._dispatch import kernels
from fastxent._exact import SCALE, ExactSum, quotient
from fastxent._threads import default_floats, taking

BLOCK_CELLS = 1 << 18
FEW_CELLS = 1 << 10  # of which it is not looked whether most are 0
MOST_COUNTS = 1 << 31

# terms of the kernels (_kernels/tables.pxi)
JOINT, GIVEN_ROW, GIVEN_COLUMN, MUTUAL, PRODUCT = range(5)

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


@dataclass(frozen=True)
class Table:
    """Entries up to scale: an array of two dimensions, or the rows, columns and values of those that are not 0."""

    shape: tuple[int, int]
    dense: Logits | None
    rows: Places | None = None
    columns: Places | None = None
    values: NDArray[Any] | None = None

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Values, block by block in C order, and the number of the first."""
        array = self.values if self.dense is None else self.dense.array
        assert array is not None
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat  # `flat` copies, and takes its time
        for start in range(0, array.size, BLOCK_CELLS):
            block = flat[start : start + BLOCK_CELLS]
            if self.dense is not None and self.dense.kind == BF16:
                # the upper half of a float32
                block = (block.astype(np.uint32) << 16).view(np.float32)
            yield start, block.astype(np.float64, copy=False)

    def span(self, start: int, count: int) -> tuple[Places, Places]:
        """The rows and columns of so many values from one on."""
        if self.rows is not None and self.columns is not None:
            return self.rows[start : start + count], self.columns[start : start + count]
        width = self.shape[1]
        first, skipped = divmod(start, width)
        rows = np.arange(first, (start + count - 1) // width + 1)
        some = slice(skipped, skipped + count)
        return np.repeat(rows, width)[some], np.tile(np.arange(width), len(rows))[some]

    def places(self, numbers: Places) -> tuple[Places, Places]:
        """The rows and columns of the values with these numbers."""
        if self.rows is None or self.columns is None:
            return np.divmod(numbers, self.shape[1])
        return self.rows[numbers], self.columns[numbers]


def of_array(array: NDArray[Any]) -> Table:
    """The table of an array that needs no check."""
    return Table((array.shape[0], array.shape[1]), as_logits(array, "table"))


def of_cells(rows: Places, columns: Places, values: NDArray[Any], sparse: bool = False) -> Table:
    """The table with these values, and 0 elsewhere. Rows and columns without a value are left out.

    A small one becomes dense, unless it is to be `sparse`: what the other cells add to the mutual information is a
    difference else, right to 1e-32 only.
    """
    some_rows, rows = np.unique(rows, return_inverse=True)
    some_columns, columns = np.unique(columns, return_inverse=True)
    if not sparse and len(some_rows) * len(some_columns) <= BLOCK_CELLS:
        dense = np.zeros((len(some_rows), len(some_columns)), values.dtype)
        dense[rows, columns] = values
        return of_array(dense)
    return Table((len(some_rows), len(some_columns)), None, rows, columns, values)


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
        rows, columns, values = rows[order], columns[order], cells.data[order]
        _check(Table(table.shape, None, rows, columns, values), name)
        return of_cells(rows, columns, values)
    dense = as_logits(table, name)
    shape = dense.array.shape
    if len(shape) != 2:
        raise _not_two_dimensional(name, shape)
    made = Table((shape[0], shape[1]), dense)
    _check(made, name)
    counts = dense.array
    if counts.dtype.kind in "uib" and counts.size > FEW_CELLS and 8 * np.count_nonzero(counts) <= counts.size:
        # a cell of 0 whose row and column have some of n counts is at least 1/n^2 of information, of which a difference
        # keeps 13 digits
        if counts.sum(dtype=np.float64) <= MOST_COUNTS:
            rows, columns = np.nonzero(counts)
            return of_cells(rows, columns, counts[rows, columns], sparse=True)
    return made


def _not_two_dimensional(name: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(f"{name} has shape {shape}; it must be of 2 dimensions, X along axis 0, Y along axis 1")


def _check(table: Table, name: str) -> None:
    for start, values in table.blocks():
        if values.min() >= 0 and values.max() < np.inf:
            continue
        bad = (values < 0) | np.isinf(values)
        if bad.any():
            i = int(np.argmax(bad))
            row, column = (int(place[0]) for place in table.places(np.array([start + i])))
            raise ValueError(
                f"{name}[{row}, {column}] is {values[i]}; probabilities and counts are finite and not negative"
            )


class _Sums:
    """The sums of a table scaled to entries below 1: those of rows and columns as pairs of doubles, the total exactly.

    Attributes
    ----------
    exponent
        Of the scale; None where a value is NaN or all are 0.
    """

    def __init__(self, which: int, table: Table) -> None:
        self.exponent: int | None = None
        self.rows, self.columns = (np.zeros((n, 2)) for n in table.shape)
        self.total = ExactSum()
        largest = 0.0
        for _, values in table.blocks():
            largest = float(np.maximum(largest, values.max()))  # lets a NaN through
        if not largest > 0:
            return
        self.exponent = int(np.frexp(largest)[1])
        for start, values in table.blocks():
            values = self._scaled(values)
            if which != JOINT:
                rows, columns = table.span(start, len(values))
                kernels.add_margins(values, rows, columns, self.rows, self.columns)
            self.total.add(values)
        high = self.total.value()
        self.total.settle()
        numerator, denominator = high.as_integer_ratio()
        rest = self.total.total - numerator * ((1 << SCALE) // denominator)
        self.pair = np.array([high, quotient(rest, 1 << SCALE)])

    def terms(self, which: int, table: Table) -> int:
        """The exact sum of the terms as the kernels give them, an integer as the total is one."""
        assert self.exponent is not None
        total = ExactSum()
        for start, values in table.blocks():
            w = self._scaled(values)
            if which > GIVEN_COLUMN:
                total.add(self._each(which, w, *table.span(start, len(w))))
            else:
                total.add(self._entropy(which, w, start, table))
        total.settle()
        return total.total

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        assert self.exponent is not None
        if -1000 < self.exponent < 1000:
            return values * 2.0**-self.exponent  # a tenth of what ldexp takes
        return np.ldexp(values, -self.exponent)

    def _entropy(self, which: int, w: NDArray[np.float64], start: int, table: Table) -> NDArray[np.float64]:
        """w log(t / w), side by side; each by itself where nearly all of t is in one cell, or nearly nothing."""
        whole: Any = self.pair[0]
        if which != JOINT:
            rows, columns = table.span(start, len(w))
            whole = self.rows[rows, 0] if which == GIVEN_ROW else self.columns[columns, 0]
            whole[w == 0.0] = 1.0
        share = w / whole
        share[share == 0.0] = 0.25  # of 0 it is 0; a share that underflows is nothing beside the others
        out = np.empty(len(w))
        kernels.elementary_vectors("log", share, out)
        out *= -w
        odd = ((share > 0.49) | (share < 1e-300)).nonzero()[0]
        if odd.size:
            out[odd] = self._each(which, w[odd], *table.places(start + odd))
        return out

    def _each(self, which: int, w: NDArray[np.float64], rows: Places, columns: Places) -> NDArray[np.float64]:
        out = np.empty(len(w))
        with taking() as threads:
            kernels.table_terms(which, w, rows, columns, self.rows, self.columns, self.pair, out, threads)
        return out


@default_floats()
def _mean(which: int, table: Table) -> float:
    sums = _Sums(which, table)
    if sums.exponent is None:
        return nan
    terms = sums.terms(which, table)
    if which == MUTUAL and table.dense is None:
        # the cells that are 0: the products of their marginals, all of which add up to the total
        assert table.values is not None
        if np.count_nonzero(table.values) < table.shape[0] * table.shape[1]:
            terms += max(0, sums.total.total - sums.terms(PRODUCT, table))
    return quotient(terms, sums.total.total)


def joint(table: Table) -> float:
    """H(X, Y) in nats."""
    return _mean(JOINT, table)


def conditional(table: Table, given: int) -> float:
    """H(Y|X) in nats for the axis 0, H(X|Y) for 1."""
    return _mean(GIVEN_COLUMN if operator.index(given) else GIVEN_ROW, table)


def mutual(table: Table) -> float:
    """I(X; Y) in nats."""
    return _mean(MUTUAL, table)
