"""Faults of the machine: kills, full disks, files that are cut meanwhile, no permission, no memory, closed streams."""

import contextlib
import importlib.util
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from child import PACKAGE, run_python

import fastxent as fx
from fastxent import cli
from fastxent._scoring import reading as _reading
from fastxent.sources import FormatError, open_logits

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="written for Linux")
ENV = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
X = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
Y = np.arange(4000) % 8


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with x.npy and y.npy."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    return tmp_path


def missing(*modules):
    return any(importlib.util.find_spec(name) is None for name in modules)


# ---- kill -9 ----

KILLED = """
import sys
from fastxent._scoring import checkpoint, reading
from fastxent.cli import main
checkpoint.SECONDS, reading.BLOCK_ROWS = 0.0, 40
print("ready", flush=True)
sys.exit(main(sys.argv[1:]))
"""
NAMES = ["eval", "x.npy", "y.npy", "--no-progress"]


def body(path):
    """A result without where it came from."""
    return {k: v for k, v in json.loads(Path(path).read_bytes()).items() if k != "provenance"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_kill_9_on_the_command_line(here):
    """At random moments, several times; a file's place holds a whole one at any time, and the end has the same bits."""
    x = np.tile(X, (10, 1))
    np.save("x.npy", x)
    np.save("y.npy", np.tile(Y, 10))
    assert cli.main([*NAMES, "--per-row", "want.npy", "--json", "want.json"]) == 0
    outputs = ["--checkpoint", "state", "--per-row", "rows.npy", "--json", "out.json"]
    killed, reached = 0, [0]
    for _ in range(6):
        command = [sys.executable, "-c", KILLED, *NAMES, *outputs]
        process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.random() * 0.4)
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if Path("state").exists():
            reached.append(json.loads(Path("state").read_bytes())["rows"])
        for name in ("rows.npy", "out.json"):  # tried beforehand whether it can be written, so perhaps empty
            assert not os.path.exists(name) or not os.path.getsize(name) or name == "rows.npy" or body(name)
        if os.path.exists("rows.npy") and os.path.getsize("rows.npy"):
            assert len(np.load("rows.npy")) == len(x)
    assert reached == sorted(reached)
    assert killed
    assert cli.main([*NAMES, *outputs]) == 0
    assert body("out.json") == body("want.json")
    assert Path("rows.npy").read_bytes() == Path("want.npy").read_bytes()


# ---- a disk that is full ----


def fill(path, size):
    """A file that takes all there is of a small disk."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        for _ in range(0, size, 4096):
            file.write(bytes(4096))


@contextlib.contextmanager
def no_room(how, folder):
    """A folder in which nothing more can be written."""
    if how == "tmpfs":
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
        if mounted.returncode:
            pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode()}")
        try:
            room = os.statvfs(folder)
            yield lambda: fill(folder / "filler", room.f_bsize * room.f_blocks)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


OUTPUTS = {
    "a.json": "--json", "a.html": "--html", "a.npy": "--per-row", "a.parquet": "--per-row", "a": "--checkpoint"
}  # fmt: skip


@linux
@pytest.mark.parametrize("how", ["tmpfs", "limit"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_disk_full(how, name, here, capsys):
    """One line, status 1, and the good file that was there is as it was, with nothing beside it."""
    option = OUTPUTS[name]
    if (option == "--html" and missing("jinja2", "matplotlib")) or (name.endswith("parquet") and missing("pyarrow")):
        pytest.skip("an optional library is not installed")
    folder = here / "disk"
    folder.mkdir()
    path = folder / name
    with no_room(how, folder) as take_all:
        assert cli.main([*NAMES, option, str(path)]) == 0
        if option == "--checkpoint":
            with pytest.raises(ZeroDivisionError):  # stopped in the middle, so that there is something to be saved
                path.unlink(), fx.evaluate("x.npy", "y.npy", checkpoint=path, progress=lambda done, rows: 1 // 0)
        good = path.read_bytes()
        capsys.readouterr()
        take_all()
        before = sorted(folder.iterdir())
        assert cli.main([*NAMES, option, str(path)]) == 1
        error = capsys.readouterr().err
        why = "No space left on device" if how == "tmpfs" else "File too large"
        assert error == f"fastxent: {path}: {why}\n"
        assert path.read_bytes() == good
        assert sorted(folder.iterdir()) == before


def test_outputs_keep_their_mode_and_their_links(here):
    Path("real.json").write_text("old")
    os.chmod("real.json", 0o640)
    os.symlink("real.json", "link.json")
    assert cli.main([*NAMES, "--json", "link.json"]) == 0
    assert os.path.islink("link.json")
    assert body("real.json")["rows"] == 4000
    assert os.stat("real.json").st_mode & 0o777 == 0o640
    mask = os.umask(0o027)
    try:
        assert cli.main([*NAMES, "--json", "new.json"]) == 0
    finally:
        os.umask(mask)
    assert os.stat("new.json").st_mode & 0o777 == 0o640


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_outputs_into_a_pipe(here):
    """It stays one: nothing is put in its place."""
    os.mkfifo("pipe")
    found = []
    keep = os.open("pipe", os.O_RDWR)  # until all is read
    thread = threading.Thread(target=lambda: found.append(Path("pipe").read_bytes()))
    thread.start()
    assert cli.main([*NAMES, "--json", "pipe"]) == 0
    os.close(keep)
    thread.join(20)
    assert json.loads(found[0])["rows"] == 4000
    assert Path("pipe").is_fifo()


# ---- a file that is cut while it is read ----


def write(path):
    """The logits in a file of the suffix's format, in pieces of 50 rows where it has pieces."""
    kind = "".join(path.suffixes)
    if kind in (".npy", ".F.npy"):
        np.save(path, np.asarray(X, order="F" if kind == ".F.npy" else "C"))
    elif kind.endswith(".npz"):
        (np.savez if kind == ".npz" else np.savez_compressed)(path, X)
    elif kind == ".safetensors":
        head = b'{"x":{"dtype":"F32","shape":[4000,8],"data_offsets":[0,128000]}}'
        path.write_bytes(len(head).to_bytes(8, "little") + head + X.tobytes())
    elif kind == ".kld":
        head = b"_logits_" + struct.pack("<Iii", 8002, 8, 1)
        path.write_bytes(head + bytes(4 * 8002) + bytes(4000 * 2 * 12))
    elif kind.endswith(".h5"):
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=X, chunks=(50, 8) if kind == ".chunks.h5" else None)
    elif kind == ".zarr":
        import zarr

        zarr.create_array(str(path), data=X, chunks=(50, 8))
    else:
        import pyarrow as pa

        table = pa.table({"logits": pa.array(list(X))})
        if kind == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, path, row_group_size=50)
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=50)


FORMATS = {
    "npy": (), "F.npy": (), "npz": (), "deflated.npz": (), "safetensors": (), "kld": (), "h5": ("h5py",),
    "chunks.h5": ("h5py",), "zarr": ("zarr",), "parquet": ("pyarrow",), "arrow": ("pyarrow",),
}  # fmt: skip


@linux
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_cut_while_it_is_read(suffix, opened, tmp_path, monkeypatch):
    """An error names the file, and where we read it ourselves the byte; no crash, for nothing is mapped."""
    if missing(*FORMATS[suffix]):
        pytest.skip("an optional library is not installed")
    monkeypatch.setattr(_reading, "BLOCK_ROWS", 50)
    path = tmp_path / f"x.{suffix}"
    write(path)
    source = open_logits(path, memory=1 << 13)
    if opened:
        source.read(0, 50)
    cut = []

    def tell(done, rows):
        if not cut:
            cut.append(done)
            for file in [p for p in path.rglob("*") if p.is_file()] or [path]:
                if file.suffix != ".json":
                    os.truncate(file, os.path.getsize(file) // 2)

    with pytest.raises(FormatError, match=f"x.{suffix}".replace(".", r"\.")) as caught:
        fx.evaluate(source, Y, progress=tell)
    source.close()
    ours = suffix in ("npy", "F.npy", "npz", "safetensors", "kld")
    assert not ours or re.search(r"truncated while it was read, at byte \d+", str(caught.value))
    assert "\n" not in str(caught.value)
    assert cut == [0]


# ---- memory ----


@linux
def test_no_memory():
    """Outputs that do not fit are a MemoryError, and what needs none goes on."""
    done = run_python("""
        import resource
        import numpy as np, fastxent as fx
        x = np.broadcast_to(np.arange(1 << 12, dtype=np.float32), (1 << 16, 1 << 12))  # 1 GB
        y = np.zeros(1 << 16, np.int64)
        fx.set_num_threads(2)
        want = fx.cross_entropy(x[:256], y[:256])
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), -1))
        for call in (lambda: fx.softmax(x, 1), lambda: fx.log_softmax(x, 1), lambda: fx.sigmoid(x),
                     lambda: fx.cross_entropy(x, y, return_grad=True)):
            try:
                call()
            except MemoryError as error:
                assert "allocate" in str(error), error
            else:
                raise AssertionError("it was there")
        assert fx.cross_entropy(x[:256], y[:256]) == want
        assert fx.evaluate(x[:4096], y[:4096]).rows == 4096
        print("ok")
    """)
    assert done.stdout == "ok\n", done.stderr[-2000:]


@linux
def test_no_memory_on_the_command_line(here):
    """For the buffers of a file."""
    np.save("x.npy", np.zeros((1 << 12, 1 << 11), np.float32))
    np.save("y.npy", np.zeros(1 << 12, np.int64))
    code = """
        import resource, sys
        import fastxent.cli
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (20 << 20), -1))
        sys.exit(fastxent.cli.main(["eval", "x.npy", "y.npy", "--no-progress"]))
    """
    done = run_python(code, FASTXENT_NUM_THREADS="2")
    assert done.returncode == 1
    assert done.stderr.startswith("fastxent: Unable to allocate ")
    assert done.stderr.count("\n") == 1


# ---- permissions and streams ----


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")
def test_a_folder_that_takes_no_file(here):
    """Without outputs it is no matter; each output is one line. Root may write everywhere, so it becomes nobody."""
    code = """
        import contextlib, io, os
        from fastxent.cli import main
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["eval", "--demo"]) == 0  # imports all that it wants, while root
        os.geteuid() or os.setuid(65534)
        for option in ([], ["--json", "a.json"], ["--per-row", "a.npy"], ["--checkpoint", "a"], ["--json", "out.json"]):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
                status = main(["eval", "x.npy", "y.npy", "--no-progress", *option])
            print(status, error.getvalue().strip())
    """
    Path("out.json").write_text("old")
    os.chmod("out.json", 0o666)  # such a file is written in place: no other can be put there
    for folder in here.parents[:2]:
        folder.chmod(0o755)
    here.chmod(0o555)
    try:
        done = run_python(code)
    finally:
        here.chmod(0o755)
    said = [f"1 fastxent: {name}: Permission denied" for name in ("a.json", "a.npy", "a")]
    assert done.stdout.splitlines() == ["0 ", *said, "0 "], done.stderr
    assert body("out.json")["rows"] == 4000


def test_closed_standard_input(here):
    command = [sys.executable, "-m", "fastxent", *NAMES]
    shell = ["sh", "-c", '"$@" <&-', "sh", *command]
    done = subprocess.run(shell, env=ENV, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4,000" in done.stdout


def test_the_reader_of_our_output_goes(here):
    command = [sys.executable, "-m", "fastxent", *NAMES, "--json", "-", "|", "head", "-c", "9"]
    line = " ".join(command)
    done = subprocess.run(["sh", "-c", line], env=ENV, capture_output=True, text=True, check=False)
    assert (len(done.stdout), done.stderr) == (9, "")
