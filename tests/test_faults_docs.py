"""docs/faults.md names a test for each fault; each of them exists, and each that the sanitizers' run leaves out."""

import ast
import re
from pathlib import Path

import pytest
from unsanitized import UNSANITIZED

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "faults.md"


def test_each_test_exists():
    if not PAGE.exists():
        pytest.skip("the source tree is not here")
    text = PAGE.read_text("utf-8")
    named = set(re.findall(r"(test_\w+\.py)::(\w+)", text))
    assert len(named) > 50
    there = {}
    for file in {file for file, _ in named}:
        tree = ast.parse((TESTS / file).read_text("utf-8"))
        there[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not [f"{file}::{name}" for file, name in named if name not in there[file]]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| provoked by |" not in line]
    assert all("::" in line.rpartition(" | ")[2] for line in rows)


def test_each_test_that_is_left_out_exists():
    for name in UNSANITIZED:
        file, _, test = name.partition("::")
        assert f"def {test or 'test_'}" in (TESTS / file).read_text("utf-8"), name


def test_each_test_of_these_files_is_named():
    if not PAGE.exists():
        pytest.skip("the source tree is not here")
    text = PAGE.read_text("utf-8")
    for file in ("test_processes.py", "test_interrupts.py", "test_faults.py", "test_hostile.py"):
        names = re.findall(r"^def (test_\w+)", (TESTS / file).read_text("utf-8"), re.MULTILINE)
        left = [name for name in names if f"{file}::{name}`" not in text and name not in WITHOUT]
        assert not left


WITHOUT = {  # of how the budget is kept, not of a fault
    "test_shorter_calls_and_limits_of_their_own", "test_an_entry_that_an_interrupt_left_behind_is_replaced",
}  # fmt: skip
