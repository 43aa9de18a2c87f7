"""Binary losses."""

import math
from collections.abc import Sequence

from fastxent.reference.arrays import Nested, as_numbers, check_option, nest, place_of, spread
from fastxent.reference.elementwise import element_sigmoid, element_softplus
from fastxent.reference.sums import exact_mean, exact_sum


def binary_cross_entropy(probs: Nested, target: Nested, weight: Nested = None, *, reduction: str = "mean") -> Nested:
    """Cross-entropy of probabilities and binary targets, as `torch.nn.functional.binary_cross_entropy` has it.

    Logarithms are cut off at -100.

    Parameters
    ----------
    probs : array_like, in [0, 1]
    target : array_like of the same shape, in [0, 1]
    weight : array_like that broadcasts to that shape, optional
    reduction : "mean" (divides by the number of elements), "sum" or "none"

    Returns
    -------
    float, or for "none" nested lists of the shape of probs
        In nats.

    Raises
    ------
    ValueError
        Besides the module's errors: a probability or target outside [0, 1] or NaN (names the place of the first), or an
        unknown option.

    Examples
    --------
    >>> binary_cross_entropy([0.5, 0.0, 1.0], [1, 1, 1], reduction="none")
    [0.6931471805599453, 100.0, 0.0]
    """
    check_option("reduction", reduction, ("none", "mean", "sum"))
    x, shape = as_numbers(probs, "probs")
    y, factors = _targets(target, "probs", shape), _factors(weight, "weight", shape)
    for name, values in (("probs", x), ("target", y)):
        for i, value in enumerate(values):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}{place_of(i, shape)} is {value!r}, outside [0, 1]")

    def loss(p: float, t: float) -> float:
        hit = min(100.0, -math.log(p)) if p else 100.0
        miss = min(100.0, -math.log1p(-p)) if p < 1 else 100.0
        return t * hit + (1 - t) * miss

    return _reduced([w * loss(p, t) for p, t, w in zip(x, y, factors, strict=True)], shape, reduction)


def binary_cross_entropy_with_logits(
    logits: Nested,
    target: Nested,
    weight: Nested = None,
    *,
    pos_weight: Nested = None,
    reduction: str = "mean",
    return_grad: bool = False,
) -> Nested:
    """Cross-entropy of binary targets and sigmoids of logits, as the function of that name in `torch.nn.functional`.

    Computed as ``pos_weight y log(1 + exp(-x)) + (1 - y) log(1 + exp(x))``, whose terms do not cancel. An infinite
    logit on the side of the target costs 0, where PyTorch has NaN.

    Parameters
    ----------
    logits : array_like
    target : array_like of the same shape
    weight, pos_weight : array_like that broadcast to that shape, optional
    reduction : "mean" (divides by the number of elements), "sum" or "none"
    return_grad : bool, whether to give the gradient of the reduced loss (of the sum for "none") too

    Returns
    -------
    float, or for "none" nested lists of the shape of logits; with ``return_grad`` a pair of that and nested lists

    Examples
    --------
    >>> binary_cross_entropy_with_logits([40.0, 0.0], [1, 0], reduction="none")
    [4.248354255291589e-18, 0.6931471805599453]
    """
    check_option("reduction", reduction, ("none", "mean", "sum"))
    x, shape = as_numbers(logits, "logits")
    y = _targets(target, "logits", shape)
    factors, positive = _factors(weight, "weight", shape), _factors(pos_weight, "pos_weight", shape)

    def term(factor: float, value: float) -> float:
        return 0.0 if factor == 0 and value == math.inf else factor * value

    losses, gradient = [], []
    for v, t, w, pw in zip(x, y, factors, positive, strict=True):
        if pos_weight is None and math.isinf(t):  # of opposite infinities as PyTorch adds them up
            losses.append(w * ((1 - t) * v + element_softplus(-v)))
        else:
            losses.append(w * (term(pw * t, element_softplus(-v)) + term(1 - t, element_softplus(v))))
        gradient.append(w * ((1 - t) * element_sigmoid(v) - pw * t * element_sigmoid(-v)))
    loss = _reduced(losses, shape, reduction)
    if not return_grad:
        return loss
    return loss, nest([g / len(gradient) for g in gradient] if reduction == "mean" else gradient, shape)


def _targets(target: Nested, name: str, shape: tuple[int, ...]) -> list[float]:
    y, found = as_numbers(target, "target")
    if found != shape:
        raise ValueError(f"target must have the shape {shape} of {name}, not {found}")
    return y


def _factors(weight: Nested, name: str, shape: tuple[int, ...]) -> list[float]:
    if weight is None:
        return [1.0] * math.prod(shape)
    values, found = as_numbers(weight, name)
    return spread(values, found, shape, name)


def _reduced(losses: Sequence[float], shape: tuple[int, ...], reduction: str) -> Nested:
    if reduction == "none":
        return nest(losses, shape)
    return exact_sum(losses) if reduction == "sum" else exact_mean(losses)
