"""How near a result is to the truth, in units of its last place."""

import numpy as np


def near(result, expected, ulps):
    """Same shape, NaN and infinities; else within ULP of the result's dtype, where it is a normal number."""
    result, expected = np.asarray(result), np.asarray(expected, np.float64)
    if result.size == expected.size == 0:  # nested lists lose the axes behind a 0
        return
    assert result.shape == expected.shape
    with np.errstate(over="ignore", under="ignore"):
        rounded = expected.astype(result.dtype)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(result[special], rounded[special])
    value, truth = result[~special].astype(np.float64), expected[~special]
    info, tiny = np.finfo(result.dtype), np.finfo(result.dtype).tiny
    unit = np.spacing(np.clip(np.abs(rounded[~special]), tiny, info.max / 2)).astype("f8")
    error = np.where(np.abs(value - truth) <= tiny, 0.0, np.abs(value - truth) / unit)
    assert error.max(initial=0.0) <= ulps, f"{error.max()} ULP, {value[error.argmax()]} for {truth[error.argmax()]}"
