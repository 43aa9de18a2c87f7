"""``fastxent eval LOGITS LABELS``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files

from fastxent.cli._common import Formatter
from fastxent.cli._evaluation import (
    ALL,
    COLUMNS,
    FITTED,
    add_counts,
    add_outputs,
    add_rows,
    add_running,
    add_scores,
    add_statistics,
    options_of,
)
from fastxent.cli._output import run
from fastxent.cli._sources import add_options, open_dump, open_labels
from fastxent.evaluation import evaluate
from fastxent.results import Evaluation
from fastxent.sources import Source, is_llama
from fastxent.temperature import fit_temperature

EXAMPLES = """examples:
  fastxent eval --demo
  fastxent eval logits.npy labels.npy
  fastxent eval dump.npz --member logits --label-member labels --json result.json
  fastxent eval "shards/*.safetensors" tokens.npy --shift 1 --mask mask.npy --checkpoint run.state
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    ev = commands.add_parser(
        "eval",
        help="evaluate a file of logits against a file of labels",
        description="Evaluate logits against labels in one read: loss, perplexity, accuracy, ranks, calibration. "
        "Files larger than memory are streamed.",
        usage="fastxent eval [options] LOGITS [LABELS]",
        epilog=EXAMPLES,
        formatter_class=Formatter,
    )
    ev.add_argument("logits", nargs="?", metavar="LOGITS", help="file or folder of shape (..., classes)")
    ev.add_argument(
        "labels", nargs="?", metavar="LABELS",
        help="the same of class indices, shape (...); a KL base file of llama.cpp holds its own",
    )  # fmt: skip
    ev.add_argument("--labels", dest="labels_option", metavar="FILE", help="the same as LABELS")
    ev.add_argument("--demo", action="store_true", help="run on the handwritten digits that the package carries")
    add_running(ev)
    add_options(ev)
    add_statistics(ev)
    add_scores(ev)
    add_counts(add_rows(ev))
    add_outputs(ev)
    ev.set_defaults(run=_eval, parser=ev)


def _eval(args: argparse.Namespace) -> int:
    labels = args.labels_option or args.labels or (args.logits if args.label_member else None)
    if args.labels_option and args.labels:
        args.parser.error("labels are given twice")
    if args.demo and (args.logits or labels or args.member or args.label_member):
        args.parser.error("--demo brings its own files")
    if not args.demo and not args.logits:
        args.parser.error("a file of logits is wanted, or --demo")
    if not args.demo and not labels:
        if not is_llama(args.logits):
            args.parser.error("a file of labels is wanted, or --label-member of the logits' file")
        labels = args.logits  # such a file holds them
    return run(args, (args.logits, labels, *(getattr(args, name) for name in COLUMNS)), partial(_score, args, labels))


def _score(args: argparse.Namespace, labels: str | None) -> Evaluation:
    if not args.demo:
        return _evaluate(open_dump(args.logits, args), open_labels(str(labels), args), args)
    folder = files("fastxent.data")
    with as_file(folder / "digits_logits.npy") as x, as_file(folder / "digits_labels.npy") as y:
        result = _evaluate(open_dump(str(x), args), open_labels(str(y), args), args)
    result.provenance["logits"]["name"] = "handwritten digits"
    result.provenance["labels"]["name"] = "handwritten digits"
    return result


def _evaluate(logits: Source, labels: Source, args: argparse.Namespace) -> Evaluation:
    progress = not args.no_progress
    result = evaluate(logits, labels, **options_of(args, ALL), progress=progress)
    if not args.fit_temperature:
        return result
    fit = fit_temperature(logits, labels, **options_of(args, FITTED), progress=progress)
    return replace(result, calibration=fit.calibration())
