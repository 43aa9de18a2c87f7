"""Contingency tables and mutual information."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from fastxent.reference.arrays import Nested, as_labels, as_numbers, place_of, walk
from fastxent.reference.sums import exact, rounded


def contingency_table(x: Nested, y: Nested, *, shape: tuple[int, int] | None = None) -> list[list[int]]:
    """How often each pair of labels occurs; as many rows and columns as labels, unless `shape` says otherwise.

    Examples
    --------
    >>> contingency_table([0, 0, 1], [2, 2, 0])
    [[0, 0, 2], [1, 0, 0]]
    """
    where = walk(x, "x")[1]
    a, b = as_labels(x, "x", where), as_labels(y, "y", where)
    sizes = (max(a, default=-1) + 1, max(b, default=-1) + 1) if shape is None else shape
    for labels, n, name in ((a, sizes[0], "x"), (b, sizes[1], "y")):
        for i, label in enumerate(labels):
            if not 0 <= label < n:
                limit = "inf" if shape is None else n
                raise IndexError(f"{name}{place_of(i, where)} is {label}, outside [0, {limit})")
    table = [[0] * sizes[1] for _ in range(sizes[0])]
    for i, j in zip(a, b, strict=True):
        table[i][j] += 1
    return table


def joint_entropy(table: Nested, *, base: float | None = None) -> float:
    """H(X, Y) of a table of probabilities or counts, up to scale.

    Examples
    --------
    >>> joint_entropy([[1, 1], [1, 1]], base=2)
    2.0
    """
    cells, rows, _ = _as_table(table)
    total = sum(rows, Fraction(0))
    return _mean([_surprise(w, total) for row in cells for w in row if w], total, base)


def conditional_entropy(table: Nested, *, given: int = 0, base: float | None = None) -> float:
    """H(Y|X) for the axis 0 that is given, H(X|Y) for 1.

    Examples
    --------
    >>> conditional_entropy([[1, 1], [2, 0]], base=2)
    0.5
    """
    if isinstance(given, bool) or given not in (-2, -1, 0, 1):
        raise ValueError(f"given must be 0 or 1, not {given!r}")
    cells, rows, columns = _as_table(table)
    sums = [[columns[j] if given % 2 else r for j in range(len(columns))] for r in rows]
    pairs = [pair for row, some in zip(cells, sums, strict=True) for pair in zip(row, some, strict=True)]
    terms = [_surprise(w, s) for w, s in pairs if w]
    return _mean(terms, sum(rows, Fraction(0)), base)


def mutual_information(table: Nested, *, base: float | None = None) -> float:
    """I(X; Y), the divergence of the table from the product of its marginals, of terms that are not negative.

    Examples
    --------
    >>> mutual_information([[1, 0], [0, 1]], base=2)
    1.0
    """
    cells, rows, columns = _as_table(table)
    total = sum(rows, Fraction(0))
    terms = []
    for row, r in zip(cells, rows, strict=True):
        for w, c in zip(row, columns, strict=True):
            if r * c:
                product = r * c / total
                terms.append(product * Fraction(_excess(w / product - 1)))
    return _mean(terms, total, base)


def mutual_info_score(labels_true: Sequence[Any], labels_pred: Sequence[Any]) -> float:
    """Mutual information of two clusterings in nats; labels are whatever can be hashed.

    Examples
    --------
    >>> mutual_info_score(["a", "a", "b", "b"], [-1, -1, 5, 5])
    0.6931471805599453
    """
    numbered = []
    for labels in (labels_true, labels_pred):
        numbers: dict[Any, int] = {}
        values = labels.tolist() if hasattr(labels, "tolist") else labels
        numbered.append([numbers.setdefault(label, len(numbers)) for label in values])
    if len(numbered[0]) != len(numbered[1]):
        raise ValueError(f"{len(numbered[0])} labels_true, but {len(numbered[1])} labels_pred")
    if not numbered[0]:
        raise ValueError("there is no label")
    return mutual_information(contingency_table(*numbered))


def _as_table(table: Nested) -> tuple[list[list[Fraction]], list[Fraction], list[Fraction]]:
    """Cells and marginal sums as rationals; none where the table has a NaN or sums to 0."""
    flat, shape = as_numbers(table, "table")
    if len(shape) != 2:
        raise ValueError(f"table must have 2 dimensions, not shape {shape}")
    for i, value in enumerate(flat):
        if value < 0 or math.isinf(value):
            raise ValueError(f"table{place_of(i, shape)} is {value}; entries are finite and not negative")
    if any(map(math.isnan, flat)) or not any(flat):
        return [], [], []
    cells = [[exact([v]) for v in flat[i * shape[1] : (i + 1) * shape[1]]] for i in range(shape[0])]
    columns = [sum(column, Fraction(0)) for column in zip(*cells, strict=True)]
    return cells, [sum(row, Fraction(0)) for row in cells], columns


def _log1p(x: Fraction) -> float:
    return math.log1p(rounded(x)) if abs(x) < 0.5 else math.log(x.numerator + x.denominator) - math.log(x.denominator)


def _surprise(w: Fraction, total: Fraction) -> Fraction:
    """w log(total / w)."""
    return w * Fraction(-_log1p(w / total - 1))


def _excess(d: Fraction) -> float:
    """(1 + d) log(1 + d) - d; a series where its two parts would cancel."""
    if abs(d) > 0.1:
        return rounded((1 + d) * Fraction(_log1p(d)) - d) if d > -1 else 1.0
    x = rounded(d)
    return x * x * math.fsum((-x) ** k / ((k + 1) * (k + 2)) for k in range(18))


def _mean(terms: Sequence[Fraction], total: Fraction, base: float | None) -> float:
    if base is not None and not (base > 0 and base != 1 and math.isfinite(base)):
        raise ValueError(f"base must be positive and not 1, not {base!r}")
    if not total:
        return math.nan
    return rounded(sum(terms, Fraction(0)) / total) / (1.0 if base is None else math.log(base))
