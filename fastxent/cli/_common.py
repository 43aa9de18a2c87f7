"""What the commands share: the types of their options, and complaints on stderr."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastxent._scoring.checkpoint import write_atomically
from fastxent._threads import MOST_THREADS
from fastxent.report._numbers import visible


class Formatter(argparse.HelpFormatter):
    """Examples, which have lines of their own, keep them; all else is wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


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


@contextmanager
def targets(parser: argparse.ArgumentParser, inputs: Iterable[str | None], **options: str | None) -> Iterator[None]:
    """While files are made: that each can be written is seen before an hour of reading, not after it.

    None and "-" are no files. A file that was not there before goes again after an error.
    """
    files = [(f"--{name} {file}", Path(file)) for name, file in options.items() if file not in (None, "-")]
    for name, file in options.items():
        if file == "":
            parser.error(f"--{name} wants a file name, or -")
    before = [Path(file) for file in inputs if file and os.path.exists(file)]
    for i, (option, path) in enumerate(files):
        if any(path.exists() and path.samefile(other) for other in before):
            parser.error(f"{option} would overwrite its own input")
        if any(path.absolute() == other.absolute() for _, other in files[:i]):
            parser.error(f"{option} would overwrite another output")
    fresh = [path for _, path in files if not path.exists()]
    try:
        for _, path in files:
            with open(path, "a"):
                pass
        yield
    except BaseException:
        for path in fresh:
            path.unlink(missing_ok=True)
        raise


def write_text(path: str, text: str) -> None:
    """Write a file, whole or not at all: one that was there stays where the disk is full. An OSError names it."""
    data = text.encode()
    if not os.path.exists(path) or (os.path.isfile(path) and os.access(os.path.dirname(path) or ".", os.W_OK)):
        write_atomically(Path(path), data)
        return
    # a device or a pipe, or a file in a folder that takes no other
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from None


def complain(words: str) -> None:
    """One line on stderr; names of files and of what is in them are foreign words, which a terminal must not obey."""
    if sys.stderr is not None:  # closed by whoever started us
        print(f"fastxent: {visible(words)}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
