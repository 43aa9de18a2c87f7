"""From the parts of a Comparator to its Comparison."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import inf, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent import _dispatch
from fastxent._accumulators.keyed import Keyed
from fastxent._accumulators.means import Means
from fastxent._accumulators.quotients import cluster_error, mean_error, quotients, weighted_error
from fastxent._counts import exp, exps
from fastxent._exact import SCALE, quotient, to_float
from fastxent._scoring.compared import EDGES, PairLayout
from fastxent._version import __version__
from fastxent.comparison_results import Apart, Bucket, ComparedGroups, Comparison

_PERCENT = {f"{p}%": Fraction(p) / 100 for p in ("0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9")}
DELTA_P_QUANTILES = {"min": Fraction(0), **_PERCENT, "max": Fraction(1)}
KL_QUANTILES = {name: at for name, at in DELTA_P_QUANTILES.items() if name not in ("25%", "75%")}


def summary(
    layout: PairLayout,
    counts: Mapping[str, int],
    first: Mapping[str, int | None],
    parts: Mapping[str, Any],
    *,
    topk: tuple[int, ...],
    row_format: str,
    options: dict[str, Any],
) -> Comparison:
    """Everything that the parts hold."""
    means: Means = parts["means"]
    quantiles = dict(zip(KL_QUANTILES, parts["kl_quantiles"].many(tuple(KL_QUANTILES.values())), strict=True))
    plain = {"kl": "kl_mean", "reverse_kl": "reverse_kl_mean", "js": "js_mean", "tv": "tv_mean"}
    plain |= {name: name for name in ("same_top", "entropy", "entropy_base")}
    found: dict[str, Any] = {}
    for column, name in plain.items():
        found[name], found[f"{name}_stderr"] = means.mean(column), means.stderr(column)
    worst = parts["worst"]
    apart = worst.columns if layout.labelled else [[None] * worst.rows.size, *worst.columns.tolist()]
    groups, cluster = _groups(parts.get("groups"), layout)
    found |= counts
    found |= _labelled(means, parts["delta_p_quantiles"]) if layout.labelled else {}
    found |= cluster
    return Comparison(
        used=parts["kl_quantiles"].count,
        first_invalid=first["invalid"],
        first_nonfinite=first["nonfinite"],
        weight=to_float(means.weight()),
        **found,
        kl_max=quantiles["max"],
        kl_min=quantiles["min"],
        kl_median=quantiles["50%"],
        kl_quantiles=quantiles,
        kl_cutoff=options["kl_cutoff"],
        quantiles_exact=parts["kl_quantiles"].exact,
        topk_agreement={
            k: {
                f"{how}{end}": of(f"{how}{k}")
                for how in ("ordered", "set")
                for end, of in (("", means.mean), ("_stderr", means.stderr))
            }
            for k in topk
        },
        kl_by_confidence=_buckets(parts["confidence"], layout),
        groups=groups,
        worst=tuple(
            Apart(*row)
            for row in zip(
                worst.rows.tolist(),
                worst.values.tolist(),
                *(column if isinstance(column, list) else column.tolist() for column in apart),
                strict=True,
            )
        ),
        provenance={
            "fastxent": __version__,
            "row_format": row_format,
            "level": _dispatch.level,
            "classes": layout.classes,
            "labelled": layout.labelled,
            "options": options,
        },
    )


def _labelled(means: Means, delta_p: Any) -> dict[str, Any]:
    """The lines on perplexity and on the label's probability; llama.cpp, tools/perplexity/perplexity.cpp."""
    loss, base = means.mean("loss"), means.mean("loss_base")
    error, base_error = means.stderr("loss"), means.stderr("loss_base")
    ppl, ppl_base = exp(loss), exp(base)
    # exact, for models that differ little would leave nothing of sums that were rounded before
    difference, ratio_error, correlation, difference_error = loss - base, nan, nan, nan
    if -inf < difference < inf:
        difference = means.difference("loss", "loss_base")
    of_both, of_own, of_base = (
        means.covariance(*pair) for pair in (("loss", "loss_base"), ("loss", "loss"), ("loss_base", "loss_base"))
    )
    if of_both is not None and of_own is not None and of_base is not None:
        (both, unit), (own, _), (own_base, _) = of_both, of_own, of_base
        ratio_error = sqrt(quotient(max(0, own + own_base - 2 * both), unit))
        if error > 0.0 and base_error > 0.0:
            correlation = max(-1.0, min(1.0, quotient(both, unit) / (error * base_error)))
        if ppl < inf and ppl_base < inf:
            (p, over_p), (q, over_q) = ppl.as_integer_ratio(), ppl_base.as_integer_ratio()
            p, q = p * over_q, q * over_p
            squares = p * p * own + q * q * own_base - 2 * p * q * both
            difference_error = sqrt(quotient(max(0, squares), unit * (over_p * over_q) ** 2))
    ratio = exp(difference)
    square, square_error = means.mean("delta_p_squared"), means.stderr("delta_p_squared")
    rms = sqrt(square)
    found = {
        "cross_entropy": loss,
        "cross_entropy_stderr": error,
        "cross_entropy_base": base,
        "cross_entropy_base_stderr": base_error,
        "ppl": ppl,
        "ppl_stderr": ppl * error,
        "ppl_base": ppl_base,
        "ppl_base_stderr": ppl_base * base_error,
        "log_ppl_correlation": correlation,
        "log_ppl_ratio": difference,
        "log_ppl_ratio_stderr": ratio_error,
        "ppl_ratio": ratio,
        "ppl_ratio_stderr": ratio * ratio_error,
        "ppl_difference": ppl - ppl_base,
        "ppl_difference_stderr": difference_error,
        "delta_p_mean": means.mean("delta_p"),
        "delta_p_mean_stderr": means.stderr("delta_p"),
        "delta_p_rms": rms,
        "delta_p_rms_stderr": 0.5 / rms * square_error if rms > 0.0 else square_error,
        "delta_p_quantiles": dict(
            zip(DELTA_P_QUANTILES, delta_p.many(tuple(DELTA_P_QUANTILES.values())), strict=True)
        ),
    }
    for name in ("accuracy", "accuracy_base"):
        found[name], found[f"{name}_stderr"] = means.mean(name), means.stderr(name)
    return found


class _Table:
    """Means of each key of a table (`PairLayout.width` has its columns)."""

    def __init__(self, table: Keyed, layout: PairLayout) -> None:
        self.keys, counts = table.counts()
        self.counts = counts
        self.used = used = counts[:, 1].tolist()
        kl, shift = table.totals(0)
        unit = 1 << (SCALE - shift)  # of all sums: the numbers are integers over it
        squares = table.totals(1)[0]
        self.losses: list[list[int | None]] = []
        if layout.weighted:
            with_weight, weights, weight_squares, same = (table.totals(i)[0] for i in range(2, 6))
            some = counts[:, 2].tolist()
            errors = [
                weighted_error(*row, unit=unit)
                for row in zip(some, kl, squares, with_weight, weights, weight_squares, strict=True)
            ]
        else:
            weights = [n * unit for n in used]
            same = [n * unit for n in counts[:, 2].tolist()]
            errors = [mean_error(*row, unit) for row in zip(used, kl, squares, strict=True)]
        self.kl, self.same, self.weights = kl, same, weights
        self.kl_mean = quotients(kl, weights)
        self.kl_mean_stderr = np.array(errors, np.float64)
        self.same_top = quotients(same, weights)
        self.ppl = self.ppl_base = np.full(len(used), nan)
        if layout.labelled:
            place = 6 if layout.weighted else 2
            self.losses = [table.totals(place + i)[0] for i in range(2)]
            self.ppl, self.ppl_base = (exps(quotients(loss, weights)) for loss in self.losses)


def _groups(table: Keyed | None, layout: PairLayout) -> tuple[ComparedGroups | None, dict[str, float]]:
    """The table by group, and the cluster-robust errors."""
    if table is None:
        return None, {}
    t = _Table(table, layout)
    columns: dict[str, NDArray[Any]] = {
        name: getattr(t, name) for name in ("kl_mean", "kl_mean_stderr", "same_top", "ppl", "ppl_base")
    }
    groups = ComparedGroups(name=t.keys, rows=t.counts[:, 0].copy(), used=t.counts[:, 1].copy(), **columns)
    found = {
        "kl_mean_cluster_stderr": cluster_error(t.used, t.kl, t.weights),
        "same_top_cluster_stderr": cluster_error(t.used, t.same, t.weights),
    }
    if layout.labelled:
        ratios = [None if a is None or b is None else a - b for a, b in zip(*t.losses, strict=True)]
        found["log_ppl_ratio_cluster_stderr"] = cluster_error(t.used, ratios, t.weights)
    return groups, found


def _buckets(table: Keyed, layout: PairLayout) -> tuple[Bucket, ...]:
    """All buckets, the empty ones too."""
    t = _Table(table, layout)
    where = {int(key): i for i, key in enumerate(t.keys)}
    ends = (0.0, *EDGES, 1.0)
    rows = []
    for bucket in range(len(EDGES) + 1):
        i = where.get(bucket)
        columns = (t.kl_mean, t.kl_mean_stderr, t.same_top, t.ppl, t.ppl_base)
        values = (nan,) * len(columns) if i is None else tuple(float(column[i]) for column in columns)
        rows.append(Bucket(ends[bucket], ends[bucket + 1], 0 if i is None else t.used[i], *values))
    return tuple(rows)
