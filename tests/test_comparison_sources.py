"""compare from files, llama.cpp's base files, Dask arrays and the command line: the numbers of arrays in memory."""

import json
import struct
import sys

import numpy as np
import pytest
from child import run_python
from comparison_oracle import data, llama, mean_and_error, numbers, quantiles
from test_sources_llama import write

import fastxent as fx
from fastxent.cli import main

PERCENTS = (0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of two models, their labels and columns."""
    p, q, labels, columns = data(n=90)
    for name, x in {"p": p, "q": q, "y": labels, **columns}.items():
        np.save(tmp_path / f"{name}.npy", x)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_line(folder, capsys):
    p, q, labels, columns = data(n=90)
    assert main(["compare", "p.npy", "q.npy", "y.npy", "--json", "-"]) == 0
    got = json.loads(capsys.readouterr().out)
    want = fx.compare(p, q, labels).to_dict()
    assert {k: v for k, v in got.items() if k != "provenance"} == {k: v for k, v in want.items() if k != "provenance"}
    assert got["provenance"]["base"]["name"] == "p.npy"
    files = [f"--{name.replace('_', '-')}={name}.npy" for name in columns]
    files += ["--labels=y.npy", "--json=out.json", "--topk=1,2", "--worst=3"]
    assert main(["compare", "p.npy", "q.npy", *files]) == 0
    assert "Mean    KLD" in capsys.readouterr().out
    want = fx.compare(p, q, labels, **columns, topk=(1, 2), worst=3)
    got = json.loads((folder / "out.json").read_text())
    assert {k: v for k, v in got.items() if k != "provenance"} == numbers(want)
    assert main(["compare", "p.npy", "q.npy", "--rows", "10:50", "--columns", "4", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["kl_mean"] == fx.compare(p[10:50, :4], q[10:50, :4]).kl_mean
    assert main(["compare", "p.npy", "q.npy", "--per-row", "rows.npy", "--kl-cutoff=-16"]) == 0
    assert "without terms of log p_base <= -16" in capsys.readouterr().out
    assert np.load("rows.npy").shape == (90,)
    for _ in range(2):
        assert main(["compare", "p.npy", "q.npy", "y.npy", "--checkpoint", "state", "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["ppl"] == fx.compare(p, q, labels).ppl
    assert main(["report", "out.json"]) == 0
    assert "Same top p" in capsys.readouterr().out


def test_html(folder, capsys):
    pytest.importorskip("matplotlib")
    assert main(["compare", "p.npy", "q.npy", "y.npy", "--html", "page.html", "--groups", "groups.npy"]) == 0
    page = (folder / "page.html").read_text()
    assert "KL divergence by confidence of the base model" in page
    assert "Agreement of the top k" in page


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["p.npy", "q.npy", "none.npy"], 1, "none.npy"),
        (["p.npy", "y.npy"], 1, "base has shape|y.npy"),
        (["p.npy", "wide.npy"], 1, "classes=9"),
        (["p.npy", "q.npy", "p.npy"], 1, "labels"),
        (["p.npy", "q.npy", "nan.npy", "--strict"], 1, "1 invalid label, the first in row 3"),
        (["p.npy", "q.npy", "y.npy", "--labels", "y.npy"], 2, "given twice"),
        (["p.npy"], 2, "required"),
        (["p.npy", "q.npy", "--kl-cutoff", "a"], 2, "no number"),
        (["p.npy", "q.npy", "--json", "p.npy"], 2, "overwrite its own input"),
        (["p.npy", "q.npy", "--shift", "1"], 1, "there are no labels"),
    ],
)
def test_wrong_usage(folder, capsys, arguments, status, words):
    _, q, labels, _ = data(n=90)
    np.save("wide.npy", np.concatenate([q, q], 1))
    labels[3] = 99
    np.save("nan.npy", labels)
    try:
        got = main(["compare", *arguments])
    except SystemExit as error:
        got = error.code
    said = capsys.readouterr().err
    assert got == status
    assert any(word in said for word in words.split("|")), said
    if status == 1:
        assert said.count("\n") == 1
    assert not [path for path in folder.iterdir() if path.suffix == ".json"]


def test_module_runs(folder):
    done = run_python("import sys, fastxent.cli; sys.exit(fastxent.cli.main(['compare', 'p.npy', 'q.npy']))")
    assert done.returncode == 0
    assert "Mean    KLD" in done.stdout
    assert "PPL" not in done.stdout
    assert not done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is in kilobytes on Linux")
@pytest.mark.parametrize("kind", ["npy", "kld"])
def test_memory_is_flat(kind, tmp_path):
    """Of two files of 130 MB that take no room on the disk; labels, groups and the rows' values besides."""
    rows, classes = 63 * 510, 1000
    np.save(tmp_path / "labels.npy", np.zeros(rows, np.int16))
    head = {"descr": "<f4", "fortran_order": False, "shape": (rows, classes)}
    for name in ("base", "other"):
        with open(tmp_path / f"{name}.{kind}", "wb") as file:
            if kind == "npy":
                np.lib.format.write_array_header_1_0(file, head)
                file.truncate(file.tell() + 4 * rows * classes)
            else:
                file.write(b"_logits_" + struct.pack("<Iii", 128, classes, rows // 63))
                file.truncate(20 + 4 * 128 * rows // 63 + 2 * rows * (classes + 4))
    done = run_python(f"""
        import resource
        import numpy as np, fastxent as fx
        def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        folder = {str(tmp_path)!r}
        files = [f"{{folder}}/{{name}}" for name in ("base.{kind}", "other.{kind}", "labels.npy")]
        fx.compare(*(fx.open_logits(f, rows="0:99", labels="labels" in f) for f in files), per_row=f"{{folder}}/r.npy")
        before = peak()
        result = fx.compare(*files, groups=np.arange({rows}) // 99, per_row=f"{{folder}}/rows.npy")
        print(result.rows, peak() - before)
    """)
    assert done.returncode == 0, done.stderr
    count, growth = done.stdout.split()
    assert int(count) == rows
    assert float(growth) < 60


def test_llama_base_file(tmp_path):
    """Its own labels; log-probabilities as they stand; its rule of leaving out terms; said in the report."""
    log_p, labels = write(tmp_path / "base.kld", 64, 40, 3)
    n = len(log_p)
    q = np.random.default_rng(1).normal(0, 3, (n, 40)).astype(np.float32)
    got = fx.compare(tmp_path / "base.kld", q)
    kl, base, loss, delta = llama(log_p.astype(np.float64), q.astype(np.float64), labels)
    one = np.ones(n)
    assert (got.used, got.kl_cutoff) == (n, -16.0)
    for name, x in (("kl_mean", kl), ("cross_entropy", loss), ("cross_entropy_base", base), ("delta_p_mean", delta)):
        mean, error = mean_and_error(x, one)
        assert getattr(got, name) == pytest.approx(mean, rel=1e-5, abs=1e-6), name
        assert getattr(got, f"{name}_stderr") == pytest.approx(error, rel=1e-5, abs=1e-6), name
    assert got.delta_p_quantiles == pytest.approx(quantiles(delta, PERCENTS), rel=1e-5, abs=1e-6)
    assert got.same_top == (log_p.argmax(1) == q.argmax(1)).mean()
    assert got.provenance["labels"]["shape"] == [n]
    # what else there is, of the distribution that the file's numbers are proportional to
    plain = fx.compare(log_p, q, labels)
    assert (got.reverse_kl_mean, got.js_mean, got.tv_mean) == (plain.reverse_kl_mean, plain.js_mean, plain.tv_mean)
    assert fx.compare(tmp_path / "base.kld", q, kl_cutoff=None).kl_mean == plain.kl_mean
    assert fx.compare(tmp_path / "base.kld", q, 39 - labels).ppl == fx.compare(log_p, q, 39 - labels).ppl
    some = fx.open_logits(tmp_path / "base.kld", rows="5:20")
    assert fx.compare(some, q[5:20]).ppl == fx.compare(log_p[5:20], q[5:20], labels[5:20]).ppl


@pytest.mark.parametrize("chunks", [(90, 9), (7, 9), (50, 4)])
@pytest.mark.parametrize("labelled", [True, False])
def test_dask(chunks, labelled):
    da = pytest.importorskip("dask.array")
    p, q, labels, columns = data(n=90)
    labels = labels if labelled else None
    x, y = da.from_array(p, chunks=chunks), da.from_array(q, chunks=(31, 9))
    want = numbers(fx.compare(p, q, labels, **columns, topk=(2,)))
    assert numbers(fx.compare(x, y, labels, **columns, topk=(2,))) == want
    assert numbers(fx.compare(x, q, labels, **columns, topk=(2,))) == want
    some = None if labels is None else labels.reshape(9, 10)
    deep = fx.compare(x.reshape(9, 10, 9).rechunk((4, 3, 9)), y.reshape(9, 10, 9), some)
    assert numbers(deep) == numbers(fx.compare(p, q, labels))
    from fastxent import dask

    later = dask.compare(x, y, labels, compute=False)
    assert numbers(later.compute()) == numbers(fx.compare(p, q, labels))


def test_wrong_dask():
    da = pytest.importorskip("dask.array")
    p, q, _, _ = data(n=90)
    x = da.from_array(p, chunks=(30, 9))
    with pytest.raises(ValueError, match="classes=5"):
        fx.compare(x, q[:, :5])
    with pytest.raises(ValueError, match="base has shape"):
        fx.compare(x, q[:50])
    for options in ({"progress": True}, {"checkpoint": "a"}, {"per_row": "a"}):
        with pytest.raises(ValueError, match="Dask"):
            fx.compare(x, q, **options)
    p[3, 3] = np.nan
    with pytest.raises(ValueError, match="1 non-finite row, the first in row 3"):
        fx.compare(da.from_array(p, chunks=(30, 9)), q, strict=True)
