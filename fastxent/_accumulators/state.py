"""The states of accumulators: JSON-able data, checked before it is believed, for it may come from anywhere."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD = 1 << 63


def whole(n: Any, what: str, least: int = 0, most: int = WORD - 1) -> int:
    """An integer from `least` to `most`."""
    if type(n) is not int or not least <= n <= most:
        raise ValueError(f"{what} is {n!r}")
    return n


def whole_or_none(n: Any, what: str, least: int = 0) -> int | None:
    """An integer, or None."""
    return None if n is None else whole(n, what, least)


def keys_of(state: Any, names: set[str], what: str) -> None:
    """A dictionary with just these keys."""
    if not isinstance(state, dict) or set(state) != names:
        raise ValueError(f"{what} is {sorted(state, key=str) if isinstance(state, dict) else type(state).__name__}")


def pack(array: NDArray[Any]) -> str:
    """An array of 64-bit numbers as text: little-endian, base64. A million of them are no million JSON numbers."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()


def unpack(text: Any, dtype: type[np.int64] | type[np.float64], what: str, *shape: int) -> NDArray[Any]:
    """The array that `pack` was given; -1 in `shape` stands for any length."""
    if not isinstance(text, str):
        raise ValueError(f"{what} is no text")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{what} is no base64") from None
    if len(raw) % 8:
        raise ValueError(f"{what} has {len(raw)} bytes")
    array = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).astype(dtype)
    try:
        return array.reshape(shape)
    except ValueError:
        raise ValueError(f"{what} has {array.size} numbers, for the shape {shape}") from None
