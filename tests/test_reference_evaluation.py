"""The oracle's `evaluate`: cases done by hand, and plain NumPy."""

import math

import numpy as np
import pytest
import scipy.special

from fastxent import reference

INF, NAN = math.inf, math.nan


def test_evaluate_by_hand():
    """Three used rows with probabilities (1/2, 1/4, 1/4), (1/8, 1/8, 3/4) and (1/2, 1/2, masked)."""
    logits = [
        [math.log(2), 0.0, 0.0],
        [0.0, 0.0, math.log(6)],
        [3.0, 3.0, -INF],
        [9.0, 0.0, 0.0],
        [9.0, 0.0, 0.0],
        [9.0, 0.0, NAN],
    ]
    report = reference.evaluate(logits, [2, 2, 1, -100, 3, 0], topk=(1, 2, 3), bins=4)
    counts = ("rows", "used", "ignored", "invalid", "nonfinite", "infinite")
    assert [report[name] for name in counts] == [6, 3, 1, 1, 1, 0]

    losses = [math.log(4), math.log(4 / 3), math.log(2)]
    loss = sum(losses) / 3
    variance = sum((x - loss) ** 2 for x in losses) / 3
    entropies = [1.5 * math.log(2), 0.75 * math.log(4 / 3) + 0.25 * math.log(8), math.log(2)]
    expected = {
        "cross_entropy": loss,
        "cross_entropy_stderr": math.sqrt(variance / 2),
        "bits": loss / math.log(2),
        "perplexity": (4 * 4 / 3 * 2) ** (1 / 3),
        "perplexity_stderr": (4 * 4 / 3 * 2) ** (1 / 3) * math.sqrt(variance / 2),
        "z_loss": (math.log(4) ** 2 + math.log(8) ** 2 + (3 + math.log(2)) ** 2) / 3,
        "accuracy_bound": (1 / 4 * 3 / 4 * 1 / 2) ** (1 / 3),
        "expected_accuracy": (1 / 4 + 3 / 4 + 1 / 2) / 3,
        "accuracy": 1 / 3,
        "accuracy_stderr": math.sqrt(1 / 3 * 2 / 3 / 2),
        "mean_rank": (2 + 0 + 1) / 3,
        "mean_reciprocal_rank": (1 / 3 + 1 + 1 / 2) / 3,
        "entropy": sum(entropies) / 3,
        "brier": (9 / 16 + 1 / 4 + 1 / 16 + 1 / 16 + 2 / 64 + 1 / 4 + 1 / 4) / 3,
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-14), name
    assert report["topk"] == {1: 1 / 3, 2: 2 / 3, 3: 1.0}


def test_calibration_by_hand():
    # Of two classes with equal logits the confidence is exactly 1/2: the upper bin takes the edge.
    logits = [[0.0, 0.0]] * 4 + [[0.0, -INF]] * 2
    report = reference.evaluate(logits, [0, 0, 0, 1, 0, 1], bins=2)
    assert [b["count"] for b in report["reliability"]] == [0, 6]
    report = reference.evaluate(logits, [0, 0, 0, 1, 0, 1], bins=3)
    first, second, last = report["reliability"]
    assert math.isnan(first["accuracy"])
    assert math.isnan(first["confidence"])
    assert second == {"lower": 1 / 3, "upper": 2 / 3, "count": 4, "confidence": 0.5, "accuracy": 0.75}
    assert last == {"lower": 2 / 3, "upper": 1.0, "count": 2, "confidence": 1.0, "accuracy": 0.5}
    assert report["ece"] == (abs(3 - 2) + abs(1 - 2)) / 6
    assert report["mce"] == 0.5
    # A gap of +1 and one of -1 in one bin cancel there, and only there.
    assert reference.evaluate([[0.0, -INF], [0.0, 0.0]], [1, 0], bins=1)["ece"] == 0.25


def test_the_first_among_equals_is_the_prediction():
    logits = [[1.0, 5.0, 5.0, 5.0, 2.0]] * 5
    report = [reference.evaluate(logits[:1], [label]) for label in range(5)]
    assert [r["mean_rank"] for r in report] == [4, 0, 1, 2, 3]
    assert [r["accuracy"] for r in report] == [0, 1, 0, 0, 0]
    assert [r["topk"] for r in report] == [{1: float(label == 1), 5: 1.0} for label in range(5)]
    assert [r["mean_reciprocal_rank"] for r in report] == [1 / 5, 1, 1 / 2, 1 / 3, 1 / 4]
    masked = reference.evaluate([[-INF, 0.0, -INF]], [2])
    assert masked["mean_rank"] == 2


def test_a_masked_label_stays_in_the_means():
    report = reference.evaluate([[0.0, -INF], [0.0, 0.0]], [1, 0])
    assert (report["used"], report["infinite"], report["nonfinite"]) == (2, 1, 0)
    assert report["cross_entropy"] == report["bits"] == report["perplexity"] == INF
    assert math.isnan(report["cross_entropy_stderr"])
    assert math.isnan(report["perplexity_stderr"])
    assert report["accuracy_bound"] == 0.0
    assert report["expected_accuracy"] == 0.25
    assert report["brier"] == (2.0 + 0.5) / 2
    assert report["entropy"] == math.log(2) / 2


def test_rows_are_left_out_for_one_reason_each():
    logits = [[NAN, 0.0], [NAN, 0.0], [INF, 0.0], [-INF, -INF], [0.0, 0.0]]
    report = reference.evaluate(logits, [-1, 2, 1, 0, 1], ignore_index=-1)
    assert [report[n] for n in ("rows", "used", "ignored", "invalid", "nonfinite")] == [5, 1, 1, 1, 2]
    assert report["cross_entropy"] == math.log(2)
    assert math.isnan(report["cross_entropy_stderr"])  # one row says nothing about its spread


@pytest.mark.parametrize("labels", [[], [-100, 3]], ids=str)
def test_means_over_no_used_row_are_nan(labels):
    report = reference.evaluate(np.zeros((len(labels), 3)), labels, topk=[2], bins=3)
    assert report["used"] == report["infinite"] == 0
    assert [b["count"] for b in report["reliability"]] == [0, 0, 0]
    assert math.isnan(report["topk"][2])
    means = {name for name, x in report.items() if isinstance(x, float)} - {"weight"}
    assert len(means) == 25
    assert all(math.isnan(report[name]) for name in means)
    assert all(math.isnan(x) for x in report["quantiles"].values())
    assert report["weight"] == sum(report["histogram"]["counts"]) == 0


def test_evaluate_against_plain_numpy():
    """Random rows with ties, against formulas written the ordinary way."""
    rng = np.random.default_rng(8)
    n, c = 300, 7
    logits = np.round(rng.normal(0, 2, (n, c)) * 2) / 2
    labels = rng.integers(0, c, n)
    report = reference.evaluate(logits, labels, topk=(1, 3), bins=10)
    p = scipy.special.softmax(logits, axis=1)
    at_label = p[np.arange(n), labels]
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = np.argmax(order == labels[:, None], axis=1)
    confidence, hit = p.max(axis=1), np.argmax(logits, axis=1) == labels
    bin_of = np.minimum((confidence * 10).astype(int), 9)
    sums = [np.bincount(bin_of, weights=w, minlength=10) for w in (np.ones(n), hit, confidence)]
    filled = sums[0] > 0
    expected = {
        "cross_entropy": np.mean(-np.log(at_label)),
        "cross_entropy_stderr": np.std(-np.log(at_label), ddof=1) / math.sqrt(n),
        "perplexity": math.exp(np.mean(-np.log(at_label))),
        "z_loss": np.mean(scipy.special.logsumexp(logits, axis=1) ** 2),
        "expected_accuracy": at_label.mean(),
        "accuracy": hit.mean(),
        "accuracy_stderr": np.std(hit, ddof=1) / math.sqrt(n),
        "mean_rank": rank.mean(),
        "mean_reciprocal_rank": np.mean(1 / (rank + 1)),
        "entropy": np.mean(-np.sum(p * np.log(p), axis=1)),
        "brier": np.mean(np.sum((p - np.eye(c)[labels]) ** 2, axis=1)),
        "ece": np.abs(sums[1] - sums[2]).sum() / n,
        "mce": np.max(np.abs(sums[1] - sums[2])[filled] / sums[0][filled]),
    }
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-12), name
    assert report["topk"] == {1: hit.mean(), 3: (rank < 3).mean()}
    assert [b["count"] for b in report["reliability"]] == sums[0].tolist()
    assert report["cross_entropy"] == reference.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("error", "args", "options"),
    [
        (TypeError, ([[0.0, 1.0]], [0.0]), {}),
        (TypeError, ([[0.0, "x"]], [0]), {}),
        (TypeError, ([[0.0, 1.0]], [0]), {"topk": (1.5,)}),
        (TypeError, ([[0.0, 1.0]], [0]), {"bins": 2.0}),
        (ValueError, (1.0, 0), {}),
        (ValueError, (np.zeros((1, 2, 3)), [0]), {}),
        (ValueError, (np.zeros((2, 0)), [0, 0]), {}),
        (ValueError, ([[0.0, 1.0]], [0, 1]), {}),
        (ValueError, ([[0.0, 1.0]], [[0]]), {}),
        (ValueError, ([[0.0, 1.0]], [0]), {"topk": (0,)}),
        (ValueError, ([[0.0, 1.0]], [0]), {"bins": 0}),
    ],
)
def test_wrong_arguments_of_evaluate_are_refused(error, args, options):
    with pytest.raises(error):
        reference.evaluate(*args, **options)
