"""The lines of a report: what each is called, its value for reading, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, isnan, nan

from fastxent.report._numbers import number, percent, percent_with_error, with_error
from fastxent.report.reading import Result


@dataclass(frozen=True)
class Line:
    """One line."""

    name: str
    value: str
    note: str = ""
    x: float = nan  # the bare value, for differences
    kind: str = "number"  # or "share", "count"


@dataclass(frozen=True)
class Section:
    """Lines that belong together."""

    title: str
    lines: list[Line]


def sections(result: Result, *, several: bool = False) -> list[Section]:
    """The lines of a result, in groups; those of fields that are not there are left out."""
    make = _comparison if result.kind == "comparison" else _evaluation
    found = [Section(title, [line for line in lines if line]) for title, lines in make(result, several)]
    return [section for section in found if section.lines]


Lines = list[Line | None]


def _value(r: Result, name: str, field: str, note: str = "") -> Line | None:
    x = r.number(field)
    if x is None:
        return None
    error = r.number(f"{field}_stderr")
    return Line(name, with_error(x, nan if error is None else error), note, x)


def _share(r: Result, name: str, field: str, note: str = "", places: int = 2) -> Line | None:
    x = r.number(field)
    if x is None:
        return None
    error = r.number(f"{field}_stderr")
    return Line(name, percent_with_error(x, nan if error is None else error, places), note, x, "share")


def _count(r: Result, name: str, field: str, note: str = "") -> Line | None:
    n = r.count(field)
    return None if n is None else Line(name, f"{n:,}", note, n, "count")


def _there(line: Line | None) -> Line | None:
    """A line, where there is something to say."""
    return None if line is None or isnan(line.x) else line


def _by_groups(r: Result, field: str, places: int = 2) -> Line | None:
    """The error for rows that are independent between groups only."""
    x = r.number(f"{field}_cluster_stderr")
    if x is None or isnan(x):
        return None
    share = field in ("accuracy", "same_top")
    value = f"± {percent(x, places)}" if share else f"± {x:.2g}"
    return Line("", value, "error by groups", x, "share" if share else "number")


def _counts(r: Result, several: bool) -> Lines:
    first = {what: r.count(f"first_{what}") for what in ("invalid", "nonfinite")}
    used = r.count("used")
    lines = [_count(r, "rows", "rows", "" if used is None or several else f"{used:,} used")]
    if several:
        lines.append(_count(r, "used", "used"))
    for name, field, note, place in (
        ("ignored", "ignored", "label equal to ignore_index", None),
        ("invalid labels", "invalid", "out of range", ", the first in row {}"),
        ("non-finite rows", "nonfinite", "left out", ", the first is row {}"),
        ("masked rows", "masked", "left out by mask, lengths or shift", None),
        ("infinite losses", "infinite", "label masked by -inf; they stay in the mean", None),
        ("infinite KLD", "infinite_kl", "a class that Q rules out and the base does not; they stay in the mean", None),
    ):
        if r.count(field):
            row = first.get(field)
            lines.append(_count(r, name, field, note + (place.format(row) if place and row is not None else "")))
    weight = r.number("weight")
    if weight is not None and used and weight != used and not isnan(weight):
        lines.append(_value(r, "sum of weights", "weight", "means and shares are weighted"))
    return lines


def _evaluation(r: Result, several: bool) -> list[tuple[str, Lines]]:
    bins = len(r.rows("reliability"))
    return [
        ("rows", _counts(r, several)),
        (
            "loss",
            [
                _value(r, "cross-entropy", "cross_entropy", "nats"),
                _by_groups(r, "cross_entropy"),
                _value(r, "", "bits", "bits"),
                _value(r, "perplexity", "perplexity"),
                _there(_value(r, "bits per byte", "bits_per_byte")),
                _there(_value(r, "word perplexity", "word_perplexity")),
                _share(r, "exp(-CE)", "accuracy_bound", "lower bound of the next line"),
                _share(r, "expected accuracy", "expected_accuracy", "mean probability of the label"),
                _there(_value(r, "label entropy", "label_entropy", "nats, loss of predicting the class frequencies")),
                _there(_share(r, "explained", "explained", "share of the label entropy")),
                _value(r, "z-loss", "z_loss", "mean squared log-sum-exp"),
            ],
        ),
        (
            "hits",
            [
                _share(r, "accuracy", "accuracy"),
                _by_groups(r, "accuracy"),
                *(_hits(r, k, share) for k, share in r.curve("topk") if k > 1),
                _value(r, "mean rank", "mean_rank", "classes before the label"),
                _value(r, "mean reciprocal rank", "mean_reciprocal_rank"),
                _there(_value(r, "mutual information", "mutual_information", "of label and prediction, nats")),
            ],
        ),
        (
            "confidence",
            [
                _value(r, "predictive entropy", "entropy", "nats, mean"),
                _value(r, "Brier score", "brier", "0 to 2"),
                _share(r, "ECE", "ece", "expected calibration error" + (f", {bins} bins" if bins else "")),
                _share(r, "MCE", "mce", "largest"),
            ],
        ),
        ("temperature", _temperature(r)),
    ]


def _hits(r: Result, k: float, share: float) -> Line:
    error = r.curve("topk_stderr")
    return Line(f"top-{k:g}", percent_with_error(share, dict(error).get(k, nan)), "", share, "share")


def _temperature(r: Result) -> Lines:
    """Calibration at temperature 1 and at the fitted one."""
    fit = calibration(r)
    if fit is None:
        return []
    before, after, temperature = fit
    tried = 0 if r.data.get("calibration") else len(r.rows("temperatures"))
    name, note = "fitted temperature", ""
    if tried:
        name, note = ("best temperature", f"of {tried}; ") if tried > 1 else ("other temperature", "")
    lines: Lines = [Line(name, number(temperature), f"{note}logits divided by it", temperature)]
    for name, field, kind in (("cross-entropy", "cross_entropy", "number"), ("ECE", "ece", "share")):
        for when, side in (("before", before), ("after", after)):
            x = side.number(field)
            if x is not None:
                lines.append(Line(f"{name} {when}", percent(x) if kind == "share" else number(x), "", x, kind))
    return lines


def calibration(r: Result) -> tuple[Result, Result, float] | None:
    """Before and after the fitted temperature: ``{"temperature": T, "before": {...}, "after": {...}}``.

    Without ``before`` the result itself stands for it, and without any of this the best of its other temperatures for
    ``after``.
    """
    if not isinstance(r.data.get("calibration"), dict):
        found = []
        for row in r.rows("temperatures"):
            one = Result(f"{r.name}: temperatures", r.kind, row)
            loss, temperature = one.number("cross_entropy"), one.number("temperature")
            if loss is not None and temperature is not None and not isnan(loss):
                found.append((loss, temperature, one))
        if not found:
            return None
        _, temperature, after = min(found, key=lambda it: it[:2])
        return r, after, temperature
    block = r.block("calibration")
    inner = Result(f"{r.name}: calibration", r.kind, block)
    temperature = inner.number("temperature")
    if temperature is None or not inner.block("after"):
        return None
    before = Result(r.name, r.kind, inner.block("before")) if inner.block("before") else r
    return before, Result(r.name, r.kind, inner.block("after")), temperature


def _comparison(r: Result, several: bool) -> list[tuple[str, Lines]]:
    """What llama-perplexity prints for two models, under the same names, then what goes beyond."""
    cutoff = r.number("kl_cutoff")
    direction = "nats, KL(base || Q)" + ("" if cutoff is None else f" without terms of log p_base <= {cutoff:g}")
    return [
        ("rows", _counts(r, several)),
        (
            "perplexity",
            [
                _value(r, "Mean PPL(Q)", "ppl"),
                _value(r, "Mean PPL(base)", "ppl_base"),
                _share(r, "Cor(ln(PPL(Q)), ln(PPL(base)))", "log_ppl_correlation"),
                _value(r, "Mean ln(PPL(Q)/PPL(base))", "log_ppl_ratio"),
                _by_groups(r, "log_ppl_ratio"),
                _value(r, "Mean PPL(Q)/PPL(base)", "ppl_ratio"),
                _value(r, "Mean PPL(Q)-PPL(base)", "ppl_difference"),
            ],
        ),
        (
            "KL divergence",
            [
                _value(r, "Mean    KLD", "kl_mean", direction),
                _by_groups(r, "kl_mean"),
                *_quantiles(r, "KLD", "kl", "kl_quantiles"),
            ],
        ),
        (
            "token probability",
            [
                _share(r, "Mean    Δp", "delta_p_mean", "p_Q(label) - p_base(label)", 3),
                *_quantiles(r, "Δp", "delta_p", "delta_p_quantiles"),
                _share(r, "RMS Δp", "delta_p_rms", "", 3),
                _share(r, "Same top p", "same_top", "", 3),
                _by_groups(r, "same_top", 3),
            ],
        ),
        (
            "beyond",
            [
                _value(r, "Mean reverse KLD", "reverse_kl_mean", "nats, KL(Q || base)"),
                _value(r, "Mean JS", "js_mean", "nats, Jensen-Shannon divergence"),
                _value(r, "Mean TV", "tv_mean", "total variation distance, 0 to 1"),
                _share(r, "accuracy(Q)", "accuracy"),
                _share(r, "accuracy(base)", "accuracy_base"),
                _value(r, "predictive entropy(Q)", "entropy", "nats, mean"),
                _value(r, "predictive entropy(base)", "entropy_base", "nats, mean"),
                _value(r, "KLD lower bound", "kl_lower", "nats, from top-k log-probabilities"),
                _value(r, "KLD upper bound", "kl_upper", "nats, from top-k log-probabilities"),
            ],
        ),
    ]


def _quantiles(r: Result, what: str, stem: str, field: str) -> Lines:
    """From the maximum to the minimum."""
    named = {0.0: "Minimum", 0.5: "Median", 1.0: "Maximum"}
    found = dict(r.curve(field))
    for q, key in ((0.0, "min"), (0.5, "median"), (1.0, "max")):
        x = r.number(f"{stem}_{key}")
        if x is not None:
            found[q] = x
    share = stem == "delta_p"
    return [
        Line(
            f"{named.get(q) or f'{100 * q:4.1f}%':<7} {what}",
            percent(x, 3) if share else f"{x:.6f}" if isfinite(x) else number(x),
            "", x, "share" if share else "number",
        )
        for q, x in sorted(found.items(), reverse=True)
        if not isnan(x)
    ]  # fmt: skip
