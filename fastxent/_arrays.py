"""What a kernel may assume of its arrays; every user error about them is born here, before a kernel runs.

Inputs become NumPy views without a copy. A dtype that no kernel reads as it lies (integers, another byte order) is
brought into a small buffer block by block, never whole.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from itertools import chain, pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastxent import _hints
from fastxent._threads import default_floats

# storage kinds of the kernels (_kernels/types.pxi)
F32, F16, BF16, F64 = range(4)
FLOAT32: np.dtype[Any] = np.dtype(np.float32)
FLOAT64: np.dtype[Any] = np.dtype(np.float64)
_KINDS = {FLOAT32: F32, np.dtype(np.float16): F16, FLOAT64: F64}
_STORAGE = "float64, float32, float16, bfloat16, integers or bool"

CONVERSION_ELEMENTS = 1 << 19  # a converted block: 4 MB of float64

Index = tuple[Any, ...]


# named tuples, of which a small call makes several: a frozen dataclass takes three times as long to make
class Logits(NamedTuple):
    """An array of logits, and how the kernels read it."""

    array: NDArray[Any]
    kind: int
    convert: np.dtype[Any] | None  # to be brought into a buffer of this dtype first
    divisor: float = 1.0  # and divided by this there
    raw: bool = False  # from the bits of a bfloat16
    joined: int = 1  # the last axes are so many class axes, to be brought into a buffer where they are one

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """Dtype of row results: float64 for float64 and integer input, float32 otherwise."""
        return FLOAT64 if self.kind == F64 else FLOAT32


def to_numpy(x: Any, name: str) -> NDArray[Any]:
    """View anything array-like as a NumPy array, without a copy where there is memory to view."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray) or _holds_masked(x):
        hint = "pass .data, or .filled(-inf) for logits"
        raise TypeError(f"{name} is or holds a masked array, whose mask would be lost; {hint}")
    if isinstance(x, np.ndarray):
        return x
    if is_dask(x):  # NumPy would load it whole, without a word
        raise TypeError(
            f"{name} is a Dask {type(x).__name__}; fastxent.dask has evaluate, compare, cross_entropy, logsumexp, "
            "softmax and log_softmax for Dask arrays; for anything else call .compute() where memory holds it"
        )
    try:
        if type(x).__module__.partition(".")[0] == "torch" and hasattr(x, "detach"):
            return _from_torch(x, name)
        if not hasattr(x, "__array__") and hasattr(x, "__dlpack__"):
            return np.from_dlpack(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} cannot be viewed as a NumPy array: {error}") from None
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is no rectangular array: {error}") from None


def is_dask(x: Any) -> bool:
    """Whether this is one of Dask's collections: all have this method (Dask's protocol); Dask need not be imported."""
    return hasattr(x, "__dask_graph__")


def _holds_masked(x: Any) -> bool:
    """Whether a list, at any depth, holds a masked array, of which NumPy would take the data alone."""
    level: Any = [x]
    while lists := [y for y in level if isinstance(y, (list, tuple))]:
        level = lists[0] if len(lists) == 1 else list(chain.from_iterable(lists))
        kinds = set(map(type, level))
        if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
            return True
        if not any(issubclass(kind, (list, tuple)) for kind in kinds):
            return False
    return False


def _from_torch(x: Any, name: str) -> NDArray[Any]:
    torch = sys.modules["torch"]
    if x.device.type != "cpu":
        raise TypeError(f"it is a tensor on {x.device}; pass {name}.cpu()")
    x = x.detach().resolve_conj().resolve_neg()
    if x.dtype == torch.bfloat16:
        # NumPy has no bfloat16: carry the bits
        bits: NDArray[Any] = x.view(torch.int16).numpy().view(BFLOAT16_BITS)
        return bits
    array: NDArray[Any] = x.numpy()
    return array


# a bfloat16 array without ml_dtypes: its bits, told from plain uint16 by the dtype's metadata
BFLOAT16_BITS: np.dtype[Any] = np.dtype(np.uint16, metadata={"fastxent": "bfloat16"})


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether a NumPy dtype stands for bfloat16: ml_dtypes' own, or our carrier of PyTorch's bits."""
    if dtype.isbuiltin == 1:
        return False
    return dtype.type.__name__ == "bfloat16" or bool(dtype.metadata and dtype.metadata.get("fastxent") == "bfloat16")


def may_be_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether ``logits_dtype="bfloat16"`` can be said of it: 16 bits that are no other number."""
    # .npy files of ml_dtypes' bfloat16 come back as raw two-byte items
    return dtype.itemsize == 2 and (dtype.kind in "ui" or dtype == np.dtype("V2") or is_bfloat16(dtype))


def dtype_name(dtype: np.dtype[Any], logits_dtype: str | None = None) -> str:
    """A dtype's name without its byte order; bfloat16 for those that stand for it, if only `logits_dtype` says so."""
    if logits_dtype is not None and may_be_bfloat16(dtype):
        return logits_dtype
    return "bfloat16" if is_bfloat16(dtype) else dtype.newbyteorder("=").name


def bfloat16_bits(array: NDArray[Any]) -> NDArray[np.uint16]:
    """A bfloat16 array as integers of its byte order, which ml_dtypes keeps though it has one dtype only."""
    bits: NDArray[np.uint16] = array.view(np.dtype(np.uint16).newbyteorder("=" if array.dtype.isnative else "S"))
    return bits


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """The numbers of a bfloat16 array."""
    bits = bfloat16_bits(array).astype(np.uint32)
    bits <<= 16  # the upper half of a float32
    return bits.view(np.float32)


def as_logits(x: Any, name: str = "logits", logits_dtype: str | None = None) -> Logits:
    """Check the dtype of logits and say how the kernels read them.

    Raises
    ------
    TypeError
        For a dtype that holds no real numbers (complex, object, text, ...).
    ValueError
        For an unknown `logits_dtype`, or one that does not fit the array.
    """
    array = to_numpy(x, name)
    dtype = array.dtype
    kind = _KINDS.get(dtype)
    if kind is not None and logits_dtype is None:
        return Logits(array, kind, None)
    if logits_dtype is not None:
        if logits_dtype != "bfloat16":
            raise ValueError(f"logits_dtype must be None or 'bfloat16', got {logits_dtype!r}")
        if not may_be_bfloat16(dtype):
            raise ValueError(f"logits_dtype='bfloat16' wants {name} of 16-bit integers, got {dtype}")
        native = dtype.isnative or dtype.kind == "V"
        bits = array.view(np.uint16 if native else np.dtype(np.uint16).newbyteorder())
        return Logits(bits, BF16, None if native else np.dtype(np.uint16))
    if is_bfloat16(dtype):
        return Logits(bfloat16_bits(array), BF16, None if dtype.isnative else np.dtype(np.uint16))
    native_dtype = dtype.newbyteorder("=")
    if native_dtype in _KINDS:
        return Logits(array, _KINDS[native_dtype], native_dtype)
    if dtype.kind in "uib":
        return Logits(array, F64, np.dtype(np.float64))
    raise TypeError(f"{name} has dtype {dtype}; it must be {_STORAGE}{_hints.of_numbers(dtype, array.shape, x)}")


class Labels(NamedTuple):
    """Integer labels as the kernels read them."""

    array: NDArray[Any]
    code: int  # size of an item + 16 if signed + 32 if byte-swapped + 64 if bool (_kernels/labels.pxi)
    ignore: int | None  # ignore_index as 64 bits; None where the labels' dtype cannot hold it
    ignore_index: int = -100


def as_labels(
    y: Any,
    shape: tuple[int, ...],
    ignore_index: int,
    name: str = "target",
    logits: tuple[int, ...] = (),
    axis: int | None = None,
) -> Labels:
    """Check the dtype and shape of integer labels; the logits' shape and class axis are for the words of an error.

    Raises
    ------
    TypeError
        For anything but integers or bool, and for an `ignore_index` that is no integer.
    ValueError
        For another shape than `shape`.
    """
    labels = as_integers(y, name)
    array, dtype = labels.array, labels.array.dtype
    if array.shape != shape:
        hint = _hints.of_labels(array.shape, logits, name, axis) if logits else ""
        raise ValueError(f"{name} has shape {array.shape}, but the logits want {shape}{hint}")
    try:
        wanted = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}") from None
    low = -1 - _largest(dtype) if dtype.kind == "i" else 0
    fits = low <= wanted <= _largest(dtype)
    return Labels(array, labels.code, wanted & 0xFFFFFFFFFFFFFFFF if fits else None, wanted)


def as_integers(y: Any, name: str) -> Labels:
    """Check the dtype of labels, none of which is ignored."""
    array = to_numpy(y, name)
    dtype = array.dtype
    if array.size == 0 and dtype == np.float64 and not hasattr(y, "dtype"):
        array = array.astype(np.int64)  # an empty list
        dtype = array.dtype
    if is_bfloat16(dtype) or dtype.kind not in "uib":
        kind = "bfloat16" if is_bfloat16(dtype) else str(dtype)
        raise TypeError(
            f"{name} has dtype {kind}; it must be of an integer dtype or bool{_hints.of_integers(dtype)}"
        )
    code = dtype.itemsize + {"i": 16, "u": 0, "b": 64}[dtype.kind] + (0 if dtype.isnative else 32)
    return Labels(array, code, None)


def bad_label(
    labels: Labels, ignore_index: int | None, classes: int | None, name: str = "target", offset: tuple[int, ...] = ()
) -> IndexError:
    """The error for the first label out of range, in C order; found again here, off the fast path.

    Without a number of classes any label from 0 on is in range, without an `ignore_index` none is ignored. `offset` is
    the place of the labels' first in an array that they are a chunk of.
    """
    array = labels.array
    limits = "[0, inf)" if classes is None else f"[0, {classes})"
    for start, some, bad in _bad_places(labels, ignore_index, classes):
        if bad.any():
            where = int(np.argmax(bad))
            place = [int(i) for i in np.unravel_index(start + where, array.shape)]
            place = [i + start for i, start in zip(place, offset or (0,) * len(place), strict=True)]
            index = f"[{', '.join(map(str, place))}]" if place else ""
            label = int(some[where])
            hint = "" if label >= 0 or ignore_index is None else _of_padding(label, labels, ignore_index, classes)
            return IndexError(f"{name}{index} is {label}, outside {limits}{hint}")
    return IndexError(f"{name} held a label outside {limits} and was changed meanwhile")


def _bad_places(
    labels: Labels, ignore_index: int | None, classes: int | None
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.bool_]]]:
    """The labels block by block: the number of the first, the block, and which of it are out of range."""
    for start in range(0, labels.array.size, 1 << 20):
        some = labels.array.flat[start : start + (1 << 20)]
        # compared in their own dtype; an ignore_index that it cannot hold equals none
        bad = some < 0
        if classes is not None and classes <= _largest(some.dtype):
            bad |= some >= classes
        if labels.ignore is not None:
            bad &= some != ignore_index
        yield start, some, bad


def _of_padding(label: int, labels: Labels, ignore_index: int, classes: int | None) -> str:
    """The hint about a negative label where no other one is out of range."""
    ignored = False
    for _, some, bad in _bad_places(labels, ignore_index, classes):
        if (some[bad] != label).any():
            return ""
        ignored = ignored or (labels.ignore is not None and bool((some == ignore_index).any()))
    return _hints.of_padding(label, ignored)


def _largest(dtype: np.dtype[Any]) -> int:
    """The largest integer of a dtype; np.iinfo takes 2 µs."""
    return 1 if dtype.kind == "b" else (1 << (8 * dtype.itemsize - (dtype.kind == "i"))) - 1


def as_weight(weight: Any, classes: int) -> NDArray[np.float64] | None:
    """Check class weights and give them as float64."""
    if weight is None:
        return None
    array = to_numpy(weight, "weight")
    if is_bfloat16(array.dtype):
        array = as_float32(array)
    if array.dtype.kind not in "fuib":
        raise TypeError(f"weight has dtype {array.dtype}; it must be real")
    if array.shape != (classes,):
        raise ValueError(f"weight has shape {array.shape}; it must be ({classes},), a number for each class")
    return np.require(array, np.float64, ["C", "A"])  # read by its elements: aligned


def as_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """A class axis as a number from 0 on."""
    try:
        if isinstance(axis, (bool, np.bool_)):
            raise TypeError
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {axis!r}") from None
    if not -ndim <= number < ndim:
        raise ValueError(f"{name} {number} is out of bounds for an array of {ndim} dimensions")
    return number % ndim


def as_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes to reduce over: all for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(as_axis(a, ndim) for a in (axis if isinstance(axis, tuple) else (axis,)))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis {axis} names an axis twice")
    return axes


def join_axes(axes: tuple[int, ...], *arrays: Logits) -> tuple[list[Logits], int]:
    """`arrays`, all of one shape, with `axes` joined into one class axis, and that axis.

    One axis stays where it is. Several become the last one, as a view where the strides of all arrays allow it;
    otherwise they become the last ones, which `pieces` joins block by block.
    """
    if len(axes) == 1:
        return list(arrays), axes[0]
    shape = arrays[0].array.shape
    rest = [d for d in range(len(shape)) if d not in axes]
    moved = [Logits(x.array.transpose([*rest, *sorted(axes)]), x.kind, x.convert) for x in arrays]
    if all(_joins(x.array, len(axes)) for x in moved):
        joined = (*(shape[d] for d in rest), prod(shape[d] for d in axes))
        return [Logits(x.array.reshape(joined), x.kind, x.convert) for x in moved], len(rest)
    native = [x.array.dtype.newbyteorder("=") if x.convert is None else x.convert for x in moved]
    return [Logits(x.array, x.kind, to, joined=len(axes)) for x, to in zip(moved, native, strict=True)], len(rest)


def _joins(array: NDArray[Any], axes: int) -> bool:
    """Whether the last axes of an array lie as one."""
    steps = [(n, s) for n, s in zip(array.shape[-axes:], array.strides[-axes:], strict=True) if n != 1]
    return array.size == 0 or all(s == n * t for (_, s), (n, t) in pairwise(steps))


def as_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], **inputs: NDArray[Any]) -> NDArray[Any]:
    """Check an `out` argument, that overlaps none of the `inputs`, or make a new array."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; it must be {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}; it must be {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    for name, array in inputs.items():
        if _overlap(out, array):
            raise ValueError(f"out overlaps {name}")
    return out


def _overlap(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, 10_000)  # type: ignore[arg-type, unused-ignore]
    except np.exceptions.TooHardError:
        return True


def pieces(x: Logits, axis: int) -> Iterator[tuple[NDArray[Any], int, Index]]:
    """The array as the kernels can read it, in pieces, each with its class axis and its index along the batch axes.

    One piece, the array itself, where no conversion is wanted; otherwise the class axis of a piece is its last.
    """
    if x.convert is None:
        yield x.array, axis, (...,)
        return
    rows, joined, contiguous = class_axes_last(x, axis)
    classes = prod(rows.shape[-joined:])
    for index in batch_indices(rows.shape[:-joined], classes):
        block = converted(x, rows[index], contiguous)
        block = block.reshape(*block.shape[:-joined], classes) if joined > 1 else block
        yield block, block.ndim - 1, index


def class_axes_last(x: Logits, axis: int) -> tuple[NDArray[Any], int, bool]:
    """The array with its class axis last, or that many of them; and whether a buffer's is to be contiguous.

    A strided class axis stays a strided one, for the kernel that it chooses is told by the last bit; but several axes
    become as a contiguous one.
    """
    rows, joined = (x.array, x.joined) if x.joined > 1 else (np.moveaxis(x.array, axis, -1), 1)
    classes = prod(rows.shape[-joined:])
    if joined > 1 and _joins(rows, joined):
        # the output is what does not join
        rows, joined = rows.reshape(*rows.shape[:-joined], classes), 1
    integers = x.kind == F64 and x.array.dtype.kind in "uib"
    return rows, joined, integers or joined > 1 or classes <= 1 or rows.strides[-1] == rows.itemsize


def batch_indices(batch: tuple[int, ...], classes: int) -> Iterator[Index]:
    """Indices along the batch axes of blocks that may be converted: CONVERSION_ELEMENTS, or one row."""
    # as many trailing batch axes as fit into a block, and a slice of the one before them
    split = len(batch)
    whole = max(1, classes)
    while split and whole * batch[split - 1] <= CONVERSION_ELEMENTS:
        split -= 1
        whole *= batch[split]
    if split == 0:
        yield (...,)
        return
    step = max(1, CONVERSION_ELEMENTS // whole)
    for lead in np.ndindex(*batch[: split - 1]):
        for start in range(0, batch[split - 1], step):
            yield *lead, slice(start, start + step)


def converted(x: Logits, rows: NDArray[Any], contiguous: bool = True) -> NDArray[Any]:
    """A converted copy of a block of `x` whose class axis is last, contiguous or strided there."""
    *batch, classes = rows.shape
    if contiguous:
        buffer = np.empty(rows.shape, x.convert)
    elif prod(batch) > 1:
        buffer = np.moveaxis(np.empty((classes, *batch), x.convert), 0, -1)
    else:
        buffer = np.empty((*rows.shape, 2), x.convert)[..., 0]
    convert(x, rows, buffer)
    return buffer


def convert(x: Logits, rows: NDArray[Any], buffer: NDArray[Any]) -> None:
    """Bring some elements of `x` into a buffer of their shape."""
    if x.raw:
        # the upper half of a float32
        bits = buffer.view(np.uint32)
        bits[...] = rows
        bits <<= 16
    else:
        buffer[...] = rows
    if x.divisor != 1.0:
        with default_floats(), np.errstate(all="ignore"):
            buffer /= buffer.dtype.type(x.divisor)


def divided(x: Logits, divisor: float) -> Logits:
    """`x` to be divided block by block, in the dtype of its row results."""
    if divisor == 1.0:
        return x
    return Logits(x.array, F64 if x.kind == F64 else F32, x.row_dtype, divisor, x.kind == BF16)
