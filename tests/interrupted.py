"""Ctrl-C in the middle of calls over 100 GB that are not there; run in a process of its own, a group of cases a run.

Arrays have strides of 0, files are sparse. A case is called with a number of rows: a few, before and after, and all.
For each is printed how long the answer took, and what was left behind or was not the same afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastxent as fx
from fastxent import cli

ROWS, CLASSES = 1 << 19, 1 << 16  # 128 GB of float32
FEW = 3
DELAY = 0.1
ATTEMPTS = 4  # of a case that was answered late, where others want the CPUs too

rng = np.random.default_rng(0)
row = rng.normal(size=CLASSES).astype(np.float32)
share = np.exp(row) / np.exp(row).sum()
weight = rng.random(CLASSES)
many = 1 << 33  # rows of ten classes, elements, labels
y = np.broadcast_to(np.int64(7), ROWS)
yn = np.broadcast_to(np.int8(1), 4 * many)


def of(one: np.ndarray, rows: int) -> np.ndarray:
    """So many rows that are one."""
    return np.broadcast_to(one, (rows, *one.shape))


def wide(n: int, dtype: Any = "f4") -> np.ndarray:
    return of(row.astype(dtype), n)


def probs(n: int) -> np.ndarray:
    return of(share, n)


def narrow(n: int) -> np.ndarray:
    return of(row[:10], n)


def tops(one: np.ndarray) -> np.ndarray:
    """Labels that are best at some temperature: of two rows in three the class that is ranked first."""
    return np.array([one.argmax(), 2, one.argmax()], np.int32)


def element(n: int) -> np.ndarray:
    return np.broadcast_to(np.float32(0.5), n)


def sparse(path: str, rows: int, columns: tuple[int, ...] = (), dtype: str = "<f4", fortran: bool = False) -> str:
    """A .npy file of zeros that takes no room."""
    shape = (rows, *columns)
    with open(path, "wb") as file:
        about = {"descr": dtype, "fortran_order": fortran, "shape": shape}
        np.lib.format.write_array_header_2_0(file, about)
        file.truncate(file.tell() + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize)
    return path


def command(*arguments: str) -> int:
    """The command line, whose answer to Ctrl-C is its status."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = cli.main([*arguments, "--no-progress", "--json", "out.json"])
    if status == 130:
        raise KeyboardInterrupt
    return status


def files(n: int) -> None:
    """Files of that many rows: logits, also column-major, and labels."""
    x = sparse(f"x{n}.npy", n, (CLASSES,))
    sparse(f"tall{n}.npy", n, (CLASSES if n > FEW else 9,), fortran=True)
    labels = sparse(f"y{n}.npy", n, (), "|u1")
    if n == FEW:  # some with a best temperature
        np.save(x, of(row[:9], n))
        np.save(labels, tops(row[:9]))


def updated(accumulator: Any, *arrays: np.ndarray) -> Any:
    """Its result after these rows."""
    accumulator.update(*arrays)
    return accumulator.result()


Case = Callable[[int], Any]
LOSSES: dict[str, tuple[int, Case]] = {
    "cross_entropy": (ROWS, lambda n: fx.cross_entropy(wide(n), y[:n])),
    "cross_entropy none": (ROWS, lambda n: fx.cross_entropy(wide(n), y[:n], reduction="none")),
    "cross_entropy float16": (ROWS, lambda n: fx.cross_entropy(wide(n, "f2"), y[:n])),
    "cross_entropy byte order": (ROWS, lambda n: fx.cross_entropy(wide(n, ">f4"), y[:n])),
    "cross_entropy integers": (ROWS, lambda n: fx.cross_entropy(wide(n, "i4"), y[:n])),
    "cross_entropy temperature": (ROWS, lambda n: fx.cross_entropy(wide(n), y[:n], temperature=2.0)),
    "cross_entropy weight, smoothing": (
        ROWS, lambda n: fx.cross_entropy(wide(n), y[:n], weight, label_smoothing=0.1, sample_weight=element(n))
    ),
    "cross_entropy probabilities": (ROWS, lambda n: fx.cross_entropy(probs(n), y[:n], from_logits=False)),
    "cross_entropy soft": (ROWS, lambda n: fx.cross_entropy(wide(n), probs(n))),
    "cross_entropy soft none": (ROWS, lambda n: fx.cross_entropy(wide(n), probs(n), reduction="none")),
    "cross_entropy soft axis 0": (ROWS, lambda n: fx.cross_entropy(wide(n).T, probs(n).T, axis=0)),
    "cross_entropy axis 0": (ROWS, lambda n: fx.cross_entropy(wide(n).T, y[:n], axis=0)),
    "cross_entropy narrow": (many, lambda n: fx.cross_entropy(narrow(n), yn[:n])),
    "nll_loss": (many, lambda n: fx.nll_loss(narrow(n), yn[:n])),
    "binary_cross_entropy": (many, lambda n: fx.binary_cross_entropy(element(n), element(n))),
    "binary_cross_entropy_with_logits": (
        ROWS, lambda n: fx.binary_cross_entropy_with_logits(wide(n), probs(n), pos_weight=weight)
    ),
    "log_loss": (many, lambda n: fx.log_loss(yn[:n], element(n), labels=[0, 1])),
}  # fmt: skip
MEASURES: dict[str, tuple[int, Case]] = {
    "logsumexp": (ROWS, lambda n: fx.logsumexp(wide(n), axis=1)),
    "logsumexp axis 0": (ROWS, lambda n: fx.logsumexp(wide(n), axis=0)),
    "logsumexp of one row": (4 * many, lambda n: fx.logsumexp(element(n))),
    "logsumexp of all axes": (ROWS, lambda n: fx.logsumexp(wide(n))),
    "logsumexp of all integers": (ROWS, lambda n: fx.logsumexp(wide(n, "i4"))),
    "logsumexp weighted": (ROWS, lambda n: fx.logsumexp(wide(n), axis=1, b=weight)),
    "entropy": (ROWS, lambda n: fx.entropy(probs(n))),
    "entropy_with_logits": (ROWS, lambda n: fx.entropy_with_logits(wide(n), reduction="mean")),
    "kl_divergence": (ROWS, lambda n: fx.kl_divergence(probs(n), probs(n))),
    "kl_divergence_with_logits": (ROWS, lambda n: fx.kl_divergence_with_logits(wide(n), wide(n, "f8"))),
    "kl_divergence_with_logits narrow": (
        many, lambda n: fx.kl_divergence_with_logits(narrow(n), narrow(n), reduction="mean")
    ),
    "kl_divergence_with_logits of one row": (
        4 * many, lambda n: fx.kl_divergence_with_logits(element(n), element(n))
    ),
    "js_divergence": (ROWS, lambda n: fx.js_divergence(probs(n), probs(n))),
    "js_divergence_with_logits": (ROWS, lambda n: fx.js_divergence_with_logits(wide(n), wide(n))),
    "contingency_table": (4 * many, lambda n: fx.contingency_table(yn[:n], yn[:n])),
    "contingency_table sparse": (
        many, lambda n: fx.contingency_table(of(np.int64(1 << 40), n), yn[:n], sparse=True).sum()
    ),
    "mutual_info_score": (4 * many, lambda n: fx.mutual_info_score(yn[:n], yn[:n])),
    "joint_entropy": (ROWS, lambda n: fx.joint_entropy(probs(n))),
    "mutual_information": (ROWS, lambda n: fx.mutual_information(probs(n))),
}  # fmt: skip
EVALUATION: dict[str, tuple[int, Case]] = {
    "evaluate": (ROWS, lambda n: fx.evaluate(wide(n), y[:n])),
    "evaluate narrow": (many, lambda n: fx.evaluate(narrow(n), yn[:n])),
    "evaluate axis 0": (ROWS, lambda n: fx.evaluate(wide(n).T, y[:n], axis=0)),
    "evaluate temperatures, topk": (
        ROWS, lambda n: fx.evaluate(wide(n), y[:n], topk=(1, 1000), temperatures=np.linspace(0.1, 3, 99).tolist())
    ),
    "Evaluator": (ROWS, lambda n: updated(fx.Evaluator(), wide(n), y[:n])),
    "compare": (ROWS, lambda n: fx.compare(wide(n), wide(n, "f2"), y[:n], topk=(1, 1000))),
    "compare narrow": (many, lambda n: fx.compare(narrow(n), narrow(n), yn[:n])),
    "Comparator": (ROWS, lambda n: updated(fx.Comparator(), wide(n), wide(n), y[:n])),
    "fit_temperature": (ROWS, lambda n: fx.fit_temperature(wide(n), np.resize(tops(row), n))),
    "fit_temperature narrow": (
        3 * many, lambda n: fx.fit_temperature(of(of(row[:10], 3), n // 3), of(tops(row[:10]), n // 3))
    ),
}  # fmt: skip
FILES: dict[str, tuple[int, Case]] = {
    "evaluate file": (ROWS, lambda n: fx.evaluate(f"x{n}.npy", f"y{n}.npy")),
    "evaluate file, rows": (ROWS, lambda n: fx.evaluate(f"x{n}.npy", f"y{n}.npy", per_row="rows.npy")),
    "evaluate column-major file": (ROWS, lambda n: fx.evaluate(f"tall{n}.npy", f"y{n}.npy")),
    "compare files": (ROWS, lambda n: fx.compare(f"x{n}.npy", f"x{n}.npy", f"y{n}.npy")),
    "fit_temperature file": (ROWS, lambda n: fx.fit_temperature(f"x{n}.npy", f"y{n}.npy")),
    "blocks of a file": (ROWS, lambda n: sum(len(block) for block in fx.open_logits(f"x{n}.npy").blocks())),
    "cross_entropy of a map": (ROWS, lambda n: fx.cross_entropy(np.load(f"x{n}.npy", mmap_mode="r"), y[:n])),
    "fastxent eval": (ROWS, lambda n: command("eval", f"x{n}.npy", f"y{n}.npy", "--per-row", "rows.npy")),
    "fastxent compare": (ROWS, lambda n: command("compare", f"x{n}.npy", f"tall{n}.npy", f"y{n}.npy")),
}
GROUPS = {"losses": LOSSES, "measures": MEASURES, "evaluation": EVALUATION, "files": FILES}


def words(result: Any) -> str:
    """A result in words that differ where a bit does."""
    if hasattr(result, "to_dict"):
        return json.dumps({k: v for k, v in result.to_dict().items() if k != "provenance"})
    return repr(np.asarray(result).tolist()) if isinstance(result, (np.ndarray, float, int)) else repr(result)


def things() -> tuple[list[str], list[str], list[str]]:
    """Threads, open files and files in the folder."""
    gc.collect()
    descriptors = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
    opened = sorted(os.readlink(name) for name in descriptors if os.path.exists(name))
    return sorted(t.name for t in threading.enumerate()), opened, sorted(os.listdir())


def interrupted(call: Case, rows: int) -> float:
    """Seconds from Ctrl-C to the answer; -1 where the call came to its end before."""
    sent: list[float] = []

    def interrupt() -> None:
        time.sleep(DELAY)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        call(rows)
        thread.join()
        time.sleep(0.1)
    except KeyboardInterrupt:
        late = time.monotonic() - sent[0] if sent else -1.0
        thread.join()
        return late
    return -1.0


def main(group: str) -> None:
    """Print a line of JSON for each case: its name, seconds, what is wrong."""
    if group == "files":
        files(ROWS), files(FEW)
    for name, (rows, call) in GROUPS[group].items():
        before_words = words(call(FEW))
        for path in ("rows.npy", "out.json"):
            Path(path).unlink(missing_ok=True)
        before, late, wrong = things(), 9.0, ""
        for _ in range(ATTEMPTS):
            late = min(late, interrupted(call, rows))
            if things() != before:
                wrong = f"left behind: {[sorted({*a} ^ {*b}) for a, b in zip(things(), before, strict=True)]}"
            if late <= 0.2:
                break
        if words(call(FEW)) != before_words:
            wrong += " another result afterwards"
        print(json.dumps([name, late, wrong]), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a script's background
    main(sys.argv[1])
