"""Accuracy beside the peers, against 50-digit arithmetic: python bench/accuracy.py prints docs/accuracy.md's tables.

Largest error over some rows of each kind; of log-sum-exp and cross-entropy in ULP of float32 at the true value, of the
Kullback-Leibler divergence relative to it. The inputs are float32 and taken as exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

import fastxent as fx

C, ROWS = 1000, 8
Floats = NDArray[np.float32]


def kinds() -> Iterator[tuple[str, Floats, NDArray[np.int64]]]:
    """Name, rows and labels."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (ROWS, C)).astype(np.float32)
    labels = rng.integers(0, C, ROWS)
    yield "normal", x, labels
    confident = x.copy()
    confident[np.arange(ROWS), labels] = 60
    yield "confident: the label 50 ahead", confident, labels
    yield "offset: the same rows + 10,000", x + np.float32(1e4), labels
    masked = x.copy()
    masked[:, rng.permutation(C)[: C // 2]] = -np.inf
    masked[np.arange(ROWS), labels] = 1
    yield "masked: half of the classes -inf", masked, labels
    near_zero = (x - 40).astype(np.float32)
    near_zero[:, 7] = 0
    yield "largest 0, the others near -40", near_zero, np.full(ROWS, 7)


def pairs() -> Iterator[tuple[str, Floats, Floats]]:
    """Name and two arrays of rows."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 2, (ROWS, C)).astype(np.float32)
    for about, size in (("1", 1.4), ("1e-3", 0.045), ("1e-6", 1.4e-3), ("1e-9", 4.5e-5)):
        yield f"KL about {about}", x, (x + size * rng.standard_normal(x.shape)).astype(np.float32)


def exact(row: Floats) -> list[Any]:
    return [mp.mpf(float(v)) for v in row]


def true_lse(row: Floats) -> Any:
    return mp.log(mp.fsum(mp.exp(v) for v in exact(row)))


def true_loss(row: Floats, label: int) -> Any:
    values = exact(row)
    return mp.log1p(mp.fsum(mp.exp(v - values[label]) for j, v in enumerate(values) if j != label))


def true_kl(a: Floats, b: Floats) -> Any:
    p, q, of_p, of_q = exact(a), exact(b), true_lse(a), true_lse(b)
    return mp.fsum(mp.exp(v - of_p) * ((v - of_p) - (w - of_q)) for v, w in zip(p, q, strict=True))


def ulps(found: Any, truth: list[Any]) -> str:
    """The largest error in ULP of float32 at the true value."""
    worst = mp.mpf(0)
    for value, true in zip(np.asarray(found, np.float64).tolist(), truth, strict=True):
        worst = max(worst, abs(mp.mpf(value) - true) / mp.mpf(float(np.spacing(np.float32(abs(true))))))
    return mp.nstr(worst, 2, max_fixed=5)


def relative(found: Any, truth: list[Any]) -> str:
    worst = max(
        abs(mp.mpf(v) - t) / t for v, t in zip(np.asarray(found, np.float64).tolist(), truth, strict=True)
    )
    sign = ", negative" if np.min(found) < 0 else ""
    return mp.nstr(worst, 2) + sign


def peers() -> dict[str, dict[str, Callable[..., Any]]]:
    """By name, the functions of those that are installed."""
    import scipy.special as sp

    def scipy_loss(x: Floats, y: NDArray[np.int64]) -> Any:
        return -sp.log_softmax(x, axis=1)[np.arange(len(x)), y]

    def scipy_kl(a: Floats, b: Floats) -> Any:
        log_p, log_q = sp.log_softmax(a, axis=1), sp.log_softmax(b, axis=1)
        return (np.exp(log_p) * (log_p - log_q)).sum(axis=1)

    found: dict[str, dict[str, Callable[..., Any]]] = {
        "fastxent": {
            "lse": lambda x: fx.logsumexp(x, axis=1),
            "loss": lambda x, y: fx.cross_entropy(x, y, reduction="none"),
            "kl": fx.kl_divergence_with_logits,
        },
        "SciPy": {"lse": lambda x: sp.logsumexp(x, axis=1), "loss": scipy_loss, "kl": scipy_kl},
    }
    try:
        import torch
        import torch.nn.functional as F

        def torch_kl(a: Floats, b: Floats) -> Any:
            log_p, log_q = (torch.log_softmax(torch.from_numpy(v), 1) for v in (a, b))
            return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1).numpy()

        found["PyTorch"] = {
            "lse": lambda x: torch.logsumexp(torch.from_numpy(x), 1).numpy(),
            "loss": lambda x, y: F.cross_entropy(torch.from_numpy(x), torch.from_numpy(y), reduction="none").numpy(),
            "kl": torch_kl,
        }
    except ImportError:
        pass
    try:
        import jax
        import jax.numpy as jnp

        def jax_loss(x: Floats, y: NDArray[np.int64]) -> Any:
            return -jax.nn.log_softmax(jnp.asarray(x), axis=1)[jnp.arange(len(x)), jnp.asarray(y.astype(np.int32))]

        def jax_kl(a: Floats, b: Floats) -> Any:
            log_p, log_q = (jax.nn.log_softmax(jnp.asarray(v), axis=1) for v in (a, b))
            return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=1)

        found["JAX"] = {"lse": lambda x: jax.nn.logsumexp(jnp.asarray(x), axis=1), "loss": jax_loss, "kl": jax_kl}
    except ImportError:
        pass
    return found


def main() -> None:
    mp.mp.dps = 50
    libraries = peers()
    head = f"| rows | {' | '.join(libraries)} |\n|---|{'---|' * len(libraries)}"
    for title, what in (("log-sum-exp, ULP", "lse"), ("cross-entropy, ULP", "loss")):
        print(f"\n## {title}\n\n{head}")
        for name, x, labels in kinds():
            truth = [true_lse(r) if what == "lse" else true_loss(r, y) for r, y in zip(x, labels.tolist(), strict=True)]
            arguments = (x,) if what == "lse" else (x, labels)
            print(f"| {name} | {' | '.join(ulps(f[what](*arguments), truth) for f in libraries.values())} |")
    print(f"\n## Kullback-Leibler divergence from logits, relative error\n\n{head}")
    for name, a, b in pairs():
        truth = [true_kl(p, q) for p, q in zip(a, b, strict=True)]
        print(f"| {name} | {' | '.join(relative(f['kl'](a, b), truth) for f in libraries.values())} |")


if __name__ == "__main__":
    main()
