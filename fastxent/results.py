"""What an evaluation found, as attributes, as a dictionary and as JSON has it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isinf, isnan
from typing import Any


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
