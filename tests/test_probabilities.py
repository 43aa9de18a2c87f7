"""cross_entropy of rows that are probabilities already, and the warning where they were taken for logits."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from accuracy import near
from layouts import BFLOAT16, STORAGES, fused_levels, layouts, same_bits, storage_ids, use_level
from test_targets import soft, twins

import fastxent as fx

INF, NAN = math.inf, math.nan
REDUCTIONS = ("none", "sum", "mean")


def random_rows(shape, storage=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * 10.0 ** rng.integers(-4, 1, shape)).astype(storage)


@pytest.mark.parametrize("storage", [*STORAGES, np.dtype("i2"), np.dtype(">f8")], ids=storage_ids)
def test_twins(storage):
    for shape, axis in (((40, 5), None), ((3, 4, 5), None), ((3, 4, 5), 2), ((7,), None)):
        q = random_rows(shape, storage) if storage.kind != "i" else np.arange(math.prod(shape)).reshape(shape)
        class_axis = min(1, len(shape) - 1) if axis is None else axis
        classes = shape[class_axis]
        y = np.random.default_rng(1).integers(0, classes, shape[:class_axis] + shape[class_axis + 1 :])
        for goal in (y, soft(shape, class_axis)):
            for weight in (None, np.arange(classes)):
                for smoothing in (0.0, 0.25):
                    for rows in (q, np.asfortranarray(q), q[::-1].copy()[::-1]):
                        twins(rows, goal, weight, axis=axis, from_logits=False, label_smoothing=smoothing)


def test_accuracy():
    """4 ULP, a row nearly all of which is on its class too."""
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64):
        for rest in (0.5, 1e-3, 1e-20, 1e-30):
            q = rng.random(30) * rest
            q[11] = 1.0
            q = q.astype(dtype)
            for p in (np.eye(30)[11], np.eye(30)[3], soft((1, 30))[0]):
                near(fx.cross_entropy(q, p, from_logits=False, reduction="none"), truth(q, p), 4)
            for label in (11, 3):
                near(fx.cross_entropy(q, label, from_logits=False, reduction="none"), truth(q, np.eye(30)[label]), 4)
                scaled = (q * dtype(2.0**-20)).astype(dtype)
                assert fx.cross_entropy(scaled, label, from_logits=False) == fx.cross_entropy(
                    q, label, from_logits=False
                )


def truth(q, p):
    with mpmath.workdps(60):
        total = mpmath.fsum(map(mpmath.mpf, q.tolist()))
        pairs = zip(p.tolist(), q.tolist(), strict=True)
        return float(mpmath.fsum(a * -mpmath.log(mpmath.mpf(b) / total) for a, b in pairs if a))


def test_special_rows():
    rows = np.array(
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, NAN, 0.0], [1e-300, 1e-300, 0.0], [1e300, 1.0, 0.0],
         [5e-324, 0.0, 1.0], [-0.0, 2.0, 2.0], [1e300, 1e-300, 1e300]]
    )  # fmt: skip
    for target in ([0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]):
        for smoothing in (0.0, 0.5):
            twins(rows, [target] * 8, from_logits=False, label_smoothing=smoothing)
            twins(rows, [int(np.argmax(target))] * 8, from_logits=False, label_smoothing=smoothing)
    losses = fx.cross_entropy(rows, [1, 1, 0, 2, 0, 1, -100, -100], from_logits=False, reduction="none")
    np.testing.assert_array_equal(losses, [NAN, 0.0, NAN, INF, 1e-300, INF, 0.0, 0.0])


def test_cross_entropy_is_entropy_plus_divergence():
    q, p = random_rows((50, 8)), soft((50, 8))
    by_logits = fx.cross_entropy(np.log(q), p, reduction="none")
    np.testing.assert_allclose(fx.cross_entropy(q, p, from_logits=False, reduction="none"), by_logits, 1e-13)
    one_hot = np.eye(8)[np.arange(50) % 8]
    direct = fx.cross_entropy(q, np.arange(50) % 8, from_logits=False, reduction="none")
    assert same_bits(fx.cross_entropy(q, one_hot, from_logits=False, reduction="none").round(12), direct.round(12))


@pytest.mark.parametrize("bad", [-1.0, -1e-30, INF, -INF])
def test_negative_and_infinite_entries(bad):
    for dtype in ("float64", "float32", ">f4", "float16", BFLOAT16):
        q = random_rows((6, 4, 3)).astype(dtype)
        if np.array(bad).astype(dtype) == 0:  # float16 has no such number
            continue
        q[4, 1, 2] = q[5, 0, 0] = bad
        for rows in (q, np.asfortranarray(q)):
            for goal in (np.zeros((6, 3), int), soft((6, 4, 3))):
                for reduction in REDUCTIONS:
                    with pytest.raises(ValueError, match=r"logits\[4, 1, 2\] is -?(1|9|inf).*from_logits=False"):
                        fx.cross_entropy(rows, goal, from_logits=False, reduction=reduction)


def test_same_bits(monkeypatch):
    q, p = random_rows((30, 700), np.float32), soft((30, 700))
    for goal in (p, np.arange(30)):
        expected = fx.cross_entropy(q, goal, from_logits=False, reduction="none")
        for name, rows in layouts(q):
            assert same_bits(fx.cross_entropy(rows, goal, from_logits=False, reduction="none"), expected), name
        for threads in (1, 3):
            with fx.num_threads(threads):
                assert same_bits(fx.cross_entropy(q, goal, from_logits=False, reduction="none"), expected)
        for level in fused_levels():
            with monkeypatch.context() as patch:
                use_level(patch, level)
                assert same_bits(fx.cross_entropy(q, goal, from_logits=False, reduction="none"), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f4", "float16", BFLOAT16], ids=str)
def test_warning_where_logits_are_distributions(dtype):
    rng = np.random.default_rng(3)
    for shape in ((3,), (1, 2), (40, 10), (2000, 7), (4, 5, 6)):
        axis = min(1, len(shape) - 1)
        q = fx.softmax(rng.normal(0, 3, shape), axis=axis).astype(dtype)
        y = np.zeros(shape[:axis] + shape[axis + 1 :], int)
        for rows in (q, np.asfortranarray(q)):
            with pytest.warns(fx.NormalizedInputWarning, match="from_logits=False") as caught:
                fx.cross_entropy(rows, y)
            assert caught[0].filename == __file__
        fx.cross_entropy(q, y, from_logits=False)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", BFLOAT16], ids=str)
def test_no_warning_for_logits(dtype):
    """Warnings are errors here. One row that is no distribution is enough."""
    rng = np.random.default_rng(4)
    for rows in (
        rng.normal(size=(200, 5)), rng.random((200, 5)), np.zeros((4, 3)), np.ones((4, 1)), np.eye(4), np.zeros((0, 3)),
        fx.log_softmax(rng.normal(size=(20, 5)), 1), np.array([[0.5, 0.5], [0.5, 0.25]]), np.full((3, 4), NAN),
        np.array([[0.5, 0.5, -0.0], [0.5, 0.75, -0.25]]), np.array([[0.5, 0.5], [0.5, NAN]]),
    ):  # fmt: skip
        fx.cross_entropy(rows.astype(dtype), np.zeros(len(rows), int))
    fx.cross_entropy(np.eye(3, dtype=int), [0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error", fx.NormalizedInputWarning)
        with pytest.raises(fx.NormalizedInputWarning):
            fx.cross_entropy([[0.25, 0.75]], [0])
