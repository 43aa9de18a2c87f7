"""Evaluation and losses of Dask arrays: a task for each chunk, states merged in Dask's own tree.

The bits are those of one machine's call on the whole array in C order, whatever the chunks and the scheduler: a row's
value depends on that row alone, and sums are exact. Each task uses one thread; give at least as many chunks as CPUs.
"""

from importlib import import_module

try:
    import_module("dask.array")
except ImportError as error:
    raise ImportError(f"fastxent.dask wants Dask's arrays ({error}): pip install 'fastxent[dask]'") from error

from fastxent.dask.comparison import compare
from fastxent.dask.distributions import log_softmax, logsumexp, softmax
from fastxent.dask.evaluation import evaluate
from fastxent.dask.losses import cross_entropy

__all__ = ["compare", "cross_entropy", "evaluate", "log_softmax", "logsumexp", "softmax"]
