"""The mergeable accumulator under `evaluate`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent import _dispatch
from fastxent._arrays import Labels, Logits, as_labels, as_logits
from fastxent._dispatch import kernels
from fastxent._exact import ExactSums, standard_error
from fastxent._rows import STATS, block_rows, run
from fastxent._threads import default_floats
from fastxent._version import __version__
from fastxent.results import Bin, Evaluation
from fastxent.sources.array import ArraySource

STATE_FORMAT = "fastxent.Evaluator"
STATE_VERSION = 1

# columns of the kernels' row statistics (_kernels/finish.pxi, RowStats); the last two are integers
LOSS, LSE, P_LABEL, CONFIDENCE, ENTROPY, BRIER, ARGMAX, RANK = range(8)
# the accumulator's exact sums; the confidences of the bins follow
SUMS = ("loss", "loss_squared", "lse_squared", "p_label", "entropy", "brier", "reciprocal_rank")
# counts, which merge by addition
COUNTS = ("rows", "ignored", "invalid", "nonfinite", "infinite", "rank")

COPY_ELEMENTS = 1 << 20  # of a block whose class axis must be made contiguous
LN2 = 0.6931471805599453


class Evaluator:
    """The mergeable accumulator under `evaluate`: exact sums and counts, whose order changes no bit.

    Parameters
    ----------
    topk
        The k of the top-k hits.
    bins
        Number of bins of the reliability table.
    ignore_index
        Rows with this label are left out.
    logits_dtype
        "bfloat16" where the logits are raw 16-bit integers that stand for it.

    Raises
    ------
    ValueError
        For a k or a number of bins below 1.

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

    def __init__(
        self,
        *,
        topk: Iterable[int] = (1, 5),
        bins: int = 15,
        ignore_index: int = -100,
        logits_dtype: str | None = None,
    ) -> None:
        self._topk = tuple(sorted({_positive(k, "topk") for k in topk}))
        self._bins = _positive(bins, "bins")
        self._ignore_index = operator.index(ignore_index)
        self._logits_dtype = logits_dtype
        self._row_format = _dispatch.row_format
        self._classes: int | None = None
        self._next = 0  # row number that an update without `start` begins with
        self._counts = dict.fromkeys(COUNTS, 0)
        self._first: dict[str, int | None] = {"invalid": None, "nonfinite": None}
        self._hits = dict.fromkeys(self._topk, 0)
        self._bin_counts: NDArray[np.int64] = np.zeros((2, self._bins), np.int64)  # rows, hits
        self._sums = ExactSums(len(SUMS) + self._bins)

    @property
    def options(self) -> dict[str, Any]:
        """The options, JSON-able; accumulators merge where theirs are equal."""
        return {"topk": list(self._topk), "bins": self._bins, "ignore_index": self._ignore_index}

    def update(self, logits: ArrayLike, labels: ArrayLike, *, start: int | None = None) -> None:
        """Add a block of rows.

        Parameters
        ----------
        logits
            Shape (..., C), of the dtypes and strides that `cross_entropy` takes.
        labels
            Class indices of shape (...), of any integer dtype. A label out of range is counted and left out.
        start
            Row number of the block's first row; by default the one after the last block's.

        Raises
        ------
        TypeError, ValueError
            For dtypes and shapes as `cross_entropy`, and for another number of classes than before.
        """
        self._update(logits, labels, start, None)

    def _update(self, logits: ArrayLike, labels: ArrayLike, start: int | None, threads: int | None) -> None:
        x = as_logits(logits, logits_dtype=self._logits_dtype)
        if x.array.ndim == 0 or x.array.shape[-1] == 0:
            raise ValueError(f"logits of shape {x.array.shape} have no class")
        classes = x.array.shape[-1]
        if self._classes not in (None, classes):
            raise ValueError(f"logits have {classes} classes, but those before had {self._classes}")
        if self._row_format != _dispatch.row_format:
            raise ValueError(f"rows of row format {self._row_format} and {_dispatch.row_format} do not mix")
        checked = as_labels(labels, x.array.shape[:-1], self._ignore_index, "labels")
        row = self._next if start is None else operator.index(start)
        block = Evaluator(topk=self._topk, bins=self._bins, ignore_index=self._ignore_index)
        for part, targets in _contiguous(x, checked):
            size = block_rows(targets.array.size, classes)
            stats = np.empty((size, 8))
            status = np.empty(size, np.uint8)
            axis = part.array.ndim - 1
            for n, ignored, invalid in run(
                STATS, part, axis, labels=targets, stats=stats, status=status, threads=threads
            ):
                with default_floats():
                    block._count(stats[:n], status[:n], row, ignored, invalid)
                row += n
        block._classes = classes
        block._next = row
        self.merge(block)

    def _count(
        self, stats: NDArray[np.float64], status: NDArray[np.uint8], row: int, ignored: int, invalid: int
    ) -> None:
        """Add the row statistics of one block of the kernels."""
        counts, sums = self._counts, self._sums
        counts["rows"] += len(status)
        counts["ignored"] += ignored
        counts["invalid"] += invalid
        if invalid:
            self._first["invalid"] = _smallest(self._first["invalid"], row + int(np.argmax(status == 2)))
        used = status == 0
        losses = stats[:, LOSS]
        bad = used & np.isnan(losses)
        if bad.any():
            counts["nonfinite"] += int(np.count_nonzero(bad))
            self._first["nonfinite"] = _smallest(self._first["nonfinite"], row + int(np.argmax(bad)))
            used &= ~bad
        if not used.all():
            stats = stats[used]
        # a column each, contiguous
        loss, lse, p_label, confidence, entropy, brier = np.ascontiguousarray(stats[:, :ARGMAX].T)
        rank = np.ascontiguousarray(stats[:, RANK]).view(np.int64)
        counts["infinite"] += int(np.count_nonzero(loss == inf))
        counts["rank"] += int(rank.sum())
        for k in self._topk:
            self._hits[k] += int(np.count_nonzero(rank < k))
        sums.add(SUMS.index("loss"), loss)
        sums.add_squares(SUMS.index("loss_squared"), loss)
        sums.add_squares(SUMS.index("lse_squared"), lse)
        sums.add(SUMS.index("p_label"), p_label)
        sums.add(SUMS.index("entropy"), entropy)
        sums.add(SUMS.index("brier"), brier)
        sums.add(SUMS.index("reciprocal_rank"), np.reciprocal(rank + 1.0))
        bins = np.minimum((confidence * self._bins).astype(np.int64), self._bins - 1)
        sums.add_at(len(SUMS), bins, confidence)
        self._bin_counts[0] += np.bincount(bins, minlength=self._bins)
        self._bin_counts[1] += np.bincount(bins[rank == 0], minlength=self._bins)

    def merge(self, other: Evaluator) -> None:
        """Add another accumulator. The order of merging changes no bit of a result.

        Raises
        ------
        ValueError
            For other options, another number of classes, or rows of another row format.
        """
        if other.options != self.options:
            raise ValueError(f"accumulators of other options do not merge: {self.options} and {other.options}")
        if None not in (self._classes, other._classes) and self._classes != other._classes:
            raise ValueError(f"accumulators of {self._classes} and of {other._classes} classes do not merge")
        if self._row_format != other._row_format:
            raise ValueError(f"rows of row format {self._row_format} and {other._row_format} do not mix")
        both = {
            "_classes": self._classes if other._classes is None else other._classes,
            "_next": max(self._next, other._next),
            "_counts": {name: n + other._counts[name] for name, n in self._counts.items()},
            "_first": {what: _smallest(row, other._first[what]) for what, row in self._first.items()},
            "_hits": {k: n + other._hits[k] for k, n in self._hits.items()},
            "_bin_counts": self._bin_counts + other._bin_counts,
            "_sums": self._sums.merged(other._sums),
        }
        # in one step: a signal is looked at before or after it
        self.__dict__.update(both)

    def state(self) -> dict[str, Any]:
        """The accumulator as JSON-able data, with a version."""
        return {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "row_format": self._row_format,
            "options": self.options,
            "logits_dtype": self._logits_dtype,
            "classes": self._classes,
            "next": self._next,
            "counts": dict(self._counts),
            "first": dict(self._first),
            "hits": list(self._hits.values()),
            "bins": self._bin_counts.tolist(),
            "sums": self._sums.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Evaluator:
        """The accumulator that `state` was called on, in this process or another.

        Raises
        ------
        ValueError
            For anything but a state of a known version.
        """
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            raise ValueError(f"no state of an Evaluator: its format should be {STATE_FORMAT!r}")
        if state.get("version") != STATE_VERSION:
            raise ValueError(f"state of version {state.get('version')!r}; this fastxent knows {STATE_VERSION}")
        try:
            _check_state(state)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"broken state of an Evaluator: {error}") from None
        self = cls(**state["options"], logits_dtype=state["logits_dtype"])
        self._row_format = state["row_format"]
        self._classes = state["classes"]
        self._next = state["next"]
        self._counts = {name: state["counts"][name] for name in COUNTS}
        self._first = {what: state["first"][what] for what in self._first}
        self._hits = dict(zip(self._topk, state["hits"], strict=True))
        self._bin_counts = np.array(state["bins"], np.int64)
        self._sums = ExactSums.from_state(state["sums"])
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(Evaluator.from_state(state).__dict__)

    def result(self) -> Evaluation:
        """The evaluation of what was added so far."""
        with default_floats():
            return self._result()

    def _result(self) -> Evaluation:
        counts = self._counts
        used = counts["rows"] - counts["ignored"] - counts["invalid"] - counts["nonfinite"]
        mean = {name: self._sums[i].mean(used) if used else nan for i, name in enumerate(SUMS)}
        loss = mean["loss"]
        error = standard_error(self._sums[SUMS.index("loss")], self._sums[SUMS.index("loss_squared")], used)
        perplexity = _exp(loss)
        hits = {k: n / used if used else nan for k, n in self._hits.items()}
        correct = int(self._bin_counts[1].sum())
        accuracy = correct / used if used else nan
        reliability = self._reliability()
        gaps = [abs(b.accuracy - b.confidence) for b in reliability if b.count]
        return Evaluation(
            rows=counts["rows"],
            used=used,
            ignored=counts["ignored"],
            invalid=counts["invalid"],
            nonfinite=counts["nonfinite"],
            infinite=counts["infinite"],
            first_invalid=self._first["invalid"],
            first_nonfinite=self._first["nonfinite"],
            cross_entropy=loss,
            cross_entropy_stderr=error,
            bits=loss / LN2,
            perplexity=perplexity,
            perplexity_stderr=perplexity * error,
            z_loss=mean["lse_squared"],
            # the last bit of rounding apart, never above the next (Jensen)
            accuracy_bound=min(_exp(-loss), mean["p_label"]) if used else nan,
            expected_accuracy=mean["p_label"],
            accuracy=accuracy,
            accuracy_stderr=(accuracy * (1.0 - accuracy) / (used - 1)) ** 0.5 if used > 1 else nan,
            topk=hits,
            mean_rank=counts["rank"] / used if used else nan,
            mean_reciprocal_rank=mean["reciprocal_rank"],
            entropy=mean["entropy"],
            brier=mean["brier"],
            ece=self._calibration_error(used),
            mce=max(gaps, default=nan),
            reliability=reliability,
            provenance={
                "fastxent": __version__,
                "row_format": self._row_format,
                "level": _dispatch.level,
                "classes": self._classes,
                "options": self.options,
            },
        )

    def _reliability(self) -> tuple[Bin, ...]:
        rows = []
        for i, (count, hits) in enumerate(self._bin_counts.T.tolist()):
            confidence = self._sums[len(SUMS) + i].mean(count) if count else nan
            rows.append(Bin(i / self._bins, (i + 1) / self._bins, count, confidence, hits / count if count else nan))
        return tuple(rows)

    def _calibration_error(self, used: int) -> float:
        """ECE: sum over the bins of abs(hits - sum of confidences), over the rows."""
        if not used:
            return nan
        total = sum(
            abs(hits - self._sums[len(SUMS) + i].fraction()) for i, hits in enumerate(self._bin_counts[1].tolist())
        )
        return float(total / used)


def _check_state(state: dict[str, Any]) -> None:
    """Refuse a state that no Evaluator can have written."""

    def whole(n: Any, what: str, least: int = 0) -> int:
        if type(n) is not int or not least <= n < 1 << 63:
            raise ValueError(f"{what} is {n!r}")
        return n

    options = state["options"]
    if set(options) != {"topk", "bins", "ignore_index"}:
        raise ValueError(f"its options are {sorted(options)}")
    bins = whole(options["bins"], "bins", 1)
    whole(options["ignore_index"], "ignore_index", -(1 << 63))
    for k in options["topk"]:
        whole(k, "topk", 1)
    if not isinstance(state["row_format"], str):
        raise ValueError(f"row_format is {state['row_format']!r}")
    if state["logits_dtype"] not in (None, "bfloat16"):
        raise ValueError(f"logits_dtype is {state['logits_dtype']!r}")
    if state["classes"] is not None:
        whole(state["classes"], "classes", 1)
    whole(state["next"], "next", -(1 << 63))
    counts = {name: whole(state["counts"][name], name) for name in COUNTS}
    for what in ("invalid", "nonfinite"):
        if state["first"][what] is not None:
            whole(state["first"][what], f"first {what}", -(1 << 63))
    used = counts["rows"] - counts["ignored"] - counts["invalid"] - counts["nonfinite"]
    hits = [whole(n, "hits") for n in state["hits"]]
    table = [[whole(n, "bins") for n in row] for row in state["bins"]]
    if [len(row) for row in table] != [bins, bins] or sum(table[0]) != used:
        raise ValueError("the bins do not hold the used rows")
    if len(hits) != len(options["topk"]) or any(n > used for n in hits):
        raise ValueError("the hits do not fit the used rows")
    if len(state["sums"]) != len(SUMS) + bins:
        raise ValueError(f"{len(state['sums'])} sums")
    for text, *specials in state["sums"]:
        int(text, 16)
        if len(specials) != 3:
            raise ValueError("a sum has three counts")
        for n in specials:
            whole(n, "a sum's count")


def _contiguous(x: Logits, labels: Labels) -> Iterator[tuple[Logits, Labels]]:
    """The rows in C order, their class axis contiguous: as they are, or in blocks, copied where they must be."""
    array = x.array
    classes = array.shape[-1]
    if array.size == 0 or (array.ndim <= 2 and (classes == 1 or array.strides[-1] == array.itemsize)):
        yield x, labels
        return
    source, targets = ArraySource(array), ArraySource(labels.array, None)
    step = max(1, COPY_ELEMENTS // classes)
    for start in range(0, labels.array.size, step):
        stop = min(start + step, labels.array.size)
        yield (
            Logits(source.read(start, stop), x.kind, x.convert),
            Labels(targets.read(start, stop), labels.code, labels.ignore),
        )


def _smallest(a: int | None, b: int | None) -> int | None:
    """The smaller row number of two first places."""
    return b if a is None else a if b is None else min(a, b)


def _positive(n: Any, name: str) -> int:
    number = operator.index(n)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def _exp(x: float) -> float:
    out = np.empty(1)
    kernels.elementary("exp", np.array([x]), out)
    return float(out[0])
