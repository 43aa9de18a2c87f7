"""Sources: .safetensors, as the library writes them."""

import json
import os
import shutil

import ml_dtypes
import numpy as np
import pytest
from files import check, damage, growth, refused

import fastxent as fx
from fastxent._arrays import is_bfloat16
from fastxent.sources import FormatError, open_logits

library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

X = np.random.default_rng(0).normal(0, 3, (40, 6))
Y = np.arange(40) % 6


def write(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_dtypes(dtype, tmp_path):
    # what becomes of a negative number that is made an unsigned one, C leaves open (NumPy warns of it on Arm)
    x = (np.abs(X) if dtype[0] == "u" else X).astype(dtype)
    library.save_file({"logits": x, "labels": Y, "a": x[0]}, tmp_path / "x.safetensors", metadata={"a": "b"})
    check(open_logits(tmp_path / "x.safetensors"), x)
    check(open_logits(tmp_path / "x.safetensors", axis=0), np.ascontiguousarray(x.T))
    check(open_logits(tmp_path / "x.safetensors", name="a", labels=True), x[0])
    check(open_logits(tmp_path / "x.safetensors", labels=True), Y)
    with pytest.raises(FormatError, match=r"no tensor 'b'; there is a, labels, logits"):
        open_logits(tmp_path / "x.safetensors", name="b")


def test_bfloat16(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from safetensors.torch import save_file

    x = torch.from_numpy(X).to(torch.bfloat16)
    save_file({"x": x.reshape(2, 20, 6)}, tmp_path / "x.safetensors")
    source = open_logits(tmp_path / "x.safetensors")
    assert is_bfloat16(source.dtype)
    assert is_bfloat16(source.read(0, 3).dtype)
    check(source, x.view(torch.int16).numpy().view(np.uint16).reshape(2, 20, 6))
    got, want = fx.evaluate(source, Y.reshape(2, 20)), fx.evaluate(x, Y)
    assert got.cross_entropy == want.cross_entropy
    assert got.provenance["logits"]["dtype"] == "bfloat16"
    assert source.fingerprint() == open_logits(tmp_path / "x.safetensors").fingerprint()
    np.save(tmp_path / "x.npy", X.astype(ml_dtypes.bfloat16))


def test_broken(tmp_path):
    path = tmp_path / "x.safetensors"
    entry = {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}
    write(path, {"x": entry}, bytes(48))
    check(open_logits(path), np.zeros((4, 3), np.float32))
    for change, match in [
        ({"dtype": "F8_E4M3"}, "F8_E4M3 are not read; known: BF16, "),
        ({"dtype": 3}, "entry is broken"),
        ({"shape": [4, 4]}, "wants 64 bytes"),
        ({"shape": [-4, -3]}, "has the shape"),
        ({"shape": [1 << 62, 1 << 62]}, "has the shape"),
        ({"shape": [4, 3.0]}, "entry is broken"),
        ({"shape": 12}, "entry is broken"),
        ({"shape": None}, "entry is broken"),
        ({"data_offsets": [0, 48, 50]}, "entry is broken"),
        ({"data_offsets": [48, 0]}, "wants 48 bytes"),
        ({"data_offsets": [-48, 0]}, "wants 48 bytes"),
        ({"data_offsets": [1, 49]}, "truncated: its data end at byte 49"),
        ({"shape": [1 << 40, 3], "data_offsets": [0, 12 << 40]}, "truncated: its data end"),
    ]:
        refused(lambda change=change: write(path, {"x": {**entry, **change}}, bytes(48)), path, match)
    refused(lambda: path.write_bytes(b"1234567"), path, "truncated")
    refused(lambda: write(path, {"x": entry}, bytes(48), 1 << 62), path, "truncated: a header of 4611686018427387904")
    refused(lambda: write(path, {"x": entry}, bytes(48), 20), path, "no .safetensors header")
    for raw in (b"[]", b"\xff", b"{", b"[" * 100_000, b'{"x": 1}', b'{"x": NaN}'):
        refused(lambda raw=raw: write(path, raw), path, "header")
    refused(lambda: write(path, {"__metadata__": {}}), path, "holds no tensor")
    refused(lambda: write(path, {"a": entry, "b": entry}, bytes(48)), path, "several tensors; name one of a, b")


def test_truncated(tmp_path):
    path = tmp_path / "x.safetensors"
    library.save_file({"x": X}, path)
    source, size = open_logits(path), path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(FormatError, match=rf"x\.safetensors:x: truncated while it was read, at byte {size - 1}$"):
        source.read(0, 40)
    with pytest.raises(FormatError, match="truncated: its data end at byte 1920 behind the header, the file at 1919"):
        open_logits(path)


def test_damage(tmp_path):
    library.save_file({"logits": X, "labels": Y}, tmp_path / "x.safetensors")
    damage(tmp_path / "x.safetensors", 1000, 200)


def test_memory_is_flat(tmp_path):
    """Of a file of 30 GB that takes no room on the disk; its first 2 GB are read."""
    path = tmp_path / "x.safetensors"
    rows, classes = 1 << 20, 7500
    if shutil.disk_usage(tmp_path).free < rows * classes * 4:
        pytest.skip("no room for a sparse file")
    write(path, {"x": {"dtype": "F32", "shape": [rows, classes], "data_offsets": [0, 4 * rows * classes]}})
    os.truncate(path, path.stat().st_size + 4 * rows * classes)
    assert growth(path, "rows='-70000:'") < 80
