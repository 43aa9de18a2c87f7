"""Everything about one model's outputs, of Dask arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastxent.dask.chunks import as_dask, whole_rows
from fastxent.dask.rows import Beside, as_scores, origin, refuse
from fastxent.dask.tree import item, tree_reduce
from fastxent.evaluator import Evaluator
from fastxent.results import Evaluation


def evaluate(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    compute: bool = True,
    split_every: int | None = None,
    shift: int = 0,
    lengths: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    mask: Any = None,
    byte_counts: Any = None,
    word_counts: Any = None,
    strict: bool = False,
    progress: Any = False,
    per_row: Any = None,
    checkpoint: Any = None,
    **options: Any,
) -> Any:
    """Everything about one model's outputs, from one read of each chunk of the logits; `fastxent.evaluate` for Dask.

    Parameters
    ----------
    logits
        Dask array of shape (..., C), or with the class axis elsewhere and `axis` saying where. A row that is cut into
        several chunks is put together, up to 1 GiB a row.
    labels
        Class indices of the logits' shape without the class axis: a Dask array, whose chunks are brought in line with
        the logits', or an array in memory.
    axis
        The class axis.
    compute
        False gives a `dask.delayed.Delayed` that computes to the evaluation.
    split_every
        States that one task merges; by default Dask's number.
    shift
        As `fastxent.evaluate` has it; labels come from the chunk beside where they must.
    lengths
        As `fastxent.evaluate` has them, an array in memory; a Dask array is computed at once.
    groups, sample_weight, mask, byte_counts, word_counts
        A value for each row, arrays as `labels`: what `Evaluator.update` takes by these names.
    strict
        Invalid labels and non-finite rows are a ValueError when it is computed.
    progress, per_row, checkpoint
        Refused, with what to do instead.
    **options
        As `Evaluator` has them.

    Returns
    -------
    Evaluation or dask.delayed.Delayed
        Equal to that of `fastxent.evaluate` on one machine.

    Raises
    ------
    TypeError, ValueError
        As `fastxent.evaluate`, and for chunks of unknown size; before anything is computed.

    Notes
    -----
    Chunks that cut the first axis alone are fastest: rows are numbered in the whole array's C order, and a chunk whose
    rows are not neighbours there is taken part by part.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastxent.dask
    >>> logits = da.from_array(np.eye(6, dtype=np.float32), chunks=(2, 6))
    >>> result = fastxent.dask.evaluate(logits, np.arange(6))
    >>> result.rows, result.accuracy
    (6, 1.0)
    """
    refuse(progress=progress, per_row=per_row, checkpoint=checkpoint)
    if labels is None:
        raise TypeError("labels is None; every row wants one")
    make, binary = partial(Evaluator, **options), bool(options.get("binary"))
    x = whole_rows(as_scores(logits, "logits", axis, binary, labels), 1, "logits")
    beside = Beside(
        x, shift, lengths, labels=labels, groups=groups, sample_weight=sample_weight, mask=mask,
        byte_counts=byte_counts, word_counts=word_counts,
    )  # fmt: skip
    given = as_dask(logits, "logits") if binary else None
    about = {"logits": origin("logits", x, given, options.get("logits_dtype")), **beside.about}
    result = tree_reduce(make, [x], beside.cut, partial(_evaluation, about, strict), split_every, beside.keep)
    return item(result).compute() if compute else item(result)


def _evaluation(about: dict[str, Any], strict: bool, evaluator: Evaluator) -> Evaluation:
    if strict and (words := evaluator.wrong_rows()):
        raise ValueError(words)
    result = evaluator.result()
    result.provenance.update(about)
    return result
