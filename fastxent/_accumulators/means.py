"""Means of named row values, weighted or not, with the errors of the means and their covariances, from exact sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import inf, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.quotients import mean_error
from fastxent._accumulators.state import keys_of, whole
from fastxent._exact import SCALE, ExactSums, quotient, to_float

Columns = Mapping[str, NDArray[np.float64]]


class Means:
    """Sums of columns of row values, and of products of two, in any order of adding and merging the same.

    Weights enter as products a = w x, rounded once. A row of weight 0 counts for nothing, whatever its values.

    Parameters
    ----------
    names
        The columns.
    pairs
        Pairs of columns whose covariance is wanted; of a column with itself for the error of its mean.
    weighted
        Whether `add` is given weights.

    Notes
    -----
    With m = sum(w x) / sum(w) the covariance of two means is
    n / (n - 1) sum(w^2 (x - m_x) (y - m_y)) / sum(w)^2, the linearised one of a ratio (Cochran, Sampling Techniques,
    1977, section 6.4), which is the cluster-robust one of clusters of one row. Without weights it is the
    textbook's (E[x y] - E[x] E[y]) / (n - 1).

    Examples
    --------
    >>> import numpy as np
    >>> m = Means(["x"], [("x", "x")])
    >>> m.add({"x": np.array([1.0, 2.0, 3.0])})
    >>> m.mean("x"), round(m.stderr("x"), 6)
    (2.0, 0.57735)
    """

    def __init__(self, names: Sequence[str], pairs: Sequence[tuple[str, str]] = (), weighted: bool = False) -> None:
        self.names, self.pairs, self.weighted = tuple(names), tuple(pairs), weighted
        self.n = 0
        keys: list[Any] = [*self.names, *self.pairs]
        if weighted:
            keys += ["weight", ("weight", "weight"), *(("weight", x) for x in self._paired())]
        self._places = {key: i for i, key in enumerate(keys)}
        self._sums = ExactSums(len(keys))

    def _paired(self) -> list[str]:
        return sorted({x for pair in self.pairs for x in pair})

    def add(self, columns: Columns, weights: NDArray[np.float64] | None = None) -> None:
        """Add rows: a contiguous column for each name and, where weighted, finite weights from 0 on."""
        place, sums = self._places, self._sums
        if weights is not None:
            some = weights != 0.0
            if not some.all():
                weights = weights[some]
                columns = {name: column[some] for name, column in columns.items()}
            with np.errstate(over="ignore", under="ignore"):
                columns = {name: weights * columns[name] for name in self.names}
            sums.add(place["weight"], weights)
            sums.add_products(place["weight", "weight"], weights, weights)
            for name in self._paired():
                sums.add_products(place["weight", name], weights, columns[name])
        for name in self.names:
            sums.add(place[name], columns[name])
        for pair in self.pairs:
            sums.add_products(place[pair], columns[pair[0]], columns[pair[1]])
        self.n += len(columns[self.names[0]])

    def merged(self, other: Means) -> Means:
        """The means of both; neither is changed."""
        both = Means(self.names, self.pairs, self.weighted)
        both.n = self.n + other.n
        both._sums = self._sums.merged(other._sums)
        return both

    def weight(self) -> Fraction:
        """The sum of the weights; the number of rows without."""
        return self._sums[self._places["weight"]].fraction() if self.weighted else Fraction(self.n)

    def mean(self, name: str) -> float:
        """The mean of a column, rounded once; NaN where there is no row."""
        if not self.n:
            return nan
        one = self._sums[self._places[name]]
        return one.over(self._sums[self._places["weight"]]) if self.weighted else one.mean(self.n)

    def exact_mean(self, name: str) -> Fraction:
        """The exact mean of a column of finite values; 0 where there is no row."""
        weight = self.weight()
        return self._sums[self._places[name]].fraction() / weight if weight else Fraction(0)

    def ratio(self, x: str, y: str) -> float:
        """The sum of one column over that of another, finite one, rounded once; as IEEE division for a sum of 0."""
        return self._sums[self._places[x]].over(self._sums[self._places[y]])

    def difference(self, x: str, y: str) -> float:
        """The mean of one column less that of another, of finite values, rounded once; there are rows."""
        difference = self._sums[self._places[x]].total - self._sums[self._places[y]].total
        return quotient(difference, self._unit_weight())

    def stderr(self, name: str) -> float:
        """The error of a mean, for independent rows; NaN below two rows and where a value is not finite."""
        variance = self.covariance(name, name)
        return nan if variance is None else sqrt(quotient(max(0, variance[0]), variance[1]))

    def share_error(self, name: str) -> float:
        """The error of the mean of a column of hits, 1, and misses, 0: binomial without weights."""
        if self.weighted:
            return self.stderr(name)
        total = self._sums[self._places[name]].total
        return mean_error(self.n, total, total, 1 << SCALE)  # the square of a hit is the hit

    def _unit_weight(self) -> int:
        """`weight` in the unit of the sums."""
        return self._sums[self._places["weight"]].total if self.weighted else self.n << SCALE

    def covariance(self, x: str, y: str) -> tuple[int, int] | None:
        """The covariance of two means, for independent rows; None below two rows and where a value is not finite.

        A numerator and the denominator, which is the same for any two columns.
        """
        keys: list[Any] = [x, y, (x, y)]
        if self.weighted:
            keys += [("weight", x), ("weight", y), ("weight", "weight")]
        sums = [self._sums[self._places[key]] for key in keys]
        n, total = self.n, self._unit_weight()
        if n < 2 or not all(one.finite for one in sums):
            return None
        # integers over 2^SCALE, as the total is
        sum_x, sum_y, products, *weighted = (one.total for one in sums)
        if not weighted:
            return (products * n << SCALE) - sum_x * sum_y, n * n * (n - 1) << 2 * SCALE
        with_x, with_y, squares = weighted
        deviations = (products * total - sum_x * with_y - sum_y * with_x) * total + sum_x * sum_y * squares
        return deviations * n << SCALE, (n - 1) * total**4

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"n": self.n, "sums": self._sums.state()}

    def load(self, state: Any) -> None:
        """Take what `state` gave; ValueError for what it cannot have given."""
        keys_of(state, {"n", "sums"}, "the means")
        n = whole(state["n"], "rows of the means")
        sums = state["sums"]
        if not isinstance(sums, list) or len(sums) != len(self._sums):
            raise ValueError("the means have other sums")
        for one in sums:
            if not isinstance(one, list) or len(one) != 4 or not isinstance(one[0], str):
                raise ValueError("a sum is its text and three counts")
            int(one[0], 16)
            for count in one[1:]:
                whole(count, "a sum's count", 0, 2 * n)
        self.n, self._sums = n, ExactSums.from_state(sums)
        if self.weight() < 0 or (self.weight() == 0) != (n == 0):
            raise ValueError(f"the means have {n} rows of a weight of {to_float(self.weight())}")

    def check_shares(self, names: Sequence[str], most: float = inf) -> None:
        """ValueError where the mean of one of the columns is below 0 or above `most`, as no rows can make it."""
        for name in names:
            if not 0 <= self.exact_mean(name) <= most:
                raise ValueError(f"the mean of {name} is {self.mean(name)}")
