"""What this installation is: version, level, OpenMP, threads."""

from __future__ import annotations

import platform

import numpy as np

from fastxent import _dispatch
from fastxent._cpus import available_cpus
from fastxent._kernels import machine
from fastxent._threads import get_num_threads
from fastxent._version import __version__


def config() -> dict[str, str | int | list[str]]:
    """The facts that `show_config` prints, JSON-able."""
    return {
        "fastxent": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": machine.cpu_name() or platform.processor(),
        "level": _dispatch.level,
        "levels_built": list(_dispatch.built_levels()),
        "levels_usable": list(_dispatch.usable_levels()),
        "row_format": _dispatch.row_format,
        "compiler": machine.compiler(),
        "openmp": machine.openmp_version() or "none",
        "cpus": available_cpus(),
        "threads": get_num_threads(),
    }


def show_config() -> None:
    """Print version, CPU, level, levels built and usable, OpenMP and threads; put it into a bug report.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.show_config()  # doctest: +ELLIPSIS
    fastxent      ...
    """
    for name, value in config().items():
        print(f"{name:<13} {', '.join(value) if isinstance(value, list) else value}")
