"""Sound files of every format, damaged at random from a seed, given to the command line; run in a process of its own.

A library's crash would end the process, an endless loop is ended by an alarm, and what it may allocate is limited.
"""

from __future__ import annotations

import contextlib
import io
import random
import resource
import shutil
import signal
import struct
import sys
import warnings
from pathlib import Path

import numpy as np

from fastxent.cli import main

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = np.arange(40) % 6
MEMORY = 1 << 30  # more than this beyond what the libraries take is an allocation that a header asked for


def write(path: Path, variant: int) -> None:
    """Logits and labels in a file of the suffix's format, in one of two layouts."""
    kind = path.suffix
    if kind == ".npy":
        np.save(path, np.asarray(X, order="CF"[variant]))
    elif kind == ".npz":
        (np.savez, np.savez_compressed)[variant](path, logits=X, labels=Y)
    elif kind == ".safetensors":
        head = (
            b'{"labels":{"dtype":"I64","shape":[40],"data_offsets":[960,1280]},'
            b'"logits":{"dtype":"F32","shape":[40,6],"data_offsets":[0,960]}}'
        )
        path.write_bytes(len(head).to_bytes(8, "little") + head + X.tobytes() + Y.astype("<i8").tobytes())
    elif kind == ".kld":
        size = 4 * 16 * 5 + 5 * 7 * 20
        path.write_bytes(b"_logits_" + struct.pack("<Iii", 16, 6, 5) + np.resize(np.uint8([0, 0, 60]), size).tobytes())
    elif kind == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            options = {"chunks": (7, 4), "compression": "gzip", "shuffle": True, "fletcher32": True} if variant else {}
            file.create_dataset("logits", data=X, **options)
            file["labels"] = Y
    elif kind == ".zarr":
        import zarr

        group = zarr.open_group(str(path), mode="w", zarr_format=(2, 3)[variant])
        group.create_array("logits", shape=X.shape, dtype=X.dtype, chunks=(14, 6))[...] = X
        group.create_array("labels", shape=Y.shape, dtype=Y.dtype, chunks=(40,))[...] = Y
    else:
        import pyarrow as pa

        table = pa.table({"logits": pa.array(list(X)), "labels": Y})
        if kind == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, path, row_group_size=(40, 7)[variant])
        else:
            options = pa.ipc.IpcWriteOptions(compression=(None, "lz4")[variant])
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=(40, 7)[variant])


def damage(raw: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, numbers made large, pieces taken out or repeated; perhaps cut. Often at either end."""
    out = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        near = chance.randrange(min(len(out), 256) + 1)
        place = chance.choice((near, len(out) - near, chance.randrange(len(out) + 1)))
        size = chance.choice((1, 1, 2, 4, 8))
        what = chance.randrange(6)
        if what == 0:
            out[place : place + size] = chance.randbytes(size)
        elif what == 1:
            out[place : place + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * size
        elif what == 2 and place < len(out):
            out[place] ^= 1 << chance.randrange(8)
        elif what == 3:
            del out[place : place + size]
        elif what == 4:
            out[place:place] = out[place : place + 4 * size]
        elif chance.random() < 0.5:
            del out[place:]
        out = out or bytearray(b"\0")
    return bytes(out)


def say(path: Path) -> tuple[int, str]:
    """Exit status and what stands on standard error."""
    error = io.StringIO()
    labels = path.with_name("labels.npy") if path.suffix == ".npy" else path
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        status = main(["eval", str(path), str(labels), "--json", "-", "--memory", "16M"])
    return status, error.getvalue()


def limit() -> None:
    """No more memory than what is taken and MEMORY."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


def go(suffix: str, cases: int, folder: Path) -> None:
    """Every case ends well or in one line that names the file; prints how many did which."""
    path = folder / f"x.{suffix}"
    np.save(folder / "labels.npy", Y)
    chance = random.Random(f"{suffix} 1")
    sound = []
    for variant in (0, 1):
        write(path, variant)
        assert say(path)[0] == 0, say(path)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        sound.append([(file, file.read_bytes()) for file in files])
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    limit()
    statuses = [0, 0]
    for case in range(cases):
        files = sound[case % 2]
        victim = chance.randrange(len(files))
        for i, (file, raw) in enumerate(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(damage(raw, chance) if i == victim else raw)
        signal.alarm(20)
        status, said = say(path)
        signal.alarm(0)
        statuses[status] += 1
        if status:
            assert said.startswith("fastxent: "), (case, said)
            assert said.count("\n") == 1, (case, said)
            assert path.name in said or "rows" in said or "labels" in said, (case, said)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(suffix, *statuses, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    _, runs, place, *suffixes = sys.argv
    for one in suffixes:
        go(one, int(runs), Path(place))
