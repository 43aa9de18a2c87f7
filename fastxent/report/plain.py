"""A report as text: with rich on a terminal, plain lines elsewhere; several results side by side."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TextIO

from fastxent.report import tables
from fastxent.report._numbers import counted, visible
from fastxent.report.lines import sections
from fastxent.report.reading import Result, results_of_one_kind

MOST_ROWS = 20  # of a table in the text
LONGEST = 28  # of a result's name above its column
LEAST_NOTE = 24  # columns of a terminal for the notes behind the numbers


def title(result: Any) -> str:
    """One line: what was evaluated, by what."""
    r = results_of_one_kind([result])[0]
    p = r.block("provenance")
    blocks = [p.get(key) for key in ("logits", "base", "other")]
    inputs = [x for x in blocks if isinstance(x, dict)]
    name = ", ".join(visible(x["name"]) for x in inputs if "name" in x) or r.name
    if r.kind == "comparison" and len(inputs) == 2 and all("name" in x for x in inputs):
        name = "{1} (Q) against {0} (base)".format(*(visible(x["name"]) for x in inputs))
    dtypes = ", ".join(dict.fromkeys(visible(x["dtype"]) for x in inputs if "dtype" in x))
    classes = p.get("classes")
    rows = r.count("rows") or 0
    shape = counted(rows, "row") + (f" x {counted(classes, 'class')}" if isinstance(classes, int) else "")
    by = f", fastxent {visible(p['fastxent'])}" if "fastxent" in p else ""
    level = f" ({visible(p['level'])})" if by and "level" in p else ""
    return f"{name}: {shape} {dtypes}".rstrip() + by + level


def text(*results: Any) -> str:
    """The whole report as plain text.

    Parameters
    ----------
    *results
        Results of `evaluate`, or of `compare`, their dictionaries, or what `read` gives: one, or several, which are set
        side by side.

    Raises
    ------
    ValueError
        For none, for results of two kinds, and for a field of the wrong kind.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> from fastxent import report
    >>> words = report.text(fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1]))
    >>> [line for line in words.splitlines() if "accuracy" in line][1]
    '  accuracy                    50.00 ± 50.00 %'
    """
    found = results_of_one_kind(results)
    lines = [*_titles(found), ""]
    if len(found) > 1:
        lines += _aligned([_head(found), *(row for part in tables.side_by_side(found) for row in [[], *part.rows])])
    else:
        parts = sections(found[0])
        name = max((len(line.name) for s in parts for line in s.lines), default=0)
        for i, section in enumerate(parts):
            lines += [""] * (i > 0)
            lines += [
                f"  {line.name:<{max(21, name + 1)}}{line.value:>22}  {line.note}".rstrip() for line in section.lines
            ]
    for table in _tables(found):
        lines += ["", f"  {table.caption}", *_aligned([table.head, *table.rows[:MOST_ROWS]])]
        if len(table.rows) > MOST_ROWS or table.note:
            lines.append("  ...")
    return "\n".join(lines) + "\n"


def _titles(results: Sequence[Result]) -> list[str]:
    return [f"{r.name}: {title(r)}" if len(results) > 1 else title(r) for r in results]


def _head(results: Sequence[Result]) -> list[str]:
    """The head of the lines of several results."""
    return [_shortened(name) for name in tables.side_by_side(results)[0].head]


def _tables(results: Sequence[Result]) -> list[tables.Table]:
    """The tables below the lines: all of one result, of several those in which they stand side by side."""
    if len(results) == 1:
        return tables.tables(results)
    return [replace(table, head=[_shortened(name) for name in table.head]) for table in tables.together(results)]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 13]}...{name[-10:]}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns: the first and an unnamed last to the left, the others to the right."""
    count = max(map(len, rows))
    width = [max((_columns(row[i]) for row in rows if row), default=0) for i in range(count)]
    left = {0, count - 1} if rows[0] and rows[0][-1] == "" else {0}
    lines = []
    for row in rows:
        cells = [
            cell + " " * (width[i] - _columns(cell)) if i in left else " " * (width[i] - _columns(cell)) + cell
            for i, cell in enumerate(row)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _columns(words: str) -> int:
    """Columns of a terminal that words take: wide characters two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in words)


def write(*results: Any, file: TextIO | None = None) -> None:
    """Write the report: with rich, where it is installed and `file` is a terminal with room, else as plain text."""
    file = sys.stdout if file is None else file
    if file is None:  # closed by whoever started us
        return
    if file.isatty():
        try:
            import rich.console
        except ImportError:
            pass
        else:
            found = results_of_one_kind(results)
            console = rich.console.Console(file=file, highlight=False, markup=False)
            lines = _lines(found, console.width)
            if lines is not None:
                for line in _titles(found):
                    console.print(line, soft_wrap=True)
                for part in _rich(found, lines):
                    console.print(part)
                return
    plain = text(*results)
    try:
        plain.encode(file.encoding or "utf-8")
    except UnicodeEncodeError:
        plain = plain.replace("±", "+/-").replace("Δp", "delta p").encode("ascii", "replace").decode()
    file.write(plain)


Block = list[list[str]]


def _lines(results: Sequence[Result], width: int) -> tuple[list[str], list[Block]] | None:
    """The head of the lines and blocks of them, for a terminal of so many columns; None where they do not fit.

    Numbers are never broken; notes are, and where there is no room for those of several results they are left out.
    """
    if len(results) > 1:
        head, blocks = _head(results), [part.rows for part in tables.side_by_side(results)]
    else:
        head = ["", "", ""]
        blocks = [[[line.name, line.value, line.note] for line in s.lines] for s in sections(results[0])]
    # the notes are the names of lines that have none
    bare = [[[row[0] or row[-1], *row[1:-1]] for row in block] for block in blocks]
    rows = [head[:-1], *(row for block in bare for row in block)]
    least = sum(max(map(_columns, column)) + 3 for column in zip(*rows, strict=True))
    if least + LEAST_NOTE < width:
        return head, blocks
    return (head[:-1], bare) if least < width and len(results) > 1 else None


def _rich(results: Sequence[Result], lines: tuple[list[str], list[Block]]) -> list[Any]:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    head, blocks = lines
    main = RichTable(box=box.SIMPLE_HEAD, show_header=len(results) > 1)
    for i, name in enumerate(head):
        note = i > 0 and name == "" and i == len(head) - 1 and len(head) > 2
        style = "" if i == 0 or name == "difference" else "dim" if note else "bold"
        main.add_column(Text(name), justify="left" if i == 0 or note else "right", style=style, no_wrap=not note)
    for block in blocks:
        for i, row in enumerate(block):
            main.add_row(*map(Text, row), end_section=i == len(block) - 1)
    shown: list[Any] = [main]
    for table in _tables(results):
        grid = RichTable(title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left")
        bars = _bars(results[0]) if table.key == "reliability" else []
        for i, name in enumerate([*table.head, *([""] if bars else [])]):
            grid.add_column(Text(name), justify="right" if 0 < i < len(table.head) else "left")
        for i, row in enumerate(table.rows[:MOST_ROWS]):
            grid.add_row(*map(Text, row), *bars[i : i + 1])
        shown.append(grid)
        if len(table.rows) > MOST_ROWS or table.note:
            shown.append(Text("  ..."))
    return shown


def _bars(r: Result) -> list[str]:
    """The accuracies of the reliability table, drawn."""
    shown = [b for b in r.rows("reliability") if r.as_number(b.get("count"), "reliability: count")]
    shares = [r.as_number(b.get("accuracy"), "reliability: accuracy") or 0.0 for b in shown]
    return ["█" * round(20 * share) if 0 <= share <= 1 else "" for share in shares]
