"""Pages under docs/ whose code is written as at a Python prompt: it runs, and prints what the page says."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("choosing", "ideas")


@pytest.mark.parametrize("name", PAGES)
def test_page(name):
    path = DOCS / f"{name}.md"
    if not path.exists():
        pytest.skip("the source tree is not here")
    flags = doctest.NORMALIZE_WHITESPACE
    results = doctest.testfile(str(path), module_relative=False, encoding="utf-8", optionflags=flags)
    assert results.attempted > 5
    assert results.failed == 0
