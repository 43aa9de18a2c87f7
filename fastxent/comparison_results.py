"""What a comparison found, as attributes, as a dictionary and as JSON has it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._scoring.tables import Named, plain

SCHEMA = 1  # of `Comparison.to_dict`


@dataclass(frozen=True)
class Bucket:
    """Rows whose base model's largest probability lies in [lower, upper), and how the models differ there."""

    lower: float
    upper: float
    count: int
    kl_mean: float
    kl_mean_stderr: float
    same_top: float
    ppl: float  # NaN without labels, as the next one
    ppl_base: float


@dataclass(frozen=True)
class Apart:
    """A row of one of the largest KL divergences."""

    row: int
    kl: float
    label: int | None
    prediction_base: int
    prediction: int


@dataclass(frozen=True)
class ComparedGroup:
    """The numbers of one group; `ComparedGroups` says what they are."""

    name: int | str
    rows: int
    used: int
    kl_mean: float
    kl_mean_stderr: float
    same_top: float
    ppl: float
    ppl_base: float


@dataclass(frozen=True, eq=False)
class ComparedGroups(Named[ComparedGroup]):
    """The numbers of each group, a column each, the groups in order; an item is a `ComparedGroup`.

    Attributes
    ----------
    name
        The group's number or string.
    rows, used
        All rows, and those in the means.
    kl_mean, kl_mean_stderr, same_top, ppl, ppl_base
        As `Comparison` has them, of the group's rows.
    """

    name: NDArray[Any]
    rows: NDArray[np.int64]
    used: NDArray[np.int64]
    kl_mean: NDArray[np.float64]
    kl_mean_stderr: NDArray[np.float64]
    same_top: NDArray[np.float64]
    ppl: NDArray[np.float64]
    ppl_base: NDArray[np.float64]

    ITEM = ComparedGroup


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found. Means are over the `used` rows; P is the base model, Q the other.

    What wants labels is NaN without them. Names and formulas of the lines about perplexity, KL divergence and token
    probability are those of llama.cpp's ``llama-perplexity --kl-divergence``. Errors are for independent rows; with
    `sample_weight` means and errors are weighted as `Evaluation` says, while counts, quantiles and worst rows count
    each row once.

    Attributes
    ----------
    rows, used, ignored, invalid, nonfinite, masked, infinite, infinite_kl
        Counts: all rows; those in the means; label equal to ignore_index; label out of range; rows of which either
        model is no distribution (a NaN or inf, or all -inf); left out by `mask`, `lengths` or `shift`; either loss inf;
        KL inf (these two stay in the means).
    first_invalid, first_nonfinite
        Row number of the first of each, or None.
    weight
        Sum of the weights of the used rows; without weights their number.
    cross_entropy, cross_entropy_base, accuracy, accuracy_base
        Mean loss in nats and share of hits of either model.
    ppl, ppl_base
        exp of the mean loss; the error is that times the loss's.
    log_ppl_correlation
        Correlation of the two means: their covariance over the product of their errors.
    log_ppl_ratio, ppl_ratio, ppl_difference
        ln(ppl / ppl_base), with the error sqrt(s^2 + s_b^2 - 2 cov); its exp; ppl - ppl_base.
    kl_mean, kl_min, kl_median, kl_max, kl_quantiles
        KL(P || Q) in nats; quantiles interpolate linearly, by name.
    kl_cutoff
        Where not None, KL terms of classes with log p_base up to it were skipped, as llama.cpp does with -16.
    reverse_kl_mean, js_mean, tv_mean
        KL(Q || P), Jensen-Shannon divergence (nats) and total variation distance (0 to 1).
    delta_p_mean, delta_p_rms, delta_p_quantiles
        p_Q(label) - p_P(label); the error of the root mean square is 0.5 / rms times that of the mean square.
    quantiles_exact
        Whether quantiles are exact, or each order statistic is within 0.5 % (more than 2^20 rows).
    same_top
        Share of rows with the same first arg max.
    topk_agreement
        For each k the share of rows whose k largest classes are the same, ``ordered`` and as a ``set``, with errors.
        Equal logits are ordered by column.
    entropy, entropy_base
        Mean entropy of the predictions in nats.
    kl_by_confidence
        `Bucket` by bucket of the base model's largest probability.
    groups
        A `ComparedGroups`, or None.
    kl_mean_cluster_stderr, log_ppl_ratio_cluster_stderr, same_top_cluster_stderr
        Errors for rows that are independent between groups only. NaN without groups.
    worst
        The rows of the largest KL, `Apart`, the largest first and equal ones by row number.
    provenance
        Version, row format, level, options, names, shapes, dtypes and fingerprints.
    """

    rows: int
    used: int
    ignored: int
    invalid: int
    nonfinite: int
    masked: int
    infinite: int
    infinite_kl: int
    first_invalid: int | None
    first_nonfinite: int | None
    weight: float
    cross_entropy: float = nan
    cross_entropy_stderr: float = nan
    cross_entropy_base: float = nan
    cross_entropy_base_stderr: float = nan
    ppl: float = nan
    ppl_stderr: float = nan
    ppl_base: float = nan
    ppl_base_stderr: float = nan
    log_ppl_correlation: float = nan
    log_ppl_ratio: float = nan
    log_ppl_ratio_stderr: float = nan
    log_ppl_ratio_cluster_stderr: float = nan
    ppl_ratio: float = nan
    ppl_ratio_stderr: float = nan
    ppl_difference: float = nan
    ppl_difference_stderr: float = nan
    kl_mean: float
    kl_mean_stderr: float
    kl_mean_cluster_stderr: float = nan
    kl_max: float
    kl_min: float
    kl_median: float
    kl_quantiles: dict[str, float]
    kl_cutoff: float | None = None
    reverse_kl_mean: float
    reverse_kl_mean_stderr: float
    js_mean: float
    js_mean_stderr: float
    tv_mean: float
    tv_mean_stderr: float
    delta_p_mean: float = nan
    delta_p_mean_stderr: float = nan
    delta_p_rms: float = nan
    delta_p_rms_stderr: float = nan
    delta_p_quantiles: dict[str, float] = field(default_factory=dict)
    quantiles_exact: bool
    same_top: float
    same_top_stderr: float
    same_top_cluster_stderr: float = nan
    topk_agreement: dict[int, dict[str, float]]
    accuracy: float = nan
    accuracy_stderr: float = nan
    accuracy_base: float = nan
    accuracy_base_stderr: float = nan
    entropy: float
    entropy_stderr: float
    entropy_base: float
    entropy_base_stderr: float
    kl_by_confidence: tuple[Bucket, ...]
    groups: ComparedGroups | None = None
    worst: tuple[Apart, ...] = ()
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: infinities and NaN as "inf", "-inf", "nan", dictionary keys as text.

        What needs labels is null where there were none.
        """
        out = {"schema": SCHEMA, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}
        if not self.provenance.get("labelled", True):
            for name in ("kl_by_confidence", "worst", "groups"):
                rows = out[name] or []
                out[name] = out[name] and [{k: v for k, v in row.items() if k not in LABELLED} for row in rows]
            out |= dict.fromkeys(LABELLED & out.keys())
        return out


LABELLED = {"label", "delta_p_quantiles", *(f.name for f in fields(Comparison) if f.default is nan)} - {
    "kl_mean_cluster_stderr", "same_top_cluster_stderr",
}  # fmt: skip
