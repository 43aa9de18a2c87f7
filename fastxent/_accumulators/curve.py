"""Loss and calibration at many temperatures, from one read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.keyed import Keyed
from fastxent._accumulators.means import Means
from fastxent._accumulators.state import keys_of


class Curve:
    """Means of loss and entropy, and the reliability table, for each of some temperatures."""

    def __init__(self, temperatures: tuple[float, ...], bins: int, weighted: bool) -> None:
        self.temperatures, self._bins, self._weighted = temperatures, bins, weighted
        pairs = [("loss", "loss"), ("entropy", "entropy"), ("loss", "entropy")]
        self.means = [Means(["loss", "entropy"], pairs, weighted) for _ in temperatures]
        self.bins = [Keyed(2, 3 if weighted else 1) for _ in temperatures]

    def add(
        self,
        place: int,
        loss: NDArray[np.float64],
        entropy: NDArray[np.float64],
        confidence: NDArray[np.float64],
        hit: NDArray[np.bool_],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Add used rows at one of the temperatures."""
        self.means[place].add({"loss": loss, "entropy": entropy}, weights)
        add_confidences(self.bins[place], self._bins, confidence, hit, weights)

    def merged(self, other: Curve) -> Curve:
        """The curve of both; neither is changed."""
        both = Curve(self.temperatures, self._bins, self._weighted)
        both.means = [a.merged(b) for a, b in zip(self.means, other.means, strict=True)]
        both.bins = [a.merged(b) for a, b in zip(self.bins, other.bins, strict=True)]
        return both

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return {"means": [m.state() for m in self.means], "bins": [b.state() for b in self.bins]}

    def load(self, state: Any) -> None:
        """Take what `state` gave; ValueError for what it cannot have given."""
        keys_of(state, {"means", "bins"}, "the temperatures")
        for means, one in zip(self.means, state["means"], strict=True):
            means.load(one)
        width = (2, 3 if self._weighted else 1)
        self.bins = [Keyed.from_state(one, *width, "bins of a temperature") for one in state["bins"]]
        if len(self.bins) != len(self.temperatures):
            raise ValueError(f"bins of {len(self.bins)} temperatures")
        for table in self.bins:
            keys, _ = table.counts()
            if keys.size and not 0 <= keys[0] <= keys[-1] < self._bins:
                raise ValueError("bins of a temperature are out of range")


def add_confidences(
    table: Keyed,
    bins: int,
    confidence: NDArray[np.float64],
    hit: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
) -> None:
    """Add rows to a reliability table of equal-width bins; a confidence of 1 is in the last."""
    places = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    if weights is None:
        table.add(places, [None, hit], [(confidence,)])
    else:
        table.add(places, [None, hit], [(weights * confidence,), (np.where(hit, weights, 0.0),), (weights,)])
