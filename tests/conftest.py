"""Fixtures that several test files share; helpers that are no fixtures stand in layouts.py."""

import pytest
from layouts import use_level

from fastxent._dispatch import usable_levels


@pytest.fixture(params=usable_levels())
def level(request, monkeypatch) -> str:
    """Each level that this CPU can run, in the place of the one chosen at import; gives its name."""
    use_level(monkeypatch, request.param)
    return request.param
