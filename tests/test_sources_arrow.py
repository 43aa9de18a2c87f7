"""Sources: Parquet and Arrow IPC tables, as pyarrow writes them."""

import os

import numpy as np
import pytest
from files import check, damage, growth, refused, rows_of

from fastxent.sources import FormatError, open_logits

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is built without Parquet")
feather = pytest.importorskip("pyarrow.feather", reason="pyarrow is built without Feather")

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40)


def column(x, kind):
    if kind == "list":
        return pa.array(list(x), pa.list_(pa.from_numpy_dtype(x.dtype)))
    if kind == "large":
        return pa.array(list(x), pa.large_list(pa.from_numpy_dtype(x.dtype)))
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])


def write(path, table, rows=7):
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=rows)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, chunksize=rows)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)


@pytest.fixture(params=["parquet", "arrow", "feather"])
def path(request, tmp_path):
    return tmp_path / f"x.{request.param}"


@pytest.mark.parametrize("kind", ["list", "large", "fixed", "tensor"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i2"])
def test_lists(dtype, kind, path):
    x = (X * 10).astype(dtype)
    for rows in (7, 100):
        write(path, pa.table({"labels": Y, "logits": column(x, kind), "text": ["a"] * 40}), rows)
        check(open_logits(path), x)
        check(open_logits(path, name="logits"), x)
        check(open_logits(path, labels=True), Y)
    assert open_logits(path).format == ("parquet" if path.suffix == ".parquet" else "arrow")
    with pytest.raises(FormatError, match=r"no column of lists of scores 'none'; there is logits"):
        open_logits(path, name="none")
    with pytest.raises(FormatError, match=r"no label column 'text'; there is labels"):
        open_logits(path, name="text", labels=True)


def test_a_column_a_class(path):
    table = {"label": Y, **{f"class_{i}": X[:, i] for i in range(6)}}
    write(path, pa.table(table))
    check(open_logits(path), X)
    check(open_logits(path, labels=True), Y)
    write(path, pa.table({**table, "weight": X[:, 0], "other": Y}))
    check(open_logits(path, name="class_*"), X)
    check(open_logits(path, name="class_0"), X[:, :1])
    check(open_logits(path, name="weight", labels=True), X[:, 0])
    check(open_logits(path, labels=True), Y)
    write(path, pa.table({"a": X[:, 0], "b": X[:, 1].astype(float)}))
    refused(lambda: None, path, "several types: float32, float64")


def test_wrong_tables(path):
    def table(**columns):
        return lambda: write(path, pa.table(columns))

    ragged = [list(row) for row in X.tolist()]
    ragged[23].pop()
    refused(table(x=pa.array(ragged, pa.list_(pa.float32()))), path, "row 23 has 5 scores, the first one 6")
    holes = X.tolist()
    holes[23] = None
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 6)):
        refused(table(x=pa.array(holes, kind)), path, "column x is null in row 23")
    holes[23] = [*X[23, :5].tolist(), None]
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 6)):
        refused(table(x=pa.array(holes, kind)), path, "column x is null in row 23")
    refused(table(y=pa.array([*range(23), None])), path, "column y is null in row 23", labels=True)
    refused(table(x=pa.array(["a"])), path, "holds no column of lists of scores")
    refused(table(x=column(X, "list"), y=column(X, "list")), path, "several .*; name one of x, y")
    refused(table(a=Y, b=Y), path, "several label columns; name one of a, b", labels=True)
    with pytest.raises(ValueError, match="axis of a table"):
        open_logits(path, axis=0)


def test_no_rows(path):
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 6)):
        write(path, pa.table({"x": pa.array([], kind)}))
        source = open_logits(path)
        assert source.rows == 0
        assert len(rows_of(source, 3)) == 0


def test_memory_option(tmp_path):
    write(tmp_path / "x.arrow", pa.table({"x": column(X, "fixed")}), 40)
    with pytest.raises(FormatError, match=r"x\.arrow: a record batch of .*, the option memory allows 500; write"):
        open_logits(tmp_path / "x.arrow", memory=500)


def test_compressed_record_batches(tmp_path):
    """The memory option holds for what they become, which their own size does not tell."""
    x = np.zeros((4000, 256), np.float32)
    path = tmp_path / "x.feather"
    for kind in ("fixed", "list"):
        feather.write_feather(pa.table({"x": column(x, kind)}), path, compression="zstd", chunksize=4000)
        assert path.stat().st_size < 100_000
        with pytest.raises(FormatError, match=r"x\.feather:x: a record batch of 4,096,000 bytes, the option"):
            open_logits(path, memory=4_000_000)
        check(open_logits(path, memory=4_100_000), x)
    table = {f"class_{i}": x[:, i] for i in range(256)}
    feather.write_feather(pa.table(table), path, compression="zstd", chunksize=4000)
    with pytest.raises(FormatError, match=r"a record batch of 4,096,000 bytes"):
        open_logits(path, memory=4_000_000)
    feather.write_feather(pa.table({"x": column(x, "fixed")}), path, compression="lz4", chunksize=4000)
    raw = path.read_bytes()
    size = x.nbytes.to_bytes(8, "little")  # stands before the buffer
    assert raw.count(size) == 1
    for lie in (1 << 33, 1 << 50, -5, 10):
        changed = raw.replace(size, lie.to_bytes(8, "little", signed=True))
        refused(lambda changed=changed: path.write_bytes(changed), path, "corrupt")


def test_truncated(path):
    write(path, pa.table({"x": column(X, "fixed")}))
    source, size = open_logits(path), path.stat().st_size
    for cut in (size - 1, size // 2, 100, 8, 3, 0):
        os.truncate(path, cut)
        with pytest.raises(FormatError, match=rf"x\{path.suffix}: "):
            open_logits(path)
    with pytest.raises(FormatError, match=rf"x\{path.suffix}:x: "):
        rows_of(source, 100)


def test_damage(path):
    write(path, pa.table({"x": column(X, "list"), "y": Y}))
    damage(path, 300, 10_000, name="x")
    damage(path, 300, 10_000, labels=True)


def test_memory_is_flat(path):
    x = np.zeros((4000, 256), np.float32)
    one = pa.table({"x": column(x, "fixed")})
    if path.suffix == ".parquet":
        with parquet.ParquetWriter(path, one.schema) as writer:
            for _ in range(2):  # row groups of 100 MB
                writer.write_table(pa.concat_tables([one] * 25), row_group_size=1 << 20)
    else:
        write(path, pa.concat_tables([one] * 50), 4000)
    assert growth(path) < 100
