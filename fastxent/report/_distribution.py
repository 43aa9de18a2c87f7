"""The plot of the distribution of the loss, from the histogram, or of older results from the quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from fastxent.report._figure import RUNS, STYLES, Plot, drawable, plain_ticks, plot
from fastxent.report._numbers import number, percent
from fastxent.report.reading import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_ROWS = 10_000  # below, a histogram on a logarithmic axis has a bar an octave

Part = tuple[float, float, float]  # of a distribution: from, to, share of the rows


def histogram(results: Sequence[Result]) -> Plot | None:
    """The plot, or None where nothing can be drawn."""
    curves = [(r.name, _shares(r)) for r in results]
    edges = [x for _, parts in curves for a, b, share in parts if share for x in (a, b) if 0 < x and drawable(x)]
    if not edges:
        return None
    # losses of a good model lie near 0, in many powers of ten
    log = max(edges) > 100 * min(edges)
    drawn = [_trimmed([p for p in parts if drawable(p[1]) and (p[0] > 0 or not log)]) for _, parts in curves]
    if not any(drawn):
        return None
    left_out = [[p for p in c[1] if p not in inside and p[2]] for c, inside in zip(curves, drawn, strict=True)]
    if log and all(r.block("histogram") for r in results) and any((r.count("used") or 0) < FEW_ROWS for r in results):
        drawn = [_octaves(parts) for parts in drawn]

    def height(a: float, b: float, share: float) -> float:
        return share / (math.log10(b / a) if log else b - a)

    def draw(ax: Axes) -> None:
        for i, ((name, _), parts) in enumerate(zip(curves, drawn, strict=True)):
            if parts:
                alone = len(curves) == 1
                look = {"fill": True, "alpha": 0.8} if alone else {"linestyle": STYLES[i], "linewidth": 1.4}
                sides = [parts[0][0], *(b for _, b, _ in parts)]
                ax.stairs([height(*p) for p in parts], sides, color=RUNS[i], label=name, **look)
        if log:
            ax.set_xscale("log")
            plain_ticks(ax.xaxis)
        ax.set(xlabel="loss, nats", ylabel=f"share of rows per {'factor of ten' if log else 'nat'}")
        ax.set_ylim(bottom=0)

    note = "How the rows' losses are spread."
    if not all(r.block("histogram") for r in results):
        note += " Drawn from quantiles, as if rows were spread evenly between two of them."
    words = []
    for (name, _), outside in zip(curves, left_out, strict=True):
        left = [f"{percent(share)} of the rows {_where(a, b)}" for a, b, share in outside]
        words += [f"{name}: {' and '.join(left)}" if len(curves) > 1 else " and ".join(left)] if left else []
    if words:
        note += f" Not drawn: {'; '.join(words)}."
    most = []
    for (name, _), parts in zip(curves, drawn, strict=True):
        if parts:
            a, b, share = max(parts, key=lambda p: height(*p))
            most.append(f"{name}: densest from {number(a, 3)} to {number(b, 3)}, with {percent(share)} of the rows")
    return plot(draw, "histogram", "Distribution of the loss", note, f"{'; '.join(most)}.", len(curves))


def _trimmed(parts: list[Part]) -> list[Part]:
    """From the first range that has any rows to the last."""
    some = [i for i, (_, _, share) in enumerate(parts) if share > 0]
    return parts[some[0] : some[-1] + 1] if some else []


def _octaves(parts: list[Part]) -> list[Part]:
    """The parts of each octave as one: of few rows quarters of octaves are spikes."""
    found: list[Part] = []
    for a, b, share in parts:
        if found and math.frexp(found[-1][0])[1] == math.frexp(a)[1]:
            found[-1] = found[-1][0], b, found[-1][2] + share
        else:
            found.append((a, b, share))
    return found


def _where(a: float, b: float) -> str:
    return f"from {number(a, 3)} on" if not drawable(b) else f"below {number(b, 3)}"


def _shares(r: Result) -> list[Part]:
    """Neighbouring ranges and the share of rows in each, from the histogram (edges and counts) or the quantiles."""
    block = r.block("histogram")
    if block:
        if not all(isinstance(block.get(what), list) for what in ("edges", "counts")):
            raise r.error("histogram", block, "not edges and counts")
        edges = [r.as_number(x, "histogram: edges") for x in block["edges"]]
        counts = [r.as_number(x, "histogram: counts") or 0.0 for x in block["counts"]]
        if len(edges) != len(counts) + 1:
            raise r.error("histogram", block, "not one edge more than counts")
        parts = [(a, b, n) for (a, b), n in zip(pairwise(edges), counts, strict=True)]
    else:
        parts = [(a, b, q - p) for (p, a), (q, b) in pairwise(r.curve("quantiles"))]
    total = sum(w for _, _, w in parts)
    found: list[Part] = []
    for a, b, weight in parts:
        if a is None or b is None or not drawable(a) or not a < b:
            continue
        if found and found[-1][1] != a:
            break  # no neighbours: nothing that can be drawn
        found.append((a, b, weight / total if total else 0.0))
    return _trimmed(found)
