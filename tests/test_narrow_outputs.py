"""softmax and log_softmax of rows of few classes: the same bits wherever they lie, and nothing written beside them."""

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx

INF, NAN = np.inf, np.nan
BOTH = pytest.mark.parametrize("function", [fx.softmax, fx.log_softmax])


def rows(c, dtype, n=700):
    """More than a task's rows, and a few of every kind among them."""
    rng = np.random.default_rng(c)
    x = rng.normal(0, 3, (n, c)) + np.resize([0, 0, 0, 40, -40, 90, -100, 1e4, -1e4], n)[:, None]
    x[::13, 0] = -INF
    x[5], x[300] = -INF, x[300] * 30
    x[17, -1], x[18, 0], x[699, -1] = INF, NAN, INF
    return x.astype(dtype)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("c", [1, 2, 7, 8, 9, 10, 33, 100, 128])
def test_where_rows_and_results_lie(function, dtype, c):
    x = rows(c, dtype)
    want = function(x, axis=1)
    with fx.num_threads(1):
        assert same_bits(function(x, axis=1), want)
    wide = np.full((700, c + 3), x[0, 0])
    wide = wide.astype(dtype)
    wide[:, 1 : c + 1] = x
    room = {
        "rows apart": lambda a: a[:, 1 : c + 1],
        "classes apart": lambda a: a[:, : 2 * c : 2],
        "both, backwards": lambda a: a[::-1, 2 * c : 0 : -2],
        "column-major": lambda a: a.T[:c],
    }
    for given in (x, wide[:, 1 : c + 1], np.concatenate([x, x])[700:]):
        for name, part in room.items():
            full = np.full((700, 2 * c + 5) if name != "column-major" else (700, 700), 7, want.dtype)
            out = part(full) if name != "column-major" else full[:c].T
            assert function(given, axis=1, out=out) is out
            assert same_bits(np.ascontiguousarray(out), want), name
            out[...] = 7
            assert (full == 7).all(), name


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("c", [2, 10, 128])
def test_what_is_beside_a_row_changes_nothing(function, dtype, c):
    x = rows(c, dtype)
    want = function(x, axis=1)
    order = np.random.default_rng(0).permutation(700)
    assert same_bits(function(x[order], axis=1), want[order])
    for start in (0, 1, 3, 290, 695):
        assert same_bits(function(x[start:], axis=1), want[start:])
    for i in (0, 3, 5, 17, 18, 300, 699):
        assert same_bits(function(x[i], axis=0), want[i])


@BOTH
@pytest.mark.parametrize(("dtype", "ulps"), [("float32", 3), ("float64", 3)])
def test_a_row_sure_of_itself(function, dtype, ulps):
    x = np.array([[gap, 0, 0, -1] for gap in np.linspace(1, 60, 119)], dtype)
    exact = np.exp(x.astype(np.longdouble) - x[:, :1])
    total = exact.sum(1, keepdims=True)
    want = exact / total if function is fx.softmax else x - x[:, :1] - np.log1p(exact[:, 1:].sum(1, keepdims=True))
    got = function(x, axis=1)
    size = np.abs(want.astype(dtype))
    unit = np.spacing(size if function is fx.softmax else np.maximum(size, 1))
    assert (np.abs(got - want) <= ulps * unit).all()
    # never above certainty
    assert (got <= 1).all() if function is fx.softmax else (got <= 0).all()
