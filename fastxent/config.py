"""What this installation is: version, how it came here, level, OpenMP, threads: what a bug report wants."""

from __future__ import annotations

import json
import platform
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from fastxent import _dispatch
from fastxent._cpus import available_cpus
from fastxent._kernels import machine
from fastxent._threads import get_num_threads
from fastxent._version import __version__


def _openmp_libraries() -> list[str]:
    """OpenMP runtimes in this process, ours and other packages' (a wheel brings its own): Linux tells them."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    return sorted(set(re.findall(r"/\S*/(lib(?:gomp|i?omp5?)(?:-[^/\s]*)?\.so[^/\s]*)", maps)))


def _libc() -> str:
    # elsewhere than on glibc platform gives empty strings, or the version of a library that is there for others
    return " ".join(platform.libc_ver()).strip() if platform.system() == "Linux" else ""


def _installed() -> str:
    """By which installer, from which kind of wheel."""
    try:
        package = distribution("fastxent")
    except PackageNotFoundError:
        return "no: a source tree built in place"
    words = [(package.read_text("INSTALLER") or "unknown installer").strip()]
    words += re.findall(r"^Tag: (.+)$", package.read_text("WHEEL") or "", re.MULTILINE)
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        words.append("editable")
    elif origin:
        words.append("from a local folder" if "dir_info" in origin else "from a file or an address")
    return " ".join(words)


def config() -> dict[str, str | int | list[str]]:
    """The facts that `show_config` prints, JSON-able."""
    return {
        "fastxent": __version__,
        "installed": _installed(),
        "python": f"{platform.python_version()} {platform.python_implementation()}",
        "numpy": np.__version__,
        "system": " ".join(w for w in (platform.system(), platform.machine(), platform.release(), _libc()) if w),
        "cpu": machine.cpu_name() or platform.processor() or "unknown",
        "level": _dispatch.level,
        "levels_built": list(_dispatch.built_levels()),
        "levels_usable": list(_dispatch.usable_levels()),
        "row_format": _dispatch.row_format,
        "compiler": machine.compiler(),
        "openmp": machine.openmp_version() or "none",
        "openmp_runtimes": _openmp_libraries() or ["unknown"],
        "cpus": available_cpus(),
        "threads": get_num_threads(),
    }


def show_config() -> None:
    """Print version, CPU, level, levels built and usable, OpenMP and threads; put it into a bug report.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.show_config()  # doctest: +ELLIPSIS
    fastxent        ...
    """
    for name, value in config().items():
        print(f"{name:<15} {', '.join(value) if isinstance(value, list) else value}")
