"""Digests of the bits of every public function, to be compared between machines, emulators and levels.

    python tools/bits.py save bits.json            # on one machine (or with one FASTXENT_LEVEL)
    python tools/bits.py compare bits.json         # on another: exits with 1 and names what differs

Only NumPy is needed, so that it runs where the tests' own libraries are not to be had: under emulators of a CPU, in a
bare environment. The inputs come from uniform random numbers by sums and products alone, so that they too are the same
anywhere. Some two seconds on one core; ``--few`` keeps to the narrowest and the widest rows.
"""

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # fastxent is built in place and not installed

import numpy as np

import fastxent as fx
from fastxent import _dispatch

# the row kernels' steps: few, 16 and 32 lanes a group, 8 groups a run, 16 runs a block, 65,536 columns a segment
CLASSES = {2: 41, 5: 41, 16: 37, 33: 37, 129: 37, 300: 21, 2049: 5, 4100: 3, 70_000: 2}
FEW = (2, 33, 300, 4100)
STORAGES = ("float64", "float32", "float16", "bfloat16")


def digest(x: object) -> str:
    """Of an array's bits and shape, every NaN the same."""
    x = np.asarray(x)
    if x.dtype.kind == "f":
        x = np.where(x != x, np.asarray(np.nan, x.dtype), x)
    x = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
    return hashlib.sha256(repr((x.dtype.str, x.shape)).encode() + x.tobytes()).hexdigest()[:16]


def bell(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Nearly normal, without a logarithm of the C library: the sum of four uniform numbers."""
    return (rng.random((4, *shape)).sum(0) - 2) * 3**0.5


def stored(x: np.ndarray, storage: str) -> np.ndarray:
    """As that dtype; bfloat16 as its raw bits."""
    if storage != "bfloat16":
        return x.astype(storage)
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def inputs(c: int, storage: str) -> dict[str, np.ndarray]:
    """Rows ordinary, peaked, masked, far off, infinite and with NaN; rows of probabilities; labels; weights."""
    n = CLASSES[c]
    rng = np.random.default_rng(c)
    shift = np.resize([0, 0, 30, -30, 80, -90, 1e4, -1e4], n)[:, None]
    a = bell(rng, (n, c))
    x, q = a * np.resize([1, 1, 5], n)[:, None] + shift, a + 0.1 * bell(rng, (n, c))
    q[::5, 0] += 12
    p, r, soft = rng.random((n, c)), rng.random((n, c)), rng.random((n, c))
    if n > 20:
        x[::7, 1] = -np.inf
        x[3, 0], x[5, 1], q[9, 0], q[11, 1] = np.inf, np.nan, np.nan, -np.inf
        p[4], p[6, 0], r[8, 1], r[13, 0], soft[2, 0] = 0, np.nan, 0, np.nan, np.nan
    found = {name: stored(v, storage) for name, v in (("x", x), ("q", q), ("p", p), ("r", r), ("soft", soft))}
    return found | {
        "y": rng.integers(0, c, n),
        "w": rng.choice([0.0, 0.5, 1.0, 3.75], c),
        "flags": rng.random((n, c)) < 0.5,
    }


def state(accumulator: object, *arrays: np.ndarray) -> np.ndarray:
    """An accumulator's state after one update, without what names the level."""
    accumulator.update(*arrays)  # type: ignore[attr-defined]
    return np.frombuffer(json.dumps(accumulator.state(), sort_keys=True).encode(), np.uint8)  # type: ignore[attr-defined]


def of_rows(a: dict[str, np.ndarray], storage: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Functions of rows of logits or of probabilities."""
    x, q, p, r, soft, y = (a[name] for name in ("x", "q", "p", "r", "soft", "y"))
    as_ = {"logits_dtype": "bfloat16"} if storage == "bfloat16" else {}
    none = {"reduction": "none", **as_}
    yield "labels", lambda: fx.cross_entropy(x, y, **none)
    yield "mean", lambda: fx.cross_entropy(x, y, a["w"], **as_)
    yield "smoothed", lambda: fx.cross_entropy(x, y, label_smoothing=0.1, **none)
    yield "gradient", lambda: fx.cross_entropy(x, y, return_grad=True, **none)[1]
    yield "entropy", lambda: fx.entropy(p, **as_)
    yield "entropy_with_logits", lambda: fx.entropy_with_logits(x, **as_)
    yield "nll", lambda: fx.nll_loss(q, y, **none)
    yield "kl", lambda: fx.kl_divergence(p, r, **as_)
    yield "js", lambda: fx.js_divergence(p, r, **as_)
    yield "kl_with_logits", lambda: fx.kl_divergence_with_logits(x, q, **as_)
    yield "kl_with_logits, back", lambda: fx.kl_divergence_with_logits(q, x, **as_)
    yield "js_with_logits", lambda: fx.js_divergence_with_logits(x, q, temperature=1.5, **as_)
    yield "evaluator", lambda: state(fx.Evaluator(**as_), x, y)
    yield "comparator", lambda: state(fx.Comparator(**as_), x, q, y)
    if storage == "bfloat16":
        return
    yield "soft", lambda: fx.cross_entropy(x, soft, **none)
    yield "soft gradient", lambda: fx.cross_entropy(x, soft, return_grad=True, **none)[1]
    yield "probabilities", lambda: fx.cross_entropy(p, r, from_logits=False, **none)
    for name in ("logsumexp", "softmax", "log_softmax"):
        yield name, lambda name=name: getattr(fx, name)(x, axis=1)
    yield "logsumexp, weights", lambda: fx.logsumexp(x, axis=1, b=r)
    yield "logsumexp, signs", lambda: fx.logsumexp(x, axis=1, b=q, return_sign=True)[0]
    for name in ("sigmoid", "log_sigmoid", "logit"):
        yield name, lambda name=name: getattr(fx, name)(p if name == "logit" else x)
    yield "surprisal", lambda: fx.surprisal(p)
    yield "binary", lambda: fx.binary_cross_entropy_with_logits(x, a["flags"], reduction="none")
    yield "binary gradient", lambda: fx.binary_cross_entropy_with_logits(q, soft, return_grad=True, reduction="none")[1]
    yield "binary mean", lambda: fx.binary_cross_entropy(r[:2], a["flags"][:2])


def of_tables() -> Iterator[tuple[str, Callable[[], object]]]:
    """Functions of labels and of joint tables, and the elementary functions."""
    rng = np.random.default_rng(7)
    one, two = rng.integers(0, 9, 20_000), rng.integers(0, 5, 20_000)
    table = fx.contingency_table(one, two)
    yield "contingency_table", lambda: table
    for name in ("joint_entropy", "conditional_entropy", "mutual_information"):
        yield name, lambda name=name: getattr(fx, name)(table)
    yield "mutual_info_score", lambda: fx.mutual_info_score(one, two)
    proba = rng.integers(1, 100, (500, 4)).astype(np.float64)
    proba /= proba.sum(1, keepdims=True)
    yield "log_loss", lambda: fx.log_loss(rng.integers(0, 4, 500), proba)
    x = np.concatenate([np.linspace(-800, 800, 2001), 2.0 ** np.arange(-1074, 1024), [0.0, -0.0, np.inf, np.nan]])
    for name in ("exp", "log", "log1p", "expm1"):

        def elementary(name: str = name) -> np.ndarray:
            y = np.empty_like(x)
            _dispatch.kernels.elementary(name, x, y)
            return y

        yield name, elementary


def results(few: bool) -> Iterator[tuple[str, str]]:
    """The name of every case, and the digest of its result."""
    yield from ((name, digest(function())) for name, function in of_tables())
    for c in FEW if few else CLASSES:
        for storage in STORAGES[: 1 if c == max(CLASSES) else 4]:
            arrays = inputs(c, storage)
            for name, function in of_rows(arrays, storage):
                yield f"{name}: {storage}, {c} classes", digest(function())
            if storage == "bfloat16":
                continue
            fortran = {name: np.asfortranarray(v) if v.ndim > 1 else v for name, v in arrays.items()}
            for name, function in of_rows(fortran, storage):
                yield f"{name}: {storage}, {c} classes, strided", digest(function())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("save", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--few", action="store_true", help="fewer sizes")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = json.loads(args.file.read_text()) if args.what == "compare" else {}
    print(f"fastxent {fx.__version__}, level {_dispatch.level}, format {_dispatch.row_format}", flush=True)
    found, other = {}, 0
    with np.errstate(all="ignore"):
        for name, bits in results(args.few):
            found[name] = bits
            if args.what == "compare":  # said at once: under an emulator a run may be cut short
                if bits != kept.get(name):
                    other += 1
                    print(f"differs: {name}", flush=True)
                if len(found) % 50 == 0:
                    print(f"{len(found)} results, {other} differ", flush=True)
    print(f"{len(found)} results")
    if args.what == "save":
        args.file.write_text(json.dumps(found, indent=0))
        return 0
    print(f"{other} differ" if other else "all of them as saved")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
