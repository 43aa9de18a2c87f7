"""Blocks that the clock ends: as many of the first rows or elements as there was time for, and the same bits."""

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx
from fastxent import _dispatch
from fastxent._passes import elements as _elements
from fastxent._passes import rows as _rows

# rows of 3 to 3000 classes: pieces of neighbouring rows, and whole rows
SHAPES = [(400_000, 3), (30_000, 100), (2000, 3000)]


def inputs(shape):
    rng = np.random.default_rng(shape[1])
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, shape[1], shape[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_time(level, monkeypatch, shape, threads):
    """With none at all a block is what every thread takes first."""
    x, y = inputs(shape)
    planes, labels = np.ascontiguousarray(x.T)[None], y[None]

    def results():
        softmax = fx.softmax(x, axis=1)
        strided = fx.cross_entropy(planes, labels, reduction="none")
        binary = fx.binary_cross_entropy_with_logits(x, (x > 1).astype(np.float32))
        return fx.cross_entropy(x, y, reduction="none"), fx.cross_entropy(x, y), strided, softmax, binary

    with fx.num_threads(threads):
        want = results()
        monkeypatch.setattr(_rows, "SECONDS", 0.0)
        monkeypatch.setattr(_elements, "SECONDS", 0.0)
        got = results()
    assert all(same_bits(np.asarray(a), np.asarray(b)) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", ["contiguous", "strided"])
def test_the_rows_done_are_the_first(level, shape, order):
    kernels = _dispatch.kernels
    x, _ = inputs(shape)
    given = x if order == "contiguous" else np.ascontiguousarray(x.T)
    rows = kernels.Rows(given, 0, 1 if order == "contiguous" else 0)
    for threads in (1, 2, 4):
        out = np.full(len(x), np.nan, np.float32)
        done, _, _ = rows.run(_rows.LSE, 0, len(x), threads, flat=out, seconds=0.0)
        assert 0 < done < len(x)
        assert not np.isnan(out[:done]).any()
        assert np.isnan(out[done:]).all()
        rest = out[done:]
        first = done
        while first < len(x):
            done, _, _ = rows.run(_rows.LSE, first, len(x), threads, flat=rest, seconds=0.0)
            rest = rest[done:]
            first += done
        assert same_bits(out, fx.logsumexp(x, axis=1) if order == "contiguous" else fx.logsumexp(given, axis=0))
