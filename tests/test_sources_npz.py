"""Sources: .npz archives, stored and deflated, honest and not."""

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from files import check, damage, growth, refused, rows_of

from fastxent.sources import FormatError, open_logits

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40)


@pytest.fixture(params=["stored", "deflated"])
def save(request):
    return {"stored": np.savez, "deflated": np.savez_compressed}[request.param]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(40, 6), (4, 10, 6), (0, 6), (240,)], ids=str)
def test_members(shape, order, save, tmp_path):
    x = np.asarray(X[: shape[0] and 40].reshape(shape), order=order)
    save(tmp_path / "x.npz", logits=x, labels=Y, other=X[:3].astype(">f8"))
    check(open_logits(tmp_path / "x.npz"), x)
    check(open_logits(tmp_path / "x.npz", memory=100), x)
    check(open_logits(tmp_path / "x.npz", labels=True), Y)
    for name in ("other", "other.npy"):
        source = open_logits(tmp_path / "x.npz", name=name)
        check(source, X[:3].astype(">f8"))
        assert (source.format, source.name) == ("npz", f"{tmp_path / 'x.npz'}:other")
    with pytest.raises(FormatError, match=r"x\.npz: no member 'none'; there is labels, logits, other"):
        open_logits(tmp_path / "x.npz", name="none")
    save(tmp_path / "x.npz", a=X, b=X)
    with pytest.raises(FormatError, match=r"x\.npz: holds several members; name one of a, b"):
        open_logits(tmp_path / "x.npz")
    save(tmp_path / "x.npz", a=X)
    check(open_logits(tmp_path / "x.npz"), X)


def test_pickled_in_the_middle_of_reading(save, tmp_path):
    save(tmp_path / "x.npz", X)
    source = open_logits(tmp_path / "x.npz")
    source.read(0, 7)
    other = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(other.read(7, 9), source.read(7, 9))
    source.close(), other.close()


def test_a_name_of_several_lines(tmp_path):
    """Spelt out in what is said of it (found by tools/fuzz_sources.py)."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\nb\x1b[2J.npy", b"no array")
    with pytest.raises(FormatError, match=r"x\.npz:a\\nb\\x1b\[2J: no \.npy header at byte 0") as caught:
        open_logits(path)
    assert "\n" not in str(caught.value)


def test_dishonest_archives(tmp_path):
    path = tmp_path / "x.npz"

    def member(kind, content, claimed=None):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("x.npy", content)
        if claimed is not None:  # sizes stand in the local header and in the directory
            raw = path.read_bytes()
            place = raw.rindex(b"PK\x01\x02")
            raw = bytearray(raw)
            raw[place + 24 : place + 28] = struct.pack("<I", claimed)
            raw[22:26] = struct.pack("<I", claimed)
            path.write_bytes(raw)

    np.save(tmp_path / "x.npy", X)
    whole = (tmp_path / "x.npy").read_bytes()
    deflated = zipfile.ZIP_DEFLATED
    refused(lambda: member(deflated, whole[:-1]), path, "wants 1088 bytes, but the archive says 1087")
    refused(lambda: member(deflated, whole[:-1], 1088), path, "x: (truncated .*at byte|corrupt: Bad CRC)")
    refused(lambda: member(deflated, whole + b"more", 1088), path, "x: corrupt")
    refused(lambda: member(deflated, whole, 1 << 31), path, "wants 1088 bytes")
    big = whole.replace(b"(40, 6)", b"(9999999999, 6)").replace(b"    \n", b"\n", 1)[: len(whole)]
    refused(lambda: member(deflated, big), path, "wants .* bytes")
    refused(lambda: member(zipfile.ZIP_STORED, big), path, "wants .* bytes")
    refused(lambda: member(zipfile.ZIP_BZIP2, whole), path, "method 12; known: stored, deflated")
    refused(lambda: member(deflated, b"nothing"), path, r"no \.npy header")
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    whole = (tmp_path / "x.npy").read_bytes()
    refused(lambda: member(deflated, whole), path, "object array.* code")
    refused(lambda: path.write_bytes(b"PK"), path, r"no \.npz archive")
    refused(lambda: zipfile.ZipFile(path, "w").close(), path, "holds no member")


def test_truncated_while_it_is_read(save, tmp_path):
    save(tmp_path / "x.npz", np.random.default_rng(0).random((10_000, 6)))
    source = open_logits(tmp_path / "x.npz")
    source.read(0, 10)
    os.truncate(tmp_path / "x.npz", 100_000)
    with pytest.raises(FormatError, match=r"x\.npz:arr_0: "):
        rows_of(source, 100)


def test_damage(save, tmp_path):
    save(tmp_path / "x.npz", X)
    damage(tmp_path / "x.npz", 300, 400)


def test_memory_is_flat(save, tmp_path):
    """Of 200 MB, which deflate to a fraction of it."""
    save(tmp_path / "x.npz", np.zeros((200_000, 256), np.float32))
    assert growth(tmp_path / "x.npz") < 80
