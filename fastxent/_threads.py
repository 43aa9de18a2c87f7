"""How many threads a call uses, and the fork guard.

The number is, in this order: what `set_num_threads` or `num_threads` said, ``FASTXENT_NUM_THREADS``,
``OMP_NUM_THREADS``, the CPUs that this process may use (affinity and cgroup quota). A limit that somebody puts on
OpenMP later, as threadpoolctl does, holds on top of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastxent._kernels import machine

# more than this is a slip, and OpenMP ends the process where it cannot make a thread
MOST_THREADS = 1024

_chosen: int | None = None
_here = threading.local()  # what `one_thread` says of this Python thread
# what OpenMP would use by itself; a smaller number later is a limit that somebody has put on it
_openmp_at_import = machine.openmp_max_threads()


def _from_environment(name: str) -> int | None:
    # OMP_NUM_THREADS may be a list, one number a nesting level
    text = os.environ.get(name, "").split(",")[0].strip()
    return min(int(text), MOST_THREADS) if text.isdecimal() and int(text) > 0 else None


def _cgroup_quota() -> int | None:
    """CPUs that the control group's quota amounts to, rounded up (Linux, cgroup v2 and v1)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return max(1, -(-int(quota) // int(period))) if int(quota) > 0 else None
    except ValueError:  # "max"
        return None


def available_cpus() -> int:
    """CPUs that this process may use."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, _cgroup_quota() or cpus))


_default = _from_environment("FASTXENT_NUM_THREADS") or _from_environment("OMP_NUM_THREADS") or available_cpus()


def get_num_threads() -> int:
    """Number of threads that a call uses now.

    Examples
    --------
    >>> import fastxent as fx
    >>> with fx.num_threads(1):
    ...     fx.get_num_threads()
    1
    """
    if not machine.openmp_version() or getattr(_here, "one", False):
        return 1
    wanted = _chosen or _default
    limit = machine.openmp_max_threads()
    return min(wanted, limit) if limit < _openmp_at_import else wanted


def set_num_threads(n: int | None) -> None:
    """Set the number of threads of all later calls of this process; None goes back to the default.

    No result depends on it.

    Parameters
    ----------
    n
        From 1 to 1024. More than there are CPUs is allowed.

    Raises
    ------
    ValueError
        For n < 1 or n > 1024.
    TypeError
        For anything but an integer or None.

    Examples
    --------
    >>> import fastxent as fx
    >>> fx.set_num_threads(2)
    >>> fx.set_num_threads(None)
    """
    global _chosen
    if n is not None:
        if not hasattr(n, "__index__") or isinstance(n, bool):
            raise TypeError(f"the number of threads must be an integer or None, got {type(n).__name__}")
        n = n.__index__()
        if n < 1:
            raise ValueError(f"the number of threads must be at least 1, got {n}")
        if n > MOST_THREADS:
            raise ValueError(f"the number of threads must be at most {MOST_THREADS}, got {n}")
    _chosen = n


@contextmanager
def num_threads(n: int | None) -> Iterator[None]:
    """Use n threads within a ``with`` block. The number belongs to the process, not to a Python thread.

    Examples
    --------
    >>> import fastxent as fx
    >>> with fx.num_threads(2):
    ...     fx.get_num_threads()
    2
    """
    before = _chosen
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Calls of this Python thread use one thread, whatever the process's number.

    For tasks that a scheduler runs beside each other: `num_threads` belongs to the process, and the first task to leave
    it would give the number back to all the others.
    """
    before = getattr(_here, "one", False)
    _here.one = True
    try:
        yield
    finally:
        _here.one = before


@contextmanager
def default_floats() -> Iterator[None]:
    """Compute with default rounding and with subnormals, whatever another library has set, for what NumPy adds up."""
    before = machine.swap_fp_control()
    try:
        yield
    finally:
        machine.swap_fp_control(before)


# A forked child has none of the threads of OpenMP's pool and would wait for them for ever (libgomp): give them up first
if hasattr(os, "register_at_fork") and machine.openmp_version():
    os.register_at_fork(before=machine.pause_openmp)
