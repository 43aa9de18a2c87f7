"""Turn pytest-benchmark's JSON into a markdown table; over several files, which are several runs, into medians.

python bench/table.py run1.json run2.json run3.json           # one line for each library
python bench/table.py --pivot run1.json                       # one line for each array, one column for each library
python bench/table.py --regimes run1.json                     # what was reached, its target, the best peer
python bench/table.py --save run1.json run2.json run3.json    # keep it in bench/results/, too
python bench/table.py bench/results/KEPT.json                 # a kept result
python bench/table.py --usual usual.json                      # a run of bench_usual.py; with --save kept, too
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import regimes

RESULTS = Path(__file__).parent / "results"
# one run has one value of each; runs that differ in one cannot be put together
FACTS = ("fastxent", "cpu", "level", "threads", "clock", "bench_mb")
USUAL_FACTS = ("fastxent", "cpu", "level", "threads", "clock")
USUAL_KEY = ("function", "shape", "dtype")
KEY = ("operation", "shape", "dtype", "data", "library")
FIGURES = ("gb_per_s", "rb_gb_per_s", "fraction")
Row = dict[str, Any]


def read_run(path: Path) -> tuple[Row, list[Row]]:
    """Facts and rows of a file of pytest-benchmark's, or of a kept result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "rows" in content:
        return {k: v for k, v in content.items() if k != "rows"}, content["rows"]
    rows = [b["extra_info"] for b in content["benchmarks"] if "fraction" in b.get("extra_info", {})]
    if not rows:
        raise SystemExit(f"{path}: no figures of this benchmark")
    libraries = dict(sorted({(r["library"], r["library_version"]) for r in rows}))
    facts = {name: _only(path, name, (r[name] for r in rows)) for name in FACTS}
    load = max((r["load"] for r in rows if r["load"] is not None), default=None)
    return {**facts, "date": content["datetime"][:10], "runs": 1, "load": load, "libraries": libraries}, rows


def _only(path: Path | str, name: str, values: Iterable[Any]) -> Any:
    found = set(values)
    if len(found) != 1:
        raise SystemExit(f"{path}: several values of {name}: {', '.join(map(str, sorted(found)))}")
    return found.pop()


def combine(runs: list[tuple[Row, list[Row]]]) -> tuple[Row, list[Row]]:
    """Medians of the figures over the runs, in the order of the first run that has a row."""
    facts = {name: _only("these files", name, (f[name] for f, _ in runs)) for name in FACTS}
    facts["date"] = max(f["date"] for f, _ in runs)
    facts["runs"] = sum(f["runs"] for f, _ in runs)
    # the system's load average, our own threads included: what the figures are to be believed
    facts["load"] = max((round(f["load"], 1) for f, _ in runs if f["load"] is not None), default=None)
    facts["libraries"] = {k: v for f, _ in runs for k, v in f["libraries"].items()}
    found: dict[tuple[str, ...], list[Row]] = {}
    for _, rows in runs:
        for row in rows:
            found.setdefault(tuple(row[k] for k in KEY), []).append(row)
    combined = []
    for key, same in found.items():
        row = dict(zip(KEY, key, strict=True))
        row |= {name: round(median(r[name] for r in same), 4) for name in FIGURES}
        row |= {
            "fraction_min": round(min(r.get("fraction_min", r["fraction"]) for r in same), 4),
            "fraction_max": round(max(r.get("fraction_max", r["fraction"]) for r in same), 4),
            "runs": sum(r.get("runs", 1) for r in same),
            "yardstick": same[0]["yardstick"],
            "library_threads": same[0]["library_threads"],
            "correct": all(r["correct"] for r in same),
            "worst_relative_error": float(f"{max(r['worst_relative_error'] for r in same):.3g}"),
            "peak_extra_mb": _peak(same),
        }
        combined.append(row)
    return facts, combined


def _peak(rows: list[Row]) -> float | None:
    known = [r["peak_extra_mb"] for r in rows if r["peak_extra_mb"] is not None]
    return round(median(known), 1) if known else None


def _markdown(heads: list[str], lines: list[list[str]], text: Iterable[int]) -> str:
    """A table whose columns are numbers, but for those with the numbers `text`."""
    words = set(text)
    rule = ["---" if i in words else "---:" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))


def long_table(rows: list[Row]) -> str:
    lines = [
        [
            *(row[k] for k in KEY),
            f"{row['gb_per_s']:.1f}",
            f"{row['rb_gb_per_s']:.1f}",
            _fraction(row["fraction"]),
            f"{row['worst_relative_error']:.1e}",
            "" if row["peak_extra_mb"] is None else f"{row['peak_extra_mb']:.0f}",
        ]
        for row in rows
    ]
    heads = [*KEY, "GB/s", "yardstick GB/s", "of yardstick", "worst relative error", "extra MB"]
    return _markdown(heads, lines, range(len(KEY)))


def pivot_table(rows: list[Row]) -> str:
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        cells.setdefault(tuple(row[k] for k in KEY[:-1]), {})[row["library"]] = _fraction(row["fraction"])
    lines = [[*key, *(found.get(name, "") for name in libraries)] for key, found in cells.items()]
    return _markdown([*KEY[:-1], *libraries], lines, range(len(KEY) - 1))


def regime_table(rows: list[Row], level: str) -> str:
    return _markdown(regimes.HEADS, regimes.lines(rows, level), regimes.TEXT)


def read_usual(path: Path) -> tuple[Row, list[Row]]:
    """Facts and rows of a run of bench_usual.py, or of a kept one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if "rows" in content:
        return {k: v for k, v in content.items() if k != "rows"}, content["rows"]
    runs = [b["extra_info"] for b in content["benchmarks"] if "usual_over_ours" in b["extra_info"]]
    facts = {name: _only(path, name, (r[name] for r in runs)) for name in USUAL_FACTS}
    load = max((r["load"] for r in runs if r["load"] is not None), default=None)
    return {**facts, "date": content["datetime"][:10], "load": load}, runs


def combine_usual(runs: list[tuple[Row, list[Row]]]) -> tuple[Row, list[Row]]:
    """Medians over the runs; what one run alone has, as it has it."""
    facts = {name: _only("these files", name, (f[name] for f, _ in runs)) for name in USUAL_FACTS}
    facts["date"] = max(f["date"] for f, _ in runs)
    facts["load"] = max((round(f["load"], 1) for f, _ in runs if f["load"] is not None), default=None)
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in (row for _, rows in runs for row in rows):
        found.setdefault(tuple(row[k] for k in USUAL_KEY), []).append(row)
    rows = []
    for key, same in found.items():
        figures = {name: median(r[name] for r in same) for name in ("usual_over_ours", "microseconds")}
        rows.append(dict(zip(USUAL_KEY, key, strict=True)) | {k: float(f"{v:.3g}") for k, v in figures.items()})
    return facts, rows


def usual_table(runs: list[Row]) -> str:
    """How many times faster than the usual way: one line for each function, one column for each shape and dtype."""
    found = {(r["function"], f"{r['shape']} {r['dtype']}"): r["usual_over_ours"] for r in runs}
    functions, shapes = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
    lines = [[name, *(_ratio(found.get((name, shape))) for shape in shapes)] for name in functions]
    return _markdown(["function", *shapes], lines, [0])


def _ratio(x: float | None) -> str:
    return "" if x is None else f"{x:.1f}" if x >= 1 else f"{x:.2f}"


def _fraction(x: float) -> str:
    return f"{x:.2f}" if x >= 0.1 else f"{x:.3f}"


def result_path(facts: Row, folder: Path) -> Path:
    cpu = re.sub(r"[^a-z0-9]+", "-", facts["cpu"].lower()).strip("-") or "unknown"
    return folder / f"{facts['fastxent']}-{cpu}-{facts['level']}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="JSON files of `pytest --benchmark-json`, or kept results")
    parser.add_argument("--pivot", action="store_true", help="fractions only, a column for each library")
    parser.add_argument("--regimes", action="store_true", help="what was reached, its target, the best peer")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/, too")
    parser.add_argument("--usual", action="store_true", help="a run of bench_usual.py: how many times faster")
    options = parser.parse_args()
    if options.usual:
        facts, rows = combine_usual([read_usual(path) for path in options.files])
        print(", ".join(f"{name} {value}" for name, value in facts.items()), end="\n\n")
        print(usual_table(rows))
        if options.save:
            _keep(RESULTS / f"usual-{result_path(facts, RESULTS).name}", facts, rows)
        return
    facts, rows = combine([read_run(path) for path in options.files])
    print(", ".join(f"{name} {value}" for name, value in facts.items() if name != "libraries"))
    print(", ".join(f"{name} {value}" for name, value in facts["libraries"].items()), end="\n\n")
    print(
        regime_table(rows, facts["level"])
        if options.regimes
        else pivot_table(rows) if options.pivot else long_table(rows)
    )
    if options.save:
        _keep(result_path(facts, RESULTS), facts, rows)


def _keep(path: Path, facts: Row, rows: list[Row]) -> None:
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"\nkept in {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
