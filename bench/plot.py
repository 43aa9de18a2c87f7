"""The README's pictures, from kept results.

python bench/plot.py speed bench/results/KEPT.json docs/speed.svg             # fraction of the bandwidth, each library
python bench/plot.py scaling bench/results/scaling-KEPT.json docs/scaling.svg  # time against rows, and against classes
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import regimes

matplotlib.use("svg")
import matplotlib.pyplot as plt

Row = dict[str, Any]
# colours that people with any colour vision tell apart (Okabe and Ito, "Color Universal Design", 2008)
COLOURS = {
    "fastxent": "#0072B2", "pytorch": "#D55E00", "jax": "#009E73", "numba": "#CC79A7", "numpy": "#666666",
    "scipy": "#E69F00", "numexpr": "#56B4E9", "numkong": "#000000", "sklearn": "#F0E442", "histogram2d": "#bbbbbb",
}  # fmt: skip
MARKS = {"fastxent": "o"}
NAMES = {
    "pytorch": "PyTorch", "jax": "JAX", "numba": "Numba", "numpy": "NumPy", "scipy": "SciPy", "numexpr": "NumExpr",
    "numkong": "NumKong", "sklearn": "scikit-learn", "histogram2d": "numpy.histogram2d",
}  # fmt: skip
OPERATIONS = (
    "cross_entropy", "logsumexp", "evaluate", "kl_with_logits", "kl", "js", "softmax", "target_gradient",
    "binary_cross_entropy_with_logits", "sigmoid", "contingency_table",
)  # fmt: skip
STYLE = {"svg.hashsalt": "fastxent", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
         "axes.spines.right": False}  # fmt: skip


def speed(content: dict[str, Any]) -> Any:
    """One line for each operation and array of ordinary rows, one dot for each library."""
    by_line: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in content["rows"]:
        ordinary = row["data"] == "normal" or row["operation"] == "contingency_table"
        if row["operation"] in OPERATIONS and ordinary:
            kind = () if row["data"] == "normal" else (row["data"],)
            by_line.setdefault((row["operation"], row["shape"], row["dtype"], *kind), {})[row["library"]] = row
    keys = sorted((k for k, found in by_line.items() if "fastxent" in found), key=lambda k: OPERATIONS.index(k[0]))
    figure, axes = plt.subplots(figsize=(8, 0.19 * len(keys) + 1.2), layout="constrained")
    for y, key in enumerate(keys):
        found = by_line[key]
        axes.plot([0.001, found["fastxent"]["fraction"]], [y, y], color="#dddddd", lw=3, zorder=0)
        wanted = regimes.target(found["fastxent"], content["level"])
        if wanted is not None:
            axes.plot([wanted], [y], marker="|", color="#0072B2", ms=8, ls="")
        for library, row in found.items():
            axes.plot(
                [max(row["fraction"], 0.001)], [y], marker="o", ls="", color=COLOURS[library],
                ms=6 if library == "fastxent" else 4, zorder=2 if library == "fastxent" else 1,
                label=NAMES.get(library, library),
            )  # fmt: skip
    axes.set_yticks(range(len(keys)), [" ".join(key) for key in keys], fontsize=7)
    axes.set(xscale="log", xlim=(0.001, 1.3), ylim=(len(keys) - 0.3, -0.7))
    axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1 = reading"])
    axes.set_xlabel("bytes a second over the read bandwidth, or the copy's; bar: target")
    axes.set_title(f"{content['cpu']}, {content['level']}, {content['threads']} threads", fontsize=9)
    handles = {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def scaling(content: dict[str, Any]) -> Any:
    """Two panels: time against rows, nanoseconds an element against classes."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, series in zip(panels, ("rows", "classes"), strict=True):
        points = [p for p in content["points"] if p["series"] == series]
        for fixed, style in zip(sorted({p["fixed"] for p in points}), ("--", "-"), strict=True):
            for library in dict.fromkeys(name for p in points for name in p["seconds"]):
                here = [p for p in points if p["fixed"] == fixed and library in p["seconds"]]
                if series == "rows":
                    xs, ys = [p["rows"] for p in here], [p["seconds"][library] * 1e6 for p in here]
                    label = f"{library}, {fixed} classes"
                else:
                    xs = [p["classes"] for p in here]
                    ys = [p["seconds"][library] * 1e9 / (p["rows"] * p["classes"]) for p in here]
                    label = f"{library}, 2^{fixed.bit_length() - 1} elements"
                axes.plot(xs, ys, style, marker=".", color=COLOURS[library], label=label, lw=1.2)
        axes.set(xscale="log", yscale="log", xlabel=series)
        axes.legend(fontsize=6.5, frameon=False)
    panels[0].set(ylabel="microseconds a call", title="cross_entropy, float32: rows")
    panels[1].set(ylabel="nanoseconds an element", title="classes")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "scaling"))
    parser.add_argument("kept", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    content = json.loads(options.kept.read_text(encoding="utf-8"))
    with plt.rc_context(STYLE):
        figure = speed(content) if options.what == "speed" else scaling(content)
        figure.savefig(options.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
