"""How many threads a call uses, and the fork guard.

The number is, in this order: what `set_num_threads` or `num_threads` said, ``FASTXENT_NUM_THREADS``,
``OMP_NUM_THREADS``, the CPUs that this process may use (affinity and cgroup quota). A limit that somebody puts on
OpenMP later, as threadpoolctl does, holds on top of it. Python threads that compute at the same time share the number.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from fastxent._cpus import available_cpus
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


_from_variables = _from_environment("FASTXENT_NUM_THREADS") or _from_environment("OMP_NUM_THREADS")


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
    wanted = _chosen or _from_variables or available_cpus()
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


class _Budget:
    """Threads that are computing now, by the Python thread (its ident) that called."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken: dict[int, int] = {}


_budget = _Budget()


class taking:
    """Threads for one call of the kernels: of the process's number a fair share of what other Python threads leave.

    Every caller has its own thread at least, so that n callers use n - 1 threads more than the number at most, and not
    n times as many. Entries are by Python thread, and the next call of a thread replaces its entry: one that an
    interrupt left behind does no harm.

    Parameters
    ----------
    most
        None for the process's number; 1 for a call that is too short to be counted.

    Examples
    --------
    >>> with taking(1) as threads:
    ...     threads
    1
    """

    __slots__ = ("_budget", "_me", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._budget: _Budget | None = None

    def __enter__(self) -> int:
        if self._most == 1:
            return 1
        number = get_num_threads()
        me = self._me = threading.get_ident()
        budget = self._budget = _budget
        got = number if self._most is None else min(number, self._most)
        with budget.lock:
            budget.taken.pop(me, None)
            if budget.taken:
                others = tuple(budget.taken.values())
                got = max(1, min(got, number // (len(others) + 1), number - sum(others)))
            budget.taken[me] = got
        return got if got <= getattr(_here, "possible", 1) else _possible(got)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._budget is not None:
            self._budget.taken.pop(self._me, None)


def _possible(threads: int) -> int:
    """How many of these threads can be there, tried once a Python thread: each has its own pool of OpenMP's.

    Where memory or the number of processes is limited, fewer threads compute the same bits; OpenMP would end the
    process.
    """
    found: int = machine.threads_possible(threads)
    if found == threads:
        _here.possible = threads
    return found


def _before_fork() -> None:
    # a forked child has none of the threads of OpenMP's pool and would wait for them for ever (libgomp): give them up
    machine.pause_openmp()
    _here.possible = 1


def _in_the_child() -> None:
    # other threads are not here: neither is what they had taken, nor who would open the lock
    global _budget
    _budget = _Budget()


if hasattr(os, "register_at_fork"):
    if machine.openmp_version():
        os.register_at_fork(before=_before_fork)
    os.register_at_fork(after_in_child=_in_the_child)
