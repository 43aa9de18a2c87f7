"""The command line, a file a command: ``fastxent eval``, ``fastxent compare``, ``fastxent report``, ``fastxent info``.

Exit status 0; 1 for an error in the data, named in one line; 2 for wrong usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fastxent._version import __version__
from fastxent.cli import compare, eval, info, report
from fastxent.cli._common import complain, one_line


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    top = argparse.ArgumentParser(
        prog="fastxent",
        description="Score huge arrays of model outputs on CPUs, in one read of memory.",
        epilog="fastxent COMMAND --help has the options of a command; fastxent eval --demo shows what comes out.",
    )
    top.add_argument("--version", action="version", version=f"fastxent {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (eval, compare, report, info):
        command.add(commands)
    return top


def _run(arguments: Sequence[str] | None) -> int:
    top = parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        top.print_help(sys.stderr)
        complain("error: a COMMAND is wanted")
        return 2
    args, unknown = top.parse_known_args(arguments)
    if unknown:  # named with the usage of the command, not of all
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    status: int = args.run(args)
    return status


def _flush() -> None:
    """What Python would do at its end, where it complains in its own words."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """What is still to be written cannot be: keep Python from trying once more at its end."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status."""
    try:
        try:
            status = _run(arguments)
        except SystemExit:  # --help, --version
            _flush()
            raise
        _flush()
        return status
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        _drop_output()
        return 1
    except (ValueError, TypeError, IndexError, OSError, MemoryError, ImportError) as error:
        complain(one_line(error))
        _drop_output()
        return 1
