"""The command line as a user meets it: processes, pipes, terminals, signals, memory."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import fastxent as fx
from fastxent import report
from fastxent.cli import main

ENV = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "PYTHONIOENCODING")}
ENV |= {"PYTHONPATH": str(Path(fx.__file__).parents[1]), "TERM": "xterm-256color", "PYTHONWARNINGS": "error"}
COMMAND = [sys.executable, "-m", "fastxent"]
READY = "import sys, fastxent.cli as c; print('ready', flush=True); sys.exit(c.main(sys.argv[1:]))"
NOBODY = READY.replace("print", "import os; os.geteuid() or os.setuid(65534); print")  # root may read everything
DIGITS = [str(files("fastxent.data") / f"digits_{what}.npy") for what in ("logits", "labels")]


def run(*args, command=COMMAND, **options):
    options = {"env": ENV, "capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([*command, *map(str, args)], check=False, **options)


def within(*args):
    """As `run`, in this process: for errors that are seen before anything of a process's own matters."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main([*map(str, args)])
        except SystemExit as end:  # argparse's
            status = end.code
    return subprocess.CompletedProcess(args, status, out.getvalue(), error.getvalue())


def one_line(done, status=1):
    """The one line of an error, which stands alone on stderr."""
    assert done.returncode == status
    assert done.stderr.startswith("fastxent: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def on_terminal(*args, env=ENV, meanwhile=None):
    """Status and output of a run whose stdin, stdout and stderr are a terminal; `meanwhile` sees each piece."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen([*COMMAND, *map(str, args)], env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
        while piece := os.read(master, 65536):
            text += piece
            if meanwhile:
                meanwhile(process, text)
    os.close(master)
    return process.wait(60), text.decode()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with logits x.npy, labels y.npy and others that are wrong."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 2, (100, 5)).astype(np.float32), rng.integers(0, 5, 100)
    wrong, nan = y.copy(), x.copy()
    wrong[[17, 40]], nan[23] = (9, -7), np.nan
    arrays = {"x": x, "y": y, "nan": nan, "wrong": wrong, "short": y[:50], "float": y.astype(float)}
    for name, array in {**arrays, "objects": np.array([1, "a"], object)}.items():
        np.save(f"{name}.npy", array)
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-10])
    for name in ("x.pkl", "x.csv"):
        Path(name).touch()
    Path("folder.npy").mkdir()
    return tmp_path


@pytest.fixture
def sparse(tmp_path):
    """Make .npy files of zeros that take no room on the disk."""
    made = []

    def make(name, shape, dtype="<f4", fortran=False):
        size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        if shutil.disk_usage(tmp_path).free < size:
            pytest.skip(f"no room for {size} bytes")
        made.append(tmp_path / name)
        with open(made[-1], "wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": dtype, "fortran_order": fortran, "shape": shape})
            file.truncate(file.tell() + size)
        return made[-1]

    yield make
    for path in made:
        path.unlink()


# ---- eval ----


def test_demo(tmp_path):
    want = fx.evaluate(*DIGITS)
    done = run("eval", "--demo")
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.startswith("handwritten digits: 899 rows x 10 classes float32, fastxent")
    assert lines == report.text(want).splitlines()[1:]
    assert f"{want.perplexity:.3f}" in done.stdout
    printed = json.loads(run("eval", "--demo", "--json", "-").stdout)
    done = run("eval", "--demo", "--json", tmp_path / "out.json")
    assert done.stdout.splitlines()[1:] == lines
    for got in (printed, json.loads((tmp_path / "out.json").read_text())):
        names = [got["provenance"].pop(what)["name"] for what in ("logits", "labels")]
        assert names == ["handwritten digits"] * 2
        assert got == {**want.to_dict(), "provenance": got["provenance"]}


def test_files_and_options(folder):
    want = run("eval", "x.npy", "y.npy")
    assert (want.returncode, want.stdout) == (0, report.text(fx.evaluate("x.npy", "y.npy")))
    for args in (["x.npy", "--labels", "y.npy"], ["--labels", "y.npy", "x.npy"]):
        assert run("eval", *args).stdout == want.stdout
    options = ["--topk", "3,1", "--bins", "4", "--ignore-index", "2", "--threads", "1", "--no-progress"]
    got = json.loads(run("eval", "nan.npy", "wrong.npy", "--json", "-", *options).stdout, parse_constant=pytest.fail)
    assert got == fx.evaluate("nan.npy", "wrong.npy", topk=(3, 1), bins=4, ignore_index=2).to_dict()
    np.save("bf16.npy", (np.load("x.npy").view(np.uint32) >> 16).astype(np.uint16))
    done = run("eval", "bf16.npy", "y.npy", "--logits-dtype", "bfloat16")
    assert done.stdout == report.text(fx.evaluate("bf16.npy", "y.npy", logits_dtype="bfloat16"))
    assert " classes bfloat16, fastxent " in done.stdout.splitlines()[0]


def test_wrong_rows_are_counted_and_strict_is_strict(folder):
    done = run("eval", "nan.npy", "wrong.npy")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2  out of range, the first in row 17" in done.stdout
    assert "1  left out, the first is row 23" in done.stdout
    strict = run("eval", "nan.npy", "wrong.npy", "--strict")
    assert strict.stdout == done.stdout
    assert "2 invalid labels, the first in row 17; 1 non-finite row, the first in row 23\n" in one_line(strict)
    assert run("eval", "x.npy", "y.npy", "--strict").returncode == 0


USAGE = ["", "foo", "--foo", "eval", "eval x.npy", "eval x.npy y.npy z.npy", "eval x.npy y.npy --labels y.npy"]
USAGE += ["eval --demo x.npy", "eval --demo --labels y.npy", "eval --demo --bins 0", "eval --demo --bins x"]
USAGE += ["eval --demo --topk 0", "eval --demo --topk x", "eval --demo --topk 1,", "eval --demo --threads 0"]
USAGE += ["eval --demo --threads 999999", "eval --demo --ignore-index x", "eval --demo --logits-dtype f4", "info x"]


@pytest.mark.parametrize("line", USAGE)
def test_usage_errors(line):
    done = within(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: fastxent")
    assert "error: " in done.stderr.splitlines()[-1]
    assert " _" not in done.stderr  # names of Python functions
    if line in ("", "foo", "eval"):
        as_process = run(*line.split())
        assert (as_process.returncode, as_process.stdout, as_process.stderr) == (2, "", done.stderr)


ERRORS = [("x.npy short.npy", "(50,) (100, 5) short.npy x.npy"), ("y.npy x.npy", "(100,) (100, 5) y.npy x.npy")]
ERRORS += [("x.npy float.npy", "float64 integer"), ("cut.npy y.npy", "cut.npy: truncated 2118")]
ERRORS += [("objects.npy y.npy", "objects.npy: object code"), ("x.npy objects.npy", "objects.npy: object code")]
ERRORS += [("none.npy y.npy", "none.npy"), ("x.npy none.npy", "none.npy"), ("folder.npy y.npy", "folder.npy:")]
ERRORS += [("x.npy .", "cut.npy:"), ("x.pkl y.npy", "x.pkl: pickle code"), ("x.csv y.npy", "x.csv: known: .npy")]
ERRORS += [("x.npy y.npy --json none/out.json", "none/out.json:"), ("x.npy y.npy --json folder.npy", "folder.npy:")]


@pytest.mark.parametrize(("line", "parts"), ERRORS)
def test_errors_in_the_data(line, parts, folder):
    done = within("eval", *line.split())
    words = one_line(done)
    assert all(part in words for part in parts.split())
    assert done.stdout == ""


def test_permissions(folder):
    folder.chmod(0o755)
    Path("x.npy").chmod(0)
    for args in (["x.npy", "y.npy"], ["y.npy", "x.npy"], [*DIGITS, "--json", "x.npy"]):
        done = run("eval", *args, command=[sys.executable, "-c", NOBODY])
        assert one_line(done) == "fastxent: x.npy: Permission denied\n"
        assert done.stdout == "ready\n"


def test_no_json_after_an_error(folder):
    Path("old.json").write_text("old")
    for name in ("new.json", "old.json"):
        one_line(run("eval", "cut.npy", "y.npy", "--json", name))
    assert not Path("new.json").exists()
    assert Path("old.json").read_text() == "old"


# ---- the other commands ----


def test_info_version_help():
    done = run("info")
    facts = json.loads(run("info", "--json").stdout)
    assert list(facts) == [line.split()[0] for line in done.stdout.splitlines()]
    assert {"fastxent", "numpy", "level", "levels_usable", "openmp", "threads", "row_format"} <= set(facts)
    assert (facts["fastxent"], facts["numpy"]) == (fx.__version__, np.__version__)
    assert run("--version").stdout == f"fastxent {fx.__version__}\n"
    options = "--labels --demo --json --topk --bins --ignore-index --logits-dtype --strict --threads --no-progress"
    for args, names in ((["--help"], "eval info --version"), (["eval", "--help"], f"{options} LOGITS LABELS")):
        assert set(names.split()) <= set(re.findall(r"[\w-]+", run(*args).stdout))


# ---- pipes, terminals, signals, memory ----


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["eval --demo", "eval --demo --json -", "info", "--help", "eval --help", "--version"])
def test_closed_pipe_is_quiet(line, unbuffered):
    env = {**ENV, "PYTHONUNBUFFERED": unbuffered}
    done = run(command=["bash", "-c", f'"{sys.executable}" -m fastxent {line} | head -1'], env=env)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*line.split(), capture_output=False, stdout=writer, stderr=subprocess.PIPE, env=env)
    os.close(writer)
    assert done.stderr == ""


def test_closed_standard_streams():
    want = run("eval", "--demo").stdout
    shell = ["bash", "-c", '"$@" 2>&-', "bash", *COMMAND]
    assert (run("eval", "--demo", command=shell).stdout, run("eval", "--demo", command=shell).returncode) == (want, 0)
    done = run("eval", "--demo", command=["bash", "-c", '"$@" >&-', "bash", *COMMAND])
    assert "Traceback" not in done.stderr
    full = run("eval", "--demo", command=["bash", "-c", '"$@" >/dev/full', "bash", *COMMAND])
    assert one_line(full) == "fastxent: No space left on device\n"


def test_ascii_output():
    done = run("eval", "--demo", env={**ENV, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{fx.evaluate(*DIGITS).perplexity:.3f}" in done.stdout


def test_ctrl_c(sparse):
    big, labels = sparse("big.npy", (2_000_000, 1024)), sparse("labels.npy", (2_000_000,), "|u1")
    command = [sys.executable, "-c", READY, "eval", big, labels]
    process = subprocess.Popen(command, env=ENV, stdout=-1, stderr=-1, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, error = process.communicate(timeout=20)
    assert time.monotonic() - start < 1
    assert (process.returncode, out, error) == (130, "", "fastxent: interrupted\n")


CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and moves of the cursor
BLOCKED = "import sys; sys.modules['rich'] = None"


@pytest.mark.parametrize("rich", [True, False])
def test_bar_on_a_terminal(rich, sparse, tmp_path):
    """A bar while it runs, nothing of it afterwards, a table; with and without rich; Ctrl-C leaves all in order."""
    rich = rich and pytest.importorskip("rich") is not None
    x, y = sparse("x[bold]y.npy", (600_000, 1024)), sparse("labels.npy", (600_000,), "|u1")
    (tmp_path / "sitecustomize.py").write_text("" if rich else BLOCKED)
    env = {**ENV, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ENV['PYTHONPATH']}"}
    for name in (x, x.parent / ("long" * 20) / ".." / x.name):
        name.parent.parent.mkdir(exist_ok=True)
        status, text = on_terminal("eval", name, y, env=env)
        assert status == 0
        lines = re.split(r"[\r\n]+", CODES.sub("", text))
        shown = [line for line in lines if "rows/s" in line]
        assert all(re.search(r"x\[bold\]y\.npy.* \d+ ?%|\d+ ?%.*x\[bold\]y\.npy", line) for line in shown)
        assert shown
        assert ("━" in text) == rich
        assert "x[bold]y.npy: 600,000 rows x 1,024 classes" in " ".join(lines[lines.index(shown[-1]) + 1 :])
    assert "rows/s" not in on_terminal("eval", x, y, "--no-progress", env=env)[1]
    piped = run("eval", x, y, env=env)
    assert (piped.stderr, "rows/s" in piped.stdout) == ("", False)

    def stop(process, text):
        if b"rows/s" in text and not stopped:
            stopped.append(process.send_signal(signal.SIGINT))

    stopped = []
    status, text = on_terminal("eval", x, y, env=env, meanwhile=stop)
    assert (status, CODES.sub("", text).rstrip().rpartition("\r")[2]) == (130, "fastxent: interrupted")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is back


MEMORY = """
import resource, sys, fastxent
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
rows = fastxent.evaluate(sys.argv[1], sys.argv[2]).rows
print(rows, peak() - before)
"""


@pytest.mark.parametrize("fortran", [False, True])
def test_memory_is_flat(fortran, sparse):
    """Of a file of 1 GB."""
    x, y = sparse("x.npy", (1 << 18, 1 << 10), fortran=fortran), sparse("y.npy", (1 << 18,), "|u1")
    rows, megabytes = run(x, y, command=[sys.executable, "-c", MEMORY]).stdout.split()
    assert int(rows) == 1 << 18
    assert float(megabytes) < 200


# ---- reports ----


def test_html(tmp_path):
    """eval --html and report --html, from a process and from Python: the same page of the same result."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page, result, again = tmp_path / "r.html", tmp_path / "r.json", tmp_path / "again.html"
    done = run("eval", *DIGITS, "--html", page, "--json", result)
    assert (done.returncode, done.stderr) == (0, "")
    assert page.read_text("utf-8") == report.html(fx.evaluate(*DIGITS))
    assert within("report", result).stdout == done.stdout
    small = tmp_path / "small.json"  # without plots, which take long to draw
    small.write_text('{"rows": 1, "cross_entropy": 0.5}')
    shown = run("report", small, "--html", again)
    assert (shown.returncode, shown.stdout) == (0, report.text(report.read(small)))
    assert again.read_text("utf-8") == report.html(report.read(small))
    alone = run("report", small, "--html", "-", text=False)
    assert alone.stdout == again.read_bytes()
    both = within("report", result, result)
    assert (both.returncode, both.stdout) == (0, report.text(report.read(result), report.read(result)))


def test_report_errors(tmp_path):
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text("{")
    good.write_text('{"rows": 1, "cross_entropy": 0.5}')
    page = tmp_path / "page.html"
    for results in ([bad], [good, bad], [tmp_path / "none.json"], [tmp_path], DIGITS[:1]):
        assert str(results[-1]) in one_line(within("report", *results, "--html", page))
        assert not page.exists()
    assert "none" in one_line(within("report", good, "--html", tmp_path / "none" / "x.html"))
    for arguments in ([], [good, "--html", ""], [good, "--html", good]):
        assert within("report", *arguments).returncode == 2
    assert within("eval", "--demo", "--html", "-").returncode == 2
    assert "another output" in within("eval", "--demo", "--html", page, "--json", page).stderr
    assert not page.exists()
    assert good.read_text().startswith("{")


def test_report_without_the_extra(tmp_path):
    """Said before the reading, not after it."""
    code = "import sys; sys.modules['jinja2'] = None; import fastxent.cli as c; sys.exit(c.main(sys.argv[1:]))"
    done = run("eval", "--demo", "--html", tmp_path / "x.html", command=[sys.executable, "-c", code])
    assert 'pip install "fastxent[report]"' in one_line(done)
    assert not list(tmp_path.iterdir())
