"""Every code block of README.md, CONTRIBUTING.md and docs/ runs, and prints what it shows, or has its reason here."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pages import SOURCE, blocks, run_command, run_python

import fastxent as fx

PAGES = sorted([*SOURCE.glob("*.md"), *(SOURCE / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(SOURCE)) for path in PAGES]

# pages that a test of their own runs, and compares with more than they show
ELSEWHERE = {
    "docs/clusters.md": "test_clusters.py, for each part wants an engine that may not be here",
    "docs/comparing.md": "test_comparing_docs.py, which compares every number with NumPy's",
    "docs/logistic_regression.md": "test_gradients.py, which compares it with scikit-learn",
    "docs/reports.md": "test_reports_docs.py, which compares its comments, too",
}
# libraries that a page speaks of, where they are no part of the extra `test`
WANTED: dict[str, tuple[str, ...]] = {"docs/coming_from.md": ("torch", "sklearn")}
# shell commands that are not run here, and why
NOT_RUN = {
    r"python3 -m venv ": "installs from the network; .ci/run runs the README's two lines as they stand",
    r"pip install ": "installs from the network",
    r"python -m pytest": "would be this test within itself",
    r"pytest bench/|python bench/": "takes minutes, and a quiet machine; .ci/run has a short one",
    r"python -m sphinx ": "a step of .ci/run",
}
# shown, not run: what a command or a call prints, files
SHOWN = ("", "text", "json", "{toctree}", "{include} ../CONTRIBUTING.md", "{include} ../CHANGELOG.md")


def readme_files():
    """What the README's commands name."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 12)).astype(np.float32), rng.integers(0, 12, 40)
    pytest.importorskip("safetensors.numpy").save_file({"logits": logits}, "logits.safetensors")
    np.savez("dump.npz", logits=logits, labels=labels)
    for name, array in {"tokens": labels, "base": logits, "quantised": np.round(logits, 1)}.items():
        np.save(f"{name}.npy", array)
    for name, scores in {"a": logits, "b": logits / 2}.items():
        Path(f"{name}.json").write_text(json.dumps(fx.evaluate(scores, labels).to_dict()))


FILES = {"README.md": readme_files}


def runnable(name):
    return [block for block in blocks(SOURCE / name) if block.language not in SHOWN or block.commands]


def reason(command):
    return next((why for pattern, why in NOT_RUN.items() if re.match(pattern, command)), None)


def test_the_pages_are_found():
    if not (SOURCE / "docs").exists():
        pytest.skip("the source tree is not here")
    assert len(NAMES) > 12
    assert set(ELSEWHERE) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_page(name, tmp_path, monkeypatch, capsys):
    if name in ELSEWHERE:
        for block in runnable(name):
            assert block.language in ("python", "")
        return
    for library in WANTED.get(name, ()):
        pytest.importorskip(library, reason=f"{name} is about it")
    monkeypatch.chdir(tmp_path)
    FILES.get(name, lambda: None)()
    found: dict = {}
    for block in runnable(name):
        if block.language == "python":
            run_python(block, found)
            continue
        assert block.language in ("sh", ""), f"{block.place}: a {block.language} block is neither run nor shown"
        for command, output in block.commands:
            if command.startswith("fastxent "):
                run_command(command, output, capsys)
            else:
                assert reason(command), f"{block.place}: {command} is not run, without a reason"


def test_every_reason_is_wanted():
    if not (SOURCE / "docs").exists():
        pytest.skip("the source tree is not here")
    commands = [command for name in NAMES for block in runnable(name) for command, _ in block.commands]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in commands), pattern
