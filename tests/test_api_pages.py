"""The reference pages under docs/api have every public name, once."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from pages import SOURCE

import fastxent
from fastxent import report
from fastxent.cli import parser

API = SOURCE / "docs" / "api"
DIRECTIVE = re.compile(r"^\.\. (?:auto(?:function|class|exception)|data):: (\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def named():
    """Every name that the pages document, in full, with how often."""
    if not API.exists():
        pytest.skip("the source tree is not here")
    found: Counter[str] = Counter()
    for page in API.glob("*.rst"):
        for part in re.split(r"^\.\. currentmodule:: ", page.read_text(), flags=re.MULTILINE)[1:]:
            module = part.split()[0]
            names = (name.removeprefix(f"{module}.") for name in DIRECTIVE.findall(part))
            found.update(f"{module}.{name}" for name in names)
    return found


def test_every_public_name_once(named):
    of_fastxent = {name.split(".")[1]: n for name, n in named.items() if name.count(".") == 1}
    assert of_fastxent == dict.fromkeys(fastxent.__all__, 1)


def test_every_name_for_dask(named):
    source = (Path(fastxent.__file__).parent / "dask" / "__init__.py").read_text()  # the import wants Dask
    (names,) = re.findall(r"^__all__ = (\[.*?\])$", source, re.MULTILINE)
    on_pages = {name.removeprefix("fastxent.dask.") for name in named if name.startswith("fastxent.dask.")}
    assert on_pages == set(ast.literal_eval(names))


def test_reports(named):
    assert all(hasattr(report, name.split(".")[2]) for name in named if name.startswith("fastxent.report."))


def test_every_command():
    if not API.exists():
        pytest.skip("the source tree is not here")
    text = (API / "command_line.rst").read_text()
    (commands,) = (action.choices for action in parser()._actions if action.dest == "command")
    assert re.findall(r"^\.\. fastxent-help:: (\w+)$", text, re.MULTILINE) == list(commands)


def test_every_page_is_in_the_table_of_contents():
    """Sphinx says so, too, where it is installed."""
    if not API.exists():
        pytest.skip("the source tree is not here")
    index = (SOURCE / "docs" / "index.md").read_text() + (API / "index.rst").read_text()
    for page in (*SOURCE.glob("docs/*.md"), *API.glob("*.rst")):
        assert page.stem in ("index", *index.split()), page.name
