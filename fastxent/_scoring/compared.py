"""The parts of a Comparator: which there are, how rows get into them, and how their states are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastxent._accumulators.keyed import Keyed
from fastxent._accumulators.means import Means
from fastxent._accumulators.quantiles import Quantiles
from fastxent._accumulators.state import keys_of, whole
from fastxent._accumulators.worst import Worst
from fastxent._exact import two_product
from fastxent._scoring.columns import Columns

# counts, which merge by addition
COUNTS = ("rows", "ignored", "invalid", "nonfinite", "masked", "infinite", "infinite_kl")

# names of the columns whose means and errors are kept; the agreement of the top k follows
MEANS = ("kl", "reverse_kl", "js", "tv", "same_top", "entropy", "entropy_base")
LABEL_MEANS = ("loss", "loss_base", "delta_p", "delta_p_squared", "accuracy", "accuracy_base")

EDGES = (0.25, 0.5, 0.75, 0.95)  # of the buckets of the base model's confidence


@dataclass(frozen=True)
class PairLayout:
    """What every block of an accumulator brings: classes, labels, weights, kind of groups ("integers", "strings")."""

    classes: int | None
    labelled: bool = False
    weighted: bool = False
    groups: str | None = None

    @classmethod
    def of(cls, classes: int, labelled: bool, columns: Columns) -> PairLayout:
        """The layout of a block."""
        groups = columns.dtype("groups")
        kind = None if groups is None else "strings" if groups.kind == "U" else "integers"
        return cls(classes, labelled, columns.dtype("sample_weight") is not None, kind)

    def words_of(self) -> str:
        """For a message."""
        some = [f"{self.classes} classes"]
        some += ["labels"] if self.labelled else ["no labels"]
        some += ["sample_weight"] if self.weighted else []
        some += [f"groups of {self.groups}"] if self.groups else []
        return ", ".join(some)

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Any) -> PairLayout:
        """The layout that `state` was called on."""
        keys_of(state, set(asdict(cls(None))), "layout")
        whole(state["classes"], "classes", 1)
        if any(type(state[name]) is not bool for name in ("labelled", "weighted")):
            raise ValueError(f"layout is {state}")
        if state["groups"] not in (None, "integers", "strings"):
            raise ValueError(f"groups are {state['groups']!r}")
        return cls(**state)

    @property
    def width(self) -> tuple[int, int]:
        """Counts and sums of the tables: rows, used rows, used rows with the same top (weighted: of weight above 0).

        Sums without weights: KL, its square, either loss. With weights: a = w KL, a^2, a w, w, w^2, w times the same
        top, w times either loss.
        """
        return 3, (6 if self.weighted else 2) + 2 * self.labelled


def new_parts(layout: PairLayout, topk: Sequence[int], worst: int) -> dict[str, Any]:
    """The parts of an accumulator, empty."""
    names = [*MEANS, *(LABEL_MEANS if layout.labelled else ())]
    names += [f"{how}{k}" for k in topk for how in ("ordered", "set")]
    pairs = [(name, name) for name in names] + ([("loss", "loss_base")] if layout.labelled else [])
    parts: dict[str, Any] = {
        "means": Means(names, pairs, layout.weighted),
        "kl_quantiles": Quantiles(),
        "worst": Worst(worst, 3 if layout.labelled else 2),
        "confidence": Keyed(*layout.width),
    }
    if layout.labelled:
        parts["delta_p_quantiles"] = Quantiles()
    if layout.groups:
        parts["groups"] = Keyed(*layout.width)
    return parts


def add_by_key(
    table: Keyed,
    keys: NDArray[Any],
    used: NDArray[np.bool_] | None,
    value: Mapping[str, NDArray[np.float64]],
    weights: NDArray[np.float64] | None,
) -> None:
    """Add rows to a table; `value` and `weights` are of the used rows (None: all), the others are counted alone."""
    n = keys.size
    everything = used is None or value["kl"].size == n

    def spread(some: NDArray[Any]) -> NDArray[Any]:
        if everything:
            return some
        out = np.zeros(n, some.dtype)
        out[used] = some
        return out

    losses = [name for name in ("loss", "loss_base") if name in value]
    there = np.ones(n, bool) if used is None else used
    if weights is None:
        kl = spread(value["kl"])
        sums = [(kl,), two_product(kl, kl), *((spread(value[name]),) for name in losses)]
        table.add(keys, [None, there, spread(value["same_top"] == 1.0)], sums)
        return
    some = weights != 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        a, same, *lost = (
            spread(np.where(some, weights * value[name], 0.0)) for name in ("kl", "same_top", *losses)
        )
    w = spread(weights)
    sums = [(a,), two_product(a, a), two_product(a, w), (w,), two_product(w, w), (same,), *((x,) for x in lost)]
    table.add(keys, [None, there, spread(some)], sums)


def check_parts(parts: dict[str, Any], states: Any, layout: PairLayout | None, counts: Mapping[str, int]) -> None:
    """Load the states of the parts; ValueError for what does not fit together."""
    keys_of(states, set(parts), "parts")
    used = counts["rows"] - sum(counts[name] for name in ("ignored", "invalid", "nonfinite", "masked"))
    if layout is None:
        if any(counts.values()):
            raise ValueError("rows without parts")
        return
    for name in parts:
        if name.endswith("quantiles"):
            parts[name] = Quantiles.from_state(states[name])
        elif name in ("confidence", "groups"):
            parts[name] = Keyed.from_state(states[name], *layout.width, name)
        else:
            parts[name].load(states[name])
    if used < 0 or any(parts[name].count != used for name in parts if name.endswith("quantiles")):
        raise ValueError(f"{used} used rows, but {parts['kl_quantiles'].count} divergences")
    if counts["infinite"] > used or counts["infinite_kl"] > used:
        raise ValueError(f"{used} used rows, but {counts['infinite']} and {counts['infinite_kl']} infinite ones")
    if parts["means"].n > used or (not layout.weighted and parts["means"].n != used):
        raise ValueError(f"{used} used rows, but means of {parts['means'].n}")
    parts["means"].check_shares(("delta_p_squared",) if layout.labelled else ())
    keys, numbers = parts["confidence"].counts()
    if numbers[:, 0].sum() != used or (keys.size and not 0 <= keys[0] <= keys[-1] <= len(EDGES)):
        raise ValueError("the buckets do not hold the used rows")
    if "groups" in parts:
        keys, numbers = parts["groups"].counts()
        if keys.size and (keys.dtype.kind == "U") != (layout.groups == "strings"):
            raise ValueError(f"the groups are no {layout.groups}")
        if numbers[:, 0].sum() != counts["rows"] or numbers[:, 1].sum() != used:
            raise ValueError("the groups do not hold the rows")
