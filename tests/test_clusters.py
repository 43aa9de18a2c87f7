"""The examples of docs/clusters.md run, where their engine is installed."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from child import PACKAGE, run_python

import fastxent as fx

PAGE = Path(__file__).resolve().parents[1] / "docs" / "clusters.md"
SHARDS = """
import numpy as np
shards = [(f"{folder}/logits-{i}.npy", f"{folder}/labels-{i}.npy", 100 * i) for i in range(3)]
"""


def examples(heading):
    """The code blocks under a heading."""
    if not PAGE.exists():
        pytest.skip("the source tree is not here")
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert blocks
    return blocks


@pytest.fixture
def shards(tmp_path):
    """Three shards of logits and labels, and the perplexity of them all."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 20)), rng.integers(0, 20, 300)
    for i in range(3):
        np.save(tmp_path / f"logits-{i}.npy", logits[100 * i : 100 * i + 100])
        np.save(tmp_path / f"labels-{i}.npy", labels[100 * i : 100 * i + 100])
    return tmp_path, fx.evaluate(logits, labels).perplexity


def test_the_idea():
    (code,) = examples("The idea")
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_dask():
    pytest.importorskip("dask.array", reason="an extra of the package")
    done = run_python(examples("Dask")[0], seconds=60)
    assert done.returncode == 0, done.stderr


def test_dask_on_processes(tmp_path):
    pytest.importorskip("distributed", reason="an extra of the package")
    script = tmp_path / "script.py"
    script.write_text(examples("Dask")[1])
    done = run_python(f"""
        import runpy, sys
        sys.argv = [{str(script)!r}]
        runpy.run_path(sys.argv[0], run_name="__main__")
    """)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 50  # random guesses at 50 classes


def test_ray(shards):
    pytest.importorskip("ray", reason="large, so not among the package's extras")
    (code,) = examples("Ray")
    folder, want = shards
    start = f"""
import ray
ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False,
    runtime_env={{"env_vars": {{"PYTHONPATH": {str(PACKAGE.parent)!r}}}}},
)
folder = {str(folder)!r}
"""
    done = run_python(start + SHARDS + code, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == want


def test_spark(shards):
    pytest.importorskip("pyspark", reason="large, so not among the package's extras")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("Spark wants a Java machine")
    (code,) = examples("Spark")
    folder, want = shards
    start = f"""
import os, sys
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
from pyspark.sql import SparkSession
SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
folder = {str(folder)!r}
"""
    done = run_python(start + SHARDS + code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == want
