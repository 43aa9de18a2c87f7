"""Pairs of rows: same bits whatever level, threads, blocks and layout, and what the kernels give beside the facade."""

import math

import numpy as np
import pytest
from layouts import STORAGES, fused_levels, rows_of, same_bits, storage_ids, use_level

import fastxent as fx
from fastxent import _arrays
from fastxent._arrays import as_logits
from fastxent._passes import pairs as _pairs
from fastxent._passes import rows as _rows

ALL = _pairs.KL | _pairs.REVERSE | _pairs.JS | _pairs.TV
# 16 and 32 lanes a group, 8 groups a run, 65,536 columns a segment
CLASSES = (1, 2, 5, 16, 33, 129, 300, 2049, 70000)
every_storage = pytest.mark.parametrize("storage", STORAGES, ids=storage_ids)


def pair_of(storage: np.dtype, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows against themselves, against neighbours near by, and against other hard ones."""
    rows = rows_of(storage, c)
    rng = np.random.default_rng(c)
    with np.errstate(all="ignore"):
        near = (rows.astype("f8") + rng.normal(0, 0.01, rows.shape)).astype(storage)
    return np.concatenate([rows] * 3), np.concatenate([rows, near, rows[::-1]])


def measures(p: np.ndarray, q: np.ndarray, what: int = ALL, axis: int = -1, **options: object) -> np.ndarray:
    """All statistics of the rows in C order, (rows, 4)."""
    a, b = as_logits(p), as_logits(q)
    axis %= p.ndim
    count = math.prod(p.shape) // p.shape[axis]
    values = np.empty((_pairs.block_rows(count, p.shape[axis]), 4))
    done = _pairs.run(what, (a, b), axis, values=values, **options)
    return np.concatenate([values[:n].copy() for n, _ in done])


def shares_of(storage: np.dtype, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of probabilities up to scale: all sizes, zeros, near neighbours, NaN, sums of 0."""
    rng = np.random.default_rng(c)
    p = rng.gamma(0.3, size=(12, c))
    p[rng.random(p.shape) < 0.1] = 0.0
    q = p * np.exp(np.repeat([0.0, 1e-3, 1.0, 20.0], 3)[:, None] * rng.normal(size=p.shape))
    p[3:6, c // 2] = 1e4
    p[7] *= 2.0**-6
    p[9, 0], q[10, -1], q[11] = np.nan, 0.0, 0.0
    with np.errstate(over="ignore"):
        p, q = p.astype(storage), q.astype(storage)
    q[q == np.inf] = 1
    return p, q


def tiny_blocks(monkeypatch: pytest.MonkeyPatch, elements: int, rows: int, conversion: int = 1 << 19) -> None:
    """Blocks far smaller than they are, and threads for however few elements."""
    monkeypatch.setattr(_pairs, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(_pairs, "BLOCK_ROWS", rows)
    monkeypatch.setattr(_pairs, "SERIAL_ELEMENTS", 0)
    monkeypatch.setattr(_pairs, "CONVERSION_ELEMENTS", conversion)


# ---- same bits ----


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
@every_storage
def test_levels(storage, monkeypatch):
    for c in CLASSES:
        p, q = pair_of(storage, c)
        expected = measures(p, q), fx.entropy_with_logits(p)
        for level in fused_levels():
            use_level(monkeypatch, level)
            assert same_bits(measures(p, q), expected[0]), (level, c)
            assert same_bits(fx.entropy_with_logits(p), expected[1]), (level, c)


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
@every_storage
def test_levels_where_references_lie_far_apart(storage, monkeypatch):
    """Rows of few classes on either side of what lanes cover: the empty places behind a row must not count there."""
    rng = np.random.default_rng(8)
    for c in range(1, 35):
        p = rng.normal(0, 1, (300, c)).astype(storage)
        q = rng.normal(0, rng.uniform(5, 60, (300, 1)), (300, c)).astype(storage)
        expected = measures(p, q)
        for level in fused_levels():
            use_level(monkeypatch, level)
            assert same_bits(measures(p, q), expected), (level, c)


@pytest.mark.skipif(len(fused_levels()) < 2, reason="no two levels with a fused multiply-add run here")
@every_storage
def test_levels_of_shares(storage, monkeypatch):
    for c in CLASSES:
        p, q = shares_of(storage, c)
        expected = measures(p, q, shares=True), fx.entropy(p)
        for level in fused_levels():
            use_level(monkeypatch, level)
            assert same_bits(measures(p, q, shares=True), expected[0]), (level, c)
            assert same_bits(fx.entropy(p), expected[1]), (level, c)


@every_storage
def test_threads_and_blocks(level, storage, monkeypatch):
    for c in (3, 300, 200000):
        p, q = (x[:: 1 if c < 1000 else 19] for x in pair_of(storage, c))
        a, b = (x[:: 1 if c < 1000 else 3] for x in shares_of(storage, c))
        expected = measures(p, q, threads=1), measures(a, b, threads=1, shares=True), fx.entropy(a)
        for elements, rows in ((1 << 22, 1 << 16), (1000, 7), (70000, 2)):
            with monkeypatch.context() as patch:
                tiny_blocks(patch, elements, rows)
                for threads in (1, 2, 5) if c < 1000 else (5,):
                    assert same_bits(measures(p, q, threads=threads), expected[0]), (c, elements, threads)
                    assert same_bits(measures(a, b, threads=threads, shares=True), expected[1])
                    with fx.num_threads(threads):
                        assert same_bits(fx.entropy(a), expected[2])


@every_storage
def test_statistics_are_the_same_alone(level, storage):
    """What is worked out together is what a loop for one statistic gives, and what the facade gives."""
    for c in (2, 33, 300, 2049):
        p, q = pair_of(storage, c)
        together = measures(p, q)
        for i, name in ((0, "kl_divergence_with_logits"), (2, "js_divergence_with_logits")):
            alone = measures(p, q, 1 << i)
            assert same_bits(alone[:, i].copy(), together[:, i].copy())
            rest = np.delete(alone, i, axis=1)
            assert np.isnan(rest).all()
            assert same_bits(getattr(fx, name)(p, q).astype(np.float64), together[:, i].copy())
        swapped = measures(q, p)
        assert same_bits(swapped[:, [1, 0, 2, 3]], together)


@every_storage
def test_a_long_strided_axis_changes_no_bit(level, storage, monkeypatch):
    """Brought together in blocks, or by the kernel where one row is more than a block."""
    p, q = pair_of(storage, 300)
    expected = measures(p, q)
    assert same_bits(measures(p.T.copy(), q.T.copy(), axis=0), expected)
    tiny_blocks(monkeypatch, 1 << 22, 1 << 16, conversion=100)
    assert same_bits(measures(p.T.copy().T, q), expected)
    assert same_bits(measures(p[:, ::-1].copy()[:, ::-1], np.repeat(q, 3, axis=1)[:, ::3]), expected)


@every_storage
def test_statistics_of_shares(level, storage):
    for c in (2, 33, 300, 2049):
        p, q = shares_of(storage, c)
        together = measures(p, q, shares=True)
        for i, name in ((0, "kl_divergence"), (2, "js_divergence")):
            alone = getattr(fx, name)(p, q).astype(np.float64)
            if c > 32 and storage.itemsize < 8:  # alone they are read once, and otherwise added up
                np.testing.assert_allclose(alone, together[:, i], rtol=1e-6)
            else:
                assert same_bits(alone, together[:, i].copy())
        assert same_bits(measures(q, p, shares=True)[:, [1, 0, 2, 3]], together)
        unsound = np.isnan(together)
        assert (unsound == unsound[:, :1]).all()
        assert unsound[:, 0].nonzero()[0].tolist() == [9, 11]
        sound = together[~unsound[:, 0]]
        assert (sound >= 0).all()
        assert (sound[:, 2] <= math.log(2)).all()
        assert (sound[:, 3] <= 1).all()
        assert (measures(p[:9], p[:9], shares=True) == 0).all()


def test_no_row_is_anothers_business():
    """A row gives the same in whatever company: alone, first, last, broadcast."""
    p, q = pair_of(np.dtype(np.float32), 129)
    expected = measures(p, q)
    for i in range(0, len(p), 7):
        assert same_bits(measures(p[i : i + 1], q[i : i + 1]), expected[i : i + 1])
        many = measures(np.broadcast_to(p[i], (3, 129)), q[[i, i, i]])
        assert same_bits(many, expected[[i, i, i]])


# ---- what holds of any pair of rows ----


@every_storage
@pytest.mark.parametrize("c", [1, 2, 17, 300, 2049])
def test_bounds(level, storage, c):
    p, q = pair_of(storage, c)
    kl, reverse, js, tv = measures(p, q).T
    unsound = np.isnan(kl)
    assert (np.isnan(fx.entropy_with_logits(p)) | np.isnan(fx.entropy_with_logits(q)) == unsound).all()
    for values in (kl, reverse, js, tv):
        assert (np.isnan(values) == unsound).all()
        assert (values[~unsound] >= 0).all()
    assert (js[~unsound] <= math.log(2)).all()
    assert (tv[~unsound] <= 1).all()
    third = len(p) // 3
    equal = measures(p[:third], p[:third])
    assert (equal[~np.isnan(equal)] == 0).all()
    # Pinsker's inequality, and its like for the Jensen-Shannon divergence (Lin, 1991)
    slack = 1e-9 if storage == np.float64 else 1e-5
    assert (2 * tv[~unsound] ** 2 <= kl[~unsound] * (1 + slack) + slack).all()
    assert (js[~unsound] <= tv[~unsound] * math.log(2) * (1 + slack) + slack).all()


def test_masks():
    inf = math.inf
    rows = {
        "both": ([0.0, -inf, 1.0], [0.5, -inf, 0.5]),
        "q only": ([0.0, 0.0, 1.0], [0.5, -inf, 0.5]),
        "p only": ([0.0, -inf, 1.0], [0.5, 0.0, 0.5]),
        "q only, where p has underflowed": ([0.0, -800.0, 1.0], [0.5, -inf, 0.5]),
    }
    for dtype in (np.float32, np.float64):
        found = {name: measures(*np.array(pair, dtype)[:, None, :])[0] for name, pair in rows.items()}
        assert np.isfinite(found["both"]).all()
        assert np.isinf(found["q only"]).tolist() == [True, False, False, False]
        assert np.isinf(found["p only"]).tolist() == [False, True, False, False]
        assert found["q only, where p has underflowed"][0] == inf


# ---- rows without a label ----


def stats_of(x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    stats, status = np.empty((len(x), 8)), np.full(len(x), 7, np.uint8)
    checked = None if labels is None else _arrays.as_labels(labels, x.shape[:-1], -100)
    list(_rows.run(_rows.STATS, as_logits(x), 1, labels=checked, stats=stats, status=status))
    assert (status == 0).all()
    return stats


@every_storage
@pytest.mark.parametrize("c", [1, 2, 17, 300, 4100, 70000])
def test_statistics_without_labels(level, storage, c):
    x = rows_of(storage, c)[:: 1 if c < 5000 else 5]
    plain = stats_of(x)
    lse, confidence, entropy, brier = plain[:, 1], plain[:, 3], plain[:, 4], plain[:, 5]
    argmax, rank = plain[:, 6].copy().view(np.int64), plain[:, 7].copy().view(np.int64)
    assert np.isnan(plain[:, [0, 2]]).all()
    assert (rank == -1).all()
    single = storage != np.float64
    rtol = 1e-6 if single else 1e-12
    np.testing.assert_allclose(lse.astype("f4" if single else "f8"), fx.logsumexp(x, axis=1), rtol, rtol)
    assert same_bits(entropy.astype("f4" if single else "f8"), fx.entropy_with_logits(x))
    sound = np.isfinite(lse)
    assert np.isnan(plain[~sound][:, 3:6]).all()
    x, lse, argmax = x[sound].astype("f8"), lse[sound], argmax[sound]
    np.testing.assert_array_equal(argmax, x.argmax(1))
    # against the statistics with the likeliest class as label
    labelled = stats_of(rows_of(storage, c)[:: 1 if c < 5000 else 5][sound], argmax)
    np.testing.assert_allclose(confidence[sound], labelled[:, 3], rtol)
    np.testing.assert_allclose(entropy[sound], labelled[:, 4], rtol)
    p = fx.softmax(x, axis=1)
    np.testing.assert_allclose(brier[sound], (p * p).sum(1), 2e-6 if single else 1e-12)
