"""The mergeable accumulator under `compare`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf, isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import Logits, as_labels, may_be_bfloat16, to_numpy
from fastxent._passes.pairs import BLOCK_ROWS
from fastxent._scoring.accumulator import MASKED, USED, Accumulator, at_least, counts_of
from fastxent._scoring.columns import Columns, as_int64
from fastxent._scoring.compared import COUNTS, EDGES, PairLayout, add_by_key, check_parts, new_parts
from fastxent._scoring.compared_rows import Rows, compare_rows
from fastxent._scoring.compared_summary import summary
from fastxent._scoring.inputs import Inputs, divided
from fastxent._threads import default_floats, get_num_threads
from fastxent.comparison_results import Comparison
from fastxent.sources.array import ArraySource

# of each of the two blocks that are read several times: a core's share of the cache, times the cores
CACHE_BYTES = 1 << 20
MOST_BYTES = 1 << 24

Sink = Callable[[int, Rows, "NDArray[np.int64] | None"], None]


class Comparator(Accumulator):
    """The mergeable accumulator under `compare`: exact sums and counts, whose order changes no bit.

    Parameters
    ----------
    topk
        The k of the agreement of the k largest classes.
    ignore_index
        Rows with this label are left out.
    worst
        How many rows of the largest KL divergences are kept.
    inputs, base_inputs
        What the scores are: "logits", "log_probs" or "probs"; what those of the base model are, where they are others.
    temperature, classes, binary
        What both models' logits are divided by; how many columns are used, where the others are padding; whether there
        is one score a row, that of the second of two classes.
    kl_cutoff
        KL terms of classes with log p_base up to it are skipped, and log-probabilities of the base model are taken as
        they stand, without normalising them: what llama.cpp does, with -16. Such a KL can be negative.
    logits_dtype
        "bfloat16" where raw 16-bit integers stand for it.

    Raises
    ------
    ValueError
        For a k below 1, and for options that are none of these.

    Notes
    -----
    One thread at a time. `update` takes a block whole or, interrupted, not at all.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> base, other = np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32) / 2
    >>> left, right = fx.Comparator(), fx.Comparator()
    >>> left.update(base[:1], other[:1])
    >>> right.update(base[1:], other[1:], start=1)
    >>> left.merge(fx.Comparator.from_state(right.state()))
    >>> left.result().kl_mean == fx.compare(base, other).kl_mean
    True
    """

    STATE_FORMAT = "fastxent.Comparator"
    STATE_VERSION = 1
    COUNTS = COUNTS

    def __init__(
        self,
        *,
        topk: Iterable[int] = (1, 5),
        ignore_index: int = -100,
        worst: int = 10,
        inputs: str = "logits",
        base_inputs: str | None = None,
        temperature: float = 1.0,
        classes: int | None = None,
        binary: bool = False,
        kl_cutoff: float | None = None,
        logits_dtype: str | None = None,
    ) -> None:
        super().__init__(logits_dtype)
        self._topk = counts_of(topk, "topk")
        self._ignore_index = operator.index(ignore_index)
        self._worst = at_least(0, worst, "worst")
        self._inputs = Inputs(inputs, temperature, classes, binary)
        self._base_inputs = self._inputs if base_inputs is None else replace(self._inputs, inputs=base_inputs)
        if kl_cutoff is not None:
            kl_cutoff = float(kl_cutoff)
            if not isfinite(kl_cutoff):
                raise ValueError(f"kl_cutoff must be finite, got {kl_cutoff}")
            if temperature != 1.0:
                raise ValueError("kl_cutoff wants a temperature of 1")
        self._kl_cutoff = kl_cutoff

    @property
    def inputs(self) -> Inputs:
        """What the other model's scores are."""
        return self._inputs

    @property
    def options(self) -> dict[str, Any]:
        """The options, JSON-able; accumulators merge where theirs are equal."""
        return {
            "topk": list(self._topk),
            "ignore_index": self._ignore_index,
            "worst": self._worst,
            "inputs": self._inputs.inputs,
            "base_inputs": self._base_inputs.inputs,
            "temperature": self._inputs.temperature,
            "classes": self._inputs.classes,
            "binary": self._inputs.binary,
            "kl_cutoff": self._kl_cutoff,
        }

    def update(
        self,
        base: ArrayLike,
        other: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        start: int | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> None:
        """Add a block of rows.

        Parameters
        ----------
        base, other
            Both models' logits, of one shape (..., C), of the dtypes and strides that `cross_entropy` takes.
        labels
            Class indices of shape (...), of any integer dtype, or None. What one block has all must have.
        start
            Row number of the block's first row; by default the one after the last block's.
        groups, sample_weight, mask
            As `compare` has them, of shape (...).

        Raises
        ------
        TypeError, ValueError
            For dtypes and shapes that do not fit, and for another number of classes or other columns than before.
        """
        self._update(base, other, labels, start, {"groups": groups, "sample_weight": sample_weight, "mask": mask})

    def _update(
        self,
        base: ArrayLike,
        other: ArrayLike,
        labels: ArrayLike | None,
        start: int | None,
        columns: Mapping[str, Any],
        threads: int | None = None,
        sink: Sink | None = None,
    ) -> None:
        x, y = self._sides(base, other)
        shape = x.array.shape[:-1]
        targets = None
        if labels is not None:
            checked = as_labels(labels, shape, self._ignore_index, "labels", x.array.shape)
            targets = ArraySource(checked.array, None)
        beside = Columns(columns, shape)
        block = self._empty_like(PairLayout.of(self._inputs.width(x.array.shape[-1]), labels is not None, beside))
        first = self._next if start is None else operator.index(start)
        rows = prod(shape)
        for a, b in _ranges(rows, x.array.shape[-1], max(x.array.itemsize, y.array.itemsize)):
            with default_floats():
                values = beside.read(a, b, first)
                numbers = None if targets is None else as_int64(targets.read(a, b), self._ignore_index)
                p, q = (
                    divided(inputs.convert(_part(side, a, b), first + a, name), inputs.temperature)
                    for inputs, side, name in ((self._base_inputs, x, "base"), (self._inputs, y, "other"))
                )
                block._score(p, q, numbers, values, first + a, threads, sink)
        block._next = first + rows
        self.merge(block)

    def _sides(self, base: ArrayLike, other: ArrayLike) -> tuple[Logits, Logits]:
        """Both models' scores, of one shape (..., C)."""
        arrays = [to_numpy(base, "base"), to_numpy(other, "other")]
        dtypes: list[str | None] = [None, None]
        if self._logits_dtype is not None:
            # of the raw ones; an array that says its dtype itself may stand beside it
            raw = [may_be_bfloat16(a.dtype) for a in arrays]
            dtypes = [self._logits_dtype if is_raw or not any(raw) else None for is_raw in raw]
        check_widths(arrays[0].shape, arrays[1].shape, self._inputs)
        x = self._base_inputs.check(arrays[0], dtypes[0], "base")
        y = self._inputs.check(arrays[1], dtypes[1], "other")
        if x.array.shape != y.array.shape:
            raise ValueError(f"base has shape {arrays[0].shape}, but other has {arrays[1].shape}")
        return x, y

    def _adopt(self, layout: PairLayout) -> None:
        self._layout = layout
        self._parts = new_parts(layout, self._topk, self._worst)

    def _load(self, layout: Any, parts: Any) -> None:
        if layout is not None:
            self._adopt(PairLayout.from_state(layout))
        check_parts(self._parts, parts, self._layout, self._counts)

    def _score(
        self,
        base: Logits,
        other: Logits,
        labels: NDArray[np.int64] | None,
        columns: Mapping[str, NDArray[Any]],
        row: int,
        threads: int | None,
        sink: Sink | None,
    ) -> None:
        """Run the kernels over a block and add what they find."""
        rows = compare_rows(
            base,
            other,
            labels,
            ignore_index=self._ignore_index,
            topk=self._topk,
            cutoff=self._kl_cutoff,
            log_probs=self._base_inputs.inputs == "log_probs",
            threads=threads,
        )
        counts, status = self._counts, rows.status
        if "mask" in columns:
            status[~columns["mask"]] = MASKED
        self._tally(status, row)
        if sink is not None:
            sink(row, rows, labels)
        used = status == USED
        value = {name: column[used] for name, column in rows.value.items()}
        weights = columns["sample_weight"][used] if "sample_weight" in columns else None
        kl = value["kl"]
        counts["infinite_kl"] += int(np.count_nonzero(kl == inf))
        whats = [rows.prediction_base[used], rows.prediction[used]]
        parts = self._parts
        if labels is not None:
            counts["infinite"] += int(np.count_nonzero((value["loss"] == inf) | (value["loss_base"] == inf)))
            parts["delta_p_quantiles"].add(value["delta_p"])
            whats = [labels[used], *whats]
        parts["means"].add(value, weights)
        parts["kl_quantiles"].add(kl)
        parts["worst"].add(kl, row + np.flatnonzero(used), *whats)
        buckets = np.searchsorted(np.array(EDGES), value["confidence_base"], side="right").astype(np.int64)
        add_by_key(parts["confidence"], buckets, None, value, weights)
        if "groups" in columns:
            add_by_key(parts["groups"], columns["groups"], used, value, weights)

    def result(self) -> Comparison:
        """The comparison of what was added so far."""
        whole = self
        if self._layout is None:  # nothing was added
            whole = Comparator(**self.options)
            whole._adopt(PairLayout(None))
        with default_floats():
            return summary(
                whole._layout,
                self._counts,
                self._first,
                whole._parts,
                topk=self._topk,
                row_format=self._row_format,
                options=self.options,
            )


def check_widths(
    base: tuple[int, ...], other: tuple[int, ...], inputs: Inputs, names: tuple[str, str] = ("base", "other")
) -> None:
    """ValueError for shapes that cannot be compared; names the first K columns as the way out of unequal widths."""
    if inputs.binary:
        return
    for shape, name in zip((base, other), names, strict=True):
        if not shape:
            raise ValueError(f"{name} has no dimension, so no class axis")
        if shape[-1] == 0:
            raise ValueError(f"{name} of shape {shape} has no class")
    if base[:-1] != other[:-1]:
        raise ValueError(f"{names[0]} has shape {base}, but {names[1]} has {other}")
    if base[-1] != other[-1] and inputs.classes is None:
        fewer = min(base[-1], other[-1])
        raise ValueError(
            f"{names[0]} has {base[-1]} classes, but {names[1]} has {other[-1]}; where the last columns are padding, "
            f"classes={fewer} uses the first {fewer} of both"
        )


def _ranges(rows: int, columns: int, itemsize: int) -> list[tuple[int, int]]:
    most = min(MOST_BYTES, CACHE_BYTES * get_num_threads())
    size = max(1, min(BLOCK_ROWS, most // max(1, columns * itemsize)))
    return [(row, min(row + size, rows)) for row in range(0, rows, size)]


def _part(x: Logits, start: int, stop: int) -> Logits:
    """Some rows, in C order, the class axis contiguous."""
    array = x.array if x.array.ndim > 1 else x.array[None]
    return x._replace(array=ArraySource(array).read(start, stop))
