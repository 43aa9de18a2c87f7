"""softmax along the class axis: the result is as large as the logits, so the yardstick is a copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import peers
import pytest
import truth
from settings import Settings
from workloads import CASES, Case, Data
from yardstick import Copy


@pytest.mark.parametrize(("case", "library"), peers.pairs(CASES))
def test_softmax(measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings) -> None:
    # pages that were touched before: the system's work of giving new ones is no part of the time
    out = np.zeros(data.x.shape, truth.result_dtype(case.dtype))
    want = truth.softmax_sample(data)
    measure(
        "softmax",
        peers.softmax(library, data, settings.threads, out),
        error=lambda got: truth.worst_softmax(data, peers.as_numpy(got), want),
        limit=truth.bound(case.dtype, ulps=4),
        nbytes=data.x.nbytes + out.nbytes,
        yardstick=Copy(data.x, out, settings.threads),
    )
