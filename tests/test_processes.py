"""Processes and threads: forks, pools of workers, many Python threads at once, limits, and the libraries beside us."""

import importlib.util
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from child import PACKAGE, run_python

import fastxent as fx
import fastxent.report
from fastxent import _cpus, _threads
from fastxent._kernels import machine
from fastxent._threads import taking

needs_openmp = pytest.mark.skipif(not machine.openmp_version(), reason="built without OpenMP: one thread always")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="written for Linux")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def missing(*modules):
    return any(importlib.util.find_spec(name) is None for name in modules)


def run(code, **environment):
    """What a fresh Python prints; a crash, a hang or an error fails the test."""
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


# ---- forks after use ----

WORK = """
import warnings
import numpy as np, fastxent as fx
fx.set_num_threads(4)
x = np.random.default_rng(0).normal(size=(64, 8192)).astype(np.float32)
y = np.arange(64)
def work(i):
    many = y.repeat(2000)
    return fx.logsumexp(x, axis=1).tobytes(), fx.cross_entropy(x, y), fx.contingency_table(many, many).tobytes()
want = work(0)
warnings.simplefilter("ignore")  # Python's own about forks beside threads
"""


@needs_fork
def test_multiprocessing_forks():
    code = f"""{WORK}
import multiprocessing, os
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(6), chunksize=1) == [want] * 6
assert work(0) == want
# a child of a child, and a fork out of a thread other than the first
def deeper():
    child = os.fork()
    if child == 0:
        assert work(0) == want
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if work(0) == want else 3)
        os._exit(os.waitpid(grandchild, 0)[1] >> 8)
    status.append(os.waitpid(child, 0)[1])
import threading
status = []
thread = threading.Thread(target=deeper)
thread.start(), thread.join()
print(status)
"""
    assert run(code) == "[0]"


@needs_fork
def test_a_fork_while_another_thread_computes():
    """The child has neither that thread nor what it had taken of the budget, nor a lock that it held."""
    code = f"""{WORK}
import os, threading
stop = threading.Event()
def busy():
    while not stop.is_set():
        work(0)
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
from fastxent import _threads
for _ in range(10):
    child = os.fork()
    if child == 0:
        ok = not _threads._budget.taken and not _threads._budget.lock.locked() and work(0) == want
        os._exit(0 if ok else 3)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
print("ok")
"""
    assert run(code) == "ok"


@needs_fork
@pytest.mark.skipif(missing("joblib"), reason="joblib is not installed")
def test_joblib(tmp_path):
    (tmp_path / "joblib_work.py").write_text(WORK)
    code = """
        import joblib, joblib_work as w
        if __name__ == "__main__":
            for backend in ("loky", "multiprocessing", "threading"):
                found = joblib.Parallel(2, backend=backend)(joblib.delayed(w.work)(i) for i in range(4))
                assert found == [w.want] * 4, backend
            assert w.work(0) == w.want
            print("ok")
    """
    assert run(code, PYTHONPATH=f"{PACKAGE.parent}{os.pathsep}{tmp_path}") == "ok"


# ---- many Python threads ----


@needs_openmp
def test_many_threads_get_the_same_bits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2000)).astype(np.float32), rng.integers(0, 2000, 200)
    table = rng.integers(0, 9, (2, 100_000))

    def everything(_):
        return (
            fx.cross_entropy(x, y), fx.logsumexp(x, 0).tobytes(), fx.softmax(x, 1).tobytes(),
            fx.kl_divergence_with_logits(x, x[::-1]).tobytes(), fx.cross_entropy(x, np.abs(x)),
            fx.contingency_table(*table).tobytes(), fx.evaluate(x, y).cross_entropy, fx.nll_loss(x, y),
            fx.binary_cross_entropy_with_logits(x, np.abs(x) > 1),
            fx.logsumexp(x, 1, b=x, return_sign=True)[0].tobytes(),
        )  # fmt: skip

    with fx.num_threads(1):
        want = everything(0)
    with fx.num_threads(4), ThreadPoolExecutor(6) as pool:
        assert list(pool.map(everything, range(18))) == [want] * 18
    assert not _threads._budget.taken


def together(callers, number, most=None):
    """What so many Python threads get that compute at once, and what they get in a second call."""
    first, second, barrier = [], [], threading.Barrier(callers)

    def call(_):
        with taking(most) as threads:
            first.append(threads)
            barrier.wait()
        barrier.wait()
        with taking(most) as threads:
            second.append(threads)
            barrier.wait()

    with fx.num_threads(number), ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    return sorted(first), sorted(second)


@needs_openmp
@pytest.mark.parametrize(("callers", "number"), [(1, 4), (2, 4), (3, 4), (8, 4), (4, 16), (3, 1)])
def test_they_share_one_budget(callers, number):
    """Not threads times threads: everyone has his own thread, and together they have the number beside that."""
    for got in together(callers, number):
        assert sum(got) <= number + callers - 1
        assert min(got) >= 1
    assert not _threads._budget.taken
    with fx.num_threads(number), taking() as threads:
        assert threads == number  # all of them again


@needs_openmp
def test_shorter_calls_and_limits_of_their_own():
    with fx.num_threads(4):
        with taking(1) as threads:
            assert threads == 1
            assert not _threads._budget.taken  # too short to count
        with taking(3) as threads:
            assert threads == 3
        with _threads.one_thread(), taking() as threads:
            assert threads == 1


@needs_openmp
def test_an_entry_that_an_interrupt_left_behind_is_replaced():
    with fx.num_threads(4):
        _threads._budget.taken[threading.get_ident()] = 4
        with taking() as threads:
            assert threads == 4
    assert not _threads._budget.taken


@linux
@needs_openmp
def test_the_system_sees_no_more_threads_than_that():
    code = """
        import os, threading
        import numpy as np, fastxent as fx
        fx.set_num_threads(8)
        x = np.ones((256, 32768), np.float32)
        tasks = lambda: len(os.listdir("/proc/self/task"))
        before, most, stop = tasks(), 0, threading.Event()
        threads = [threading.Thread(target=lambda: [fx.logsumexp(x, axis=1) for _ in range(3)]) for _ in range(8)]
        for thread in threads: thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, tasks())
        print(most - before)
    """
    assert int(run(code)) <= 8 + 8 + 7 + 8  # callers, the number, one more each, those of OpenMP that are ending


# ---- limits ----


@linux
@needs_openmp
def test_no_memory_for_the_threads():
    """OpenMP would end the process where it cannot make one: fewer of them give the same bits."""
    code = """
        import resource
        import numpy as np, fastxent as fx
        x, y = np.ones((512, 8192), np.float32), np.zeros(512, np.int64)
        with fx.num_threads(1):
            want = fx.cross_entropy(x, y)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), -1))
        fx.set_num_threads(64)  # stacks of 8 MB
        assert fx.cross_entropy(x, y) == want
        print("ok")
    """
    assert run(code, OMP_STACKSIZE=None) == "ok"


@linux
@needs_openmp
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can become somebody without processes")
def test_no_processes_for_the_threads(tmp_path):
    """Neither for OpenMP's nor for the one that reads ahead; the limit does not bind root."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    np.save(tmp_path / "x.npy", np.ones((512, 8192), np.float32))
    code = f"""
        import os, resource
        import numpy as np, fastxent as fx
        x, y = np.load({str(tmp_path / "x.npy")!r}), np.zeros(512, np.int64)
        with fx.num_threads(1):
            want = fx.cross_entropy(x, y), fx.evaluate(x, y).cross_entropy
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        fx.set_num_threads(8)
        assert (fx.cross_entropy(x, y), fx.evaluate({str(tmp_path / "x.npy")!r}, y).cross_entropy) == want
        print("ok")
    """
    assert run(code) == "ok"


@linux
def test_no_thread_to_read_ahead(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(300, 20))
    np.save(tmp_path / "x.npy", x)
    want = fx.evaluate(x, np.zeros(300, int)).cross_entropy

    def none_left(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert fx.evaluate(tmp_path / "x.npy", np.zeros(300, int)).cross_entropy == want


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [])(0)) < 2, reason="one CPU only")
def test_affinity_is_looked_at_in_every_call():
    code = """
        import os, fastxent as fx
        before = fx.get_num_threads()
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        print(before > 1, fx.get_num_threads())
    """
    some = {"FASTXENT_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    expected = "True 1" if machine.openmp_version() and (_cpus._quota_at_import or 2) > 1 else "False 1"
    assert run(code, **some) == expected


QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"  # of version 1


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "1000 100000"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),  # the one above holds, too
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 2),
        ("0::/of/the/host", {"cpu.max": "250000 100000"}, 3),  # a container that shows the host's path
        ("5:cpu,cpuacct:/a\n1:name=systemd:/b", {f"cpu/a/{QUOTA}": "250000", f"cpu/a/{PERIOD}": "50000"}, 5),
        ("5:cpu:/a", {f"cpu/a/{QUOTA}": "-1", f"cpu/a/{PERIOD}": "100000"}, None),
        ("5:cpu:/x", {f"cpu/{QUOTA}": "100000", f"cpu/{PERIOD}": "100000"}, 1),
        ("4:memory:/a", {"memory/a/cpu.max": "100000 100000"}, None),
        ("0::/../../x", {"cpu.max": "100000 100000"}, 1),  # seen from another namespace
        ("nonsense\n::::\n\n3:", {"cpu.max": "not a quota"}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(membership, files, quota, tmp_path):
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    (tmp_path / "membership").write_text(membership + "\n")
    assert _cpus.cgroup_quota(root, tmp_path / "membership") == quota
    assert _cpus.cgroup_quota(tmp_path / "none", tmp_path / "none") is None


@linux
@needs_openmp
def test_the_quota_of_a_real_group():
    """Made where the machine lets us, in version 1 or 2, one below another so that the group above it holds."""
    one, two = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    root, name = (one, "cpu.cfs_quota_us") if (one / "cpu.cfs_quota_us").exists() else (two, "cpu.max")
    outer = root / f"fastxent-test-{os.getpid()}"
    inner = outer / "inner"
    try:
        outer.mkdir()
        inner.mkdir()
        (outer / name).write_text("100000" if root == one else "100000 100000")
        (inner / "cgroup.procs").read_text()
    except OSError as error:
        for folder in (inner, outer):
            if folder.exists():
                folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        code = f"import os; open({str(inner / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        done = run_python(
            code + "import fastxent; print(fastxent.get_num_threads())", FASTXENT_NUM_THREADS=None, OMP_NUM_THREADS=None
        )
        if "cgroup.procs" in done.stderr or "write" in done.stderr:
            pytest.skip("no process can be put into the group")
        assert done.stdout == "1\n", done.stderr
    finally:
        for folder in (inner, outer):
            for _ in range(50):  # until the system has noticed that the process is gone
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.02)


# ---- beside other libraries ----

ORDERS = {"before": "import fastxent as fx\nOTHERS", "after": "OTHERS\nimport fastxent as fx"}


@linux
@pytest.mark.skipif(missing("torch", "sklearn"), reason="PyTorch or scikit-learn is not installed")
@pytest.mark.parametrize("order", ORDERS)
def test_beside_pytorch_and_scikit_learn(order):
    """Imported before us or after us, with calls on either side; each brings an OpenMP of its own. Then a fork."""
    code = ORDERS[order].replace("OTHERS", "import torch, sklearn.linear_model, numpy as np") + """
import warnings, re
warnings.simplefilter("ignore")
torch.set_num_threads(2)
fx.set_num_threads(2)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(128, 4096)).astype(np.float32), rng.integers(0, 4096, 128)
tensor, target = torch.from_numpy(x), torch.from_numpy(y)
ours, theirs, fitted = set(), set(), set()
for _ in range(3):
    ours.add((fx.cross_entropy(x, y), fx.cross_entropy(tensor, target), fx.logsumexp(x, 1).tobytes()))
    theirs.add(float(torch.nn.functional.cross_entropy(tensor, target)))
    model = sklearn.linear_model.LogisticRegression(max_iter=3).fit(x[:, :20], y % 2)
    fitted.add(model.coef_.tobytes())
assert len(ours) == len(theirs) == len(fitted) == 1
assert abs(ours.pop()[0] - theirs.pop()) < 1e-4
assert torch.get_num_threads() == 2 and fx.get_num_threads() == 2
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return fx.cross_entropy(x[i:], y[i:]) + float(fx.logsumexp(x, 1)[i])
loader = torch.utils.data.DataLoader(Rows(), batch_size=2, num_workers=2, multiprocessing_context="fork")
assert torch.cat(list(loader)).tolist() == [Rows()[i] for i in range(8)]
files = set(re.findall(r"/\\S*lib[gi]?omp\\S*", open("/proc/self/maps").read()))
print(len(files))
"""
    assert int(run(code)) >= 1  # libgomp of the system's, and those of the wheels


@linux
def test_an_import_leaves_the_process_alone():
    """Floating-point control, signal handlers, others' OpenMP, threads, and files that are open."""
    code = """
        import ctypes, ctypes.util, os, platform, signal
        import numpy
        libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
        raw = ctypes.create_string_buffer(64)
        def control():
            assert libm.fegetenv(raw) == 0
            if platform.machine() != "x86_64":
                return raw.raw
            # x87's control word, and MXCSR without the flags of what has happened
            return raw.raw[:2], int.from_bytes(raw.raw[28:32], "little") & 0xFFC0
        try:
            omp = ctypes.CDLL("libgomp.so.1")
            omp.omp_set_num_threads(3)
        except OSError:
            omp = None
        # Python's cannot ask for the two of the threads' library
        handlers = lambda: [signal.getsignal(n) for n in range(1, 65) if n not in (32, 33)]
        state = lambda: (control(), handlers(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")),
                         omp and omp.omp_get_max_threads(), os.environ.copy(), os.getcwd(), numpy.geterr())
        before = state()
        import fastxent as fx, fastxent.sources, fastxent.report, fastxent.cli
        assert state() == before, [(a, b) for a, b in zip(state(), before) if a != b]
        x = numpy.full((300, 999), 1e-40, numpy.float32)
        fx.set_num_threads(2)
        fx.cross_entropy(x, [0] * 300), fx.evaluate(x, [0] * 300)
        after = state()
        assert after[:2] == before[:2] and after[3:] == before[3:]
        assert numpy.float32(1e-40) / 2 > 0
        print("ok")
    """
    assert run(code) == "ok"


@needs_openmp
def test_limits_of_threadpoolctl_in_the_thread_that_set_them():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="puts a limit on OpenMP")
    with fx.num_threads(4):
        with threadpoolctl.threadpool_limits(1), taking() as threads:
            assert threads == 1
        with threadpoolctl.threadpool_limits(1, user_api="blas"), taking() as threads:
            assert threads == 4


def test_settings_of_the_process_outlive_threads_that_set_them_aside(tmp_path):
    """matplotlib's settings and the filters of warnings, while headers are read and plots are drawn in many threads."""
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    np.save(tmp_path / "x.npy", np.eye(4))
    result = fx.evaluate(np.eye(4), [0, 1, 2, 2])
    want = fx.report.html(result)
    before = warnings.filters[:], dict(matplotlib.rcParams)

    def work(i):
        if i % 4 == 0:
            return fx.report.html(result) == want  # two at once are wrong without a lock
        return all(fx.open_logits(tmp_path / "x.npy").shape == (4, 4) for _ in range(30))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(9)))
    assert (warnings.filters[:], dict(matplotlib.rcParams)) == before


def test_free_threading_is_declared():
    """The review of what is shared without the GIL is in docs/faults.md."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        assert run("import sys, fastxent; print(sys._is_gil_enabled())", PYTHON_GIL=None) == "False"
    setup = PACKAGE.parent / "setup.py"
    if not setup.exists():
        pytest.skip("the source tree is not here")
    assert '"freethreading_compatible": True' in setup.read_text()
