"""Sources: shards in a folder, by a pattern, in a list; parts; fingerprints; what is no file at all."""

import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
from files import check

import fastxent as fx
from fastxent.sources import ArraySource, FormatError, open_logits
from fastxent.sources.shards import as_slice

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 6
CUTS = [0, 3, 3, 10, 24, 25, 40]


@pytest.fixture
def shards(tmp_path):
    """Six files, one of them without a row, whose names sort otherwise than their numbers."""
    (tmp_path / "shards").mkdir()
    paths = [tmp_path / "shards" / f"x-{i}.npy" for i in (1, 2, 9, 10, 11, 100)]
    for path, start, stop in zip(paths, CUTS[:-1], CUTS[1:], strict=True):
        np.save(path, X[start:stop])
    (tmp_path / "shards" / "README.txt").touch()
    (tmp_path / "shards" / ".x-3.npy").touch()
    return paths


def test_folder_pattern_list(shards, tmp_path):
    folder = shards[0].parent
    for what in (folder, str(folder), folder / "*.npy", f"{folder}/x-*", shards, tuple(map(str, shards))):
        check(open_logits(what), X)
    check(open_logits(shards[::-1]), np.concatenate([np.load(path) for path in shards[::-1]]))
    assert open_logits(folder).name.endswith("x-1.npy and 5 more")
    want = fx.evaluate(X, Y)
    for what in (folder, shards):
        assert fx.evaluate(what, Y).cross_entropy == want.cross_entropy
    other = pickle.loads(pickle.dumps(open_logits(folder)))
    np.testing.assert_array_equal(other.read(2, 30), X[2:30])


def test_of_three_axes_and_labels(tmp_path):
    x = X.reshape(4, 5, 12)
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", x[2 * i : 2 * i + 2])
    check(open_logits(tmp_path), x)
    check(open_logits(tmp_path, labels=True), x)


def test_that_do_not_fit(shards, tmp_path):
    np.save(shards[1], X[:3, :5])
    np.save(shards[4], X[:3].astype(float))
    with pytest.raises(FormatError, match=r"x-1\.npy of.* \(3, 6\).*: .*x-2\.npy.* \(3, 5\).*x-11\.npy.*float64"):
        open_logits(shards[0].parent)
    np.savez(tmp_path / "shards" / "x.npz", X)
    with pytest.raises(FormatError, match=r"shards: this folder holds \.npy and \.npz files; name them by a pattern"):
        open_logits(shards[0].parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"no file in this folder has a known format"):
        open_logits(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"none-\*\.npy"):
        open_logits(tmp_path / "none-*.npy")
    with pytest.raises(ValueError, match="empty list"):
        open_logits([])
    with pytest.raises(ValueError, match="a list of paths and other things"):
        fx.evaluate([tmp_path / "x.npy", 3], Y)


def test_a_shard_that_is_cut_while_it_is_read(shards):
    source = open_logits(shards)
    os.truncate(shards[4], 130)
    np.testing.assert_array_equal(source.read(0, 24), X[:24])
    with pytest.raises(FormatError, match=r"x-11\.npy: truncated while it was read, at byte 130"):
        source.read(0, 40)


@pytest.mark.parametrize("labels", [False, True])
def test_parts(labels, shards, tmp_path):
    np.save(tmp_path / "cube.npy", X.reshape(4, 10, 6))
    for path in (shards, tmp_path / "cube.npy"):
        flat = (open_logits(path, labels=True) if labels else open_logits(path)).rows
        whole = X.reshape(-1) if labels else X
        for rows, want in [("3:17", whole[3:17]), ((3, None), whole[3:]), (slice(-5, None), whole[-5:]),
                           (":", whole), ("4:4", whole[:0])]:  # fmt: skip
            check(open_logits(path, labels=labels, rows=rows), want)
        with pytest.raises(ValueError, match=f"rows 3:{flat + 1} reach outside the {flat} of "):
            open_logits(path, labels=labels, rows=f"3:{flat + 1}")
    if labels:
        with pytest.raises(ValueError, match="no class axis"):
            open_logits(shards, labels=True, columns=3)
        return
    for columns in (4, "4", ":4", (None, 4), slice(4)):
        check(open_logits(shards, columns=columns), X[:, :4].copy())
    check(open_logits(shards, columns="2:5", rows="1:30"), X[1:30, 2:5].copy())
    check(open_logits(tmp_path / "cube.npy", columns=-1), X.reshape(4, 10, 6)[..., :5].copy())
    got = fx.evaluate(open_logits(shards, columns=4), Y % 4)
    assert got.cross_entropy == fx.evaluate(X[:, :4], Y % 4).cross_entropy
    with pytest.raises(ValueError, match="columns :7 reach outside the 6"):
        open_logits(shards, columns=7)


@pytest.mark.parametrize("value", ["", "a", "1:2:3", "1.5", True, 1.5, (1, 2, 3), slice(0, 9, 2), ("a", 2)], ids=repr)
def test_no_slice(value):
    with pytest.raises(ValueError, match="rows must be a slice"):
        as_slice(value, "rows")


def test_blocks(shards):
    for rows in (None, 1, 7):
        blocks = [block.copy() for block in open_logits(shards).blocks(rows)]
        np.testing.assert_array_equal(np.concatenate(blocks), X)
    with pytest.raises(ValueError, match="rows must be at least 1"):
        next(open_logits(shards).blocks(0))


def test_fingerprint(shards, tmp_path):
    """The same for the same values, whatever the format; another where a sampled value, shape or dtype is another."""
    np.save(tmp_path / "x.npy", X)
    want = open_logits(tmp_path / "x.npy").fingerprint()
    np.save(tmp_path / "y.npy", np.asfortranarray(X.astype(">f4")))
    np.savez(tmp_path / "x.npz", X)
    np.savez_compressed(tmp_path / "y.npz", X)
    same = [shards, tmp_path / "y.npy", tmp_path / "x.npz", tmp_path / "y.npz"]
    assert [open_logits(path).fingerprint() for path in same] == [want] * 4
    assert ArraySource(X).fingerprint() == ArraySource(np.asfortranarray(X)).fingerprint() == want
    others = [X[:-1], X.reshape(2, 20, 6), X.astype(float), X.view(np.int32), X + 1, X[::-1], X.T]
    big = np.zeros((100_000, 6), np.float32)
    changed = big.copy()
    changed[-1, -1] = 1
    prints = {ArraySource(x).fingerprint() for x in [X, *others, big, changed, X[:0], X[0]]}
    assert len(prints) == 12
    assert ArraySource(Y, None).fingerprint() != ArraySource(Y).fingerprint()


def test_fingerprint_of_long_rows():
    """Both ends count and something between, the rest does not: of two rows of gigabytes, kilobytes are hashed."""
    x = np.arange(2 * 3 * 10**6, dtype=np.float32).reshape(2, -1)
    want = ArraySource(x).fingerprint()
    for column, seen in ((0, True), (-1, True), (10**6, True), (5000, False), (1_500_000, False)):
        other = x.copy()
        other[:, column] = -1
        assert (ArraySource(other).fingerprint() != want) is seen, column
    assert ArraySource(np.asfortranarray(x.astype(">f4"))).fingerprint() == want
    names = np.array(["a" * 5000, "b" * 5000])  # each longer than a piece
    assert ArraySource(names, None).fingerprint() != ArraySource(names[::-1], None).fingerprint()
    source = ArraySource(np.zeros((2, 10**8), np.float32))
    tracemalloc.start()
    try:
        source.fingerprint()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    for path in (tmp_path / "x.npy", "/dev/null"):
        with pytest.raises(FormatError, match=f"{path}: a pipe or a device"):
            open_logits(path)
    with pytest.raises(ValueError, match="memory must be"):
        open_logits(tmp_path / "x.npy", memory=0)


def test_missing_library(tmp_path, monkeypatch):
    libraries = ("h5py", "pyarrow", "zarr")  # whether another test has imported them or not
    for name in {*libraries, *(n for n in sys.modules if n.partition(".")[0] in libraries)}:
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "zarr.json").write_text('{"node_type": "array"}')
    for name in ("x.h5", "x.parquet", "x.arrow"):
        (tmp_path / name).write_bytes(b"ARROW1")
    for name, library in (("x.h5", "h5py"), ("x.parquet", "pyarrow"), ("x.arrow", "pyarrow"), ("x.zarr", "zarr")):
        with pytest.raises(ImportError, match=rf'{name}: .* needs {library}: pip install "fastxent\[io\]"'):
            open_logits(tmp_path / name)
