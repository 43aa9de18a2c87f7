"""The examples in the documentation run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import fastxent

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# compiled and without examples; a command that ends Python
LEFT_OUT = ("fastxent._kernels", "fastxent.__main__")
MODULES = ["fastxent"] + [
    module.name
    for module in pkgutil.walk_packages(fastxent.__path__, "fastxent.", onerror=lambda name: None)
    if not module.name.startswith(LEFT_OUT)
]


def test_the_modules_are_found():
    assert {"fastxent.distributions", "fastxent.losses", "fastxent.config", "fastxent.reference"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    if name.startswith("fastxent.dask"):
        pytest.importorskip("dask.array", reason="an extra of the package")
    monkeypatch.chdir(tmp_path)  # for examples that write files
    results = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert results.failed == 0


RESULTS = ("Bounds", "Comparison", "Evaluation", "FormatError", "TemperatureFit")
CALLED = [name for name in fastxent.__all__ if callable(getattr(fastxent, name))]


@pytest.mark.parametrize("name", sorted(set(CALLED) - set(RESULTS)))
def test_what_is_called_has_an_example(name):
    """All but a result and an error, which no user makes."""
    found = doctest.DocTestFinder().find(getattr(fastxent, name), name)
    assert any(test.examples for test in found)
