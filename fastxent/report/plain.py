"""An evaluation as text: a table with rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from math import isfinite, isinf, isnan
from typing import Any, TextIO

from fastxent.report.tables import number, percent, tables
from fastxent.results import Evaluation

Line = tuple[str, str, str]  # name, value, note
Section = tuple[str, list[Line]]


def with_error(x: float, error: float) -> str:
    """A value and its error, to the same place: 0.1234 ± 0.0056."""
    if isnan(error) or error == 0.0 or not isfinite(x):
        return number(x)
    if isinf(error):
        return f"{number(x)} ± inf"
    # two digits of the error
    places = max(0, 1 - int(f"{error:.1e}".partition("e")[2]))
    if abs(x) >= 1e15 or error >= 1e15 or places > 15:
        return f"{number(x)} ± {error:.2g}"
    return f"{x:.{places}f} ± {error:.{places}f}"


def sections(e: Evaluation) -> list[Section]:
    """The lines of the report, in groups."""
    counts: list[Line] = [("rows", f"{e.rows:,}", f"{e.used:,} used")]
    if e.ignored:
        counts.append(("ignored", f"{e.ignored:,}", "label equal to ignore_index"))
    if e.invalid:
        counts.append(("invalid labels", f"{e.invalid:,}", f"out of range, the first in row {e.first_invalid}"))
    if e.nonfinite:
        counts.append(("non-finite rows", f"{e.nonfinite:,}", f"left out, the first is row {e.first_nonfinite}"))
    if e.masked:
        counts.append(("masked rows", f"{e.masked:,}", "left out by mask, lengths or shift"))
    if e.infinite:
        counts.append(("infinite losses", f"{e.infinite:,}", "label masked by -inf; they stay in the mean"))
    if e.used and e.weight != e.used and not isnan(e.weight):
        counts.append(("sum of weights", number(e.weight), "means and shares are weighted"))
    return [
        ("rows", counts),
        (
            "loss",
            [
                ("cross-entropy", with_error(e.cross_entropy, e.cross_entropy_stderr), "nats"),
                *_there(
                    "", e.cross_entropy_cluster_stderr, f"± {e.cross_entropy_cluster_stderr:.2g}", "error by groups"
                ),
                ("", number(e.bits), "bits"),
                ("perplexity", with_error(e.perplexity, e.perplexity_stderr), ""),
                *_there("bits per byte", e.bits_per_byte, number(e.bits_per_byte), ""),
                *_there("word perplexity", e.word_perplexity, number(e.word_perplexity), ""),
                ("exp(-CE)", percent(e.accuracy_bound), "lower bound of the next line"),
                ("expected accuracy", percent(e.expected_accuracy), "mean probability of the label"),
                *_there("label entropy", e.label_entropy, number(e.label_entropy), "loss of their frequencies"),
                *_there("explained", e.explained, percent(e.explained), "share of it that the model saves"),
                ("z-loss", number(e.z_loss), "mean squared log-sum-exp"),
            ],
        ),
        (
            "hits",
            [
                ("accuracy", _share_with_error(e.accuracy, e.accuracy_stderr), ""),
                *_there(
                    "", e.accuracy_cluster_stderr, f"± {100 * e.accuracy_cluster_stderr:.2f} %", "error by groups"
                ),
                *((f"top-{k}", percent(share), "") for k, share in e.topk.items() if k > 1),
                ("mean rank", number(e.mean_rank), "classes before the label"),
                ("mean reciprocal rank", number(e.mean_reciprocal_rank), ""),
                *(
                    _there(
                        "mutual information",
                        e.classes.mutual_information,
                        number(e.classes.mutual_information),
                        "of label and prediction, nats",
                    )
                    if e.classes
                    else []
                ),
            ],
        ),
        (
            "confidence",
            [
                ("predictive entropy", number(e.entropy), "nats, mean"),
                ("Brier score", number(e.brier), "0 to 2"),
                ("ECE", percent(e.ece), f"expected calibration error, {len(e.reliability)} bins"),
                ("MCE", percent(e.mce), "largest"),
            ],
        ),
    ]


def _there(name: str, x: float, value: str, note: str) -> list[Line]:
    """A line, where there is something to say."""
    return [] if isnan(x) else [(name, value, note)]


def _share_with_error(share: float, error: float) -> str:
    return percent(share) if isnan(error) else f"{100 * share:.2f} ± {100 * error:.2f} %"


def title(e: Evaluation) -> str:
    """One line: what was evaluated, by what."""
    p = e.provenance
    name = p.get("logits", {}).get("name", "logits")
    dtype = p.get("logits", {}).get("dtype", "")
    classes = p.get("classes")
    shape = f"{e.rows:,} rows" if classes is None else f"{e.rows:,} rows x {classes:,} classes"
    return f"{name}: {shape} {dtype}".rstrip() + f", fastxent {p['fastxent']} ({p['level']})"


def text(e: Evaluation) -> str:
    """The whole report as plain text."""
    lines = [title(e)]
    for _, rows in sections(e):
        lines.append("")
        lines += [f"  {name:<21}{value:>22}  {note}".rstrip() for name, value, note in rows]
    lines += ["", "  confidence        rows   confidence   accuracy"]
    lines += [
        f"  {b.lower:.3f} - {b.upper:.3f} {b.count:>9,} {percent(b.confidence):>12} {percent(b.accuracy):>10}"
        for b in e.reliability
        if b.count
    ]
    for table in tables(e):
        widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
        lines += ["", f"  {table.title}"]
        for row in (table.head, *table.rows):
            first, *rest = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append("  " + "   ".join([row[0].ljust(len(first)), *rest]))
    return "\n".join(lines) + "\n"


def write(e: Evaluation, file: TextIO | None = None) -> None:
    """Write the report: with rich, where it is installed and `file` is a terminal, else as plain text."""
    file = sys.stdout if file is None else file
    if file is None:  # closed by whoever started us
        return
    if file.isatty():
        try:
            import rich.console
        except ImportError:
            pass
        else:
            console = rich.console.Console(file=file, highlight=False, markup=False)
            console.print(title(e), soft_wrap=True)
            for part in _rich(e):
                console.print(part)
            return
    plain = text(e)
    try:
        plain.encode(file.encoding or "utf-8")
    except UnicodeEncodeError:
        plain = plain.replace("±", "+/-").encode("ascii", "replace").decode()
    file.write(plain)


def _rich(e: Evaluation) -> list[Any]:
    from rich import box
    from rich.table import Table

    main = Table(box=box.SIMPLE_HEAD, show_header=False)
    main.add_column()
    main.add_column(justify="right", style="bold")
    main.add_column(style="dim")
    for _, rows in sections(e):
        for i, line in enumerate(rows):
            main.add_row(*line, end_section=i == len(rows) - 1)
    bins = Table(title="reliability", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("confidence", "rows", "mean confidence", "accuracy", ""):
        bins.add_column(name, justify="left" if name in ("confidence", "") else "right")
    for b in e.reliability:
        if b.count:
            bar = "█" * round(20 * b.accuracy)
            bins.add_row(
                f"{b.lower:.3f} - {b.upper:.3f}", f"{b.count:,}", percent(b.confidence), percent(b.accuracy), bar
            )
    more = []
    for table in tables(e):
        one = Table(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
        for i, name in enumerate(table.head):
            one.add_column(name, justify="right" if i else "left")
        for row in table.rows:
            one.add_row(*row)
        more.append(one)
    return [main, bins, *more]
