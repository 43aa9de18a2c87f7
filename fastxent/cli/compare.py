"""``fastxent compare BASE OTHER [LABELS]``."""

from __future__ import annotations

import argparse
from functools import partial

from fastxent.cli._common import Formatter, topk
from fastxent.cli._evaluation import COLUMNS, INPUTS, add_outputs, add_rows, add_running, add_scores, options_of, whole
from fastxent.cli._output import run
from fastxent.cli._sources import add_options, open_dump, open_labels
from fastxent.comparison import compare
from fastxent.comparison_results import Comparison

NAMES = (
    "topk", "worst", "inputs", "base_inputs", "logits_dtype", "temperature", "classes", "binary", "kl_cutoff",
    "ignore_index", "shift", "per_row", "checkpoint",
)  # fmt: skip


EXAMPLES = """examples:
  fastxent compare base.npy quantised.npy
  fastxent compare base.npy quantised.npy tokens.npy --shift 1 --groups documents.npy
  fastxent compare base.kld other.npy --html report.html     (a KL base file of llama.cpp)
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    command = commands.add_parser(
        "compare",
        help="compare two models' logits of the same rows",
        description="How OTHER differs from BASE, in one read of both: perplexities, KL divergence, change of the "
        "label's probability, agreement. Files larger than memory are streamed.",
        usage="fastxent compare [options] BASE OTHER [LABELS]",
        epilog=EXAMPLES,
        formatter_class=Formatter,
    )
    command.add_argument("base", metavar="BASE", help="file or folder of shape (..., classes)")
    command.add_argument("other", metavar="OTHER", help="the same of the other model")
    command.add_argument("labels", nargs="?", metavar="LABELS", help="the same of class indices, shape (...)")
    command.add_argument("--labels", dest="labels_option", metavar="FILE", help="the same as LABELS")
    add_running(command)
    group = add_options(command)
    group.add_argument("--other-member", metavar="NAME", help="the same as --member of OTHER, where it is another")
    some = command.add_argument_group("statistics")
    some.add_argument("--topk", type=topk, default=(1, 5), metavar="K,K", help="k of the agreement of the top k (1,5)")
    some.add_argument("--worst", type=whole, default=10, metavar="N", help="rows of the largest KL to name (10)")
    some.add_argument(
        "--kl-cutoff", type=_cutoff, default="auto", metavar="X",
        help="skip KL terms with log p_base <= X; none for none (-16 for llama.cpp's files, else none)",
    )  # fmt: skip
    add_scores(command).add_argument("--base-inputs", choices=INPUTS, help="what BASE holds, where it is another")
    add_rows(command)
    add_outputs(command)
    command.set_defaults(run=_compare, parser=command)


def _cutoff(text: str) -> float | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, nor none") from None


def _compare(args: argparse.Namespace) -> int:
    if args.labels_option and args.labels:
        args.parser.error("labels are given twice")
    labels = args.labels_option or args.labels or (args.base if args.label_member else None)
    columns = tuple(name for name in COLUMNS if hasattr(args, name))
    inputs = (args.base, args.other, labels, *(getattr(args, name) for name in columns))
    return run(args, inputs, partial(_score, args, labels, columns))


def _score(args: argparse.Namespace, labels: str | None, columns: tuple[str, ...]) -> Comparison:
    return compare(
        open_dump(args.base, args),
        open_dump(args.other, args, member=args.other_member),
        None if labels is None else open_labels(labels, args),
        strict=False,
        progress=not args.no_progress,
        **options_of(args, (*NAMES, *columns)),
    )
