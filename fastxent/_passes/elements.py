"""Element by element: operands of any dtype and strides, cut into blocks between which Python looks at signals.

Every elementwise function and binary loss comes through here. Nothing is converted or expanded beforehand: the kernels
bring what they cannot read as it lies into small buffers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import BF16, F32, F64, FLOAT32, FLOAT64, Logits, as_logits
from fastxent._dispatch import kernels
from fastxent._exact import ExactSum
from fastxent._threads import taking

# functions of the kernels (_kernels/elementwise.pxi)
SIGMOID, LOG_SIGMOID, LOGIT, SURPRISAL, SURPRISAL_TO_BASE, BINARY, BINARY_LOGITS = range(7)
# what they find wrong
BAD_X, BAD_TARGET = 1, 2

_CODES = {"f4": 0, "f2": 1, "f8": 3, "i1": 4, "u1": 5, "i2": 6, "u2": 7, "i4": 8, "u4": 9, "i8": 10, "u8": 11, "b1": 12}
_SWAPPED = 32

SECONDS = 0.02  # the kernels end a block by themselves
BLOCK_ELEMENTS = 1 << 24
# below this a second thread costs more than it brings
SERIAL_ELEMENTS = 1 << 16

Array = NDArray[Any]


class Operand(NamedTuple):
    """An array, and how the kernels read it."""

    array: Array
    code: int

    @property
    def result_dtype(self) -> np.dtype[Any]:
        """float64 for float64 and integers, float32 otherwise."""
        return FLOAT32 if self.code & ~_SWAPPED < F64 else FLOAT64

    def broadcast(self, name: str, shape: tuple[int, ...], whose: str) -> Operand:
        """The operand repeated to a shape, by zero strides."""
        try:
            return Operand(np.broadcast_to(self.array, shape), self.code)
        except ValueError:
            text = f"{name} has shape {self.array.shape}, which does not broadcast to {shape}, the shape of {whose}"
            raise ValueError(text) from None


def as_operand(x: Any, name: str) -> Operand:
    """Check the dtype of an array-like of real numbers; TypeError for any other."""
    return operand_of(as_logits(x, name))


def operand_of(x: Logits) -> Operand:
    """What the other kernels read, for these: nothing is to be converted beforehand."""
    if x.convert is None:
        return Operand(x.array, x.kind)
    dtype = x.array.dtype
    code = BF16 if x.kind == BF16 else _CODES[dtype.str[1:]]
    return Operand(x.array, code + (0 if dtype.isnative else _SWAPPED))


def run(
    function: int,
    x: Operand,
    target: Operand | None = None,
    weight: Operand | None = None,
    pos_weight: Operand | None = None,
    *,
    out: Array | None = None,
    gradient: Array | None = None,
    total: ExactSum | None = None,
    constants: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    divisor: float = 1.0,
) -> int:
    """Apply a function; results go to `out` or into a sum. Gives what was wrong with a block, and stops there.

    float32 and narrower operands are computed in float32, unless one of them all is float64. Integers beside them are
    taken for float32: targets are 0 or 1.
    """
    single = single_out = x.result_dtype is FLOAT32
    results = F32 if single_out else F64
    arrays: list[Array | None] = [x.array, None, None, None, out, gradient]
    codes = [x.code, 0, 0, 0, results, results]
    for place, operand in enumerate((target, weight, pos_weight), 1):
        if operand is not None:
            arrays[place], codes[place] = operand
            single = single and operand.code & ~_SWAPPED != F64
    elements = kernels.Elements(
        function, arrays, codes, single, single_out, constants=constants, divisor=divisor
    )
    start = wrong = 0
    while start < elements.count and not wrong:
        stop = min(start + BLOCK_ELEMENTS, elements.count)
        sums = None
        if total is not None:
            tasks = -(-(stop - start) // kernels.element_task_size)
            sums = np.zeros((tasks, kernels.exact_size), np.int64)
        with taking(1 if stop - start < SERIAL_ELEMENTS else None) as threads:
            start, wrong = elements.run(start, stop, threads, sums, SECONDS)
        if total is not None and sums is not None:
            total.add_sums(sums)
    return wrong


def first_outside(x: Operand, name: str, probability: bool) -> ValueError:
    """The error for the first element that is not finite and >= 0, in C order; found again here, off the fast path.

    A `probability` must not be above 1 nor NaN either.
    """
    interval = "[0, 1]" if probability else "[0, inf)"
    array = x.array
    for start in range(0, array.size, BLOCK_ELEMENTS):
        some = array.flat[start : start + BLOCK_ELEMENTS]
        if x.code == BF16:
            some = (some.astype(np.uint32) << 16).view(np.float32)
        bad = (some < 0) | (some > 1) | (some != some) if probability else (some < 0) | (some == np.inf)
        if bad.any():
            where = int(np.argmax(bad))
            place = [int(i) for i in np.unravel_index(start + where, array.shape)]
            index = f"[{', '.join(map(str, place))}]" if place else ""
            return ValueError(f"{name}{index} is {some[where].item()!r}, outside {interval}")
    return ValueError(f"{name} held an element outside {interval} and was changed meanwhile")
