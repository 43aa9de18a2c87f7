"""Every option of `fastxent eval` and `fastxent compare`, in this process: what Python gives for the same keyword."""

import argparse
import errno
import json
import os
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from child import run_python

import fastxent as fx
from fastxent import report
from fastxent._scoring import checkpoint as _checkpoint
from fastxent.cli import main, parser

N, C = 90, 6


def arrays():
    """By the names of their files."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (N, C)).astype(np.float32)
    p = np.exp(x.astype(float))
    y = rng.integers(0, C, N)
    y[:50] = x[:50].argmax(1)
    wrong, nan = y.copy(), x.copy()
    wrong[[17, 40]], nan[23] = (9, -7), np.nan
    return {
        "x": x, "q": x + rng.normal(0, 0.1, (N, C)).astype(np.float32), "y": y, "wrong": wrong, "nan": nan, "t": x.T,
        "p": p / p.sum(1, keepdims=True), "bits": (x.view(np.uint32) >> 16).astype(np.uint16), "one": x[:, 0],
        "y01": y % 2, "wide": np.concatenate([x, np.full((N, 2), -np.inf, np.float32)], 1), "cube": x.reshape(9, 10, C),
        "ycube": y.reshape(9, 10), "of10": rng.integers(0, 11, 9), "lengths": np.array([40, 0, 50]),
        "mask": rng.random(N) < 0.8, "mask01": rng.integers(0, 2, N), "weight": rng.random(N),
        "groups": rng.integers(0, 9, N), "documents": np.array([f"d{i // 7}" for i in range(N)]),
        "bytestrings": np.array([f"d{i // 7}" for i in range(N)], "S5"),
        "bytes": rng.integers(0, 9, N), "words": rng.integers(0, 3, N), "short": y[:50], "float": y.astype(float),
    }  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "both.npz", scores=arrays()["x"], tokens=arrays()["y"], others=arrays()["q"])
    return folder


@pytest.fixture
def here(files, monkeypatch):
    """The files lie in the current folder; what a test writes goes again."""
    before = set(files.iterdir())
    monkeypatch.chdir(files)
    yield files
    for path in set(files.iterdir()) - before:
        path.unlink()


def numbers(result):
    """All of it but where it came from."""
    return {k: v for k, v in result.items() if k != "provenance"}


A = arrays()
BASE = (A["x"], A["y"])
# command line; arguments; keywords of evaluate
EVALUATED = [
    ("x.npy y.npy --topk 3,1 --bins 4 --worst 2", BASE, {"topk": (1, 3), "bins": 4, "worst": 2}),
    ("x.npy --labels y.npy --ignore-index 2 --threads 1 --no-progress", BASE, {"ignore_index": 2}),
    ("x.npy y.npy --temperatures 0.5:2:0.5", BASE, {"temperatures": (0.5, 1.0, 1.5, 2.0)}),
    ("x.npy y.npy --temperatures 0.5,3 --temperature 2", BASE, {"temperatures": (0.5, 3.0), "temperature": 2.0}),
    ("p.npy y.npy --inputs probs", (A["p"], A["y"]), {"inputs": "probs"}),
    ("x.npy y.npy --inputs log_probs", BASE, {"inputs": "log_probs"}),
    ("bits.npy y.npy --logits-dtype bfloat16", (A["bits"], A["y"]), {"logits_dtype": "bfloat16"}),
    ("wide.npy y.npy --classes 6", (A["wide"], A["y"]), {"classes": 6}),
    ("wide.npy y.npy --columns 6", BASE, {}),
    ("x.npy y01.npy --columns 1:3", (A["x"][:, 1:3], A["y01"]), {}),
    ("one.npy y01.npy --binary", (A["one"], A["y01"]), {"binary": True}),
    ("t.npy y.npy --axis 0", BASE, {}),
    ("x.npy y.npy --rows 10:70 --memory 1M", (A["x"][10:70], A["y"][10:70]), {}),
    ("x.npy y.npy --rows=-5:", (A["x"][-5:], A["y"][-5:]), {}),
    ("x.npy y.npy --rows 10:70 --groups groups.npy", (A["x"][10:70], A["y"][10:70]), {"groups": A["groups"][10:70]}),
    ("x.npy y.npy --shift 1", BASE, {"shift": 1}),
    ("x.npy y.npy --shift 2 --lengths lengths.npy", BASE, {"shift": 2, "lengths": A["lengths"]}),
    ("cube.npy ycube.npy --shift 1 --lengths of10.npy", (A["cube"], A["ycube"]), {"shift": 1, "lengths": A["of10"]}),
    ("x.npy y.npy --mask mask.npy", BASE, {"mask": A["mask"]}),
    ("x.npy y.npy --mask mask01.npy", BASE, {"mask": A["mask01"] == 1}),
    ("x.npy y.npy --sample-weight weight.npy", BASE, {"sample_weight": A["weight"]}),
    ("x.npy y.npy --groups bytestrings.npy", BASE, {"groups": A["documents"]}),
    ("x.npy y.npy --groups documents.npy", BASE, {"groups": A["documents"]}),
    ("x.npy y.npy --byte-counts bytes.npy --word-counts words.npy", BASE,
     {"byte_counts": A["bytes"], "word_counts": A["words"]}),
    ("both.npz --member scores --label-member tokens", BASE, {}),
    ("x.npy y.npy --strict", BASE, {"strict": True}),
    ("nan.npy wrong.npy", (A["nan"], A["wrong"]), {}),
]  # fmt: skip
PAIR = (A["x"], A["q"], A["y"])
COMPARED = [
    ("x.npy q.npy y.npy --topk 2 --worst 3 --threads 2 --no-progress", PAIR, {"topk": (2,), "worst": 3}),
    ("x.npy q.npy --labels y.npy --ignore-index 2 --strict", PAIR, {"ignore_index": 2}),
    ("x.npy q.npy --kl-cutoff=-2", PAIR[:2], {"kl_cutoff": -2.0}),
    ("x.npy q.npy --kl-cutoff none", PAIR[:2], {}),
    ("p.npy q.npy --base-inputs probs", (A["p"], A["q"]), {"base_inputs": "probs", "inputs": "logits"}),
    ("p.npy p.npy --inputs probs --rows 3:40", (A["p"][3:40],) * 2, {"inputs": "probs"}),
    ("bits.npy x.npy --logits-dtype bfloat16", (A["bits"], A["x"]), {"logits_dtype": "bfloat16"}),
    ("wide.npy x.npy --classes 6 --temperature 2", (A["wide"], A["x"]), {"classes": 6, "temperature": 2.0}),
    ("wide.npy wide.npy --columns 6", (A["x"], A["x"]), {}),
    ("t.npy t.npy --axis 0", (A["x"], A["x"]), {}),
    ("one.npy one.npy y01.npy --binary", (A["one"], A["one"], A["y01"]), {"binary": True}),
    ("both.npz both.npz --member scores --other-member others --label-member tokens --memory 1M", PAIR, {}),
    ("x.npy q.npy y.npy --shift 1 --lengths lengths.npy", PAIR, {"shift": 1, "lengths": A["lengths"]}),
    ("x.npy q.npy y.npy --mask mask01.npy --sample-weight weight.npy --groups documents.npy", PAIR,
     {"mask": A["mask01"] == 1, "sample_weight": A["weight"], "groups": A["documents"]}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "arguments", "keywords"), EVALUATED, ids=lambda x: x if isinstance(x, str) else "")
def test_eval(line, arguments, keywords, here, capsys):
    assert main(["eval", *line.split(), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert numbers(json.loads(out)) == numbers(fx.evaluate(*arguments, **keywords).to_dict())
    assert err == ""


@pytest.mark.parametrize(("line", "arguments", "keywords"), COMPARED, ids=lambda x: x if isinstance(x, str) else "")
def test_compare(line, arguments, keywords, here, capsys):
    assert main(["compare", *line.split(), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert numbers(json.loads(out)) == numbers(fx.compare(*arguments, **keywords).to_dict())
    assert err == ""


# tested below, and in test_cli.py
APART = {"-h", "--json", "--html", "--per-row", "--checkpoint", "--fit-temperature", "--demo"}


@pytest.mark.parametrize(("command", "table"), [("eval", EVALUATED), ("compare", COMPARED)])
def test_the_tables_hold_every_option(command, table):
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    options = {action.option_strings[0] for action in commands.choices[command]._actions if action.option_strings}
    tried = {word.partition("=")[0] for line, *_ in table for word in line.split() if word.startswith("--")}
    assert options - APART == tried


def test_the_demo_takes_the_options_too(capsys):
    assert main("eval --demo --rows 10:90 --columns 9 --topk 2 --json -".split()) == 0
    x, y = (np.load(resources.files("fastxent.data") / f"digits_{what}.npy") for what in ("logits", "labels"))
    want = fx.evaluate(x[10:90, :9], y[10:90], topk=(2,))
    assert numbers(json.loads(capsys.readouterr().out)) == numbers(want.to_dict())


def test_fit_temperature(here, capsys):
    assert main("eval x.npy y.npy --mask mask.npy --fit-temperature --json -".split()) == 0
    got = json.loads(capsys.readouterr().out)
    fit = fx.fit_temperature(A["x"], A["y"], mask=A["mask"])
    assert got["calibration"]["temperature"] == fit.temperature


@pytest.mark.parametrize("line", ["eval x.npy y.npy", "compare x.npy q.npy y.npy"])
def test_files_that_are_written(line, here, capsys):
    """The table on the terminal, JSON, HTML and the rows, from one read; the checkpoint from another."""
    pytest.importorskip("matplotlib")
    assert main([*line.split(), *"--json out.json --html page.html --per-row rows.npy".split()]) == 0
    table = capsys.readouterr().out
    result = report.read("out.json")
    assert table == report.text(result)
    function = fx.evaluate if line.startswith("eval") else fx.compare
    assert Path("page.html").read_text("utf-8") == report.html(function(*line.split()[1:]))
    assert len(np.load("rows.npy")) == N
    for _ in range(2):  # the second time there is nothing left to read
        assert main([*line.split(), *"--checkpoint state --json again.json --per-row again.npy".split()]) == 0
        assert Path("again.npy").read_bytes() == Path("rows.npy").read_bytes()
        assert numbers(json.loads(Path("again.json").read_text())) == numbers(json.loads(Path("out.json").read_text()))


def test_probabilities_taken_for_logits(here, capsys):
    """The classic silent mistake is named; the numbers are those that were asked for."""
    assert main("eval p.npy y.npy --json -".split()) == 0
    out, err = capsys.readouterr()
    note = "fastxent: note: the rows of p.npy look like probabilities; if so, say inputs='probs' (--inputs probs)\n"
    assert err == note
    assert json.loads(out)["cross_entropy"] == fx.evaluate(A["p"], A["y"], inputs="logits").cross_entropy
    assert main("eval p.npy y.npy --inputs logits --json -".split()) == 0
    assert capsys.readouterr().err == ""


# ---- what is wrong with the data: one line that names it, exit status 1 ----

WRONG = [
    ("eval x.npy short.npy", "labels have shape (50,), but logits of shape (90, 6) want (90,) (short.npy, x.npy)"),
    ("eval one.npy y.npy", "one score a row is binary=True"),
    ("eval x.npy float.npy", "float.npy has dtype float64"),
    ("compare x.npy q.npy float.npy", "float.npy has dtype float64"),
    ("eval documents.npy y.npy", "documents.npy has no class axis|labels have shape|documents.npy has dtype"),
    ("eval both.npz y.npy --member none", "no member 'none'; there is others, scores, tokens"),
    ("eval both.npz y.npy", "several members; name one of others, scores, tokens"),
    ("compare both.npz both.npz --member scores --other-member none", "no member 'none'; there is others"),
    ("eval none.npy y.npy", "no file none.npy"),
    ("eval x.npy none.npy", "no file none.npy"),
    ("eval x.npy y.npy --mask none.npy", "no file none.npy"),
    ("eval . y.npy", "this folder holds .npy and .npz files"),
    ("eval x.npy y.npy --json .", ".: Is a directory"),
    ("eval x.npy y.npy --per-row rows.csv", "rows.csv: rows are written as .npy or .parquet"),
    ("eval x.npy y.npy --checkpoint none/state", "none/state: No such file or directory"),
    ("eval x.npy y.npy --checkpoint .", ".: Is a directory"),
    ("eval x.npy y.npy --rows 3:91", "rows 3:91 reach outside the 90 of x.npy"),
    ("eval x.npy y.npy --rows 9:3", "rows 9:3 end before they begin"),
    ("eval x.npy y.npy --columns 7", "columns :7 reach outside the 6 of x.npy"),
    ("eval x.npy y.npy --axis 2", "x.npy: axis 2 is out of bounds"),
    ("eval x.npy y.npy --classes 7", "classes is 7, but logits of shape (90, 6)"),
    ("eval x.npy y.npy --mask y.npy", "it must be bool, 0 or 1"),
    ("eval x.npy y.npy --mask weight.npy", "mask, weight.npy, has dtype float64"),
    ("eval x.npy y.npy --mask short.npy", "mask, short.npy, has shape (50,)"),
    ("eval x.npy y.npy --groups weight.npy", "groups, weight.npy, has dtype float64; it must hold integers or strings"),
    ("eval x.npy y.npy --sample-weight x.npy", "sample_weight, x.npy, has shape (90, 6), but the labels have (90,)"),
    ("eval x.npy y.npy --lengths groups.npy", "but there are 90 rows"),
    ("eval x.npy y.npy --lengths weight.npy", "lengths has dtype float64"),
    ("eval x.npy y.npy --inputs probs", "no probability; inputs='probs' wants none that is negative"),
    ("eval x.npy y01.npy --logits-dtype bfloat16", "wants logits of 16-bit integers, got float32"),
    ("compare x.npy wide.npy", "x.npy has 6 classes, but wide.npy has 8; where the last columns are padding"),
    ("compare x.npy cube.npy", "x.npy has shape (90, 6), but cube.npy has (9, 10, 6)"),
    ("compare x.npy q.npy --shift 1", "there are no labels"),
    ("eval nan.npy wrong.npy --strict", "2 invalid labels, the first in row 17; 1 non-finite row, the first in row 23"),
    ("compare nan.npy q.npy wrong.npy --strict", "2 invalid labels, the first in row 17; 1 non-finite row"),
    ("report x.npy", "x.npy is no JSON"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=lambda x: x if "." in x and " " in x else "")
def test_wrong_data(line, words, here, capsys):
    before = set(here.iterdir())
    assert main(line.split()) == 1
    out, err = capsys.readouterr()
    assert err.startswith("fastxent: ")
    assert err.count("\n") == 1
    assert any(some in err for some in words.split("|"))
    assert (out == "") == ("--strict" not in line)
    assert set(here.iterdir()) == before


USAGE = [
    "eval x.npy", "eval x.npy y.npy --topk 0", "eval x.npy y.npy --bins 0", "eval x.npy y.npy --worst -1",
    "eval x.npy y.npy --temperature 0", "eval x.npy y.npy --temperatures 2:1:0.1", "eval x.npy y.npy --inputs foo",
    "eval x.npy y.npy --temperatures a,b", "eval x.npy y.npy --classes 0", "eval x.npy y.npy --shift -1",
    "eval x.npy y.npy --rows 5", "compare x.npy",
    "eval x.npy y.npy --checkpoint x.npy", "eval x.npy y.npy --html -", "compare x.npy q.npy --kl-cutoff x",
    "eval x.npy y.npy --json out --html out", "eval --demo --member x", "eval --demo x.npy",
    "eval x.npy y.npy --json y.npy", "eval x.npy y.npy --mask",
]  # fmt: skip


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage(line, here, capsys):
    before = set(here.iterdir())
    with pytest.raises(SystemExit, match="2"):
        main(line.split())
    out, err = capsys.readouterr()
    usage, said = err.splitlines()  # not the whole list of options
    assert usage.startswith(f"usage: fastxent {line.split()[0]} [options]")
    assert said.startswith(f"fastxent {line.split()[0]}: error: ")
    assert out == ""
    assert set(here.iterdir()) == before


@pytest.mark.parametrize(
    ("again", "words"),
    [
        ("q.npy y.npy", "logits holds other values"),
        ("x.npy wrong.npy", "labels holds other values"),
        ("p.npy y.npy --inputs logits", "logits dtype was float32, is float64"),
        ("x.npy y.npy --rows 10:50", "logits shape was [90, 6], is [40, 6]"),
        ("x.npy y.npy --bins 3", "options bins was 15, is 3"),
        ("x.npy y.npy --mask mask.npy", "mask was None"),
        ("x.npy y.npy --shift 1", "shift was 0, is 1"),
    ],
)
def test_checkpoint_of_another_job(again, words, here, capsys):
    assert main("eval x.npy y.npy --checkpoint state".split()) == 0
    before = Path("state").read_bytes()
    capsys.readouterr()
    assert main(["eval", *again.split(), "--checkpoint", "state"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "fastxent: state: checkpoint of another job: " in err
    assert words in err
    assert Path("state").read_bytes() == before


@pytest.mark.parametrize("command", ["eval x.npy y.npy", "compare x.npy q.npy"])
def test_disk_full_while_a_checkpoint_is_written(command, here, capsys, monkeypatch):
    """The old one stays good, and nothing else is left."""
    assert main([*command.split(), "--checkpoint", "state"]) == 0
    before, files = Path("state").read_bytes(), set(here.iterdir())
    capsys.readouterr()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint.os, "fsync", full)
        assert main([*command.split(), "--checkpoint", "state"]) == 1
    assert capsys.readouterr() == ("", "fastxent: state: No space left on device\n")
    assert (Path("state").read_bytes(), set(here.iterdir())) == (before, files)
    assert main([*command.split(), "--checkpoint", "state"]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("option", ["--json", "--html"])
def test_disk_full_while_a_result_is_written(option, here, capsys):
    if option == "--html":
        pytest.importorskip("matplotlib")
    assert main(["eval", "x.npy", "y.npy", option, "/dev/full"]) == 1
    assert capsys.readouterr().err == "fastxent: /dev/full: No space left on device\n"


# ---- what is wrong with the installation ----

RUN = "import sys, fastxent_command as c; sys.argv = ['fastxent', 'info']; sys.exit(c.main())"
MODULE = f"import subprocess as s, sys; sys.exit(s.run([{sys.executable!r}, '-m', 'fastxent', 'info']).returncode)"


@pytest.mark.parametrize("code", [RUN, MODULE], ids=["script", "module"])
def test_a_wrong_level_is_one_line(code):
    done = run_python(code, FASTXENT_LEVEL="foo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "FASTXENT_LEVEL is 'foo', but levels are avx512, avx2, baseline" in done.stderr


def test_version(capsys):
    for line in (["--version"],):
        with pytest.raises(SystemExit, match="0"):
            main(line)
    assert capsys.readouterr().out == f"fastxent {fx.__version__}\n"
