"""The classic silent mistake: probabilities that are scored as if they were logits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from fastxent._arrays import as_logits
from fastxent._passes.targets import SAMPLED_ROWS, NormalizedInputWarning, looks_normalised
from fastxent.sources import Source


def looks_like_probabilities(source: Source, logits_dtype: str | None) -> bool:
    """Whether the first rows of what should be logits look like probabilities."""
    if source.inputs != "logits" or not source.row_shape:
        return False
    try:
        some = as_logits(source.read(0, min(SAMPLED_ROWS, source.rows)), source.name, logits_dtype)
    except ValueError:  # of a dtype that only one side has: whoever reads it says so
        return False
    return looks_normalised(some, 1)


def warn_of_probabilities(names: Sequence[str], words: str) -> None:
    """Say so to the caller of `evaluate` or `compare`; it goes on."""
    warnings.warn(
        f"the rows of {' and '.join(names)} look like probabilities; if so, say {words}",
        NormalizedInputWarning,
        stacklevel=3,
    )
