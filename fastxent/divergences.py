"""Entropy and divergences of distributions, given as probabilities or as logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import BF16, F64, Index, Logits, as_axis, as_logits, as_out, is_bfloat16, to_numpy
from fastxent._exact import ExactSum
from fastxent._passes import pairs as _pairs
from fastxent._passes import rows as _rows
from fastxent._passes import windows
from fastxent._passes.joint import log_of
from fastxent._passes.pairs import JS, KL
from fastxent._passes.plain import attempt, plain
from fastxent._passes.rows import ENTROPY

Reduction = Literal["none", "mean", "sum", "batchmean"]


def entropy(
    p: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Shannon entropy of distributions, :math:`-\sum p \log p`, with 0 log 0 = 0.

    Parameters
    ----------
    p
        Probabilities, or counts: rows are divided by their sums. float64, float32, float16, bfloat16, integers or bool,
        of any shape and strides.
    axis
        The class axis.
    base
        Base of the logarithm, above 1: None gives nats, 2 gives bits.
    reduction
        "none" gives a value for each row; "mean" and "batchmean" both divide their sum by the number of rows.
    logits_dtype
        "bfloat16" where raw 16-bit integers stand for it.
    out
        Array for ``reduction="none"``. Partly written after an error.

    Returns
    -------
    float or numpy.ndarray
        For "none" the shape without the class axis, float64 for float64 and integer input, float32 otherwise. float64
        for the others: the exact sum of what "none" returns, rounded once. A row with a NaN, or that sums to 0, gives
        NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For a negative or infinite entry, naming the first place; for an axis out of bounds, an unknown option, or a
        base out of range.

    Notes
    -----
    Meaning: ``scipy.stats.entropy``. Relative error at most 1e-6 (float32) or 1e-13 (float64), of a row that is nearly
    all one class as well: its largest term is log1p of the others' sum.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.entropy([[1, 1, 2], [0, 5, 0]], base=2)
    array([1.5, 0. ])
    >>> f"{fx.entropy([1.0, 1e-30]):.5g}"
    '7.0078e-29'
    """
    return _measured(KL, {"p": p}, axis, base, reduction, logits_dtype, out, shares=True)


def kl_divergence(
    p: ArrayLike,
    q: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Kullback-Leibler divergence of two distributions, :math:`\sum p \log(p / q) \ge 0`.

    Parameters
    ----------
    p, q
        Probabilities, or counts: the rows of both are divided by their sums. float64, float32, float16, bfloat16,
        integers or bool, of any strides. Their shapes broadcast, but for the class axis, which both must have.
    axis, base, reduction, logits_dtype, out
        As `entropy` has them.

    Returns
    -------
    float or numpy.ndarray
        As `entropy`; float64 where either input is float64 or integer. q = 0 < p gives inf. A row with a NaN, or that
        sums to 0, gives NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For a negative or infinite entry, naming the first place; for shapes that do not match, an unknown option, or a
        base out of range.

    Notes
    -----
    Meaning: ``scipy.stats.entropy(p, q)``. Never negative, and 0 for equal rows: a sum of non-negative terms, each to
    all its digits where p and q are nearly equal. Relative error at most 1e-6 (float32) or 1e-13 (float64).

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> p, q = np.array([0.5, 0.5]), np.array([[0.5, 0.5], [0.5, 0.5 + 1e-9], [1.0, 0.0]])
    >>> [f"{d:.5g}" for d in fx.kl_divergence(p, q)]
    ['0', '5e-19', 'inf']
    """
    return _measured(KL, {"p": p, "q": q}, axis, base, reduction, logits_dtype, out, shares=True)


def js_divergence(
    p: ArrayLike,
    q: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Jensen-Shannon divergence of two distributions: the mean of KL(P||M) and KL(Q||M), M = (P + Q) / 2.

    The square of ``scipy.spatial.distance.jensenshannon``. Parameters, dtypes, errors and accuracy are those of
    `kl_divergence`.

    Returns
    -------
    float or numpy.ndarray
        At least 0, and 0 for equal rows; at most log 2. Exchanging P and Q changes no bit. A row with a NaN, or that
        sums to 0, gives NaN.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.js_divergence(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0.5, 0.5]), reduction="mean", base=2).round(6)
    np.float64(0.155639)
    """
    return _measured(JS, {"p": p, "q": q}, axis, base, reduction, logits_dtype, out, shares=True)


def entropy_with_logits(
    logits: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Shannon entropy of softmax distributions, :math:`-\sum p \log p`, in one read.

    Parameters
    ----------
    logits
        float64, float32, float16, bfloat16, integers or bool, of any shape and strides.
    axis
        The class axis.
    base
        Base of the logarithm, above 1: None gives nats, 2 gives bits.
    reduction
        "none" gives a value for each row; "mean" and "batchmean" both divide their sum by the number of rows.
    logits_dtype
        "bfloat16" where the logits are raw 16-bit integers that stand for it.
    out
        Array for ``reduction="none"``. Partly written after an error.

    Returns
    -------
    float or numpy.ndarray
        For "none" the shape without the class axis, float64 for float64 and integer logits, float32 otherwise. float64
        for the others: the exact sum of what "none" returns, rounded once. From 0 to log C; 0 log 0 is 0. A row with
        NaN or inf, or all -inf, gives NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For an axis out of bounds, an unknown option, or a base out of range.

    Notes
    -----
    A sum of non-negative terms, p (lse - x), in which lse - max x is log1p of the other classes' sum: relative error at
    most 1e-6 (float32) or 1e-13 (float64), of a peaked row's 1e-20 as well.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> fx.entropy_with_logits(np.zeros((2, 8)), base=2)
    array([3., 3.])
    >>> f"{fx.entropy_with_logits(np.array([0.0, 50.0])):.5g}"
    '9.8366e-21'
    """
    unit = _unit(base)
    if logits_dtype is None and out is None and reduction == "none":
        found = attempt(plain.rows, "-s", axis, ENTROPY, logits, axis, unit)
        if found is not None:
            return found
    _check_reduction(reduction, out)
    x = as_logits(logits, logits_dtype=logits_dtype)
    if x.array.ndim == 0:
        raise ValueError("logits must have at least one dimension, the classes")
    class_axis = as_axis(axis, x.array.ndim)
    shape = x.array.shape[:class_axis] + x.array.shape[class_axis + 1 :]
    if reduction == "none":
        result = as_out(out, shape, x.row_dtype, logits=x.array)
        for piece, place, index in _entropy_pieces(x, class_axis):
            for _ in _rows.run(ENTROPY, piece, place, out=result[index], unit=unit):
                pass
        return result[()] if out is None else result
    count = prod(shape)
    flat = np.empty(_rows.block_rows(count, x.array.shape[class_axis]), x.row_dtype)

    def blocks() -> Iterator[NDArray[Any]]:
        for piece, place, _ in _entropy_pieces(x, class_axis):
            for rows, _, _ in _rows.run(ENTROPY, piece, place, flat=flat, unit=unit):
                yield flat[:rows]

    return _reduced(blocks(), count, reduction)


def _entropy_pieces(x: Logits, axis: int) -> Iterator[tuple[Logits, int, Index]]:
    """Pieces whose class axis is contiguous; of rows too long for a buffer the array itself."""
    if windows.wanted(x, axis):
        yield x, axis, (...,)
        return
    for (piece,), (kind,), place, index in _pairs.pieces((x,), axis):
        yield Logits(piece, kind, None), place, index


def kl_divergence_with_logits(
    p_logits: ArrayLike,
    q_logits: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    temperature: float = 1.0,
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    r"""Kullback-Leibler divergence of two softmax distributions, :math:`\sum p \log(p / q) \ge 0`.

    Parameters
    ----------
    p_logits, q_logits
        Logits of P and of Q: float64, float32, float16, bfloat16, integers or bool, of any strides. Their shapes
        broadcast, but for the class axis, which both must have.
    axis
        The class axis, of the broadcast shape.
    base
        Base of the logarithm, above 1: None gives nats, 2 gives bits.
    reduction
        "none" gives a value for each row; "mean" and "batchmean" both divide their sum by the number of rows.
    temperature
        Divides both logits; nothing is multiplied back.
    logits_dtype
        "bfloat16" where raw 16-bit integers stand for it.
    out
        Array for ``reduction="none"``. Partly written after an error.

    Returns
    -------
    float or numpy.ndarray
        The shape without the class axis for "none": float64 where either input is float64 or integer, else float32.
        float64 for the others: the exact sum of what "none" returns, rounded once. A class that both mask (logit
        -inf) counts nothing; one that Q masks and P does not gives inf. A row with NaN or inf, or all -inf, gives NaN.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers.
    ValueError
        For shapes that do not match, an unknown option, or a base or temperature out of range.

    Notes
    -----
    Never negative: with d = log p - log q it is the sum of p (e^-d - 1 + d), whose terms are not, for the sum of q - p
    is 0. Relative error at most 1e-4 down to 1e-8, 1e-6 above 1e-3 (float32), 1e-12 down to 1e-16 (float64), beyond the
    rounding of the differences of the logits themselves; equal rows give exactly 0. The bits depend on neither threads,
    blocks nor the instruction set.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> p, q = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.01]])
    >>> [f"{d:.5g}" for d in fx.kl_divergence_with_logits(p, q)]
    ['0.46212', '9.8154e-06']
    """
    sides = {"p_logits": p_logits, "q_logits": q_logits}
    return _measured(KL, sides, axis, base, reduction, logits_dtype, out, temperature=temperature)


def js_divergence_with_logits(
    p_logits: ArrayLike,
    q_logits: ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    reduction: Reduction = "none",
    temperature: float = 1.0,
    logits_dtype: str | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Jensen-Shannon divergence of two softmax distributions: the mean of KL(P||M) and KL(Q||M), M = (P + Q) / 2.

    The square of ``scipy.spatial.distance.jensenshannon``. Parameters, dtypes, errors and accuracy are those of
    `kl_divergence_with_logits`.

    Returns
    -------
    float or numpy.ndarray
        At least 0, and 0 for equal rows; at most log 2. Exchanging P and Q changes no bit. A row with NaN or inf, or
        all -inf, gives NaN.

    Notes
    -----
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37(1), 1991.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> p, q = np.array([0.0, -np.inf]), np.array([[-np.inf, 3.0], [0.0, 0.0], [0.0, -np.inf]])
    >>> [f"{d:.5g}" for d in fx.js_divergence_with_logits(p, q, base=2)]
    ['1', '0.31128', '0']
    """
    sides = {"p_logits": p_logits, "q_logits": q_logits}
    return _measured(JS, sides, axis, base, reduction, logits_dtype, out, temperature=temperature)


def _measured(
    what: int,
    given: dict[str, ArrayLike],
    axis: int,
    base: float | None,
    reduction: str,
    logits_dtype: str | None,
    out: NDArray[Any] | None,
    *,
    shares: bool = False,
    temperature: float = 1.0,
) -> Any:
    unit = _unit(base)
    if logits_dtype is None and out is None and type(temperature) is float and temperature == 1.0:
        p, q = (*given.values(), None)[:2]
        found = attempt(plain.pairs, "-ss", axis, what, p, q, axis, shares, unit, reduction)
        if found is not None:
            return found
    _check_reduction(reduction, out)
    if not (isinstance(temperature, (int, float, np.number)) and 0 < temperature < np.inf):
        raise ValueError(f"temperature must be a finite number above 0, got {temperature!r}")
    arrays = _as_sides(given, logits_dtype)
    sides, class_axis = _broadcast(arrays, axis)
    shape = sides[0].array.shape
    rows = shape[:class_axis] + shape[class_axis + 1 :]
    options: dict[str, Any] = {"shares": shares, "unit": unit, "temperature": float(temperature)}
    if reduction == "none":
        dtype = np.dtype(np.float64 if any(x.kind == F64 for x in sides) else np.float32)
        result = as_out(out, rows, dtype, **{name: x.array for name, x in arrays.items()})
        for _, bad in _pairs.run(what, sides, class_axis, out=result, **options):
            if bad and shares:
                raise _bad_entry(arrays)
        return result[()] if out is None else result
    count = prod(rows)
    values = np.empty((_pairs.block_rows(count, shape[class_axis]), 4))

    def blocks() -> Iterator[NDArray[Any]]:
        for n, bad in _pairs.run(what, sides, class_axis, values=values, **options):
            if bad and shares:
                raise _bad_entry(arrays)
            yield values[:n, what.bit_length() - 1]

    return _reduced(blocks(), count, reduction)


def _as_sides(given: dict[str, ArrayLike], logits_dtype: str | None) -> dict[str, Logits]:
    """The arrays with their dtypes checked. `logits_dtype` is of the raw ones; another may stand beside them."""
    if logits_dtype is None:
        return {name: as_logits(x, name) for name, x in given.items()}
    arrays = {name: to_numpy(x, name) for name, x in given.items()}
    raw = [name for name, a in arrays.items() if a.dtype.itemsize == 2 and a.dtype.kind in "uiV"]
    raw = [name for name in raw if not is_bfloat16(arrays[name].dtype)] or list(arrays)
    return {name: as_logits(a, name, logits_dtype if name in raw else None) for name, a in arrays.items()}


def _broadcast(arrays: dict[str, Logits], axis: int) -> tuple[tuple[Logits, ...], int]:
    """The arrays as views of one shape, and their class axis."""
    shapes = {name: x.array.shape for name, x in arrays.items()}
    for name, shape in shapes.items():
        if not shape:
            raise ValueError(f"{name} must have at least one dimension, the classes")
    if len(set(shapes.values())) == 1:
        return tuple(arrays.values()), as_axis(axis, len(shape))
    described = " and ".join(f"{name} of shape {shape}" for name, shape in shapes.items())
    try:
        common = np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(f"{described} do not broadcast") from None
    class_axis = as_axis(axis, len(common))
    behind = class_axis - len(common)
    if len({shape[behind] if len(shape) >= -behind else None for shape in shapes.values()}) > 1:
        raise ValueError(f"{described} must have the same number of classes, along axis {axis}")
    sides = tuple(Logits(np.broadcast_to(x.array, common), x.kind, x.convert) for x in arrays.values())
    return sides, class_axis


def _bad_entry(arrays: dict[str, Logits]) -> ValueError:
    """The error for the first entry that is negative or infinite, in C order; found again here, off the fast path."""
    wanted = "a probability or a count is finite and not negative; for logits there are the functions with_logits"
    for name, x in arrays.items():
        for start in range(0, x.array.size, 1 << 20):
            some = x.array.flat[start : start + (1 << 20)]
            if x.kind == BF16:
                some = (some.astype(np.uint32) << 16).view(np.float32)
            bad = (some < 0) | (some == np.inf)
            if bad.any():
                where = int(np.argmax(bad))
                place = [str(int(i)) for i in np.unravel_index(start + where, x.array.shape)]
                return ValueError(f"{name}[{', '.join(place)}] is {some[where]}; {wanted}")
    return ValueError(f"an entry was no probability and was changed meanwhile; {wanted}")


def _unit(base: Any) -> float:
    """Nats that a unit of the logarithm to `base` is."""
    if base is None:
        return 1.0
    if isinstance(base, (bool, np.bool_)) or not isinstance(base, (int, float, np.number)):
        raise TypeError(f"base must be None or a number above 1, got {base!r}")
    if not (1 < base and isfinite(base)):
        raise ValueError(f"base must be a finite number above 1, got {base!r}")
    return log_of(float(base))


def _check_reduction(reduction: str, out: NDArray[Any] | None) -> None:
    if reduction not in ("none", "mean", "sum", "batchmean"):
        raise ValueError(f"reduction must be 'none', 'mean', 'sum' or 'batchmean', got {reduction!r}")
    if out is not None and reduction != "none":
        raise ValueError(f"out is taken with reduction='none' only, not with {reduction!r}")


def _reduced(blocks: Iterable[NDArray[Any]], count: int, reduction: str) -> np.float64:
    """The exact sum of row values, or their mean, rounded once."""
    total = ExactSum()
    for block in blocks:
        total.add(np.ascontiguousarray(block))
    value: np.float64 = np.float64(total.value() if reduction == "sum" else total.mean(count))
    return value
