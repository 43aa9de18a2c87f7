"""Everything about one model's logits."""

import math
import operator
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from fastxent.reference.arrays import Nested, as_labels, as_numbers
from fastxent.reference.rows import has_softmax, row_softmax, surprise, terms_of
from fastxent.reference.sums import exact, exact_mean, exp, rounded, stderr


def evaluate(
    logits: Nested, labels: Nested, *, topk: Iterable[int] = (1, 5), bins: int = 15, ignore_index: int = -100
) -> dict[str, Any]:
    """Evaluate one model's logits (N, C) against labels (N,): loss, hits and calibration.

    Left out and counted, each row once and in this order: ignored labels, labels outside [0, C) (invalid),
    rows with a NaN, a +inf or nothing but -inf (nonfinite). Means are over the rest (used), NaN over no row.

    Returns
    -------
    dict
        Counts: rows, used, ignored, invalid, nonfinite, and infinite (used rows whose loss is +inf). Loss in
        nats: cross_entropy, bits, perplexity, z_loss (mean lse**2), accuracy_bound (exp of minus the loss),
        expected_accuracy (mean probability of the label). Hits, the first among equals before the next:
        accuracy, topk ({k: share}), mean_rank (0 is best), mean_reciprocal_rank (of rank + 1). Confidence:
        entropy, brier, ece, mce, and reliability, for each of the equal-width bins of the largest probability
        a dict of lower, upper, count, confidence and accuracy. Standard errors of means: <name>stderr.

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
    ignore_index = operator.index(ignore_index)
    if bins < 1 or any(k < 1 for k in ks):
        raise ValueError(f"bins and every k must be at least 1, not bins={bins}, topk={tuple(ks)}")
    flat, shape = as_numbers(logits, "logits")
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"logits must have shape (N, C) with at least one class, not {shape}")
    rows, classes = shape
    counts = {"rows": rows, "used": 0, "ignored": 0, "invalid": 0, "nonfinite": 0}
    scores = []
    for i, label in enumerate(as_labels(labels, "labels", (rows,))):
        row = flat[i * classes : (i + 1) * classes]
        if label == ignore_index:
            counts["ignored"] += 1
        elif not 0 <= label < classes:
            counts["invalid"] += 1
        elif not has_softmax(row):
            counts["nonfinite"] += 1
        else:
            counts["used"] += 1
            scores.append(_score(row, label))

    losses, hits = [s.loss for s in scores], [s.hit for s in scores]
    loss, loss_stderr = exact_mean(losses), stderr(losses)
    perplexity = exp(loss)
    reliability, ece, mce = _calibration(scores, bins)
    return {
        **counts,
        "infinite": losses.count(math.inf),
        "cross_entropy": loss,
        "cross_entropy_stderr": loss_stderr,
        "bits": loss / math.log(2.0),
        "perplexity": perplexity,
        "perplexity_stderr": perplexity * loss_stderr,
        "z_loss": exact_mean([s.lse * s.lse for s in scores]),
        "accuracy_bound": math.exp(-loss),
        "expected_accuracy": exact_mean([s.probability for s in scores]),
        "accuracy": exact_mean(hits),
        "accuracy_stderr": stderr(hits),
        "topk": {k: exact_mean([float(s.rank < k) for s in scores]) for k in ks},
        "mean_rank": exact_mean([float(s.rank) for s in scores]),
        "mean_reciprocal_rank": exact_mean([1.0 / (s.rank + 1) for s in scores]),
        "entropy": exact_mean([s.entropy for s in scores]),
        "brier": exact_mean([s.brier for s in scores]),
        "ece": ece,
        "mce": mce,
        "reliability": reliability,
    }


class _Score(NamedTuple):
    """What `evaluate` keeps of one row."""

    loss: float
    lse: float
    probability: float  # of the label
    confidence: float  # the largest probability
    entropy: float
    brier: float
    rank: int
    hit: float


def _score(row: Sequence[float], label: int) -> _Score:
    x, p = row[label], row_softmax(row)
    top, terms, rest = terms_of(row)
    # 1 - p[label] as the others' sum, for 1 - p would cancel in a confident row.
    others = math.fsum(terms[:label] + terms[label + 1 :]) / math.fsum(terms)
    squares = [others * others] + [q * q for j, q in enumerate(p) if j != label]
    rank = sum(y > x for y in row) + sum(y == x for y in row[:label])
    return _Score(
        loss=surprise(x, top, rest),
        lse=top + math.log1p(rest),
        probability=p[label],
        confidence=max(p),
        entropy=math.fsum(q * surprise(y, top, rest) for q, y in zip(p, row, strict=True) if q > 0),
        brier=math.fsum(squares),
        rank=rank,
        hit=float(rank == 0),
    )


def _calibration(scores: Sequence[_Score], bins: int) -> tuple[list[dict[str, float]], float, float]:
    """The reliability table, the expected and the maximum calibration error."""
    members: list[list[_Score]] = [[] for _ in range(bins)]
    for score in scores:
        members[min(int(score.confidence * bins), bins - 1)].append(score)
    table = []
    gaps = []  # |hits - sum of confidences| of each bin
    for i, group in enumerate(members):
        confidences = [s.confidence for s in group]
        hits = [s.hit for s in group]
        gaps.append(abs(exact(hits) - exact(confidences)))
        means = {"confidence": exact_mean(confidences), "accuracy": exact_mean(hits)}
        table.append({"lower": i / bins, "upper": (i + 1) / bins, "count": len(group), **means})
    if not scores:
        return table, math.nan, math.nan
    largest = max(gap / len(group) for gap, group in zip(gaps, members, strict=True) if group)
    return table, rounded(sum(gaps, Fraction(0)) / len(scores)), rounded(largest)
