"""Draw docs/bernoulli.svg: the entropy of a coin, in bits, against its probability."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import fastxent as fx

mpl.rcParams |= {"svg.hashsalt": "fastxent", "svg.fonttype": "none", "font.family": "sans-serif"}
p = np.linspace(0.0, 1.0, 201)
figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
axes.plot(p, fx.entropy(np.stack([p, 1 - p], axis=1), base=2), color="#1769aa")
axes.set(xlabel="probability p", ylabel="entropy H(p) in bits", xlim=(0, 1), ylim=(0, 1.05))
axes.grid(alpha=0.3)
figure.savefig(Path(__file__).parent.parent / "docs" / "bernoulli.svg", metadata={"Date": None})
