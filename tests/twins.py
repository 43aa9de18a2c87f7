"""Results held to those of the reference."""

import pytest

EXPONENTIALS = ("perplexity", "accuracy_bound", "expected_accuracy", "perplexity_stderr")  # exp of a loss of 50
DIFFERENCES = (  # what may cancel
    "ece", "mce", "z_loss", "cross_entropy_stderr", "perplexity_stderr", "accuracy_stderr", "mutual_information",
    "label_entropy",
)  # fmt: skip


def assert_close(got, want, relative, name="", least=0.0):
    """`got` has all that `want` has; integers are equal, floats within their tolerance or `least`."""
    if isinstance(want, dict):
        for key in want:
            assert_close(got[key], want[key], relative, key if isinstance(key, str) else name, least)
    elif isinstance(want, (list, tuple)):
        for one, other in zip(got, want, strict=True):
            assert_close(one, other, relative, name, least)
    elif isinstance(want, (int, str, type(None))):
        assert got == want, name
    else:
        factor = 20 if name in EXPONENTIALS else 1
        absolute = 3 * relative * max(1.0, abs(want)) if name in DIFFERENCES else least
        assert got == pytest.approx(want, rel=factor * relative, abs=absolute, nan_ok=True), name
