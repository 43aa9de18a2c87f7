"""The oracle: public functions in plain Python, slow and exact, with the same names and meanings.

The tests hold the compiled kernels to these functions, so nothing here shares a line with them: only the
standard library is used, and nothing of the package. Inputs are nested lists or tuples of numbers, or
anything with ``tolist()`` (NumPy arrays, CPU tensors); outputs are nested lists of floats, or one float. All
of it is in double precision, however the input was stored: sums over a row are correctly rounded
(``math.fsum``), sums and means over rows are exact rationals, rounded once.

Everywhere: TypeError where elements are not real numbers (labels: integers) or an axis is no integer;
ValueError where lists are ragged, shapes don't fit, or an axis is out of range or given twice.
"""

from fastxent.reference.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from fastxent.reference.bounds import cross_entropy_bounds, kl_bounds
from fastxent.reference.comparison import compare
from fastxent.reference.distributions import log_softmax, logsumexp, softmax
from fastxent.reference.divergences import (
    entropy,
    entropy_with_logits,
    js_divergence,
    js_divergence_with_logits,
    kl_divergence,
    kl_divergence_with_logits,
)
from fastxent.reference.elementwise import log_sigmoid, logit, sigmoid, surprisal
from fastxent.reference.evaluation import evaluate
from fastxent.reference.labels import (
    conditional_entropy,
    contingency_table,
    joint_entropy,
    mutual_info_score,
    mutual_information,
)
from fastxent.reference.losses import cross_entropy, nll_loss
from fastxent.reference.probabilities import log_loss
from fastxent.reference.temperature import fit_temperature

__all__ = [
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
    "sigmoid",
    "softmax",
    "surprisal",
]
