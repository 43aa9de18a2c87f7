"""Evaluation and losses of Dask arrays: a task for each chunk, states merged in Dask's own tree.

The bits are those of one machine's call on the whole array in C order, whatever the chunks and the scheduler: a row's
value depends on that row alone, and sums are exact. Each task uses one thread; give at least as many chunks as CPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from math import nan, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import dask.array as da
except ImportError as error:
    raise ImportError(f"fastxent.dask wants Dask's arrays ({error}): pip install 'fastxent[dask]'") from error

from fastxent import _dispatch, distributions, losses
from fastxent._arrays import as_axes, as_axis, as_labels, as_weight, bad_label, dtype_name
from fastxent._chunks import as_dask, cut_alike, is_strided, item, laid, offsets, tree_reduce, whole_rows
from fastxent._exact import ExactSum
from fastxent._threads import one_thread
from fastxent.comparator import Comparator, check_widths
from fastxent.comparison_results import Comparison
from fastxent.evaluator import Evaluator
from fastxent.results import Evaluation

__all__ = ["compare", "cross_entropy", "evaluate", "log_softmax", "logsumexp", "softmax"]

Axis = int | tuple[int, ...] | None

# options of `fastxent.cross_entropy` that say the same of each row, and change no divisor of a mean
ROW_OPTIONS = ("from_logits", "label_smoothing", "logits_dtype", "temperature")


def evaluate(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    compute: bool = True,
    split_every: int | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    mask: Any = None,
    byte_counts: Any = None,
    word_counts: Any = None,
    **options: Any,
) -> Any:
    """Everything about one model's outputs, from one read of each chunk of the logits; `fastxent.evaluate` for Dask.

    Parameters
    ----------
    logits
        Dask array of shape (..., C), or with the class axis elsewhere and `axis` saying where. A row that is cut into
        several chunks is put together, up to 1 GiB a row.
    labels
        Class indices of the logits' shape without the class axis: a Dask array, whose chunks are brought in line with
        the logits', or an array in memory.
    axis
        The class axis.
    compute
        False gives a `dask.delayed.Delayed` that computes to the evaluation.
    split_every
        States that one task merges; by default Dask's number.
    groups, sample_weight, mask, byte_counts, word_counts
        A value for each row, arrays as `labels`: what `Evaluator.update` takes by these names.
    **options
        As `Evaluator` has them.

    Returns
    -------
    Evaluation or dask.delayed.Delayed
        Equal to that of `fastxent.evaluate` on one machine.

    Raises
    ------
    TypeError, ValueError
        As `fastxent.evaluate`, and for chunks of unknown size; before anything is computed.

    Notes
    -----
    Chunks that cut the first axis alone are fastest: rows are numbered in the whole array's C order, and a chunk whose
    rows are not neighbours there is taken part by part.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastxent.dask
    >>> logits = da.from_array(np.eye(6, dtype=np.float32), chunks=(2, 6))
    >>> result = fastxent.dask.evaluate(logits, np.arange(6))
    >>> result.rows, result.accuracy
    (6, 1.0)
    """
    x = as_dask(logits, "logits")
    if x.ndim == 0:
        raise ValueError("logits has no dimension, so no class axis")
    x = da.moveaxis(x, as_axis(axis, x.ndim), -1)
    if x.shape[-1] == 0:
        raise ValueError(f"logits of shape {x.shape} has no class")
    x = whole_rows(x, 1, "logits")
    rows = {
        "labels": labels,
        "groups": groups,
        "sample_weight": sample_weight,
        "mask": mask,
        "byte_counts": byte_counts,
        "word_counts": word_counts,
    }
    cut = {name: None if some is None else cut_alike(some, name, x) for name, some in rows.items()}
    if cut["labels"] is None:
        raise TypeError("labels is None; every row wants one")
    result = tree_reduce(
        partial(Evaluator, **options),
        [x],
        cut,
        partial(_evaluation, x.shape, dtype_name(x.dtype), dtype_name(cut["labels"].dtype)),
        split_every,
    )
    return item(result).compute() if compute else item(result)


def _evaluation(shape: tuple[int, ...], logits: str, labels: str, evaluator: Evaluator) -> Evaluation:
    result = evaluator.result()
    result.provenance.update(
        logits={"name": "logits", "shape": list(shape), "dtype": logits},
        labels={"name": "labels", "shape": list(shape[:-1]), "dtype": labels},
    )
    return result


def compare(
    base: Any,
    other: Any,
    labels: Any = None,
    *,
    axis: int = -1,
    compute: bool = True,
    split_every: int | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    mask: Any = None,
    **options: Any,
) -> Any:
    """How two models' logits differ, from one read of each chunk of both; `fastxent.compare` for Dask.

    Parameters
    ----------
    base, other
        Dask arrays of one shape (..., C), or with the class axis elsewhere and `axis` saying where. The other's chunks
        are brought in line with the base model's; a row that is cut into several chunks is put together, up to 1 GiB.
    labels
        Class indices, as `evaluate` takes them, or None.
    axis
        The class axis.
    compute
        False gives a `dask.delayed.Delayed` that computes to the comparison.
    split_every
        States that one task merges; by default Dask's number.
    groups, sample_weight, mask
        A value for each row, arrays as `labels`.
    **options
        As `Comparator` has them.

    Returns
    -------
    Comparison or dask.delayed.Delayed
        Equal to that of `fastxent.compare` on one machine.

    Raises
    ------
    TypeError, ValueError
        As `fastxent.compare`, and for chunks of unknown size; before anything is computed.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastxent.dask
    >>> base = da.from_array(np.eye(6, dtype=np.float32), chunks=(2, 6))
    >>> result = fastxent.dask.compare(base, base)
    >>> result.rows, result.kl_mean
    (6, 0.0)
    """
    make = partial(Comparator, **options)
    sides = [as_dask(x, name) for x, name in ((base, "base"), (other, "other"))]
    for i, name in enumerate(("base", "other")):
        if sides[i].ndim == 0:
            raise ValueError(f"{name} has no dimension, so no class axis")
        sides[i] = da.moveaxis(sides[i], as_axis(axis, sides[i].ndim), -1)
    check_widths(sides[0].shape, sides[1].shape, make().inputs)
    x, y = (whole_rows(side, 1, name) for side, name in zip(sides, ("base", "other"), strict=True))
    y = y.rechunk((*x.chunks[:-1], y.chunks[-1]))
    rows = {"labels": labels, "groups": groups, "sample_weight": sample_weight, "mask": mask}
    cut = {name: None if some is None else cut_alike(some, name, x) for name, some in rows.items()}
    about = {"base": (list(x.shape), str(x.dtype)), "other": (list(y.shape), str(y.dtype))}
    about |= {name: (list(some.shape), str(some.dtype)) for name, some in cut.items() if some is not None}
    result = tree_reduce(make, [x, y], cut, partial(_comparison, about), split_every)
    return item(result).compute() if compute else item(result)


def _comparison(about: dict[str, tuple[list[int], str]], comparator: Comparator) -> Comparison:
    result = comparator.result()
    result.provenance.update(
        {name: {"name": name, "shape": shape, "dtype": dtype} for name, (shape, dtype) in about.items()}
    )
    return result


def cross_entropy(
    logits: Any,
    target: Any,
    weight: ArrayLike | None = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    invalid: Literal["raise", "ignore"] = "raise",
    empty: Literal["nan", "zero", "raise"] = "nan",
    split_every: int | None = None,
    **options: Any,
) -> Any:
    """Softmax cross-entropy of Dask arrays of logits and integer labels; `fastxent.cross_entropy` for Dask.

    Parameters
    ----------
    logits, target
        Dask arrays as `evaluate` takes them, but the class axis is 1 (0 for 1-d logits) unless `axis` says otherwise.
    weight
        A number for each class, an array in memory.
    axis, ignore_index, reduction, invalid, empty
        As `fastxent.cross_entropy` has them.
    split_every
        States that one task merges; by default Dask's number.
    **options
        What else `fastxent.cross_entropy` has and says the same of each row: `logits_dtype` and its like.

    Returns
    -------
    dask.array.Array
        Not computed yet: 0-d for "mean" and "sum", of the target's shape and chunks for "none".

    Raises
    ------
    TypeError, ValueError
        As `fastxent.cross_entropy`, and for chunks of unknown size. A label out of range is an IndexError when the
        array is computed, naming its place in the whole array.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastxent.dask
    >>> logits = da.zeros((1000, 2), chunks=(100, 2), dtype=np.float32)
    >>> loss = fastxent.dask.cross_entropy(logits, da.ones(1000, dtype=np.int64))
    >>> round(float(loss.compute()), 6)
    0.693147
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if empty not in ("nan", "zero", "raise"):
        raise ValueError(f"empty must be 'nan', 'zero' or 'raise', got {empty!r}")
    if others := sorted(options.keys() - set(ROW_OPTIONS)):
        raise TypeError(f"cross_entropy of Dask arrays takes no {', '.join(others)}")
    x = as_dask(logits, "logits")
    if x.ndim == 0:
        raise ValueError("logits must have at least one dimension, the classes")
    class_axis = as_axis((1 if x.ndim > 1 else 0) if axis is None else axis, x.ndim)
    classes = x.shape[class_axis]
    if classes == 0:
        raise ValueError(f"logits of shape {x.shape} have no class along axis {class_axis}")
    weights = as_weight(weight, classes)
    score = partial(
        _score_rows,
        is_strided(x.shape, (class_axis,)),
        {"weight": weights, "ignore_index": ignore_index, "invalid": invalid, **options},
    )
    x = whole_rows(da.moveaxis(x, class_axis, -1), 1, "logits")
    labels = cut_alike(target, "target", x)
    # bad dtypes and options are errors here, not in a task
    dtype = score([np.empty((0, classes), x.dtype)], np.empty(0, labels.dtype)).dtype
    batch = tuple(range(x.ndim - 1))
    row_losses = da.blockwise(
        score, batch, x, (*batch, x.ndim - 1), labels, batch, *offsets(x.chunks[:-1]),
        token="fastxent-cross-entropy", dtype=dtype, meta=np.empty((0,) * len(batch), dtype), align_arrays=False,
    )  # fmt: skip
    if reduction == "none":
        return row_losses
    total = tree_reduce(
        partial(_LossSum, weights, ignore_index, classes),
        # a class axis of one: the losses
        [row_losses[..., np.newaxis]],
        {"labels": labels},
        partial(_LossSum.value, reduction=reduction, empty=empty),
        split_every,
    )
    return total.astype(np.float64)


def _score_rows(strided: bool, options: dict[str, Any], rows: Any, labels: NDArray[Any], *starts: Any) -> Any:
    """A task: the row losses of one chunk."""
    (rows,) = rows  # blockwise gives a list along the class axis, which is not in the result
    try:
        with one_thread():
            return losses.cross_entropy(laid(rows, strided), labels, axis=-1, reduction="none", **options)
    except IndexError:
        ignore = options["ignore_index"]
        checked = as_labels(labels, rows.shape[:-1], ignore)
        offset = tuple(int(start[0]) for start in starts)
        raise bad_label(checked, ignore, rows.shape[-1], offset=offset) from None


class _LossSum:
    """The accumulator under the reductions of `cross_entropy`: the exact sum of row losses, and what divides it."""

    def __init__(self, weights: NDArray[np.float64] | None, ignore_index: int, classes: int) -> None:
        self._weights, self._ignore_index, self._classes = weights, ignore_index, classes
        self._row_format = _dispatch.row_format
        self.total, self.weight, self.used = ExactSum(), ExactSum(), 0

    def update(self, row_losses: NDArray[Any], labels: NDArray[Any], *, start: int | None = None) -> None:
        """Add the losses, of shape (..., 1), of rows whose bad labels have raised or count as ignored."""
        self.total.add(np.ascontiguousarray(row_losses).ravel())
        used = labels[(labels != self._ignore_index) & (labels >= 0) & (labels < self._classes)].astype(np.int64)
        if self._weights is None:
            self.used += used.size
        else:
            weights = self._weights[used]
            self.weight.add(weights)
            self.used += int(np.count_nonzero(weights))
        self.total.settle()
        self.weight.settle()

    def merge(self, other: _LossSum) -> None:
        """Add another sum."""
        if self._row_format != other._row_format:
            raise ValueError(f"rows of row format {self._row_format} and {other._row_format} do not mix")
        self.total.take(other.total)
        self.weight.take(other.weight)
        self.used += other.used

    def value(self, reduction: str, empty: str) -> float:
        """The sum, or the mean as `fastxent.cross_entropy` has it."""
        if reduction == "sum":
            return self.total.value()
        if self.used == 0:
            if empty == "raise":
                raise ValueError("the mean over no row: every label is ignored or out of range, or there is none")
            return 0.0 if empty == "zero" else nan
        if self._weights is None:
            return self.total.mean(self.used)
        return nan if self.weight.special() is not None else self.total.mean(Fraction(self.weight.fraction()))


def logsumexp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exponentials of a Dask array along axes; `fastxent.logsumexp` for Dask.

    Parameters
    ----------
    a
        Dask array. What is summed together must lie in one chunk: it is put together up to 1 GiB.
    axis, keepdims
        As `fastxent.logsumexp` has them.

    Returns
    -------
    dask.array.Array
        Not computed yet.

    Raises
    ------
    TypeError, ValueError
        As `fastxent.logsumexp`, for chunks of unknown size, and for sums of more than 1 GiB cut into several chunks.

    Examples
    --------
    >>> import dask.array as da, fastxent.dask
    >>> fastxent.dask.logsumexp(da.zeros((4, 2), chunks=(2, 1)), axis=1).compute()
    array([0.69314718, 0.69314718, 0.69314718, 0.69314718])
    """
    x = as_dask(a, "a")
    if x.dtype.kind == "c":
        raise TypeError(f"a has dtype {x.dtype}; complex numbers are taken by fastxent.logsumexp only")
    axes = as_axes(axis, x.ndim)
    result = _by_rows(distributions.logsumexp, x, axes, "a", False)
    return da.expand_dims(result, tuple(sorted(axes))) if keepdims and axes else result


def softmax(x: Any, axis: Axis = None) -> Any:
    """Softmax of a Dask array; `fastxent.softmax` for Dask, lazily.

    Parameters and errors are those of `logsumexp`.

    Examples
    --------
    >>> import dask.array as da, fastxent.dask
    >>> fastxent.dask.softmax(da.zeros((2, 2), chunks=(1, 2)), axis=1).compute()
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    return _normalised(distributions.softmax, x, axis)


def log_softmax(x: Any, axis: Axis = None) -> Any:
    """Logarithm of the softmax of a Dask array; `fastxent.log_softmax` for Dask, lazily.

    Parameters and errors are those of `logsumexp`.

    Examples
    --------
    >>> import dask.array as da, fastxent.dask
    >>> fastxent.dask.log_softmax(da.zeros((1, 2), chunks=(1, 2)), axis=1).compute()
    array([[-0.69314718, -0.69314718]])
    """
    return _normalised(distributions.log_softmax, x, axis)


def _normalised(function: Callable[..., Any], a: Any, axis: Axis) -> Any:
    x = as_dask(a, "x")
    axes = as_axes(axis, x.ndim)
    if any(x.shape[d] == 0 for d in axes):
        raise ValueError(f"x of shape {x.shape} has rows without elements along axis {axis}")
    order = [*(d for d in range(x.ndim) if d not in axes), *sorted(axes)]
    return _by_rows(function, x, axes, "x", True).transpose(np.argsort(order).tolist())


def _by_rows(function: Callable[..., Any], x: Any, axes: tuple[int, ...], name: str, keep: bool) -> Any:
    """A function of rows, mapped over chunks; `axes` go last, and stay there under `keep`."""
    batch = [d for d in range(x.ndim) if d not in axes]
    strided = is_strided(x.shape, axes)
    rows = whole_rows(x.transpose([*batch, *sorted(axes)]), len(axes), name)
    # bad dtypes are errors here, not in a task
    dtype = function(np.zeros((1, 1), x.dtype), axis=-1).dtype
    places, n = tuple(range(x.ndim)), len(batch)
    out = places if keep else places[:n]
    return da.blockwise(
        partial(_map_rows, function, strided, len(axes), keep), out, rows, places,
        token=f"fastxent-{function.__name__}", dtype=dtype, meta=np.empty((0,) * len(out), dtype), align_arrays=False,
    )  # fmt: skip


def _map_rows(function: Callable[..., Any], strided: bool, axes: int, keep: bool, block: Any) -> Any:
    """A task: one chunk, its last `axes` axes joined."""
    while isinstance(block, list):  # along axes that are not in the result
        (block,) = block
    shape = block.shape
    batch = shape[: len(shape) - axes]
    with one_thread():
        result = function(laid(block.reshape(*batch, prod(shape[len(batch) :])), strided), axis=-1)
    return result.reshape(shape) if keep else result
