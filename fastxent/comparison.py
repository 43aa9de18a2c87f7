"""How two models' logits of the same rows differ, from one read of arrays or files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fastxent import _hints
from fastxent._arrays import is_dask
from fastxent._scoring.inputs import Inputs
from fastxent._scoring.reading import Path_, Progress, Rows, beside_rows, check_files, inputs_of, origins, read_into
from fastxent._scoring.rowfile import COMPARED, PerRow, compared
from fastxent._scoring.suspicious import looks_like_probabilities, warn_of_probabilities
from fastxent.comparator import Comparator, check_widths
from fastxent.comparison_results import Comparison
from fastxent.sources import Source, as_source

LLAMA_CUTOFF = -16.0  # llama.cpp, tools/perplexity/perplexity.cpp: terms with a log-probability up to it are not added
# which of them look like probabilities, and what says so
_SAY = {
    ("base", "other"): "inputs='probs' (--inputs probs)",
    ("base",): "base_inputs='probs' (--base-inputs probs)",
    ("other",): "inputs='probs', base_inputs='logits' (--inputs probs --base-inputs logits)",
}


def compare(
    base: Rows,
    other: Rows,
    labels: Rows | None = None,
    *,
    axis: int = -1,
    topk: Iterable[int] = (1, 5),
    ignore_index: int = -100,
    temperature: float = 1.0,
    inputs: str | None = None,
    base_inputs: str | None = None,
    classes: int | None = None,
    binary: bool = False,
    kl_cutoff: float | Literal["auto"] | None = "auto",
    logits_dtype: str | None = None,
    shift: int = 0,
    lengths: Rows | None = None,
    mask: Rows | None = None,
    sample_weight: Rows | None = None,
    groups: Rows | None = None,
    worst: int = 10,
    strict: bool = False,
    per_row: Path_ | None = None,
    progress: Progress = False,
    checkpoint: Path_ | None = None,
) -> Comparison:
    """Everything about how two models' outputs differ, from one read of both: KL divergence, perplexities, agreement.

    Parameters
    ----------
    base, other
        Logits of the same rows, P and Q, of one shape (..., C): arrays, paths, folders, lists of paths or what
        `open_logits` gives, as `evaluate` takes them, or Dask arrays, for which `fastxent.dask.compare` is called.
    labels
        Class indices of the logits' shape without the class axis; None leaves out what wants them. Of a KL base file
        of llama.cpp as `base` by default the labels that it holds.
    axis
        The class axis.
    topk, ignore_index, worst, temperature, classes, binary, logits_dtype
        As `Comparator` has them.
    inputs, base_inputs
        As `Comparator` has them; by default what a file's format says that it holds, else logits.
    kl_cutoff
        As `Comparator` has it; "auto" is -16 where `base` is a KL base file of llama.cpp, whose tail was cut off when
        it was written, else None.
    shift, lengths, mask, sample_weight, groups, strict, progress, checkpoint
        As `evaluate` has them.
    per_row
        A file, .npy or .parquet, for the values of every row: status, label, kl, reverse_kl, js, tv, loss, loss_base,
        p_label, p_label_base, confidence_base, argmax, argmax_base. With `checkpoint` as `evaluate` has it.

    Returns
    -------
    Comparison
        Perplexities, KL divergence and change of the label's probability under llama.cpp's names, divergences,
        agreement of the top classes, groups, the rows that differ most.

    Raises
    ------
    TypeError, ValueError
        For dtypes and shapes that do not fit; for two widths without `classes`; `FormatError` for a file that cannot be
        read.
    FileNotFoundError
        Where there is no such file.
    OSError
        Where a checkpoint or a file of rows cannot be written.

    Warns
    -----
    NormalizedInputWarning
        As `evaluate`, of either model.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> base = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> result = fx.compare(base, base / 2, [0, 1])
    >>> round(result.kl_mean, 6), round(result.ppl_ratio, 6), result.same_top
    (0.033565, 1.097645, 1.0)
    """
    columns: dict[str, Any] = {"groups": groups, "sample_weight": sample_weight, "mask": mask}
    options: dict[str, Any] = {
        "topk": topk,
        "ignore_index": ignore_index,
        "worst": worst,
        "inputs": inputs,
        "base_inputs": base_inputs,
        "temperature": temperature,
        "classes": classes,
        "binary": binary,
        "kl_cutoff": None if kl_cutoff == "auto" else kl_cutoff,
        "logits_dtype": logits_dtype,
    }
    if any(map(is_dask, (base, other, labels, *columns.values()))):
        from fastxent import dask

        running: dict[str, Any] = {"strict": strict, "progress": progress, "per_row": per_row, "checkpoint": checkpoint}
        options["inputs"] = inputs or "logits"
        over_dask: Comparison = dask.compare(
            base, other, labels, axis=axis, shift=shift, lengths=lengths, **running, **columns, **options
        )
        return over_dask
    sides = {"base": _source(base, "base", axis, binary), "other": _source(other, "other", axis, binary)}
    if sides["base"].format == "llama.cpp":
        labels = sides["base"] if labels is None else labels
        if kl_cutoff == "auto":
            options["kl_cutoff"] = LLAMA_CUTOFF
    options["inputs"] = inputs_of(sides["other"], inputs)
    # what is said of both does not hold for a base file that can hold log-probabilities alone
    said = base_inputs or (inputs if sides["base"].inputs == "logits" else None)
    options["base_inputs"] = inputs_of(sides["base"], said, "base_inputs")
    comparator = Comparator(**options)
    names = (sides["base"].name, sides["other"].name)
    if not binary and sides["other"].shape == sides["base"].shape[:-1] and sides["other"].dtype.kind in "iu":
        raise ValueError(f"{names[1]} looks like labels, integers of shape {sides['other'].shape}; they come third")
    check_widths(sides["base"].shape, sides["other"].shape, Inputs(classes=classes, binary=binary), names)
    targets = None if labels is None else as_source(labels, None)
    shape = sides["base"].shape[: None if binary else -1]
    if targets is not None:
        if binary and shape == (*targets.shape, 1):
            shape = targets.shape
        if targets.shape != shape:
            words = f"base of shape {sides['base'].shape} wants {shape}"
            hint = _hints.of_labels(targets.shape, sides["base"].shape, "labels")
            raise ValueError(f"labels have shape {targets.shape}, but {words}{hint}")
    elif shift:
        raise ValueError("shift says which label belongs to a row, but there are no labels")
    check_files(sides, targets, logits_dtype)
    if inputs is None:
        asked = ("base", "other") if base_inputs is None else ("other",)
        found = tuple(name for name in asked if looks_like_probabilities(sides[name], logits_dtype))
        if found:
            warn_of_probabilities([sides[name].name for name in found], _SAY[found])
    beside = beside_rows(columns, shape)
    comparator = read_into(
        comparator,
        sides,
        targets,
        beside,
        shape=shape,
        shift=shift,
        lengths=lengths,
        strict=strict,
        per_row=None if per_row is None else PerRow(per_row, COMPARED, compared),
        progress=progress,
        checkpoint=checkpoint,
    )
    result = comparator.result()
    result.provenance.update(origins({**sides, "labels": targets, **beside}, logits_dtype))
    result.provenance["rows"] = {"shift": shift, "lengths": lengths is not None}
    return result


def _source(x: Any, name: str, axis: int, binary: bool) -> Source:
    source = as_source(x, None if binary else axis)
    if source.in_memory:
        source.name = name
    return source
