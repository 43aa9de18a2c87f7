"""What the commands share: the types of their options, and complaints on stderr."""

from __future__ import annotations

import argparse
import sys

from fastxent._threads import MOST_THREADS


def integer(text: str, least: int, most: int) -> int:
    """An integer from least to most."""
    try:
        n = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer") from None
    if not least <= n <= most:
        raise argparse.ArgumentTypeError(f"must be from {least:,} to {most:,}, got {n:,}")
    return n


def topk(text: str) -> tuple[int, ...]:
    """Several counts, separated by commas."""
    return tuple(count(k) for k in text.split(","))


def count(text: str) -> int:
    """How many of something."""
    return integer(text, 1, 1 << 40)


def bins(text: str) -> int:
    """How many bins."""
    return integer(text, 1, 10_000)


def threads(text: str) -> int:
    """How many threads."""
    return integer(text, 1, MOST_THREADS)


def complain(words: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:  # closed by whoever started us
        print(f"fastxent: {words}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
