"""A report as one HTML file that opens anywhere: no network, no script, its style and its plots inside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from fastxent.report import tables
from fastxent.report._numbers import visible
from fastxent.report.lines import Line, sections
from fastxent.report.plain import title
from fastxent.report.reading import Result, results_of_one_kind

KEY_LINES = {
    "evaluation": ("cross-entropy", "perplexity", "accuracy", "ECE"),
    "comparison": ("Mean    KLD", "Same top p", "RMS Δp", "Mean PPL(Q)/PPL(base)"),
}


def require_html() -> None:
    """Refuse where the optional libraries are missing.

    Raises
    ------
    ImportError
        Naming the extra.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'an HTML report wants {error.name}: pip install "fastxent[report]"') from None


def html(*results: Any, heading: str | None = None) -> str:
    """The report as one HTML file.

    Parameters
    ----------
    *results
        Results of `evaluate`, or of `compare`, their dictionaries, or what `read` gives: one, or several, which are set
        side by side. Plots show the first six.
    heading
        In place of the names of what was evaluated.

    Returns
    -------
    str
        To be written as UTF-8. It depends on the arguments alone: no date, no random name.

    Raises
    ------
    ValueError
        For none, for results of two kinds, and for a field of the wrong kind.
    ImportError
        Without jinja2 and matplotlib, which the extra ``report`` installs.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> from fastxent import report
    >>> page = report.html(fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1]))
    >>> "http:" in page, "<script" in page
    (False, False)
    """
    require_html()
    import jinja2

    from fastxent.report.plots import plots

    found = results_of_one_kind(results)
    room = files("fastxent.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.from_string((room / "page.html").read_text("utf-8")).render(
        heading=visible(heading or " | ".join(r.name for r in found)),
        kind="Evaluation" if found[0].kind == "evaluation" else "Comparison",
        titles=[title(r) for r in found],
        several=len(found) > 1,
        names=[r.name for r in found],
        cards=_cards(found),
        sections=_sections(found),
        plots=plots(found),
        tables=tables.tables(found),
        provenance=tables.provenance(found),
        style=(room / "page.css").read_text("utf-8"),
    )
    # a lone surrogate has no place in UTF-8, NUL none in HTML
    return page.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _cards(results: Sequence[Result]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The key figures: a name, and each result's value and note."""
    lines = [{line.name: line for s in sections(r) for line in s.lines} for r in results]
    cards = []
    for name in KEY_LINES[results[0].kind]:
        if any(name in found for found in lines):
            values = [found[name].value if name in found else "-" for found in lines]
            cards.append((name, list(zip(values, (r.name for r in results), strict=True))))
    return cards


def _sections(results: Sequence[Result]) -> list[tables.Table]:
    """The lines as tables, of one result or of several."""
    if len(results) > 1:
        return tables.side_by_side(results)

    def row(line: Line) -> list[str]:
        return [line.name, line.value, line.note]

    return [
        tables.Table(s.title.replace(" ", "-"), s.title, ["", results[0].name, ""], [row(line) for line in s.lines])
        for s in sections(results[0])
    ]
