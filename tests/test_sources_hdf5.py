"""Sources: HDF5 datasets, as h5py writes them."""

import os

import numpy as np
import pytest
from files import check, growth, refused, rows_of

from fastxent.sources import FormatError, open_logits

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40)
LAYOUTS = [{}, {"chunks": (7, 4)}, {"chunks": (7, 4), "compression": "gzip", "shuffle": True}]
LAYOUTS += [{"chunks": (40, 1)}, {"chunks": (1, 6), "compression": "lzf", "fletcher32": True}]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "i2"])
def test_datasets(dtype, layout, tmp_path):
    x = (X * 10).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("run/logits", data=x, **layout)
        file["labels"], file["cube"] = Y, x.reshape(4, 10, 6)
    path = tmp_path / "x.h5"
    for memory in (1 << 30, 40 * 6 * 8 if layout.get("chunks", "")[:1] == (40,) else 7 * 6 * 8):
        check(open_logits(path, name="run/logits", memory=memory), x)
        check(open_logits(path, name="cube", memory=memory), x.reshape(4, 10, 6))
        check(open_logits(path, name="cube", axis=1, memory=memory), x.reshape(4, 10, 6).swapaxes(1, 2))
    check(open_logits(path, labels=True), Y)
    with pytest.raises(FormatError, match=r"x\.h5: no dataset 'none'; there is cube, labels, run/logits"):
        open_logits(path, name="none")
    with pytest.raises(FormatError, match=r"several datasets; name one of"):
        open_logits(path)


def test_memory_option(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (1 << 20, 1000), "f4", chunks=(1 << 18, 1))
    source = open_logits(tmp_path / "x.h5", memory=1 << 29)
    with pytest.raises(FormatError, match=r"x\.h5:x: a band of 262144 along axis 0 .* wants 1,048,576,000 bytes"):
        source.read(0, 1)


def test_what_leads_out_of_the_file(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = X

    def external_link():
        with h5py.File(path, "w") as file:
            file["x"] = h5py.ExternalLink("other.h5", "x")

    def soft_link():
        with h5py.File(path, "w") as file:
            file["x"] = h5py.SoftLink("/nowhere")

    def external_storage():
        with h5py.File(path, "w") as file:
            file.create_dataset("x", (4, 3), "f4", external=[("other.h5", 0, 48)])

    def virtual():
        with h5py.File(path, "w") as file:
            layout = h5py.VirtualLayout((40, 6), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "x", (40, 6))
            file.create_virtual_dataset("x", layout)

    refused(external_link, path, "no dataset 'x'; there is none", name="x")
    refused(soft_link, path, "holds no dataset")
    refused(external_storage, path, "other files")
    refused(virtual, path, "other files")

    def itself():
        with h5py.File(path, "w") as file:
            file["a"] = X
            file["group/itself"] = file["/"]

    itself()
    check(open_logits(path), X)


@pytest.mark.parametrize("value", [np.array(["a"], object), np.zeros(3, [("a", "f4")]), h5py.Empty("f4")], ids=str)
def test_no_numbers(value, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = value
    with pytest.raises(FormatError, match=r"x\.h5:x: "):
        open_logits(tmp_path / "x.h5")


@pytest.mark.parametrize("layout", LAYOUTS[:3], ids=str)
def test_truncated(layout, tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random((4000, 6)), **layout)
    source = open_logits(path)
    size = path.stat().st_size
    for cut in (size - 1, size // 2, 2000, 100, 8, 0):
        os.truncate(path, cut)
        with pytest.raises(FormatError, match=r"x\.h5: no \.h5 file, or a corrupt one: "):
            open_logits(path)
    with pytest.raises(FormatError, match=r"x\.h5:x: corrupt"):
        rows_of(source, 100)


def test_memory_is_flat(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (200_000, 256), "f4", chunks=(1000, 64), fillvalue=1.0)
        file["x"][::50_000] = 3.0
    assert growth(tmp_path / "x.h5") < 100
