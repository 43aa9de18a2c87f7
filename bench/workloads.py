"""What is measured: shapes, dtypes and kinds of rows, made from fixed seeds.

Hard rows are what logits of real models look like, and where kernels with a fast path lose time:

normal    independent standard normal logits
peaked    normal, and in each row one logit 30 higher; it is the label in every second row
tied      few different values, so that the largest occurs many times
masked    half of the logits -inf, at random places, never the label's
offset    normal + 1e4: exp() overflows without a shift
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

FULL_MB = 512  # the shapes below are about this large
KINDS = ("normal", "peaked", "tied", "masked", "offset")


@dataclass(frozen=True)
class Case:
    """One array of logits; `shape` at FULL_MB, its first axis (a huge row's last) shrinks or grows with --bench-mb."""

    group: str
    dtype: str
    shape: tuple[int, ...]
    kind: str = "normal"

    def __str__(self) -> str:
        return f"{self.group}-{self.dtype}-{'x'.join(map(str, self.shape))}-{self.kind}"

    def scaled(self, mb: int) -> tuple[int, ...]:
        if self.group == "huge":
            return (*self.shape[:-1], max(1, round(self.shape[-1] * mb / FULL_MB)))
        return (max(1, round(self.shape[0] * mb / FULL_MB)), *self.shape[1:])


WIDE = (
    Case("wide", "float32", (4096, 32768)),
    Case("wide", "float32", (1000, 128256)),
    Case("wide", "float64", (4096, 16384)),
    Case("wide", "bfloat16", (8192, 32768)),
    Case("wide", "bfloat16", (2000, 128256)),
    Case("wide", "float16", (8192, 32768)),
)
NARROW = (
    Case("narrow", "float32", (131072, 1000)),
    Case("narrow", "float32", (1310720, 100)),
    Case("narrow", "float32", (13107200, 10)),
)
# labels are a large part of what is read
FEW = (
    Case("few", "float32", (4194304, 32)),
    Case("few", "float32", (7064091, 19)),
    Case("few", "float32", (44739243, 3)),
    Case("few", "float32", (67108864, 2)),
)
HUGE = (Case("huge", "float32", (2, 67108864)),)
STRIDED = (Case("strided", "float32", (16, 19, 512, 512)),)
HARD = tuple(
    Case(case.group, case.dtype, case.shape, kind)
    for case in (WIDE[0], WIDE[2], WIDE[3], *NARROW)
    for kind in KINDS
    if kind != "normal"
)
CASES = (*WIDE, *NARROW, *STRIDED, *HARD)
ALL_CASES = (*WIDE, *HUGE, *NARROW, *FEW, *STRIDED, *HARD)


@dataclass(frozen=True, eq=False)
class Data:
    """An array of logits, class axis 1, and its labels. Truths are kept by its identity."""

    case: Case
    x: NDArray[np.generic]
    labels: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return self.x.shape[1]

    def blocks(self, a: NDArray[np.generic]) -> Iterator[tuple[slice, NDArray[np.generic]]]:
        """Ranges of rows, and `a`, an array of x's shape, in these rows as a view of shape (rows, classes)."""
        yield from _blocks(a)


def _blocks(a: NDArray[np.generic]) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    if a.ndim > 2:
        pixels = prod(a.shape[2:])
        for n in range(len(a)):
            yield slice(n * pixels, (n + 1) * pixels), a[n].reshape(a.shape[1], pixels).T
        return
    step = max(1, (1 << 20) // a.shape[1])
    for row in range(0, len(a), step):
        yield slice(row, min(row + step, len(a))), a[row : row + step]


def storage(dtype: str) -> np.dtype[np.generic]:
    """NumPy's dtype of that name; ml_dtypes adds bfloat16."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def _rows(case: Case, rng: np.random.Generator, labels: NDArray[np.int64], classes: int) -> NDArray[np.floating]:
    """Some rows of the case's kind, as float32 or float64."""
    shape = (len(labels), classes)
    each = np.arange(len(labels))
    if case.kind == "tied":
        return rng.integers(-3, 4, shape, dtype=np.int8).astype(np.float32)
    x = rng.standard_normal(shape, dtype=np.float64 if case.dtype == "float64" else np.float32)
    if case.kind == "peaked":
        peak = np.where(each % 2, rng.integers(0, classes, len(labels)), labels)
        x[each, peak] += 30
    elif case.kind == "masked":
        kept = x[each, labels]
        bits = np.unpackbits(rng.integers(0, 256, (x.size + 7) // 8, dtype=np.uint8), count=x.size)
        x[bits.reshape(shape).view(bool)] = -np.inf
        x[each, labels] = kept
    elif case.kind == "offset":
        x += 10000
    return x


@lru_cache(maxsize=1)
def make(case: Case, mb: int, threads: int) -> Data:
    """The case's data; the last ones are kept. They do not depend on the number of threads."""
    shape = case.scaled(mb)
    x = np.empty(shape, storage(case.dtype))
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    flat = labels.reshape(-1)

    def fill(job: tuple[int, tuple[slice, NDArray[np.generic]]]) -> None:
        seed, (rows, block) = job
        block[...] = _rows(case, np.random.default_rng([2, seed]), flat[rows], shape[1])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, enumerate(_blocks(x))))
    return Data(case, x, labels)
