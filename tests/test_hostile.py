"""Hostile inputs: sizes that lie, bombs, paths and links that lead elsewhere, words that would act when shown.

Pickles and codecs that run code are in test_sources.py, test_sources_npz.py and test_sources_zarr.py, links out of HDF5
in test_sources_hdf5.py, random damage in test_damage.py.
"""

import importlib.util
import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from files import rows_of

import fastxent as fx
from fastxent import cli
from fastxent.sources import FormatError, open_logits

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
HUGE = 1 << 36  # rows; of 6 float32 some 1.6 TB


def missing(*modules):
    return any(importlib.util.find_spec(name) is None for name in modules)


def needs(*modules):
    return pytest.mark.skipif(missing(*modules), reason=f"{' or '.join(modules)} is not installed")


@pytest.fixture
def little_memory():
    """The test may take 32 MB at once, and 10 s."""
    tracemalloc.start()
    start = time.process_time()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20
    assert time.process_time() - start < 10


def npy(shape, order=False):
    """A header."""
    out = io.BytesIO()
    np.lib.format.write_array_header_2_0(out, {"descr": "<f4", "fortran_order": order, "shape": shape})
    return out.getvalue()


# ---- sizes ----


def archive(path, content, claimed, packed=None):
    """An archive of one deflated member that claims to be of some size."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(content) + deflate.flush() if packed is None else packed
    name, crc = b"x.npy", zlib.crc32(content)
    large = claimed >= 0xFFFFFFFF
    extra = struct.pack("<HHQQ", 1, 16, claimed, len(data)) if large else b""
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if large else (len(data), claimed)
    common = (45, 0, 8, 0, 33, crc, *sizes, len(name), len(extra))
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", *common) + name + extra + data
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 45, *common, 0, 0, 0, 0, 0) + name + extra
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)


def bomb(start):
    """Deflated: these bytes, and 64 MB of zeros."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    return b"".join(map(deflate.compress, [start, *[bytes(1 << 20)] * 64])) + deflate.flush()


def test_a_member_that_inflates_to_more_than_it_says(tmp_path, little_memory):
    """1 KB by its own account, 64 MB in fact: no more than 1 KB is made of it."""
    path = tmp_path / "x.npz"
    head = npy((40, 6))
    packed = bomb(head + bytes(960))
    assert len(packed) < 1 << 18
    archive(path, head + bytes(960), len(head) + 960, packed)
    with zipfile.ZipFile(path) as file:  # it is one that the library opens
        assert file.getinfo("x.npy").file_size == len(head) + 960
    source = open_logits(path)
    assert rows_of(source, 7).tobytes() == bytes(960)
    source.close()


def test_a_bomb_that_says_so(tmp_path):
    """24 GB by its own account, 64 MB in fact: it is read as a stream, a block at a time."""
    path = tmp_path / "x.npz"
    rows = 1 << 30
    head = npy((rows, 6))
    archive(path, head, len(head) + rows * 24, bomb(head))
    tracemalloc.start()
    source = open_logits(path)
    assert source.shape == (rows, 6)
    with pytest.raises(FormatError, match=r"x\.npz:x: (truncated while it was read, at byte \d+|corrupt)"):
        for _ in source.blocks():
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    source.close()
    assert peak < 128 << 20


@pytest.mark.parametrize("claimed", [1 << 20, 1 << 40])
def test_a_member_that_holds_less_than_it_says(claimed, tmp_path, little_memory):
    path = tmp_path / "x.npz"
    rows = claimed // 24
    head = npy((rows, 6))
    archive(path, head + bytes(960), len(head) + rows * 24)
    source = open_logits(path)
    assert source.read(0, 40).tobytes() == bytes(960)
    with pytest.raises(FormatError, match=r"x\.npz:x: truncated while it was read, at byte \d+"):
        source.read(0, 100)
    with pytest.raises(FormatError, match=r"x\.npz:x: "):
        source.read(rows - 5, rows)  # far behind the end
    source.close()


def huge(path):
    """A small file of the suffix's format that claims 1.6 TB."""
    kind = path.suffix
    if kind == ".npy":
        path.write_bytes(npy((HUGE, 6)) + X.tobytes())
    elif kind == ".npz":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", npy((HUGE, 6)) + X.tobytes())
    elif kind == ".safetensors":
        head = json.dumps({"x": {"dtype": "F32", "shape": [HUGE, 6], "data_offsets": [0, HUGE * 24]}}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + X.tobytes())
    elif kind == ".kld":
        path.write_bytes(b"_logits_" + struct.pack("<Iii", 1 << 31, 6, 1 << 20) + bytes(1000))
    elif kind == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("x", (HUGE, 6), "f4", chunks=(1 << 10, 6))  # never written: a fill value
    elif kind == ".zarr":
        import zarr

        zarr.create_array(str(path), shape=(HUGE, 6), dtype="f4", chunks=(1 << 10, 6))
    elif kind == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pyarrow.parquet.write_table(pa.table({"logits": pa.array(list(X))}), path)
        raw = bytearray(path.read_bytes())
        size = int.from_bytes(raw[-8:-4], "little")
        foot = len(raw) - 8 - size
        # in thrift's compact integers: 40 rows become 2^40, in the file and in its row group
        footer = raw[foot:-8].replace(b"\x16\x50", b"\x16\x80\x80\x80\x80\x80\x40")
        path.write_bytes(raw[:foot] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    else:
        import pyarrow as pa

        table = pa.table({"logits": pa.array(list(X))})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        raw = path.read_bytes()
        path.write_bytes(raw.replace((40).to_bytes(8, "little"), HUGE.to_bytes(8, "little")))


LIBRARIES = {
    "npy": (), "npz": (), "safetensors": (), "kld": (), "h5": ("h5py",), "zarr": ("zarr",), "parquet": ("pyarrow",),
    "arrow": ("pyarrow",),
}  # fmt: skip


@pytest.mark.parametrize("suffix", LIBRARIES)
def test_a_small_file_that_says_it_is_huge(suffix, tmp_path, little_memory):
    """Its size is looked at before anything is allocated; what is never written (Zarr, HDF5) is a fill value."""
    if missing(*LIBRARIES[suffix]):
        pytest.skip("an optional library is not installed")
    path = tmp_path / f"x.{suffix}"
    huge(path)
    if suffix in ("h5", "zarr"):
        source = open_logits(path)
        assert source.shape == (HUGE, 6)
        assert not source.read(HUGE - 9, HUGE).any()
        source.close()
        return
    with pytest.raises(FormatError, match=rf"x\.{suffix}"):
        for _ in open_logits(path).blocks(40):
            pass


# ---- places ----


@needs("zarr")
def test_names_that_leave_a_store(tmp_path):
    """Names are those that the store lists, in its own folder; a link in the place of an array is not followed."""
    import zarr

    for name in ("in", "out"):
        group = zarr.open_group(str(tmp_path / f"{name}.zarr"), mode="w")
        group.create_array("logits", data=X)
    os.symlink(tmp_path / "out.zarr" / "logits", tmp_path / "in.zarr" / "linked")
    outside = str(tmp_path / "out.zarr" / "logits")
    for name in ("../out.zarr/logits", "..", "/etc", outside, "linked", "logits/../../out.zarr"):
        with pytest.raises(FormatError, match=r"no array .*; there is logits"):
            open_logits(tmp_path / "in.zarr", name=name)
    assert open_logits(tmp_path / "in.zarr", name="logits").shape == (40, 6)


@needs("h5py")
def test_names_that_leave_a_file(tmp_path):
    import h5py

    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["logits"] = X
        file["external"] = h5py.ExternalLink("out.h5", "x")
        file["soft"] = h5py.SoftLink("/logits")
    for name in ("external", "soft", "../x", "/etc/passwd"):
        with pytest.raises(FormatError, match=r"no dataset .*; there is logits"):
            open_logits(tmp_path / "x.h5", name=name)


def test_paths_are_the_users(tmp_path, monkeypatch):
    """Paths, patterns and links in a folder are followed as any program follows them: docs/faults.md says so.

    Nothing that stands in a file names another file.
    """
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    np.save(tmp_path / "out.npy", X)
    np.save("a.npy", X)
    os.symlink(tmp_path / "out.npy", "b.npy")
    for what in (".", "*.npy", ["a.npy", "../out.npy"], [str(tmp_path / "out.npy"), "b.npy"]):
        assert open_logits(what).shape == (80, 6)
    os.symlink("loop.npy", "loop.npy")
    with pytest.raises(OSError, match=r"loop\.npy"):
        open_logits("loop.npy")
    Path("x.safetensors.index.json").write_text('{"weight_map": {"x": "../out.npy"}}')
    with pytest.raises(FormatError, match=r"no reader for \.json"):
        open_logits("x.safetensors.index.json")


# ---- words ----

ESCAPE = "\x1b]0;evil\x07\u202e"
TAG = "<img src=x onerror=alert(1)>"


def harmless(text):
    return not set(text) & set("\x1b\x07\u202e\r")


def test_names_of_tensors_in_an_error(tmp_path, monkeypatch, capsys):
    """A terminal would obey them."""
    monkeypatch.chdir(tmp_path)
    entry = {"dtype": "F32", "shape": [40, 6], "data_offsets": [0, 960]}
    head = json.dumps({ESCAPE + "a": entry, "b\nfastxent: all is well": entry}).encode()
    Path("x.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + X.tobytes())
    np.save("y.npy", np.zeros(40, int))
    assert cli.main(["eval", "x.safetensors", "y.npy"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("fastxent: x.safetensors: holds several tensors; name one of ")
    assert error.count("\n") == 1
    assert harmless(error)
    assert "\\x1b]0;evil\\x07" in error


@needs("jinja2", "matplotlib")
def test_names_of_files_and_groups_in_a_report(tmp_path, monkeypatch, capsys):
    """From the command line to the page: they are shown as words."""
    from test_html import Page

    monkeypatch.chdir(tmp_path)
    name = f"{TAG}{ESCAPE}.npy"
    np.save(name, X)
    np.save("y.npy", np.arange(40) % 6)
    np.save("g.npy", np.array([TAG, "<script>alert(2)</script>"] * 20))
    assert cli.main(["eval", name, "y.npy", "--groups", "g.npy", "--html", "x.html", "--json", "x.json"]) == 0
    out, error = capsys.readouterr()
    assert harmless(out)
    assert error == ""
    assert cli.main(["report", "x.json", "x.json", "--html", "y.html"]) == 0
    for path in ("x.html", "y.html"):
        text = Path(path).read_text()
        page = Page(text)
        assert harmless(text)
        assert not {"script", "img"} & set(page.tags)
        assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
        assert any("<script>alert(2)</script>" in words for words in page.text)


def mutations(data):
    """The dictionary of a result with one field after another made into something else."""
    odd = [None, True, -1, 1e308, float("nan"), 10**400, TAG + ESCAPE, [], {}, [[[]]], {TAG: [TAG]}, ["\ud800"]]
    for i, field in enumerate(data):
        for j in range(3):
            yield {**data, field: odd[(i * 3 + j) % len(odd)]}
    yield {**data, TAG: TAG, **{f"{ESCAPE}{i}": i for i in range(50)}}


@needs("jinja2", "matplotlib")
def test_hostile_results(tmp_path, monkeypatch, capsys):
    """`fastxent report` shows them, or says in one line what is wrong."""
    monkeypatch.chdir(tmp_path)
    data = json.loads(json.dumps(fx.evaluate(X, np.arange(40) % 6, groups=np.arange(40) % 3).to_dict()))
    shown = refused = 0
    for case in mutations(data):
        Path("x.json").write_text(json.dumps(case))
        status = cli.main(["report", "x.json"])
        out, error = capsys.readouterr()
        assert harmless(out + error)
        assert status == bool(error)
        assert error.count("\n") == status
        shown, refused = shown + (status == 0), refused + status
    assert shown
    assert refused
    Path("x.json").write_text(json.dumps({**data, "groups": [{"group": TAG, TAG: TAG}], "provenance": {TAG: TAG}}))
    assert cli.main(["report", "x.json", "--html", "x.html"]) == 0
    assert "<img" not in Path("x.html").read_text()
    capsys.readouterr()
    for text in ("[" * 100_000, '{"rows": 1' + "0" * 10_000 + "}", "\x1b", '{"a": 1, "a": 2}', "null", ""):
        Path("x.json").write_text(text)
        assert cli.main(["report", "x.json"]) == 1
        error = capsys.readouterr().err
        assert harmless(error)
        assert error.count("\n") == 1
