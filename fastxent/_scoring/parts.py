"""The parts of an Evaluator: which there are, how rows get into them, and how their states are checked."""

from __future__ import annotations

from collections.abc import Mapping
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
COUNTS = ("rows", "ignored", "invalid", "nonfinite", "masked", "infinite")

# names of the columns whose means are kept; the top-k follow
MEANS = (
    "loss", "lse_squared", "p_label", "entropy", "brier", "accuracy", "rank", "reciprocal_rank",
)  # fmt: skip
ERRORS = ("loss", "p_label", "entropy", "brier")

MOST_CLASSES = 1 << 12  # beyond, no table by class and no confusion table
MOST_LABELS = 1 << 22  # beyond, labels are not counted

# sums of a group: the loss and its square, then GROUP_MEANS. With weights all of them times w (the square times w^2),
# then w, w^2, w^2 loss, and of the hits, accuracy and top-k, w hit; w^2 times accuracy; at the end w times the counts
# of bytes and of words. Its counts: rows, used rows, without weights the hits; with weights the used rows of weight
# above 0; bytes, words
GROUP_MEANS = ("p_label", "entropy", "brier", "rank", "reciprocal_rank")
GROUP_SUMS = 2 + len(GROUP_MEANS)


@dataclass(frozen=True)
class Layout:
    """What every block of an accumulator brings: classes, weights, kind of groups ("integers", "strings"), counts."""

    classes: int | None
    weighted: bool = False
    groups: str | None = None
    bytes: bool = False
    words: bool = False

    @classmethod
    def of(cls, classes: int, columns: Columns) -> Layout:
        """The layout of a block."""
        groups = columns.dtype("groups")
        return cls(
            classes,
            columns.dtype("sample_weight") is not None,
            None if groups is None else "strings" if groups.kind == "U" else "integers",
            columns.dtype("byte_counts") is not None,
            columns.dtype("word_counts") is not None,
        )

    def words_of(self) -> str:
        """For a message."""
        some = [f"{self.classes} classes"]
        some += ["sample_weight"] if self.weighted else []
        some += [f"groups of {self.groups}"] if self.groups else []
        some += ["byte_counts"] if self.bytes else []
        some += ["word_counts"] if self.words else []
        return ", ".join(some)

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Any) -> Layout:
        """The layout that `state` was called on."""
        keys_of(state, set(asdict(cls(None))), "layout")
        whole(state["classes"], "classes", 1)
        if any(type(state[name]) is not bool for name in ("weighted", "bytes", "words")):
            raise ValueError(f"layout is {state}")
        if state["groups"] not in (None, "integers", "strings"):
            raise ValueError(f"groups are {state['groups']!r}")
        return cls(**state)

    @property
    def by_class(self) -> bool:
        """Whether there is a table by class."""
        return self.classes is not None and self.classes <= MOST_CLASSES

    @property
    def label_counts(self) -> bool:
        """Whether labels are counted."""
        return self.classes is not None and self.classes <= MOST_LABELS


def hits_of(topk: tuple[int, ...]) -> tuple[str, ...]:
    """Names of what is hit or missed."""
    return ("accuracy", *(f"top{k}" for k in topk))


def widths(layout: Layout, topk: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Counts and sums of each table."""
    weighted = layout.weighted
    some = {"bins": (2, 3 if weighted else 1)}
    if layout.label_counts:
        some["labels"] = (1, (2 if weighted else 1) if layout.by_class else int(weighted))
    if layout.by_class:
        some["confusion"] = (1, 0)
    if layout.groups:
        extra, hits = layout.bytes + layout.words, len(hits_of(topk))
        some["groups"] = (3 + extra, GROUP_SUMS + 4 + hits + extra) if weighted else (2 + hits + extra, GROUP_SUMS)
    return some


def new_parts(layout: Layout, topk: tuple[int, ...], worst: int) -> dict[str, Any]:
    """The parts of an accumulator, empty."""
    names = [*MEANS, *(f"top{k}" for k in topk)]
    names += [name for name, there in (("byte_counts", layout.bytes), ("word_counts", layout.words)) if there]
    pairs = [(name, name) for name in (*ERRORS, *(hits_of(topk) if layout.weighted else ()))]
    return {
        "means": Means(names, pairs, layout.weighted),
        "quantiles": Quantiles(),
        "worst": Worst(worst, 2),
        **{name: Keyed(*width) for name, width in widths(layout, topk).items()},
    }


def of_classes(
    parts: Mapping[str, Any],
    layout: Layout,
    labels: NDArray[np.int64],
    argmax: NDArray[np.int64],
    loss: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
) -> None:
    """Add used rows to the tables by label and by label and prediction."""
    if not layout.label_counts:
        return
    sums = [] if weights is None else [(weights,)]
    if layout.by_class:
        if weights is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                loss = np.where(weights != 0.0, weights * loss, 0.0)
        parts["labels"].add(labels, [None], [(loss,), *sums])
        parts["confusion"].add(labels * (layout.classes or 0) + argmax, [None])
    else:
        parts["labels"].add(labels, [None], sums)


def of_groups(
    table: Keyed,
    layout: Layout,
    columns: Mapping[str, NDArray[Any]],
    used: NDArray[np.bool_],
    value: Mapping[str, NDArray[np.float64]],
    weights: NDArray[np.float64] | None,
    topk: tuple[int, ...],
) -> None:
    """Add all rows to the table by group; those that are not used only to the count of rows."""
    n = used.size
    everything = len(value["loss"]) == n

    def spread(some: NDArray[Any]) -> NDArray[Any]:
        if everything:
            return some
        out = np.zeros(n, some.dtype)
        out[used] = some
        return out

    lengths = [np.where(used, columns[name], 0) for name in ("byte_counts", "word_counts") if name in columns]
    if weights is None:
        hits = [spread(value[name] == 1.0) for name in hits_of(topk)]
        loss = spread(value["loss"])
        sums = [(loss,), two_product(loss, loss), *((spread(value[name]),) for name in GROUP_MEANS)]
        table.add(columns["groups"], [None, used, *hits, *lengths], sums)
        return
    with np.errstate(invalid="ignore"):
        some = weights != 0.0
        a, *means = (spread(np.where(some, weights * value[name], 0.0)) for name in ("loss", *GROUP_MEANS))
        weighted_hits = [spread(np.where(some, weights * value[name], 0.0)) for name in hits_of(topk)]
    w = spread(weights)
    sums = [(a,), two_product(a, a), *((x,) for x in means), (w,), two_product(w, w), two_product(a, w)]
    sums += [*((x,) for x in weighted_hits), two_product(weighted_hits[0], w)]
    sums += [(w * length,) for length in lengths]
    table.add(columns["groups"], [None, used, spread(weights > 0.0), *lengths], sums)


def check_parts(
    parts: dict[str, Any],
    states: Any,
    layout: Layout | None,
    counts: Mapping[str, int],
    bins: int,
    topk: tuple[int, ...],
) -> None:
    """Load the states of the parts; ValueError for what does not fit together."""
    keys_of(states, set(parts), "parts")
    used = counts["rows"] - counts["ignored"] - counts["invalid"] - counts["nonfinite"] - counts["masked"]
    if layout is None:
        if any(counts.values()):
            raise ValueError("rows without parts")
        return
    width = widths(layout, topk)
    for name in parts:
        if name in width:
            parts[name] = Keyed.from_state(states[name], *width[name], name)
        elif name == "quantiles":
            parts[name] = Quantiles.from_state(states[name])
        else:
            parts[name].load(states[name])
    if used < 0 or counts["infinite"] > used or parts["quantiles"].count != used:
        raise ValueError(f"{used} used rows, but {parts['quantiles'].count} losses")
    if parts["means"].n > used or (not layout.weighted and parts["means"].n != used):
        raise ValueError(f"{used} used rows, but means of {parts['means'].n}")
    parts["means"].check_shares(hits_of(topk), 1)
    for name, most in (("bins", bins), ("labels", layout.classes), ("confusion", (layout.classes or 0) ** 2)):
        if name in parts:
            keys, numbers = parts[name].counts()
            if numbers[:, 0].sum() != used or (keys.size and not 0 <= keys[0] <= keys[-1] < (most or 0)):
                raise ValueError(f"the {name} do not hold the used rows")
    if (parts["bins"].counts()[1][:, 1] > parts["bins"].counts()[1][:, 0]).any():
        raise ValueError("a bin has more hits than rows")
    if "groups" in parts:
        keys, numbers = parts["groups"].counts()
        if keys.size and (keys.dtype.kind == "U") != (layout.groups == "strings"):
            raise ValueError(f"the groups are no {layout.groups}")
        if numbers[:, 0].sum() != counts["rows"] or numbers[:, 1].sum() != used:
            raise ValueError("the groups do not hold the rows")
