"""Checkpoints: resumed to the same bits, refused for other data, whole after kill -9 and on a full disk."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from child import run_python

import fastxent as fx
from fastxent._scoring import checkpoint as _checkpoint
from fastxent._scoring import reading as _reading
from fastxent._scoring import rowfile as _rowfile
from fastxent._scoring.checkpoint import Checkpoint, write_atomically

ROOT = str(Path(fx.__file__).parents[1])


def numbers(result):
    """All of it but where it came from."""
    return {k: v for k, v in result.to_dict().items() if k != "provenance"}


@pytest.fixture
def data(monkeypatch):
    """Rows with groups and weights, in blocks of 50, a checkpoint after each."""
    monkeypatch.setattr(_reading, "BLOCK_ROWS", 50)
    monkeypatch.setattr(_checkpoint, "SECONDS", 0.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 3, (500, 9)).astype(np.float32), rng.integers(0, 9, 500)
    return x, y, {"groups": rng.integers(0, 20, 500), "sample_weight": rng.random(500), "temperatures": [0.5, 2.0]}


class Stop(Exception):
    pass


def stopped(*args, after, error=Stop, **options):
    """An evaluation that ends after so many rows."""

    def tell(done, rows):
        if done >= after:
            raise error

    with pytest.raises(error):
        fx.evaluate(*args, progress=tell, **options)


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 50, 200, 500])
def test_resumes_to_the_same_bits(after, error, data, tmp_path):
    x, y, options = data
    path = tmp_path / "state"
    stopped(x, y, after=after, error=error, checkpoint=path, **options)
    read = []
    got = fx.evaluate(x, y, checkpoint=path, progress=lambda done, rows: read.append(done), **options)
    assert numbers(got) == numbers(fx.evaluate(x, y, **options))
    assert read[0] >= after - 50
    again = fx.evaluate(x, y, checkpoint=path, progress=lambda done, rows: read.append(done), **options)
    assert (numbers(again), read[-1]) == (numbers(got), 500)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_other_jobs_are_refused(data, tmp_path):
    x, y, options = data
    path = tmp_path / "state"
    stopped(x, y, after=200, checkpoint=path, **options)
    before = path.read_bytes()
    others = [
        ((x + 1, y), {}, "logits"),
        ((x[:400], y[:400]), {"groups": None, "sample_weight": None}, "logits"),
        ((x, (y + 1) % 9), {}, "labels"),
        ((x.astype(np.float64), y), {}, "logits"),
        ((x, y), {"groups": options["groups"] + 1}, "groups"),
        ((x, y), {"sample_weight": None}, "sample_weight"),
        ((x, y), {"bins": 3}, "options"),
        ((x, y), {"temperatures": [0.5]}, "options"),
        ((x, y), {"shift": 1}, "shift"),
        ((x, y), {"lengths": [250, 250]}, "lengths"),
    ]
    for args, other, word in others:
        with pytest.raises(ValueError, match=rf"state: checkpoint of another job: .*{word}"):
            fx.evaluate(*args, checkpoint=path, **{**options, **other})
    assert path.read_bytes() == before


def test_damage_is_noticed(data, tmp_path):
    x, y, options = data
    path = tmp_path / "state"
    stopped(x, y, after=200, checkpoint=path, **options)
    whole = path.read_bytes()
    body = json.loads(whole)
    body["state"]["counts"]["rows"] += 1
    bad = [b"", whole[:-1], whole[: len(whole) // 2], b"[]", b"{}", b"\xff", b"[" * 100_000, json.dumps(body).encode()]
    bad.append(json.dumps({**body, "version": 99}).encode())
    for raw in bad:
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="checkpoint"):
            fx.evaluate(x, y, checkpoint=path, **options)
        assert path.read_bytes() == raw


# ---- with a file of rows ----


def same_rows(one, other):
    """Whether two files of rows hold the same bits."""
    if one.suffix == ".npy":
        return one.read_bytes() == other.read_bytes()
    import pyarrow.parquet

    a, b = (pyarrow.parquet.read_table(path) for path in (one, other))
    columns = [(a[name].to_numpy(), b[name].to_numpy()) for name in a.column_names]
    return a.schema == b.schema and all(x.tobytes() == y.tobytes() for x, y in columns)


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("after", [0, 50, 250, 500])
def test_rows_are_resumed(after, suffix, data, tmp_path):
    """The same file as without a checkpoint, whatever had been written behind the last one."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    x, y, options = data
    y[3], y[300], x[7] = -100, 99, np.nan
    folder, whole = tmp_path / "folder", tmp_path / f"whole.{suffix}"
    folder.mkdir()
    both = {"checkpoint": folder / "state", "per_row": folder / f"rows.{suffix}", **options}
    stopped(x, y, after=after, **both)
    (kept,) = [p for p in folder.iterdir() if p.name != "state"] or [None]
    assert (kept is not None) == (after > 0)
    if kept:
        with open(kept, "ab") as file:
            file.write(b"of a block that was not finished")
    got = fx.evaluate(x, y, **both)
    want = fx.evaluate(x, y, per_row=whole, **options)
    assert numbers(got) == numbers(want)
    assert same_rows(both["per_row"], whole)
    assert sorted(p.name for p in folder.iterdir()) == [f"rows.{suffix}", "state"]
    before = both["per_row"].stat().st_mtime_ns
    assert numbers(fx.evaluate(x, y, **both)) == numbers(want)  # all is there already
    assert both["per_row"].stat().st_mtime_ns == before


def test_rows_of_a_comparison_are_resumed(data, tmp_path):
    x, y, _ = data
    options = {"checkpoint": tmp_path / "state", "per_row": tmp_path / "rows.npy"}

    def tell(done, rows):
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fx.compare(x, x / 2, y, progress=tell, **options)
    got = fx.compare(x, x / 2, y, **options)
    assert numbers(got) == numbers(fx.compare(x, x / 2, y, per_row=tmp_path / "whole.npy"))
    assert same_rows(tmp_path / "rows.npy", tmp_path / "whole.npy")


def test_lost_rows_are_an_error(data, tmp_path):
    """Rows that a checkpoint counts on are there, or it is said that they are not."""
    x, y, options = data
    both = {"checkpoint": tmp_path / "state", "per_row": tmp_path / "rows.npy", **options}
    stopped(x, y, after=200, **both)
    (kept,) = [p for p in tmp_path.iterdir() if p.name != "state"]
    raw = kept.read_bytes()
    for bad in (raw[:-2000], b"", raw.replace(b"brier", b"broer"), None):
        if bad is None:
            kept.unlink()
        else:
            kept.write_bytes(bad)
        with pytest.raises(ValueError, match=r"rows\.npy: the values of the first 200 rows .* delete the checkpoint"):
            fx.evaluate(x, y, **both)
        assert bad is None or kept.read_bytes() == bad
    (tmp_path / "rows.npy").write_bytes(b"")  # as the command line tries whether it can be written
    with pytest.raises(ValueError, match="the first 200 rows"):
        fx.evaluate(x, y, **both)
    for other in (None, tmp_path / "others.npy"):
        with pytest.raises(ValueError, match="another job: per_row was rows"):
            fx.evaluate(x, y, **{**both, "per_row": other})
    kept.write_bytes(raw)
    fx.evaluate(x, y, **both)
    rows = np.load(tmp_path / "rows.npy")
    fx.evaluate(x, y, per_row=tmp_path / "whole.npy", **options)
    assert (rows == np.load(tmp_path / "whole.npy")).all()
    (tmp_path / "rows.npy").unlink()
    with pytest.raises(ValueError, match="the first 500 rows"):
        fx.evaluate(x, y, **both)


def test_disk_full_at_the_end_of_the_rows(data, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    x, y, options = data
    both = {"checkpoint": tmp_path / "state", "per_row": tmp_path / "rows.parquet", **options}

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_rowfile.RowFile, "_write_table", full)
        with pytest.raises(OSError, match="No space left") as caught:
            fx.evaluate(x, y, **both)
    assert caught.value.filename == str(tmp_path / "rows.parquet")
    assert not (tmp_path / "rows.parquet").exists()
    fx.evaluate(x, y, **both)
    fx.evaluate(x, y, per_row=tmp_path / "whole.parquet", **options)
    assert same_rows(tmp_path / "rows.parquet", tmp_path / "whole.parquet")


@pytest.mark.parametrize("place", ["write", "fsync", "replace"])
def test_full_disk(place, data, tmp_path, monkeypatch):
    """The error names the file, nothing is left lying about, and the old checkpoint is still good."""
    x, y, options = data
    path = tmp_path / "state"
    stopped(x, y, after=200, checkpoint=path, **options)
    before = path.read_bytes()

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if place == "write":
            patch.setattr(_checkpoint.tempfile, "mkstemp", full)
        else:
            patch.setattr(_checkpoint.os, place, full)
        with pytest.raises(OSError, match="No space left") as caught:
            fx.evaluate(x, y, checkpoint=path, **options)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert numbers(fx.evaluate(x, y, checkpoint=path, **options)) == numbers(fx.evaluate(x, y, **options))


def test_no_such_folder(data, tmp_path):
    x, y, _ = data
    with pytest.raises(FileNotFoundError, match="state"):
        fx.evaluate(x, y, checkpoint=tmp_path / "none" / "state")
    with pytest.raises(FileNotFoundError, match="state"):
        fx.evaluate(x, y, checkpoint=tmp_path / "none" / "state", per_row=tmp_path / "rows.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o555)
    code = f"""
        import os, numpy as np, fastxent as fx
        fx.evaluate(np.zeros((3, 2)), [0, 0, 0])  # imports all that it wants, while root
        os.geteuid() or os.setuid(65534)
        try: fx.evaluate(np.zeros((3, 2)), [0, 0, 0], checkpoint={str(tmp_path / "state")!r})
        except PermissionError as error: print(error.filename)
    """
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    try:
        done = run_python(code)
    finally:
        tmp_path.chmod(0o755)
    assert done.stdout.strip() == str(tmp_path / "state"), done.stderr


KILLED = """
import sys, numpy as np, fastxent as fx
from fastxent._scoring import checkpoint as _checkpoint, reading as _reading
_checkpoint.SECONDS, _reading.BLOCK_ROWS = 0.0, 20
print("ready", flush=True)
fx.evaluate("x.npy", "y.npy", groups=np.arange(40_000) // 7, checkpoint="state", per_row="rows.npy")
print("done", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_kill_9(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(0, 3, (40_000, 5)).astype(np.float32))
    np.save("y.npy", rng.integers(0, 5, 40_000))
    env = {**os.environ, "PYTHONPATH": ROOT}
    rows = []
    for pause in (0.05, 0.3, 0.5, 0.8):
        process = subprocess.Popen([sys.executable, "-c", KILLED], env=env, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        process.kill()
        process.communicate()
        if Path("state").exists():
            rows.append(json.loads(Path("state").read_bytes())["rows"])  # whole at any time
    assert rows == sorted(rows)
    assert rows
    assert rows[-1] > 0
    options = {"groups": np.arange(40_000) // 7}
    got = fx.evaluate("x.npy", "y.npy", checkpoint="state", per_row="rows.npy", **options)
    assert numbers(got) == numbers(fx.evaluate("x.npy", "y.npy", per_row="whole.npy", **options))
    assert same_rows(Path("rows.npy"), Path("whole.npy"))


def test_write_atomically(tmp_path):
    path = tmp_path / "file"
    for data in (b"one", b"another", b""):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert Checkpoint(tmp_path / "none", {}).load() is None
