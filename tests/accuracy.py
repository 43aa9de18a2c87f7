"""How near a result is to the truth, in units of its last place; and sums without rounding."""

from fractions import Fraction

import numpy as np


def exact_sum(values):
    """The sum of finite numbers without rounding, exponent by exponent: Fractions take a hundred times as long."""
    parts, exponents = np.frexp(np.asarray(values, np.float64).ravel())
    digits = np.ldexp(parts, 53).astype(np.int64)
    high, low = np.zeros((2, 1073 + 1024 + 1), np.int64)
    np.add.at(high, exponents + 1073, digits >> 27)
    np.add.at(low, exponents + 1073, digits & ((1 << 27) - 1))
    total = sum(((h << 27) + below) << i for i, (h, below) in enumerate(zip(high.tolist(), low.tolist(), strict=True)))
    return Fraction(total, 1 << (1073 + 53))


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


def agree(result, expected, dtype=None, span=0.0):
    """The reference's value to the bounds of numerics.md, or the same kind of error.

    `span` is the largest difference of two logits, whose rounding comes on top.
    """
    if isinstance(result, type) or isinstance(expected, type):
        assert result is expected
        return
    result = np.asarray(result)
    expected = np.asarray(expected, np.float64)
    if result.size == expected.size == 0:
        return
    assert result.shape == expected.shape
    single = (dtype or result.dtype) == np.float32
    special = ~np.isfinite(expected)
    np.testing.assert_array_equal(result[special], expected[special])
    got, want = result[~special].astype(np.float64), expected[~special]
    assert (got >= 0).all()
    # relative to the value and, where it is tiny, to the square of the normalisers' own error
    tolerance = 2e-6 * want + 1e-12 if single else 1e-12 * want + 1e-28
    rounding = min(span, 1e9) * np.finfo(np.float32 if single else np.float64).eps
    with np.errstate(over="ignore"):
        tolerance += (np.sqrt(want) + rounding) * rounding
    assert (np.abs(got - want) <= tolerance).all(), (got, want)


def exactly(result, expected):
    """The reference's value to the bounds for probabilities, which are relative to the value itself.

    Where two rows differ by a factor alone what is left is the square of the error of its two numbers.
    """
    result, expected = np.asarray(result), np.asarray(expected, np.float64)
    special = ~np.isfinite(expected)
    np.testing.assert_array_equal(result[special], expected[special])
    got, want = result[~special].astype(np.float64), expected[~special]
    bound, tiny = (1e-6, 1e-28) if result.dtype == np.float32 else (1e-13, 1e-58)
    assert (np.abs(got - want) <= bound * want + tiny).all(), (got, want)
