"""The differential fuzz: calls drawn at random, at every level of this CPU, against the reference and each other.

    python tests/fuzz.py [--cases N] [--seed S] [--first I]

Each case is a public function with arrays of any storage, shape, layout and special values, between guard pages
(guarded.py). Levels with a fused multiply-add owe each other every bit; each owes the reference the bounds of the
tests of its function, or the same kind of error. A case depends on the seed and its number alone: what fails says
both, and `--seed S --first I --cases 1` runs it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # fastxent is built in place and not installed

import numpy as np
import pytest
from accuracy import agree, exactly
from guarded import NAMES, Laid, Room, drawn, run
from layouts import bits, use_level
from twins import assert_close

import fastxent as fx
from fastxent import _dispatch, reference

# few, for the oracle is plain Python; now and then a row that fills vectors and runs
CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 19, 24, 31, 32, 33, 65, 130, 300)
ROWS = (0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 17)
BATCH = 310
ELEMENTWISE = ("sigmoid", "log_sigmoid", "logit", "surprisal")
# ULP, and the size they are taken at: numerics.md and the tests of each function, with the reference's own error
BOUNDS = {
    "logsumexp": (3.5, 1.0), "softmax": (7.0, 0.0), "log_softmax": (3.5, 1.0), "cross_entropy": (6.5, 0.0),
    "cross_entropy, soft": (9.0, 0.0), "cross_entropy, probabilities": (9.0, 0.0), "nll_loss": (2.0, 0.0),
    "sigmoid": (6.0, 0.0), "log_sigmoid": (6.0, 0.0), "logit": (6.0, 0.0), "surprisal": (4.0, 0.0),
    "binary_cross_entropy": (8.0, 0.0), "binary_cross_entropy_with_logits": (8.0, 0.0),
}  # fmt: skip


def canonical(result: Any) -> Any:
    """Something that == compares bit by bit, NaN equal to NaN."""
    if isinstance(result, tuple):
        return tuple(canonical(x) for x in result)
    if dataclasses.is_dataclass(result):
        found = dataclasses.asdict(result)
        for part in (found, found.get("before", {}), found.get("after", {})):
            part.pop("provenance", None)
        return repr(found)
    array = np.asarray(result)
    return array.dtype.str, array.shape, bits(array).tobytes() if array.dtype.kind in "fV" else array.tobytes()


def near(got: Any, want: Any, ulps: float, floor: Any) -> None:
    """The same NaN and infinities, else within ULP of the result's dtype at max(|want|, floor) of each."""
    got, want = np.asarray(got), np.asarray(want, np.float64)
    if got.size == want.size == 0:
        return
    assert got.shape == want.shape, (got.shape, want.shape)
    info = np.finfo(got.dtype)
    rounded = want.astype(got.dtype)
    odd = ~np.isfinite(rounded)
    np.testing.assert_array_equal(got[odd], rounded[odd])
    value, truth = got[~odd].astype("f8"), want[~odd]
    floors = np.broadcast_to(floor, want.shape)[~odd].astype(got.dtype)
    size = np.clip(np.maximum(np.abs(rounded[~odd]), floors), info.tiny, info.max / 2)
    error = np.maximum(np.abs(value - truth) - float(info.tiny), 0) / np.spacing(size).astype("f8")
    assert error.max(initial=0.0) <= ulps, (error.max(), value[error.argmax()], truth[error.argmax()])


def check(name: str, laid: Laid, got: Any, want: Any) -> None:
    """The reference's result, to the bounds of the function."""
    call = laid.call
    if isinstance(want, type) or isinstance(got, type):
        # shares below 0 and a label outside: either is an error
        both = name == "cross_entropy, probabilities" and {got, want} == {ValueError, IndexError}
        assert got is want or both, (got, want)
        return
    storage = next(iter(call.arrays.values())).dtype
    single = storage.kind == "V" or storage.itemsize < 8
    if isinstance(want, dict):
        found = dataclasses.asdict(got)
        if name == "compare":  # differences of two models' sums: comparison_oracle.py has their bounds
            counts = ("rows", "used", "ignored", "invalid", "nonfinite", "masked", "first_invalid", "first_nonfinite")
            assert {k: found[k] for k in counts} == {k: want[k] for k in counts}
        elif tame(call):
            statistics(found, want, 4e-6 if single else 1e-11, on_an_edge(call.arrays["logits"]))
        else:
            counts = {k: v for k, v in want.items() if isinstance(v, int)}
            assert {k: found[k] for k in counts} == counts
    elif name == "logsumexp, weights":
        if (call.arrays["b"] >= 0).all():
            pairs = zip(got, want, strict=True) if call.options["return_sign"] else [(got, want)]
            for one, other in pairs:
                near(one, other, 8.0, 1.0)
    elif name in ("kl_bounds", "cross_entropy_bounds"):
        if tame(call):  # the reference's probabilities underflow
            np.testing.assert_allclose(np.array(got), np.array(want), 1e-5 if single else 1e-7, 1e-5)
    elif name in ("entropy", "kl_divergence", "js_divergence"):
        exactly(got, want)
    elif name.endswith("divergence_with_logits"):
        gaps = np.abs(call.arrays["p_logits"].astype("f8") - call.arrays["q_logits"].astype("f8"))
        span = gaps[np.isfinite(gaps)].max(initial=0.0) / call.options.get("temperature", 1.0)
        agree(got, want, span=span)
    elif name == "entropy_with_logits":
        agree(got, want)
    elif name in BOUNDS:
        ulps, floor = BOUNDS[name]
        if isinstance(want, tuple):  # the loss and its gradient
            gradient(call, got[1], want[1])
            got, want = got[0], want[0]
        if call.options.get("reduction") in ("mean", "sum"):
            working = np.float32 if single else np.float64
            got, ulps = np.asarray(got).astype(working), 2 * ulps
            if not np.isfinite(got).all() and not tame(call):
                return  # rows' values that overflow the working dtype, of which it is the sum
        floors = cancelling(call, np.shape(want)) if name.startswith("binary") else floor
        near(got, want, ulps + 2 * ("weight" in call.arrays), floors)
    else:
        np.testing.assert_allclose(np.asarray(got, "f8"), np.asarray(want, "f8"), 1e-5 if single else 1e-12, 1e-12)


def cancelling(call: Any, shape: tuple[int, ...]) -> Any:
    """The size of a binary loss's terms where targets outside [0, 1] make them cancel."""
    target = call.arrays["target"].astype("f8")
    outside = np.where((target < 0) | (target > 1), np.abs(target) + np.abs(1 - target), 0)
    most = np.abs(call.arrays["logits"].astype("f8")) + 1 if "logits" in call.arrays else 100.0
    size = outside * most
    for name in ("weight", "pos_weight"):
        size = size * np.maximum(np.abs(call.arrays.get(name, np.ones(1)).astype("f8")), 1)
    # of the terms of a target of 1e308 nothing is left
    size = np.nan_to_num(size, nan=0.0, posinf=np.finfo("f8").max / 1e6)
    return size if size.shape == shape else size.sum()


def on_an_edge(logits: Any) -> bool:
    """Whether a row's confidence is where two of its 15 bins meet, as those of 3 and of 5 equal classes are."""
    x = logits.astype("f8").reshape(-1, logits.shape[-1])
    terms = np.exp(x - x.max(axis=-1, keepdims=True))
    found = 15 / terms.sum(axis=-1)
    return bool((np.abs(found - np.rint(found)) < 1e-3).any())


def statistics(found: dict[str, Any], want: dict[str, Any], relative: float, edge: bool) -> None:
    """All fields; standard errors and small means, what is left of sums that cancel, to their terms' digits."""
    left = [name for name, value in want.items() if isinstance(value, float) and "stderr" in name]
    left += [name for name in ("tv_mean", "explained") if isinstance(want.get(name), float)]
    for name in left:
        size = max(1.0, abs(want.get(name.removesuffix("_stderr").removesuffix("_cluster"), 0.0)))
        np.testing.assert_allclose(found[name], want[name], relative, relative * size * 10, err_msg=name)
    if edge:  # such a row may fall to either side
        left += ["reliability", "ece", "mce", "temperatures"]
    rest = {name: value for name, value in want.items() if name not in left}
    assert_close(found, rest, relative, least=1e-9 if relative > 1e-9 else 1e-24)


def gradient(call: Any, got: Any, want: Any) -> None:
    """Entries are differences of terms of up to the gradient's largest one or 1."""
    want = np.asarray(want, "f8").reshape(got.shape)
    eps = float(np.finfo(got.dtype).eps) if got.dtype.kind == "f" else 2.0**-7
    finite = np.isfinite(want)
    assert (np.isfinite(got.astype("f8")) == finite).all(), (got, want)
    size = np.abs(want[finite]).max(initial=1.0)
    np.testing.assert_allclose(got.astype("f8")[finite], want[finite], 16 * eps, 16 * eps * size)


def tame(call: Any) -> bool:
    """No logits whose differences are rounded away: every statistic of theirs has its digits."""
    for x in call.arrays.values():
        if x.dtype.kind in "fV":
            values = np.abs(x.astype("f8"))
            if values[np.isfinite(values)].max(initial=0.0) > 200.0:
                return False
    return "temperature" not in call.options


def expected(laid: Laid) -> Any:
    """What the reference says; None where nobody asks it.

    Minima of a temperature may be flat, empty lists have no shape, and a table of millions of cells takes a minute.
    """
    given = list(laid.call.arrays.values())
    if laid.call.name == "fit_temperature" or any(0 in x.shape for x in given):
        return None
    if laid.call.name in ("contingency_table", "mutual_info_score") and max(int(x.max()) for x in given) > 500:
        return None
    if laid.call.name == "log_loss":  # it looks at the dtype
        arrays: dict[str, Any] = laid.call.arrays
    else:
        arrays = {
            name: (x.astype("f8") if x.dtype.kind in "fV" else x).tolist() for name, x in laid.call.arrays.items()
        }
    if any(x.dtype.kind in "fV" and (x == -np.inf).any() for name, x in laid.call.arrays.items() if name == "target"):
        return None  # what a share of -inf gives is between NaN and the infinities
    options = dict(laid.call.options)
    if not tame(laid.call):  # only their counts are compared, and logits of 1e308 have no quotients
        options.pop("temperatures", None)
    temperature = options.pop("temperature", 1.0) if laid.call.name == "cross_entropy" else 1.0
    if temperature != 1.0:  # the quotients are rounded to the working dtype
        logits = laid.call.arrays["logits"]
        working = np.float64 if logits.dtype.kind not in "fV" or logits.dtype.itemsize == 8 else np.float32
        arrays["logits"] = (logits.astype(working) / working(temperature)).tolist()
    try:
        found = getattr(reference, laid.call.name)(**arrays, **options)
        if temperature != 1.0 and isinstance(found, tuple):
            return found[0], np.asarray(found[1]) / temperature
        return found
    except (ValueError, IndexError, TypeError) as error:
        return next(kind for kind in (IndexError, TypeError, ValueError) if isinstance(error, kind))


def fuzz(cases: int, seed: int, first: int = 0, most: int = 20) -> tuple[Counter[str], list[str]]:
    """How many cases ran of each function; what failed, at most that many, printed at once."""
    rooms, counted, failures = [Room() for _ in range(8)], Counter(), []
    levels = _dispatch.usable_levels()
    fused = [level for level in levels if _dispatch.load_level(level).fused]
    with warnings.catch_warnings(), np.errstate(all="ignore"), pytest.MonkeyPatch.context() as monkeypatch:
        warnings.simplefilter("ignore")
        fx.set_num_threads(1)
        for start in range(first, first + cases, BATCH):
            numbers = range(start, min(start + BATCH, first + cases))
            batch = {case: drawn(seed, case, classes(case), ROWS) for case in numbers}
            found: dict[str, dict[int, Any]] = {}
            for level in levels:
                use_level(monkeypatch, level)
                found[level] = {case: run(laid, rooms) for case, laid in batch.items()}
            if sys.stderr.isatty():
                print(f"\r{start - first} cases, {len(failures)} failures ", end="", file=sys.stderr, flush=True)
            for case, laid in batch.items():
                name = NAMES[case % len(NAMES)]
                counted[name] += 1
                try:
                    want = expected(laid)
                    for level in levels if want is not None else ():
                        check(name, laid, found[level][case], want)
                    level = "levels differ"
                    assert len({canonical(found[one][case]) for one in fused}) <= 1
                except Exception:  # the check's own mistakes, too, end no long run
                    where = f"--seed {seed} --first {case} --cases 1: {name}, {level}: {laid}"
                    failures.append(f"{where}\n{traceback.format_exc(limit=-2)}")
                    print(failures[-1], flush=True)
                    if len(failures) >= most:
                        return counted, failures
    return counted, failures


def classes(case: int) -> tuple[int, ...]:
    """Numbers of classes to draw from: fewer where the reference takes long.

    For bounds it tries every order of the classes; divergences are sums of decimal numbers, half of all the time.
    """
    turn, name = divmod(case, len(NAMES))
    if NAMES[name].endswith("_bounds"):
        return CLASSES[:6]
    slow = "divergence" in NAMES[name] or NAMES[name] == "compare"
    return CLASSES[:15] if slow and turn % 4 else CLASSES


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--most", type=int, default=20, help="failures after which to end")
    args = parser.parse_args()
    start = time.monotonic()
    counted, failures = fuzz(args.cases, args.seed, args.first, args.most)
    seconds, levels = time.monotonic() - start, ", ".join(_dispatch.usable_levels())
    print(f"{counted.total()} cases, seed {args.seed}, levels {levels}, {seconds:.0f} s: {len(failures)} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
