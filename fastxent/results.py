"""What an evaluation found, as attributes, as a dictionary and as JSON has it (docs/json.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._scoring.tables import Named, Table, plain

SCHEMA = 2  # of `Evaluation.to_dict`, described in docs/json.md


@dataclass(frozen=True)
class Bin:
    """One line of the reliability table: rows whose largest probability lies in [lower, upper)."""

    lower: float
    upper: float
    count: int
    confidence: float  # mean
    accuracy: float


@dataclass(frozen=True)
class Histogram:
    """How many rows have a loss from each edge to below the next; one edge more than counts, always the same edges.

    They are 0, the powers of two from 2^-40 to 1/16, from there on four to each octave, up to 256, and inf.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Worst:
    """A row of one of the largest losses."""

    row: int
    loss: float
    label: int
    prediction: int


@dataclass(frozen=True)
class Group:
    """The numbers of one group; `Groups` says what they are."""

    name: int | str
    rows: int
    used: int
    cross_entropy: float
    cross_entropy_stderr: float
    bits: float
    perplexity: float
    accuracy: float
    accuracy_stderr: float
    topk: dict[int, float]
    expected_accuracy: float
    mean_rank: float
    mean_reciprocal_rank: float
    entropy: float
    brier: float
    bits_per_byte: float
    word_perplexity: float


@dataclass(frozen=True, eq=False)
class Groups(Named[Group]):
    """The numbers of each group, a column each, the groups in order; an item is a `Group`.

    Attributes
    ----------
    name
        The group's number or string.
    rows, used
        All rows, and those in the means.
    cross_entropy, cross_entropy_stderr, bits, perplexity, accuracy, accuracy_stderr, topk, expected_accuracy
    mean_rank, mean_reciprocal_rank, entropy, brier
        As `Evaluation` has them, of the group's rows; `topk` a column for each k.
    bits_per_byte, word_perplexity
        Of the group's rows; NaN without counts of bytes or words.
    macro
        Means over the groups that have used rows, each counting the same: cross_entropy, bits, perplexity (exp of the
        mean loss), accuracy, expected_accuracy, and their errors `<name>_stderr` over the groups.
    """

    name: NDArray[Any]
    rows: NDArray[np.int64]
    used: NDArray[np.int64]
    cross_entropy: NDArray[np.float64]
    cross_entropy_stderr: NDArray[np.float64]
    bits: NDArray[np.float64]
    perplexity: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    accuracy_stderr: NDArray[np.float64]
    topk: dict[int, NDArray[np.float64]]
    expected_accuracy: NDArray[np.float64]
    mean_rank: NDArray[np.float64]
    mean_reciprocal_rank: NDArray[np.float64]
    entropy: NDArray[np.float64]
    brier: NDArray[np.float64]
    bits_per_byte: NDArray[np.float64]
    word_perplexity: NDArray[np.float64]
    macro: dict[str, float]

    ITEM = Group
    OPTIONAL = ("bits_per_byte", "word_perplexity")


@dataclass(frozen=True)
class Class:
    """The numbers of one class; `Classes` says what they are."""

    count: int
    predicted: int
    cross_entropy: float
    precision: float
    recall: float


@dataclass(frozen=True, eq=False)
class Classes(Table[Class]):
    """The numbers of each class, a column each: item c is class c's. Rows count the same here, whatever their weights.

    Attributes
    ----------
    count, predicted
        Used rows with this label; with this prediction (the first arg max).
    cross_entropy
        Mean loss of the rows with this label (weighted where there are weights).
    precision, recall
        Share of the predictions of a class that are right; share of its rows that are predicted so.
    confusion
        Rows of (label, prediction, count), for the pairs that occur; `table` makes the square table of it.
    mutual_information
        Of label and prediction, in nats.
    """

    count: NDArray[np.int64]
    predicted: NDArray[np.int64]
    cross_entropy: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    confusion: NDArray[np.int64]
    mutual_information: float

    ITEM = Class

    def dictionaries(self) -> list[dict[str, Any]]:
        """A dictionary a class, as JSON has it."""
        return [{"class": i, **row} for i, row in enumerate(super().dictionaries())]

    def table(self) -> NDArray[np.int64]:
        """Counts of shape (C, C): labels down, predictions across."""
        out = np.zeros((self.count.size, self.count.size), np.int64)
        out[self.confusion[:, 0], self.confusion[:, 1]] = self.confusion[:, 2]
        return out


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluate` found. Means are over the `used` rows; NaN where there are none.

    With `sample_weight` means and shares are weighted, sum(w x) / sum(w), and so are the calibration, the entropy of
    the labels and the groups; their errors are sqrt(n / (n - 1) sum(w^2 (x - mean)^2)) / sum(w), n the rows of weight
    above 0. Counts, quantiles, histogram, worst rows and the counts by class count each row once.

    Attributes
    ----------
    rows, used, ignored, invalid, nonfinite, masked, infinite
        Counts: all rows; those in the means; label equal to ignore_index; label out of range; loss NaN (a NaN or inf in
        the row, or all -inf); left out by `mask`, `lengths` or `shift`; loss inf (label on a class of logit -inf; these
        stay in the means).
    first_invalid, first_nonfinite
        Row number of the first of each, or None.
    weight
        Sum of the weights of the used rows; without weights their number.
    cross_entropy, cross_entropy_stderr, bits
        Mean loss in nats, its standard error for independent rows, and the mean in bits.
    cross_entropy_cluster_stderr, accuracy_cluster_stderr
        Errors for rows that are independent between groups only: with e_g the sum over group g of w (x - mean),
        sqrt(G / (G - 1) sum(e_g^2)) / sum(w) (Liang and Zeger, Biometrika 73, 1986; Cameron and Miller, J. Human
        Resources 50, 2015, whose correction G / (G - 1) (N - 1) / (N - K) has K = 1 here). NaN without groups.
    perplexity, perplexity_stderr
        exp(cross_entropy), and its error to first order.
    bits_per_byte, word_perplexity
        Loss in bits over the number of bytes of the used rows; exp(loss over the number of words). NaN without counts.
    quantiles, quantiles_exact
        Of the row loss, by name: "min", "0.1%", ... "max"; whether they are exact, or each order statistic is within
        0.5 % (more than 2^20 rows).
    histogram
        Of the row loss: a `Histogram`, whose counts are exact.
    z_loss
        Mean squared log-sum-exp.
    accuracy_bound, expected_accuracy
        exp(-cross_entropy), never above the second, the mean probability of the label (Jensen's inequality).
    label_entropy, explained
        Entropy of the labels' own frequencies in nats: the loss of always predicting these; 1 - cross_entropy /
        label_entropy. NaN beyond 2^22 classes.
    accuracy, accuracy_stderr, topk, topk_stderr
        Share of rows whose label is the first arg max; share of rows whose label is among the k largest, by k.
    mean_rank, mean_reciprocal_rank
        Rank: the number of classes before the label (0: none); 1 / (1 + rank).
    entropy, brier
        Mean entropy of the predictions in nats; mean sum over classes of (p - onehot)^2, between 0 and 2.
    ece, mce, reliability
        Expected and largest calibration error over bins of equal width of the largest probability, and the bins.
    groups
        A `Groups`, or None.
    classes
        A `Classes` up to 4096 classes, else None.
    worst
        The rows of the largest losses, `Worst`, the largest first and equal ones by row number.
    temperatures
        A dictionary for each temperature of a grid: temperature, cross_entropy, ece and the like. Empty without.
    calibration
        What `fit_temperature` found, where it was asked for: temperature, and cross_entropy, ece, mce and reliability
        before and after. Or None.
    provenance
        Version, row format, level, options, names, shapes, dtypes and fingerprints.
    """

    rows: int
    used: int
    ignored: int
    invalid: int
    nonfinite: int
    masked: int = 0
    infinite: int
    first_invalid: int | None
    first_nonfinite: int | None
    weight: float = nan
    cross_entropy: float
    cross_entropy_stderr: float
    cross_entropy_cluster_stderr: float = nan
    bits: float
    perplexity: float
    perplexity_stderr: float
    bits_per_byte: float = nan
    word_perplexity: float = nan
    quantiles: dict[str, float] = field(default_factory=dict)
    quantiles_exact: bool = True
    histogram: Histogram | None = None
    z_loss: float
    accuracy_bound: float
    expected_accuracy: float
    expected_accuracy_stderr: float = nan
    label_entropy: float = nan
    explained: float = nan
    accuracy: float
    accuracy_stderr: float
    accuracy_cluster_stderr: float = nan
    topk: dict[int, float]
    topk_stderr: dict[int, float] = field(default_factory=dict)
    mean_rank: float
    mean_reciprocal_rank: float
    entropy: float
    entropy_stderr: float = nan
    brier: float
    brier_stderr: float = nan
    ece: float
    mce: float
    reliability: tuple[Bin, ...]
    groups: Groups | None = None
    classes: Classes | None = None
    worst: tuple[Worst, ...] = ()
    calibration: dict[str, Any] | None = None
    temperatures: tuple[dict[str, float], ...] = ()
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: infinities and NaN as "inf", "-inf", "nan", dictionary keys as text."""
        out = {"schema": SCHEMA, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}
        out["macro"] = plain(self.groups.macro) if self.groups else None
        out["mutual_information"] = plain(self.classes.mutual_information) if self.classes else None
        out["confusion"] = self.classes.confusion.tolist() if self.classes else None
        return out


def wrong_rows(invalid: int, first_invalid: int | None, nonfinite: int, first_nonfinite: int | None) -> str:
    """Invalid labels and non-finite rows in words; nothing where there are none."""
    return "; ".join(
        f"{count:,} {name if count > 1 else name[:-1]}, the first in row {first}"
        for count, name, first in (
            (invalid, "invalid labels", first_invalid),
            (nonfinite, "non-finite rows", first_nonfinite),
        )
        if count
    )
