"""The differential fuzz (fuzz.py): a fixed small set always, the long one with `pytest -m fuzz`.

The long one takes FASTXENT_FUZZ_CASES cases (100,000) from FASTXENT_FUZZ_SEED on (else the time), and says both.
"""

import os
import sys
import time

import pytest
from calls import CALLS
from fuzz import fuzz

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect is written for Linux")


def test_a_fixed_set():
    counted, failures = fuzz(930, seed=1)
    assert not failures, failures[0]
    assert counted.total() == 930
    assert set(counted) == set(CALLS)


@pytest.mark.fuzz
def test_the_long_fuzz(capsys):
    cases, seed = int(os.environ.get("FASTXENT_FUZZ_CASES", "100000")), os.environ.get("FASTXENT_FUZZ_SEED")
    chosen = int(time.time()) if seed is None else int(seed)
    counted, failures = fuzz(cases, chosen)
    with capsys.disabled():
        print(f"\n{counted.total()} cases, seed {chosen}, {len(failures)} failures")
    assert not failures, "\n".join(failures)
