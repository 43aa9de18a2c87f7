"""The classes that a model ranks first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import Logits
from fastxent._dispatch import kernels
from fastxent._passes.rows import SERIAL_ELEMENTS
from fastxent._threads import taking


def top_columns(x: Logits, k: int, threads: int | None = None) -> NDArray[np.int64]:
    """Columns of the k largest of each row of a block (n, C), k <= C, the largest first and equal ones by column.

    Examples
    --------
    >>> from fastxent._arrays import as_logits
    >>> top_columns(as_logits(np.array([[1.0, 3.0, 2.0, 3.0]])), 3).tolist()
    [[1, 3, 2]]
    """
    return _top(x, k, threads)[1]


def margins(x: Logits, divisor: float = 1.0, threads: int | None = None) -> NDArray[np.float64]:
    """How far the largest of each row of a block (n, C) is above the second, divided; inf where it is the only one.

    Examples
    --------
    >>> from fastxent._arrays import as_logits
    >>> margins(as_logits(np.array([[1.0, 3.0, 2.5], [2.0, 0.0, 2.0]]))).tolist()
    [0.5, 0.0]
    """
    if x.array.shape[1] < 2:
        return np.full(len(x.array), np.inf)
    values = _top(x, 2, threads)[0]
    with np.errstate(invalid="ignore", over="ignore"):
        return (values[:, 0] - values[:, 1]) / divisor


def _top(x: Logits, k: int, threads: int | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    array = x.array if x.convert is None else x.array.astype(x.convert)
    if array.strides[1] != array.itemsize:
        array = np.ascontiguousarray(array)
    values, columns = np.empty((len(array), k)), np.empty((len(array), k), np.int64)
    with taking(threads if array.size >= SERIAL_ELEMENTS else 1) as number:
        kernels.top_columns(array, x.kind, values, columns, number)
    return values, columns


def agreement(
    a: NDArray[np.int64], b: NDArray[np.int64], k: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the first k columns of `top_columns` are the same, in order and as sets."""
    a, b = a[:, :k], b[:, :k]
    ordered = (a == b).all(axis=1)
    return ordered, ordered if k == 1 else (np.sort(a, axis=1) == np.sort(b, axis=1)).all(axis=1)
