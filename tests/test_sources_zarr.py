"""Sources: Zarr stores of both versions, as zarr 3 writes them."""

import json
import shutil

import numpy as np
import pytest
from files import check, growth, refused, rows_of

from fastxent.sources import FormatError, open_logits

zarr = pytest.importorskip("zarr", minversion="3", reason="zarr 3 is not installed (it wants Python 3.11)")

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40)


def write(path, data, version=3, **options):
    options = {"chunks": data.shape, **options}
    array = zarr.create_array(store=str(path), shape=data.shape, dtype=data.dtype, zarr_format=version, **options)
    array[...] = data


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [(40, 6), (7, 4), (1, 6), (40, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i2"])
def test_arrays(dtype, chunks, version, tmp_path):
    x = (X * 10).astype(dtype)
    write(tmp_path / "x.zarr", x, version, chunks=chunks)
    memory = 40 * 6 * 8 if chunks[0] == 40 else 7 * 8 * 8
    for name, options in (("x.zarr", {}), ("x.zarr", {"memory": memory})):
        check(open_logits(tmp_path / name, **options), x)
    check(open_logits(tmp_path / "x.zarr", axis=0), np.ascontiguousarray(x.T))
    shutil.copytree(tmp_path / "x.zarr", tmp_path / "without suffix")
    check(open_logits(tmp_path / "without suffix"), x)


def test_sharded_and_cubes(tmp_path):
    write(tmp_path / "x.zarr", X.reshape(4, 10, 6), chunks=(2, 5, 3), shards=(4, 10, 6))
    check(open_logits(tmp_path / "x.zarr"), X.reshape(4, 10, 6))
    check(open_logits(tmp_path / "x.zarr", axis=1), X.reshape(4, 10, 6).swapaxes(1, 2))


@pytest.mark.parametrize("version", [2, 3])
def test_groups(version, tmp_path):
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=version)
    for name, data in (("logits", X), ("run/labels", Y)):
        group.create_array(name, shape=data.shape, dtype=data.dtype, chunks=data.shape)[...] = data
    check(open_logits(tmp_path / "x.zarr"), X)
    check(open_logits(tmp_path / "x.zarr", name="run/labels", labels=True), Y)
    for name in ("none", "../x.zarr/logits", "/etc"):
        with pytest.raises(FormatError, match=r"x\.zarr: no array '.*'; there is logits, run/labels"):
            open_logits(tmp_path / "x.zarr", name=name)


def test_memory_option(tmp_path):
    zarr.create_array(store=str(tmp_path / "x.zarr"), shape=(1 << 20, 1000), dtype="f4", chunks=(1 << 18, 10))
    with pytest.raises(FormatError, match=r"x\.zarr: a band of 262144 along axis 0 .* wants 1,048,576,000 bytes"):
        open_logits(tmp_path / "x.zarr", memory=1 << 29).read(0, 1)
    with pytest.raises(FormatError, match=r"x\.zarr: a chunk \(262144, 10\) .* wants 10,485,760 bytes"):
        open_logits(tmp_path / "x.zarr", memory=1 << 20)


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_no_codec_runs_code(tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    store = tmp_path / "x.zarr"
    write(store, X, 2)
    for key, value in (("filters", [{"id": "pickle"}]), ("compressor", {"id": "pickle"}), ("filters", [{"id": "odd"}])):
        (store / "0.0").write_bytes(pickle.dumps(Bomb()))
        refused(lambda key=key, value=value: change(store / ".zarray", **{key: value}), store, "codec .* is not let in")
        change(store / ".zarray", **{key: None})
    shutil.rmtree(store)
    write(store, X, 3)
    for codecs in ([{"name": "numcodecs.pickle"}], ["pickle"], [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [1, 1], "codecs": [{"name": "pickle"}], "index_codecs": []}}]):  # fmt: skip
        refused(lambda codecs=codecs: change(store / "zarr.json", codecs=codecs), store, "codec .*pickle.* not let in")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("version", [2, 3])
def test_broken(version, tmp_path):
    store = tmp_path / "x.zarr"
    meta = store / {2: ".zarray", 3: "zarr.json"}[version]
    write(store, X, version)
    whole = meta.read_text()
    for text in ("", "[]", "{", "null", "[" * 100_000, "{}", whole[:-20], whole.replace("40", "-40"), "\x00",
                 whole.replace("40", '"x"')):  # fmt: skip
        refused(lambda text=text: meta.write_text(text), store, r"x\.zarr")
    meta.write_text(whole)
    chunk = store / {2: "0.0", 3: "c/0/0"}[version]
    raw = chunk.read_bytes()
    for bad in (raw[:-3], raw[:10], b"", b"nonsense" * 20):
        refused(lambda bad=bad: chunk.write_bytes(bad), store, r"x\.zarr: corrupt: ")
    chunk.unlink()
    assert (rows_of(open_logits(store), 7) == 0).all()  # a chunk that is missing is the fill value
    meta.unlink()
    with pytest.raises(FormatError, match="no Zarr store"):
        open_logits(store)


def test_memory_is_flat(tmp_path):
    array = zarr.create_array(store=str(tmp_path / "x.zarr"), shape=(200_000, 256), dtype="f4", chunks=(1000, 64))
    array[::50_000] = 3.0
    assert growth(tmp_path / "x.zarr") < 100
