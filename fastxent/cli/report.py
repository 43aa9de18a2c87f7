"""``fastxent report RESULT.json ...``."""

from __future__ import annotations

import argparse
import sys

from fastxent import report
from fastxent.cli._common import targets, write_text


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    show = commands.add_parser(
        "report",
        help="show results that --json wrote, several side by side",
        description="Show results that --json wrote as text and as one HTML file; several are set side by side, with "
        "what changed from the first.",
    )
    show.add_argument("results", nargs="+", metavar="RESULT.json", help="result of fastxent eval or fastxent compare")
    show.add_argument("--html", metavar="FILE", help="write one HTML file with plots, too; - for standard output alone")
    show.set_defaults(run=_report, parser=show)


def _report(args: argparse.Namespace) -> int:
    if args.html:
        report.require_html()
    with targets(args.parser, args.results, html=args.html):
        results = [report.read(file) for file in args.results]
        page = report.html(*results) if args.html else ""
        if args.html == "-":
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.buffer.write(page.encode())
        else:
            report.write(*results)
            if args.html:
                write_text(args.html, page)
    return 0
