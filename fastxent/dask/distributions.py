"""Log-sum-exp, softmax and log-softmax of Dask arrays, lazily."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import dask.array as da
import numpy as np

from fastxent import distributions
from fastxent._arrays import as_axes
from fastxent._threads import one_thread
from fastxent.dask.chunks import as_dask, is_strided, laid, whole_rows

Axis = int | tuple[int, ...] | None


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
    # not by expand_dims, which goes wrong where a chunk is empty (Dask 2026.8)
    return result[tuple(np.newaxis if d in axes else slice(None) for d in range(x.ndim))] if keepdims else result


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
