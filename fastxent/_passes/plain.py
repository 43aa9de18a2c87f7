"""Plain calls, as most small ones are, from end to end in one call of the kernels (_kernels/plain.pxi).

`plain` gives None for all else: then the general path is taken, which has the same bits and words the errors.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastxent._arrays import FLOAT32, FLOAT64
from fastxent._dispatch import kernels
from fastxent._passes.rows import SERIAL_ELEMENTS


def of_level(level: ModuleType) -> Any:
    """The plain calls of a level's kernels."""
    dtypes = (FLOAT32, np.dtype(np.float16), FLOAT64, np.dtype(np.int32), np.dtype(np.int64))
    return level.Plain(np.ndarray, np.empty, np.float64, dtypes, SERIAL_ELEMENTS - 1)


plain = of_level(kernels)
