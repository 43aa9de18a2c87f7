"""``fastxent info``."""

from __future__ import annotations

import argparse
import json

from fastxent.config import config, show_config


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    info = commands.add_parser("info", help="print version, CPU, level and threads, for a bug report")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info, parser=info)


def _info(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps(config(), indent=2))
    else:
        show_config()
    return 0
