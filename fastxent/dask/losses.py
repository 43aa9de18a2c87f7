"""Cross-entropy of Dask arrays, lazily: row losses and gradients chunk by chunk, sums and means in a tree."""

from __future__ import annotations

import warnings
from functools import partial
from math import prod
from typing import Any, Literal

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent import _dispatch
from fastxent._arrays import as_labels, as_weight, bad_label, is_bfloat16
from fastxent._cross_entropy import CrossEntropy, class_axis_of
from fastxent._exact import ExactSum
from fastxent._passes.targets import NormalizedInputWarning, as_sample_weight
from fastxent._reduction import Divisor, check_options
from fastxent._scoring.inputs import decoded
from fastxent._threads import default_floats, one_thread
from fastxent.dask.chunks import as_dask, cut_alike, is_strided, laid, offsets, whole_rows
from fastxent.dask.tree import tree_reduce


def cross_entropy(
    logits: Any,
    target: Any,
    weight: ArrayLike | None = None,
    *,
    axis: int | None = None,
    ignore_index: int = -100,
    reduction: Literal["mean", "sum", "none"] = "mean",
    label_smoothing: float = 0.0,
    from_logits: bool = True,
    temperature: float = 1.0,
    sample_weight: Any = None,
    invalid: Literal["raise", "ignore"] = "raise",
    empty: Literal["nan", "zero", "raise"] = "nan",
    logits_dtype: str | None = None,
    return_grad: bool = False,
    split_every: int | None = None,
) -> Any:
    """Cross-entropy of Dask arrays of logits and labels, or class probabilities; `fastxent.cross_entropy` for Dask.

    Parameters
    ----------
    logits
        Dask array of shape (C,), (N, C) or (N, C, d1, ...); the class axis is 1 (0 for 1-d logits) unless `axis` says
        otherwise. A row that is cut into several chunks is put together, up to 1 GiB a row.
    target
        Class indices of the logits' shape without the class axis, or probabilities of the logits' shape: a Dask array,
        whose chunks are brought in line with the logits', or an array in memory.
    weight
        A number for each class, an array in memory.
    sample_weight
        A factor for each row, a Dask array or one in memory, of a shape that broadcasts to that of the rows.
    axis, ignore_index, reduction, label_smoothing, from_logits, temperature, invalid, empty, logits_dtype, return_grad
        As `fastxent.cross_entropy` has them. With `return_grad` the loss and the gradient come of one read of the
        logits; for "mean" labels and weights are read ahead of it.
    split_every
        States that one task merges; by default Dask's number.

    Returns
    -------
    loss : dask.array.Array
        Not computed yet: 0-d for "mean" and "sum", of the rows' shape and chunks for "none". Compute it together with
        the gradient, by ``dask.compute(loss, gradient)``, and the logits are read once.
    gradient : dask.array.Array
        With `return_grad`.

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
    check_options(reduction, invalid, empty, None)
    x = as_dask(logits, "logits")
    class_axis, batch = class_axis_of(x.shape, axis, "logits")
    classes = x.shape[class_axis]
    strided = is_strided(x.shape, (class_axis,))
    x = whole_rows(da.moveaxis(x, class_axis, -1), 1, "logits")
    goal = as_dask(target, "target")
    soft = goal.ndim == x.ndim and (goal.dtype.kind == "f" or is_bfloat16(goal.dtype))
    if soft:
        goal = da.moveaxis(goal, class_axis, -1)
        if goal.shape != x.shape:
            words = f"class probabilities have the logits' shape, {x.shape} with the classes last"
            raise ValueError(f"target has shape {goal.shape}; {words}")
        goal = goal.rechunk(x.chunks)
    else:
        goal = cut_alike(goal, "target", x)
    sample = None if sample_weight is None else _broadcast(sample_weight, batch, x)
    options: dict[str, Any] = {
        "weight": as_weight(weight, classes), "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        "from_logits": from_logits, "temperature": temperature, "invalid": invalid, "logits_dtype": logits_dtype,
        "return_grad": bool(return_grad),
    }  # fmt: skip
    # bad dtypes and options are errors here, not in a task
    nothing = CrossEntropy.of(
        np.empty((0, classes), x.dtype),
        np.empty((0, classes) if soft else 0, goal.dtype),
        axis=-1,
        sample_weight=None if sample is None else np.empty(0, sample.dtype),
        **options,
    )
    labels = None if soft else goal
    make = partial(_LossSum, nothing.weights, ignore_index, classes, nothing.weighted)
    beside = {"labels": labels, "sample_weight": sample}
    columns: dict[str, Any] = {"target": goal, "sample_weight": sample}
    if return_grad and reduction == "mean":
        columns["denominator"] = _denominator(make, beside, batch, split_every)
    scored = _scored(x, columns, partial(_score, strided, options), nothing.x.row_dtype, bool(return_grad))
    losses = scored[..., -1] if return_grad else scored
    total = losses
    if reduction != "none":
        finish = partial(_LossSum.value, reduction=reduction, empty=empty)
        # a class axis of one: the losses
        total = tree_reduce(make, [losses[..., np.newaxis]], beside, finish, split_every).astype(np.float64)
    return (total, da.moveaxis(scored[..., :-1], -1, class_axis)) if return_grad else total


def _broadcast(sample_weight: Any, batch: tuple[int, ...], x: da.Array) -> da.Array:
    """A weight a row, cut as the rows of `x`."""
    sample = as_dask(sample_weight, "sample_weight")
    try:
        # axes of length 1 in one chunk: broadcast_to repeats empty ones, too (Dask 2026.8)
        whole = sample.rechunk({d: -1 for d, n in enumerate(sample.shape) if n == 1})
        return da.broadcast_to(whole, batch).rechunk(x.chunks[:-1])
    except ValueError:
        raise ValueError(
            f"sample_weight has shape {sample.shape}; it must broadcast to {batch}, a number for each row"
        ) from None


def _denominator(make: Any, beside: dict[str, Any], batch: tuple[int, ...], split_every: int | None) -> Any:
    """What the mean's gradient is divided by, told by labels and weights alone, a 0-d array."""
    some = next((column for column in beside.values() if column is not None), None)
    if some is None:
        return da.from_array(np.float64(max(1, prod(batch))))
    return tree_reduce(
        partial(make, count_only=True), [some[..., np.newaxis]], beside, _LossSum.denominator, split_every
    )


def _scored(x: da.Array, columns: dict[str, Any], score: Any, dtype: np.dtype[Any], gradient: bool) -> da.Array:
    """The row losses; with `gradient` that of each row, and the loss behind it as one more column."""
    places = tuple(range(x.ndim))
    out = places if gradient else places[:-1]
    some = {name: column for name, column in columns.items() if column is not None}
    arguments: list[Any] = []
    for column in some.values():
        arguments += [column, places[: column.ndim]]
    return da.blockwise(
        partial(score, tuple(some)), out, x, places, *arguments, *offsets(x.chunks[:-1]),
        token="fastxent-cross-entropy", dtype=dtype, meta=np.empty((0,) * len(out), dtype), align_arrays=False,
        adjust_chunks={places[-1]: x.shape[-1] + 1} if gradient else None,
    )  # fmt: skip


def _score(strided: bool, options: dict[str, Any], names: tuple[str, ...], rows: Any, *blocks: Any) -> Any:
    """A task: the row losses of one chunk, with the gradient before them."""
    # blockwise gives a list along the class axis where that is not in the result
    rows, *others = (block[0] if isinstance(block, list) else block for block in (rows, *blocks))
    beside = dict(zip(names, others, strict=False))
    target, denominator = beside.pop("target"), float(beside.pop("denominator", 1.0))
    if target.ndim == rows.ndim:
        target = laid(target, strided)
    some = {"sample_weight": None, **beside, **options}
    job = CrossEntropy.of(laid(rows, strided), target, axis=-1, **some)
    if job.suspicious:
        words = "the rows of logits look like probabilities, whose softmax is taken; if so, pass from_logits=False"
        warnings.warn(words, NormalizedInputWarning, stacklevel=2)
    dtype = job.x.row_dtype
    try:
        with one_thread():
            if not options["return_grad"]:
                result = np.empty(job.shape, dtype)
                passes = job.score(out=result)
            else:
                result = np.empty((*job.shape, job.classes + 1), dtype)
                passes = job.score(out=result[..., -1], gradient=result[..., :-1], denominator=denominator)
            for _ in passes:
                pass
    except IndexError:
        ignore = options["ignore_index"]
        offset = tuple(int(start[0]) for start in others[len(names) :])
        raise bad_label(as_labels(target, job.shape, ignore), ignore, job.classes, offset=offset) from None
    return result


class _LossSum:
    """The accumulator under the reductions of `cross_entropy`: the exact sum of row losses, and what divides it."""

    def __init__(
        self,
        weights: NDArray[np.float64] | None,
        ignore_index: int,
        classes: int,
        weighted: bool,
        count_only: bool = False,
    ) -> None:
        self._weights, self._ignore_index, self._classes = weights, ignore_index, classes
        self._count_only = count_only
        self._row_format = _dispatch.row_format
        self.total, self.divisor = ExactSum(), Divisor(0, weighted)

    def update(
        self,
        row_losses: NDArray[Any],
        labels: NDArray[Any] | None,
        *,
        start: int | None = None,
        sample_weight: NDArray[Any] | None = None,
    ) -> None:
        """Add the losses, of shape (..., 1), of rows whose bad labels have raised or count as ignored."""
        if not self._count_only:
            self.total.add(np.ascontiguousarray(row_losses).ravel())
            self.total.settle()
        used = np.ones(row_losses.shape[:-1], bool)
        if labels is not None:
            used = (labels != self._ignore_index) & (labels >= 0) & (labels < self._classes)
        if self.divisor.row_weights is None:
            self.divisor.add(used.size, used.size - int(np.count_nonzero(used)))
            return
        weights = np.ones(used.shape)
        with default_floats(), np.errstate(all="ignore"):
            if sample_weight is not None:
                some = as_sample_weight(sample_weight, used.shape)
                assert some is not None
                weights = decoded(some).astype(np.float64)
            if labels is not None and self._weights is not None:
                weights = weights * self._weights[np.where(used, labels, 0).astype(np.intp)]
        self.divisor.row_weights = np.where(used, weights, 0.0).ravel()
        self.divisor.add(used.size, 0)
        self.divisor.settle()
        self.divisor.row_weights = np.empty(0)

    def merge(self, other: _LossSum) -> None:
        """Add another sum."""
        if self._row_format != other._row_format:
            raise ValueError(f"rows of row format {self._row_format} and {other._row_format} do not mix")
        self.total.take(other.total)
        self.divisor.take(other.divisor)

    def value(self, reduction: str, empty: str) -> float:
        """The sum, or the mean as `fastxent.cross_entropy` has it."""
        return self.total.value() if reduction == "sum" else float(self.divisor.mean(self.total, empty))

    def denominator(self) -> float:
        """What the gradient of the mean is divided by."""
        return self.divisor.value()
