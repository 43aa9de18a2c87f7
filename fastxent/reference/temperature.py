"""The temperature of least cross-entropy."""

import math
from typing import Any

from fastxent.reference.arrays import Nested
from fastxent.reference.evaluation import evaluate


def fit_temperature(logits: Nested, labels: Nested, **options: Any) -> dict[str, Any]:
    """The best temperature, by bisection of log T: the loss is least where it equals the entropy of the predictions.

    Returns
    -------
    dict
        temperature; before and after, what `evaluate` says at 1 and at the best one.

    Raises
    ------
    ValueError
        Where none is best between e^-9.5 and e^9.5; and as `evaluate`, whose other options are taken.

    Examples
    --------
    >>> fit = fit_temperature([[3.0, 0.0]] * 4, [0, 0, 0, 1])
    >>> round(fit["temperature"], 4)  # 3 / log 3
    2.7307
    """

    def excess(u: float) -> float:
        found = evaluate(logits, labels, temperature=math.exp(u), **options)
        return float(found["cross_entropy"] - found["entropy"])

    low, high = -9.5, 9.5
    if not excess(low) > 0.0 > excess(high):
        raise ValueError("no temperature is best")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    best = math.exp(high)
    return {
        "temperature": best,
        "before": evaluate(logits, labels, **options),
        "after": evaluate(logits, labels, temperature=best, **options),
    }
