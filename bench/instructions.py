"""Instructions that an element and that a call take, counted by valgrind's callgrind: what no noise of a machine moves.

python bench/instructions.py             # print them
python bench/instructions.py --check     # fail where one is more than 10 % above the kept one
python bench/instructions.py --save      # keep them, in bench/results/instructions.json

Of an element what happens within a kernel's entry is counted, so neither Python nor NumPy enters; of a call all that
happens from the function's first line to its result. Counts depend on the compiler, a call's on Python and NumPy, too:
those of another one are not compared. callgrind cannot run AVX-512.
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
"""


def count(level: str, case: str) -> float:
    """Instructions an element, or a call."""
    within, code = "run", f"{BEFORE}{CASES.get(case)}\nprint(x.size)"
    if case in CALLS:
        within = "*machine_*repeat"
        code = f"{BEFORE}{CALLS[case]}\ncall(); fx._dispatch.machine.repeat(call, {TIMES}); print({TIMES})"
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--toggle-collect=__pyx_pw_*{within}"]
    environment = {**os.environ, "FASTXENT_LEVEL": level, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run([*command, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None or not int(found[1]):
        raise SystemExit(f"{level}, {case}: nothing counted\n{done.stderr}")
    return round(int(found[1]) / int(done.stdout), 3)


def _key(level: str, case: str) -> str:
    python = f", Python {platform.python_version()}, NumPy {np.__version__}" if case in CALLS else ""
    return f"{level}: {case}{python}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is wanted: apt install valgrind")
    levels = [level for level in LEVELS if level in usable_levels()]
    jobs = [*((level, case) for level in levels for case in CASES), *((levels[-1], case) for case in CALLS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(jobs, pool.map(lambda job: count(*job), jobs), strict=True))
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
