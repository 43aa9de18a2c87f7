"""Two models' logits of the same rows."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from fastxent.reference.arrays import Nested, as_labels
from fastxent.reference.divergences import (
    entropy_with_logits,
    js_divergence_with_logits,
    kl_divergence_with_logits,
)
from fastxent.reference.evaluation import counts_of, statuses
from fastxent.reference.rows import row_log_softmax, row_softmax, surprise, terms_of
from fastxent.reference.selection import column, rows_of, scored
from fastxent.reference.statistics import PERCENTS, cluster_error, covariance, error, mean, over, quantiles, root, total
from fastxent.reference.sums import exp, rounded

NAN = math.nan
EDGES = (0.25, 0.5, 0.75, 0.95)  # of the buckets of the base model's confidence

Rows = list[dict[Any, Any]]


def compare(
    base: Nested,
    other: Nested,
    labels: Nested | None = None,
    *,
    topk: Iterable[int] = (1, 5),
    ignore_index: int = -100,
    temperature: float = 1.0,
    inputs: str = "logits",
    base_inputs: str | None = None,
    classes: int | None = None,
    binary: bool = False,
    kl_cutoff: float | None = None,
    shift: int = 0,
    lengths: Nested | None = None,
    mask: Nested | None = None,
    sample_weight: Nested | None = None,
    groups: Nested | None = None,
    worst: int = 10,
) -> dict[str, Any]:
    """Compare two models' logits (..., C), P and Q, with labels (...) or without.

    Rows are left out and counted as `evaluate` does it; nonfinite are those of which either model is no distribution.

    Returns
    -------
    dict
        The fields of `fastxent.Comparison` but for provenance, groups as columns; without labels what wants none.

    Raises
    ------
    ValueError
        Besides the module's errors: other shapes, no class, a k below 1.

    Examples
    --------
    >>> report = compare([[0.0, 0.0]], [[0.0, 0.0]], [1])
    >>> report["kl_mean"], report["ppl"], report["same_top"]
    (0.0, 2.0, 1.0)
    """
    ks = tuple(topk)
    base_inputs = base_inputs or inputs
    what = {"temperature": temperature, "classes": classes, "binary": binary}
    p, shape, width = rows_of(base, "base", inputs=base_inputs, **what)  # type: ignore[arg-type]
    q, other_shape, other_width = rows_of(other, "other", inputs=inputs, **what)  # type: ignore[arg-type]
    if (shape, width) != (other_shape, other_width) or any(k < 1 for k in ks):
        raise ValueError(f"base and other must be of one shape (..., C), not {shape} and {other_shape}; k from 1 on")
    own = None if labels is None else as_labels(labels, "labels", shape)
    status = statuses(p, own, ignore_index, scored(shape, shift, lengths, mask), shift, q)
    weights = [1.0] * len(p) if sample_weight is None else [float(w) for w in column(sample_weight, "weight", shape)]
    keys = None if groups is None else column(groups, "groups", shape)
    cut = None if kl_cutoff is None else (kl_cutoff, base_inputs == "log_probs")
    rows: Rows = [
        {
            **_row(p[i], q[i], None if own is None else own[i + shift], ks, cut),
            "row": i,
            "weight": weights[i],
            "group": keys[i] if keys else None,
        }
        for i in range(len(p))
        if status[i] == "used"
    ]
    found: dict[str, Any] = counts_of(status)
    found["weight"] = rounded(sum((Fraction(r["weight"]) for r in rows), Fraction(0)))
    found |= {"infinite": 0, "infinite_kl": _of(rows, "kl_mean").count(math.inf), "kl_cutoff": kl_cutoff}
    found |= _means(rows, ks, own is not None)
    found |= {"quantiles_exact": True, "groups": None} | _cluster(rows if keys else [], own is not None)
    ends = (0.0, *EDGES, 1.0)
    found["kl_by_confidence"] = [
        {"lower": ends[i], "upper": ends[i + 1], **_table_row([r for r in rows if r["bucket"] == i], own is not None)}
        for i in range(len(ends) - 1)
    ]
    for bucket in found["kl_by_confidence"]:
        bucket["count"] = bucket.pop("used")
    if keys is not None:
        table = [
            {
                "name": key,
                "rows": keys.count(key),
                **_table_row([r for r in rows if r["group"] == key], own is not None),
            }
            for key in sorted(set(keys))
        ]
        found["groups"] = {name: [row[name] for row in table] for name in (table[0] if table else ())}
    found["worst"] = [
        {
            "row": r["row"],
            "kl": r["kl_mean"],
            "label": r["label"],
            "prediction_base": r["prediction_base"],
            "prediction": r["prediction"],
        }
        for r in sorted(rows, key=lambda r: (-r["kl_mean"], r["row"]))[:worst]
    ]
    if own is not None:
        found["infinite"] = sum(math.inf in (r["cross_entropy"], r["cross_entropy_base"]) for r in rows)
        found |= _perplexities(rows)
    return found


def _row(
    p: Sequence[float], q: Sequence[float], label: int | None, ks: Sequence[int], cut: tuple[float, bool] | None
) -> dict[Any, Any]:
    a, b = row_softmax(p), row_softmax(q)
    first, second = _order(p), _order(q)
    confidence = max(a)
    found: dict[Any, Any] = {
        "kl_mean": kl_divergence_with_logits(p, q),
        "reverse_kl_mean": kl_divergence_with_logits(q, p),
        "js_mean": js_divergence_with_logits(p, q),
        "tv_mean": math.fsum(abs(x - y) for x, y in zip(a, b, strict=True)) / 2,
        "same_top": float(first[0] == second[0]),
        "entropy": entropy_with_logits(q),
        "entropy_base": entropy_with_logits(p),
        "prediction_base": first[0],
        "prediction": second[0],
        "label": label,
    }
    for k in ks:
        found["ordered", k] = float(first[:k] == second[:k])
        found["set", k] = float(set(first[:k]) == set(second[:k]))
    as_they_stand = cut is not None and cut[1]
    logs = list(p) if as_they_stand else row_log_softmax(p)
    if cut is not None:
        terms = [(x, y) for x, y in zip(logs, row_log_softmax(q), strict=True) if x > cut[0]]
        found["kl_mean"] = math.fsum(math.exp(x) * (x - y) for x, y in terms)
        confidence = math.exp(max(p)) if as_they_stand else confidence
    if label is not None:
        for name, row, order in (("", q, second), ("_base", p, first)):
            top, _, rest = terms_of(row)
            found[f"cross_entropy{name}"] = surprise(row[label], top, rest)
            found[f"accuracy{name}"] = float(order[0] == label)
        known = a[label]
        if as_they_stand:
            found["cross_entropy_base"], known = -p[label], math.exp(p[label])
        found["delta_p_mean"] = b[label] - known
    return found | {"bucket": sum(edge <= confidence for edge in EDGES)}


def _order(row: Sequence[float]) -> list[int]:
    """The classes, the largest logit first and equal ones by column."""
    return sorted(range(len(row)), key=lambda j: (-row[j], j))


def _of(rows: Rows, name: Any) -> list[float]:
    return [row[name] for row in rows]


def _means(rows: Rows, ks: Sequence[int], labelled: bool) -> dict[str, Any]:
    w = _of(rows, "weight")
    names = ["kl_mean", "reverse_kl_mean", "js_mean", "tv_mean", "same_top", "entropy", "entropy_base"]
    if labelled:
        names += ["cross_entropy", "cross_entropy_base", "delta_p_mean", "accuracy", "accuracy_base"]
    found: dict[str, Any] = {}
    for name in names:
        found[name], found[f"{name}_stderr"] = mean(_of(rows, name), w), error(_of(rows, name), w)
    found["topk_agreement"] = {}
    for k in ks:
        of_k = {how: _of(rows, (how, k)) for how in ("ordered", "set")}
        found["topk_agreement"][k] = {how: mean(values, w) for how, values in of_k.items()}
        found["topk_agreement"][k] |= {f"{how}_stderr": error(values, w) for how, values in of_k.items()}
    kl = quantiles(_of(rows, "kl_mean"), [p for p in PERCENTS if p not in ("25", "75")])
    return found | {"kl_quantiles": kl, "kl_min": kl["min"], "kl_median": kl["50%"], "kl_max": kl["max"]}


def _cluster(rows: Rows, labelled: bool) -> dict[str, float]:
    """Errors for rows that are independent between groups only."""
    w, keys = _of(rows, "weight"), _of(rows, "group")
    found = {f"{name}_cluster_stderr": cluster_error(_of(rows, name), w, keys) for name in ("kl_mean", "same_top")}
    if labelled:
        loss, base = _of(rows, "cross_entropy"), _of(rows, "cross_entropy_base")
        finite = all(map(math.isfinite, (*loss, *base)))
        ratio = [x - y for x, y in zip(loss, base, strict=True)] if finite else [NAN] * len(loss)
        found["log_ppl_ratio_cluster_stderr"] = cluster_error(ratio, w, keys)
    return found


def _table_row(rows: Rows, labelled: bool) -> dict[str, Any]:
    """Of some rows: a group, a bucket."""
    w = _of(rows, "weight")
    found = {
        "used": len(rows),
        "kl_mean": mean(_of(rows, "kl_mean"), w),
        "kl_mean_stderr": error(_of(rows, "kl_mean"), w),
        "same_top": mean(_of(rows, "same_top"), w),
    }
    for name in ("", "_base"):
        found[f"ppl{name}"] = exp(mean(_of(rows, f"cross_entropy{name}"), w)) if labelled else NAN
    return found


def _perplexities(rows: Rows) -> dict[str, Any]:
    """llama.cpp's lines on perplexity and on the label's probability."""
    w, loss, base = (_of(rows, name) for name in ("weight", "cross_entropy", "cross_entropy_base"))
    ppl, ppl_base = exp(mean(loss, w)), exp(mean(base, w))
    s, s_base = error(loss, w), error(base, w)
    both = [total(values, w) for values in (loss, base)]
    if all(isinstance(x, Fraction) for x in both):
        ratio = over(both[0] - both[1], total([1.0] * len(w), w))
    else:
        ratio = mean(loss, w) - mean(base, w)
    delta = _of(rows, "delta_p_mean")
    squares = [d * d for d in delta]
    rms, squares_error = math.sqrt(mean(squares, w)), error(squares, w)
    found: dict[str, Any] = {
        "ppl": ppl,
        "ppl_stderr": ppl * s,
        "ppl_base": ppl_base,
        "ppl_base_stderr": ppl_base * s_base,
        "log_ppl_ratio": ratio,
        "log_ppl_ratio_stderr": NAN,
        "log_ppl_correlation": NAN,
        "ppl_ratio": exp(ratio),
        "ppl_ratio_stderr": NAN,
        "ppl_difference": ppl - ppl_base,
        "ppl_difference_stderr": NAN,
        "delta_p_rms": rms,
        "delta_p_rms_stderr": 0.5 / rms * squares_error if rms > 0 else squares_error,
        "delta_p_quantiles": quantiles(delta),
    }
    own, own_base, cov = covariance(loss, loss, w), covariance(base, base, w), covariance(loss, base, w)
    if own is None or own_base is None or cov is None:
        return found
    spread = root(own + own_base - 2 * cov)
    found |= {"log_ppl_ratio_stderr": spread, "ppl_ratio_stderr": exp(ratio) * spread}
    if s and s_base:
        found["log_ppl_correlation"] = rounded(cov) / (s * s_base)
    if ppl < math.inf and ppl_base < math.inf:
        a, b = Fraction(ppl), Fraction(ppl_base)
        found["ppl_difference_stderr"] = root(a * a * own + b * b * own_base - 2 * a * b * cov)
    return found
