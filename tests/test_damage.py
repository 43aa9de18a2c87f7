"""Damaged files of every format on the command line: one line that names the file, no crash, no hang, bounded memory.

The cases come from a fixed seed; `tools/fuzz_sources.py` looks for others.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from child import PACKAGE

LIBRARIES = {"npy": "numpy", "npz": "numpy", "safetensors": "numpy", "kld": "numpy", "h5": "h5py", "zarr": "zarr",
             "parquet": "pyarrow", "arrow": "pyarrow"}  # fmt: skip
CASES = 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are written for Linux")
def test_random_damage(tmp_path):
    """In a process of its own, which a crash of a library would end."""
    suffixes = [suffix for suffix, library in LIBRARIES.items() if importlib.util.find_spec(library)]
    script = Path(__file__).with_name("damaged.py")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", script, str(CASES), tmp_path, *suffixes],
        env={"PYTHONPATH": str(PACKAGE.parent), "FASTXENT_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    for line, suffix in zip(done.stdout.splitlines(), suffixes, strict=True):
        name, fine, refused = line.split()
        assert (name, int(fine) + int(refused)) == (suffix, CASES)
        assert int(fine) > 0  # the damage is no more than that
        assert int(refused) > CASES // 10
