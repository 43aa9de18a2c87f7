"""The rows of the largest values: the same whatever the order in which blocks come."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.state import keys_of, pack, unpack


class Worst:
    """The k rows of the largest values, equal ones by row number, with integers that belong to them.

    Examples
    --------
    >>> import numpy as np
    >>> w = Worst(2, 0)
    >>> w.add(np.array([1.0, 3.0, 3.0]), np.array([7, 9, 8]))
    >>> w.values.tolist(), w.rows.tolist()
    ([3.0, 3.0], [8, 9])
    """

    def __init__(self, k: int, columns: int) -> None:
        self._k = k
        self.values: NDArray[np.float64] = np.empty(0)
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.columns: NDArray[np.int64] = np.empty((columns, 0), np.int64)

    def add(self, values: NDArray[np.float64], rows: NDArray[np.int64], *columns: NDArray[np.int64]) -> None:
        """Add rows; a NaN is not to be given."""
        k = self._k
        if k == 0 or values.size == 0:
            return
        if self.values.size == k:  # most blocks have few that are as large
            least = self.values[-1]
        else:
            least = np.partition(values, values.size - k)[values.size - k] if values.size > k else -np.inf
        some = np.flatnonzero(values >= least)
        if some.size > 4 * k and least < np.inf:
            # many below the last place: those of the k largest alone
            cut = np.partition(values[some], some.size - k)[some.size - k]
            some = some[values[some] >= cut]
        one = Worst(k, len(columns))
        one.values, one.rows = values[some], rows[some]
        one.columns = np.array([column[some] for column in columns], np.int64).reshape(len(columns), some.size)
        both = self.merged(one)
        self.values, self.rows, self.columns = both.values, both.rows, both.columns

    def merged(self, other: Worst) -> Worst:
        """The worst of both; neither is changed."""
        both = Worst(self._k, len(self.columns))
        values = np.concatenate([self.values, other.values])
        rows = np.concatenate([self.rows, other.rows])
        columns = np.concatenate([self.columns, other.columns], axis=1)
        # equal rows, which two blocks of one number may hold, by what belongs to them
        order = np.lexsort((*columns[::-1], rows, -values))[: self._k]
        both.values, both.rows, both.columns = values[order], rows[order], columns[:, order]
        return both

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"values": pack(self.values + 0.0), "rows": pack(self.rows), "columns": pack(self.columns)}

    def load(self, state: Any) -> None:
        """Take what `state` gave; ValueError for what it cannot have given."""
        keys_of(state, {"values", "rows", "columns"}, "the worst rows")
        values = unpack(state["values"], np.float64, "values of the worst rows", -1)
        rows = unpack(state["rows"], np.int64, "numbers of the worst rows", values.size)
        columns = unpack(state["columns"], np.int64, "columns of the worst rows", len(self.columns), values.size)
        if values.size > self._k or np.isnan(values).any():
            raise ValueError(f"{values.size} worst rows, or NaN")
        if not (np.lexsort((*columns[::-1], rows, -values)) == np.arange(values.size)).all():
            raise ValueError("the worst rows are not in order")
        self.values, self.rows, self.columns = values, rows, columns
