"""fastxent.dask: what is refused, before anything is computed where that can be, and how a place is named."""

import math
from importlib.resources import files

import numpy as np
import pytest
from child import run_python
from dask_arrays import equal, some
from layouts import same_bits

import fastxent as fx
from fastxent import _dispatch

dask = pytest.importorskip("dask", reason="an extra of the package")
da = pytest.importorskip("dask.array", reason="an extra of the package")
import fastxent.dask as fd  # noqa: E402
from fastxent.dask import chunks as _chunks  # noqa: E402
from fastxent.dask import losses as _losses  # noqa: E402

DIGITS = str(files("fastxent.data") / "digits_labels.npy")


def test_a_bad_label_is_named_by_its_place_in_the_whole_array():
    x, y = some((6, 4, 5), -1)
    y[:] = 1
    y[4, 2] = 5
    d = da.from_array(x, chunks=(2, 3, 2))
    for reduction in ("none", "mean"):
        lazy = fd.cross_entropy(d, y, axis=-1, reduction=reduction)
        with pytest.raises(IndexError, match=r"target\[4, 2\] is 5, outside \[0, 5\)"):
            lazy.compute()
        got = fd.cross_entropy(d, y, axis=-1, reduction=reduction, invalid="ignore").compute()
        assert same_bits(got, fx.cross_entropy(x, y, axis=-1, reduction=reduction, invalid="ignore"))
    result = fd.evaluate(d, y)
    assert (result.invalid, result.first_invalid) == (1, 18)


def test_first_places():
    x = np.zeros((7, 6, 3), np.float32)
    y = np.zeros((7, 6), int)
    for place in ((1, 5), (2, 0), (6, 1)):
        x[place] = np.nan
        y[place[0], place[1] - 1] = 9
    for chunks in ((7, 6, 3), (1, 6, 3), (3, 2, 1), (1, 1, 3)):
        result = fd.evaluate(da.from_array(x, chunks=chunks), y)
        assert (result.first_nonfinite, result.first_invalid) == (11, 10)


def test_chunks_of_unknown_size():
    x, y = some((20, 3))
    d = da.from_array(x, chunks=(5, 3))
    unknown = d[da.from_array(y, chunks=5) >= 0]
    for call in (lambda: fd.evaluate(unknown, y), lambda: fd.cross_entropy(unknown, y), lambda: fd.softmax(unknown, 1)):
        with pytest.raises(ValueError, match=r"unknown size.*compute_chunk_sizes"):
            call()
    known = da.from_array(y, chunks=5)[da.from_array(y, chunks=5) >= 0]
    with pytest.raises(ValueError, match="labels has chunks of unknown size"):
        fd.evaluate(d, known)


def test_long_rows_are_put_together_or_refused(monkeypatch):
    x, y = some((4, 1000))
    d = da.from_array(x, chunks=(4, 100))
    assert _chunks.whole_rows(d, 1, "logits").chunks == ((1,) * 4, (1000,))  # no chunk is larger than one was before
    monkeypatch.setattr(_chunks, "MOST_ROW_BYTES", 3999)
    with pytest.raises(ValueError, match="4000 bytes, cut into 10 chunks"):
        fd.evaluate(d, y)
    assert equal(fd.evaluate(d.rechunk((1, 1000)), y), fx.evaluate(x, y))  # as the user has cut them


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x, y: fd.evaluate(x, y[:3]), ValueError, r"labels have shape \(3,\)"),
        (lambda x, y: fd.evaluate(x, None), TypeError, "labels is None"),
        (lambda x, y: fd.evaluate(x, "labels.npy"), TypeError, "labels is a path"),
        (lambda x, y: fd.evaluate(x, y.astype(float)), TypeError, "labels has dtype float64"),
        (lambda x, y: fd.evaluate(x, y, topk=(0,)), ValueError, "topk must be at least 1"),
        (lambda x, y: fd.evaluate(x, y, bin=3), TypeError, "bin"),
        (lambda x, y: fd.evaluate(x.astype(complex), y), TypeError, "complex"),
        (lambda x, y: fd.evaluate(x[:, :0], y), ValueError, "no class"),
        (lambda x, y: fd.evaluate(x, y, axis=2), ValueError, "out of bounds"),
        (lambda x, y: fd.evaluate(dask.delayed(1), y), TypeError, "Dask Delayed"),
        (lambda x, y: fd.cross_entropy(x, y[:3]), ValueError, r"target have shape \(3,\)"),
        (lambda x, y: fd.evaluate(x, y, shift=-1), ValueError, "shift must be at least 0"),
        (lambda x, y: fd.evaluate(x, y, shift=1, lengths=[3, 2]), ValueError, "add up to 5, but there are 6 rows"),
        (lambda x, y: fd.compare(x, x, shift=1), ValueError, "there are no labels"),
        (lambda x, y: fd.evaluate(x, fx.open_logits(DIGITS)), TypeError, "labels is an open file"),
        (lambda x, y: fd.cross_entropy(x, y, sample_weight=np.ones(5)), ValueError, "must broadcast to"),
        (lambda x, y: fd.cross_entropy(x, np.ones((6, 3))), ValueError, "class probabilities have"),
        (lambda x, y: fd.cross_entropy(x, y, reduction="avg"), ValueError, "reduction must be"),
        (lambda x, y: fd.cross_entropy(x, y, out=np.empty(6)), TypeError, "out"),
        (lambda x, y: fd.cross_entropy(x, y, empty=0), ValueError, "empty must be"),
        (lambda x, y: fd.cross_entropy(x, y, invalid="no"), ValueError, "invalid must be"),
        (lambda x, y: fd.cross_entropy(x, y, [1.0]), ValueError, "weight has shape"),
        (lambda x, y: fd.cross_entropy(x[:, :0], y), ValueError, "no class"),
        (lambda x, y: fd.logsumexp(x.astype(complex), 1), TypeError, "complex"),
        (lambda x, y: fd.softmax(x[:, :0], 1), ValueError, "rows without elements"),
        (lambda x, y: fd.softmax(x, 5), ValueError, "out of bounds"),
    ],
)
def test_errors_before_anything_is_computed(call, error, words):
    x = da.zeros((6, 4), chunks=(2, 2)).map_blocks(lambda block: 1 / 0, meta=np.empty((0, 0)))
    with pytest.raises(error, match=words):
        call(x, np.zeros(6, int))


def test_without_dask():
    done = run_python("import sys; sys.modules['dask'] = None; import fastxent; import fastxent.dask")
    assert "ImportError: fastxent.dask wants Dask's arrays" in done.stderr


def test_mean_over_no_row():
    x, y = da.zeros((6, 4), chunks=(2, 4)), np.full(6, -100)
    assert math.isnan(fd.cross_entropy(x, y).compute())
    assert fd.cross_entropy(x, y, empty="zero").compute() == 0
    with pytest.raises(ValueError, match="mean over no row"):
        fd.cross_entropy(x, y, empty="raise").compute()


def test_workers_of_another_row_format(monkeypatch):
    one = _losses._LossSum(None, -100, 3, False)
    monkeypatch.setattr(_dispatch, "row_format", "other")
    with pytest.raises(ValueError, match="do not mix"):
        _losses._LossSum(None, -100, 3, False).merge(one)
