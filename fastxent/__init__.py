"""fastxent scores huge arrays of model outputs on CPUs, straight from logits, in one read of memory.

The functions have the meaning of their namesakes in ``scipy.special`` and ``torch.nn.functional``; the results are the
same to the last bit however the work is split.
"""

from fastxent._log_loss import log_loss
from fastxent._targets import NormalizedInputWarning
from fastxent._threads import get_num_threads, num_threads, set_num_threads
from fastxent._version import __version__
from fastxent.config import show_config
from fastxent.distributions import log_softmax, logsumexp, softmax
from fastxent.evaluation import evaluate
from fastxent.evaluator import Evaluator
from fastxent.losses import cross_entropy, nll_loss
from fastxent.results import Evaluation
from fastxent.sources import FormatError, open_logits

__all__ = [
    "Evaluation",
    "Evaluator",
    "FormatError",
    "NormalizedInputWarning",
    "__version__",
    "cross_entropy",
    "evaluate",
    "get_num_threads",
    "log_loss",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "num_threads",
    "open_logits",
    "set_num_threads",
    "show_config",
    "softmax",
]
