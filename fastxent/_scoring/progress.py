"""A progress bar with rate and time left: rich's where it is installed, plain text otherwise, nothing in a pipe."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def progress_bar(wanted: bool | Callable[[int, int], None], total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told of finished rows.

    Parameters
    ----------
    wanted
        A function, called with (rows done, all rows); True for a bar on a terminal's standard error; False for none.
    total
        All rows.
    what
        What is read.
    """
    what = Path(what).name
    if callable(wanted):
        report = wanted
        count = 0

        def tell(n: int) -> None:
            nonlocal count
            count += n
            report(count, total)

        yield tell
    elif wanted and sys.stderr is not None and sys.stderr.isatty():
        try:
            import rich.progress
        except ImportError:
            yield from _plain(total, what)
        else:
            import rich.console
            import rich.text

            class Rate(rich.progress.ProgressColumn):
                def render(self, task: rich.progress.Task) -> rich.text.Text:
                    return rich.text.Text(f"{task.completed:,.0f} rows, {task.speed or 0:,.0f} rows/s")

            with rich.progress.Progress(
                rich.progress.TextColumn("{task.description}", markup=False),
                rich.progress.BarColumn(),
                rich.progress.TaskProgressColumn(),
                Rate(),
                rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
                console=rich.console.Console(stderr=True),
                transient=True,
            ) as bar:
                task = bar.add_task(what, total=total)
                yield lambda n: bar.advance(task, n)
    else:
        yield lambda n: None


def _plain(total: int, what: str) -> Iterator[Callable[[int], None]]:
    start = shown = time.monotonic()
    width = shutil.get_terminal_size().columns - 1
    count = 0

    def tell(n: int) -> None:
        nonlocal count, shown
        count += n
        now = time.monotonic()
        if now - shown >= 0.2:
            shown = now
            rate = count / (now - start)
            left = (total - count) / rate
            text = f"{100 * count / max(1, total):3.0f} %, {rate:,.0f} rows/s, {left:.0f} s left, {what}"
            sys.stderr.write(f"\r{text:<{width}.{width}}")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r" + " " * width + "\r")
        sys.stderr.flush()
