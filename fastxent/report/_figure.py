"""One figure as SVG that takes its colours from the page: legible in light, in dark and in print.

matplotlib draws with colours that stand for roles; they become CSS variables. Words stay words (no glyph outlines), so
they can be searched, read aloud and scaled. The same numbers give the same bytes: no dates, no random names.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID, MUTED = "#010101", "#020202", "#030303"
RUNS = ["#040401", "#040402", "#040403", "#040404", "#040405", "#040406"]
ROLES = {INK: "var(--ink)", GRID: "var(--grid)", MUTED: "var(--muted)"}
ROLES |= {color: f"var(--run-{i})" for i, color in enumerate(RUNS, 1)}
STYLES = ["-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (9, 2))]  # so that colour is not all that tells them apart
MARKERS = ["o", "s", "^", "D", "v", "P"]
MOST_RUNS = 6
WIDTH, HEIGHT = 4.1, 2.9  # inches: near its own size on a phone
SETTINGS = (
    "axes.", "figure.", "font.", "grid.", "legend.", "lines.", "patch.", "savefig.", "svg.", "text.", "xtick.", "ytick."
)  # fmt: skip

Draw = Callable[["Axes"], None]


@dataclass(frozen=True)
class Plot:
    """One plot: what it shows in words, too, for those who can't see it."""

    key: str
    title: str
    note: str  # how to read it
    svg: str


# matplotlib's settings and the filters of warnings belong to the process: of two threads that set them aside at
# once, the second gives back what the first had set
_drawing = threading.Lock()


def _in_the_child() -> None:
    # another thread's lock, which nobody would open in a forked child
    global _drawing
    _drawing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)


def plot(draw: Draw, key: str, title: str, note: str, words: str, runs: int, height: float = HEIGHT) -> Plot:
    """One figure, with a legend where several runs want one; `words` say what it shows to those who can't see it."""
    with _drawing:
        return _plot(draw, key, title, note, words, runs, height)


def _plot(draw: Draw, key: str, title: str, note: str, words: str, runs: int, height: float) -> Plot:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": key, "svg.fonttype": "none", "text.parse_math": False, "font.size": 9.5, "legend.fontsize": 8.5,
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "text.color": INK, "axes.labelcolor": INK,
        "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
        "ytick.labelcolor": INK, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
        "savefig.facecolor": "none", "legend.frameon": False, "axes.titlesize": 10,
    }  # fmt: skip
    default = {k: v for k, v in matplotlib.rcParamsDefault.items() if k.startswith(SETTINGS)}
    out = io.StringIO()
    # a user's own style does not colour the report; a name in a script that the measuring font lacks is no matter, for
    # the browser has its own fonts
    with matplotlib.rc_context({**default, **style}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        ax = figure.add_subplot()
        draw(ax)
        if runs > 1:
            handles, labels = ax.get_legend_handles_labels()
            below = {"loc": "outside lower center", "ncols": 2 if max(map(len, labels), default=0) < 24 else 1}
            figure.legend(handles, [short(label, 40) for label in labels], **below)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return Plot(key, title, note, _for_the_page(out.getvalue(), key, title, f"{note} {words}".strip()))


def plain_ticks(axis: Any) -> None:
    """0.001, not a power of ten in TeX's language: foreign words are never read as TeX, so neither are ours."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _for_the_page(svg: str, key: str, title: str, description: str) -> str:
    """matplotlib's file as an element of the page: roles for colours, no names but those that are used."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))

    def mend(found: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", found[0])
        tag = re.sub(r'((?:href="|url\()#)', rf"\g<1>{key}-", tag)
        # "font: 9.5px 'DejaVu Sans'": the size stays, the page has the family
        tag = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", tag)
        return re.sub("#0[0-9]0[0-9]0[0-9]", lambda m: ROLES.get(m[0], m[0]), tag)

    # a < or > of a word is escaped, so a tag ends where it seems to
    svg = re.sub(r"<[^>]+>", mend, svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    head = (
        f'<svg class="plot" role="img" aria-labelledby="{key}-title {key}-description" {box and box[0]}>\n'
        f'<title id="{key}-title">{escape(title)}</title>\n<desc id="{key}-description">{escape(description)}</desc>'
    )
    svg = head + svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    return re.sub(r"\n\s*", "\n", svg).strip()


def short(name: str, most: int = 18) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= most else f"{name[: most - 8]}…{name[-6:]}"


def drawable(x: float) -> bool:
    """Finite, and far enough from the end of the floats for an axis with margins."""
    return abs(x) < 1e300
