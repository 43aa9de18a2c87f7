"""Contingency tables of two label arrays, and the information that one variable has about the other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import Labels, as_integers, is_bfloat16, to_numpy
from fastxent._passes.contingency import DENSE_CELLS, TooManyCells, as_shape, count_dense, count_sparse
from fastxent._passes.joint import GIVEN_COLUMN, GIVEN_ROW, JOINT, MUTUAL, Table, information, mutual, of_array
from fastxent._passes.plain import attempt, plain

FEW_CELLS = 1 << 12


def contingency_table(x: ArrayLike, y: ArrayLike, *, shape: tuple[int, int] | None = None, sparse: bool = False) -> Any:
    """How often each pair of labels occurs, ``table[i, j] = sum((x == i) & (y == j))``, in one read of both.

    Parameters
    ----------
    x, y
        Labels: integers from 0 on, or bool, of one shape, any integer dtypes and strides, any byte order.
    shape
        Rows and columns of the table. By default as many as there are labels, the largest of them and 1.
    sparse
        Give a SciPy sparse array, which may have up to ``2**63 - 1`` cells.

    Returns
    -------
    numpy.ndarray or scipy.sparse.coo_array
        int64, (rows, columns): x along axis 0, y along axis 1.

    Raises
    ------
    IndexError
        For a label that is negative or outside `shape`, naming its place, its value and the range.
    TypeError
        For labels that are no integers.
    ValueError
        For x and y of different shapes, a wrong `shape`, a dense table of more than ``2**24`` cells, a sparse one of
        more than ``2**63 - 1``.
    ImportError
        For ``sparse=True`` without SciPy.

    Notes
    -----
    Labels are not copied, but brought into small buffers. A dense table is counted in parallel; the threads' own
    counters take 4 bytes a cell each and together at most 256 MB. A sparse one of more than ``2**24`` cells is sorted
    block by block in one thread.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.contingency_table(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]))
    array([[1, 1, 0],
           [0, 0, 2]])
    """
    if sparse:
        _scipy_sparse()
    if sparse is False:
        found = attempt(plain.table, "ll", None, x, y, shape)
        if found is not None:
            return found
    a, b = as_integers(x, "x"), as_integers(y, "y")
    if a.array.shape != b.array.shape:
        raise ValueError(f"x has shape {a.array.shape} and y {b.array.shape}; they must be the same")
    wanted = None if shape is None else as_shape(shape)
    try:
        table = count_dense(a, b, wanted)
    except TooManyCells:
        if not sparse:
            raise
        return _as_sparse(*count_sparse(a, b, wanted))
    if sparse:
        rows, columns = np.nonzero(table)
        return _as_sparse(rows, columns, table[rows, columns], table.shape)
    return table


def joint_entropy(table: Any, *, base: float | None = None) -> float:
    """Joint entropy H(X, Y) of a table, ``-sum(p * log(p))``.

    Parameters
    ----------
    table
        Joint probabilities or counts, (rows, columns), up to scale: X along axis 0, Y along axis 1. Real, any dtype
        and strides, or a SciPy sparse array.
    base
        Of the logarithm; nats by default, 2 gives bits.

    Returns
    -------
    float
        From 0 to the logarithm of the number of cells. NaN where the table has a NaN or sums to 0.

    Raises
    ------
    ValueError
        For a negative or infinite entry, naming the first one's place; for a table that is not of 2 dimensions; for a
        `base` that is not positive, or is 1.
    TypeError
        For a table of a dtype that holds no real numbers.

    Notes
    -----
    Relative error at most 1e-13, also where nearly all is in one cell. The bits do not depend on the table's layout.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.joint_entropy([[1, 1], [1, 1]], base=2)
    2.0
    """
    return information(JOINT, table, base)


def conditional_entropy(table: Any, *, given: int = 0, base: float | None = None) -> float:
    """Conditional entropy: H(Y|X), what is left to know of Y when X is known, or H(X|Y).

    Parameters
    ----------
    table
        As `joint_entropy` takes it: X along axis 0, Y along axis 1.
    given
        Axis of the known variable: 0 gives H(Y|X), 1 gives H(X|Y).
    base
        Of the logarithm; nats by default, 2 gives bits.

    Returns
    -------
    float
        From 0 to the entropy of the other variable. NaN where the table has a NaN or sums to 0.

    Raises
    ------
    ValueError, TypeError
        As `joint_entropy`; for an axis `given` other than 0 and 1.

    Notes
    -----
    ``H(Y|X) = sum(p_xy * log(p_x / p_xy))``, of terms that are not negative; relative error at most 1e-13.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.conditional_entropy([[1, 1], [2, 0]], base=2)
    0.5
    """
    if isinstance(given, (bool, np.bool_)) or given not in (-2, -1, 0, 1):
        raise ValueError(f"given must be 0 (H(Y|X)) or 1 (H(X|Y)), got {given!r}")
    return information(GIVEN_COLUMN if int(given) % 2 else GIVEN_ROW, table, base)


def mutual_information(table: Any, *, base: float | None = None) -> float:
    """Mutual information I(X; Y) = H(X) + H(Y) - H(X, Y), as a sum of terms that are not negative.

    Parameters
    ----------
    table
        As `joint_entropy` takes it: X along axis 0, Y along axis 1.
    base
        Of the logarithm; nats by default, 2 gives bits.

    Returns
    -------
    float
        Never negative; 0 exactly where X and Y are independent. NaN where the table has a NaN or sums to 0.

    Raises
    ------
    ValueError, TypeError
        As `joint_entropy`.

    Notes
    -----
    The Kullback-Leibler divergence of the table from the product m of its marginals [1]_,
    ``sum(p * log(p / m) - p + m)``. The deviations ``p / m - 1`` are computed in twice the working precision, so that
    nearly independent tables keep their digits: relative error at most 1e-13; 1e-32 absolute for a sparse table of more
    than ``2**18`` cells, empty rows and columns not counted.

    References
    ----------
    .. [1] T. M. Cover, J. A. Thomas, "Elements of Information Theory", 2nd ed., Wiley, 2006, chapter 2.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.mutual_information([[1, 0], [0, 1]], base=2)
    1.0
    >>> fx.mutual_information([[1, 2], [2, 4]])
    0.0
    """
    return information(MUTUAL, table, base)


def mutual_info_score(labels_true: Any, labels_pred: Any) -> float:
    """Mutual information of two clusterings of the same samples, with the meaning of ``sklearn.metrics``.

    Parameters
    ----------
    labels_true, labels_pred
        Labels, (samples,): of any integer dtype, or floats, strings or other hashable objects. Integers from 0 on
        are counted as they lie where their table has at most ``2**24`` cells, and not many more than there are
        samples; others are numbered first, which copies them.

    Returns
    -------
    float
        In nats, never negative.

    Raises
    ------
    ValueError
        For labels that are not of 1 dimension, or not as many in both, and for none at all.
    TypeError
        For labels that are not hashable.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.mutual_info_score([0, 0, 1, 1], ["b", "b", "a", "a"])
    0.6931471805599453
    """
    a, b = _as_samples(labels_true, "labels_true"), _as_samples(labels_pred, "labels_pred")
    if len(a.array) != len(b.array):
        raise ValueError(
            f"labels_true has {len(a.array)} labels and labels_pred {len(b.array)}; they must be as many in both"
        )
    if len(a.array) == 0:  # as scikit-learn has it, whose logarithm of the number of samples is a ValueError
        raise ValueError("labels_true and labels_pred are empty; the mutual information of no sample is not defined")
    # a table of far more cells than labels costs more than numbering them, and then more than sorting them
    most = min(DENSE_CELLS, FEW_CELLS + 8 * a.array.size)
    with suppress(TooManyCells, IndexError):
        return mutual(of_array(count_dense(a, b, None, most)))
    a, b = _numbered(a.array), _numbered(b.array)
    try:
        return mutual(of_array(count_dense(a, b, None, most)))
    except TooManyCells:
        # seven of eight cells are 0 where both labels occur, which is more information than what a difference loses
        rows, columns, counts, shape = count_sparse(a, b, None)
        return mutual(Table(shape, None, rows, columns, counts))


def _as_sparse(
    rows: NDArray[np.int64], columns: NDArray[np.int64], counts: NDArray[np.int64], shape: tuple[int, ...]
) -> Any:
    made = _scipy_sparse().coo_array((counts, (rows, columns)), shape=shape)
    made.has_canonical_format = True
    return made


def _scipy_sparse() -> Any:
    try:
        import scipy.sparse
    except ImportError as error:
        raise ImportError("sparse=True wants SciPy: pip install scipy") from error
    return scipy.sparse


def _as_samples(labels: Any, name: str) -> Labels:
    """One-dimensional labels: integers as they lie, all else numbered."""
    if isinstance(labels, (list, tuple)) and not all(isinstance(label, (int, np.integer)) for label in labels):
        # NumPy would make strings of [1, "a"]
        return as_integers(_number_objects(labels, name), name)
    array = to_numpy(labels, name)
    if isinstance(labels, (list, tuple)) and array.size == 0:
        array = np.zeros(0, np.int64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it must be of 1 dimension, a label a sample")
    if array.dtype == object:
        array = _number_objects(array, name)
    if array.dtype.kind not in "uib" or is_bfloat16(array.dtype):
        return _numbered(array)
    return as_integers(array, name)


def _numbered(array: NDArray[Any]) -> Labels:
    return as_integers(np.unique(array, return_inverse=True)[1], "labels")


def _number_objects(labels: Iterable[Hashable], name: str) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    try:
        return np.fromiter((numbers.setdefault(label, len(numbers)) for label in labels), np.int64)
    except TypeError as error:
        raise TypeError(f"{name} holds a label that is not hashable: {error}") from None
