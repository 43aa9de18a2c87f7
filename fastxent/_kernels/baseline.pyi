# The stub of every level: the others are compiled from the same sources.
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

row_format: int
segment_columns: int
partial_size: int
target_part_size: int
exact_size: int
fused: bool

class Rows:
    def __init__(
        self,
        x: NDArray[Any],
        kind: int,
        axis: int,
        labels: NDArray[Any] | None = None,
        label_code: int = 0,
        out: NDArray[Any] | None = None,
        classes: int = -1,
    ) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def inner(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def writes(self) -> bool: ...
    @property
    def done(self) -> bool: ...
    def label(self, ignore: int | None = None) -> int: ...
    def take_label(self) -> None: ...
    def run(
        self,
        mode: int,
        row0: int,
        row1: int,
        threads: int,
        *,
        segment0: int = 0,
        segment1: int = -1,
        workspace: NDArray[np.uint8] | None = None,
        ignore: int | None = None,
        weights: NDArray[np.float64] | None = None,
        row_weights: NDArray[np.float64] | None = None,
        flat: NDArray[Any] | None = None,
        stats: NDArray[np.float64] | None = None,
        status: NDArray[np.uint8] | None = None,
        unit: float = 1.0,
        seconds: float = ...,
    ) -> tuple[int, int, int]: ...

def reads_once(what: int, kinds: Sequence[int], shares: bool) -> bool: ...
pair_size: int

class Pairs:
    def __init__(
        self,
        p: NDArray[Any],
        p_kind: int,
        q: NDArray[Any] | None,
        q_kind: int,
        axis: int,
        single: bool,
        out: NDArray[Any] | None = None,
        shares: bool = False,
        classes: int = -1,
        column: int = 0,
    ) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def segments(self) -> int: ...
    def again(self, workspace: NDArray[np.uint8]) -> bool: ...
    def run(
        self,
        what: int,
        row0: int,
        row1: int,
        threads: int,
        *,
        segment0: int = 0,
        segment1: int = -1,
        first: bool = True,
        sums: bool = True,
        again: bool = False,
        pairs: bool = True,
        workspace: NDArray[np.uint8] | None = None,
        values: NDArray[np.float64] | None = None,
        unit: float = 1.0,
    ) -> int: ...

class Targets:
    def __init__(
        self,
        x: NDArray[Any],
        kind: int,
        axis: int,
        target: NDArray[Any],
        target_code: int,
        sample: NDArray[Any] | None = None,
        sample_kind: int = 0,
        loss: NDArray[Any] | None = None,
        gradient: NDArray[Any] | None = None,
        classes: int = -1,
        column: int = 0,
    ) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def segments(self) -> int: ...
    def run(
        self,
        row0: int,
        row1: int,
        threads: int,
        *,
        segment0: int = 0,
        segment1: int = -1,
        workspace: NDArray[np.uint8] | None = None,
        writing: bool = False,
        ignore: int | None = None,
        weights: NDArray[np.float64] | None = None,
        smoothing: float = 0.0,
        probabilities: bool = False,
        denominator: float = 1.0,
        temperature: float = 1.0,
        flat: NDArray[Any] | None = None,
        row_weights: NDArray[np.float64] | None = None,
        count_only: bool = False,
    ) -> tuple[int, int, int]: ...

element_task_size: int

class Elements:
    def __init__(
        self,
        function: int,
        arrays: Sequence[NDArray[Any] | None],
        codes: Sequence[int],
        single: bool,
        single_out: bool,
        *,
        constants: tuple[float, float, float, float] = ...,
        divisor: float = 1.0,
    ) -> None: ...
    @property
    def count(self) -> int: ...
    def run(
        self, start: int, stop: int, threads: int, sums: NDArray[np.int64] | None = None, seconds: float = ...
    ) -> tuple[int, int]: ...

def add_exact(sums: NDArray[np.int64], values: NDArray[Any]) -> None: ...
def exact_mean(sums: NDArray[np.int64], divisor: int) -> float: ...
def add_exact_products(sums: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]) -> None: ...
def exact_span(values: NDArray[np.float64]) -> tuple[int, int]: ...
def add_exact_at(
    sums: NDArray[np.int64], first: int, places: NDArray[np.int64], values: NDArray[np.float64]
) -> None: ...
def top_columns(
    x: NDArray[Any], kind: int, values: NDArray[np.float64], columns: NDArray[np.int64], threads: int
) -> None: ...
def elementary(name: str, x: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
def elementary_vectors(name: str, x: NDArray[Any], out: NDArray[Any]) -> None: ...
def read_all(x: NDArray[np.float32], threads: int) -> float: ...

pair_chunk: int
pair_copies: int

class LabelPairs:
    def __init__(self, x: NDArray[Any], x_code: int, y: NDArray[Any], y_code: int) -> None: ...
    @property
    def chunks(self) -> int: ...
    def tops(self) -> tuple[int, int]: ...
    def count_few(self, table: NDArray[np.int64]) -> tuple[int, int] | None: ...
    def count(
        self,
        chunks: NDArray[np.int64],
        rows: int,
        columns: int,
        counters: NDArray[np.uint32],
        tops: NDArray[np.uint64],
    ) -> None: ...

def table_extent(w: NDArray[np.float64]) -> tuple[float, int]: ...

class TableSums:
    def __init__(self, which: int, rows: int, columns: int, largest: float) -> None: ...
    def add(
        self,
        w: NDArray[np.float64],
        start: int,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
    ) -> None: ...
    def add_terms(
        self,
        w: NDArray[np.float64],
        start: int,
        threads: int,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
        products: bool = False,
    ) -> None: ...
    def mean(self, empty: bool = False) -> float: ...

weighed_size: int

def weigh(
    x: NDArray[np.float64], b: NDArray[np.float64], length: int, states: NDArray[np.float64], threads: int
) -> None: ...
def weighed(states: NDArray[np.float64], values: NDArray[np.float64], signs: NDArray[np.float64]) -> None: ...

class Picks:
    def __init__(
        self,
        x: NDArray[Any],
        x_code: int,
        axis: int,
        labels: NDArray[Any],
        label_code: int,
        sample: NDArray[Any] | None,
        sample_code: int,
        out: NDArray[Any] | None,
        single: bool,
    ) -> None: ...
    @property
    def count(self) -> int: ...
    def run(
        self,
        start: int,
        stop: int,
        threads: int,
        *,
        ignore: int | None = None,
        weights: NDArray[np.float64] | None = None,
        row_weights: NDArray[np.float64] | None = None,
        flat: NDArray[Any] | None = None,
    ) -> tuple[int, int]: ...

class Plain:
    def __init__(
        self, ndarray: type, empty: Any, zeros: Any, number: type, dtypes: tuple[np.dtype[Any], ...], most: int
    ) -> None: ...
    def elements(
        self, function: int, x: Any, constants: tuple[float, float, float, float] | None = None
    ) -> NDArray[Any] | None: ...
    def binary(self, function: int, x: Any, target: Any, reduction: str, gradient: bool = False) -> Any: ...
    def rows(self, mode: int, x: Any, axis: Any, unit: float = 1.0) -> NDArray[Any] | None: ...
    def losses(
        self,
        x: Any,
        target: Any,
        ignore_index: int,
        reduction: str,
        smoothing: float,
        from_logits: bool,
        temperature: float,
        gradient: bool,
    ) -> Any: ...
    def picks(self, x: Any, labels: Any, ignore_index: int, reduction: str) -> Any: ...
    def information(self, which: int, table: Any, unit: float) -> float | None: ...
    def table(self, x: Any, y: Any, shape: tuple[int, int] | None) -> NDArray[np.int64] | None: ...
    def pairs(
        self, what: int, p: Any, q: Any, axis: Any, shares: bool, unit: float, reduction: str
    ) -> NDArray[Any] | None: ...
