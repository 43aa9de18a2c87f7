"""A user's file that calls every public function; test_typing.py has mypy check it, and runs it.

A line with `type: ignore` must be an error to the type checker: --strict complains of one that is not needed.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import fastxent as fx

rng = np.random.default_rng(0)
logits: NDArray[np.float32] = rng.normal(size=(8, 5)).astype(np.float32)
labels: NDArray[np.int64] = rng.integers(0, 5, 8)

# the log-sum-exp family
rows: NDArray[np.float32] = fx.logsumexp(logits, axis=1)
total: float = float(fx.logsumexp(logits))
fx.logsumexp([[0.0, 1.0], [2.0, 3.0]], (0, 1), keepdims=True)
fx.logsumexp(logits, 1, out=rows)
assert_type(fx.softmax(logits, axis=-1), NDArray[Any])
assert_type(fx.log_softmax(logits, None, out=np.empty_like(logits)), NDArray[Any])
with suppress(TypeError):
    fx.softmax(logits, axis="last")  # type: ignore[arg-type]

# losses
loss: float = float(fx.cross_entropy(logits, labels))
losses: NDArray[np.float32] = fx.cross_entropy(logits, labels, reduction="none", out=np.empty(8, np.float32))
fx.cross_entropy([0.0, 1.0], 1)
fx.cross_entropy(logits, labels.tolist(), [1.0, 0.5, 2.0, 1.0, 0.0], ignore_index=0, reduction="sum")
fx.cross_entropy(logits.T, labels, axis=0, invalid="ignore", empty="zero")
fx.cross_entropy(logits.view(np.uint16), np.zeros(8, np.uint8), logits_dtype="bfloat16")
both: tuple[np.float64, NDArray[np.float32]] = fx.cross_entropy(logits, fx.softmax(logits, 1), return_grad=True)
fx.cross_entropy(logits, labels, label_smoothing=0.1, temperature=2.0, sample_weight=np.ones(8))
fx.cross_entropy(fx.softmax(logits, 1), labels, from_logits=False)
fx.nll_loss(fx.log_softmax(logits, 1), labels, [1.0, 0.5, 2.0, 1.0, 0.0], reduction="none", sample_weight=[2.0] * 8)
in_nats: float = fx.log_loss(["a", "b"], [0.25, 0.75], labels=["a", "b"], sample_weight=[1.0, 2.0], normalize=False)
with suppress(fx.NormalizedInputWarning):
    fx.cross_entropy([[0.75, 0.25]], [0])
with suppress(ValueError):
    fx.cross_entropy(logits, labels, reduction="average")  # type: ignore[arg-type]
with suppress(ValueError):
    fx.cross_entropy(logits, labels, invalid="skip")  # type: ignore[arg-type]
with suppress(TypeError):
    fx.cross_entropy(logits, labels, None, 1)  # type: ignore[call-arg]
assert_type(fx.binary_cross_entropy([0.5, 1.0], [True, False], [2.0]), Any)
bce: float = float(fx.binary_cross_entropy_with_logits(logits, np.ones_like(logits), pos_weight=2.0))
loss, gradient = fx.binary_cross_entropy_with_logits(logits, np.ones_like(logits), reduction="sum", return_grad=True)
with suppress(ValueError):
    fx.binary_cross_entropy([0.5], [1], reduction="average")  # type: ignore[arg-type]

# elementwise
fx.log_sigmoid(logits, out=np.empty_like(logits))
p: NDArray[np.float32] = fx.sigmoid(logits)
fx.logit(p)
fx.surprisal(p, base=2)
with suppress(TypeError):
    fx.surprisal(p, base="e")  # type: ignore[arg-type]

# evaluation
folder = Path(".")
np.save(folder / "logits.npy", logits)
np.save(folder / "labels.npy", labels)
result: fx.Evaluation = fx.evaluate(logits, labels, topk=[1, 3], bins=10, ignore_index=-1)
perplexity: float = result.perplexity
shares: dict[int, float] = result.topk
as_json: dict[str, Any] = result.to_dict()
fx.evaluate(folder / "logits.npy", "labels.npy", progress=lambda done, rows: None)
fx.evaluate(logits.T, labels, axis=0, progress=False)

# right in half of the rows, wrong in the others: some temperature is best
fit: fx.TemperatureFit = fx.fit_temperature(logits, np.where(np.arange(8) % 4, logits.argmax(1), labels))
best: float = fit.temperature
more: fx.Evaluation = fx.evaluate(
    logits, labels, groups=["a", "b"] * 4, sample_weight=np.ones(8), mask=np.ones(8, bool), shift=1, lengths=[3, 5]
)
by_name: float = more.groups["a"].cross_entropy if more.groups else 0.0

# two models
quantised: NDArray[np.float32] = logits.round(1)
comparison: fx.Comparison = fx.compare(logits, quantised, labels)
mean: float = comparison.kl_mean
pairs = fx.Comparator()
pairs.update(logits, quantised)
assert pairs.result().kl_mean == mean
order: NDArray[np.int64] = np.argsort(-logits, 1)[:, :2]
top: NDArray[np.float32] = np.take_along_axis(fx.log_softmax(logits, 1), order, 1)
bounds: fx.Bounds = fx.kl_bounds(top, order, quantised)
fx.cross_entropy_bounds(top, order, quantised)

# measures of distributions
q: NDArray[np.float32] = fx.softmax(quantised, 1)
nats: NDArray[np.float32] = fx.entropy(q)
fx.entropy_with_logits(logits, base=2, reduction="mean")
fx.kl_divergence(fx.softmax(logits, 1), q)
fx.kl_divergence_with_logits(logits, quantised, temperature=2.0)
fx.js_divergence(fx.softmax(logits, 1), q, axis=-1)
fx.js_divergence_with_logits(logits, quantised, reduction="sum")
table: NDArray[np.int64] = fx.contingency_table(labels, logits.argmax(1))
about: float = fx.mutual_information(table, base=2)
fx.joint_entropy(table)
fx.conditional_entropy(table, given=1)
fx.mutual_info_score(["a", "b"], ["x", "y"])

source = fx.open_logits(folder / "logits.npy")
classes: int = source.shape[-1]
block: NDArray[Any] = source.read(0, 3)


def halves() -> fx.Evaluation:
    """Two accumulators, merged by way of a state that JSON holds."""
    left, right = fx.Evaluator(topk=(1, 3)), fx.Evaluator(topk=(1, 3))
    left.update(logits[:4], labels[:4])
    right.update(logits[4:], labels[4:], start=4)
    state: dict[str, Any] = right.state()
    left.merge(fx.Evaluator.from_state(state))
    return left.result()


evaluate_halves: Callable[[], fx.Evaluation] = halves
assert evaluate_halves().cross_entropy == fx.evaluate(logits, labels).cross_entropy

try:
    fx.open_logits("logits.pt")
except fx.FormatError as error:
    refused: ValueError = error

# the runtime
assert_type(fx.get_num_threads(), int)
fx.set_num_threads(2)
fx.set_num_threads(None)
with fx.num_threads(1):
    fx.show_config()
version: str = fx.__version__
