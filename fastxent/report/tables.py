"""The tables under a report's lines: of rows of any fields, each formatted by its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

from fastxent.report._numbers import MISSING, difference, number, percent, percent_with_error, visible, with_error
from fastxent.report.lines import Section, sections
from fastxent.report.reading import SPECIALS, Result, Row

SHARES = {
    "accuracy", "expected_accuracy", "accuracy_bound", "confidence", "ece", "mce", "precision", "recall", "same_top",
    "explained", "p_label", "delta_p", "delta_p_mean", "delta_p_rms", "agreement", "ordered", "set", "share", "f1",
}  # fmt: skip
WORDS = {
    "name": "group", "ece": "ECE", "mce": "MCE", "kl": "KLD", "kl_mean": "mean KLD", "js_mean": "mean JS",
    "p_label": "p(label)",
}  # fmt: skip
NAMES = {"name", "group", "class", "label", "row", "index", "position", "predicted", "prediction"}  # as they are
BIN = ("lower", "upper", "count", "confidence", "accuracy")
MOST = 200  # rows of a table shown; the JSON has all
LEFT_OUT = {"groups": {"mean_rank", "mean_reciprocal_rank", "brier"}}  # columns that a page has no room for


@dataclass(frozen=True)
class Table:
    """Cells for reading; the first column names the row."""

    key: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


def side_by_side(results: Sequence[Result]) -> list[Table]:
    """The lines of several results: a column each, and what changed from the first."""
    columns = [{s.title: s for s in sections(r, several=True)} for r in results]
    titles = list(dict.fromkeys(title for column in columns for title in column))
    head = [results[0].name, *(name for r in results[1:] for name in (r.name, "difference"))]
    rows = {title: _joined([column.get(title) for column in columns]) for title in titles}
    return [Table(title.replace(" ", "-"), title, ["", *head, ""], rows[title]) for title in titles]


def _joined(columns: Sequence[Section | None]) -> list[list[str]]:
    lines = [{(li.name, li.note if not li.name else ""): li for li in c.lines} if c else {} for c in columns]
    rows = []
    for key in dict.fromkeys(k for column in lines for k in column):
        found = [column.get(key) for column in lines]
        first = found[0]
        cells = [first.value if first else ""]
        for other in found[1:]:
            delta = difference(other.x - first.x, other.kind) if other and first else ""
            cells += [other.value if other else "", delta]
        notes = {line.note for line in found if line}
        rows.append([key[0], *cells, notes.pop() if len(notes) == 1 else ""])
    return rows


def reliability(r: Result) -> Table | None:
    """The reliability table, without its empty bins."""
    rows = []
    for b in r.rows("reliability"):
        found = (r.as_number(b.get(name), f"reliability: {name}") for name in BIN)
        lower, upper, n, confidence, accuracy = (nan if x is None else x for x in found)
        if n > 0:
            gap = difference(accuracy - confidence, "share")
            rows.append([f"{lower:.3f} - {upper:.3f}", f"{n:,.0f}", percent(confidence), percent(accuracy), gap])
    head = ["confidence", "rows", "mean confidence", "accuracy", "gap"]
    return Table("reliability", "reliability", head, rows) if rows else None


def quantiles(results: Sequence[Result], field: str, caption: str) -> Table | None:
    """Quantiles, a column for each result."""
    columns = [dict(r.curve(field)) for r in results]
    places = sorted({q for column in columns for q in column})
    named = {0.0: "minimum", 0.5: "median", 1.0: "maximum"}
    rows = [[named.get(q) or f"{100 * q:g} %", *(number(c[q]) if q in c else "" for c in columns)] for q in places]
    if all(isnan(x) for column in columns for x in column.values()):
        return None
    head = ["share of rows below", *(r.name for r in results)] if len(results) > 1 else ["share of rows below", "value"]
    return Table(field, caption, head, rows) if rows else None


def agreement(r: Result) -> Table | None:
    """Top-k agreement, by k."""
    field = r.data.get("topk_agreement")
    if isinstance(field, dict) and not any(isinstance(x, dict) for x in field.values()):
        rows = [[f"top-{k:g}", percent(x)] for k, x in r.curve("topk_agreement")]
        return Table("agreement", "agreement of the top k", ["k", "agreement"], rows) if rows else None
    found = of_rows(r, "topk_agreement", "agreement of the top k")
    return found and replace(found, head=["k", *found.head[1:]])


def of_rows(r: Result, field: str, caption: str, *, most: int = MOST) -> Table | None:
    """A table of whatever its rows hold; an error stands with its value."""
    rows = r.rows(field)
    if field == "classes" and rows and "class" not in rows[0] and "name" not in rows[0]:
        rows = [{"class": i, **row} for i, row in enumerate(rows)]
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(not isinstance(x := row.get(name), (dict, list, tuple, type(None))) and x != "nan" for row in rows)
    ]
    names = [name for name in names if name not in LEFT_OUT.get(field, ())]
    shown = [name for name in names if not (name.endswith("_stderr") and name.removesuffix("_stderr") in names)]
    cells = [[_cell(r, field, row, name) for name in shown] for row in rows[:most]]
    note = f"{len(rows) - most:,} more are in the JSON" if len(rows) > most else ""
    if not shown or (len(names) == 1 and field == "topk_agreement"):
        return None
    if field == "groups" and (macro := r.block("macro")):  # each group counting the same
        average = [_cell(r, "macro", dict(macro), name) for name in shown[1:]]
        cells += [["macro average", *average]] * any(average)
    return Table(field, caption, [WORDS.get(n) or visible(n).replace("_", " ") for n in shown], cells, note)


def groups_side_by_side(results: Sequence[Result], field: str) -> Table | None:
    """A value by group, a column for each result, and what changed from the first."""
    columns = [by_group(r, field) for r in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names[:MOST]:
        cells = [name]
        for i, column in enumerate(columns):
            cells.append(with_error(*column[name]) if name in column else "")
            if i:
                both = name in column and name in columns[0]
                cells.append(difference(column[name][0] - columns[0][name][0], "number") if both else "")
        rows.append(cells)
    head = ["group", results[0].name, *(name for r in results[1:] for name in (r.name, "difference"))]
    note = f"{len(names) - MOST:,} more are in the JSON" if len(names) > MOST else ""
    caption = f"{WORDS.get(field, field).replace('_', '-')} by group"
    return Table("groups", caption, head, rows, note) if rows else None


def by_group(r: Result, field: str) -> dict[str, tuple[float, float]]:
    """Value and error by the name of the group."""
    found = {}
    for row in r.rows("groups"):
        x = r.as_number(row.get(field), f"groups: {field}")
        if x is not None:
            error = r.as_number(row.get(f"{field}_stderr"), f"groups: {field}_stderr")
            found[group_name(row)] = x, nan if error is None else error
    return found


def group_name(row: Row) -> str:
    """What a row of a table is called: its first field."""
    named = [row[key] for key in ("name", "group", "class") if key in row]
    return visible((named or list(row.values()))[0])


def _cell(r: Result, field: str, row: Row, name: str) -> str:
    x = row.get(name, "")
    if x is None:
        return MISSING
    if x == "" or isinstance(x, (dict, list, tuple)):
        return ""
    if name in NAMES or (isinstance(x, (bool, str)) and x not in SPECIALS):
        return visible(x)
    value = r.as_number(x, f"{field}: {name}")
    error = r.as_number(row.get(f"{name}_stderr"), f"{field}: {name}_stderr")
    if value is None:
        return ""
    if name in SHARES:
        return percent_with_error(value, nan if error is None else error)
    if type(x) is int and error is None:
        return f"{x:,}"
    return with_error(value, nan if error is None else error)


def provenance(results: Sequence[Result]) -> Table | None:
    """Where the results came from, a column each."""
    columns = [dict(_leaves(r.block("provenance"))) for r in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ["", *(r.name for r in results)]
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return Table("provenance", "provenance", head, rows) if rows else None


def _leaves(x: Any, name: str = "", depth: int = 6) -> Iterable[tuple[str, str]]:
    """The ends of nested dictionaries, by the way to them."""
    if not isinstance(x, dict) or not depth:
        items = [v for v in (x if isinstance(x, (list, tuple)) else [x]) if not isinstance(v, (dict, list))]
        yield name, ", ".join(MISSING if v is None else visible(v) for v in items) or MISSING
        return
    for key, value in x.items():
        yield from _leaves(value, f"{name} {visible(key)}".strip(), depth - 1)


def together(results: Sequence[Result]) -> list[Table]:
    """The tables in which several results stand side by side; of one result the same ones."""
    comparison, several = results[0].kind == "comparison", len(results) > 1
    found: list[Table | None] = []
    if not comparison:  # whose quantiles are among the lines, as llama.cpp has them
        exact = all(r.data.get("quantiles_exact", True) for r in results)
        within = "" if exact else ", each order statistic within 0.5 %"
        found.append(quantiles(results, "quantiles", f"quantiles of the loss, nats{within}"))
    value = "kl_mean" if comparison else "cross_entropy"
    found.append(groups_side_by_side(results, value) if several else of_rows(results[0], "groups", "by group"))
    return [table for table in found if table]


def tables(results: Sequence[Result]) -> list[Table]:
    """All tables below the lines; those without rows are left out."""
    found: list[Table | None] = [*together(results)]
    for r in results:
        if r.count("used") == 0:
            continue
        own = [reliability(r), agreement(r), of_rows(r, "kl_by_confidence", "KLD by confidence of the base model")]
        own += [of_rows(r, "classes", "by class"), of_rows(r, "temperatures", "other temperatures")]
        own.append(of_rows(r, "worst", "worst rows"))
        found += own if len(results) == 1 else [_of(table, r) for table in own]
    return [table for table in found if table]


def _of(table: Table | None, r: Result) -> Table | None:
    return table and replace(table, caption=f"{table.caption}: {r.name}")
