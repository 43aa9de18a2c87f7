"""Sources: .npy files of every kind, whole, broken and cut; the reading ahead; the same bits whatever the storage."""

import contextlib
import math
import os
import pickle
import random
import threading
import time
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from files import rows_of

import fastxent as fx
from fastxent._scoring import reading as _reading
from fastxent.sources import ArraySource, FormatError, Source, open_logits
from fastxent.sources.base import read_ahead

DTYPES = ["<f8", "<f4", "<f2", ">f8", ">f4", ">f2", "i1", "u1", "<i4", ">i8", "<u8", "?"]
SHAPES = [(6, 5), (1, 5), (6, 1), (2, 3, 5), (7,), (0, 5), (3, 0), (0,), (2, 0, 5)]


def header(text, version=(1, 0)):
    """The start of a .npy file, padded as NumPy does it."""
    size = 2 if version == (1, 0) else 4
    raw = text.encode("latin1" if version < (3, 0) else "utf8") + b" " * (-(len(text) + 9 + size) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(raw).to_bytes(size, "little") + raw


def describe(descr="'<f4'", shape="(6, 5)", fortran=False):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_npy(shape, version, labels, tmp_path):
    for i, dtype in enumerate(DTYPES):
        array = np.random.default_rng(i).integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)
        with open(tmp_path / "x.npy", "wb") as file:
            np.lib.format.write_array(file, array, version)
        source = open_logits(tmp_path / "x.npy", labels=labels)
        assert (source.shape, source.dtype, source.name) == (shape, array.dtype, str(tmp_path / "x.npy"))
        want = array.reshape(-1) if labels else array.reshape(math.prod(shape[:-1]), shape[-1])
        for step in (1, 4, 100):
            np.testing.assert_array_equal(rows_of(source, step), want)
        assert source.read(0, 0).dtype == array.dtype
        for start, stop in ((-1, 0), (0, len(want) + 1), (1, 0)):
            with pytest.raises(IndexError, match="rows"):
                source.read(start, stop)


FORTRAN = [(6, 5), (1, 5), (6, 1), (0, 5), (1, 6, 1), (2, 3, 5), (4, 1, 3, 5), (7,), ()]


@pytest.mark.parametrize("memory", [1 << 30, 200, 60])
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fortran_order(dtype, labels, memory, tmp_path):
    """Read by bands that fit into the memory option, whatever the number of axes."""
    for shape in FORTRAN[: None if labels else -1]:
        array = np.random.default_rng(1).integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)
        np.save(tmp_path / "x.npy", np.asfortranarray(array))
        source = open_logits(tmp_path / "x.npy", labels=labels, memory=memory)
        want = array.reshape(-1) if labels else array.reshape(-1, shape[-1])
        for step in (1, 4, 100):
            np.testing.assert_array_equal(rows_of(source, step), want)


@pytest.mark.parametrize("order", ["C", "F"])
def test_axis_of_a_file(order, tmp_path):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    np.save(tmp_path / "x.npy", np.asarray(array, order=order))
    for axis in (0, 1, 2, 3, -1, -2):
        want = np.moveaxis(array, axis, -1)
        for memory in (1 << 20, 80):
            source = open_logits(tmp_path / "x.npy", axis=axis, memory=memory)
            assert source.shape == want.shape
            np.testing.assert_array_equal(rows_of(source, 5), want.reshape(-1, want.shape[-1]))
    with pytest.raises(ValueError, match=r"x\.npy: axis 4 is out of bounds"):
        open_logits(tmp_path / "x.npy", axis=4)
    np.save(tmp_path / "x.npy", np.zeros((2, 1000), np.float32, order="F"))
    source = open_logits(tmp_path / "x.npy", memory=3999)
    with pytest.raises(FormatError, match=r"x\.npy: .*wants 4,000 bytes of memory, .*memory allows 3,999"):
        source.read(0, 1)


# ---- the same bits whatever the storage ----


def numbers(result):
    """All of it but where it came from; NaN as text, so that == compares it."""
    return {k: v for k, v in result.to_dict().items() if k != "provenance"}


def data(rows=400):
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 5, (rows, 30)).astype(np.float32), rng.integers(-1, 31, rows)
    x[3::50], x[7::50, 4], x[9::50, ::2], y[::20] = np.nan, np.inf, -np.inf, -100
    return x, y


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("shape", [(400,), (5, 80), (4, 5, 20)], ids=str)
def test_storage(shape, block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(_reading, "BLOCK_ROWS", block)
        monkeypatch.setattr("fastxent._passes.rows.BLOCK_ROWS", block - 2)
    x, y = data()
    want = numbers(fx.evaluate(x, y))
    x, y = x.reshape(*shape, 30), y.reshape(shape)
    arrays = [x, x.astype(">f4"), np.repeat(x, 2, 0)[::2], x[..., ::-1].copy()[..., ::-1], np.asfortranarray(x)]
    for i, array in enumerate(arrays):
        np.save(tmp_path / "y.npy", y.astype([">i8", "i2"][i % 2]))
        np.save(tmp_path / "x.npy", array if i < 4 or len(shape) == 1 else x)
        for logits in (array, str(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="r")):
            for labels in (np.asfortranarray(y), tmp_path / "y.npy"):
                assert numbers(fx.evaluate(logits, labels)) == want
        for axis in range(x.ndim - 1):
            assert numbers(fx.evaluate(np.ascontiguousarray(np.moveaxis(array, -1, axis)), y, axis=axis)) == want
        one = fx.Evaluator()
        one.update(array, y)
        assert numbers(one.result()) == want


@pytest.mark.parametrize("elements", [1, 70, 30 * 37])
def test_rows_of_several_blocks(elements, tmp_path, monkeypatch):
    """What is counted together may be several blocks of the kernels, and several buffers."""
    x, y = data()
    shifted = np.nan_to_num(x, nan=0.5, posinf=9, neginf=-9)
    calls = [
        lambda: fx.evaluate(x, y),
        lambda: fx.evaluate(x.reshape(5, 80, 30), y.reshape(5, 80)),
        lambda: fx.evaluate(x, y, temperatures=[0.5, 2.0], temperature=1.5),
        lambda: fx.evaluate(np.exp(-shifted * shifted), y, inputs="probs"),
        lambda: fx.evaluate(x.astype(">f4"), y, mask=np.arange(400) % 3 > 0),
        lambda: fx.evaluate(x, y, per_row=tmp_path / "rows.npy"),
        lambda: fx.compare(x, x[::-1], y),
    ]
    values = []
    for blocks in (None, elements):
        if blocks:
            monkeypatch.setattr("fastxent._passes.rows.BLOCK_ELEMENTS", blocks)
            monkeypatch.setattr("fastxent._scoring.inputs.BUFFER_ELEMENTS", blocks)
            monkeypatch.setattr("fastxent._scoring.inputs.COPY_ELEMENTS", blocks)
        values.append([numbers(call()) for call in calls] + [np.load(tmp_path / "rows.npy").tobytes()])
    assert values[0] == values[1]


def test_a_view_is_told():
    x = np.zeros((4, 6, 8), np.float32)
    for array in (x, x[::2], x[:, ::2], x[:0], x[1], x[..., :5]):
        of, whole = ArraySource(array), np.shares_memory(ArraySource(array).read(0, len(array)), x)
        assert of.views is (whole or not len(array)), array.shape
    assert not ArraySource(x, 0).views


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_threads(threads, tmp_path):
    x, y = data(3000)  # enough for more than one thread
    with fx.num_threads(1):
        want = numbers(fx.evaluate(x, y))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    sources = open_logits(tmp_path / "x.npy"), open_logits(tmp_path / "y.npy")
    with fx.num_threads(threads):
        assert numbers(fx.evaluate(x, y)) == numbers(fx.evaluate(*sources)) == want


def test_one_row_and_bfloat16(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(40, 6)).astype(ml_dtypes.bfloat16), np.arange(40) % 6
    want = numbers(fx.evaluate(x, y))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "raw.npy", x.view(np.uint16))
    for some in (tmp_path / "x.npy", tmp_path / "raw.npy", x.view(np.int16), x.view(np.uint16)):
        got = fx.evaluate(some, y.astype(np.uint16), logits_dtype="bfloat16")
        assert numbers(got) == want
        assert [got.provenance[what]["dtype"] for what in ("logits", "labels")] == ["bfloat16", "uint16"]
    with pytest.raises(TypeError, match="logits_dtype"):  # NumPy stores it as raw items: say what helps
        fx.evaluate(tmp_path / "x.npy", y)
    row = x[0].astype(float)
    np.save(tmp_path / "row.npy", row)
    for some in (row, tmp_path / "row.npy", open_logits(tmp_path / "row.npy")):
        assert numbers(fx.evaluate(some, 3)) == numbers(fx.evaluate(row[None], [3]))


# ---- broken files ----


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 8, 9, 10, 50, 126, 127, 128, 129, 247])
def test_truncated(size, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((6, 5), np.float32))
    os.truncate(path, size)
    with pytest.raises(FormatError, match=rf"x\.npy: .*{f'byte {size}$' if size >= 128 else 'header'}"):
        open_logits(path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_truncated_while_it_is_read(order, tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((60, 5), np.float32, order=order))
    source = open_logits(path)
    for size in (1300, 203, 128, 4):
        os.truncate(path, size)
        with pytest.raises(FormatError, match=rf"x\.npy: truncated .*read, at byte {size if size > 4 else ''}"):
            rows_of(source, 60)
    np.save(path, np.zeros((60, 5), np.float32, order=order))
    monkeypatch.setattr(_reading, "BLOCK_ROWS", 4)
    with pytest.raises(FormatError, match="at byte"):
        fx.evaluate(open_logits(path, memory=100), np.zeros(60, int), progress=lambda n, _: os.truncate(path, 250))


SHAPE_TEXTS = [f"({2**40}, 3)", f"({2**70}, {2**70})", f"(0, {2**70})", "(-6, 5)", "(-6, -5)"]
SHAPE_TEXTS += ["[6, 5]", "6", "(6, 'x')", "(6, 5.0)", "(2**2, 5)"]
DTYPE_TEXTS = ["'|O'", "'<q9'", "',<f4'", "'|V0'", "'<U0'", "('<f4', (3,))", "[('a', '<f4'), ('b', '<f4')]", "None"]
BROKEN = [describe(shape=text) for text in SHAPE_TEXTS] + [describe(text) for text in DTYPE_TEXTS]
BROKEN += [describe(shape=f"({2**40}, 3)", fortran=True), describe(fortran="'x'"), describe() + "\0", ""]
BROKEN += [describe().replace("'shape'", "'more': 1, 'shape'"), "{'descr': '<f4', 'shape': (6, 5), }"]
BROKEN += [describe()[:-4], "{'descr': '''<f4", "(" * 9000, "-" * 9000 + "1", describe() + " " * 20000]
RAW = [header(text) for text in BROKEN] + [header(describe(), version) for version in ((3, 1), (0, 9), (9, 9))]
RAW += [header(describe("[('\xe4', '<f4')]"), (3, 0)), b"\x93NUMPY\x02\0\xff\xff\xff\xff"]


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: str(raw[6:80]))
def test_broken_headers(raw, tmp_path):
    (tmp_path / "x.npy").write_bytes(raw + bytes(240))
    tracemalloc.start()
    with pytest.raises(FormatError) as caught:
        open_logits(tmp_path / "x.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24
    assert str(caught.value).startswith(str(tmp_path / "x.npy"))
    assert not any(part in str(caught.value) for part in ("\n", "allow_pickle"))


def test_header_of_python_2(tmp_path):
    (tmp_path / "x.npy").write_bytes(header(describe(shape="(6L, 5L)")) + bytes(120))
    assert open_logits(tmp_path / "x.npy").shape == (6, 5)  # and no warning


def test_random_damage(tmp_path):
    """Whatever stands in a header, a FormatError or a file that can be read comes of it."""
    whole, chance = header(describe()) + bytes(120), random.Random(0)
    for _ in range(600):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            raw[chance.randrange(128)] = chance.choice(b"0123456789()[]{}'\",.:-<>|fiucOVUSM#\\\n\0L \xff")
        (tmp_path / "x.npy").write_bytes(raw)
        with contextlib.suppress(FormatError):
            rows_of(open_logits(tmp_path / "x.npy"), 3)


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_no_pickle_is_ever_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([Bomb()], object))
    with pytest.raises(FormatError, match=r"x\.npy: an object array.* code"):
        open_logits("x.npy")
    for suffix in ("pt", "pth", "pkl", "pickle", "bin", "joblib", "PKL"):
        (tmp_path / f"x.{suffix}").write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(FormatError, match=rf"x\.{suffix}: .*code"):
            open_logits(f"x.{suffix}")
    assert not (tmp_path / "exploded").exists()


def test_no_such_file(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "x").write_bytes(header(describe()) + bytes(120))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../x.safetensors"}}')
    for name in ("x.csv", "x", "model.safetensors.index.json"):  # index files are not followed
        with pytest.raises(FormatError, match=r"known: \.npy"):
            open_logits(tmp_path / name)
    for name in ("none.npy", "none.csv", "none/x.npy"):
        with pytest.raises(FileNotFoundError, match=name):
            open_logits(str(tmp_path / name))
    with pytest.raises((FormatError, IsADirectoryError), match=r"folder\.npy"):
        open_logits(tmp_path / "folder.npy")


class Slow:
    """For the reading ahead: a source of single bytes that remembers the buffers it was given; fails at a row."""

    in_memory = False

    def __init__(self, fails=None):
        self.fails, self.buffers, self.reads = fails, set(), 0

    def read(self, start, stop, out=None):
        if self.fails is not None and start >= self.fails[0]:
            raise self.fails[1]
        self.buffers.add(out.ctypes.data)
        out[: stop - start] = start
        self.reads += 1
        return out[: stop - start]


def readers():
    return [t for t in threading.enumerate() if t.name == "fastxent-read-ahead"]


RANGES = [(i, i + 3) for i in range(20)]


def test_order_and_buffers():
    slow, other = Slow(), ArraySource(np.arange(100), None)
    for i, (block, numbers) in enumerate(read_ahead([slow, other], RANGES, [1, 8])):
        deadline = time.monotonic() + 0.02  # the reader goes on, as far as it may
        while time.monotonic() < deadline:
            assert (block == i).all()
        assert i + 1 <= slow.reads <= i + 3
        assert numbers.tolist() == [i, i + 1, i + 2]
    assert i == len(RANGES) - 1
    assert len(slow.buffers) <= 3
    assert not readers()


class Watched(Source):
    """Rows of zeros; knows how far it was read."""

    name, format = "watched", "npy"
    shape, dtype, row_shape = (4000, 3), np.dtype(np.float32), (3,)
    furthest = 0

    def _read(self, start, stop, out):
        self.furthest = max(self.furthest, stop)
        return np.zeros((stop - start, 3), np.float32)


@pytest.mark.parametrize("two", [False, True])
def test_evaluate_and_compare_compute_while_the_next_block_is_read(two, monkeypatch):
    monkeypatch.setattr(_reading, "BLOCK_ROWS", 100)
    sources, ahead = [Watched() for _ in range(1 + two)], []
    for source in sources:
        monkeypatch.setattr(source, "fingerprint", lambda: "")

    def busy(done, rows):  # in the place of a long computation: the block at hand is not done with yet
        if not done:  # nothing is read yet
            return
        deadline = time.monotonic() + 5
        while any(s.furthest <= done < rows for s in sources) and time.monotonic() < deadline:
            time.sleep(1e-4)
        ahead.append(min(s.furthest for s in sources) - done)
        assert ahead[-1] <= 300  # three buffers go round

    labels = np.zeros(4000, np.int64)
    (fx.compare if two else fx.evaluate)(*sources, labels, progress=busy)
    assert min(ahead[:-1]) > 0


@pytest.mark.parametrize("error", [FormatError("cut"), MemoryError(), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("row", [0, 1, 7, 19])
def test_errors_of_the_thread_reach_the_caller(row, error):
    got = []
    with pytest.raises(type(error)) as caught:
        got.extend(block[0][0] for block in read_ahead([Slow((row, error))], RANGES, [1]))
    assert caught.value is error
    assert got == list(range(row))
    assert not readers()


@pytest.mark.parametrize("stop_after", [0, 1, 5])
def test_thread_ends_when_the_caller_stops(stop_after):
    blocks = read_ahead([Slow()], RANGES, [1])
    for _ in range(stop_after):
        next(blocks)
    blocks.close()
    assert not readers()


def test_nothing_to_read_ahead():
    assert list(read_ahead([Slow()], [], [1])) == []
    source = ArraySource(np.arange(100), None)
    assert all(np.shares_memory(*block, source.read(0, 100)) for block in read_ahead([source], RANGES, [8]))
