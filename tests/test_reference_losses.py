"""The oracle's cross-entropy: PyTorch's values, special rows, labels that count nothing, what is refused."""

import math

import numpy as np
import pytest
import scipy.special
from reference_truth import SPECIAL_ROWS, same

from fastxent import reference

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("shape", [(5,), (6, 5), (0, 5), (4, 5, 3), (2, 5, 3, 4)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2, 7])
def test_cross_entropy_is_pytorchs(shape, weighted, ignore_index):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    rng = np.random.default_rng(len(shape))
    logits = rng.normal(0, 4, shape)
    label_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
    target = rng.integers(0, 5, label_shape)
    target = np.where(rng.random(label_shape) < 0.2, ignore_index, target)
    weight = np.array([0.5, 2.0, 0.0, 1.25, 0.1]) if weighted else None
    for reduction in ("none", "mean", "sum"):
        expected = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits),
            torch.from_numpy(np.asarray(target)),
            None if weight is None else torch.from_numpy(weight),
            ignore_index=ignore_index,
            reduction=reduction,
        )
        ours = reference.cross_entropy(logits, target, weight, ignore_index=ignore_index, reduction=reduction)
        same(ours, expected.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("row", [row for row in SPECIAL_ROWS if len(row) > 1], ids=str)
def test_special_losses_are_pytorchs(row):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    for label in range(len(row)):
        logits = torch.tensor(row, dtype=torch.float64)
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(label))
        same(reference.cross_entropy(row, label), expected.item(), rtol=1e-12)


@pytest.mark.parametrize("target", [[INF, 1.0, 0.5], [-INF, 1.0, 0.0], [INF, -INF, 0.0], [0.0, NAN, 1.0]], ids=str)
def test_gradients_of_odd_probabilities_are_pytorchs(target):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's own cross_entropy")
    logits = torch.tensor([[1.0, 2.0, -INF], [0.5, 0.25, 3.0]], dtype=torch.float64, requires_grad=True)
    both = [target, [0.25, 0.25, 0.5]]
    torch.nn.functional.cross_entropy(logits, torch.tensor(both, dtype=torch.float64), reduction="sum").backward()
    _, ours = reference.cross_entropy(logits.detach().numpy(), both, reduction="sum", return_grad=True)
    same(ours[0], logits.grad[0].numpy(), rtol=1e-12)
    same(ours[1], logits.grad[1].numpy(), rtol=1e-12, atol=1e-15)


def test_tensors_are_taken():
    torch = pytest.importorskip("torch", reason="takes PyTorch's tensors")
    logits = torch.tensor([[1.0, 2.0], [3.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    expected = reference.cross_entropy([[1.0, 2.0], [3.0, 1.0]], [1, 1])
    assert reference.cross_entropy(logits, torch.tensor([1, 1])) == expected


def test_special_losses():
    def losses(row):
        return [reference.cross_entropy(row, label) for label in range(len(row))]

    same(losses([0.0, -INF, 0.0]), [math.log(2), INF, math.log(2)])
    for row in ([INF, 0.0, -INF], [NAN, 0.0, -INF], [-INF, -INF, -INF], [INF, INF, 0.0], [0.0, NAN, INF]):
        assert all(map(math.isnan, losses(row))), row


def test_rows_that_count_nothing_count_nothing_whatever_they_hold():
    logits = [[-INF, 0.0, 0.0], [-INF, 0.0, 0.0], [NAN, 0.0, 0.0], [INF, 0.0, 1.0], [INF, 0.0, -INF]]
    target = [0, 1, 0, -100, 0]
    weight = [0.0, 2.0, 1.0]
    nothing = reference.cross_entropy(logits, target, weight, reduction="none")
    assert nothing == [0.0, 2 * math.log1p(1), 0.0, 0.0, 0.0]
    assert reference.cross_entropy(logits, target, weight, reduction="sum") == 2 * math.log1p(1)
    assert reference.cross_entropy(logits, target, weight) == math.log1p(1)


def test_one_bad_row_shows_in_sum_and_mean():
    logits = [[0.0, 0.0], [0.0, -INF], [0.0, 0.0]]
    for reduction in ("sum", "mean"):
        assert reference.cross_entropy(logits, [0, 1, 0], reduction=reduction) == INF
        bad = reference.cross_entropy([*logits, [NAN, 0.0]], [0, 1, 0, 0], reduction=reduction)
        assert math.isnan(bad)
        both = reference.cross_entropy(logits * 2, [0, 1, 0, 0, 0, 0], [-1.0, 1.0], reduction=reduction)
        assert both == INF if reduction == "sum" else both == -INF  # the weights add up to -4
    cancelling = reference.cross_entropy([[0.0, 1.0], [0.0, 1.0]], [0, 1], [-1.0, 1.0])
    assert cancelling == -INF  # a negative sum over weights that add up to 0


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_the_class_axis_may_be_any(axis):
    logits = np.random.default_rng(4).normal(size=(4, 4, 4))
    target = np.random.default_rng(5).integers(0, 4, (4, 4))
    moved = np.moveaxis(logits, axis, 1)
    ours = reference.cross_entropy(logits, target, axis=axis, reduction="none")
    assert ours == reference.cross_entropy(moved, target, reduction="none")
    expected = np.take_along_axis(
        -scipy.special.log_softmax(logits, axis=axis), np.expand_dims(target, axis), axis=axis
    )
    same(ours, np.squeeze(expected, axis), rtol=1e-12)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (np.zeros((3, 4)), [0, 4, 9], r"^target\[1\] is 4, outside \[0, 4\)$"),
        (np.zeros((3, 4)), [0, -100, -1], r"^target\[2\] is -1, outside \[0, 4\)$"),
        (np.zeros((4, 2, 9)), np.eye(4, 9, 5, dtype=int) * 2, r"^target\[0, 5\] is 2, outside \[0, 2\)$"),
        (np.zeros((2, 3)), np.array([2**64 - 100, 0], np.uint64), rf"^target\[0\] is {2**64 - 100}, outside"),
        (np.zeros((1, 3)), np.array([-100]).astype(np.uint8), r"^target\[0\] is 156, outside"),
        (np.zeros((2, 1)), [False, True], r"^target\[1\] is 1, outside \[0, 1\)$"),
        (np.zeros(3), 7, r"^target is 7, outside \[0, 3\)$"),
    ],
)
def test_labels_out_of_range_are_named(logits, target, message):
    with pytest.raises(IndexError, match=message):
        reference.cross_entropy(logits, target)


def test_invalid_labels_can_be_left_out():
    logits = [[0.0, 0.0], [5.0, 0.0], [5.0, 0.0], [1.0, 1.0]]
    target = [0, 2, -1, True]
    log2 = math.log(2)
    assert reference.cross_entropy(logits, target, reduction="none", invalid="ignore") == [log2, 0, 0, log2]
    assert reference.cross_entropy(logits, target, invalid="ignore") == log2
    # A label that is both ignored and out of range is ignored.
    assert reference.cross_entropy([[0.0, 0.0]] * 2, [9, 1], ignore_index=9) == log2


@pytest.mark.parametrize(
    ("target", "weight"),
    [([-100, -100], None), ([0, 0], [0.0, 1.0]), ([5, -7], None)],
    ids=str,
)
def test_the_mean_over_no_row(target, weight):
    def mean(**options):
        return reference.cross_entropy(np.ones((2, 2)), target, weight, invalid="ignore", **options)

    assert math.isnan(mean())
    assert mean(empty="zero") == 0.0
    with pytest.raises(ValueError, match="no row"):
        mean(empty="raise")
    assert mean(reduction="sum", empty="raise") == 0.0
    assert mean(reduction="none", empty="raise") == [0.0, 0.0]


def test_no_row_at_all():
    assert math.isnan(reference.cross_entropy(np.zeros((0, 3)), []))
    assert reference.cross_entropy(np.zeros((0, 3)), [], reduction="none") == []
    assert reference.cross_entropy(np.zeros((2, 3, 0)), [[], []], reduction="none") == [[], []]


@pytest.mark.parametrize(
    ("error", "args", "options"),
    [
        (TypeError, ([[0.0, 1.0]], [1.0]), {}),
        (TypeError, ([[0.0, 1.0]], np.array([1], np.float32)), {}),
        (TypeError, ([[0.0, 1.0]], [None]), {}),
        (TypeError, ([[0.0, 1j]], [1]), {}),
        (TypeError, ([[0.0, 1.0]], [1]), {"axis": 1.0}),
        (TypeError, ([[0.0, 1.0]], [1]), {"ignore_index": 0.5}),
        (ValueError, ([[0.0, 1.0]], [1, 1]), {}),
        (ValueError, ([[0.0, 1.0]], 1), {}),
        (ValueError, ([[0.0, 1.0]], [[1]]), {}),
        (ValueError, ([0.0, 1.0], [1]), {}),
        (ValueError, (1.0, 0), {}),
        (ValueError, (np.zeros((2, 0)), [0, 0]), {}),
        (ValueError, (np.zeros((0, 0)), []), {}),
        (ValueError, ([], 0), {}),
        (ValueError, ([[0.0, 1.0]], [1], [1.0]), {}),
        (ValueError, ([[0.0, 1.0]], [1], [[1.0, 1.0]]), {}),
        (ValueError, ([[0.0, 1.0]], [1]), {"axis": 2}),
        (ValueError, ([[0.0, 1.0]], [1]), {"axis": -3}),
        (ValueError, ([[0.0, 1.0]], [1]), {"reduction": "avg"}),
        (ValueError, ([[0.0, 1.0]], [1]), {"invalid": "nan"}),
        (ValueError, ([[0.0, 1.0]], [1]), {"empty": "one"}),
    ],
)
def test_wrong_arguments_are_refused(error, args, options):
    with pytest.raises(error):
        reference.cross_entropy(*args, **options)
