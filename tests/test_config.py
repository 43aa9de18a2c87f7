"""show_config and the threads: what was said, the environment, the CPUs, and others' limits, in that order."""

import json
import os
import platform
import re
import threading

import numpy as np
import pytest
from child import run_python

import fastxent as fx
from fastxent import _dispatch, _threads
from fastxent._kernels import machine
from fastxent.config import config

needs_openmp = pytest.mark.skipif(not machine.openmp_version(), reason="built without OpenMP: one thread always")
THREADS = "import fastxent; print(fastxent.get_num_threads())"


@pytest.fixture(autouse=True)
def default_threads():
    fx.set_num_threads(None)
    yield
    fx.set_num_threads(None)


def run(code, **environment):
    """What a fresh Python prints, with these variables and no others about threads and levels."""
    names = ("FASTXENT_NUM_THREADS", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "FASTXENT_LEVEL")
    return run_python(code, **(dict.fromkeys(names) | environment))


def threads_of(code=THREADS, **environment):
    process = run(code, **environment)
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


# ---- show_config ----


def test_every_fact_is_printed(capsys):
    fx.show_config()
    lines = capsys.readouterr().out.splitlines()
    printed = dict(re.fullmatch(r"(\w+) +(.*)", line).groups() for line in lines)
    facts = config()
    assert list(printed) == list(facts)
    for name, value in facts.items():
        assert printed[name] == (", ".join(value) if isinstance(value, list) else str(value))
        assert printed[name].strip()


def test_the_facts_are_true():
    facts = config()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["fastxent"] == fx.__version__
    assert facts["python"].split()[0] == platform.python_version()
    assert facts["system"].startswith(f"{platform.system()} {platform.machine()}")
    assert facts["numpy"] == np.__version__
    assert facts["level"] == _dispatch.level
    assert facts["level"] in facts["levels_usable"]
    assert set(facts["levels_usable"]) <= set(facts["levels_built"])
    assert "baseline" in facts["levels_built"]
    assert facts["row_format"].partition("-")[0] == str(_dispatch.kernels.row_format)
    assert 1 <= facts["cpus"] <= os.cpu_count()
    assert facts["threads"] == fx.get_num_threads()


@needs_openmp
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system has no /proc")
def test_the_openmp_runtime_is_named():
    runtimes = config()["openmp_runtimes"]
    assert any(re.match(r"lib(gomp|i?omp)", name) for name in runtimes), runtimes


def test_how_it_was_installed():
    installed = config()["installed"]
    assert re.match(r"no: a source tree|\S+ cp3\d+-cp3\d+t?-\S+|pip .*editable", installed), installed


@needs_openmp
def test_the_threads_printed_are_those_of_now(capsys):
    with fx.num_threads(3):
        fx.show_config()
    assert re.search(r"^threads +3$", capsys.readouterr().out, re.MULTILINE)


def test_the_level_printed_is_the_one_chosen():
    for level in _dispatch.usable_levels():
        output = run("import fastxent; fastxent.show_config()", FASTXENT_LEVEL=level).stdout
        assert re.search(rf"^level +{level}$", output, re.MULTILINE)


@pytest.mark.parametrize("level", ["sse9", "AVX2", "avx2,baseline", "auto"])
def test_an_unknown_level_fails(level):
    process = run("import fastxent", FASTXENT_LEVEL=level)
    assert process.returncode == 1
    assert "ImportError" in process.stderr
    assert f"FASTXENT_LEVEL is '{level}'" in process.stderr


def test_a_level_that_cannot_run_here_fails():
    missing = [level for level in _dispatch.LEVELS if level not in _dispatch.usable_levels()]
    if not missing:
        pytest.skip("this CPU can run every level")
    process = run("import fastxent", FASTXENT_LEVEL=missing[0])
    assert process.returncode == 1
    assert re.search(rf"ImportError: FASTXENT_LEVEL is '{missing[0]}', .*baseline", process.stderr)


def test_no_level_that_runs_here(monkeypatch):
    monkeypatch.setattr(_dispatch, "usable_levels", lambda: ())
    with pytest.raises(ImportError, match=r"none of the levels that are built runs on this CPU: \w+"):
        _dispatch._choose()


# ---- Threads ----


@needs_openmp
def test_the_number_set_holds():
    before = fx.get_num_threads()
    for n in (1, 2, 7, np.int64(3), np.uint8(5)):
        fx.set_num_threads(n)
        assert fx.get_num_threads() == n
        assert type(fx.get_num_threads()) is int
    fx.set_num_threads(None)
    assert fx.get_num_threads() == before


@pytest.mark.parametrize(
    ("kind", "n"),
    [(ValueError, 0), (ValueError, -1), (ValueError, 2**31), (ValueError, 2**70)]
    + [(TypeError, n) for n in (True, 1.0, "2", [2], np.float64(2), (1, 2))],
    ids=str,
)
def test_a_bad_number_changes_nothing(kind, n):
    fx.set_num_threads(2)
    before = fx.get_num_threads()
    with pytest.raises(kind, match=r"^the number of threads must be "):
        fx.set_num_threads(n)
    with pytest.raises(kind, match=r"^the number of threads must be "), fx.num_threads(n):
        pytest.fail("the block was entered")
    assert fx.get_num_threads() == before


@needs_openmp
def test_blocks_nest():
    default = fx.get_num_threads()
    with fx.num_threads(3):
        assert fx.get_num_threads() == 3
        with fx.num_threads(1):
            assert fx.get_num_threads() == 1
            with fx.num_threads(None):
                assert fx.get_num_threads() == default
            fx.set_num_threads(5)
            assert fx.get_num_threads() == 5
        assert fx.get_num_threads() == 3
        with pytest.raises(KeyError), fx.num_threads(2):
            raise KeyError
        assert fx.get_num_threads() == 3
    assert fx.get_num_threads() == default


@needs_openmp
def test_the_number_belongs_to_the_process():
    seen = []
    with fx.num_threads(3):
        thread = threading.Thread(target=lambda: seen.append(fx.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [3]


def test_the_number_changes_no_result():
    x = np.random.default_rng(0).normal(size=(600, 999)).astype(np.float32)
    target = np.arange(600)
    results = set()
    for n in (1, 2, 3, 16, 1024):
        with fx.num_threads(n):
            results.add((fx.cross_entropy(x, target), fx.logsumexp(x, 1).tobytes(), fx.softmax(x, 0).tobytes()))
    assert len(results) == 1


@needs_openmp
@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FASTXENT_NUM_THREADS": "3"}, 3),
        ({"FASTXENT_NUM_THREADS": " 3 "}, 3),
        ({"FASTXENT_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"FASTXENT_NUM_THREADS": "5", "OMP_NUM_THREADS": "1"}, 5),
        ({"FASTXENT_NUM_THREADS": "1", "OMP_NUM_THREADS": "5"}, 1),
        ({"FASTXENT_NUM_THREADS": "many", "OMP_NUM_THREADS": "3"}, 3),
    ],
    ids=str,
)
def test_the_environment_is_asked(environment, threads):
    assert threads_of(**environment) == threads


@pytest.mark.parametrize("name", ["FASTXENT_NUM_THREADS", "OMP_NUM_THREADS"])
def test_garbage_in_the_environment_is_passed_over(name, monkeypatch):
    for value in ("", "many", "0", "-3", "3.5", "1e3", ",4", "\u00b2", "2 3"):
        monkeypatch.setenv(name, value)
        assert _threads._from_environment(name) is None, value
    for value in ("many", "2 3"):
        assert threads_of(**{name: value}) == threads_of(), value


def test_a_huge_number_in_the_environment_can_compute():
    """OpenMP would end the process where it cannot create a thread."""
    code = "import numpy, fastxent; print(int(fastxent.cross_entropy(numpy.zeros((999, 999)), [0] * 999)))"
    assert threads_of(code, FASTXENT_NUM_THREADS="99999999999") == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_the_default_is_the_cpus_that_may_be_used():
    assert threads_of("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + THREADS) == 1
    assert threads_of() <= len(os.sched_getaffinity(0))


@needs_openmp
def test_what_was_said_goes_before_the_environment():
    code = "import fastxent\nfastxent.set_num_threads(3)\nprint(fastxent.get_num_threads())"
    assert threads_of(code, FASTXENT_NUM_THREADS="2", OMP_NUM_THREADS="4") == 3
    code = code.replace("print", "fastxent.set_num_threads(None)\nprint")
    assert threads_of(code, FASTXENT_NUM_THREADS="2", OMP_NUM_THREADS="4") == 2


@needs_openmp
def test_threadpoolctls_limits_hold():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="puts a limit on OpenMP")
    before = fx.get_num_threads()
    with threadpoolctl.threadpool_limits(1), fx.num_threads(4):
        assert fx.get_num_threads() == 1
    assert fx.get_num_threads() == before
