"""How two models' outputs differ, of Dask arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastxent.comparator import Comparator, check_widths
from fastxent.comparison_results import Comparison
from fastxent.dask.chunks import as_dask, whole_rows
from fastxent.dask.rows import Beside, as_scores, origin, refuse
from fastxent.dask.tree import item, tree_reduce


def compare(
    base: Any,
    other: Any,
    labels: Any = None,
    *,
    axis: int = -1,
    compute: bool = True,
    split_every: int | None = None,
    shift: int = 0,
    lengths: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    mask: Any = None,
    strict: bool = False,
    progress: Any = False,
    per_row: Any = None,
    checkpoint: Any = None,
    **options: Any,
) -> Any:
    """How two models' logits differ, from one read of each chunk of both; `fastxent.compare` for Dask.

    Parameters
    ----------
    base, other
        Dask arrays of one shape (..., C), or with the class axis elsewhere and `axis` saying where. The other's chunks
        are brought in line with the base model's; a row that is cut into several chunks is put together, up to 1 GiB.
    labels
        Class indices, as `fastxent.dask.evaluate` takes them, or None.
    axis
        The class axis.
    compute
        False gives a `dask.delayed.Delayed` that computes to the comparison.
    split_every
        States that one task merges; by default Dask's number.
    shift, lengths, strict, progress, per_row, checkpoint
        As `fastxent.dask.evaluate` has them.
    groups, sample_weight, mask
        A value for each row, arrays as `labels`.
    **options
        As `Comparator` has them.

    Returns
    -------
    Comparison or dask.delayed.Delayed
        Equal to that of `fastxent.compare` on one machine.

    Raises
    ------
    TypeError, ValueError
        As `fastxent.compare`, and for chunks of unknown size; before anything is computed.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastxent.dask
    >>> base = da.from_array(np.eye(6, dtype=np.float32), chunks=(2, 6))
    >>> result = fastxent.dask.compare(base, base)
    >>> result.rows, result.kl_mean
    (6, 0.0)
    """
    refuse(progress=progress, per_row=per_row, checkpoint=checkpoint)
    make = partial(Comparator, **options)
    inputs = make().inputs
    p, q = (as_scores(x, name, axis, inputs.binary, labels) for x, name in ((base, "base"), (other, "other")))
    check_widths(p.shape, q.shape, inputs)
    if p.shape[:-1] != q.shape[:-1]:  # binary scores
        raise ValueError(f"base has shape {p.shape[:-1]}, but other has {q.shape[:-1]}")
    x, y = whole_rows(p, 1, "base"), whole_rows(q, 1, "other")
    y = y.rechunk((*x.chunks[:-1], y.chunks[-1]))
    beside = Beside(x, shift, lengths, labels=labels, groups=groups, sample_weight=sample_weight, mask=mask)
    given = [as_dask(side, "scores") if inputs.binary else None for side in (base, other)]
    sides = zip(("base", "other"), (x, y), given, strict=True)
    about = {name: origin(name, side, some, options.get("logits_dtype")) for name, side, some in sides} | beside.about
    result = tree_reduce(make, [x, y], beside.cut, partial(_comparison, about, strict), split_every, beside.keep)
    return item(result).compute() if compute else item(result)


def _comparison(about: dict[str, Any], strict: bool, comparator: Comparator) -> Comparison:
    if strict and (words := comparator.wrong_rows()):
        raise ValueError(words)
    result = comparator.result()
    result.provenance.update(about)
    return result
