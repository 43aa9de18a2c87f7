"""What is scored: rows of logits from what a dump holds, and which of the rows have a label."""

import math
from typing import Any

from fastxent.reference.arrays import Nested, as_numbers, check_option, walk

Shape = tuple[int, ...]


def rows_of(
    scores: Nested,
    name: str,
    *,
    inputs: str = "logits",
    temperature: float = 1.0,
    classes: int | None = None,
    binary: bool = False,
) -> tuple[list[list[float]], Shape, int]:
    """The rows as logits; their shape, that of the scores without the class axis, the last one; how many classes.

    `binary`: one score a row, of the second of two classes, whose other one has the logit 0 (the probability 1 - p).
    """
    check_option("inputs", inputs, ("logits", "log_probs", "probs"))
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and above 0, not {temperature!r}")
    flat, shape = as_numbers(scores, name)
    if binary:
        width, shape = 2, shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
        rows = [[1.0 - x, x] if inputs == "probs" else [0.0, x] for x in flat]
    else:
        if not shape or shape[-1] == 0 or (classes is not None and not 1 <= classes <= shape[-1]):
            raise ValueError(f"{name} must have shape (..., C) with at least one class, and `classes`, not {shape}")
        step, shape = shape[-1], shape[:-1]
        width = classes or step
        rows = [flat[i * step : i * step + width] for i in range(math.prod(shape))]
    if inputs == "probs":
        if any(x < 0 or x == math.inf for row in rows for x in row):
            raise ValueError(f"{name} must not be negative or infinite, being probabilities")
        rows = [[math.log(x) if x else -math.inf for x in row] for row in rows]
    return [[x / temperature for x in row] for row in rows], shape, width


def scored(shape: Shape, shift: int = 0, lengths: Nested | None = None, mask: Nested | None = None) -> list[bool]:
    """Which rows, in C order, have a label `shift` places on in the same sequence and are not masked."""
    n, steps = math.prod(shape), shape[-1] if shape else 1
    if lengths is None:
        ends = [(i // steps + 1) * steps for i in range(n)]
    elif len(shape) == 1:
        ends = [sum(as_integers(lengths)[: j + 1]) for j, size in enumerate(as_integers(lengths)) for _ in range(size)]
    else:
        ends = [i // steps * steps + as_integers(lengths)[i // steps] for i in range(n)]
    kept = [True] * n if mask is None else [bool(x) for x in column(mask, "mask", shape)]
    return [keep and i + shift < end for i, (keep, end) in enumerate(zip(kept, ends, strict=True))]


def as_integers(x: Nested) -> list[int]:
    return [int(n) for n in walk(x, "lengths")[0]]


def column(x: Nested, name: str, shape: Shape) -> list[Any]:
    """A value for each row."""
    values, found = walk(x, name)
    if found != shape:
        raise ValueError(f"{name} must have shape {shape}, not {found}")
    return values
