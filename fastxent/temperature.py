"""Temperature scaling: the one number by which logits are divided so that the loss is least.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. With u = log T the mean loss L has
the derivative H - L, H the mean entropy of the predictions: at the best temperature the loss equals the entropy.
Newton's iteration on log T wants the second derivative too, which a second temperature close by gives from the same
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from fastxent._counts import exp, logs
from fastxent.evaluation import evaluate
from fastxent.results import Evaluation

STEP = 1.0 + 2.0**-10  # to the second temperature: its error of the derivative is of this size, relative
FARTHEST = 10.0  # of log T: beyond e^10 either way there is no best temperature
MOST_READS = 50


@dataclass(frozen=True)
class TemperatureFit:
    """What `fit_temperature` found.

    Attributes
    ----------
    temperature
        The best one.
    before, after
        The evaluations at the temperature 1 and at the best one.
    reads
        How often the logits were read.
    """

    temperature: float
    before: Evaluation
    after: Evaluation
    reads: int

    def calibration(self) -> dict[str, Any]:
        """For a report: the temperature, and loss and calibration before and after."""
        names = ("cross_entropy", "cross_entropy_stderr", "perplexity", "ece", "mce", "reliability")
        both = {"before": self.before, "after": self.after}
        return {"temperature": self.temperature, **{k: {n: getattr(e, n) for n in names} for k, e in both.items()}}


def fit_temperature(logits: Any, labels: Any, *, tolerance: float = 1e-6, **options: Any) -> TemperatureFit:
    """The temperature of least cross-entropy, by Newton's iteration on exact sums from streamed reads.

    Parameters
    ----------
    logits, labels
        As `evaluate` takes them.
    tolerance
        Relative error of the temperature at which the iteration ends.
    **options
        What else `evaluate` has, but for `temperature`, `temperatures`, `per_row` and `checkpoint`.

    Returns
    -------
    TemperatureFit
        The temperature, and the evaluations before and after.

    Raises
    ------
    ValueError
        Where no temperature is best: every row right (the loss falls as T falls to 0) or worse than a guess (as T
        grows), no used row, or a loss that is infinite at every temperature; and as `evaluate`.

    Examples
    --------
    >>> import numpy as np, fastxent as fx
    >>> logits, labels = np.array([[3.0, 0.0]] * 4), [0, 0, 0, 1]  # says 95 %, and is right in 75 %
    >>> fit = fx.fit_temperature(logits, labels)
    >>> round(fit.temperature, 4), round(fit.after.expected_accuracy, 4)
    (2.7307, 0.625)
    """
    taken = {"temperature", "temperatures", "per_row", "checkpoint"} & set(options)
    if taken:
        raise TypeError(f"fit_temperature takes no {', '.join(sorted(taken))}")
    log_step = float(logs(np.array([STEP]))[0])
    low, high = -FARTHEST, FARTHEST  # the root is between: the loss is above the entropy at low, below it at high
    u = 0.0
    for reads in range(1, MOST_READS + 1):
        at = exp(u)
        result = evaluate(logits, labels, temperature=at, temperatures=(at * STEP,), **options)
        options["inputs"] = result.provenance["options"]["inputs"]  # as found, so that it is warned of once
        near = result.temperatures[0]
        gap = result.cross_entropy - result.entropy
        slope = (near["cross_entropy"] - near["entropy"] - gap) / log_step
        if not result.used or not isfinite(result.cross_entropy):
            raise ValueError(f"no temperature is best: the loss is {result.cross_entropy} over {result.used} rows")
        if gap > 0.0:
            low = u
        else:
            high = u
        step = -gap / slope if slope < 0.0 else float("inf") if gap > 0.0 else float("-inf")
        step = max(-1.0, min(1.0, step))
        if abs(step) <= tolerance or gap == 0.0:
            after = evaluate(logits, labels, temperature=exp(u + step), **options)
            first = evaluate(logits, labels, **options)
            return TemperatureFit(exp(u + step), first, after, reads + 2)
        u = u + step if low < u + step < high else (low + high) / 2.0
        if abs(u) > FARTHEST - 0.5:
            break
    raise ValueError(
        f"no temperature is best: the loss still falls at {exp(u):.3g}"
        + (", towards 0: every row may be right" if u < 0 else ", towards infinity: it is worse than a guess")
    )
