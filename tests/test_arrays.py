"""What comes in: every user error names its argument, labels count in any dtype, and no input is copied whole."""

import re
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from layouts import layouts, same_bits

import fastxent as fx

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
LOGITS, TARGET = np.zeros((2, 3)), np.array([0, 1])

# each argument that is an array, and a call that passes it
ARGUMENTS = {
    "a": fx.logsumexp,
    "b": lambda x: fx.logsumexp(LOGITS, 1, x),
    "x": fx.softmax,
    "x of log_softmax": fx.log_softmax,
    "logits": lambda x: fx.cross_entropy(x, TARGET),
    "target": lambda x: fx.cross_entropy(LOGITS, x),
    "weight": lambda x: fx.cross_entropy(LOGITS, TARGET, x),
}
NOT_NUMBERS = {
    "complex": np.ones((2, 3), complex),
    "objects": np.array([[1.0, None]]),
    "large integers": [2**70, 1],
    "text": [["1", "2"]],
    "a path": "logits.npy",
    "dates": np.array([["2020-01-01"]], "M8[D]"),
    "records": np.zeros((2, 3), [("a", "f4")]),
    "raw items": np.zeros((2, 3), "V2"),
    "masked": np.ma.array([[1, 2]], mask=[[False, True]]),
    "masked in a list": [np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, 2.0]],
    "masked deep in a list": [[[1.0, 2.0]], [(1.0, np.ma.masked)]],
    "None in a list": [None, 1.0],
    "a dictionary": {},
}


def raises(kind, message, function, *args, **options):
    with pytest.raises(kind, match=message) as caught:
        function(*args, **options)
    assert len(str(caught.value)) < 250


# ---- Dtypes ----


@pytest.mark.parametrize("kind", NOT_NUMBERS)
@pytest.mark.parametrize("argument", ARGUMENTS)
def test_what_holds_no_numbers_is_refused(argument, kind):
    if argument in ("a", "b") and kind == "complex":
        pytest.skip("logsumexp takes complex numbers")
    raises(TypeError, rf"^{argument.split()[0]} ", ARGUMENTS[argument], NOT_NUMBERS[kind])


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_what_cannot_be_viewed_is_refused(argument):
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    ones = torch.ones(2, 3)
    bits = ones.to(torch.float8_e4m3fn)
    protocol = SimpleNamespace(__dlpack__=bits.__dlpack__, __dlpack_device__=bits.__dlpack_device__)
    complex_ = [] if argument in ("a", "b") else [ones.to(torch.complex64)]
    for x in (bits, ones.to_sparse(), *complex_, ones.to("meta"), protocol):
        raises(TypeError, rf"^{argument.split()[0]} ", ARGUMENTS[argument], x)
    raises(TypeError, r"cpu\(\)", ARGUMENTS[argument], ones.to("meta"))


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_ragged_lists_are_refused(argument):
    for ragged in ([[1, 2], [3]], [1, [2]], [[], [1]]):
        raises(ValueError, rf"^{argument.split()[0]} ", ARGUMENTS[argument], ragged)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", ">f4"])
def test_labels_are_integers(dtype):
    raises(TypeError, rf"^target .*({dtype}|>f4).* integer", fx.cross_entropy, LOGITS, np.ones(2).astype(dtype))
    raises(TypeError, "^target ", fx.cross_entropy, LOGITS, [0.0, 1.0])
    raises(TypeError, "^target ", fx.cross_entropy, LOGITS, None)
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    if hasattr(torch, dtype):
        # 20,000 classes: the bits of a bfloat16 1.0 would be a label
        wide = np.zeros((2, 20_000), np.float32)
        raises(TypeError, f"^target .*{dtype}", fx.cross_entropy, wide, torch.ones(2, dtype=getattr(torch, dtype)))


@pytest.mark.parametrize("axis", [True, 1.0, "1", [1], None, 2, -3, (0, 0), (1, -1), (0, 2)], ids=str)
def test_axes_are_integers_within_the_array(axis):
    kind = ValueError if axis in (2, -3) or isinstance(axis, tuple) else TypeError
    if axis is not None:
        for function in (fx.logsumexp, fx.softmax, fx.log_softmax):
            raises(kind, "^axis ", function, LOGITS, axis)
    if isinstance(axis, tuple):
        raises(TypeError, "^axis ", fx.cross_entropy, LOGITS, TARGET, axis=axis)
    elif axis is not None:
        raises(kind, "^axis ", fx.cross_entropy, LOGITS, TARGET, axis=axis)


# ---- Shapes and options ----


@pytest.mark.parametrize(
    ("message", "logits", "target", "weight"),
    [
        (r"^target has shape \(3,\).*\(2,\)", LOGITS, [0, 1, 2], None),
        (r"^target has shape \(2, 1\).*\(2,\)", LOGITS, [[0], [1]], None),
        (r"^target has shape \(\).*\(2,\)", LOGITS, 1, None),
        (r"^target has shape \(1,\).*\(\)", [0.0, 1.0], [1], None),
        (r"^target has shape \(2, 5, 4\).*\(2, 4, 5\)", np.ones((2, 3, 4, 5)), np.ones((2, 5, 4), int), None),
        (r"^target has shape \(0,\).*\(2,\)", LOGITS, [], None),
        (r"^weight has shape \(2,\).*\(3,\)", LOGITS, TARGET, [1.0, 1.0]),
        (r"^weight has shape \(1, 3\).*\(3,\)", LOGITS, TARGET, [[1.0, 1.0, 1.0]]),
        (r"^weight has shape \(\).*\(3,\)", LOGITS, TARGET, 1.0),
        (r"^logits .*dimension", 1.0, 0, None),
        (r"^logits of shape \(2, 0\)", np.ones((2, 0)), TARGET, None),
        (r"^logits of shape \(0, 0, 2\)", np.ones((0, 0, 2)), np.ones((0, 2), int), None),
        (r"^logits of shape \(0,\)", [], 0, None),
    ],
)
def test_shapes_that_do_not_match(message, logits, target, weight):
    raises(ValueError, message, fx.cross_entropy, logits, target, weight)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_without_elements(name):
    for shape, axis in (((0,), None), ((3, 0), 1), ((3, 0), None), ((2, 0, 3), (1, 2))):
        raises(ValueError, rf"^x of shape {re.escape(str(shape))}", getattr(fx, name), np.ones(shape), axis)


def test_unknown_options():
    for option in ("reduction", "invalid", "empty"):
        for value in ("average", "", None, 1, "batchmean"):
            raises(ValueError, f"^{option} must be .*{value!r}", fx.cross_entropy, LOGITS, TARGET, **{option: value})
    for value in (1.5, None, "0", [0]):
        raises(TypeError, "^ignore_index ", fx.cross_entropy, LOGITS, TARGET, ignore_index=value)


def test_logits_dtype_is_for_16_bit_integers():
    for value in ("float16", "bf16", np.float32, 1):
        raises(ValueError, "^logits_dtype ", fx.cross_entropy, LOGITS, TARGET, logits_dtype=value)
    for dtype in ("float16", "float32", "int8", "uint32", "bool", "V4"):
        x = LOGITS.astype("u4").astype(dtype) if dtype != "V4" else np.zeros((2, 3), dtype)
        raises(ValueError, "^logits_dtype.*logits", fx.cross_entropy, x, TARGET, logits_dtype="bfloat16")
    raises(ValueError, "^logits_dtype.*logits", fx.cross_entropy, [[0, 1, 2]], [0], logits_dtype="bfloat16")


# ---- Labels out of range ----

PADDING = "; if {0} marks padding, pass ignore_index={0}"  # the hints: test_hints.py
ALSO = "; if -1 marks padding, too, invalid='ignore' leaves it out"


def labels(shape, places, dtype="int64", order="C"):
    """Zeros, and other labels at some places."""
    target = np.zeros(shape, dtype, order)
    for place, label in places.items():
        target[place] = label
    return target


@pytest.mark.parametrize(
    ("message", "shape", "target"),
    [
        ("target[1] is 3, outside [0, 3)", (4, 3), labels(4, {1: 3, 3: 9})),
        ("target[3] is -1, outside [0, 3)" + ALSO, (4, 3), labels(4, {0: -100, 3: -1}, "int8")),
        ("target is 3, outside [0, 3)", (3,), 3),
        ("target is -7, outside [0, 3)" + PADDING.format(-7), (3,), np.int8(-7)),
        ("target[0, 2] is 5, outside [0, 3)", (2, 3, 4), labels((2, 4), {(0, 2): 5, (1, 0): 9})),
        ("target[0, 2] is 5, outside [0, 3)", (2, 3, 4), labels((2, 4), {(0, 2): 5, (1, 0): 9}, ">i2", "F")),
        (
            "target[0, 3, 4] is 3, outside [0, 3)",
            (3, 3, 4, 5),
            labels((3, 4, 5), {(0, 3, 4): 3, (1, 0, 0): 4}, "u1", "F"),
        ),
        (f"target[2] is {2**64 - 100}, outside [0, 3)", (4, 3), labels(4, {2: 2**64 - 100}, "uint64")),
        (f"target[0] is {2**64 - 1}, outside [0, 3)", (4, 3), labels(4, {0: 2**64 - 1}, ">u8")),
        (f"target[1] is {2**32}, outside [0, 3)", (4, 3), labels(4, {1: 2**32})),
        (f"target[0] is {-(2**63)}, outside [0, 3)" + PADDING.format(-(2**63)), (4, 3), labels(4, {0: -(2**63)})),
        ("target[0] is 156, outside [0, 3)", (1, 3), np.array([-100]).astype(np.uint8)),
        ("target[1] is 1, outside [0, 1)", (2, 1), [False, True]),
        ("target[1200000] is 2, outside [0, 2)", (1_300_000, 2), labels(1_300_000, {1_200_000: 2, -1: 7}, "int8")),
        (
            "target[1, 17] is -2, outside [0, 9)" + PADDING.format(-2),
            (2, 9, 300_000),
            labels((2, 300_000), {(1, 17): -2}, "int16"),
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_first_label_out_of_range_is_named(message, shape, target):
    x = np.ones(shape, np.float32)
    few = (x, np.asfortranarray(x))
    for logits in few if x.size > 10**6 else (*few, np.flip(x), np.broadcast_to(x[:1], shape), x.astype(np.int8)):
        for reduction in ("none", "sum", "mean"):
            raises(IndexError, f"^{re.escape(message)}$", fx.cross_entropy, logits, target, reduction=reduction)
    if isinstance(target, np.ndarray) and target.size < 100:
        raises(IndexError, f"^{re.escape(message)}$", fx.cross_entropy, x, np.flip(np.flip(target).copy()))


def test_labels_count_in_their_own_dtype():
    x = np.random.default_rng(0).normal(size=(3, 200))
    expected = fx.cross_entropy(x, [156, 1, 2], reduction="none")
    assert same_bits(fx.cross_entropy(x, np.array([-100, 1, 2]).astype(np.uint8), reduction="none"), expected)
    assert fx.cross_entropy(x, np.array([-100, 1, 2], np.int8), reduction="none")[0] == 0
    far = np.array([2**64 - 100, 1, 2], np.uint64)
    for options in ({"ignore_index": 2**64 - 100}, {"invalid": "ignore"}):
        assert fx.cross_entropy(x, far, **options) == fx.cross_entropy(x[1:], [1, 2])
    for ignore_index in (2**70, -(2**70), 2**32 + 1, 257):  # beyond the dtype: no label is ignored
        for dtype in ("uint8", "int16", "uint32", "bool"):
            target = np.array([0, 1, 1], dtype)
            assert fx.cross_entropy(x, target, ignore_index=ignore_index) == fx.cross_entropy(x, [0, 1, 1])
    assert fx.cross_entropy(x, [True, False, True], ignore_index=1) == fx.cross_entropy(x[1], 0)
    assert fx.cross_entropy(x, np.array([1, 0, 255], np.uint8).view(bool)) == fx.cross_entropy(x, [1, 0, 1])


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_labels_of_any_dtype_in_any_layout(dtype):
    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, (4, 5, 3)).astype(dtype)
    x = rng.normal(size=(4, 6, 5, 3)).astype(np.float32)
    for logits in (x, np.asfortranarray(x), x.astype(">f4"), (x * 10).astype(np.int16)):
        expected = fx.cross_entropy(logits, target.astype(np.int64), reduction="none")
        for _, given in layouts(target):
            before = given.tobytes()
            assert same_bits(fx.cross_entropy(logits, given, reduction="none"), expected)
            assert given.tobytes() == before
        first = np.broadcast_to(target[:1], target.shape)
        assert fx.cross_entropy(logits, first) == fx.cross_entropy(logits, first.astype(np.int64))


# ---- out ----


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "cross_entropy"])
def test_a_wrong_out_is_refused(name):
    x = np.ones((4, 4), np.float32)
    rows = name in ("logsumexp", "cross_entropy")
    right = np.zeros(4 if rows else (4, 4), np.float32)
    frozen = right.copy()
    frozen.flags.writeable = False

    def call(out):
        labels = {"target": [0, 1, 2, 3], "reduction": "none"} if name == "cross_entropy" else {}
        getattr(fx, name)(x, axis=1, out=out, **labels)

    for shape in ((), (5,), (4, 5), (1, 4), (4, 1), (4, 4, 1)):
        raises(ValueError, "^out has shape", call, np.zeros(shape, np.float32))
    for wrong in (right.astype(np.float64), right.astype(">f4"), right.astype(np.int32), right.tolist(), 0.0, "out"):
        raises(TypeError, "^out ", call, wrong)
    raises(ValueError, "^out is read-only", call, frozen)
    for overlapping in (x[2], x[:, 1], x[3, ::-1]) if rows else (x, x.T, x[::-1]):
        raises(ValueError, "^out overlaps", call, overlapping)
    assert (x == 1).all()
    call(right)
    assert right.all()


def test_out_is_for_row_losses():
    for reduction in ("mean", "sum"):
        raises(ValueError, "^out ", fx.cross_entropy, LOGITS, TARGET, reduction=reduction, out=np.empty(2))
    target = np.zeros(2, np.int64)
    raises(
        ValueError, "^out overlaps target", fx.cross_entropy, LOGITS, target, reduction="none", out=target.view("f8")
    )


# ---- Memory ----


def peak(function, *args, **options):
    """The largest amount of memory, in MB, that a call has held at once."""
    tracemalloc.start()
    try:
        function(*args, **options)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("dtype", "shape", "axis"),
    [
        ("int16", (2048, 1 << 14), 1),
        ("int64", (1024, 1 << 13), 1),
        (">f4", (1024, 1 << 14), 1),
        (">f2", (1 << 11, 1 << 14), 0),
        ("uint64", (1 << 10, 1 << 13), 0),
        ("int64", (4, 8, 1 << 9, 1 << 9), 1),
        ("float16", (1 << 12, 1 << 13), 0),
        ("float32", (4, 64, 1 << 8, 1 << 8), 1),
        ("int64", (1 << 23,), 0),
        ("float32", (16, 1 << 10, 1 << 10), (0, 2)),
        ("float32", (1 << 12, 2, 1 << 11), (0, 2)),
    ],
    ids=str,
)
def test_no_input_is_copied_whole(dtype, shape, axis):
    x = np.zeros(shape, dtype)
    assert x.nbytes == 1 << 26
    most = 4 if dtype.startswith("float") and isinstance(axis, int) else 24
    out = fx.logsumexp(x, axis, keepdims=True)
    assert peak(fx.logsumexp, x, axis, keepdims=True, out=np.asarray(out)) < most
    if isinstance(axis, int):
        target = np.zeros(np.delete(shape, axis), np.int8)
        assert peak(fx.cross_entropy, x, target, axis=axis) < most
        assert peak(fx.cross_entropy, x, target, np.ones(shape[axis]), axis=axis, reduction="sum") < most


# ---- What libraries hand over ----


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32"])
def test_jax_arrays_are_viewed(dtype):
    jnp = pytest.importorskip("jax.numpy", reason="takes JAX's arrays")
    x = np.random.default_rng(0).normal(0, 3, (4, 5)).astype(dtype)
    given = jnp.asarray(x)
    for axis in (0, 1, None):
        assert same_bits(fx.logsumexp(given, axis), fx.logsumexp(x, axis))
        # DLPack alone, as a library without NumPy's protocol has it
        alone = SimpleNamespace(__dlpack__=given.__dlpack__, __dlpack_device__=given.__dlpack_device__)
        if dtype != "bfloat16":  # NumPy's from_dlpack has none
            assert same_bits(fx.logsumexp(alone, axis), fx.logsumexp(x, axis))
    assert fx.cross_entropy(given, jnp.array([0, 1, 2, 3])) == fx.cross_entropy(x, [0, 1, 2, 3])


def test_what_has_an_array_protocol_is_viewed():
    class Holder:
        def __array__(self, dtype=None, copy=None):
            return x

    x = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    assert same_bits(fx.softmax(Holder(), 1), fx.softmax(x, 1))


def test_bfloat16_in_another_byte_order():
    x = np.random.default_rng(2).normal(0, 3, (6, 500)).astype("bfloat16")
    swapped = x.astype(x.dtype.newbyteorder())
    assert swapped.tobytes() == x.view(np.uint16).byteswap().tobytes()
    for axis in (0, 1, None):
        assert same_bits(fx.logsumexp(swapped, axis), fx.logsumexp(x, axis))
    assert same_bits(fx.log_softmax(swapped, 1), fx.log_softmax(x, 1))
    weight = np.ones(500, "bfloat16")
    weight[:250] = 2.5
    labels = np.arange(6) * 80
    expected = fx.cross_entropy(x, labels, weight)
    assert fx.cross_entropy(swapped, labels, weight.astype(swapped.dtype)) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("step", [2, 3, -1, -5])
def test_strided_classes_in_half_precision(dtype, step):
    x = np.random.default_rng(3).normal(0, 5, (7, 300)).astype(dtype)
    room = np.full((7, 300 * abs(step)), np.nan, dtype)
    room[:, ::step] = x
    strided, wide = room[:, ::step], x.astype(np.float32)
    labels = np.arange(7) * 40
    for result, expected in (
        (fx.logsumexp(strided, 1), fx.logsumexp(wide, 1)),
        (fx.softmax(strided, 1), fx.softmax(wide, 1)),
        (fx.cross_entropy(strided, labels, reduction="none"), fx.cross_entropy(wide, labels, reduction="none")),
        (fx.logsumexp(strided.T, 0), fx.logsumexp(wide, 1)),
    ):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, 5e-7, 1e-37)


def test_as_many_dimensions_as_numpy_has():
    x = np.zeros((1,) * 63 + (3,))
    assert fx.logsumexp(x) == fx.logsumexp(np.zeros(3))
    assert fx.logsumexp(x, (0, 63)).shape == (1,) * 62
    assert fx.softmax(x, -1).shape == x.shape
    for function in (fx.logsumexp, fx.softmax):
        raises(ValueError, "64 dimensions", function, x, ())


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f4", "float16", "bfloat16", "int16"])
@pytest.mark.parametrize("axes", [(0, 2), (1, 3), (0, 3), (0, 1, 3), (2, 0)], ids=str)
def test_axes_that_do_not_join_are_as_a_contiguous_array(dtype, axes, monkeypatch):
    monkeypatch.setattr("fastxent._arrays.CONVERSION_ELEMENTS", 1000)
    x = np.random.default_rng(4).normal(0, 9, (7, 6, 11, 40)).astype(dtype)
    rest = [d for d in range(4) if d not in axes]
    order = [*rest, *sorted(axes)]
    plain = np.ascontiguousarray(x.transpose(order)).reshape(*(x.shape[d] for d in rest), -1)
    for given in (x, x[::-1, :, ::-1], np.asfortranarray(x)):
        want = fx.logsumexp(np.ascontiguousarray(given.transpose(order)).reshape(plain.shape), -1)
        assert same_bits(fx.logsumexp(given, axes), want)
        assert same_bits(fx.logsumexp(given, axes, keepdims=True).reshape(want.shape), want)
    for function in (fx.softmax, fx.log_softmax):
        want = function(plain, -1).reshape([x.shape[d] for d in order]).transpose(np.argsort(order))
        assert same_bits(function(x, axes), want)
        out = np.empty((14, 6, 11, 80), want.dtype)[::2, :, :, ::2]
        assert function(x, axes, out=out) is out
        assert same_bits(out, want)
