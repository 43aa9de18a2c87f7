"""Parts of a work in Python threads beside each other: for what NumPy and the kernels do without holding the GIL."""

from __future__ import annotations

import threading
from collections.abc import Callable


def side_by_side(count: int, work: Callable[[int, int], None], threads: int) -> None:
    """Call ``work(worker, i)`` for each i below `count`; who asks next gets the next one, and `worker` says who it is.

    The caller is worker 0; where the system makes no more threads, fewer work. Of the errors of several parts that of
    the first is raised, as one after the other would have it; an error or an interrupt ends it all as soon as the parts
    that are under way are done.

    Examples
    --------
    >>> from fastxent._passes.side_by_side import side_by_side
    >>> done = [0, 0, 0, 0]
    >>> def work(worker, i):
    ...     done[i] += i * i
    >>> side_by_side(4, work, 2)
    >>> done
    [0, 1, 4, 9]
    """
    lock = threading.Lock()
    places = iter(range(count))
    errors: dict[int, BaseException] = {}
    ended = threading.Event()

    def go(worker: int) -> None:
        while not ended.is_set():
            with lock:
                i = next(places, None)
            if i is None:
                return
            try:
                work(worker, i)
            except BaseException as error:
                errors[i] = error
                ended.set()

    others: list[threading.Thread] = []
    try:
        for worker in range(1, min(threads, count)):
            thread = threading.Thread(target=go, args=(worker,), name="fastxent-side-by-side", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # "can't start new thread"
                break
            others.append(thread)
        go(0)
        for thread in others:
            thread.join()
    finally:
        ended.set()  # of an interrupt between two lines; nobody wants what the others still find
    if errors:
        # an interrupt before all errors
        raise errors[min(errors, key=lambda i: (isinstance(errors[i], Exception), i))]
