"""``fastxent eval LOGITS LABELS``."""

from __future__ import annotations

import argparse
import json
from importlib.resources import as_file, files
from pathlib import Path

from fastxent import report
from fastxent._threads import set_num_threads
from fastxent.cli._common import bins, complain, targets, threads, topk
from fastxent.cli._sources import add_options, open_dump, open_labels
from fastxent.evaluation import evaluate
from fastxent.results import Evaluation
from fastxent.sources import Source


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
    ev.add_argument("--json", metavar="FILE", help="write JSON, too; - for standard output, without the table")
    ev.add_argument("--html", metavar="FILE", help="write one HTML file with plots, too")
    ev.add_argument("--topk", type=topk, default=(1, 5), metavar="K,K", help="k of the top-k hits (1,5)")
    ev.add_argument("--bins", type=bins, default=15, metavar="N", help="bins of the reliability table (15)")
    ev.add_argument("--ignore-index", type=int, default=-100, metavar="I", help="label to leave out (-100)")
    ev.add_argument("--logits-dtype", choices=["bfloat16"], help="what raw 16-bit logits stand for")
    ev.add_argument("--strict", action="store_true", help="invalid labels and non-finite rows are an error")
    ev.add_argument("--threads", type=threads, metavar="N", help="number of threads (all CPUs of this process)")
    ev.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_options(ev)
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
    with targets(args.parser, (args.logits, labels), json=args.json, html=args.html):
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
    if args.strict and (result.invalid or result.nonfinite):
        what = [
            f"{count:,} {name if count > 1 else name[:-1]}, the first in row {first}"
            for count, name, first in (
                (result.invalid, "invalid labels", result.first_invalid),
                (result.nonfinite, "non-finite rows", result.first_nonfinite),
            )
            if count
        ]
        complain("; ".join(what))
        return 1
    return 0


def _evaluate(logits: Path | Source, labels: Path | Source, args: argparse.Namespace) -> Evaluation:
    return evaluate(
        logits,
        labels,
        topk=args.topk,
        bins=args.bins,
        ignore_index=args.ignore_index,
        logits_dtype=args.logits_dtype,
        progress=not args.no_progress,
    )


def _json(result: Evaluation) -> str:
    return json.dumps(result.to_dict(), indent=2, allow_nan=False)
