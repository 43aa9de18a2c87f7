"""``fastxent eval LOGITS LABELS``."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from fastxent import report
from fastxent._threads import set_num_threads
from fastxent.cli._common import complain, targets, threads
from fastxent.cli._evaluation import ALL, COLUMNS, FITTED, add_statistics, options_of
from fastxent.cli._sources import add_options, open_dump, open_labels
from fastxent.evaluation import evaluate
from fastxent.results import Evaluation, wrong_rows
from fastxent.sources import Source
from fastxent.temperature import fit_temperature


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    ev = commands.add_parser(
        "eval",
        help="evaluate a file of logits against a file of labels",
        description="Evaluate logits against labels in one read: loss, perplexity, accuracy, ranks, calibration. "
        "Files larger than memory are streamed.",
    )
    ev.add_argument("logits", nargs="?", metavar="LOGITS", help="file or folder of shape (..., classes)")
    ev.add_argument("labels", nargs="?", metavar="LABELS", help="the same of class indices, shape (...)")
    ev.add_argument("--labels", dest="labels_option", metavar="FILE", help="the same as LABELS")
    ev.add_argument("--demo", action="store_true", help="run on the handwritten digits that the package carries")
    ev.add_argument("--strict", action="store_true", help="invalid labels and non-finite rows are an error")
    ev.add_argument("--threads", type=threads, metavar="N", help="number of threads (all CPUs of this process)")
    ev.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_options(ev)
    add_statistics(ev)
    ev.set_defaults(run=_eval, parser=ev)


def _eval(args: argparse.Namespace) -> int:
    labels = args.labels_option or args.labels or (args.logits if args.label_member else None)
    if args.labels_option and args.labels:
        args.parser.error("labels are given twice")
    if args.demo and (args.logits or labels):
        args.parser.error("--demo brings its own files")
    if not args.demo and not args.logits:
        args.parser.error("a file of logits is wanted, or --demo")
    if not args.demo and not labels:
        args.parser.error("a file of labels is wanted")
    if args.html == "-":
        args.parser.error("--html wants a file name")
    if args.html:
        report.require_html()
    if args.threads:
        set_num_threads(args.threads)
    inputs = (args.logits, labels, *(getattr(args, name) for name in COLUMNS))
    if args.per_row and args.checkpoint:
        args.parser.error("--per-row and --checkpoint do not go together")
    outputs = {"json": args.json, "html": args.html, "per-row": args.per_row}
    if args.checkpoint and os.path.exists(args.checkpoint):
        others = [file for file in (*inputs, *outputs.values()) if file and os.path.exists(file)]
        if any(os.path.samefile(args.checkpoint, file) for file in others):
            args.parser.error(f"--checkpoint {args.checkpoint} would overwrite another file of the command")
    with targets(args.parser, inputs, **outputs):
        return _run_eval(args, labels)


def _run_eval(args: argparse.Namespace, labels: str | None) -> int:
    if args.demo:
        folder = files("fastxent.data")
        with as_file(folder / "digits_logits.npy") as x, as_file(folder / "digits_labels.npy") as y:
            result = _evaluate(x, y, args)
        result.provenance["logits"]["name"] = "handwritten digits"
        result.provenance["labels"]["name"] = "handwritten digits"
    else:
        result = _evaluate(open_dump(args.logits, args), open_labels(str(labels), args), args)
    if args.json == "-":
        print(_json(result))
    else:
        if args.json:
            Path(args.json).write_text(_json(result) + "\n")
        report.write(result)
    if args.html:
        Path(args.html).write_text(report.html(result), "utf-8")
    words = wrong_rows(result.invalid, result.first_invalid, result.nonfinite, result.first_nonfinite)
    if args.strict and words:
        complain(words)
        return 1
    return 0


def _evaluate(logits: Path | Source, labels: Path | Source, args: argparse.Namespace) -> Evaluation:
    progress = not args.no_progress
    result = evaluate(logits, labels, **options_of(args, ALL), progress=progress)
    if not args.fit_temperature:
        return result
    fit = fit_temperature(logits, labels, **options_of(args, FITTED), progress=progress)
    return replace(result, calibration=fit.calibration())


def _json(result: Evaluation) -> str:
    return json.dumps(result.to_dict(), indent=2, allow_nan=False)
