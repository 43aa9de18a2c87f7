"""The tables of a report: quantiles, groups, classes, temperatures, worst rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from fastxent.results import Classes, Evaluation, Groups

MOST_GROUPS = 20  # the largest of more
MOST_CLASSES = 20


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is a name."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def number(x: float, digits: int = 6) -> str:
    """A float for reading."""
    return f"{x:.{digits}g}"


def percent(x: float) -> str:
    """A share."""
    return "nan" if isnan(x) else f"{100 * x:.2f} %"


def tables(e: Evaluation) -> list[Table]:
    """Those that there is something to say in."""
    out = []
    if e.quantiles and e.used:
        names = [name for name in e.quantiles if e.used >= 1000 or name not in ("0.1%", "99.9%")]
        title = "quantiles of the row loss" + ("" if e.quantiles_exact else ", within 0.5 %")
        rows = [(name.replace("%", " %"), number(e.quantiles[name])) for name in names]
        out.append(Table(title, ("share of the rows", "nats"), rows))
    if e.groups is not None and len(e.groups):
        out.append(_groups(e.groups))
    if e.classes is not None and 1 < e.classes.count.size <= MOST_CLASSES and e.used:
        out.append(_classes(e.classes))
    if e.temperatures:
        head = ("temperature", "cross-entropy", "perplexity", "ECE", "MCE")
        rows_ = [
            (
                number(t["temperature"]),
                number(t["cross_entropy"]),
                number(t["perplexity"]),
                percent(t["ece"]),
                percent(t["mce"]),
            )
            for t in e.temperatures
        ]
        out.append(Table("other temperatures", head, rows_))
    if e.worst:
        cells = [(f"{w.row:,}", number(w.loss), f"{w.label:,}", f"{w.prediction:,}") for w in e.worst]
        out.append(Table("worst rows", ("row", "loss", "label", "prediction"), cells))
    return out


def _groups(groups: Groups) -> Table:
    order = np.argsort(-groups.used, kind="stable")[:MOST_GROUPS].tolist()
    lengths = [name for name in ("bits_per_byte", "word_perplexity") if not np.isnan(getattr(groups, name)).all()]
    rows = []
    for i in order:
        cells = [f"{groups.used[i]:,}", number(groups.cross_entropy[i]), number(groups.perplexity[i])]
        cells += [percent(groups.accuracy[i]), *(number(getattr(groups, name)[i]) for name in lengths)]
        rows.append((str(groups.name[i]), *cells))
    macro = groups.macro
    cells = ["", number(macro["cross_entropy"]), number(macro["perplexity"]), percent(macro["accuracy"])]
    rows.append(("macro average", *cells, *("" for _ in lengths)))
    title = f"the {len(order)} largest of {len(groups):,} groups" if len(groups) > len(order) else "groups"
    head = ("group", "rows", "cross-entropy", "perplexity", "accuracy", *(name.replace("_", " ") for name in lengths))
    return Table(title, head, rows)


def _classes(classes: Classes) -> Table:
    columns = (classes.count, classes.predicted, classes.cross_entropy, classes.precision, classes.recall)
    rows = [
        (f"{i}", f"{count:,}", f"{predicted:,}", number(loss), percent(precision), percent(recall))
        for i, (count, predicted, loss, precision, recall) in enumerate(zip(*map(list, columns), strict=True))
    ]
    return Table("classes", ("class", "rows", "predicted", "cross-entropy", "precision", "recall"), rows)
