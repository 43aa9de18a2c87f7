"""Everything about one model's logits and labels, from one read: `evaluate`, and the accumulator under it."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from math import inf, isinf, isnan, nan, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent import _dispatch
from fastxent._arrays import as_labels, as_logits, to_numpy
from fastxent._dispatch import kernels
from fastxent._exact import ExactSums, standard_error
from fastxent._progress import progress_bar
from fastxent._rows import STATS, block_rows, run
from fastxent._version import __version__
from fastxent.sources import Source, as_source
from fastxent.sources.base import read_ahead

STATE_FORMAT = "fastxent.Evaluator"
STATE_VERSION = 1

# columns of the kernels' row statistics (_kernels/finish.pxi, RowStats); then ARGMAX and RANK, as integers
LOSS, LSE, P_LABEL, CONFIDENCE, ENTROPY, BRIER, ARGMAX, RANK = range(8)
# the accumulator's exact sums; the confidences of the bins follow
SUMS = ("loss", "loss_squared", "lse_squared", "p_label", "entropy", "brier", "reciprocal_rank")
# counts, which merge by addition
COUNTS = ("rows", "ignored", "invalid", "nonfinite", "infinite", "rank")

BLOCK_BYTES = 1 << 24  # of a file, read ahead of the computation
LN2 = 0.6931471805599453

Progress = bool | Callable[[int, int], None]


@dataclass(frozen=True)
class Bin:
    """One line of the reliability table: rows whose largest probability lies in [lower, upper)."""

    lower: float
    upper: float
    count: int
    confidence: float  # mean
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. Means are over the `used` rows; NaN where there are none.

    Attributes
    ----------
    rows, used, ignored, invalid, nonfinite, infinite
        Counts: all rows; those in the means; label equal to ignore_index; label out of range; loss NaN (a NaN or inf in
        the row, or all -inf); loss inf (label on a class of logit -inf; these stay in the means).
    first_invalid, first_nonfinite
        Row number of the first of each, or None.
    cross_entropy, cross_entropy_stderr, bits
        Mean loss in nats, its standard error for independent rows, and the mean in bits.
    perplexity, perplexity_stderr
        exp(cross_entropy), and its error to first order.
    z_loss
        Mean squared log-sum-exp.
    accuracy_bound, expected_accuracy
        exp(-cross_entropy), never above the second, the mean probability of the label (Jensen's inequality).
    accuracy, accuracy_stderr, topk
        Share of rows whose label is the first arg max; share of rows whose label is among the k largest, by k.
    mean_rank, mean_reciprocal_rank
        Rank: the number of classes before the label (0: none); 1 / (1 + rank).
    entropy, brier
        Mean entropy of the predictions in nats; mean sum over classes of (p - onehot)^2, between 0 and 2.
    ece, mce, reliability
        Expected and largest calibration error over bins of equal width of the largest probability, and the bins.
    provenance
        Version, row format, level, options, names, shapes and dtypes.
    """

    rows: int
    used: int
    ignored: int
    invalid: int
    nonfinite: int
    infinite: int
    first_invalid: int | None
    first_nonfinite: int | None
    cross_entropy: float
    cross_entropy_stderr: float
    bits: float
    perplexity: float
    perplexity_stderr: float
    z_loss: float
    accuracy_bound: float
    expected_accuracy: float
    accuracy: float
    accuracy_stderr: float
    topk: dict[int, float]
    mean_rank: float
    mean_reciprocal_rank: float
    entropy: float
    brier: float
    ece: float
    mce: float
    reliability: tuple[Bin, ...]
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: infinities and NaN as "inf", "-inf", "nan", dictionary keys as text."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(x: Any) -> Any:
    if isinstance(x, float) and (isnan(x) or isinf(x)):
        return str(x)
    if isinstance(x, Bin):
        return {f.name: _plain(getattr(x, f.name)) for f in fields(x)}
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(v) for v in x]
    return x


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
        x = as_logits(logits, logits_dtype=self._logits_dtype)
        if x.array.ndim == 0 or x.array.shape[-1] == 0:
            raise ValueError(f"logits of shape {x.array.shape} have no class")
        classes = x.array.shape[-1]
        if self._classes not in (None, classes):
            raise ValueError(f"logits have {classes} classes, but those before had {self._classes}")
        if self._row_format != _dispatch.row_format:
            raise ValueError(f"rows of row format {self._row_format} and {_dispatch.row_format} do not mix")
        checked = as_labels(labels, x.array.shape[:-1], self._ignore_index, "labels")
        axis = x.array.ndim - 1
        if x.array.ndim > 1 and classes > 1 and x.array.strides[-1] != x.array.itemsize and x.convert is None:
            raise ValueError("the class axis of a block must be contiguous; evaluate() takes any array")
        row = self._next if start is None else operator.index(start)
        block = Evaluator(topk=self._topk, bins=self._bins, ignore_index=self._ignore_index)
        size = block_rows(checked.array.size, classes)
        stats = np.empty((size, 8))
        status = np.empty(size, np.uint8)
        for n, ignored, invalid in run(STATS, x, axis, labels=checked, stats=stats, status=status):
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
            self._note("invalid", row + int(np.argmax(status == 2)))
        used = status == 0
        losses = stats[:, LOSS]
        bad = used & np.isnan(losses)
        if bad.any():
            counts["nonfinite"] += int(np.count_nonzero(bad))
            self._note("nonfinite", row + int(np.argmax(bad)))
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
        sums.add(SUMS.index("lse_squared"), lse * lse)
        sums.add(SUMS.index("p_label"), p_label)
        sums.add(SUMS.index("entropy"), entropy)
        sums.add(SUMS.index("brier"), brier)
        sums.add(SUMS.index("reciprocal_rank"), 1.0 / (rank + 1.0))
        bins = np.minimum((confidence * self._bins).astype(np.int64), self._bins - 1)
        sums.add_at(len(SUMS), bins, confidence)
        self._bin_counts[0] += np.bincount(bins, minlength=self._bins)
        self._bin_counts[1] += np.bincount(bins[rank == 0], minlength=self._bins)

    def _note(self, what: str, row: int) -> None:
        """Remember the first place; the smallest wins, in whatever order blocks come."""
        before = self._first[what]
        self._first[what] = row if before is None else min(before, row)

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
        self._classes = self._classes if other._classes is None else other._classes
        self._next = max(self._next, other._next)
        for name, count in other._counts.items():
            self._counts[name] += count
        for what, row in other._first.items():
            if row is not None:
                self._note(what, row)
        for k, hits in other._hits.items():
            self._hits[k] += hits
        self._bin_counts += other._bin_counts
        self._sums.merge(other._sums)

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
            self = cls(**state["options"], logits_dtype=state["logits_dtype"])
            self._row_format = str(state["row_format"])
            self._classes = state["classes"]
            self._next = state["next"]
            self._counts = {name: int(state["counts"][name]) for name in COUNTS}
            self._first = {what: state["first"][what] for what in self._first}
            self._hits = dict(zip(self._topk, state["hits"], strict=True))
            self._bin_counts = np.array(state["bins"], np.int64).reshape(2, self._bins)
            self._sums = ExactSums.from_state(state["sums"])
            if len(self._sums) != len(SUMS) + self._bins:
                raise ValueError("wrong number of sums")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"broken state of an Evaluator: {error}") from error
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(Evaluator.from_state(state).__dict__)

    def result(self) -> Evaluation:
        """The evaluation of what was added so far."""
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
            accuracy_bound=_exp(-loss),
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
            rows.append(
                Bin(i / self._bins, (i + 1) / self._bins, count, confidence, hits / count if count else nan)
            )
        return tuple(rows)

    def _calibration_error(self, used: int) -> float:
        """ECE: sum over the bins of abs(hits - sum of confidences), over the rows."""
        if not used:
            return nan
        total = sum(
            abs(hits - self._sums[len(SUMS) + i].fraction()) for i, hits in enumerate(self._bin_counts[1].tolist())
        )
        return float(total / used)


def _positive(n: Any, name: str) -> int:
    number = operator.index(n)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


def _exp(x: float) -> float:
    out = np.empty(1)
    kernels.elementary("exp", np.array([x]), out)
    return float(out[0])


def evaluate(
    logits: ArrayLike | str | os.PathLike[str],
    labels: ArrayLike | str | os.PathLike[str],
    *,
    axis: int = -1,
    topk: Iterable[int] = (1, 5),
    bins: int = 15,
    ignore_index: int = -100,
    logits_dtype: str | None = None,
    progress: Progress = False,
) -> Evaluation:
    """Everything about one model's outputs, from one read of the logits.

    Parameters
    ----------
    logits
        Array of shape (..., C), or with the class axis elsewhere and `axis` saying where; or the path of a ``.npy``
        file of any size, which is streamed. Dtypes as `cross_entropy` takes them.
    labels
        Class indices of the logits' shape without the class axis: an array or the path of a ``.npy`` file.
    axis
        The class axis of an array; of a file it is always the last one.
    topk, bins, ignore_index, logits_dtype
        As `Evaluator` has them.
    progress
        True shows a bar on the terminal; a function is called with (rows done, all rows).

    Returns
    -------
    Evaluation
        Loss with its error, perplexity, accuracy, ranks, entropy, Brier score and calibration.

    Raises
    ------
    TypeError, ValueError
        For dtypes and shapes that do not fit; `FormatError` for a file that cannot be read.
    FileNotFoundError
        Where there is no such file.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> result = fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1])
    >>> round(result.cross_entropy, 6), result.accuracy
    (0.410038, 0.5)
    """
    source = as_source(logits, axis)
    targets = as_source(labels)
    classes = _check_shapes(source, targets, axis)
    evaluator = Evaluator(topk=topk, bins=bins, ignore_index=ignore_index, logits_dtype=logits_dtype)
    rows = prod(targets.shape)
    row_bytes = classes * source.dtype.itemsize
    step = max(1, min(1 << 18, BLOCK_BYTES // row_bytes))
    ranges = [(row, min(row + step, rows)) for row in range(0, rows, step)]
    if not ranges:  # nothing to read, but the dtypes are checked all the same
        evaluator.update(np.empty((0, classes), source.dtype), np.empty(0, targets.dtype))
    with progress_bar(progress, rows, source.name) as done:
        for block, some in read_ahead((source, targets), ranges, (row_bytes, targets.dtype.itemsize)):
            evaluator.update(block, some.reshape(-1))
            done(len(block))
    result = evaluator.result()
    result.provenance.update(
        logits={"name": source.name, "shape": list(source.shape), "dtype": str(source.dtype)},
        labels={"name": targets.name, "shape": list(targets.shape), "dtype": str(targets.dtype)},
    )
    return result


def _check_shapes(source: Source, targets: Source, axis: int) -> int:
    """The number of classes; every mismatch is named before anything is read."""
    if not source.shape:
        raise ValueError(f"{source.name} has no dimension, so no class axis")
    if not source.in_memory and operator.index(axis) not in (-1, len(source.shape) - 1):
        raise ValueError(f"the class axis of a file is its last one; {source.name} cannot be read along axis {axis}")
    wanted, classes = source.shape[:-1], source.shape[-1]
    if classes == 0:
        raise ValueError(f"{source.name} of shape {source.shape} has no class")
    if targets.shape != wanted:
        raise ValueError(
            f"labels have shape {targets.shape}, but logits of shape {source.shape} want {wanted}"
            + (f" ({targets.name}, {source.name})" if not targets.in_memory or not source.in_memory else "")
        )
    return classes
