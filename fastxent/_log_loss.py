"""log_loss with the meaning of ``sklearn.metrics.log_loss``: the losses of probabilities that a classifier gives."""

from __future__ import annotations

import warnings
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import BF16, Logits, as_logits, is_bfloat16, to_numpy
from fastxent._dispatch import kernels
from fastxent._exact import ExactSum
from fastxent._threads import default_floats

ELEMENTS = 1 << 19  # of a block
Array = NDArray[Any]


def log_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    normalize: bool = True,
    sample_weight: ArrayLike | None = None,
    labels: ArrayLike | None = None,
) -> float:
    """Mean of -log of the probability that each true label was given, in nats, as scikit-learn has it.

    Parameters
    ----------
    y_true
        Labels, shape (N,): numbers, bools or strings; or an indicator matrix of 0 and 1, shape (N, C).
    y_proba
        Probabilities, shape (N, C), the columns in the order of the sorted labels; or of the second of two labels,
        shape (N,) or (N, 1). Clipped to [eps, 1 - eps], eps that of their dtype.
    normalize
        False for the sum.
    sample_weight
        A number for each row, shape (N,); the mean divides by their sum.
    labels
        All the labels there are, where `y_true` may lack some.

    Returns
    -------
    float
        The exact sum of the rows' losses, divided for the mean, rounded once.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For probabilities outside [0, 1], NaN, shapes or numbers of classes that do not fit, fewer than two labels, a
        label that is not among `labels`, or weights that are all 0.

    Warns
    -----
    UserWarning
        Where rows do not sum to 1 (they are taken as they are), and where `labels` are not sorted.

    Notes
    -----
    Meaning: ``sklearn.metrics.log_loss``,
    https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html. For logits use `cross_entropy`,
    which clips nothing.

    Examples
    --------
    >>> import fastxent as fx
    >>> f"{fx.log_loss(['spam', 'ham', 'ham', 'spam'], [[.1, .9], [.9, .1], [.8, .2], [.35, .65]]):.5f}"
    '0.21616'
    """
    proba = as_logits(y_proba, "y_proba")
    true = to_numpy(y_true, "y_true")
    rows = _shape_of(proba, true)
    weight = None if sample_weight is None else _weights(sample_weight, rows)
    indicator = true.ndim == 2 and true.shape[1] > 1
    if not indicator:
        true = true.reshape(-1)
    classes = np.arange(true.shape[1]) if indicator else _classes(true, labels)
    columns = 1 if proba.array.ndim == 1 else proba.array.shape[1]
    if len(classes) != (2 if columns == 1 else columns):
        hint = "; name all of them in labels" if labels is None else ""
        where = "y_true" if labels is None else "labels"
        raise ValueError(f"y_proba has {columns} columns, but {where} has {len(classes)} classes, {classes}{hint}")

    total, weight_total, off = ExactSum(), ExactSum(), False
    step = max(1, ELEMENTS // columns)
    for start in range(0, rows, step):
        some = slice(start, start + step)
        p = _probabilities(proba, some)
        eps = 2.0**-7 if proba.kind == BF16 else float(np.finfo(p.dtype).eps)
        with default_floats():
            off = off or bool((abs(p.sum(axis=1, dtype=np.float64) - 1.0) > sqrt(eps)).any())
            if indicator:
                chosen = _indicated(true[some], start)
                p = p.clip(eps, 1 - eps).astype(np.float64)
                loss = np.zeros(len(p))
                for column in range(columns):
                    loss += np.where(chosen[:, column], _minus_log(np.ascontiguousarray(p[:, column])), 0.0)
            else:
                place = _places(true[some], classes, start)
                picked = np.take_along_axis(p, place[:, np.newaxis], 1)[:, 0]
                loss = _minus_log(picked.clip(eps, 1 - eps).astype(np.float64))
            if weight is not None:
                row_weight = np.ascontiguousarray(weight[some], np.float64)
                weight_total.add(row_weight)
                loss = loss * row_weight
        total.add(loss)
    if off:
        message = "the rows of y_proba do not all sum to one; they are taken as they are"
        warnings.warn(message, UserWarning, stacklevel=2)
    if not normalize:
        return total.value()
    return total.mean(rows) if weight is None else total.over(weight_total)


def _shape_of(proba: Logits, true: Array) -> int:
    """Check how many axes and rows there are; give the number of rows."""
    shape = proba.array.shape
    if len(shape) not in (1, 2) or 0 in shape:
        raise ValueError(f"y_proba has shape {shape}; it must be (N,) or (N, C), with at least one row")
    if true.ndim not in (1, 2) or len(true) != shape[0]:
        raise ValueError(f"y_true has shape {true.shape}; y_proba of shape {shape} wants {shape[0]} labels")
    return int(shape[0])


def _weights(sample_weight: ArrayLike, rows: int) -> Array:
    weight = as_logits(sample_weight, "sample_weight")
    array = weight.array
    if array.shape != (rows,):
        raise ValueError(f"sample_weight has shape {array.shape}; it must be ({rows},), a number for each row")
    if weight.kind == BF16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("sample_weight must be finite")
    if not array.any():
        raise ValueError("sample_weight has no number but 0")
    return array


def _classes(true: Array, labels: ArrayLike | None) -> Array:
    """The sorted labels, given or found."""
    if labels is None:
        classes = _sorted_unique(true, "y_true")
        if len(classes) < 2:
            raise ValueError(f"y_true holds the label {classes[0]} only; name all the labels there are in labels")
        return classes
    given = to_numpy(labels, "labels").reshape(-1)
    classes = _sorted_unique(given, "labels")
    if len(classes) != len(given) or len(classes) < 2:
        raise ValueError(f"labels must be at least two different labels, got {given.tolist()}")
    if (classes != given).any():
        warnings.warn(
            f"labels are {given.tolist()}, but the columns of y_proba are taken in sorted order, {classes.tolist()}",
            UserWarning,
            stacklevel=3,
        )
    return classes


def _sorted_unique(array: Array, name: str) -> Array:
    """Different values, block by block."""
    if is_bfloat16(array.dtype) or array.dtype.kind not in "fuibUSO":
        raise ValueError(f"{name} has dtype {array.dtype}; labels are numbers, bools or strings")
    found: Array = array[:0]
    for start in range(0, len(array), ELEMENTS):
        some = array[start : start + ELEMENTS]
        if some.dtype.kind == "f" and not (np.isfinite(some).all() and (some == np.floor(some)).all()):
            raise ValueError(f"{name} holds numbers that are no whole ones; labels name classes")
        if some.dtype.kind == "O" and len({isinstance(x, str) for x in some}) != 1:
            raise ValueError(f"{name} mixes strings and other labels")
        try:
            found = np.union1d(found, some)
        except TypeError as error:
            raise ValueError(f"{name} holds labels that cannot be sorted: {error}") from None
    return found


def _places(true: Array, classes: Array, start: int) -> NDArray[np.intp]:
    """Where each label is among the sorted ones."""
    try:
        place = np.searchsorted(classes, true)
        missing = classes[np.minimum(place, len(classes) - 1)] != true
    except TypeError as error:
        raise ValueError(f"y_true and labels do not compare: {error}") from None
    if np.any(missing):
        where = int(np.argmax(missing))
        raise ValueError(f"y_true[{start + where}] is {true[where]!r}, not among the labels {classes.tolist()}")
    return place


def _indicated(true: Array, start: int) -> NDArray[np.bool_]:
    bad = (true != 0) & (true != 1)
    if bad.any():
        row, column = map(int, np.argwhere(bad)[0])
        raise ValueError(f"y_true[{start + row}, {column}] is {true[row, column]}; an indicator matrix holds 0 and 1")
    chosen: NDArray[np.bool_] = true == 1
    return chosen


def _probabilities(proba: Logits, some: slice) -> Array:
    """A block of rows, two columns or more, in the dtype that says what eps is."""
    p = proba.array[some]
    if proba.kind == BF16:
        p = (p.astype(np.uint32) << 16).view(np.float32)
    p = p.astype(p.dtype.newbyteorder("=") if p.dtype.kind == "f" else np.float64, copy=False)
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        where = np.argwhere(bad)[0].tolist()
        value = float(p[tuple(where)])
        where[0] += some.start
        raise ValueError(f"y_proba{where} is {value}, outside [0, 1]")
    if p.ndim == 1:
        p = p[:, np.newaxis]
    return np.concatenate([1 - p, p], axis=1) if p.shape[1] == 1 else p


def _minus_log(p: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.empty_like(p)
    kernels.elementary("log", p, out)
    return -out
