"""fastxent scores huge arrays of model outputs on CPUs, straight from logits, in one read of memory.

The functions have the meaning of their namesakes in ``scipy.special`` and ``torch.nn.functional``; the results are the
same to the last bit however the work is split.
"""

from fastxent._log_loss import log_loss
from fastxent._passes.targets import NormalizedInputWarning
from fastxent._threads import get_num_threads, num_threads, set_num_threads
from fastxent._version import __version__
from fastxent.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from fastxent.bounds import Bounds, cross_entropy_bounds, kl_bounds
from fastxent.comparator import Comparator
from fastxent.comparison import compare
from fastxent.comparison_results import Comparison
from fastxent.config import show_config
from fastxent.distributions import log_softmax, logsumexp, softmax
from fastxent.divergences import (
    entropy,
    entropy_with_logits,
    js_divergence,
    js_divergence_with_logits,
    kl_divergence,
    kl_divergence_with_logits,
)
from fastxent.elementwise import log_sigmoid, logit, sigmoid, surprisal
from fastxent.evaluation import evaluate
from fastxent.evaluator import Evaluator
from fastxent.labels import (
    conditional_entropy,
    contingency_table,
    joint_entropy,
    mutual_info_score,
    mutual_information,
)
from fastxent.losses import cross_entropy, nll_loss
from fastxent.results import Evaluation
from fastxent.sources import FormatError, open_logits
from fastxent.temperature import TemperatureFit, fit_temperature

__all__ = [
    "Bounds",
    "Comparator",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "FormatError",
    "NormalizedInputWarning",
    "TemperatureFit",
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "compare",
    "conditional_entropy",
    "contingency_table",
    "cross_entropy",
    "cross_entropy_bounds",
    "entropy",
    "entropy_with_logits",
    "evaluate",
    "fit_temperature",
    "get_num_threads",
    "joint_entropy",
    "js_divergence",
    "js_divergence_with_logits",
    "kl_bounds",
    "kl_divergence",
    "kl_divergence_with_logits",
    "log_loss",
    "log_sigmoid",
    "log_softmax",
    "logit",
    "logsumexp",
    "mutual_info_score",
    "mutual_information",
    "nll_loss",
    "num_threads",
    "open_logits",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "surprisal",
]
