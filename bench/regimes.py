"""The table of regimes: what was reached, its target, and the best peer beside it."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
HEADS = ["regime", "rows", "GB/s", "of yardstick", "target", "best peer", "its", "times", "extra MB", "peer's"]
TEXT = (0, 1, 5)  # columns that are no numbers

# operation: (dtypes, classes from, to, fraction at avx512, at avx2); two threads, data larger than cache
_LOSSES = ("cross_entropy", "cross_entropy, mean", "cross_entropy, out", "logsumexp")
_FULL = ("float32", "float64", "bfloat16", "float16")
_TARGETS: list[tuple[tuple[str, ...], tuple[str, ...], int, int, float, float]] = [
    (_LOSSES, ("float32",), 256, 1 << 62, 0.95, 0.85),
    (_LOSSES, ("float64",), 256, 1 << 62, 0.95, 0.60),
    (_LOSSES, ("bfloat16", "float16"), 256, 1 << 62, 0.75, 0.45),
    (_LOSSES, ("float32",), 100, 255, 0.90, 0.75),
    (_LOSSES, ("float32",), 32, 99, 0.90, 0.75),
    (_LOSSES, ("float32",), 19, 31, 0.85, 0.75),
    (_LOSSES, ("float32",), 4, 18, 0.80, 0.60),
    (_LOSSES, ("float32",), 3, 3, 0.70, 0.45),
    (_LOSSES, ("float32",), 2, 2, 0.75, 0.50),
    (("evaluate",), _FULL, 256, 1 << 62, 0.80, 0.50),
    (("kl_with_logits",), _FULL, 256, 1 << 62, 0.80, 0.55),
    (("kl",), _FULL, 256, 1 << 62, 0.90, 0.60),
    (("js",), _FULL, 256, 1 << 62, 0.65, 0.35),
    (("softmax", "log_softmax", "target_gradient"), _FULL, 1, 1 << 62, 0.70, 0.55),
]
_STRIDED = (0.70, 0.60)
_BINARY = (0.95, 0.80)
_CONTINGENCY = {"100": (0.45, 0.40), "5000": (0.12, 0.10)}


def target(row: Row, level: str) -> float | None:
    """The fraction of the bandwidth that this regime is to reach at a level; None where none is set."""
    if level not in ("avx512", "avx2"):
        return None
    shape = [int(n) for n in row["shape"].split("x")]
    found: tuple[float, float] | None = None
    if row["operation"] == "binary_cross_entropy_with_logits":
        found = _BINARY
    elif row["operation"] == "contingency_table":
        found = _CONTINGENCY.get(row["data"].rpartition("-")[2])
    elif len(shape) > 2:
        found = _STRIDED if row["operation"] in _LOSSES else None
    elif len(shape) == 2:
        for operations, dtypes, least, most, wide, narrow in _TARGETS:
            if row["operation"] in operations and row["dtype"] in dtypes and least <= shape[1] <= most:
                found = (wide, narrow)
                break
    return None if found is None else found[level == "avx2"]


def lines(rows: list[Row], level: str) -> list[list[str]]:
    """A line for each array and operation that fastxent was measured on, under HEADS."""
    by_key: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[k] for k in ("operation", "shape", "dtype", "data"))
        by_key.setdefault(key, {})[row["library"]] = row
    made = []
    for (operation, shape, dtype, data), found in by_key.items():
        ours = found.get("fastxent")
        if ours is None:
            continue
        wanted = target(ours, level)
        # a wrong result has no speed
        peers = [r for name, r in found.items() if name != "fastxent"]
        best = max(peers, key=lambda r: r["fraction"], default=None)
        made.append(
            [
                f"{operation} {shape} {dtype}",
                data,
                f"{ours['gb_per_s']:.1f}",
                f"{ours['fraction']:.2f}",
                "" if wanted is None else f"{wanted:.2f}",
                "" if best is None else best["library"] + ("" if best["correct"] else " (inaccurate)"),
                "" if best is None else f"{best['fraction']:.2f}",
                "" if best is None else f"{ours['fraction'] / best['fraction']:.1f}",
                _memory(ours),
                "" if best is None else _memory(best),
            ]
        )
    return made


def _memory(row: Row) -> str:
    return "" if row["peak_extra_mb"] is None else f"{row['peak_extra_mb']:.0f}"


def columns(rows: list[Row], level: str) -> str:
    """The table in columns, for a terminal."""
    table = [HEADS, *lines(rows, level)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in TEXT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )
