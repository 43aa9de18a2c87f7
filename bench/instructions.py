"""Instructions that an element and that a call take, counted by valgrind's callgrind: what no noise of a machine moves.

python bench/instructions.py             # print them
python bench/instructions.py --check     # fail where one is more than 10 % above the kept one
python bench/instructions.py --save      # keep them, in bench/results/instructions.json
python bench/instructions.py --hard      # of the hard rows of workloads.py: how many times those of ordinary ones

Of an element what happens within a kernel's entry is counted, so neither Python nor NumPy enters; of a call all that
happens from the function's first line to its result. Counts depend on the compiler, a call's on Python and NumPy, too:
those of another one are not compared. callgrind cannot run AVX-512. What hard rows take beyond ordinary ones is what
the kernels do again: blocks whose largest lies far above the reference, rows that lanes leave to the kernel with
references.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import workloads

from fastxent._dispatch import usable_levels
from fastxent.config import config

KEPT = Path(__file__).parent / "results" / "instructions.json"
LEVELS = ("baseline", "avx2")
MOST = 1.1
# name: what makes x and y (of 2^16 elements or so), and the call
CASES = {
    "cross_entropy, 16 x 4096, float32": "x, y = normal(16, 4096), labels(16, 4096); fx.cross_entropy(x, y)",
    "cross_entropy, 8192 x 10, float32": "x, y = normal(8192, 10), labels(8192, 10); fx.cross_entropy(x, y)",
    "cross_entropy, (4, 16, 1024), float32": "x, y = normal(4, 16, 1024), labels(4, 16, 1024); fx.cross_entropy(x, y)",
    "softmax, 16 x 4096, float32": "x = normal(16, 4096); fx.softmax(x, axis=1)",
    "kl_divergence_with_logits, 16 x 4096, float32":
        "x = normal(16, 4096); fx.kl_divergence_with_logits(x, x + 0.1 * x[::-1])",
    "sigmoid, 65536, float32": "x = normal(65536); fx.sigmoid(x)",
    "entropy_with_logits, 8192 x 10, float32": "x = normal(8192, 10); fx.entropy_with_logits(x)",
}  # fmt: skip
HARD = {
    f"cross_entropy, {rows} x {classes}, {dtype}, {kind}":
        f"x, y = workload({rows}, {classes}, '{dtype}', '{kind}'); fx.cross_entropy(x, y)"
    for rows, classes, dtype in (
        (16, 32768, "float32"), (32, 16384, "float64"), (16, 32768, "bfloat16"),
        (512, 1000, "float32"), (4096, 100, "float32"), (40960, 10, "float32"),
    )
    for kind in workloads.KINDS
}  # fmt: skip
# calls of a few elements; what is counted is TIMES of them after the first, at the best level alone
CALLS = {
    "cross_entropy, 1 x 1000": "x, y = normal(1, 1000), labels(1, 1000); call = lambda: fx.cross_entropy(x, y)",
    "kl_divergence_with_logits, 32 x 10": "x, y = normal(2, 32, 10); call = lambda: fx.kl_divergence_with_logits(x, y)",
    "sigmoid, 320": "x = normal(320); call = lambda: fx.sigmoid(x)",
}
TIMES = 100
BEFORE = """
import numpy as np, fastxent as fx
fx.set_num_threads(1)
rng = np.random.default_rng(0)
normal = lambda *shape: rng.standard_normal(shape, np.float32)
labels = lambda *shape: rng.integers(0, shape[1], (shape[0], *shape[2:]))
def workload(rows, classes, dtype, kind):
    import workloads
    data = workloads.make(workloads.Case("", dtype, (rows, classes), kind), workloads.FULL_MB, 1)
    return data.x, data.labels
"""


def count(level: str, case: str) -> float:
    """Instructions an element, or a call."""
    # callgrind heeds the first of several patterns only
    within = "add_losses" if case.startswith("cross_entropy,") else "run"
    code = f"{BEFORE}{(CASES | HARD).get(case)}\nprint(x.size)"
    if case in CALLS:
        within = "*machine_*repeat"
        code = f"{BEFORE}{CALLS[case]}\ncall(); fx._dispatch.machine.repeat(call, {TIMES}); print({TIMES})"
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect=__pyx_pw_*{within}"]
    environment = {**os.environ, "FASTXENT_LEVEL": level, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(KEPT.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([*command, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None or not int(found[1]):
        raise SystemExit(f"{level}, {case}: nothing counted\n{done.stderr}")
    return round(int(found[1]) / int(done.stdout), 3)


def _key(level: str, case: str) -> str:
    python = f", Python {platform.python_version()}, NumPy {np.__version__}" if case in CALLS else ""
    return f"{level}: {case}{python}"


def count_all(jobs: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(jobs, pool.map(lambda job: count(*job), jobs), strict=True))


def print_hard(level: str) -> None:
    """A line for each shape: instructions an element of ordinary rows, and how many times as many of the others."""
    counts = count_all([(level, case) for case in HARD])
    ordinary, *kinds = workloads.KINDS
    print(f"{level:48s} {ordinary:>9s} " + " ".join(f"{kind:>8s}" for kind in kinds))
    for case in HARD:
        name, _, kind = case.rpartition(", ")
        if kind == ordinary:
            least = counts[level, case]
            times = (counts[level, f"{name}, {other}"] / least for other in kinds)
            print(f"{name:48s} {least:9.3f} " + " ".join(f"{t:8.2f}" for t in times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--hard", action="store_true")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is wanted: apt install valgrind")
    levels = [level for level in LEVELS if level in usable_levels()]
    if options.hard:
        print_hard(levels[-1])
        return
    counts = count_all(
        [*((level, case) for level in levels for case in CASES), *((levels[-1], case) for case in CALLS)]
    )
    compiler = str(config()["compiler"])
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before = kept.get(compiler, {})
    worse = []
    for (level, case), now in counts.items():
        then = before.get(_key(level, case))
        print(f"{level:9s} {case:48s} {now:10.3f}" + (f"  {now / then - 1:+.1%}" if then else ""))
        if then and now > MOST * then:
            worse.append(f"{level}: {case}: {now} instructions, {then} before")
    if options.save:
        kept[compiler] = {_key(level, case): now for (level, case), now in counts.items()}
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    if options.check and not before:
        print(f"nothing is kept for {compiler}: not compared")
    if options.check and worse:
        raise SystemExit("\n".join(worse))


if __name__ == "__main__":
    main()
