"""The corpus of the readers (tools/fuzz_sources.py): sound files are read, and nothing breaks a promise."""

import tracemalloc
from pathlib import Path

import pytest
from readers import FORMATS, TEXTS, target_of

CORPUS = Path(__file__).with_name("corpus")
LIBRARIES = {"h5": "h5py", "zarr": "zarr", "parquet": "pyarrow", "arrow": "pyarrow"}
MOST = 1 << 26  # bytes, whatever a header claims


@pytest.mark.parametrize("kind", [*FORMATS, *TEXTS])
def test_the_corpus(kind, tmp_path):
    if kind in LIBRARIES:
        pytest.importorskip(LIBRARIES[kind])
    files = sorted((CORPUS / kind).iterdir())
    assert files
    target = target_of(kind, tmp_path)
    read = {}
    tracemalloc.start()
    for file in files:
        read[file.name] = target(file.read_bytes())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(done for name, done in read.items() if name.startswith("sound"))
    assert peak < MOST
