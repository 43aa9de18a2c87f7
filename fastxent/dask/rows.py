"""What stands beside the rows of Dask arrays, columns and labels of the next token; what Dask has no use for."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from fastxent._arrays import dtype_name, to_numpy
from fastxent._scoring.selection import Selection
from fastxent.dask.chunks import as_dask, class_axis_last, cut_alike
from fastxent.dask.tree import Keep

_INSTEAD = {
    "progress": "it is shown by Dask: dask.diagnostics.ProgressBar, or the dashboard of a Client",
    "per_row": "x.to_delayed() gives the chunks, and each can have a file of its own rows; "
    "fastxent.dask.cross_entropy(..., reduction='none') gives the losses as a Dask array",
    "checkpoint": "Dask computes the chunks of a lost worker again by itself; to outlive the client, score some chunks "
    "at a time by an Evaluator or a Comparator and keep its state()",
}


def refuse(**options: Any) -> None:
    """ValueError for what a call on Dask arrays cannot do, with what to do instead."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise ValueError(f"Dask arrays are scored without {name}: {_INSTEAD[name]}")


def as_scores(x: Any, name: str, axis: int, binary: bool, labels: Any) -> da.Array:
    """The scores of a model with the class axis last; one of length 1 where they are binary."""
    if not binary:
        return class_axis_last(x, name, axis)
    array = as_dask(x, name)
    rows = array.shape[:-1] if labels is None else as_dask(labels, "labels").shape
    there = array.ndim > 1 and array.shape == (*rows, 1)
    return array if there else array[..., np.newaxis]


class Beside:
    """A value for each row of `logits`, whose class axis is last: arrays cut alike, and which rows have a label.

    Attributes
    ----------
    cut
        By name; None where there is none.
    keep
        Which rows are scored, for the tree; None for all.
    about
        Where they came from, for the result.
    """

    def __init__(self, logits: da.Array, shift: int, lengths: Any, **columns: Any) -> None:
        self.cut: dict[str, da.Array | None] = {
            name: None if some is None else cut_alike(some, name, logits) for name, some in columns.items()
        }
        if hasattr(lengths, "__dask_graph__"):
            lengths = lengths.compute()  # a number for each sequence: small
        selection = Selection(logits.shape[:-1], shift, None if lengths is None else to_numpy(lengths, "lengths"))
        self.keep: Keep | None = None if selection.all else selection.keep
        labels = self.cut["labels"]
        if selection.shift and labels is None:
            raise ValueError("shift says which label belongs to a row, but there are no labels")
        if selection.shift and labels is not None:
            self.cut["labels"] = _shifted(labels, selection.shift).rechunk(labels.chunks)
        self.about: dict[str, dict[str, Any]] = {
            **{name: origin(name, some) for name, some in self.cut.items() if some is not None},
            "rows": {"shift": selection.shift, "lengths": lengths is not None},
        }


def origin(name: str, array: da.Array, given: Any = None, logits_dtype: str | None = None) -> dict[str, Any]:
    """What a result says of an input, but for a fingerprint: no task takes one.

    Binary scores have the shape `given`; `logits_dtype` is what raw logits stand for.
    """
    shape = list((array if given is None else given).shape)
    return {"name": name, "shape": shape, "dtype": dtype_name(array.dtype, logits_dtype)}


def _shifted(labels: da.Array, shift: int) -> da.Array:
    """Labels `shift` rows on along the last axis; behind the last one zeros, which no row is scored against."""
    steps = min(shift, labels.shape[-1])
    rest = da.zeros((*labels.shape[:-1], steps), dtype=labels.dtype, chunks=(*labels.chunks[:-1], -1))
    return da.concatenate([labels[..., steps:], rest], axis=-1)
