"""Feed damaged files to the readers: nothing but the promised errors may come of them, in bounded memory.

    python tools/fuzz_sources.py FORMAT [--runs N] [--seconds T] [--corpus FOLDER] [--seed S]

With atheris installed (`pip install atheris`) the fuzzer is guided by the coverage of the readers, and keeps what it
found in FOLDER; otherwise, or with --plain, files are mutated at random. The file that broke a promise is kept as
build/fuzz/crash-FORMAT. FORMAT: npy, npz, safetensors, kld, h5, zarr, parquet, arrow; state and comparison, of
`Evaluator.from_state` and `Comparator.from_state`; report, a result in JSON; or all. `--write` instead writes the sound
files to tests/corpus, beside what was found there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

try:
    import atheris
except ImportError:
    atheris = None

CRASHES = Path(__file__).resolve().parent.parent / "build" / "fuzz"
guide = atheris if atheris and not {"--plain", "--write"} & set(sys.argv) else None
INSTRUMENTED = ["fastxent.sources", "fastxent._accumulators", "fastxent._scoring", "fastxent.report"]
sys.path.append(str(Path(__file__).resolve().parent.parent))  # fastxent is built in place and not installed
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
with guide.instrument_imports(include=INSTRUMENTED) if guide else contextlib.nullcontext():
    from readers import FORMATS, TEXTS, target_of

    import fastxent as fx


def seeds(kind: str) -> list[bytes]:
    """Small sound files of a format; of a Zarr store its metadata."""
    if kind in TEXTS:
        return [json.dumps(body, separators=(",", ":")).encode() for body in texts(kind)]
    x, y = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(4)
    found = []
    if kind == "npy":
        for array, version in ((x, (1, 0)), (np.asfortranarray(x.reshape(2, 2, 3)), (2, 0)), (y, (3, 0))):
            file = io.BytesIO()
            np.lib.format.write_array(file, array, version)
            found.append(file.getvalue())
    elif kind == "npz":
        for save in (np.savez, np.savez_compressed):
            file = io.BytesIO()
            save(file, logits=x, labels=y)
            found.append(file.getvalue())
    elif kind == "safetensors":
        head = b'{"x":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]}}'
        found = [len(head).to_bytes(8, "little") + head + x.tobytes()]
    elif kind == "kld":
        found = [b"_logits_" + struct.pack("<Iii", 8, 6, 3) + bytes(4 * 8 * 3 + 9 * 20)]
    elif kind == "h5":
        import h5py

        for options in ({}, {"chunks": (2, 2), "compression": "gzip"}):
            file = io.BytesIO()
            with h5py.File(file, "w") as store:
                store.create_dataset("x", data=x, **options)
            found.append(file.getvalue())
    elif kind == "zarr":
        import zarr

        for version, name in ((2, ".zarray"), (3, "zarr.json")):
            with tempfile.TemporaryDirectory() as folder:
                zarr.create_array(store=folder, data=x, chunks=(2, 2), compressors=None, zarr_format=version)
                found.append((Path(folder) / name).read_bytes())
    else:
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.table({"logits": pa.array(list(x)), "labels": y})
        for rows in (2, 4):
            file = io.BytesIO()
            if kind == "parquet":
                pyarrow.parquet.write_table(table, file, row_group_size=rows)
            else:
                with pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table, max_chunksize=rows)
            found.append(file.getvalue())
    return found


def texts(kind: str) -> list[dict[str, Any]]:
    """States of few rows, and results."""
    x, y = np.arange(12, dtype=np.float32).reshape(4, 3) % 5, np.arange(4) % 3
    kinds = {"state": fx.Evaluator, "comparison": fx.Comparator}
    if kind == "report":
        return [fx.evaluate(x, y, groups=y).to_dict(), fx.compare(x, x[::-1], y).to_dict()]
    plain, grouped = kinds[kind](topk=(1,), worst=1), kinds[kind](temperature=1.5, worst=0)
    both = (x,) if kind == "state" else (x, x[::-1])
    plain.update(*both, y)
    grouped.update(*both, y, start=7, groups=y, sample_weight=np.ones(4))
    return [plain.state(), grouped.state()]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, inserted, taken out, repeated; perhaps cut."""
    raw = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(raw) + 1)
        size = chance.choice((1, 1, 2, 4, 8))
        what = chance.randrange(6)
        if what == 0:
            raw[place : place + size] = chance.randbytes(size)
        elif what == 1:
            raw[place : place + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01")) * size
        elif what == 2 and place < len(raw):
            raw[place] ^= 1 << chance.randrange(8)
        elif what == 3:
            del raw[place : place + size]
        elif what == 4:
            raw[place:place] = raw[place : place + size * 4]
        elif what == 5 and chance.random() < 0.3:
            del raw[place:]
        raw = raw or bytearray(b"\0")
    return bytes(raw)


def plain(kind: str, runs: int, seconds: int, seed: int) -> None:
    """Random mutations of sound files."""
    chance, sound, start = random.Random(seed), seeds(kind), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target, read = target_of(kind, Path(folder)), 0
        assert all(target(data) for data in sound)
        crash = CRASHES / f"crash-{kind}"
        for done in range(runs):
            if time.monotonic() - start > seconds > 0:
                runs = done
                break
            data = mutate(chance.choice(sound), chance)
            crash.write_bytes(data)  # first, for a crash of a library ends the process
            read += target(data)
        crash.unlink(missing_ok=True)
    print(f"{kind}: {runs} files in {time.monotonic() - start:.0f} s, {read} of them could be read, no promise broken")


def guided(kind: str, runs: int, seconds: int, seed: int, corpus: Path) -> None:
    """Mutations that atheris chooses by what they reach; does not return."""
    corpus.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds(kind)):
        (corpus / f"seed-{i}").write_bytes(data)
    folder = tempfile.mkdtemp()
    target = target_of(kind, Path(folder))
    options = [f"-runs={runs}", f"-seed={seed or 1}", f"-artifact_prefix={CRASHES}/crash-{kind}-", "-rss_limit_mb=4096"]
    options += [f"-max_total_time={seconds}", "-timeout=30", "-print_final_stats=1", "-max_len=65536"]
    guide.Setup([sys.argv[0], *options, str(corpus)], lambda data: (target(data), None)[1])
    guide.Fuzz()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("format", choices=(*FORMATS, *TEXTS, "all"))
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=0, help="end after so many")
    parser.add_argument("--write", action="store_true", help="write the sound files to tests/corpus")
    parser.add_argument("--corpus", type=Path, help="where atheris keeps what it found")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without atheris")
    args = parser.parse_args()
    if args.format == "all":  # a process each, for a crash ends one
        options = [f"--runs={args.runs}", f"--seconds={args.seconds}", f"--seed={args.seed}"]
        options += [f"--{name}" for name in ("plain", "write") if getattr(args, name)]
        kinds = (*FORMATS, *TEXTS)
        corpora = [[f"--corpus={args.corpus / kind}"] if args.corpus else [] for kind in kinds]
        status = [
            subprocess.run([sys.executable, __file__, kind, *options, *corpus], check=False).returncode
            for kind, corpus in zip(kinds, corpora, strict=True)
        ]
        return max(map(abs, status))
    CRASHES.mkdir(parents=True, exist_ok=True)
    if args.write:
        folder = Path(__file__).resolve().parent.parent / "tests" / "corpus" / args.format
        folder.mkdir(parents=True, exist_ok=True)
        for i, data in enumerate(seeds(args.format)):
            (folder / f"sound-{i}").write_bytes(data)
    elif guide:
        guided(args.format, args.runs, args.seconds, args.seed, args.corpus or Path(tempfile.mkdtemp()))
    else:
        plain(args.format, args.runs, args.seconds, args.seed)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("FASTXENT_NUM_THREADS", "1")
    sys.exit(main())
