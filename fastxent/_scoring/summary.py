"""From the parts of an Evaluator to its Evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent import _dispatch
from fastxent._accumulators.curve import Curve
from fastxent._accumulators.keyed import Keyed
from fastxent._accumulators.means import Means
from fastxent._accumulators.quotients import cluster_error, mean_error, quotients, weighted_error
from fastxent._counts import entropy, exp, exps, mutual_information
from fastxent._exact import SCALE, quotient, to_float
from fastxent._scoring.histogram import histogram
from fastxent._scoring.parts import GROUP_MEANS, GROUP_SUMS, Layout, hits_of
from fastxent._version import __version__
from fastxent.results import Bin, Classes, Evaluation, Groups, Worst

LN2 = 0.6931471805599453
QUANTILES = {
    "min": Fraction(0),
    **{f"{p}%": Fraction(p) / 100 for p in ("0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9")},
    "max": Fraction(1),
}


def summary(
    layout: Layout,
    counts: Mapping[str, int],
    first: Mapping[str, int | None],
    parts: Mapping[str, Any],
    *,
    topk: tuple[int, ...],
    bins: int,
    row_format: str,
    options: dict[str, Any],
) -> Evaluation:
    """Everything that the parts hold."""
    means: Means = parts["means"]
    used = parts["quantiles"].count
    loss, loss_error = means.mean("loss"), means.stderr("loss")
    perplexity = exp(loss)
    reliability, ece, mce = calibration(parts["bins"], bins, layout.weighted)
    labels = label_masses(parts, layout)
    label_entropy = entropy(labels) if labels is not None and labels.any() else nan
    groups, cluster_errors = by_group(parts.get("groups"), layout, topk)
    values = parts["quantiles"].many(tuple(QUANTILES.values()))
    worst = parts["worst"]
    return Evaluation(
        rows=counts["rows"],
        used=used,
        ignored=counts["ignored"],
        invalid=counts["invalid"],
        nonfinite=counts["nonfinite"],
        masked=counts["masked"],
        infinite=counts["infinite"],
        first_invalid=first["invalid"],
        first_nonfinite=first["nonfinite"],
        weight=to_float(means.weight()),
        cross_entropy=loss,
        cross_entropy_stderr=loss_error,
        cross_entropy_cluster_stderr=cluster_errors["loss"],
        bits=loss / LN2,
        perplexity=perplexity,
        perplexity_stderr=perplexity * loss_error,
        bits_per_byte=means.ratio("loss", "byte_counts") / LN2 if layout.bytes else nan,
        word_perplexity=exp(means.ratio("loss", "word_counts")) if layout.words else nan,
        quantiles=dict(zip(QUANTILES, values, strict=True)),
        quantiles_exact=parts["quantiles"].exact,
        histogram=histogram(parts["quantiles"]),
        z_loss=means.mean("lse_squared"),
        # the last bit of rounding apart, never above the next (Jensen)
        accuracy_bound=min(exp(-loss), means.mean("p_label")) if used else nan,
        expected_accuracy=means.mean("p_label"),
        expected_accuracy_stderr=means.stderr("p_label"),
        label_entropy=label_entropy,
        explained=1.0 - loss / label_entropy if label_entropy > 0.0 else nan,
        accuracy=means.mean("accuracy"),
        accuracy_stderr=means.share_error("accuracy"),
        accuracy_cluster_stderr=cluster_errors["accuracy"],
        topk={k: means.mean(f"top{k}") for k in topk},
        topk_stderr={k: means.share_error(f"top{k}") for k in topk},
        mean_rank=means.mean("rank"),
        mean_reciprocal_rank=means.mean("reciprocal_rank"),
        entropy=means.mean("entropy"),
        entropy_stderr=means.stderr("entropy"),
        brier=means.mean("brier"),
        brier_stderr=means.stderr("brier"),
        ece=ece,
        mce=mce,
        reliability=reliability,
        groups=groups,
        classes=by_class(parts, layout),
        worst=tuple(
            Worst(*row)
            for row in zip(worst.rows.tolist(), worst.values.tolist(), *worst.columns.tolist(), strict=True)
        ),
        temperatures=_curve(parts["curve"], bins, layout.weighted) if "curve" in parts else (),
        provenance={
            "fastxent": __version__,
            "row_format": row_format,
            "level": _dispatch.level,
            "classes": layout.classes,
            "options": options,
        },
    )


def calibration(table: Keyed, bins: int, weighted: bool) -> tuple[tuple[Bin, ...], float, float]:
    """The reliability table; ECE (sum over the bins of abs(hits - sum of confidences), over the rows); largest gap."""
    keys, counts = table.counts()
    found, shift = table.totals(0)
    confidences = [one or 0 for one in found]
    if weighted:
        hits, weights = ([one or 0 for one in table.totals(i)[0]] for i in (1, 2))
    else:
        # in the unit of the sums
        weights, hits = ([n << (SCALE - shift) for n in counts[:, i].tolist()] for i in (0, 1))
    places = {key: i for i, key in enumerate(keys.tolist())}
    rows, gaps = [], []
    for i in range(bins):
        low, high, place = i / bins, (i + 1) / bins, places.get(i)
        if place is None or not weights[place]:
            rows.append(Bin(low, high, 0 if place is None else int(counts[place, 0]), nan, nan))
            continue
        confidence, accuracy = quotient(confidences[place], weights[place]), quotient(hits[place], weights[place])
        rows.append(Bin(low, high, int(counts[place, 0]), confidence, accuracy))
        gaps.append(abs(accuracy - confidence))
    total = sum(weights)
    if not total:
        return tuple(rows), nan, nan
    gap = sum(abs(h - c) for h, c in zip(hits, confidences, strict=True))
    return tuple(rows), quotient(gap, total), max(gaps)


def _curve(curve: Curve, bins: int, weighted: bool) -> tuple[dict[str, float], ...]:
    rows = []
    for temperature, means, table in zip(curve.temperatures, curve.means, curve.bins, strict=True):
        loss, error = means.mean("loss"), means.stderr("loss")
        _, ece, mce = calibration(table, bins, weighted)
        rows.append(
            {
                "temperature": temperature,
                "cross_entropy": loss,
                "cross_entropy_stderr": error,
                "perplexity": exp(loss),
                "entropy": means.mean("entropy"),
                "ece": ece,
                "mce": mce,
            }
        )
    return tuple(rows)


def label_masses(parts: Mapping[str, Any], layout: Layout) -> NDArray[np.float64] | None:
    """The weight of each label that occurs: its count where there are no weights. None where labels are not counted."""
    if "labels" not in parts:
        return None
    table: Keyed = parts["labels"]
    if layout.weighted:
        return np.array([one.value() for one in table.sums(int(layout.by_class))])
    return table.counts()[1][:, 0].astype(np.float64)


def by_class(parts: Mapping[str, Any], layout: Layout) -> Classes | None:
    """The table by class."""
    if not layout.by_class or layout.classes is None:
        return None
    c = layout.classes
    count, predicted, hits = (np.zeros(c, np.int64) for _ in range(3))
    loss = np.full(c, nan)
    keys, numbers = parts["confusion"].counts()
    labels, predictions = keys // c, keys % c
    np.add.at(count, labels, numbers[:, 0])
    np.add.at(predicted, predictions, numbers[:, 0])
    hits[labels[labels == predictions]] = numbers[labels == predictions, 0]
    there, of_label = parts["labels"].counts()
    sums, shift = parts["labels"].totals(0)
    if layout.weighted:
        masses = parts["labels"].totals(1)[0]
    else:
        masses = [n << (SCALE - shift) for n in of_label[:, 0].tolist()]  # in the unit of the sums
    loss[there] = quotients(sums, masses)
    with np.errstate(invalid="ignore"):
        return Classes(
            count=count,
            predicted=predicted,
            cross_entropy=loss,
            precision=hits / predicted,
            recall=hits / count,
            confusion=np.stack([labels, predictions, numbers[:, 0]], axis=1),
            mutual_information=mutual_information(labels, predictions, numbers[:, 0]),
        )


def by_group(
    table: Keyed | None, layout: Layout, topk: tuple[int, ...]
) -> tuple[Groups | None, dict[str, float]]:
    """The table by group, and the cluster-robust errors of the mean loss and of the accuracy."""
    if table is None:
        return None, {"loss": nan, "accuracy": nan}
    keys, counts = table.counts()
    loss, shift = table.totals(0)
    unit = 1 << (SCALE - shift)  # of all sums: the numbers are integers over it

    def sums(first: int, many: int = 1) -> list[list[int | None]]:
        return [table.totals(i)[0] for i in range(first, first + many)]

    used, names, many = counts[:, 1].tolist(), hits_of(topk), len(hits_of(topk))
    (squares,) = sums(1)
    weights: list[int | None]
    if layout.weighted:
        weights, weight_squares, with_weight = sums(GROUP_SUMS, 3)
        hits = sums(GROUP_SUMS + 3, many)
        (hit_squares,) = sums(GROUP_SUMS + 3 + many)
        counted = counts[:, 2].tolist()
        errors, hit_errors = (
            [weighted_error(n, *row, unit=unit) for n, *row in zip(counted, *of, weights, weight_squares, strict=True)]
            for of in ((loss, squares, with_weight), (hits[0], hit_squares, hit_squares))
        )
        lengths_at = 3
    else:
        weights = [n * unit for n in used]
        hits = [[n * unit for n in counts[:, 2 + i].tolist()] for i in range(many)]
        errors = [mean_error(*row, unit) for row in zip(used, loss, squares, strict=True)]
        # the square of a hit is the hit: the binomial error
        hit_errors = [mean_error(n, hit, hit, unit) for n, hit in zip(used, hits[0], strict=True)]
        lengths_at = 2 + many
    shares = {name: quotients(some, weights) for name, some in zip(names, hits, strict=True)}
    means = {name: quotients(some, weights) for name, some in zip(GROUP_MEANS, sums(2, len(GROUP_MEANS)), strict=True)}
    mean_loss = quotients(loss, weights)
    extra = {}
    for name, there, place in (("bytes", layout.bytes, 0), ("words", layout.words, int(layout.bytes))):
        per = np.full(len(used), nan)
        if there:
            lengths: list[int | None] = [n * unit for n in counts[:, lengths_at + place].tolist()]
            if layout.weighted:
                (lengths,) = sums(GROUP_SUMS + 4 + many + place)
            per = quotients(loss, lengths)
        extra[name] = per
    groups = Groups(
        name=keys,
        rows=counts[:, 0].copy(),
        used=counts[:, 1].copy(),
        cross_entropy=mean_loss,
        cross_entropy_stderr=np.array(errors, np.float64),
        bits=mean_loss / LN2,
        perplexity=exps(mean_loss),
        accuracy=shares["accuracy"],
        accuracy_stderr=np.array(hit_errors, np.float64),
        topk={k: shares[f"top{k}"] for k in topk},
        expected_accuracy=means["p_label"],
        mean_rank=means["rank"],
        mean_reciprocal_rank=means["reciprocal_rank"],
        entropy=means["entropy"],
        brier=means["brier"],
        bits_per_byte=extra["bytes"] / LN2,
        word_perplexity=exps(extra["words"]),
        macro=_macro(np.array(used, np.int64), mean_loss, shares["accuracy"], means["p_label"]),
    )
    cluster = {"loss": cluster_error(used, loss, weights), "accuracy": cluster_error(used, hits[0], weights)}
    return groups, cluster


def _macro(
    used: NDArray[np.int64],
    loss: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> dict[str, float]:
    out: dict[str, float] = {"groups": float(np.count_nonzero(used))}
    for name, column in (("cross_entropy", loss), ("accuracy", accuracy), ("expected_accuracy", expected)):
        means = Means(["x"], [("x", "x")])
        means.add({"x": np.ascontiguousarray(column[~np.isnan(column)])})
        out[name], out[f"{name}_stderr"] = means.mean("x"), means.stderr("x")
    out["bits"], out["perplexity"] = out["cross_entropy"] / LN2, exp(out["cross_entropy"])
    out["perplexity_stderr"] = out["perplexity"] * out["cross_entropy_stderr"]
    return out
