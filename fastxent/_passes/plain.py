"""Plain calls, as most small ones are, from end to end in one call of the kernels (_kernels/plain.pxi).

`plain` gives None for all else: then the general path is taken, which has the same bits and words the errors. `attempt`
first makes plain arrays of small lists, tensors and arrays of other dtypes, which the general path would convert, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import FLOAT32, FLOAT64, as_float32, is_bfloat16, to_numpy
from fastxent._dispatch import kernels
from fastxent._passes.rows import SERIAL_ELEMENTS

FLOAT16: np.dtype[Any] = np.dtype(np.float16)
INT64: np.dtype[Any] = np.dtype(np.int64)
INT32: np.dtype[Any] = np.dtype(np.int32)
MOST = SERIAL_ELEMENTS - 1

# what an argument of `attempt` is: no array; numbers; logits or probabilities, with a class axis; class indices; these
# or probabilities; targets of a binary loss; class weights
OTHER, NUMBERS, SCORES, LABELS, GOAL, FLAGS, WEIGHTS = "-nslgfw"


def of_level(level: ModuleType) -> Any:
    """The plain calls of a level's kernels."""
    return level.Plain(np.ndarray, np.empty, np.zeros, np.float64, (FLOAT32, FLOAT16, FLOAT64, INT32, INT64), MOST)


plain = of_level(kernels)


def attempt(method: Callable[..., Any], roles: str, axis: Any, *arguments: Any) -> Any:
    """A plain call's result, or None.

    `roles` has a letter for each of the first arguments; `axis` is the scores' class axis.
    """
    found = method(*arguments)
    if found is not None:
        return found
    made = []
    changed = False
    for role, x in zip(roles, arguments, strict=False):
        array = x if role == OTHER or x is None else _plain_array(role, x, axis)
        if array is None and x is not None:
            return None
        made.append(array)
        changed = changed or array is not x
    return method(*made, *arguments[len(roles) :]) if changed else None


def _plain_array(role: str, x: Any, axis: Any) -> NDArray[Any] | None:
    """An array that the kernels read as it lies, of the bits that the general path would read; or None."""
    array = x if type(x) is np.ndarray else _few(x)
    if array is None:
        return None
    dtype = array.dtype
    if dtype is FLOAT32 or dtype is FLOAT64:
        return array if role != WEIGHTS or dtype is FLOAT64 else array.astype(FLOAT64)
    if not 0 < array.size <= MOST:
        return None
    kind = "f" if is_bfloat16(dtype) else dtype.kind
    if role == LABELS or (role == GOAL and kind in "iub"):
        if kind not in "iub":
            return None
        # of 64 bits without a sign, some would become negative
        return array if dtype is INT64 or dtype is INT32 else array.astype(INT64) if dtype.char not in "LQ" else None
    if dtype is FLOAT16 and role != WEIGHTS:
        return array
    if role in (SCORES, GOAL) and not _as_copied(array, axis):
        return None
    if is_bfloat16(dtype):
        return as_float32(array)
    if kind in "uib":
        return array.astype(FLOAT32 if role == FLAGS else FLOAT64)
    native = dtype.newbyteorder("=")
    for wanted in (FLOAT32, FLOAT64, FLOAT16):  # the kernels tell them by identity
        if wanted == native:
            return array.astype(FLOAT64 if role == WEIGHTS else wanted)
    return None


def _as_copied(array: NDArray[Any], axis: Any) -> bool:
    """Whether the class axis is contiguous, as it is in a copy: the last bit tells which it is. None is all axes."""
    last = axis is None or (type(axis) is int and axis in (-1, array.ndim - 1)) or (axis == 1 and array.ndim == 1)
    return bool(last and array.flags.c_contiguous)


def _few(x: Any) -> NDArray[Any] | None:
    """A list of few numbers, or a tensor, as an array."""
    kind = type(x)
    if kind is list or kind is tuple:
        size, inner = 1, x
        while type(inner) is list or type(inner) is tuple:
            if not inner or (size := size * len(inner)) > MOST:
                return None
            inner = inner[0]
    elif kind is not float and kind is not int:
        torch = sys.modules.get("torch")
        if torch is None or kind is not torch.Tensor:
            return None
        with suppress(RuntimeError, TypeError):  # one of a graph, of another device, bfloat16
            plainly: NDArray[Any] = x.numpy()
            return plainly
    try:
        return to_numpy(x, "")
    except (TypeError, ValueError):
        return None
