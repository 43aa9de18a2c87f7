"""docs/reports.md: its commands run and print what it shows, and it has every plot."""

import ast
import re
from pathlib import Path

import pytest
from pages import run_command
from test_html import PLOTS

PAGE = Path(__file__).parent.parent / "docs" / "reports.md"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page, in a folder of its own."""
    if not PAGE.exists():
        pytest.skip("the source tree is not here")
    monkeypatch.chdir(tmp_path)
    return PAGE.read_text(encoding="utf-8")


def test_everything_runs(page, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    found = {}
    for kind, block in re.findall(r"```(python)?\n(.*?)```", page, re.DOTALL):
        if kind:
            run(block, found)
            continue
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            run_command(command, output, capsys)
    assert {path.name for path in Path().iterdir()} >= {"digits.html", "both.html", "rows.npy", "digits.state"}


def run(block, found):
    """Run statements; an expression's value is what the comment behind it says, up to its dots."""
    for node in ast.parse(block).body:
        code = ast.get_source_segment(block, node)
        if not isinstance(node, ast.Expr):
            exec(code, found)
        elif (value := eval(code, found)) is not None:
            said = block.splitlines()[node.end_lineno - 1].partition("  # ")[2]
            assert said
            assert str(value).startswith(said.rstrip(".")) or repr(value) == said, code


def test_every_plot_is_explained(page):
    said = set(re.findall(r"^\| ([A-Z][^|]*?) \|", page, re.MULTILINE))
    drawn = set().union(*PLOTS.values()) | {"Loss by position", "KLD by group"}
    assert said == drawn
