"""The histogram of the row losses: fixed edges, so that histograms of parts add up to that of the whole.

A bin of the quantiles begins at each edge (_accumulators/quantiles.py), so that their state holds the histogram, too:
its counts are exact however many rows there are, and no order of merging changes one.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, ldexp

import numpy as np

from fastxent._accumulators.quantiles import Quantiles
from fastxent.results import Histogram

# losses of a good model lie near 0, in many powers of ten: octaves from 2^-40 on, quarters of octaves from 1/16 to 256
FIRST, QUARTERS, LAST = -40, -4, 8
EDGES = (
    0.0,
    *(ldexp(1.0, i) for i in range(FIRST, QUARTERS)),
    *(ldexp(4 + j, i - 2) for i in range(QUARTERS, LAST) for j in range(4)),
    ldexp(1.0, LAST),
    inf,
)
_INNER = np.array(EDGES[1:-1])


def histogram(losses: Quantiles) -> Histogram:
    """Counts of losses from each edge to below the next; the last bin has the infinite ones."""
    below = [0, *losses.histogram(_INNER).tolist(), losses.count]
    return Histogram(EDGES, tuple(b - a for a, b in pairwise(below)))
