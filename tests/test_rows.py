"""Which rows are scored and what of: shift, lengths, masks, temperatures, probabilities, padding, binary scores."""

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fastxent as fx
from fastxent._scoring import reading as _reading
from fastxent._scoring.rowfile import EVALUATED
from fastxent.evaluator import Evaluator

INF, NAN = np.inf, np.nan


def numbers(result, *left_out):
    """All of it but where it came from and `left_out`; NaN as text, so that == compares it."""
    return {k: v for k, v in result.to_dict().items() if k not in ("provenance", *left_out)}


def data(*shape, c=7, dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (*shape, c)).astype(dtype), rng.integers(0, c, shape)


@pytest.fixture(params=[None, 5])
def blocks(request, monkeypatch):
    """Blocks of the usual size, and blocks that cut sequences."""
    if request.param:
        monkeypatch.setattr(_reading, "BLOCK_ROWS", request.param)


ROWS = ("rows", "masked", "worst")


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_shift_and_lengths(shift, blocks, tmp_path):
    x, y = data(4, 9)
    for lengths in (None, [9, 0, 5, 2]):
        of = lengths or [9] * 4
        keep = [(b, t) for b in range(4) for t in range(9) if t + shift < of[b]]
        places = np.array([b * 9 + t for b, t in keep])
        if len(keep):
            want = fx.evaluate(np.array([x[p] for p in keep]), np.array([y[b, t + shift] for b, t in keep]))
        got = fx.evaluate(x, y, shift=shift, lengths=lengths)
        assert (got.rows, got.used, got.masked) == (36, len(keep), 36 - len(keep))
        assert numbers(got, *ROWS) == numbers(want, *ROWS)
        assert [w.row for w in got.worst] == places[[w.row for w in want.worst]].tolist()
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        from_files = fx.evaluate(tmp_path / "x.npy", tmp_path / "y.npy", shift=shift, lengths=lengths)
        assert numbers(from_files) == numbers(got)
    # the same sequences, one behind the other
    flat = fx.evaluate(x.reshape(36, 7), y.ravel(), shift=shift, lengths=[9] * 4)
    assert numbers(flat) == numbers(fx.evaluate(x, y, shift=shift))
    whole = fx.evaluate(x.reshape(36, 7), y.ravel(), shift=shift)
    assert whole.used == 36 - shift
    uneven = fx.evaluate(x.reshape(36, 7), y.ravel(), shift=shift, lengths=[1, 30, 0, 5])
    assert uneven.used == sum(max(0, n - shift) for n in (1, 30, 0, 5))


def test_mask(blocks):
    x, y = data(40)
    mask = np.random.default_rng(1).random(40) < 0.5
    y[::5], x[3] = -100, NAN
    got = fx.evaluate(x, y, mask=mask)
    want = fx.evaluate(x[mask], y[mask])
    assert numbers(got, *ROWS, "first_nonfinite") == numbers(want, *ROWS, "first_nonfinite")
    assert (got.masked, got.rows) == (40 - mask.sum(), 40)
    both = fx.evaluate(x, y, mask=mask, shift=1)
    assert both.masked == 40 - (mask & (np.arange(40) < 39)).sum()


WRONG = [({"shift": -1}, ValueError), ({"shift": 1.5}, TypeError), ({"lengths": [3, 4]}, ValueError)]
WRONG += [({"lengths": [-1, 9]}, ValueError), ({"lengths": [4.0, 4.0]}, TypeError), ({"mask": [True]}, ValueError)]
WRONG += [({"mask": np.ones(8)}, TypeError), ({"groups": np.ones((2, 4), int)}, ValueError)]
WRONG += [({"temperature": 0.0}, ValueError), ({"temperature": NAN}, ValueError), ({"temperature": "a"}, TypeError)]
WRONG += [({"temperatures": [1.0, -1.0]}, ValueError), ({"inputs": "p"}, ValueError), ({"classes": 8}, ValueError)]
WRONG += [({"classes": 0}, ValueError), ({"binary": True}, ValueError), ({"inputs": "probs"}, ValueError)]
WRONG += [({"worst": -1}, ValueError), ({"per_row": "x.csv"}, ValueError)]


@pytest.mark.parametrize(("options", "error"), WRONG, ids=str)
def test_wrong_options(options, error):
    x, y = data(8)
    with pytest.raises(error):
        fx.evaluate(x, y, **options)
    x, y = data(2, 4)
    for lengths in ([4, 5], [4], [[4, 4]]):
        with pytest.raises(ValueError, match="lengths"):
            fx.evaluate(x, y, lengths=lengths)


# ---- what the scores are ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ">f4", np.int8])
def test_temperature(dtype, blocks):
    x, y = data(50, dtype=dtype)
    working = np.float64 if dtype in (np.float64, np.int8) else np.float32
    want = fx.evaluate((x.astype(working) / working(1.7)).astype(working), y)
    assert numbers(fx.evaluate(x, y, temperature=1.7)) == numbers(want)
    got = fx.evaluate(x, y, temperatures=[1.7, 1.0], sample_weight=np.ones(50))
    one, other = got.temperatures
    assert numbers(got, "temperatures", "weight") == numbers(fx.evaluate(x, y), "temperatures", "weight")
    for some, result in ((one, want), (other, got)):
        for name in ("cross_entropy", "perplexity", "ece", "mce", "entropy"):
            assert some[name] == getattr(result, name)
        assert some["cross_entropy_stderr"] == pytest.approx(result.cross_entropy_stderr, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_probabilities(dtype, blocks):
    x, y = data(50)
    p = np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(1, keepdims=True)
    p[:, 3] = 0
    y[y == 3] = 2
    p = p.astype(dtype)
    with np.errstate(divide="ignore"):
        logs = np.log(p.astype(float)).astype(np.float64 if dtype == np.float64 else np.float32)
    got, want = fx.evaluate(p, y, inputs="probs"), fx.evaluate(logs, y)
    relative = 1e-12 if dtype == np.float64 else 1e-5
    for name in ("cross_entropy", "brier", "entropy", "accuracy", "ece"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=relative)
    assert numbers(fx.evaluate(logs, y, inputs="log_probs")) == numbers(want)
    counts = fx.evaluate((p * 4).astype(dtype), y, inputs="probs")  # given up to scale
    assert counts.cross_entropy == pytest.approx(got.cross_entropy, rel=relative)
    for bad in (-0.5, INF):
        wrong = p.copy()
        wrong[17, 4], wrong[30, 0] = bad, bad
        with pytest.raises(ValueError, match=r"logits\[17, 4\]"):
            fx.evaluate(wrong, y, inputs="probs")
    p[9, 1] = NAN
    assert fx.evaluate(p, y, inputs="probs").first_nonfinite == 9


def test_classes(blocks):
    x, y = data(30, c=10)
    x[:, 7:] = 1e9
    assert numbers(fx.evaluate(x, y % 7, classes=7)) == numbers(fx.evaluate(x[:, :7], y % 7))
    assert fx.evaluate(x, y, classes=7).invalid == (y >= 7).sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_binary(dtype, blocks, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 3, 60).astype(dtype), rng.integers(0, 2, 60)
    pairs = np.stack([np.zeros(60, dtype), x], axis=1)
    want = numbers(fx.evaluate(pairs, y))
    np.save(tmp_path / "x.npy", x)
    for scores in (x, x[:, None], tmp_path / "x.npy"):
        assert numbers(fx.evaluate(scores, y, binary=True)) == want
    assert numbers(fx.evaluate(x.reshape(6, 10), y.reshape(6, 10), binary=True)) == want
    p = 1 / (1 + np.exp(-x.astype(float)))
    got = fx.evaluate(p, y, binary=True, inputs="probs")
    assert got.cross_entropy == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean(), rel=1e-6)
    with pytest.raises(ValueError, match=r"logits\[3\] is 1.5"):
        fx.evaluate(np.array([0.1, 1.0, 0.0, 1.5]), [0, 1, 0, 1], binary=True, inputs="probs")
    assert fx.evaluate(x, np.full(60, 2), binary=True).invalid == 60


# ---- the values of every row ----


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_per_row(suffix, blocks, tmp_path):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    x, y = data(40)
    y[3], y[4], x[5] = -100, 99, NAN
    mask = np.arange(40) != 6
    path = tmp_path / f"rows.{suffix}"
    result = fx.evaluate(x, y, mask=mask, per_row=path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == "npy":
        rows = np.load(path)
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        rows = {name: table[name].to_numpy() for name in table.column_names}
    status = np.zeros(40, int)
    status[[3, 4, 5, 6]] = 1, 2, 3, 4
    used = status == 0
    assert rows["status"].tolist() == status.tolist()
    assert rows["label"].tolist() == y.tolist()
    assert rows["loss"][used] == pytest.approx(fx.cross_entropy(x[used], y[used], reduction="none"), rel=1e-6)
    assert (rows["loss"][used].min(), rows["loss"][used].max()) == (result.quantiles["min"], result.quantiles["max"])
    assert (rows["argmax"][used] == x[used].argmax(1)).all()
    top = np.sort(x[used].astype(np.float64), axis=1)
    assert (rows["margin"][used] == top[:, -1] - top[:, -2]).all()
    assert np.isnan(rows["margin"][~used]).all()
    assert np.isnan(rows["loss"][~used]).all()
    assert (rows["rank"][~used] == -1).all()
    assert rows["brier"][used].mean() == pytest.approx(result.brier)
    assert rows["rank"][used].mean() == pytest.approx(result.mean_rank)


def test_no_file_of_rows_after_an_error(tmp_path):
    x, y = data(40)
    for path, error in ((tmp_path / "no" / "x.npy", OSError), (tmp_path / "x.npy", ValueError)):
        with pytest.raises(error):
            fx.evaluate(-np.abs(x), y, inputs="probs", per_row=path)
    assert not list(tmp_path.iterdir())
    assert EVALUATED.itemsize == 1 + 8 * 10


def test_strict():
    x, y = data(10)
    y[4], x[7] = 99, NAN
    with pytest.raises(ValueError, match="1 invalid label, the first in row 4; 1 non-finite row, the first in row 7"):
        fx.evaluate(x, y, strict=True)
    assert Evaluator().wrong_rows() == ""


def test_the_page_on_json_has_every_field():
    page = Path(__file__).resolve().parents[1] / "docs" / "json.md"
    if not page.exists():
        pytest.skip("the source tree is not here")
    x, y = data(30)
    groups, counts = np.arange(30) // 9, np.ones(30, int)
    result = fx.evaluate(x, y, groups=groups, byte_counts=counts, word_counts=counts, temperatures=[2.0]).to_dict()
    names = set(result)
    for table in ("groups", "classes", "worst", "temperatures", "reliability"):
        names |= set(result[table][0])
    names |= {*result["macro"], *result["quantiles"], *result["provenance"], *result["provenance"]["logits"]}
    words = set(re.findall(r"`([^`]+)`", page.read_text()))
    assert {name for name in names if not name.endswith("_stderr")} <= words
