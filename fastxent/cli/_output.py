"""What the commands that score do around the scoring: checks before an hour of reading, and the results after it."""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from fastxent import report
from fastxent._passes.targets import NormalizedInputWarning
from fastxent._threads import set_num_threads
from fastxent.cli._common import complain, targets, write_text
from fastxent.comparison_results import Comparison
from fastxent.results import Evaluation, wrong_rows


def run(
    args: argparse.Namespace, inputs: Sequence[str | None], score: Callable[[], Evaluation | Comparison]
) -> int:
    """Check the files that are written, score, and write; gives the exit status."""
    if args.html == "-":
        args.parser.error("--html wants a file name")
    if args.html:
        report.require_html()
    if args.threads:
        set_num_threads(args.threads)
    outputs = {"json": args.json, "html": args.html, "per-row": args.per_row}
    if args.checkpoint and os.path.exists(args.checkpoint):
        others = [file for file in (*inputs, *outputs.values()) if file and os.path.exists(file)]
        if any(os.path.samefile(args.checkpoint, file) for file in others):
            args.parser.error(f"--checkpoint {args.checkpoint} would overwrite another file of the command")
    with targets(args.parser, inputs, **outputs):
        with warnings.catch_warnings():
            warnings.simplefilter("default", NormalizedInputWarning)
            warnings.showwarning = _note
            result = score()
        return _write(args, result)


def _note(message: Warning | str, *where: Any, **_: Any) -> None:
    """In the place of `warnings.showwarning`: a line, without the place in the code."""
    complain(f"note: {message}")


def _write(args: argparse.Namespace, result: Evaluation | Comparison) -> int:
    text = json.dumps(result.to_dict(), indent=2, allow_nan=False)
    if args.json == "-":
        print(text)
    else:
        if args.json:
            write_text(args.json, text + "\n")
        report.write(result)
    if args.html:
        write_text(args.html, report.html(result))
    words = wrong_rows(result.invalid, result.first_invalid, result.nonfinite, result.first_nonfinite)
    if args.strict and words:
        complain(words)
        return 1
    return 0
