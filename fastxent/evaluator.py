"""The mergeable accumulator under `evaluate`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._accumulators.curve import Curve, add_confidences
from fastxent._arrays import Labels, Logits, as_labels
from fastxent._passes.rows import STATS, block_rows, run
from fastxent._passes.side_by_side import side_by_side
from fastxent._passes.topk import margins
from fastxent._scoring.accumulator import MASKED, NONFINITE, USED, Accumulator, at_least, counts_of
from fastxent._scoring.columns import Columns, as_int64
from fastxent._scoring.inputs import Inputs, as_temperature, divided
from fastxent._scoring.parts import COUNTS, Layout, check_parts, new_parts, of_classes, of_groups
from fastxent._scoring.summary import summary
from fastxent._threads import default_floats, taking
from fastxent.results import Evaluation
from fastxent.sources.array import ArraySource
from fastxent.sources.base import Ranges

# columns of the kernels' row statistics (_kernels/finish.pxi, RowStats); the last two are integers
NAMES = ("loss", "lse", "p_label", "confidence", "entropy", "brier")
ARGMAX, RANK = 6, 7
LABEL_CODE = 8 + 16  # int64 (_kernels/labels.pxi)

SIDE_CLASSES = 1 << 10  # up to which threads score rows side by side; beyond, they share each block
PART_CLASSES = 1 << 7  # what a row counts for at least: 2^16 rows are counted together, whose columns fit into a cache
PART_BLOCKS = 4  # blocks of the kernels that one thread scores and counts together, at most

Sink = Callable[[int, NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]], None]


class Evaluator(Accumulator):
    """The mergeable accumulator under `evaluate`: exact sums and counts, whose order changes no bit.

    Parameters
    ----------
    topk
        The k of the top-k hits.
    bins
        Number of bins of the reliability table.
    ignore_index
        Rows with this label are left out.
    worst
        How many rows of the largest losses are kept.
    inputs, temperature, classes, binary
        What the scores are: "logits", "log_probs" or "probs"; what the logits are divided by; how many columns are
        used, where the others are padding; whether there is one score a row, that of the second of two classes.
    temperatures
        Others, each in the place of `temperature`, at which loss and calibration are wanted beside all the rest.
    logits_dtype
        "bfloat16" where the logits are raw 16-bit integers that stand for it.

    Raises
    ------
    ValueError
        For a k or a number of bins below 1, and for options that are none of these.

    Notes
    -----
    One thread at a time. `update` takes a block whole or, interrupted, not at all.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> logits, labels = np.eye(4, dtype=np.float32), np.arange(4)
    >>> left, right = fx.Evaluator(), fx.Evaluator()
    >>> left.update(logits[:1], labels[:1])
    >>> right.update(logits[1:], labels[1:], start=1)
    >>> left.merge(fx.Evaluator.from_state(right.state()))
    >>> left.result() == fx.evaluate(logits, labels)
    False
    >>> left.result().cross_entropy == fx.evaluate(logits, labels).cross_entropy
    True
    """

    STATE_FORMAT = "fastxent.Evaluator"
    STATE_VERSION = 2
    COUNTS = COUNTS

    def __init__(
        self,
        *,
        topk: Iterable[int] = (1, 5),
        bins: int = 15,
        ignore_index: int = -100,
        worst: int = 10,
        inputs: str = "logits",
        temperature: float = 1.0,
        classes: int | None = None,
        binary: bool = False,
        temperatures: Iterable[float] = (),
        logits_dtype: str | None = None,
    ) -> None:
        super().__init__(logits_dtype)
        self._topk = counts_of(topk, "topk")
        self._bins = at_least(1, bins, "bins")
        self._ignore_index = operator.index(ignore_index)
        self._worst = at_least(0, worst, "worst")
        self._inputs = Inputs(inputs, temperature, classes, binary)
        self._temperatures = tuple(as_temperature(t, "temperatures") for t in temperatures)

    @property
    def options(self) -> dict[str, Any]:
        """The options, JSON-able; accumulators merge where theirs are equal."""
        return {
            "topk": list(self._topk),
            "bins": self._bins,
            "ignore_index": self._ignore_index,
            "worst": self._worst,
            "inputs": self._inputs.inputs,
            "temperature": self._inputs.temperature,
            "classes": self._inputs.classes,
            "binary": self._inputs.binary,
            "temperatures": list(self._temperatures),
        }

    def update(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        start: int | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        byte_counts: ArrayLike | None = None,
        word_counts: ArrayLike | None = None,
    ) -> None:
        """Add a block of rows.

        Parameters
        ----------
        logits
            Shape (..., C), of the dtypes and strides that `cross_entropy` takes; (...) or (..., 1) where binary.
        labels
            Class indices of shape (...), of any integer dtype. A label out of range is counted and left out.
        start
            Row number of the block's first row; by default the one after the last block's.
        groups, sample_weight, mask, byte_counts, word_counts
            As `evaluate` has them, of the labels' shape. What one block has all must have.

        Raises
        ------
        TypeError, ValueError
            For dtypes and shapes as `cross_entropy`, and for another number of classes or other columns than before.
        """
        columns = {
            "groups": groups,
            "sample_weight": sample_weight,
            "mask": mask,
            "byte_counts": byte_counts,
            "word_counts": word_counts,
        }
        self._update(logits, labels, start, columns)

    def _update(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        start: int | None,
        columns: Mapping[str, Any],
        threads: int | None = None,
        sink: Sink | None = None,
    ) -> None:
        x = self._inputs.check(logits, self._logits_dtype)
        checked = as_labels(labels, x.array.shape[:-1], self._ignore_index, "labels", x.array.shape)
        beside = Columns(columns, checked.array.shape)
        layout = Layout.of(self._inputs.width(x.array.shape[-1]), beside)
        block = self._empty_like(layout)
        first = self._next if start is None else operator.index(start)
        targets = ArraySource(checked.array, None)
        small = self._inputs.temperature != 1.0 or bool(self._temperatures)
        rows, classes = checked.array.size, x.array.shape[-1]
        beside_each_other = sink is None and classes <= SIDE_CLASSES
        # of what a thread does by itself no part is long; of what all do together counting is to be a small part
        size = max(PART_CLASSES * (1 + len(self._temperatures)), classes // PART_BLOCKS if beside_each_other else 1)
        parts = Ranges(0, rows, max(1, block_rows(rows, size)))

        def score(some: Evaluator, i: int, threads: int | None) -> None:
            a, b = parts[i]
            with default_floats():
                values = beside.read(a, b, first)
                numbers = as_int64(targets.read(a, b), self._ignore_index)
            some._score(self._inputs.blocks(x, first, small, a, b), numbers, values, first + a, threads, sink)

        if beside_each_other and len(parts) > 1:
            # counting takes as long as the kernels: a thread does both for rows of its own
            with taking(threads) as number:
                some = [block, *(self._empty_like(layout) for _ in range(min(number, len(parts)) - 1))]
                side_by_side(len(parts), lambda worker, i: score(some[worker], i, 1), len(some))
            for other in some[1:]:
                block.merge(other)
        else:
            for i in range(len(parts)):
                score(block, i, threads)
        block._next = first + rows
        self.merge(block)

    def _adopt(self, layout: Layout) -> None:
        self._layout = layout
        self._parts = new_parts(layout, self._topk, self._worst)
        if self._temperatures:
            self._parts["curve"] = Curve(self._temperatures, self._bins, layout.weighted)

    def _score(
        self,
        blocks: Iterator[tuple[int, int, Logits]],
        labels: NDArray[np.int64],
        columns: dict[str, NDArray[Any]],
        row: int,
        threads: int | None,
        sink: Sink | None,
    ) -> None:
        """Run the kernels over some rows and add what they find: counting so many at a time is cheap for each."""
        ignore, rows = self._ignore_index, labels.size
        read = labels
        if "mask" in columns:
            read = np.where(columns["mask"], labels, ignore)
        temperatures = (self._inputs.temperature, *self._temperatures)
        tables = [(np.empty((rows, 8)), np.empty(rows, np.uint8)) for _ in temperatures]
        margin = np.empty(0 if sink is None else rows)
        done = 0
        for _, _, x in blocks:
            first, end = done, done + len(x.array)
            targets = Labels(read[first:end], LABEL_CODE, ignore & 0xFFFFFFFFFFFFFFFF)
            for temperature, (stats, status) in zip(temperatures, tables, strict=True):
                some: dict[str, Any] = {"stats": stats[first:end], "status": status[first:end]}
                for n, _, _ in run(STATS, divided(x, temperature), 1, labels=targets, threads=threads, **some):
                    if sink is not None and stats is tables[0][0]:
                        part = x._replace(array=x.array[done - first : done - first + n])
                        margin[done : done + n] = margins(part, temperature, threads)
                        done += n
            done = end
        with default_floats():
            self._count(*tables[0], labels, columns, row)
            for place, (stats, status) in enumerate(tables[1:]):
                self._count_curve(place, stats, status, columns.get("sample_weight"))
        if sink is not None:
            sink(row, *tables[0], labels, margin)

    def _count_curve(
        self, place: int, stats: NDArray[np.float64], status: NDArray[np.uint8], weights: NDArray[np.float64] | None
    ) -> None:
        """Add the row statistics at one of the other temperatures."""
        used = (status == USED) & ~np.isnan(stats[:, 0])
        loss, _, _, confidence, entropy, _, _, rank = np.ascontiguousarray(stats[used].T)
        hit = rank.view(np.int64) == 0
        self._parts["curve"].add(place, loss, entropy, confidence, hit, None if weights is None else weights[used])

    def _count(
        self,
        stats: NDArray[np.float64],
        status: NDArray[np.uint8],
        labels: NDArray[np.int64],
        columns: dict[str, NDArray[Any]],
        row: int,
    ) -> None:
        """Add the row statistics of one block of the kernels; `status` becomes one of USED, IGNORED, ..."""
        layout = self._layout
        assert layout is not None
        status[(status == USED) & np.isnan(stats[:, 0])] = NONFINITE
        if "mask" in columns:
            status[~columns["mask"]] = MASKED
        everything = self._tally(status, row) == len(status)
        used = status == USED
        kept = stats if everything else stats[used]
        turned = _turned(kept)
        value = dict(zip(NAMES, turned[: len(NAMES)], strict=True))
        argmax, rank = turned[ARGMAX:].view(np.int64)
        rows = np.arange(row, row + len(status)) if everything else row + np.flatnonzero(used)
        if not everything:
            labels = labels[used]
        of_used = columns if everything else {name: column[used] for name, column in columns.items()}
        weights = of_used.get("sample_weight")
        loss, hit = value["loss"], rank == 0
        self._counts["infinite"] += int(np.count_nonzero(loss == inf))
        value |= {f"top{k}": (rank < k).astype(np.float64) for k in self._topk}
        value["accuracy"] = hit.astype(np.float64)
        value["rank"] = rank.astype(np.float64)
        value["reciprocal_rank"] = np.reciprocal(rank + 1.0)
        with np.errstate(over="ignore"):
            value["lse_squared"] = value["lse"] * value["lse"]
        value |= {name: of_used[name].astype(np.float64) for name in ("byte_counts", "word_counts") if name in of_used}
        parts = self._parts
        parts["means"].add(value, weights)
        parts["quantiles"].add(loss)
        parts["worst"].add(loss, rows, labels, argmax)
        add_confidences(parts["bins"], self._bins, value["confidence"], hit, weights)
        of_classes(parts, layout, labels, argmax, loss, weights)
        if layout.groups:
            of_groups(parts["groups"], layout, columns, used, value, weights, self._topk)

    def _load(self, layout: Any, parts: Any) -> None:
        if layout is not None:
            self._adopt(Layout.from_state(layout))
        check_parts(self._parts, parts, self._layout, self._counts, self._bins, self._topk)

    def result(self) -> Evaluation:
        """The evaluation of what was added so far."""
        whole_ = self
        if self._layout is None:  # nothing was added
            whole_ = Evaluator(**self.options)
            whole_._adopt(Layout(None))
        with default_floats():
            return summary(
                whole_._layout or Layout(None),
                self._counts,
                self._first,
                whole_._parts,
                topk=self._topk,
                bins=self._bins,
                row_format=self._row_format,
                options=self.options,
            )


def _turned(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column each, contiguous; some rows at a time, so that each is read from memory once."""
    columns = np.empty(rows.shape[::-1])
    for start in range(0, len(rows), 2048):
        columns[:, start : start + 2048] = rows[start : start + 2048].T
    return columns
