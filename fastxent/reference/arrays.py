"""Shapes and arguments: nested lists walked, axes, labels and options checked."""

import math
import operator
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

Nested = Any  # a number, or nested lists of numbers, or an array: the type checker can't say it more narrowly
Axes = int | tuple[int, ...] | None


def walk(a: Nested, name: str) -> tuple[list[Any], tuple[int, ...]]:
    """The elements in C order, and the shape."""
    # tolist() of an array of shape (0, 3) is [], so the array's own word on its shape is taken.
    declared = getattr(a, "shape", None)
    if hasattr(a, "tolist"):
        a = a.tolist()
    if not isinstance(a, list | tuple):
        return [a], ()
    flat: list[Any] = []
    inner: tuple[int, ...] | None = None
    for item in a:
        values, shape = walk(item, name)
        if inner is not None and shape != inner:
            raise ValueError(f"{name} is ragged: parts of shapes {inner} and {shape} stand side by side")
        inner = shape
        flat += values
    return flat, tuple(declared) if declared is not None else (len(a), *(inner or ()))


def as_numbers(a: Nested, name: str) -> tuple[list[float], tuple[int, ...]]:
    flat, shape = walk(a, name)
    for value in flat:
        if not isinstance(value, Real):
            raise TypeError(f"{name} must hold real numbers, not {value!r}")
    return [float(value) for value in flat], shape


def as_labels(a: Nested, name: str, expected: tuple[int, ...]) -> list[int]:
    """Labels as Python's integers, which are exact: uint64 2**64 - 100 stays what it is."""
    flat, shape = walk(a, name)
    for value in flat:
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must hold integers, not {value!r}")
    if shape != expected:
        raise ValueError(f"{name} must have shape {expected}, not {shape}")
    return [int(value) for value in flat]


def is_soft(a: Nested, ndim: int) -> bool:
    """Whether a target of this many axes is one of probabilities: of floats, by dtype or value."""
    flat, shape = walk(a, "target")
    if not flat:
        return len(shape) == ndim and getattr(getattr(a, "dtype", None), "kind", "") == "f"
    return len(shape) == ndim and all(isinstance(value, float) for value in flat)


def broadcast(a: Nested, name: str, shape: Sequence[int]) -> list[float]:
    """A number for each element of `shape`, from fewer axes or axes of length 1; ones for None."""
    if a is None:
        return [1.0] * math.prod(shape)
    return spread(*as_numbers(a, name), shape, name)


def check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def as_axis(axis: int, ndim: int) -> int:
    """The axis counted from the front. A scalar has axis 0, as in NumPy's reductions."""
    if isinstance(axis, bool):
        raise TypeError("axis must be an integer, not a bool")
    index = operator.index(axis)
    ndim = max(ndim, 1)
    if not -ndim <= index < ndim:
        raise ValueError(f"axis {index} is out of bounds for {ndim} dimensions")
    return index % ndim


def as_axes(axis: Axes, ndim: int) -> list[int]:
    if axis is None:
        return list(range(ndim))
    axes = sorted(as_axis(i, ndim) for i in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) < len(axes):
        raise ValueError(f"duplicate value in axis {axis}")
    return axes[:ndim]  # none for a scalar


def offsets(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Places in the flat list of all the index combinations along the axes, in C order, other indices 0."""
    places = [0]
    for axis in axes:
        stride = math.prod(shape[axis + 1 :])
        places = [place + i * stride for place in places for i in range(shape[axis])]
    return places


def broadcast_together(
    a: list[float], a_shape: tuple[int, ...], b: list[float], b_shape: tuple[int, ...]
) -> tuple[list[float], list[float], tuple[int, ...]]:
    """Both brought to one shape, as NumPy does it."""
    ndim = max(len(a_shape), len(b_shape))
    shapes = [(1,) * (ndim - len(shape)) + shape for shape in (a_shape, b_shape)]
    if any(m != n and 1 not in (m, n) for m, n in zip(*shapes, strict=True)):
        raise ValueError(f"shapes {a_shape} and {b_shape} do not broadcast")
    together = tuple(n if m == 1 else m for m, n in zip(*shapes, strict=True))
    return spread(a, a_shape, together, "a"), spread(b, b_shape, together, "b"), together


def map_rows(x: Nested, axis: Axes, row: Callable[[list[float]], list[float]]) -> Nested:
    """Apply a function that keeps the length to every row along the axes."""
    flat, shape = as_numbers(x, "x")
    axes = as_axes(axis, len(shape))
    within = offsets(shape, axes)
    if not within:
        raise ValueError(f"x of shape {shape} has no element along axis {axis}")
    out = [math.nan] * len(flat)
    for start in offsets(shape, [i for i in range(len(shape)) if i not in axes]):
        for step, value in zip(within, row([flat[start + step] for step in within]), strict=True):
            out[start + step] = value
    return nest(out, shape)


def nest(flat: Sequence[float], shape: Sequence[int]) -> Nested:
    if not shape:
        return flat[0]
    size = math.prod(shape[1:])
    return [nest(flat[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def place_of(index: int, shape: Sequence[int]) -> str:
    """A place as a user would write it: "[3, 7]"; nothing for a scalar."""
    indices: list[int] = []
    for n in reversed(shape):
        index, i = divmod(index, n)
        indices.insert(0, i)
    return str(indices) if indices else ""


def spread(flat: Sequence[float], shape: Sequence[int], to: Sequence[int], name: str) -> list[float]:
    """The elements repeated along axes of length 1, and along new ones in front, as NumPy broadcasts."""
    missing = len(to) - len(shape)
    padded = [1] * missing + list(shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(padded, to, strict=True)):
        raise ValueError(f"{name} of shape {tuple(shape)} does not broadcast to {tuple(to)}")
    places = [0]
    for axis, (n, m) in enumerate(zip(padded, to, strict=True)):
        stride = math.prod(padded[axis + 1 :])
        places = [place + (i * stride if n > 1 else 0) for place in places for i in range(m)]
    return [flat[place] for place in places]
