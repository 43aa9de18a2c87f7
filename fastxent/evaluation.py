"""Everything about one model's logits and labels, from one read of arrays or files."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from fastxent._progress import progress_bar
from fastxent._threads import get_num_threads
from fastxent.evaluator import Evaluator
from fastxent.results import Evaluation
from fastxent.sources import Source, as_source
from fastxent.sources.base import read_ahead

BLOCK_BYTES = 1 << 24  # of a file, read ahead of the computation
BLOCK_ROWS = 1 << 18

Progress = bool | Callable[[int, int], None]


def evaluate(
    logits: ArrayLike | str | os.PathLike[str],
    labels: ArrayLike | str | os.PathLike[str],
    *,
    axis: int = -1,
    topk: Iterable[int] = (1, 5),
    bins: int = 15,
    ignore_index: int = -100,
    logits_dtype: str | None = None,
    progress: Progress = False,
) -> Evaluation:
    """Everything about one model's outputs, from one read of the logits.

    Parameters
    ----------
    logits
        Array of shape (..., C), or with the class axis elsewhere and `axis` saying where; or the path of a ``.npy``
        file of any size, which is streamed; or a Dask array, for which `fastxent.dask.evaluate` is called. Dtypes as
        `cross_entropy` takes them.
    labels
        Class indices of the logits' shape without the class axis: an array or the path of a ``.npy`` file.
    axis
        The class axis of an array; of a file it is always the last one.
    topk, bins, ignore_index, logits_dtype
        As `Evaluator` has them.
    progress
        True shows a bar on the terminal; a function is called with (rows done, all rows).

    Returns
    -------
    Evaluation
        Loss with its error, perplexity, accuracy, ranks, entropy, Brier score and calibration.

    Raises
    ------
    TypeError, ValueError
        For dtypes and shapes that do not fit; `FormatError` for a file that cannot be read.
    FileNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> result = fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1])
    >>> round(result.cross_entropy, 6), result.accuracy
    (0.410038, 0.5)
    """
    # every Dask collection has this method (Dask's protocol), and Dask need not be imported to ask
    if hasattr(logits, "__dask_graph__") or hasattr(labels, "__dask_graph__"):
        if progress:
            raise ValueError("progress of Dask arrays is shown by Dask: dask.diagnostics.ProgressBar, or its dashboard")
        from fastxent import dask

        result: Evaluation = dask.evaluate(
            logits, labels, axis=axis, topk=topk, bins=bins, ignore_index=ignore_index, logits_dtype=logits_dtype
        )
        return result
    source = as_source(logits, axis)
    targets = as_source(labels, None)
    classes = _check_shapes(source, targets, axis)
    evaluator = Evaluator(topk=topk, bins=bins, ignore_index=ignore_index, logits_dtype=logits_dtype)
    rows = prod(targets.shape)
    row_bytes = classes * source.dtype.itemsize
    step = max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))
    ranges = [(row, min(row + step, rows)) for row in range(0, rows, step)]
    if not ranges:  # nothing to read, but the dtypes are checked all the same
        evaluator.update(np.empty((0, classes), source.dtype), np.empty(0, targets.dtype))
    # the thread that reads ahead wants a core of its own: an OpenMP thread that waits does so spinning
    threads = None if source.in_memory else max(1, get_num_threads() - 1)
    with progress_bar(progress, rows, source.name) as done:
        for block, some in read_ahead((source, targets), ranges, (row_bytes, targets.dtype.itemsize)):
            evaluator._update(block, some, None, {}, threads)
            done(len(block))
    result = evaluator.result()
    result.provenance.update(
        logits={"name": source.name, "shape": list(source.shape), "dtype": str(source.dtype)},
        labels={"name": targets.name, "shape": list(targets.shape), "dtype": str(targets.dtype)},
    )
    return result


def _check_shapes(source: Source, targets: Source, axis: int) -> int:
    """The number of classes; every mismatch is named before anything is read."""
    if not source.shape:
        raise ValueError(f"{source.name} has no dimension, so no class axis")
    if not source.in_memory and operator.index(axis) not in (-1, len(source.shape) - 1):
        raise ValueError(f"the class axis of a file is its last one; {source.name} cannot be read along axis {axis}")
    wanted, classes = source.shape[:-1], source.shape[-1]
    if classes == 0:
        raise ValueError(f"{source.name} of shape {source.shape} has no class")
    if targets.shape != wanted:
        raise ValueError(
            f"labels have shape {targets.shape}, but logits of shape {source.shape} want {wanted}"
            + (f" ({targets.name}, {source.name})" if not targets.in_memory or not source.in_memory else "")
        )
    return classes
