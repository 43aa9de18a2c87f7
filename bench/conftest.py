"""Options of the benchmarks, and the `measure` fixture: check the result, then time it, then write down the figures."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import peers
import pytest
import regimes
import truth
import workloads
from settings import Settings, settings_for
from workloads import Case, Data
from yardstick import Copy, PeakMemory, Read, alternate, rounds_for


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastxent")
    group.addoption("--bench-mb", type=int, default=workloads.FULL_MB, help="size of the logits in MB (default: 512)")
    group.addoption("--bench-threads", type=int, default=None, help="threads for all libraries (default: fastxent's)")
    group.addoption("--bench-rounds", type=int, default=None, help="rounds, of which the best counts (default: 9)")


MEASURED = pytest.StashKey[list[dict[str, Any]]]()


def pytest_configure(config: pytest.Config) -> None:
    # a bare `pytest bench` finds them, too
    config.addinivalue_line("python_files", "bench_*.py")
    # said of those that are skipped
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used at all")
    # the table of regimes stands for the plugin's tables of milliseconds, which -v brings back
    if hasattr(config.option, "benchmark_quiet"):
        config.option.benchmark_quiet = True
    config.stash[MEASURED] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of regimes."""
    rows = [row for row in config.stash[MEASURED] if "fraction" in row]
    if rows:
        terminalreporter.section("regimes")
        terminalreporter.write_line(regimes.columns(rows, rows[0]["level"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By data, so that each array is made once for all operations and libraries."""
    order = {case: i for i, case in enumerate(workloads.ALL_CASES)}

    def place(item: pytest.Item) -> int:
        spec = getattr(item, "callspec", None)
        return order.get(spec.params.get("case"), -1) if spec else -1

    items.sort(key=place)


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    option = pytestconfig.getoption
    module, _, name = option("--benchmark-timer").rpartition(".")
    clock = getattr(importlib.import_module(module), name)
    made = settings_for(option("--bench-mb"), option("--bench-threads"), option("--bench-rounds"), clock)
    if clock is time.process_time and made.threads != 1:
        raise pytest.UsageError("time.process_time adds up the threads' times: --bench-threads 1 goes with it")
    peers.set_threads(made.threads)
    return made


@pytest.fixture
def data(case: Case, settings: Settings) -> Data:
    return workloads.make(case, settings.mb, settings.threads)


@pytest.fixture
def measure(
    benchmark: Any, data: Data, library: str, settings: Settings, pytestconfig: pytest.Config
) -> Callable[..., None]:
    def run(
        operation: str,
        function: Callable[[], Any],
        *,
        error: Callable[[Any], float],
        limit: float,
        nbytes: int,
        yardstick: Read | Copy,
    ) -> None:
        """Measure a function that reads (and writes) `nbytes`; its result may have a relative error of `limit`."""
        result = function()
        # a wrong result may not pose as a fast one
        worst = error(result)
        del result
        allowed = limit if library == "fastxent" else max(limit, truth.PEER_LIMIT.get(data.case.dtype, limit))
        assert worst <= allowed, f"worst relative error {worst:.3g}, allowed {allowed:.3g}"

        # the first call may have compiled
        start = time.perf_counter()
        function()
        rounds = rounds_for(time.perf_counter() - start, settings.rounds)
        benchmark.group = f"{operation} {data.case}"
        with PeakMemory() as memory:
            figures = alternate(benchmark, function, yardstick, nbytes, rounds, settings.clock)
        benchmark.extra_info.update(
            operation=operation,
            library=library,
            library_version=peers.library_version(library, settings.version),
            shape="x".join(map(str, data.x.shape)),
            dtype=data.case.dtype,
            data=data.case.kind,
            correct=worst <= limit,
            worst_relative_error=worst,
            peak_extra_mb=memory.extra,
            threads=settings.threads,
            library_threads=1 if library in peers.SINGLE_THREADED else settings.threads,
            clock=settings.clock.__name__,
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            bench_mb=settings.mb,
            fastxent=settings.version,
            level=settings.level,
            cpu=settings.cpu,
            **figures,
        )
        pytestconfig.stash[MEASURED].append(dict(benchmark.extra_info))

    return run
