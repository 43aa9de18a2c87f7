"""Checkpoints: where a long read has come to, in a file that is whole at any time.

A checkpoint is written beside the old one and put in its place by `os.replace`, which POSIX and Windows do at once or
not at all; a process killed at any point leaves the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastxent._accumulators.state import whole

FORMAT = "fastxent.checkpoint"
VERSION = 1
SECONDS = 30.0  # between two checkpoints: what a crash can cost


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file in place at once, or leave what was there; an OSError names `path`.

    A file that was there keeps its mode, a link its target.
    """
    given, path, temporary = path, Path(os.path.realpath(path)), None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(handle, "wb") as file:
            with suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(given)) from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
    # the new name, too, is to outlive a power cut; not every system can open a folder
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Checkpoint:
    """Where a job has come to.

    Parameters
    ----------
    path
        Its file.
    job
        What the job is, JSON-able: shapes, dtypes, options, fingerprints of the data. Another job's file is refused.
    """

    def __init__(self, path: str | os.PathLike[str], job: dict[str, Any]) -> None:
        self.path = Path(path)
        self._job = json.loads(json.dumps(job))
        self._last = time.monotonic()

    @property
    def name(self) -> str:
        """A name of the job, short: another job has another."""
        return _digest(self._job)[:16]

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """The number of rows that are done and the state after them; None where there is no file.

        Raises
        ------
        ValueError
            For a file that is no checkpoint, is damaged, or is one of other data or options; names what differs.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            raise ValueError(f"{self.path}: no checkpoint, or a damaged one; delete it to begin anew") from None
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise ValueError(f"{self.path}: no checkpoint: its format should be {FORMAT!r}")
        if body.get("version") != VERSION:
            raise ValueError(f"{self.path}: checkpoint of version {body.get('version')!r}; known: {VERSION}")
        if body.get("digest") != _digest([body.get("rows"), body.get("state")]):
            raise ValueError(f"{self.path}: a damaged checkpoint; delete it to begin anew")
        job = body.get("job")
        if job != self._job:
            words = _differences(job if isinstance(job, dict) else {}, self._job)
            raise ValueError(f"{self.path}: checkpoint of another job: {words}"[:500])
        return whole(body["rows"], "rows"), body["state"]

    def due(self) -> bool:
        """Whether it is time for another."""
        return time.monotonic() - self._last >= SECONDS

    def save(self, rows: int, state: dict[str, Any]) -> None:
        """Write that so many rows are done; OSError, which names the file, where it cannot be written."""
        body = {"format": FORMAT, "version": VERSION, "job": self._job, "rows": rows, "state": state}
        body["digest"] = _digest([rows, state])
        write_atomically(self.path, json.dumps(body, allow_nan=False).encode())
        self._last = time.monotonic()


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """What differs between two jobs, in words."""
    found = []
    for name in sorted({*before, *now}):
        a, b = before.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict) and a != b:
            # a dump of another shape has other values, too: the first difference says enough
            was, is_ = ({k: v for k, v in one.items() if k != "fingerprint"} for one in (a, b))
            found.append(_differences(was, is_, f"{name} ") or f"{name} holds other values")
        elif a != b:
            found.append(f"{prefix}{name} was {a}, is {b}")
    return "; ".join(found)


def _digest(x: Any) -> str:
    return hashlib.blake2b(json.dumps(x, sort_keys=True).encode(), digest_size=16).hexdigest()
