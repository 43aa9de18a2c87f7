"""Sources on the command line: every format, its options, and what is wrong with a file in one line."""

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest

import fastxent as fx
from fastxent.cli import main

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 6, 40)


def h5(path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        file["run/logits"], file["run/labels"] = X, Y


def zarr(path):
    library = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed")
    group = library.open_group(str(path), mode="w")
    group.create_array("run/logits", data=X, chunks=(7, 4))
    group.create_array("run/labels", data=Y, chunks=(7,))


def table(path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    data = pa.table({"run/logits": pa.array(list(X)), "run/labels": Y})
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(data, path, row_group_size=7)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, data.schema) as writer:
            writer.write_table(data, max_chunksize=7)


def safetensors(path):
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    library.save_file({"run/logits": X, "run/labels": Y}, path)


def npz(path):
    np.savez_compressed(path, **{"run/logits": X, "run/labels": Y})


WRITERS = {"npz": npz, "safetensors": safetensors, "h5": h5, "zarr": zarr, "parquet": table, "arrow": table}
MEMBERS = ["--member", "run/logits", "--label-member", "run/labels"]


def failed(capsys, *args):
    """What is said, in one line, of a run that fails."""
    assert main(["eval", *map(str, args)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastxent: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("suffix", WRITERS)
def test_formats(suffix, tmp_path, capsys):
    path = tmp_path / f"x.{suffix}"
    WRITERS[suffix](path)

    def run(*options):
        assert main(["eval", str(path), *options, "--json", "-"]) == 0
        return json.loads(capsys.readouterr().out)["cross_entropy"]

    assert run(*MEMBERS) == fx.evaluate(X, Y).cross_entropy
    assert run(*MEMBERS, "--rows", "3:30", "--memory", "1M") == fx.evaluate(X[3:30], Y[3:30]).cross_entropy
    assert run(*MEMBERS, "--columns", ":5") == fx.evaluate(X[:, :5], Y).cross_entropy
    words = failed(capsys, path, "--member", "none", "--label-member", "run/labels")
    assert "'none'" in words
    assert "run/logits" in words
    assert "reach outside the 40" in failed(capsys, path, *MEMBERS, "--rows", "3:50")
    np.save(tmp_path / "short.npy", Y[:30])
    assert "labels have shape (30,)" in failed(capsys, path, tmp_path / "short.npy", *MEMBERS[:2])
    if suffix != "zarr":
        os.truncate(path, path.stat().st_size * 2 // 3)
        assert f"x.{suffix}" in failed(capsys, path, *MEMBERS)
    else:
        chunk = path / "run/logits/c/0/0"
        chunk.write_bytes(chunk.read_bytes()[:-9])
        assert "x.zarr:run/logits: corrupt" in failed(capsys, path, *MEMBERS)


def test_llama(tmp_path, capsys):
    path = tmp_path / "base.kld"
    path.write_bytes(b"_logits_" + struct.pack("<Iii", 8, 6, 3) + bytes(4 * 8 * 3 + 9 * 20))
    assert main(["eval", str(path), str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 9
    os.truncate(path, 200)
    assert "want 296 bytes" in failed(capsys, path, path)


def test_shards_and_axis(tmp_path, capsys):
    for i in range(4):
        np.save(tmp_path / f"x-{i}.npy", X[10 * i : 10 * i + 10])
    np.save(tmp_path / "y.npy", Y)
    np.save(tmp_path / "t.npy", X.T)
    for args in ([tmp_path / "x-*.npy"], [tmp_path / "t.npy", "--axis", "0"]):
        assert main(["eval", *map(str, args), "--labels", str(tmp_path / "y.npy"), "--json", "-"]) == 0
        assert json.loads(capsys.readouterr().out)["cross_entropy"] == fx.evaluate(X, Y).cross_entropy
    np.save(tmp_path / "x-2.npy", X[:3, :5])
    np.save(tmp_path / "x-3.npy", X[:3, :4])
    words = failed(capsys, tmp_path / "x-*.npy", tmp_path / "y.npy")
    assert "x-2.npy of shape (3, 5)" in words
    assert "x-3.npy of shape (3, 4)" in words
    os.mkfifo(tmp_path / "pipe.npy")
    assert "a pipe or a device" in failed(capsys, tmp_path / "pipe.npy", tmp_path / "y.npy")


@pytest.mark.parametrize("options", ["--rows 5", "--rows a:b", "--columns x", "--memory 0", "--memory 1X", "--axis x"])
def test_usage(options, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["eval", "x.npy", "y.npy", *options.split()])
    assert "must be" in (words := capsys.readouterr().err.splitlines()[-1]) or "invalid int" in words


def test_examples_of_the_documentation(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
    if not page.exists():
        pytest.skip("the source tree is not here")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
