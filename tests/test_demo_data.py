"""fastxent.data: the shipped logits are what they are said to be, and tools/make_demo.py makes them."""

import importlib.util
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "make_demo.py"
NAMES = ("digits_logits.npy", "digits_labels.npy")


def shipped(name: str) -> np.ndarray:
    with resources.as_file(resources.files("fastxent.data") / name) as path:
        return np.load(path, allow_pickle=False)


@pytest.fixture
def logits() -> np.ndarray:
    return shipped("digits_logits.npy")


@pytest.fixture
def labels() -> np.ndarray:
    return shipped("digits_labels.npy")


def test_logits(logits):
    assert logits.shape == (899, 10)
    assert logits.dtype == np.float32
    assert logits.flags.c_contiguous
    assert np.isfinite(logits).all()


def test_labels(labels):
    assert labels.shape == (899,)
    assert labels.dtype == np.int64
    # every digit is there, about equally often: the split was stratified
    counts = np.bincount(labels, minlength=10)
    assert labels.min() >= 0
    assert counts.shape == (10,)
    assert counts.min() >= 85


def test_accuracy(logits, labels):
    assert 0.93 < (logits.argmax(axis=1) == labels).mean() < 1.0


def test_confidence_is_plausible(logits, labels):
    # what a scale or a softmax too many would spoil
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    confidence = (e / e.sum(axis=1, keepdims=True)).max(axis=1).mean()
    assert abs(confidence - (logits.argmax(axis=1) == labels).mean()) < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small(name):
    assert len((resources.files("fastxent.data") / name).read_bytes()) < 100_000


def load_script() -> ModuleType:
    pytest.importorskip("sklearn", reason="tools/make_demo.py needs scikit-learn")
    if not SCRIPT.is_file():
        pytest.skip("the tests stand alone: no tools/make_demo.py beside them")
    spec = importlib.util.spec_from_file_location("make_demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# older scikit-learn on newer SciPy warns of what is not ours; a ConvergenceWarning is still an error
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_script_makes_the_files(logits, labels, tmp_path, monkeypatch, capsys):
    script = load_script()
    assert script.DATA.parts[-2:] == ("fastxent", "data")
    monkeypatch.setattr(script, "DATA", tmp_path)
    script.main()
    assert "accuracy 0.95" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(NAMES)
    made = np.load(tmp_path / "digits_logits.npy")
    assert made.dtype == logits.dtype
    np.testing.assert_array_equal(np.load(tmp_path / "digits_labels.npy"), labels)
    # the training may end in other last bits with another version or another BLAS
    assert np.allclose(made, logits, rtol=1e-3, atol=1e-2)
