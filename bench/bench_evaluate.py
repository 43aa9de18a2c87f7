"""The full evaluation: loss, ranks, entropy, Brier score and calibration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import truth
from peers import pairs
from peers_evaluate import evaluate
from settings import Settings
from workloads import ALL_CASES, Case, Data
from yardstick import Read

EVALUATING = ("fastxent", "pytorch", "jax", "numpy")


@pytest.mark.parametrize(("case", "library"), pairs(ALL_CASES, EVALUATING))
def test_evaluate(measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings) -> None:
    call = evaluate(library, data, settings.threads)
    want = truth.evaluation(data, settings.threads)
    measure(
        "evaluate",
        call,
        error=lambda got: truth.worst_evaluation(got, want),
        # the promise for an entropy
        limit=1e-12 if case.dtype == "float64" else 1e-6,
        nbytes=data.x.nbytes + data.labels.nbytes,
        yardstick=Read(data.x, settings.threads),
    )
