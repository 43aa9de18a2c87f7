"""Which plots a report has, and the points of each; `_figure` draws them.

A plot without numbers is left out. Each says in words, too, what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastxent.report._distribution import histogram
from fastxent.report._figure import MARKERS, MOST_RUNS, MUTED, RUNS, STYLES, Plot, drawable, plain_ticks, plot, short
from fastxent.report._numbers import number, percent
from fastxent.report.lines import calibration
from fastxent.report.reading import Result
from fastxent.report.tables import by_group, group_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GROUPS = 24


def plots(results: Sequence[Result]) -> list[Plot]:
    """All plots that the results have numbers for; of at most six results."""
    results = results[:MOST_RUNS]
    kinds = _comparison if results[0].kind == "comparison" else _evaluation
    return [p for p in kinds(results) if p]


def _evaluation(results: Sequence[Result]) -> Iterator[Plot | None]:
    yield _reliability([(r.name, r) for r in results], "reliability", "Reliability")
    for i, r in enumerate(results):
        fit = calibration(r)
        if fit and fit[1].rows("reliability"):
            before, after, temperature = fit
            name = "Before and after temperature" + (f": {r.name}" if len(results) > 1 else "")
            sides = [("temperature 1", before), (f"temperature {number(temperature, 4)}", after)]
            yield _reliability(sides, f"calibration-{i + 1}", name)
    yield _temperatures(results)
    yield histogram(results)
    yield _quantiles(results, "quantiles", "Loss, sorted", "loss, nats")
    yield _ranks(results, "topk", "Rank curve", "share of rows", "Share of rows whose label is among the k largest.")
    yield _groups(results, "cross_entropy", "Loss", "nats")


def _comparison(results: Sequence[Result]) -> Iterator[Plot | None]:
    yield _by_confidence(results)
    yield _quantiles(results, "kl_quantiles", "KL divergence, sorted", "KLD, nats")
    yield _quantiles(results, "delta_p_quantiles", "Change of the label's probability, sorted", "Δp", signed=True)
    note = "Share of rows whose k largest classes agree."
    yield _ranks(results, "topk_agreement", "Agreement of the top k", "share of rows", note)
    yield _groups(results, "kl_mean", "KLD", "nats")


# ---- one function a plot: the points, then how they are drawn, then what they say ----


def _reliability(sides: Sequence[tuple[str, Result]], key: str, title: str) -> Plot | None:
    curves: list[tuple[str, list[Any]]] = []
    for name, r in sides:
        bins = [
            {what: r.as_number(b.get(what), f"reliability: {what}") for what in ("count", "confidence", "accuracy")}
            for b in r.rows("reliability")
        ]
        curves.append((name, _finite([(b["confidence"], b["accuracy"], b["count"]) for b in bins if b["count"]])))
    if not any(points for _, points in curves):
        return None

    def draw(ax: Axes) -> None:
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for i, (name, points) in enumerate(curves):
            if points:
                x, y, n = zip(*points, strict=True)
                ax.plot(x, y, color=RUNS[i], linestyle=STYLES[i], linewidth=1.4, label=name)
                most = max(n)
                sizes = [6 + 70 * count / most for count in n]
                ax.scatter(x, y, sizes, color=RUNS[i], marker=MARKERS[i], alpha=0.75, linewidth=0)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence (mean of the bin)", ylabel="accuracy")

    words = []
    for name, points in curves:
        if points:
            gap = max(points, key=lambda p: abs(p[1] - p[0]))
            words.append(
                f"{name}: {len(points)} bins, the widest gap at confidence {percent(gap[0])} with accuracy "
                f"{percent(gap[1])}"
            )
    note = "On the dashed diagonal a model is as sure as it is right; below it, too sure. Larger marks hold more rows."
    return plot(draw, key, title, note, f"{'; '.join(words)}.", len(curves))


def _temperatures(results: Sequence[Result]) -> Plot | None:
    curves = []
    for r in results:
        fields = ("temperature", "cross_entropy", "ece")
        rows = [[r.as_number(row.get(x), f"temperatures: {x}") for x in fields] for row in r.rows("temperatures")]
        curves.append((r.name, sorted(_finite(rows))))
    if not any(len(points) > 1 for _, points in curves):
        return None

    def draw(ax: Axes) -> None:
        for i, (name, points) in enumerate(curves):
            if points:
                t, loss, _ = zip(*points, strict=True)
                ax.plot(t, loss, **{**_look(i), "marker": ""}, label=name)
                best = min(points, key=lambda p: p[1])
                ax.plot(best[0], best[1], color=RUNS[i], marker=MARKERS[i], markersize=6)
        ax.set(xlabel="temperature", ylabel="loss, nats")

    words = []
    for name, points in curves:
        if points:
            t, loss, ece = min(points, key=lambda p: p[1])
            words.append(f"{name}: least at temperature {number(t, 4)}, loss {number(loss, 4)}, ECE {percent(ece)}")
    note = "The mark is the least loss."
    return plot(draw, "temperatures", "Loss by temperature", note, f"{'; '.join(words)}.", len(curves))


def _quantiles(results: Sequence[Result], field: str, title: str, unit: str, *, signed: bool = False) -> Plot | None:
    curves = [(r.name, _finite(r.curve(field))) for r in results]
    if not any(len(points) > 1 for _, points in curves):
        return None
    values = [x for _, points in curves for _, x in points]
    positive = [x for x in values if x > 0]

    def draw(ax: Axes) -> None:
        for i, (name, points) in enumerate(curves):
            if points:
                q, x = zip(*points, strict=True)
                ax.plot(q, x, **_look(i), markersize=3.5, label=name)
        if signed:
            ax.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            ax.set_yscale("symlog", linthresh=0.01)
            plain_ticks(ax.yaxis)
        elif positive and max(positive) > 100 * min(positive):
            ax.set_yscale("log")
            plain_ticks(ax.yaxis)
        ax.set(xlabel="share of rows below", ylabel=unit, xlim=(0, 1))

    words = []
    for name, points in curves:
        middle = dict(points).get(0.5)
        if points and middle is not None:
            least, most = (number(points[end][1], 4) for end in (0, -1))
            words.append(f"{name}: median {number(middle, 4)}, from {least} to {most}")
    note = "Values from the smallest to the largest."
    return plot(draw, field.replace("_", "-"), title, note, f"{'; '.join(words)}.", len(curves))


def _ranks(results: Sequence[Result], field: str, title: str, unit: str, note: str) -> Plot | None:
    curves = []
    for r in results:
        block = r.data.get(field)
        if isinstance(block, dict) and any(isinstance(x, dict) for x in block.values()):
            parts = dict.fromkeys(part for x in block.values() if isinstance(x, dict) for part in x)
            for part in (part for part in parts if not part.endswith("_stderr")):
                inner = {k: x[part] for k, x in block.items() if isinstance(x, dict) and part in x}
                name = part if len(results) == 1 else f"{r.name}, {part}"
                curves.append((name, _finite(Result(r.name, r.kind, {field: inner}).curve(field))))
        else:
            curves.append((r.name, _finite(r.curve(field))))
    curves = [(name, points) for name, points in curves if points][:MOST_RUNS]
    if not any(len(points) > 1 for _, points in curves):
        return None

    def draw(ax: Axes) -> None:
        for i, (name, points) in enumerate(curves):
            k, share = zip(*points, strict=True)
            ax.plot(k, share, **_look(i), markersize=4, label=name)
        ks = sorted({k for _, points in curves for k, _ in points if k > 0})
        ax.set_xscale("log")
        ax.set_xticks(ks[:: -(-len(ks) // 8)], [f"{k:g}" for k in ks[:: -(-len(ks) // 8)]], minor=False)
        ax.set_xticks([], minor=True)
        ax.set(xlabel="k", ylabel=unit)
        least = min(0.9, *(s for _, points in curves for _, s in points))
        ax.set_ylim(max(0.0, least - 0.2 * (1 - least)), 1 + 0.05 * (1 - least))

    words = [f"{name}: " + ", ".join(f"top-{k:g} {percent(s)}" for k, s in points) for name, points in curves]
    return plot(draw, field.replace("_", "-"), title, note, f"{'; '.join(words)}.", len(curves))


def _groups(results: Sequence[Result], field: str, what: str, unit: str) -> Plot | None:
    columns = [by_group(r, field) for r in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    columns = [{name: v for name, v in column.items() if drawable(v[0])} for column in columns]
    if not any(columns) or len(names) < 2:
        return None
    if all(name.lstrip("-").isdigit() for name in names):
        return _by_position(results, columns, what, unit)
    shown = names[:MOST_GROUPS]
    step = 0.8 / len(columns)

    def draw(ax: Axes) -> None:
        for i, (r, column) in enumerate(zip(results, columns, strict=True)):
            points = [(j + step * (i - (len(columns) - 1) / 2), *column[n]) for j, n in enumerate(shown) if n in column]
            for y, x, error in points:
                if drawable(error):
                    ax.plot([x - error, x + error], [y, y], color=RUNS[i], linewidth=1.2)
            if points:
                ys, xs, _ = zip(*points, strict=True)
                ax.plot(xs, ys, color=RUNS[i], marker=MARKERS[i], markersize=5, linestyle="none", label=r.name)
        ax.set_yticks(range(len(shown)), [short(name) for name in shown])
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set(xlabel=f"{what}, {unit}")

    left = f" The first {MOST_GROUPS} of {len(names)} groups." if len(names) > MOST_GROUPS else ""
    height = max(2.0, 0.9 + 0.24 * len(shown) * (1 + 0.3 * (len(columns) - 1)))
    note = f"Mean of each group with its standard error.{left}"
    return plot(draw, "groups", f"{what} by group", note, "", len(columns), height)


def _by_position(
    results: Sequence[Result], columns: Sequence[dict[str, tuple[float, float]]], what: str, unit: str
) -> Plot | None:
    def draw(ax: Axes) -> None:
        for i, (r, column) in enumerate(zip(results, columns, strict=True)):
            points = sorted((int(name), x, error) for name, (x, error) in column.items())
            if points:
                x, y, error = zip(*points, strict=True)
                ax.plot(x, y, color=RUNS[i], linestyle=STYLES[i], linewidth=1.4, label=r.name)
                if all(map(drawable, error)):
                    low, high = ([v + s * e for v, e in zip(y, error, strict=True)] for s in (-1, 1))
                    ax.fill_between(x, low, high, color=RUNS[i], alpha=0.2, linewidth=0)
        ax.set(xlabel="group (position)", ylabel=f"{what}, {unit}")

    note = "Mean of each group in the order of its number; the band is the standard error."
    return plot(draw, "groups", f"{what} by position", note, "", len(columns))


def _by_confidence(results: Sequence[Result]) -> Plot | None:
    columns = []
    for r in results:
        found = {}
        for row in r.rows("kl_by_confidence"):
            value = next((row[key] for key in ("kl_mean", "kl", "mean", "value") if key in row), None)
            x = r.as_number(value, "kl_by_confidence")
            if x is not None and drawable(x):
                found[_bucket(row)] = x
        columns.append(found)
    names = list(dict.fromkeys(name for column in columns for name in column))
    if not names:
        return None
    width = 0.8 / len(columns)

    def draw(ax: Axes) -> None:
        for i, (r, column) in enumerate(zip(results, columns, strict=True)):
            x = [j + width * (i - (len(columns) - 1) / 2) for j, name in enumerate(names) if name in column]
            y = [column[name] for name in names if name in column]
            ax.bar(x, y, 0.9 * width, color=RUNS[i], alpha=0.85, label=r.name)
        ax.set_xticks(range(len(names)), names)
        ax.set(xlabel="largest probability of the base model", ylabel="mean KLD, nats")

    words = "; ".join(
        f"{r.name}: " + ", ".join(f"{name} {number(x, 4)}" for name, x in column.items())
        for r, column in zip(results, columns, strict=True)
    )
    title = "KL divergence by confidence of the base model"
    return plot(draw, "kl-by-confidence", title, "Mean KLD of the rows in each bucket.", f"{words}.", len(columns))


def _bucket(row: dict[str, Any]) -> str:
    lower, upper = row.get("lower"), row.get("upper")
    if isinstance(lower, (int, float)) and isinstance(upper, (int, float)):
        return "-".join(f"{x:g}".replace("0.", ".") for x in (lower, upper))
    return short(group_name(row))


def _look(i: int) -> dict[str, Any]:
    return {"color": RUNS[i], "linestyle": STYLES[i], "marker": MARKERS[i], "linewidth": 1.4}


def _finite(points: Sequence[Any]) -> list[Any]:
    return [point for point in points if all(x is not None and drawable(x) for x in point)]
