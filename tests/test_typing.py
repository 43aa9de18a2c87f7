"""A user's file passes mypy --strict, and runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastxent

EXAMPLE = Path(__file__).with_name("typing_example.py")


def python(*arguments, folder):
    """Run Python in a folder of its own, so that no configuration of the project's takes part."""
    package = Path(fastxent.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package)}
    if package.name != "site-packages":  # mypy looks there by itself, and refuses to be told
        environment["MYPYPATH"] = str(package)
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )


def test_a_users_file_passes_mypy(tmp_path):
    pytest.importorskip("mypy", reason="checks the types of a user's file")
    options = ("--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={tmp_path / 'cache'}")
    process = python("-m", "mypy", *options, EXAMPLE, folder=tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "no issues found" in process.stdout


def test_the_users_file_runs(tmp_path):
    process = python("-W", "error", EXAMPLE, folder=tmp_path)
    assert process.returncode == 0, process.stderr


def test_the_users_file_uses_everything():
    used = set(re.findall(r"\bfx\.(\w+)", EXAMPLE.read_text(encoding="utf-8")))
    assert used == set(fastxent.__all__)
