"""Fixtures that several test files share; helpers that are no fixtures stand in layouts.py and child.py."""

import os
import signal

import pytest
from layouts import use_level
from unsanitized import why_not

from fastxent._dispatch import usable_levels

# processes that tests start buffer their output as a user's do: what is written at the end can fail then
os.environ.pop("PYTHONUNBUFFERED", None)


def pytest_collection_modifyitems(items):
    """Under tools/sanitize, skip what cannot run there."""
    if os.environ.get("FASTXENT_SANITIZE"):
        for item in items:
            if reason := why_not(item.path.name, getattr(item, "originalname", item.name)):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def empty_folder(tmp_path_factory):
    """The tests run in an empty folder.

    Python puts the current folder before the installed packages: a process that a test starts in the source tree would
    import the tree's package, which has no compiled kernels when fastxent was installed from it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # started in a script's background, where interrupts are ignored, by child processes too
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@pytest.fixture(params=usable_levels())
def level(request, monkeypatch) -> str:
    """Each level that this CPU can run, in the place of the one chosen at import; gives its name."""
    use_level(monkeypatch, request.param)
    return request.param
