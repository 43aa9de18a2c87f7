"""Make ``fastxent/data/digits_*.npy``: the logits of a real classifier on images it has not seen, and their labels.

Multinomial logistic regression on scikit-learn's copy of the UCI handwritten digits, half of them for training.
Run it as ``python tools/make_demo.py``; it needs scikit-learn. fastxent/data/README.md says where the images come from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

DATA = Path(__file__).resolve().parents[1] / "fastxent" / "data"


def held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, 10) and labels (n,) of the half of the images that the classifier was not trained on."""
    images, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(
        images / 16.0, digits, test_size=0.5, random_state=0, stratify=digits
    )
    # C = 20 leaves the confidence near the accuracy. The penalised loss is strictly convex: Newton's method, taken to
    # its end, finds the one minimum whatever the machine, where lbfgs stops at a point of its own.
    classifier = LogisticRegression(C=20.0, solver="newton-cg", tol=1e-12, max_iter=1000)
    # one thread: the order of the sums in the BLAS must not depend on the number of CPUs
    with threadpool_limits(1):
        classifier.fit(train, train_digits)
        logits = classifier.decision_function(test)
    return np.ascontiguousarray(logits, dtype="<f4"), test_digits.astype("<i8")


def accuracy_and_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Share of labels that are the arg max, and mean cross-entropy in nats."""
    x = logits.astype(np.float64)
    top = x.max(axis=1)
    lse = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    hits = x.argmax(axis=1) == labels
    return float(hits.mean()), float((lse - x[np.arange(len(x)), labels]).mean())


def main() -> None:
    """Write the two files and print what they hold."""
    logits, labels = held_out()
    np.save(DATA / "digits_logits.npy", logits)
    np.save(DATA / "digits_labels.npy", labels)
    accuracy, loss = accuracy_and_loss(logits, labels)
    print(f"scikit-learn {sklearn.__version__}: logits {logits.shape}, labels {labels.shape}")
    print(f"accuracy {accuracy:.4f}, cross-entropy {loss:.4f} nats")


if __name__ == "__main__":
    main()
