"""Valgrind's memcheck over calls of every public function: reads of what nobody wrote, and results that nobody wrote.

    python tools/memcheck.py [--cases N] [--levels avx2,baseline]

Of valgrind's errors those count that have a frame in one of fastxent's kernels, and those of bytes of a result that are
not initialised (tests/guarded.py writes all results to the null device, where valgrind looks at them). Others are
CPython's and NumPy's own. Ends with status 1 where any is left.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# a row that fills nothing, vectors, a run and a bit; few, for valgrind takes 50 times the time
CLASSES = ("1", "3", "10", "33", "130", "300")


def ours(error: ET.Element) -> bool:
    """Whether an error stands in a kernel or in a result."""
    objects = [frame.findtext("obj") or "" for frame in error.iter("frame")]
    return any("fastxent" in name for name in objects) or error.findtext("kind") == "SyscallParam"


def check(level: str, cases: int) -> int:
    """Number of errors that count; prints them."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "errors.xml"
        command = [
            "valgrind", "--tool=memcheck", "--error-limit=no", "--show-leak-kinds=none", "--xml=yes",
            f"--xml-file={found}", sys.executable, str(ROOT / "tests" / "guarded.py"),
            "--cases", str(cases), "--write", "--classes", *CLASSES,
        ]  # fmt: skip
        environment = {**os.environ, "FASTXENT_LEVEL": level, "PYTHONMALLOC": "malloc"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr[-3000:])
            return 1
        errors = ET.parse(found).getroot().findall("error")
        bad = [error for error in errors if ours(error)]
        for error in bad[:10]:
            print(error.findtext("kind"), error.findtext("what") or error.findtext("xwhat/text"))
            for frame in list(error.iter("frame"))[:6]:
                print("   ", *(frame.findtext(what) for what in ("fn", "file", "line", "obj")))
        others = len(errors) - len(bad)
        print(f"{level}: {done.stdout.split()[0]} calls, {len(bad)} errors, {others} of other libraries")
        return len(bad)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=130)
    parser.add_argument("--levels", default="avx2,baseline")
    args = parser.parse_args()
    return min(1, sum([check(level, args.cases) for level in args.levels.split(",")]))


if __name__ == "__main__":
    sys.exit(main())
