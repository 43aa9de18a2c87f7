"""A row's value depends on that row alone: not on the rows that are summed in the other lanes of its vectors.

Rows out of the ordinary (far off, masked, infinite, NaN, nearly equal, sure of what the other is not) stand among
ordinary ones; each must be what it is when it comes alone.
"""

import numpy as np
import pytest
from layouts import same_bits

import fastxent as fx

N = 35
INF, NAN = np.inf, np.nan


def rows(c, dtype):
    rng = np.random.default_rng(c)
    shift = np.resize([0, 0, 30, -30, 80, -90, 1e4, -1e4], N)[:, None]
    a = rng.standard_normal((N, c))
    x, q = a * np.resize([1, 1, 5], N)[:, None] + shift, a + 0.1 * rng.standard_normal((N, c))
    q[::5, 0] += 12
    x[::7, 1] = -INF
    x[3, 0], x[5, 1], q[9, 0], q[11, 1] = INF, NAN, NAN, -INF
    p, r, soft = (rng.random((N, c)) for _ in range(3))
    p[4], p[6, 0], r[8, 1], r[13, 0], soft[2, 0] = 0, NAN, 0, NAN, NAN
    return [some.astype(dtype) for some in (x, q, p, r, soft)]


FUNCTIONS = {
    "kl_divergence_with_logits": lambda x, q, *_: fx.kl_divergence_with_logits(x, q),
    "the other way": lambda x, q, *_: fx.kl_divergence_with_logits(q, x),
    "js_divergence_with_logits": lambda x, q, *_: fx.js_divergence_with_logits(x, q),
    "kl_divergence": lambda x, q, p, r, *_: fx.kl_divergence(p, r),
    "js_divergence": lambda x, q, p, r, *_: fx.js_divergence(p, r),
    "entropy": lambda x, q, p, *_: fx.entropy(p),
    "entropy_with_logits": lambda x, *_: fx.entropy_with_logits(x),
    "logsumexp": lambda x, *_: fx.logsumexp(x, axis=1),
    "logsumexp, weighted": lambda x, q, p, r, *_: fx.logsumexp(x, axis=1, b=r),
    "softmax": lambda x, *_: fx.softmax(x, axis=1),
    "log_softmax": lambda x, *_: fx.log_softmax(x, axis=1),
    "labels": lambda x, q, p, r, soft, y: fx.cross_entropy(x, y, reduction="none"),
    "smoothed": lambda x, q, p, r, soft, y: fx.cross_entropy(x, y, reduction="none", label_smoothing=0.1),
    "gradient": lambda x, q, p, r, soft, y: fx.cross_entropy(x, y, reduction="none", return_grad=True)[1],
    "soft": lambda x, q, p, r, soft, y: fx.cross_entropy(x, soft, reduction="none"),
    "soft gradient": lambda x, q, p, r, soft, y: fx.cross_entropy(x, soft, reduction="none", return_grad=True)[1],
    "probabilities": lambda x, q, p, r, soft, y: fx.cross_entropy(p, r, reduction="none", from_logits=False),
}


@pytest.mark.filterwarnings("ignore::fastxent.NormalizedInputWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("c", [2, 10, 32, 33, 128])
def test_a_row_alone(name, dtype, c):
    arrays = [*rows(c, dtype), np.random.default_rng(1).integers(0, c, N)]
    together = FUNCTIONS[name](*arrays)
    for i in range(N):
        alone = FUNCTIONS[name](*(some[i : i + 1] for some in arrays))
        assert same_bits(alone[0], together[i]), i
