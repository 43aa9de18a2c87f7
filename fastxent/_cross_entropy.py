"""What a cross-entropy is asked for, checked once, and the passes of the kernels that score its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._arrays import Labels, Logits, as_axis, as_logits, as_weight, divided
from fastxent._exact import ExactSum
from fastxent._passes.rows import LOSS, run
from fastxent._passes.targets import as_number, as_sample_weight, as_target, looks_normalised, run_targets
from fastxent._reduction import Blocks, added, checked


@dataclass(slots=True)
class CrossEntropy:
    """Rows of logits and their targets.

    Attributes
    ----------
    x, axis
        The logits, to be divided by the temperature, and their class axis.
    shape
        That of the rows.
    goal, weights, sample
        Labels or probabilities; a weight for each class; a weight for each row.
    smoothing, probabilities, invalid
        As `fastxent.cross_entropy` has them; whether the rows are probabilities.
    suspicious
        Whether the rows look like probabilities though they should be logits.
    """

    x: Logits
    axis: int
    shape: tuple[int, ...]
    goal: Labels | Logits
    weights: NDArray[np.float64] | None
    sample: Logits | None
    smoothing: float
    probabilities: bool
    invalid: str
    suspicious: bool

    @classmethod
    def of(
        cls,
        logits: Any,
        target: Any,
        weight: Any = None,
        *,
        axis: int | None,
        ignore_index: int,
        label_smoothing: float,
        from_logits: bool,
        temperature: float,
        sample_weight: Any,
        invalid: str,
        logits_dtype: str | None,
        return_grad: bool,
    ) -> CrossEntropy:
        """Arguments as `fastxent.cross_entropy` has them, and its errors."""
        smoothing = as_number(label_smoothing, "label_smoothing", 0.0, 1.0, "in [0, 1]")
        divisor = as_number(temperature, "temperature", 1e-300, 1e300, "above 0 and finite")
        if not from_logits and (divisor != 1.0 or return_grad):
            what = "return_grad=True gives the gradient by" if return_grad else f"temperature={temperature} divides"
            raise ValueError(f"{what} the logits, but with from_logits=False there are none")
        x = as_logits(logits, logits_dtype=logits_dtype)
        class_axis, shape = class_axis_of(x.array.shape, axis, "logits")
        goal = as_target(target, x, class_axis, shape, ignore_index)
        weights = as_weight(weight, x.array.shape[class_axis])
        sample = as_sample_weight(sample_weight, shape)
        suspicious = bool(from_logits) and looks_normalised(x, class_axis)
        x = divided(x, divisor)
        return cls(x, class_axis, shape, goal, weights, sample, smoothing, not from_logits, invalid, suspicious)

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.x.array.shape[self.axis])

    @property
    def weighted(self) -> bool:
        """Whether rows have weights; with probabilities for targets those of the classes are none."""
        return self.sample is not None or (self.weights is not None and isinstance(self.goal, Labels))

    def score(
        self,
        *,
        gradient: NDArray[Any] | None = None,
        denominator: float = 1.0,
        total: ExactSum | None = None,
        **results: Any,
    ) -> Blocks:
        """Run the kernels; `results` are what they fill, `denominator` divides the gradient, `total` sums."""
        goal, classes = self.goal, self.classes
        plain = isinstance(goal, Labels) and not self.probabilities and self.sample is None and self.smoothing == 0.0
        if plain and gradient is None:
            # the kernels of a plain label: strided rows are faster there
            blocks = run(LOSS, self.x, self.axis, labels=goal, weights=self.weights, total=total, **results)  # type: ignore[arg-type]
            total = None
        else:
            blocks = run_targets(
                self.x, self.axis, goal, sample=self.sample, weights=self.weights, smoothing=self.smoothing,
                probabilities=self.probabilities, denominator=denominator, gradient=gradient, **results,
            )  # fmt: skip
        return added(checked(blocks, goal, self.invalid, classes), total, results.get("flat"))


def class_axis_of(shape: tuple[int, ...], axis: int | None, name: str) -> tuple[int, tuple[int, ...]]:
    """The class axis, 1 unless given, and the shape without it."""
    if not shape:
        raise ValueError(f"{name} must have at least one dimension, the classes")
    class_axis = as_axis((1 if len(shape) > 1 else 0) if axis is None else axis, len(shape))
    if shape[class_axis] == 0:
        raise ValueError(f"{name} of shape {shape} have no class along axis {class_axis}")
    return class_axis, shape[:class_axis] + shape[class_axis + 1 :]
