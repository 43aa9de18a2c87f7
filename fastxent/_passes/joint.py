"""A table of two variables, and the sums over its cells that entropies and mutual information are."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, Logits, as_logits
from fastxent._dispatch import kernels
from fastxent._exact import ExactSum, to_float
from fastxent._threads import default_floats, taking

BLOCK_CELLS = 1 << 18

# terms of the kernels (_kernels/tables.pxi)
JOINT, GIVEN_ROW, GIVEN_COLUMN, MUTUAL, PRODUCT = range(5)

Entries = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


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
    rows: NDArray[np.int64] | None = None
    columns: NDArray[np.int64] | None = None
    values: NDArray[Any] | None = None

    def entries(self) -> Iterator[Entries]:
        """Values, rows and columns, block by block in C order."""
        if self.dense is None:
            assert self.values is not None
            assert self.rows is not None
            assert self.columns is not None
            for start in range(0, len(self.values), BLOCK_CELLS):
                some = slice(start, start + BLOCK_CELLS)
                yield self.values[some].astype(np.float64), self.rows[some], self.columns[some]
            return
        array = self.dense.array
        for start in range(0, array.size, BLOCK_CELLS):
            block = array.flat[start : start + BLOCK_CELLS]
            if self.dense.kind == BF16:
                # the upper half of a float32
                block = (block.astype(np.uint32) << 16).view(np.float32)
            yield block.astype(np.float64), *np.divmod(np.arange(start, start + len(block)), array.shape[1])


def of_array(array: NDArray[Any]) -> Table:
    """The table of an array that needs no check."""
    return Table((array.shape[0], array.shape[1]), as_logits(array, "table"))


def of_cells(rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[Any]) -> Table:
    """The table with these values, and 0 elsewhere. Rows and columns without a value are left out.

    A small one becomes dense: what the other cells add to the mutual information is a difference else, right to
    1e-32 only.
    """
    some_rows, rows = np.unique(rows, return_inverse=True)
    some_columns, columns = np.unique(columns, return_inverse=True)
    if len(some_rows) * len(some_columns) <= BLOCK_CELLS:
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
        _check(((values.astype(np.float64), rows, columns) for _ in range(1)), name)
        return of_cells(rows, columns, values)
    dense = as_logits(table, name)
    shape = dense.array.shape
    if len(shape) != 2:
        raise _not_two_dimensional(name, shape)
    made = Table(shape, dense)
    _check(made.entries(), name)
    return made


def _not_two_dimensional(name: str, shape: tuple[int, ...]) -> ValueError:
    return ValueError(f"{name} has shape {shape}; it must be of 2 dimensions, X along axis 0, Y along axis 1")


def _check(blocks: Iterator[Entries], name: str) -> None:
    for values, rows, columns in blocks:
        bad = (values < 0) | np.isinf(values)
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"{name}[{rows[i]}, {columns[i]}] is {values[i]}; probabilities and counts are finite and not negative"
            )


@dataclass(frozen=True)
class _Sums:
    """The sums of a table scaled to entries below 1: pairs of doubles, and the total exactly."""

    exponent: int
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    pair: NDArray[np.float64]
    total: Fraction


def _sums(table: Table) -> _Sums | None:
    """None where a value is NaN or all are 0."""
    largest = 0.0
    for values, _, _ in table.entries():
        largest = float(np.maximum(largest, values.max()))  # lets a NaN through
    if not largest > 0:
        return None
    exponent = int(np.frexp(largest)[1])
    rows, columns = (np.zeros((n, 2)) for n in table.shape)
    total = ExactSum()
    for values, i, j in table.entries():
        values = np.ldexp(values, -exponent)
        kernels.add_margins(values, i, j, rows, columns)
        total.add(values)
    exact = total.fraction()
    high = to_float(exact)
    return _Sums(exponent, rows, columns, np.array([high, to_float(exact - Fraction(high))]), exact)


def _add_terms(which: int, table: Table, sums: _Sums) -> Fraction:
    """The exact sum of the terms as the kernels give them."""
    total = ExactSum()
    for values, i, j in table.entries():
        out = np.empty(len(values))
        scaled = np.ldexp(values, -sums.exponent)
        with taking() as threads:
            kernels.table_terms(which, scaled, i, j, sums.rows, sums.columns, sums.pair, out, threads)
        total.add(out)
    return total.fraction()


@default_floats()
def _mean(which: int, table: Table) -> float:
    sums = _sums(table)
    if sums is None:
        return nan
    terms = _add_terms(which, table, sums)
    if which == MUTUAL and table.dense is None:
        # the cells that are 0: the products of their marginals, all of which add up to the total
        assert table.values is not None
        if np.count_nonzero(table.values) < table.shape[0] * table.shape[1]:
            terms += max(Fraction(0), sums.total - _add_terms(PRODUCT, table, sums))
    return to_float(terms / sums.total)


def joint(table: Table) -> float:
    """H(X, Y) in nats."""
    return _mean(JOINT, table)


def conditional(table: Table, given: int) -> float:
    """H(Y|X) in nats for the axis 0, H(X|Y) for 1."""
    return _mean(GIVEN_COLUMN if operator.index(given) else GIVEN_ROW, table)


def mutual(table: Table) -> float:
    """I(X; Y) in nats."""
    return _mean(MUTUAL, table)
