"""The options that say what is read of the files, for every command that reads logits."""

from __future__ import annotations

import argparse
import re

from fastxent.sources import MEMORY, Source, as_slice, open_logits


def add_options(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The options of `open_dump` and `open_labels`."""
    group = command.add_argument_group("what is read of the files")
    group.add_argument("--member", metavar="NAME", help="member, tensor, dataset or column of the logits in their file")
    group.add_argument("--label-member", metavar="NAME", help="the same of the labels (in the logits' file by default)")
    group.add_argument(
        "--rows", type=_rows, metavar="A:B", help="only these rows, of logits and labels; --rows=-9: for the last 9"
    )
    group.add_argument("--columns", type=_columns, metavar="K", help="only the first K classes, or A:B")
    group.add_argument("--axis", type=int, default=-1, metavar="N", help="the class axis of the logits (the last one)")
    group.add_argument(
        "--memory", type=_size, default=MEMORY, metavar="SIZE",
        help="most to hold of a file that cannot be read row by row, as 512M or 2G (1G)",
    )  # fmt: skip
    return group


def open_dump(path: str, args: argparse.Namespace, *, member: str | None = None) -> Source:
    """A file of logits, as the options have it; `member` instead of theirs."""
    return open_logits(
        path, name=member or args.member, rows=args.rows, columns=args.columns, axis=args.axis, memory=args.memory
    )


def open_labels(path: str, args: argparse.Namespace) -> Source:
    """A file of labels, as the options have it."""
    return open_logits(path, name=args.label_member, labels=True, rows=args.rows, memory=args.memory)


def _rows(text: str) -> slice | None:
    if ":" not in text:
        raise argparse.ArgumentTypeError(f"must be A:B, got {text!r}")
    return _columns(text)


def _columns(text: str) -> slice | None:
    try:
        return as_slice(text, "it")
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be A:B or a number, got {text!r}") from None


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"must be a size such as 512M or 2G, got {text!r}")
    return int(found[1]) << " KMGT".index(found[2] or " ") * 10
