"""Everything about one model's logits."""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from fastxent.reference.arrays import Nested, as_labels
from fastxent.reference.rows import has_softmax, row_softmax, surprise, terms_of
from fastxent.reference.selection import column, rows_of, scored
from fastxent.reference.statistics import (
    cluster_error,
    entropy,
    error,
    exp_with_error,
    histogram,
    information,
    mean,
    over,
    quantiles,
    total,
)
from fastxent.reference.sums import exp, rounded

NAN = math.nan
LN2 = math.log(2.0)
MOST_CLASSES, MOST_LABELS = 1 << 12, 1 << 22  # of the table by class; of the entropy of the labels


class Score(NamedTuple):
    """What `evaluate` keeps of one row."""

    loss: float
    lse: float
    probability: float  # of the label
    confidence: float  # the largest probability
    entropy: float
    brier: float
    rank: int
    hit: float
    row: int
    label: int
    prediction: int
    weight: float
    group: Any
    bytes: int
    words: int


def evaluate(
    logits: Nested,
    labels: Nested,
    *,
    topk: Iterable[int] = (1, 5),
    bins: int = 15,
    ignore_index: int = -100,
    temperature: float = 1.0,
    temperatures: Iterable[float] = (),
    inputs: str = "logits",
    classes: int | None = None,
    binary: bool = False,
    shift: int = 0,
    lengths: Nested | None = None,
    mask: Nested | None = None,
    sample_weight: Nested | None = None,
    groups: Nested | None = None,
    byte_counts: Nested | None = None,
    word_counts: Nested | None = None,
    worst: int = 10,
) -> dict[str, Any]:
    """Evaluate one model's logits (..., C) against labels (...): loss, hits, calibration, groups and classes.

    Left out and counted, each row once and in this order: masked rows (by `mask`, `lengths` or `shift`), ignored
    labels, labels outside [0, C) (invalid), rows with a NaN, a +inf or nothing but -inf (nonfinite). Means are over the
    rest (used), NaN over no row. With `sample_weight` means are sum(w x) / sum(w); counts, quantiles, the histogram,
    the worst rows and the counts by class count each row once.

    Returns
    -------
    dict
        The fields of `fastxent.Evaluation` but for provenance and calibration; groups and classes as columns.

    Raises
    ------
    ValueError
        Besides the module's errors: there is no class; a k or a number of bins is below 1.

    Examples
    --------
    >>> report = evaluate([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [0, 1, -100])
    >>> report["used"], report["accuracy"], report["topk"]
    (2, 0.5, {1: 0.5, 5: 1.0})
    """
    ks = [operator.index(k) for k in topk]
    bins = operator.index(bins)
    if bins < 1 or any(k < 1 for k in ks):
        raise ValueError(f"bins and every k must be at least 1, not bins={bins}, topk={tuple(ks)}")
    what = {"inputs": inputs, "classes": classes, "binary": binary}
    rows, shape, width = rows_of(logits, "logits", temperature=temperature, **what)  # type: ignore[arg-type]
    n = len(rows)
    own = as_labels(labels, "labels", shape)
    given = {"sample_weight": sample_weight, "groups": groups, "byte_counts": byte_counts, "word_counts": word_counts}
    beside: dict[str, Any] = {name: [None] * n if x is None else column(x, name, shape) for name, x in given.items()}
    status = statuses(rows, own, operator.index(ignore_index), scored(shape, shift, lengths, mask), shift)
    used = [i for i in range(n) if status[i] == "used"]

    def scores_of(rows: Sequence[Sequence[float]]) -> list[Score]:
        return [
            Score(
                *_score(rows[i], own[i + shift]),
                row=i,
                label=own[i + shift],
                prediction=rows[i].index(max(rows[i])),
                weight=1.0 if sample_weight is None else float(beside["sample_weight"][i]),
                group=beside["groups"][i],
                bytes=beside["byte_counts"][i] or 0,
                words=beside["word_counts"][i] or 0,
            )
            for i in used
        ]

    scores = scores_of(rows)
    losses, w = [s.loss for s in scores], [s.weight for s in scores]
    found: dict[str, Any] = counts_of(status)
    found["infinite"] = losses.count(math.inf)
    found["weight"] = rounded(sum(map(Fraction, w), Fraction(0)))
    found |= _means(scores)
    found |= {"cross_entropy_cluster_stderr": NAN, "accuracy_cluster_stderr": NAN}
    found["bits_per_byte"] = _per(scores, "bytes") / LN2 if byte_counts is not None else NAN
    found["word_perplexity"] = exp(_per(scores, "words")) if word_counts is not None else NAN
    found |= {"quantiles": quantiles(losses), "quantiles_exact": True, "histogram": histogram(losses)}
    masses: dict[int, float] = {}
    for s in scores:
        masses[s.label] = masses.get(s.label, 0.0) + s.weight
    found["label_entropy"] = entropy(list(masses.values())) if width <= MOST_LABELS else NAN
    loss, of_labels = found["cross_entropy"], found["label_entropy"]
    found["explained"] = 1.0 - loss / of_labels if of_labels > 0 else NAN
    found["topk"] = {k: mean([float(s.rank < k) for s in scores], w) for k in ks}
    found["topk_stderr"] = {k: error([float(s.rank < k) for s in scores], w) for k in ks}
    found["reliability"], found["ece"], found["mce"] = _calibration(scores, bins)
    found["groups"] = None
    if groups is not None:
        keys = [s.group for s in scores]
        for name, values in (("cross_entropy", losses), ("accuracy", [s.hit for s in scores])):
            found[f"{name}_cluster_stderr"] = cluster_error(values, w, keys)
        found["groups"] = _groups(scores, beside["groups"], ks, byte_counts is not None, word_counts is not None)
    found["classes"] = _classes(scores, width) if width <= MOST_CLASSES else None
    ordered = sorted(scores, key=lambda s: (-s.loss, s.row))[:worst]
    found["worst"] = [{"row": s.row, "loss": s.loss, "label": s.label, "prediction": s.prediction} for s in ordered]
    found["temperatures"] = []
    for t in temperatures:
        others = scores_of(rows_of(logits, "logits", temperature=t, **what)[0])  # type: ignore[arg-type]
        names = ("cross_entropy", "cross_entropy_stderr", "perplexity", "entropy")
        _, ece, mce = _calibration(others, bins)
        means = _means(others)
        found["temperatures"].append(
            {"temperature": float(t), **{name: means[name] for name in names}, "ece": ece, "mce": mce}
        )
    return found


def statuses(
    rows: Sequence[Sequence[float]],
    labels: Sequence[int] | None,
    ignore_index: int,
    kept: Sequence[bool],
    shift: int,
    others: Sequence[Sequence[float]] | None = None,
) -> list[str]:
    """What becomes of each row: used, or why not."""
    found = []
    for i, row in enumerate(rows):
        label = labels[i + shift] if labels is not None and kept[i] else None
        if not kept[i]:
            found.append("masked")
        elif label == ignore_index:
            found.append("ignored")
        elif label is not None and not 0 <= label < len(row):
            found.append("invalid")
        elif not has_softmax(row) or (others is not None and not has_softmax(others[i])):
            found.append("nonfinite")
        else:
            found.append("used")
    return found


def counts_of(status: Sequence[str]) -> dict[str, Any]:
    """How many rows there are of each kind, and the first of what ought not to be."""
    names = ("used", "ignored", "invalid", "nonfinite", "masked")
    first = {f"first_{what}": status.index(what) if what in status else None for what in ("invalid", "nonfinite")}
    return {"rows": len(status), **{name: status.count(name) for name in names}, **first}


def _score(row: Sequence[float], label: int) -> tuple[float, float, float, float, float, float, int, float]:
    x, p = row[label], row_softmax(row)
    top, terms, rest = terms_of(row)
    # 1 - p[label] as the others' sum, for 1 - p would cancel in a confident row.
    others = math.fsum(terms[:label] + terms[label + 1 :]) / math.fsum(terms)
    squares = [others * others] + [q * q for j, q in enumerate(p) if j != label]
    rank = sum(y > x for y in row) + sum(y == x for y in row[:label])
    return (
        surprise(x, top, rest),
        top + math.log1p(rest),
        p[label],
        max(p),
        math.fsum(q * surprise(y, top, rest) for q, y in zip(p, row, strict=True) if q > 0),
        math.fsum(squares),
        rank,
        float(rank == 0),
    )


def _means(scores: Sequence[Score]) -> dict[str, float]:
    w = [s.weight for s in scores]

    def of(value: Callable[[Score], float]) -> list[float]:
        return [value(s) for s in scores]

    found: dict[str, float] = {}
    for name, values in (
        ("cross_entropy", of(lambda s: s.loss)),
        ("expected_accuracy", of(lambda s: s.probability)),
        ("accuracy", of(lambda s: s.hit)),
        ("entropy", of(lambda s: s.entropy)),
        ("brier", of(lambda s: s.brier)),
    ):
        found[name], found[f"{name}_stderr"] = mean(values, w), error(values, w)
    loss, spread = found["cross_entropy"], found["cross_entropy_stderr"]
    found["bits"] = loss / LN2
    found["perplexity"], found["perplexity_stderr"] = exp_with_error(loss, spread)
    found["accuracy_bound"] = math.exp(-loss)
    found["z_loss"] = mean(of(lambda s: s.lse * s.lse), w)
    found["mean_rank"] = mean(of(lambda s: float(s.rank)), w)
    found["mean_reciprocal_rank"] = mean(of(lambda s: 1.0 / (s.rank + 1)), w)
    return found


def _per(scores: Sequence[Score], what: str) -> float:
    """Loss over a number of bytes or words."""
    w = [s.weight for s in scores]
    return over(total([s.loss for s in scores], w), total([float(getattr(s, what)) for s in scores], w))


def _groups(
    scores: Sequence[Score], keys: Sequence[Any], ks: Sequence[int], of_bytes: bool, of_words: bool
) -> dict[str, Any]:
    """The table by group, a column each, and the macro average: each group counts the same."""
    names = (
        "cross_entropy", "cross_entropy_stderr", "bits", "perplexity", "accuracy", "accuracy_stderr",
        "expected_accuracy", "mean_rank", "mean_reciprocal_rank", "entropy", "brier",
    )  # fmt: skip
    rows = []
    for key in sorted(set(keys)):
        members = [s for s in scores if s.group == key]
        means = _means(members)
        rows.append(
            {
                "name": key,
                "rows": list(keys).count(key),
                "used": len(members),
                **{name: means[name] for name in names},
                "topk": {k: mean([float(s.rank < k) for s in members], [s.weight for s in members]) for k in ks},
                "bits_per_byte": _per(members, "bytes") / LN2 if of_bytes else NAN,
                "word_perplexity": exp(_per(members, "words")) if of_words else NAN,
            }
        )
    macro: dict[str, float] = {"groups": float(sum(row["used"] > 0 for row in rows))}
    for name in ("cross_entropy", "accuracy", "expected_accuracy"):
        values = [row[name] for row in rows if not math.isnan(row[name])]
        macro[name], macro[f"{name}_stderr"] = mean(values, [1.0] * len(values)), error(values, [1.0] * len(values))
    macro["bits"] = macro["cross_entropy"] / LN2
    macro["perplexity"], macro["perplexity_stderr"] = exp_with_error(
        macro["cross_entropy"], macro["cross_entropy_stderr"]
    )
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    columns["topk"] = {k: [row["topk"][k] for row in rows] for k in ks}
    return {**columns, "macro": macro}


def _classes(scores: Sequence[Score], width: int) -> dict[str, Any]:
    """The table by class, a column each; the pairs of label and prediction that occur."""
    pairs = [(s.label, s.prediction) for s in scores]
    count, predicted, hits = [0] * width, [0] * width, [0] * width
    for label, prediction in pairs:
        count[label] += 1
        predicted[prediction] += 1
        hits[label] += label == prediction
    members: list[list[Score]] = [[] for _ in range(width)]
    for s in scores:
        members[s.label].append(s)
    return {
        "count": count,
        "predicted": predicted,
        "cross_entropy": [mean([s.loss for s in some], [s.weight for s in some]) for some in members],
        "precision": [h / n if n else NAN for h, n in zip(hits, predicted, strict=True)],
        "recall": [h / n if n else NAN for h, n in zip(hits, count, strict=True)],
        "confusion": [[*pair, pairs.count(pair)] for pair in sorted(set(pairs))],
        "mutual_information": information(pairs),
    }


def _calibration(scores: Sequence[Score], bins: int) -> tuple[list[dict[str, Any]], float, float]:
    """The reliability table, the expected and the maximum calibration error."""
    members: list[list[Score]] = [[] for _ in range(bins)]
    for score in scores:
        members[min(int(score.confidence * bins), bins - 1)].append(score)
    table = []
    gaps = []  # |hits - sum of confidences| of each bin, and its weight
    for i, group in enumerate(members):
        w = [s.weight for s in group]
        confidences = [s.confidence for s in group]
        hits = [s.hit for s in group]
        gap = abs(Fraction(total(hits, w)) - Fraction(total(confidences, w)))
        gaps.append((gap, sum(map(Fraction, w), Fraction(0))))
        means = {"confidence": mean(confidences, w), "accuracy": mean(hits, w)}
        table.append({"lower": i / bins, "upper": (i + 1) / bins, "count": len(group), **means})
    weight = sum((w for _, w in gaps), Fraction(0))
    if not weight:
        return table, NAN, NAN
    largest = max(gap / w for gap, w in gaps if w)
    return table, rounded(sum((gap for gap, _ in gaps), Fraction(0)) / weight), rounded(largest)
