"""Plain calls take a short way (_kernels/plain.pxi): to the same bits, errors and warnings as the general one."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import same_bits

import fastxent as fx
from fastxent._arrays import BFLOAT16_BITS
from fastxent._dispatch import kernels
from fastxent._exact import ExactSum
from fastxent._kernels import machine
from fastxent._passes.plain import plain


class Guest(np.ndarray):
    """An array of a class that is not NumPy's own is no plain one, and is read as any other."""


def general(a):
    return a.view(Guest) if type(a) is np.ndarray else a


SHAPES = [(1, 1000), (32, 10), (7, 2), (5, 1), (700, 3), (33, 129), (40,), (2, 3, 4), (3, 5, 2, 4), (0, 3), (3, 0)]
# name: the call, by x, another x, labels, labels of another dtype, probabilities, other probabilities, flags
CALLS = {
    "sigmoid": lambda x, *_: fx.sigmoid(x),
    "log_sigmoid": lambda x, *_: fx.log_sigmoid(x),
    "logit": lambda x, z, y, u, p, *_: fx.logit(p),
    "surprisal": lambda x, z, y, u, p, *_: fx.surprisal(p),
    "surprisal, bits": lambda x, z, y, u, p, *_: fx.surprisal(p, base=2),
    "surprisal, negative": lambda x, *_: fx.surprisal(x),
    "binary": lambda x, z, y, u, p, q, b: [fx.binary_cross_entropy(p, b, reduction=r) for r in REDUCTIONS],
    "binary, no probabilities": lambda x, z, y, u, p, q, b: fx.binary_cross_entropy(x, b),
    "binary with logits": lambda x, z, y, u, p, q, b: [
        fx.binary_cross_entropy_with_logits(x, b, reduction=r, return_grad=g) for r in REDUCTIONS for g in BOTH],
    "logsumexp": lambda x, *_: [fx.logsumexp(x, axis=a) for a in (0, -1, None)],
    "softmax": lambda x, *_: [fx.softmax(x, axis=a) for a in (0, -1, None)],
    "log_softmax": lambda x, *_: [fx.log_softmax(x, axis=a) for a in (0, -1, None)],
    "a wrong axis": lambda x, *_: fx.logsumexp(x, axis=9),
    "no integer for an axis": lambda x, *_: fx.logsumexp(x, axis=1.0),
    "entropy_with_logits": lambda x, *_: [fx.entropy_with_logits(x, axis=a, base=2) for a in (0, -1)],
    "entropy": lambda x, z, y, u, p, *_: [fx.entropy(p, axis=a, reduction=r) for a in (0, -1) for r in MEASURES],
    "entropy of logits": lambda x, *_: fx.entropy(x),
    "kl": lambda x, z, y, u, p, q, b: [fx.kl_divergence(p, q, reduction=r, base=2) for r in MEASURES],
    "js": lambda x, z, y, u, p, q, b: [fx.js_divergence(p, q, axis=a) for a in (0, -1)],
    "kl with logits": lambda x, z, *_: [fx.kl_divergence_with_logits(x, z, reduction=r) for r in MEASURES],
    "kl of mixed dtypes": lambda x, z, *_: fx.kl_divergence_with_logits(x, z.astype(np.float16)),
    "js with logits": lambda x, z, *_: fx.js_divergence_with_logits(x, z),
    "kl of two shapes": lambda x, z, *_: fx.kl_divergence_with_logits(x, z[:1]),
    "cross_entropy": lambda x, z, y, *_: [fx.cross_entropy(x, y, reduction=r) for r in REDUCTIONS],
    "ignored": lambda x, z, y, *_: [fx.cross_entropy(x, y, ignore_index=0, reduction=r) for r in REDUCTIONS],
    "all ignored": lambda x, z, y, *_: [fx.cross_entropy(x, 0 * y, ignore_index=0, reduction=r) for r in REDUCTIONS],
    "a label too large": lambda x, z, y, *_: fx.cross_entropy(x, y + 1),
    "a bad label": lambda x, z, y, *_: fx.cross_entropy(x, y - 1, label_smoothing=0.1),
    "bad labels left out": lambda x, z, y, *_: fx.cross_entropy(x, y + 1, invalid="ignore"),
    "labels of another shape": lambda x, z, y, *_: fx.cross_entropy(x, y[:1]),
    "labels of other dtypes": lambda x, z, y, u, *_: [fx.cross_entropy(x, u, return_grad=g) for g in (False, True)],
    "small labels": lambda x, z, y, *_: fx.cross_entropy(x, y.astype(np.int32)),
    "smoothed": lambda x, z, y, *_: [fx.cross_entropy(x, y, label_smoothing=0.1, reduction=r) for r in REDUCTIONS],
    "too smooth": lambda x, z, y, *_: fx.cross_entropy(x, y, label_smoothing=1.5),
    "gradient": lambda x, z, y, *_: [
        fx.cross_entropy(x, y, return_grad=True, ignore_index=i, reduction=r) for i in (-100, 0) for r in REDUCTIONS],
    "distributions": lambda x, z, y, u, p, q, b: [
        fx.cross_entropy(x, p, return_grad=g, reduction=r) for g in (False, True) for r in REDUCTIONS],
    "an ignored class": lambda x, z, y, u, p, *_: fx.cross_entropy(x, p, ignore_index=1),
    "of probabilities": lambda x, z, y, u, p, q, b: [
        fx.cross_entropy(q, goal, from_logits=False, reduction=r) for goal in (p, y) for r in REDUCTIONS],
    "of none": lambda x, z, y, u, p, *_: fx.cross_entropy(x, p, from_logits=False),
    "suspicious": lambda x, z, y, u, p, q, b: [fx.cross_entropy(q, goal) for goal in (p, y)],
    "a wrong reduction": lambda x, z, y, *_: fx.cross_entropy(x, y, reduction="batchmean"),
    "a wrong option": lambda x, z, y, *_: fx.cross_entropy(x, y, empty="none"),
    "nll": lambda x, z, y, *_: [fx.nll_loss(x, y, reduction=r, ignore_index=i) for r in REDUCTIONS for i in (-100, 0)],
    "weighted": lambda x, z, y, *_: [fx.cross_entropy(x, y, weights(x), reduction=r) for r in REDUCTIONS],
    "weighted, ignored": lambda x, z, y, *_: [
        fx.cross_entropy(x, y, weights(x), reduction=r, ignore_index=0) for r in REDUCTIONS],
    "weighted by float32": lambda x, z, y, *_: fx.cross_entropy(x, y, weights(x).astype(np.float32)),
    "weighted by a list": lambda x, z, y, *_: fx.cross_entropy(x, y, weights(x).tolist()),
    "strided weights": lambda x, z, y, *_: fx.cross_entropy(x, y, np.repeat(weights(x), 2)[::2]),
    "weighted by 0": lambda x, z, y, *_: [fx.cross_entropy(x, y, 0 * weights(x), reduction=r) for r in REDUCTIONS],
    "weighted by less than 0": lambda x, z, y, *_: fx.cross_entropy(x, y, weights(x) - 1),
    "weighted by much": lambda x, z, y, *_: [
        fx.cross_entropy(x, y, weights(x) * s, reduction=r) for r in REDUCTIONS for s in (1e-320, 1e300, np.inf)],
    "weights of another number": lambda x, z, y, *_: fx.cross_entropy(x, y, weights(x)[1:]),
    "weighted, a bad label": lambda x, z, y, *_: fx.cross_entropy(x, y + 1, weights(x)),
    "weighted and smoothed": lambda x, z, y, *_: fx.cross_entropy(x, y, weights(x), label_smoothing=0.1),
    "nll, weighted": lambda x, z, y, *_: [
        fx.nll_loss(x, y, weights(x), reduction=r, ignore_index=i) for r in REDUCTIONS for i in (-100, 0)],
    "nll, a bad label": lambda x, z, y, *_: fx.nll_loss(x, y + 1),
    "table": lambda x, z, y, *_: [fx.contingency_table(y, y[::-1], shape=s) for s in (None, (2000, 3000), (2, 1000))],
    "table of a shape": lambda x, z, y, *_: fx.contingency_table(y, y, shape=(1000, 1000)[: 1 + y.ndim]),
    "table, negative": lambda x, z, y, *_: fx.contingency_table(y - 1, y),
}  # fmt: skip
BOTH = (False, True)
REDUCTIONS = ("mean", "sum", "none")
MEASURES = ("none", "mean", "sum", "batchmean")


def weights(x):
    """A number for each class, of x's own kind of array."""
    n = x.shape[min(1, x.ndim - 1)]
    made = (np.arange(n) * 7 % 5 + 0.3) / 3
    return made if type(x) is np.ndarray else made.view(Guest)


def inputs(shape, dtype):
    rng = np.random.default_rng(3)
    x = rng.normal(0, 4, shape).astype(dtype)
    if x.size > 30 and x.dtype.kind != "i":
        x.flat[[5, 17]] = -np.inf, 40
    axis = min(1, len(shape) - 1)
    rest = shape[:axis] + shape[axis + 1 :]
    y = np.asarray(rng.integers(0, max(1, shape[axis]), rest))
    p, q = (rng.dirichlet(np.ones(max(1, shape[-1])), shape[:-1])[..., : shape[-1]].astype(dtype) for _ in range(2))
    return x, (x + rng.normal(0, 0.1, shape)).astype(dtype), y, y.astype(np.uint8), p, q, (p > 0.3).astype(dtype)


def outcome(call, arguments):
    """What a call gives, or its error, and its warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            value = call(*arguments)
        except Exception as error:
            value = error
    return value, [(w.category, str(w.message), w.filename) for w in found]


def same(a, b) -> bool:
    if isinstance(a, Exception):
        return type(a) is type(b) and str(a) == str(b)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and same_bits(a, b)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_as_the_general_way(name, dtype):
    for shape in SHAPES:
        arguments = inputs(shape, dtype)
        backwards = [a[::-1] if a.ndim else a for a in arguments]
        for arrays in (arguments, [np.asfortranarray(a) for a in arguments], backwards):
            plainly, generally = outcome(CALLS[name], arrays), outcome(CALLS[name], [general(a) for a in arrays])
            assert same(plainly[0], generally[0]), (shape, plainly[0], generally[0])
            assert plainly[1] == generally[1]


def test_the_short_way_is_taken(monkeypatch):
    """By every function, at its defaults: the general one is not come to."""
    x, _, y, _, p, q, b = inputs((32, 10), "float32")
    calls = {
        "elements": [fx.sigmoid, fx.log_sigmoid, fx.logit, fx.surprisal],
        "rows": [fx.logsumexp, fx.softmax, fx.log_softmax, fx.entropy_with_logits],
        "pairs": [fx.entropy, fx.kl_divergence, fx.js_divergence, fx.kl_divergence_with_logits,
                  fx.js_divergence_with_logits],
        "binary": [fx.binary_cross_entropy, fx.binary_cross_entropy_with_logits],
        "losses": [fx.cross_entropy, lambda x, y: fx.cross_entropy(x, p),
                   lambda x, y: fx.cross_entropy(x, y, return_grad=True, label_smoothing=0.1)],
        "picks": [fx.nll_loss],
        "table": [fx.contingency_table],
    }  # fmt: skip
    others = {"pairs": (p, q), "binary": (p, b), "losses": (x, y), "picks": (x, y), "table": (y, y)}
    counted = []

    class Counting:
        def __getattr__(self, method):
            def call(*arguments):
                found = getattr(plain, method)(*arguments)
                counted.append(found is not None)
                return found

            return call

    for module in ("elementwise", "distributions", "divergences", "binary", "losses", "labels"):
        monkeypatch.setattr(f"fastxent.{module}.plain", Counting())
    for method, functions in calls.items():
        for function in functions:
            one = function in (*calls["elements"], *calls["rows"], fx.entropy)
            function(*((p,) if one else others[method]))
    assert counted == [True] * sum(map(len, calls.values()))


MADE_PLAIN = {
    "int8": lambda a: a.astype(np.int8),
    ">f4": lambda a: a.astype(">f4"),
    ">f8": lambda a: a.astype(">f8"),
    "bfloat16": lambda a: a.astype("bfloat16"),
    "bfloat16, swapped": lambda a: a.astype("bfloat16").byteswap().view(np.dtype("bfloat16").newbyteorder()),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_made_plain(name):
    """Other dtypes, lists and tensors: to the bits that they have as they are."""
    for shape in ((7, 9), (40,), (2, 3, 4), (5, 1), (3, 0)):
        arguments = inputs(shape, "float32")
        x, z, y, u, p, q, b = arguments
        for made in MADE_PLAIN.values():
            scores = [made(np.nan_to_num(a, neginf=-9)) for a in (x, z, p, q)]
            for label in ("int16", ">i4", "uint64", "bool", "uint8"):
                labels = np.asarray(y % 2 if label == "bool" else y).astype(label)
                other = [*scores[:2], labels, u, *scores[2:], made(b)]
                other = [np.asfortranarray(a) for a in other] if label == "int16" else other
                plainly, generally = (outcome(CALLS[name], [f(a) for a in other]) for f in (np.asarray, general))
                assert same(plainly[0], generally[0]), (shape, label, plainly[0], generally[0])
                assert plainly[1] == generally[1]


@pytest.mark.parametrize("dtype", ["float16", ">f4", "bfloat16", BFLOAT16_BITS, "complex64", "U1", "M8[s]"], ids=str)
def test_labels_that_are_none(dtype):
    x, y = np.zeros((3, 2), np.float32), np.ones(3, np.int64)
    labels = y.astype(np.uint16).astype(dtype)
    calls = (fx.nll_loss, fx.cross_entropy, lambda x, labels: fx.contingency_table(labels, y))
    for call in calls:
        with pytest.raises(TypeError, match="has dtype"):
            call(x, labels)


@pytest.mark.parametrize("kind", ["lists", "tensors"])
def test_lists_and_tensors(kind):
    made = np.ndarray.tolist
    if kind == "tensors":
        made = pytest.importorskip("torch", reason="tensors are PyTorch's").from_numpy
    for shape in ((7, 9), (40,), (2, 3, 4)):
        x, z, y, _, p, q, b = inputs(shape, "float64")
        calls = [
            (fx.sigmoid, x), (fx.logit, p), (fx.surprisal, p), (fx.binary_cross_entropy, p, b),
            (fx.binary_cross_entropy_with_logits, x, b), (fx.logsumexp, x), (fx.softmax, x), (fx.log_softmax, x),
            (fx.entropy, p), (fx.entropy_with_logits, x), (fx.kl_divergence, p, q),
            (fx.js_divergence_with_logits, x, z), (fx.cross_entropy, x, y), (fx.cross_entropy, x, p),
            (fx.nll_loss, x, y), (fx.contingency_table, y, y),
        ]  # fmt: skip
        for call, *arguments in calls:
            found = outcome(call, [made(np.array(a)) for a in arguments])
            assert same(found[0], outcome(call, [general(a) for a in arguments])[0]), (shape, call)
    for call in (fx.sigmoid, fx.logit, fx.surprisal):
        assert same(call(0.25), call(np.array(0.25)))


def test_few_elements_only():
    """More than one thread does alone goes the general way, which has threads and looks at signals."""
    x = np.zeros((1 << 13, 8), np.float32)
    assert plain.rows(0, x, 1) is None
    assert plain.rows(0, x[1:], 1) is not None


@given(st.lists(st.floats(width=64) | st.floats(-4, 4, width=32), max_size=40), st.integers(1, (1 << 32) - 1))
def test_quotients_of_exact_sums(values, divisor):
    """The kernels round as Python's division of integers does."""
    array = np.array(values, np.float64)
    limbs = np.zeros(kernels.exact_size, np.int64)
    kernels.add_exact(limbs, array)
    for n in (1, 3, divisor):
        total = ExactSum()
        total.add(array)
        total.settle()
        assert same_bits(kernels.exact_mean(limbs, n), total.mean(n))
        if np.isfinite(array).all():
            exact = sum(map(Fraction, values), Fraction(0)) / n
            assert kernels.exact_mean(limbs, n) == (float(exact) if abs(exact) < 1.7e308 else total.mean(n))


@pytest.mark.parametrize("value", [5e-324, 2.0**-1022, 1.0, 2.0**53, 1.7976931348623157e308])
def test_halves(value):
    """Quotients that lie half way between two numbers, or just beside it."""
    around = np.array([value, np.nextafter(value, 0), np.nextafter(value, np.inf) if value < 1e308 else value])
    for some in ([0, 1], [0, 2], [0, 0], [0, 1, 1, 2], [1, 2, 2, 2]):
        for tiny in (0.0, 5e-324, -5e-324):
            values = np.append(around[some], tiny)
            limbs = np.zeros(kernels.exact_size, np.int64)
            kernels.add_exact(limbs, values)
            for n in (1, 2, 4, 8):
                total = sum(map(int, (Fraction(v) * 2**1074 for v in values.tolist())))
                try:
                    expected = total / (n << 1074)
                except OverflowError:
                    expected = np.inf
                assert kernels.exact_mean(limbs, n) == expected
                assert kernels.exact_mean(-limbs, n) == -expected


@pytest.mark.skipif(machine.swap_fp_control() == 0, reason="no floating-point control word on this machine")
def test_whatever_the_floating_point_control():
    """Losses that are subnormal are added up as they are, though another library flushes them to zero."""
    x, y = np.array([[0.0, -720.0], [0.0, -721.0], [0.0, -722.0]]), np.zeros(3, np.int64)
    p, q = np.array([[1.0, 1e-312], [1.0, 3e-312]]), np.array([[1.0, 3e-312], [1.0, 1e-312]])
    z, tiny = x - 1e-3, p * -1e-312
    many = np.tile(x, (1 << 15, 1))  # too many for a plain call

    def results():
        return [
            *(fx.cross_entropy(x, y, reduction=r, label_smoothing=s) for r in REDUCTIONS for s in (0.0, 1e-300)),
            *(fx.cross_entropy(many, np.zeros(len(many), np.int64), reduction=r) for r in REDUCTIONS),
            fx.nll_loss(tiny, y[:2], reduction="sum"),
            fx.binary_cross_entropy_with_logits(x, np.zeros_like(x), reduction="sum"),
            fx.binary_cross_entropy_with_logits(many[:, 1:], np.zeros((len(many), 1)), reduction="mean"),
            fx.kl_divergence_with_logits(x, z, reduction="mean"),
            fx.entropy(p, reduction="sum"),
            fx.kl_divergence(p, q, reduction="sum"),
        ]

    expected = results()
    assert 0 < expected[0] < 1e-312
    before = machine.swap_fp_control()
    for word in (0x9FC0, 0x1F80 | 0x2000, 0x1F80 | 0x6000):  # flush to zero; round down; round towards zero
        machine.swap_fp_control(word)
        try:
            found = results()
        finally:
            machine.swap_fp_control(before)
        assert all(map(same_bits, found, expected))
