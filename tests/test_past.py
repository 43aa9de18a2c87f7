"""Results too large for a cache, written past it (past.h): the bits of small ones, and nothing beside them."""

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx

LEAST = 64 << 20  # bytes, from which on that is done

# rows of no whole lines; of several segments; many a line
ROWS = [(4100, 4099), (129, 130_100), (1_700_001, 10)]


def place(shape, dtype, offset):
    """An array `offset` elements from a line on, and what lies around it."""
    size = int(np.prod(shape))
    room = np.full(size + 64, 7, dtype)
    start = -room.ctypes.data % 64 // room.itemsize + 16 + offset
    return room, room[start : start + size].reshape(shape)


def untouched(room, out):
    start = (out.ctypes.data - room.ctypes.data) // room.itemsize
    return (room[:start] == 7).all() and (room[start + out.size :] == 7).all()


def in_pieces(function, x):
    """The same of parts whose results are small."""
    step = -(-len(x) // (x.nbytes // LEAST + 3))
    return np.concatenate([function(x[i : i + step]) for i in range(0, len(x), step)])


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_softmax(level, shape, offset):
    x = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    x[7] = 300  # one row apart
    room, out = place(shape, np.float32, offset)
    assert out.nbytes >= LEAST
    fx.softmax(x, axis=1, out=out)
    assert same_bits(out, in_pieces(lambda part: fx.softmax(part, axis=1), x))
    assert untouched(room, out)
    if shape[1] > 10:
        fx.log_softmax(x, axis=1, out=out)
        assert same_bits(out, in_pieces(lambda part: fx.log_softmax(part, axis=1), x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [fx.sigmoid, fx.surprisal])
def test_elements(level, function, dtype):
    n = LEAST // np.dtype(dtype).itemsize + 777
    x = np.random.default_rng(2).random(n).astype(dtype)
    for offset in (0, 3):
        room, out = place((n,), dtype, offset)
        function(x, out=out)
        assert same_bits(out, in_pieces(function, x))
        assert untouched(room, out)
    out[1::2] = 7
    function(x[::2], out=out[::2])  # half as many, and apart
    assert same_bits(out[::2].copy(), in_pieces(function, x)[::2].copy())
    assert (out[1::2] == 7).all()


@pytest.mark.parametrize("shape", [*ROWS[1:], (LEAST // 4 + 77, 1)], ids=str)
def test_no_whole_elements_from_a_line_on(level, shape):
    """Results that lie at an odd address."""
    x = np.random.default_rng(3).standard_normal(shape, dtype=np.float32)
    room = np.zeros(x.nbytes + 9, np.uint8)
    out = np.frombuffer(room.data, np.float32, x.size, 1).reshape(shape)
    function = fx.sigmoid if shape[1] == 1 else fx.softmax
    options = {} if shape[1] == 1 else {"axis": 1}
    function(x, out=out, **options)
    assert same_bits(out.copy(), in_pieces(lambda part: function(part, **options), x))
    assert not room[0]
    assert not room[x.nbytes + 1 :].any()


@pytest.mark.parametrize("function", [fx.softmax, fx.log_softmax])
@pytest.mark.parametrize("rows", [1, 3, 5, 9])
def test_rows_of_several_segments(level, function, rows):
    """By one thread from end to end, or first the sums of all segments: as there are threads for rows."""
    x = np.random.default_rng(4).standard_normal((rows, 70_001), dtype=np.float32)
    found = []
    for threads in (1, 2, 4):
        with fx.num_threads(threads):
            found.append(function(x, axis=1))
    assert all(same_bits(a, found[0]) for a in found)
