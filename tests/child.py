"""A Python process of its own, which imports the same fastxent as the tests do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import fastxent

PACKAGE = Path(fastxent.__file__).resolve().parent


def run_python(code: str, *, seconds: float = 120, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """What becomes of `code` in a fresh Python, with these environment variables; None takes an inherited one away."""
    variables = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
