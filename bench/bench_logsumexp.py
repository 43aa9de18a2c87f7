"""logsumexp along the class axis."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
import truth
from settings import Settings
from workloads import ALL_CASES, Case, Data
from yardstick import Read


@pytest.mark.parametrize(("case", "library"), peers.pairs(ALL_CASES))
def test_logsumexp(measure: Callable[..., None], data: Data, case: Case, library: str, settings: Settings) -> None:
    want = truth.row_values(data, settings.threads)["lse"]
    measure(
        "logsumexp",
        peers.logsumexp(library, data, settings.threads),
        # the promise is 2 ULP at max(|result|, 1)
        error=lambda got: truth.worst_relative(peers.as_numpy(got), want, floor=1.0),
        limit=truth.bound(case.dtype, ulps=2),
        nbytes=data.x.nbytes,
        yardstick=Read(data.x, settings.threads),
    )
