"""What a run is made with: the options, and the facts that its figures hold for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fastxent as fx
from fastxent.config import config


@dataclass(frozen=True)
class Settings:
    mb: int
    threads: int
    rounds: int
    version: str
    level: str
    cpu: str
    clock: Callable[[], float]


def settings_for(mb: int, threads: int | None, rounds: int | None, clock: Callable[[], float]) -> Settings:
    """The defaults: fastxent's own number of threads, and 9 rounds, or 3 where the data fit a cache anyway."""
    return Settings(
        mb=mb,
        threads=threads or fx.get_num_threads(),
        rounds=rounds or (9 if mb > 64 else 3),
        version=_version(),
        level=str(config()["level"]),
        cpu=str(config()["cpu"]),
        clock=clock,
    )


def _version() -> str:
    """The package's, or in a source tree that is not installed what pyproject.toml says."""
    if "unknown" not in fx.__version__:
        return fx.__version__
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"', text, re.MULTILINE)
    return found[1] if found else fx.__version__
