"""The options of `fastxent eval` and `fastxent compare` that their functions have by the same names, in groups."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import Any

from fastxent.cli._common import bins, count, integer, threads, topk
from fastxent.sources import open_logits

MOST_TEMPERATURES = 1000
INPUTS = ("logits", "log_probs", "probs")


def whole(text: str) -> int:
    return integer(text, 0, 1 << 40)


def _positive(text: str) -> float:
    try:
        x = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0.0 < x < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return x


def temperatures(text: str) -> tuple[float, ...]:
    """FROM:TO:STEP, both ends included, or numbers separated by commas."""
    parts = text.split(":")
    if len(parts) == 1:
        return tuple(_positive(part) for part in text.split(","))
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM:TO:STEP, nor numbers with commas")
    for part in parts:
        _positive(part)
    # decimal fractions, so that 0.05 twenty times is 1
    first, last, step = (Fraction(part) for part in parts)
    number = (last - first) // step + 1
    if not 1 <= number <= MOST_TEMPERATURES:
        raise argparse.ArgumentTypeError(f"{text} is {max(0, number):,} temperatures, of 1 to {MOST_TEMPERATURES:,}")
    return tuple(float(first + i * step) for i in range(number))


def add_running(command: argparse.ArgumentParser) -> None:
    """Add how it is run."""
    command.add_argument("--strict", action="store_true", help="invalid labels and non-finite rows are an error")
    command.add_argument("--threads", type=threads, metavar="N", help="number of threads (all CPUs of this process)")
    command.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_statistics(command: argparse.ArgumentParser) -> None:
    """Add what is found of one model; `options_of` gives all of these as keywords."""
    some = command.add_argument_group("statistics")
    some.add_argument("--topk", type=topk, default=(1, 5), metavar="K,K", help="k of the top-k hits (1,5)")
    some.add_argument("--bins", type=bins, default=15, metavar="N", help="bins of the reliability table (15)")
    some.add_argument("--worst", type=whole, default=10, metavar="N", help="rows of the largest losses to name (10)")
    some.add_argument(
        "--temperatures", type=temperatures, default=(), metavar="FROM:TO:STEP",
        help="loss and calibration at other temperatures, from the same read; or T,T,...",
    )  # fmt: skip
    some.add_argument(
        "--fit-temperature", action="store_true", help="find the temperature of least loss, too; some ten more reads"
    )


def add_scores(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what the scores are."""
    scores = command.add_argument_group("what the scores are")
    scores.add_argument(
        "--inputs", choices=INPUTS, help="what the file holds (logits; log_probs of a KL base file of llama.cpp)"
    )
    scores.add_argument("--logits-dtype", choices=["bfloat16"], help="what raw 16-bit logits stand for")
    scores.add_argument("--temperature", type=_positive, default=1.0, metavar="T", help="divides the logits (1)")
    scores.add_argument("--classes", type=count, metavar="K", help="use the first K columns; the others are padding")
    scores.add_argument("--binary", action="store_true", help="one score a row, that of class 1 of 0 and 1")
    return scores


def add_rows(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add which rows are scored, and what stands beside them."""
    rows = command.add_argument_group("which rows", "files of a value a row, of the labels' shape")
    rows.add_argument("--ignore-index", type=int, default=-100, metavar="I", help="label to leave out (-100)")
    rows.add_argument(
        "--shift", type=whole, default=0, metavar="N",
        help="score position t against label t + N of its sequence: 1 for tokens of a causal model (0)",
    )  # fmt: skip
    rows.add_argument("--lengths", metavar="FILE", help="lengths of sequences that lie one behind the other")
    rows.add_argument("--mask", metavar="FILE", help="bool; rows of False are left out")
    rows.add_argument("--sample-weight", metavar="FILE", help="weights from 0 on")
    rows.add_argument("--groups", metavar="FILE", help="integers or strings: results by group, errors of clusters")
    return rows


def add_counts(rows: argparse._ArgumentGroup) -> None:
    """Add the lengths of what the labels stand for."""
    rows.add_argument("--byte-counts", metavar="FILE", help="bytes that each label stands for: bits per byte")
    rows.add_argument("--word-counts", metavar="FILE", help="words that each label stands for: word perplexity")


def add_outputs(command: argparse.ArgumentParser) -> None:
    """Add the files that are written."""
    out = command.add_argument_group("files that are written")
    out.add_argument("--json", metavar="FILE", help="the result as JSON, too; - for standard output, without the table")
    out.add_argument("--html", metavar="FILE", help="one HTML file with plots")
    out.add_argument("--per-row", metavar="FILE", help="the values of every row, .npy or .parquet")
    out.add_argument(
        "--checkpoint", metavar="FILE", help="the state, every half minute; where the file exists, go on behind it"
    )


COLUMNS = ("lengths", "mask", "sample_weight", "groups", "byte_counts", "word_counts")
FITTED = (
    "bins", "inputs", "logits_dtype", "classes", "binary", "ignore_index", "shift", *COLUMNS,
)  # fmt: skip
ALL = (*FITTED, "topk", "worst", "temperatures", "temperature", "per_row", "checkpoint")


def options_of(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Keywords of `evaluate`, `compare` or `fit_temperature`; files of columns are opened, cut to the rows read."""
    found = {name: getattr(args, name) for name in names}
    for name in COLUMNS:
        if found.get(name) is not None:
            rows = None if name == "lengths" else args.rows
            found[name] = open_logits(found[name], labels=True, rows=rows, memory=args.memory)
    return found
