"""fit_temperature against a minimum found by SciPy in float64."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from twins import assert_close

import fastxent as fx
from fastxent import reference


def data(scale, dtype=np.float64, rows=400):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (rows, 6))
    p = np.exp(log_softmax(x, 1))
    y = np.array([rng.choice(6, p=q) for q in p])
    return (scale * x).astype(dtype), y


def loss(x, y, t, w=None):
    return np.average(-log_softmax(x.astype(float) / t, 1)[np.arange(len(y)), y], weights=w)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0, 100.0])
def test_against_scipy(scale, dtype):
    x, y = data(scale, dtype)
    bounds = np.log(0.1 * scale), np.log(10 * scale)
    want = minimize_scalar(lambda u: loss(x, y, np.exp(u)), bounds=bounds, options={"xatol": 1e-10}, method="bounded")
    fit = fx.fit_temperature(x, y)
    assert fit.temperature == pytest.approx(np.exp(want.x), rel=1e-5)
    assert fit.after.cross_entropy == pytest.approx(want.fun, rel=1e-6)
    assert fit.after.cross_entropy <= fit.before.cross_entropy * (1 + 1e-7)
    assert fit.before == fx.evaluate(x, y)
    assert fit.reads <= 15
    assert fit.calibration()["after"]["ece"] == fit.after.ece


def test_options():
    x, y = data(3.0)
    w = np.random.default_rng(1).random(400)
    options = {"bounds": (0, 2), "options": {"xatol": 1e-10}, "method": "bounded"}
    want = minimize_scalar(lambda u: loss(x, y, np.exp(u), w), **options)
    fit = fx.fit_temperature(x, y, sample_weight=w, bins=5)
    assert fit.temperature == pytest.approx(np.exp(want.x), rel=1e-6)
    assert len(fit.after.reliability) == 5
    p = np.exp(log_softmax(x, 1))
    assert fx.fit_temperature(p, y, inputs="probs").temperature == pytest.approx(fx.fit_temperature(x, y).temperature)
    with pytest.raises(TypeError, match="checkpoint"):
        fx.fit_temperature(x, y, checkpoint="file")


def test_no_temperature_is_best():
    x, y = data(1.0)
    for labels, words in ((x.argmax(1), "towards 0"), (x.argmin(1), "towards infinity")):
        with pytest.raises(ValueError, match=words):
            fx.fit_temperature(x, labels)
    with pytest.raises(ValueError, match="0 rows"):
        fx.fit_temperature(x, np.full(400, -100))
    x[0, y[0]] = -np.inf
    with pytest.raises(ValueError, match="loss is inf"):
        fx.fit_temperature(x, y)


def test_the_reference():
    x, y = data(3.0, rows=12)
    options = {"sample_weight": np.random.default_rng(1).random(12), "bins": 5}
    fit, want = fx.fit_temperature(x, y, **options), reference.fit_temperature(x, y, **options)
    assert fit.temperature == pytest.approx(want["temperature"], rel=1e-6)
    assert_close(dataclasses.asdict(fit.before), want["before"], 1e-12)
    assert_close(fit.after.cross_entropy, want["after"]["cross_entropy"], 1e-9)
    for labels in (x.argmax(1), x.argmin(1)):
        for function in (fx.fit_temperature, reference.fit_temperature):
            with pytest.raises(ValueError, match="no temperature is best"):
                function(x, labels)
