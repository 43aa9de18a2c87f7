"""The one set of kernels that this process uses, chosen at import by what the CPU can run.

``FASTXENT_LEVEL`` picks another one and fails where the CPU lacks it, for a wrong guess would end in an illegal
instruction. A level's module is imported after the check only, for all of its code uses the level's instructions.
"""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType

try:
    from fastxent._kernels import machine
except ImportError as error:  # pragma: no cover - only in a source tree that was not built
    raise ImportError(
        "the compiled kernels of fastxent are missing; in a source tree build them with `pip install .` "
        "(or `python setup.py build_ext --inplace`)"
    ) from error

# best first
LEVELS = ("avx512", "avx2", "baseline")
# levels that only the tests use, and what the CPU must have for them (setup.py, FASTXENT_TEST_LEVELS)
TEST_LEVELS = {"fma128": "avx2", "fma512": "avx2"}


def built_levels() -> tuple[str, ...]:
    """Levels whose module is there, best first; the test levels last."""
    return tuple(
        name for name in (*LEVELS, *TEST_LEVELS) if importlib.util.find_spec(f"fastxent._kernels.{name}") is not None
    )


def usable_levels() -> tuple[str, ...]:
    """Built levels that this CPU and operating system can run, best first; the test levels last."""
    return tuple(name for name in built_levels() if machine.cpu_has(TEST_LEVELS.get(name, name)))


def load_level(name: str) -> ModuleType:
    """The kernels of one level. The imports are written out, so that a packager's tools see them."""
    level: ModuleType
    if name == "avx512":
        import fastxent._kernels.avx512 as level
    elif name == "avx2":
        import fastxent._kernels.avx2 as level
    elif name == "baseline":
        import fastxent._kernels.baseline as level
    elif name == "fma128":
        import fastxent._kernels.fma128 as level
    elif name == "fma512":
        import fastxent._kernels.fma512 as level
    else:
        raise ValueError(f"no level {name!r}; levels are {', '.join(LEVELS)}")
    return level


def _choose() -> str:
    usable = usable_levels()
    wanted = os.environ.get("FASTXENT_LEVEL", "").strip()
    if not usable:  # built for a level of its own machine alone, and brought to another
        raise ImportError(
            f"none of the levels that are built runs on this CPU: {', '.join(built_levels()) or 'none is built'}",
            name="fastxent",
        )
    if not wanted:
        return usable[0]
    # with the package's name `python -m fastxent` says it in one line, without a traceback
    if wanted not in (*LEVELS, *TEST_LEVELS):
        raise ImportError(f"FASTXENT_LEVEL is {wanted!r}, but levels are {', '.join(LEVELS)}", name="fastxent")
    if wanted not in usable:
        why = "is not built" if wanted not in built_levels() else "needs instructions that this CPU lacks"
        raise ImportError(
            f"FASTXENT_LEVEL is {wanted!r}, but that level {why}; usable here: {', '.join(usable)}",
            name="fastxent",
        )
    return wanted


level: str = _choose()
kernels: ModuleType = load_level(level)
# states of accumulators may be merged where their rows were computed to the same bits
row_format: str = f"{kernels.row_format}{'' if kernels.fused else '-baseline'}"
