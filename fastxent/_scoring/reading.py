"""Reading whatever logits lie in, a block at a time, into an accumulator: rows chosen, progress, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastxent._arrays import as_integers, as_logits, dtype_name
from fastxent._scoring.accumulator import Accumulator
from fastxent._scoring.checkpoint import Checkpoint
from fastxent._scoring.columns import check_dtype
from fastxent._scoring.progress import progress_bar
from fastxent._scoring.rowfile import PerRow, RowFile
from fastxent._scoring.selection import Selection, Shifted
from fastxent._threads import get_num_threads
from fastxent.sources import Source, as_source
from fastxent.sources.array import ArraySource
from fastxent.sources.base import Ranges, read_ahead

BLOCK_BYTES = 1 << 24  # of a file, read ahead of the computation
MEMORY_BYTES = 1 << 28  # of arrays that nobody copies: some 10 ms, beside which adding a block to the rest is nothing
BLOCK_ROWS = 1 << 20
SCORES = ("logits", "base", "other")  # names of what a model gave

Progress = bool | Callable[[int, int], None]
Path_ = str | os.PathLike[str]
Rows = ArrayLike | Path_ | Sequence[Path_] | Source

Some = TypeVar("Some", bound=Accumulator)


def beside_rows(columns: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Source]:
    """The sources of what stands beside the logits, a value a row, whose dtypes and shapes are looked at."""
    # of groups a list of text is a list of names, not of files
    named = {"groups": np.asarray(columns["groups"])} if isinstance(columns.get("groups"), (list, tuple)) else {}
    beside = {name: as_source(x, None) for name, x in {**columns, **named}.items() if x is not None}
    for name, column in beside.items():
        if column.in_memory and column.dtype.kind not in "O":
            column.name = name
        file = "" if column.in_memory else column.name
        if column.shape != shape:
            where = f", {file}," if file else ""
            raise ValueError(f"{name}{where} has shape {column.shape}, but the labels have {shape}")
        if column.dtype.kind != "O":
            check_dtype(name, column.dtype, file)
    return beside


def check_files(logits: Mapping[str, Source], labels: Source | None, logits_dtype: str | None) -> None:
    """TypeError for a dtype that scores or labels cannot have, which names the file."""
    for source in logits.values():
        if not source.in_memory and logits_dtype is None:
            as_logits(np.empty(0, source.dtype), source.name)
    if labels is not None and not labels.in_memory:
        as_integers(np.empty(0, labels.dtype), labels.name)


def inputs_of(source: Source, inputs: str | None, name: str = "inputs") -> str:
    """What a source's scores are: as `inputs` says, or by default the source.

    Raises
    ------
    ValueError
        For probabilities in a file whose format holds log-probabilities.
    """
    if inputs == "probs" and source.inputs == "log_probs":
        raise ValueError(f"{name} is 'probs', but {source.name} holds log-probabilities, as its format has it")
    return source.inputs if inputs is None else inputs


def read_into(
    accumulator: Some,
    logits: Mapping[str, Source],
    labels: Source | None,
    beside: Mapping[str, Source],
    *,
    shape: tuple[int, ...],
    shift: int,
    lengths: Rows | None,
    strict: bool,
    per_row: PerRow | None,
    progress: Progress,
    checkpoint: Path_ | None,
) -> Some:
    """Add all rows to an accumulator, or to the one that a checkpoint holds, which is given back.

    Parameters
    ----------
    logits
        By name, in the order in which the accumulator's `_update` takes them.
    labels
        Or None.
    beside
        What `_update` takes by name.
    shape
        Of the rows.
    per_row
        The file for the values of every row, which `_update` gives to its `sink`; or None.
    shift, lengths, strict, progress, checkpoint
        As `fastxent.evaluate` has them.
    """
    if lengths is not None:
        of = as_source(lengths, None)
        lengths = of.read(0, of.rows).reshape(of.shape)
    selection = Selection(shape, shift, lengths)
    rows = prod(shape)
    some_labels = [] if labels is None else [Shifted(labels, shift) if shift else labels]
    everything = (*logits.values(), *some_labels, *beside.values())
    sizes = tuple(source.row_bytes for source in everything)
    views = all(isinstance(source, ArraySource) and source.views for source in everything)
    step = max(1, min(BLOCK_ROWS, (MEMORY_BYTES if views else BLOCK_BYTES) // max(1, sum(sizes[: len(logits)]))))
    done = 0
    saved = found = None
    if checkpoint is not None:
        named = origins({**logits, "labels": labels, **beside})
        job = {
            **{name: {k: v for k, v in about.items() if k != "name"} for name, about in named.items()},
            "options": accumulator.options,
            "row_format": accumulator.state()["row_format"],
            "shift": selection.shift,
            "lengths": None if lengths is None else ArraySource(lengths, None).fingerprint(),
        }
        if per_row is not None:
            job["per_row"] = Path(per_row.path).name
        saved = Checkpoint(checkpoint, job)
        found = saved.load()
        if found is not None:
            done = found[0]
            accumulator = type(accumulator).from_state(found[1])
    # the thread that reads ahead wants a core of its own: an OpenMP thread that waits does so spinning
    threads = None if all(source.in_memory for source in logits.values()) else max(1, get_num_threads() - 1)

    def add(block: tuple[NDArray[Any], ...], start: int, stop: int, sink: Any) -> None:
        rest = list(block[len(logits) :])
        some = None if labels is None else rest.pop(0)
        values = dict(zip(beside, rest, strict=True))
        if not selection.all:
            keep = selection.keep(start, stop)
            values["mask"] = np.where(keep, values["mask"], False) if "mask" in values else keep
        accumulator._update(*block[: len(logits)], some, start, values, threads, sink)

    ranges = Ranges(done, rows, step)
    if not rows:  # nothing to read, but the dtypes are checked all the same
        add(tuple(np.empty((0, *source.row_shape), source.dtype) for source in everything), 0, 0, None)

    with ExitStack() as stack:
        file = sink = None
        if per_row is not None:
            name = None if saved is None else saved.name
            file = stack.enter_context(RowFile(per_row.path, rows, per_row.dtype, name, done))
            sink = per_row.sink(file)

        def save() -> None:
            """A checkpoint says that rows are done when their values are safe."""
            if saved is not None:
                if file is not None:
                    file.sync()
                saved.save(done, accumulator.state())
                if file is not None:
                    file.keep = done > 0

        if found is None:  # whether a checkpoint can be written is seen before an hour of reading
            save()
        tell = stack.enter_context(progress_bar(progress, rows, next(iter(logits.values())).name))
        tell(done)
        blocks = read_ahead(everything, ranges, sizes)
        stack.callback(getattr(blocks, "close"))  # noqa: B009
        try:
            for (start, stop), block in zip(ranges, blocks, strict=True):
                add(block, start, stop, sink)
                done = stop
                if strict and (words := accumulator.wrong_rows()):
                    raise ValueError(words)
                if saved is not None and saved.due():
                    save()
                tell(stop - start)
        except KeyboardInterrupt:
            save()
            raise
        save()
    return accumulator


def origins(sources: Mapping[str, Source | None], logits_dtype: str | None = None) -> dict[str, dict[str, Any]]:
    """Where data came from: names, shapes, dtypes and fingerprints. `logits_dtype` is what raw logits stand for."""
    return {
        name: {
            "name": source.name,
            "shape": list(source.shape),
            "dtype": dtype_name(source.dtype, logits_dtype if name in SCORES else None),
            "fingerprint": source.fingerprint() if source.dtype.kind != "O" else None,
        }
        for name, source in sources.items()
        if source is not None
    }
