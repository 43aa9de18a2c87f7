"""What reads files and texts that others made, each as a function of bytes: for the fuzzers and the kept corpus.

Nothing but the promised errors may come out, in one line that names the file, and no memory that a header asks for.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import fastxent as fx
from fastxent import report
from fastxent.sources import FormatError, open_logits

FORMATS = ("npy", "npz", "safetensors", "kld", "h5", "zarr", "parquet", "arrow")
TEXTS = ("state", "comparison", "report")
ROW, ALL = 1 << 16, 1 << 20  # bytes of a row, and of all rows, that are read
MEMORY = 1 << 24


class FileTarget:
    """Reads one damaged file after the other; of a Zarr store its metadata."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / f"x.{kind}"
        if kind == "zarr":
            self.path.mkdir()
            for name in ("0.0", "0.1", "1.0", "1.1", "c/0/0", "c/0/1", "c/1/0", "c/1/1"):
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(bytes(16))

    def __call__(self, data: bytes) -> bool:
        """Whether it could be read; any error but those that are promised goes through."""
        if self.kind == "zarr":
            version = b'"zarr_format": 2' in data or b'"zarr_format":2' in data
            names = (".zarray", "zarr.json") if version else ("zarr.json", ".zarray")
            (self.path / names[1]).unlink(missing_ok=True)
            (self.path / names[0]).write_bytes(data)
        else:
            self.path.write_bytes(data)
        read = False
        for labels in (False, True):
            said = ""
            try:
                with contextlib.closing(open_logits(self.path, labels=labels, memory=MEMORY)) as source:
                    if source.row_bytes <= ROW:
                        for start in range(0, min(source.rows, ALL // max(1, source.row_bytes), 1000), 3):
                            source.read(start, min(start + 3, source.rows))
                        read = True
            except (FormatError, OSError) as error:
                said = str(error)
            assert not said or (str(self.path) in said and "\n" not in said), said
        return read


def state(data: bytes) -> bool:
    """An accumulator's state: what is taken can be asked for its result, and gives the same state again."""
    return _state(data, fx.Evaluator)


def comparison(data: bytes) -> bool:
    """The same of a comparison."""
    return _state(data, fx.Comparator)


def _state(data: bytes, kind: type[fx.Evaluator] | type[fx.Comparator]) -> bool:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return False
    said = ""
    try:
        found = kind.from_state(given)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    if said:
        return False
    json.dumps(found.result().to_dict(), allow_nan=False)
    assert kind.from_state(found.state()).state() == found.state()
    return True


def report_target(folder: Path) -> Callable[[bytes], bool]:
    """A result in JSON, as a report reads it."""
    path = folder / "x.json"

    def target(data: bytes) -> bool:
        path.write_bytes(data)
        said = ""
        try:
            assert report.text(report.read(path))
        except ValueError as error:
            said = str(error)
        assert not said or ("x.json" in said and "\n" not in said), said
        return not said

    return target


def target_of(kind: str, folder: Path) -> Callable[[bytes], bool]:
    """The function of bytes for a format or a text."""
    if kind in FORMATS:
        return FileTarget(kind, folder)
    return {"state": state, "comparison": comparison, "report": report_target(folder)}[kind]
