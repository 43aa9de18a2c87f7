"""Rows too long for the buffer that converts them: the bits of a row in memory, whatever is asked of it."""

import json

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx


def long_rows(dtype) -> dict[str, np.ndarray]:
    """Rows of two segments: ordinary, and all that is read more than once."""
    most = 120 if np.dtype(dtype).kind == "i" else 20000  # far off for float32, as int8 has it and float16
    plain = np.random.default_rng(9).normal(0, 3, 70_001).clip(-most, most)
    column = 68_000
    rows = {"plain": plain.round() if np.dtype(dtype).kind == "i" else plain}
    for name, top, others in (("one class", 60, -60), ("near 0", 0, -40), ("peaked", 30, 0), ("alone", most, -most)):
        rows[name] = np.full(plain.size, others, float)
        rows[name][column] = top
        rows[name + ", tied"] = rows[name].copy()
        rows[name + ", tied"][[7, 65_600]] = top
    if np.dtype(dtype).kind != "i":
        for name, value in (("masked", -np.inf), ("NaN", np.nan), ("inf", np.inf)):
            rows[name] = plain.copy()
            rows[name][[0, column]] = value
        rows["all masked"] = np.full(plain.size, -np.inf)
    return {name: row.astype(dtype) for name, row in rows.items()}


def results_of_long_row(x: np.ndarray, axis: int | tuple[int, ...], label: int) -> dict[str, np.ndarray]:
    found = {
        "lse": fx.logsumexp(x, axis),
        "softmax": fx.softmax(x, axis).ravel(),
        "log_softmax": fx.log_softmax(x, axis).ravel(),
    }
    if axis == 0:
        weights = np.arange(x.size) / 7
        found["loss"] = fx.cross_entropy(x, label, axis=0)
        found["weighted"] = fx.cross_entropy(x, label, weights, axis=0, reduction="sum")
        found["ignored"] = fx.cross_entropy(x, label, axis=0, ignore_index=label, reduction="sum")
        found["entropy"] = fx.entropy_with_logits(x, axis=0)
        found["mean entropy"] = fx.entropy_with_logits(x, axis=0, reduction="mean")
        if x.strides == (x.itemsize,):
            evaluator = fx.Evaluator()
            evaluator.update(x[np.newaxis], np.array([label]))
            found["report"] = np.frombuffer(json.dumps(evaluator.state()).encode(), np.uint8)
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "int8"])
@fx.num_threads(1)
def test_rows_too_long_for_a_buffer(dtype, monkeypatch):
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for name, row in long_rows(dtype).items():
        native = row.astype("float64" if dtype == "int8" else row.dtype.newbyteorder("="))
        for label in (68_000, 3) if "," not in name else (68_000,):
            want = results_of_long_row(native, 0, label)
            found = results_of_long_row(row, 0, label)
            assert [what for what in want if not same_bits(found[what], want[what])] == [], (name, label)
        if dtype != "int8" and name in ("plain", "near 0", "one class, tied", "masked"):
            strided, want = (np.repeat(some, 2)[::2] for some in (row, native))
            found, want = (results_of_long_row(some, 0, 68_000) for some in (strided, want))
            assert [what for what in want if not same_bits(found[what], want[what])] == [], (name, "strided")


def test_long_axes_that_do_not_join(monkeypatch):
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    for name, row in long_rows("float32").items():
        x = np.stack([row[:69_000]] * 2, 1).reshape(23, 10, 300, 2)
        given = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        found = [results_of_long_row(given, (0, 2, 3), 0), results_of_long_row(given[:, :1], (0, 2, 3), 0)]
        want = results_of_long_row(row[:69_000], 0, 0)
        for which in ("lse", "softmax", "log_softmax"):
            assert same_bits(found[1][which].ravel(), want[which].ravel()), (name, which)
        assert same_bits(found[0]["lse"], np.repeat(want["lse"], 2)), name
        both = found[0]["softmax"].reshape(given.shape)
        assert same_bits(np.ascontiguousarray(both[:, 1]).ravel(), want["softmax"]), name


def test_the_statistics_of_several_rows_in_windows(monkeypatch):
    rows = np.stack([long_rows("float32")["plain"] * k for k in (1, 2, 3)])
    labels = np.array([5, -100, 70_000])
    found = []
    for storage in ("<f4", ">f4"):
        result = fx.evaluate(rows.astype(storage), labels).to_dict()
        del result["provenance"]
        found.append(result)
        monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    assert str(found[0]) == str(found[1])
