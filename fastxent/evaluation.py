"""Everything about one model's logits and labels, from one read of arrays or files."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from fastxent import _hints
from fastxent._arrays import is_dask
from fastxent._scoring.reading import Path_, Progress, Rows, beside_rows, check_files, inputs_of, origins, read_into
from fastxent._scoring.rowfile import EVALUATED, PerRow, evaluated
from fastxent._scoring.suspicious import looks_like_probabilities, warn_of_probabilities
from fastxent.evaluator import Evaluator
from fastxent.results import Evaluation
from fastxent.sources import Source, as_source


def evaluate(
    logits: Rows,
    labels: Rows,
    *,
    axis: int = -1,
    topk: Iterable[int] = (1, 5),
    bins: int = 15,
    ignore_index: int = -100,
    temperature: float = 1.0,
    temperatures: Iterable[float] = (),
    inputs: str | None = None,
    classes: int | None = None,
    binary: bool = False,
    logits_dtype: str | None = None,
    shift: int = 0,
    lengths: Rows | None = None,
    mask: Rows | None = None,
    sample_weight: Rows | None = None,
    groups: Rows | None = None,
    byte_counts: Rows | None = None,
    word_counts: Rows | None = None,
    worst: int = 10,
    strict: bool = False,
    per_row: Path_ | None = None,
    progress: Progress = False,
    checkpoint: Path_ | None = None,
) -> Evaluation:
    """Everything about one model's outputs, from one read of the logits.

    Parameters
    ----------
    logits
        Array of shape (..., C), or with the class axis elsewhere and `axis` saying where; or the path of a file of any
        size, of a folder, a list of paths, or what `open_logits` gives: streamed; or a Dask array, for which
        `fastxent.dask.evaluate` is called. Dtypes as `cross_entropy` takes them.
    labels
        Class indices of the logits' shape without the class axis: an array, a path or a source.
    axis
        The class axis.
    topk, bins, ignore_index, worst, logits_dtype
        As `Evaluator` has them.
    temperature, temperatures
        Divides the logits; others, at which loss and calibration are wanted besides.
    inputs
        What the scores are: "logits", "log_probs" (of which the softmax is taken as of logits) or "probs" (given up to
        scale; ValueError for one that is negative or infinite). Default: what the file's format says that it holds
        (log-probabilities in a KL base file of llama.cpp), else logits.
    classes
        How many of the columns are classes, where the last ones are padding.
    binary
        One score a row, the logit (or probability) of the second of two classes: logits of the labels' shape, with or
        without a last axis of 1; labels are 0 and 1.
    shift
        Position t is scored against the label at t + `shift`, within its sequence: 1 for the dump of a causal language
        model and its tokens. The last axis of the rows is the sequence. Everything else that stands beside a row
        belongs to position t.
    lengths
        Of rows (N,): lengths of sequences one behind the other. Of rows (B, T): how many of the T positions there are.
    mask
        A bool, or an integer 0 or 1, for each row; rows of False are left out and counted as masked, as are those that
        `lengths` and `shift` leave without a label.
    sample_weight
        A finite weight from 0 on for each row. `Evaluation` says what is weighted.
    groups
        An integer or a string for each row (document, domain, position): results by group, and cluster-robust errors.
    byte_counts, word_counts
        How many bytes, words, of the text each row's label stands for.
    strict
        Invalid labels and non-finite rows are a ValueError.
    per_row
        A file, .npy or .parquet, for the values of every row: status, label, loss, lse, p_label, confidence, entropy,
        brier, argmax, rank. With `checkpoint` a hidden file beside it holds those of the rows that are done.
    progress
        True shows a bar on the terminal; a function is called with (rows done, all rows).
    checkpoint
        A file that holds the state, written every half minute and at the end; where it exists the work goes on behind
        it, to the same bits. One of other data or options is refused.

    Returns
    -------
    Evaluation
        Loss with its error, perplexity, accuracy, ranks, entropy, Brier score and calibration, groups and classes.

    Raises
    ------
    TypeError, ValueError
        For dtypes and shapes that do not fit; `FormatError` for a file that cannot be read.
    FileNotFoundError
        Where there is no such file.
    OSError
        Where a checkpoint or a file of rows cannot be written.

    Warns
    -----
    NormalizedInputWarning
        Where `inputs` is not given and the first rows look like probabilities. Not of Dask arrays.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> result = fx.evaluate(np.array([[2.0, 0.0], [0.0, 0.0]]), [0, 1])
    >>> round(result.cross_entropy, 6), result.accuracy
    (0.410038, 0.5)
    """
    columns: dict[str, Any] = {
        "groups": groups,
        "sample_weight": sample_weight,
        "mask": mask,
        "byte_counts": byte_counts,
        "word_counts": word_counts,
    }
    options: dict[str, Any] = {
        "topk": topk,
        "bins": bins,
        "ignore_index": ignore_index,
        "worst": worst,
        "inputs": inputs,
        "temperature": temperature,
        "temperatures": temperatures,
        "classes": classes,
        "binary": binary,
        "logits_dtype": logits_dtype,
    }
    if any(map(is_dask, (logits, labels, *columns.values()))):
        from fastxent import dask

        running: dict[str, Any] = {"strict": strict, "progress": progress, "per_row": per_row, "checkpoint": checkpoint}
        options["inputs"] = inputs or "logits"
        over_dask: Evaluation = dask.evaluate(
            logits, labels, axis=axis, shift=shift, lengths=lengths, **running, **columns, **options
        )
        return over_dask
    source = as_source(logits, axis) if not binary else _binary(logits)
    options["inputs"] = inputs_of(source, inputs)
    evaluator = Evaluator(**options)
    targets = as_source(labels, None)
    _check_shapes(source, targets, binary)
    check_files({"logits": source}, targets, logits_dtype)
    if inputs is None and looks_like_probabilities(source, logits_dtype):
        warn_of_probabilities([source.name], "inputs='probs' (--inputs probs)")
    beside = beside_rows(columns, targets.shape)
    evaluator = read_into(
        evaluator,
        {"logits": source},
        targets,
        beside,
        shape=targets.shape,
        shift=shift,
        lengths=lengths,
        strict=strict,
        per_row=None if per_row is None else PerRow(per_row, EVALUATED, evaluated),
        progress=progress,
        checkpoint=checkpoint,
    )
    result = evaluator.result()
    result.provenance.update(origins({"logits": source, "labels": targets, **beside}, logits_dtype))
    result.provenance["rows"] = {"shift": operator.index(shift), "lengths": lengths is not None}
    return result


def _binary(scores: Any) -> Source:
    """Binary scores as a source whose items are rows."""
    source = as_source(scores, None)
    if source.in_memory:
        source.name = "logits"
    return source


def _check_shapes(source: Source, targets: Source, binary: bool) -> None:
    """Every mismatch is named before anything is read."""
    if binary:
        if source.shape not in (targets.shape, (*targets.shape, 1)):
            raise ValueError(f"labels have shape {targets.shape}, but binary scores have {source.shape}")
        return
    if not source.shape:
        raise ValueError(f"{source.name} has no dimension, so no class axis")
    wanted, classes = source.shape[:-1], source.shape[-1]
    if classes == 0:
        raise ValueError(f"{source.name} of shape {source.shape} has no class")
    if targets.shape != wanted:
        files = not targets.in_memory or not source.in_memory
        raise ValueError(
            f"labels have shape {targets.shape}, but logits of shape {source.shape} want {wanted}"
            + (f" ({targets.name}, {source.name})" if files else "")
            + _hints.of_labels(targets.shape, source.shape, "labels")
        )
