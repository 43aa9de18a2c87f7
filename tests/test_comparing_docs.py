"""docs/comparing.md: its example runs, and every number that it prints is what float64 NumPy makes of its files."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from comparison_oracle import PERCENTS, covariance, log_softmax, mean_and_error, quantiles, row_values

from fastxent.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "comparing.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page's files and the output that it shows."""
    pytest.importorskip("sklearn", reason="has the digits")
    if not PAGE.exists():
        pytest.skip("the source tree is not here")
    text = PAGE.read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("comparing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        first, second = re.findall(r"```python\n(.*?)```", text, re.S)
        found: dict = {}
        exec(first, found)
        exec(second, found)
        shown = re.search(r"array\(\[(.*?)\]\), array\(\[(.*?)\]\)", second)
        assert [float(x) for x in shown.groups()] == pytest.approx([float(x[0]) for x in found["bounds"]], abs=1e-8)
    output = re.search(r"\$ fastxent compare base.npy quantised.npy labels.npy\n(.*?)```", text, re.S)[1]
    return folder, [np.load(folder / f"{name}.npy") for name in ("base", "quantised", "labels")], output.splitlines()


def near(shown, x):
    """Whether a printed number is that value, rounded to its places."""
    shown = shown.replace(",", "")
    places = len(shown.partition(".")[2])
    return abs(float(shown) - x) <= 0.51 * 10**-places


def lines(p, q, labels):
    """Value, and error, of each line."""
    values, _ = row_values(p, q, labels)
    w = np.ones(len(p))
    found = {"rows": (len(p), None)}
    mean = {name: mean_and_error(x, w) for name, x in values.items()}
    (loss, s), (base, t) = mean["cross_entropy"], mean["cross_entropy_base"]
    cov = covariance(values["cross_entropy"], values["cross_entropy_base"], w)
    ppl, ppl_base, ratio = math.exp(loss), math.exp(base), math.exp(loss - base)
    both = (s**2 + t**2 - 2 * cov) ** 0.5
    found |= {
        "Mean PPL(Q)": (ppl, ppl * s),
        "Mean PPL(base)": (ppl_base, ppl_base * t),
        "Cor(ln(PPL(Q)), ln(PPL(base)))": (100 * cov / s / t, None),
        "Mean ln(PPL(Q)/PPL(base))": (loss - base, both),
        "Mean PPL(Q)/PPL(base)": (ratio, ratio * both),
        "Mean PPL(Q)-PPL(base)": (
            ppl - ppl_base,
            ((ppl * s) ** 2 + (ppl_base * t) ** 2 - 2 * ppl * ppl_base * cov) ** 0.5,
        ),
        "Mean KLD": mean["kl_mean"],
        "Mean Δp": [100 * x for x in mean["delta_p_mean"]],
        "Same top p": [100 * x for x in mean["same_top"]],
        "Mean reverse KLD": mean["reverse_kl_mean"],
        "Mean JS": mean["js_mean"],
        "Mean TV": mean["tv_mean"],
        "accuracy(Q)": [100 * x for x in mean["accuracy"]],
        "accuracy(base)": [100 * x for x in mean["accuracy_base"]],
        "predictive entropy(Q)": mean["entropy"],
        "predictive entropy(base)": mean["entropy_base"],
    }
    delta = values["delta_p_mean"]
    square, error = mean_and_error(delta**2, w)
    found["RMS Δp"] = 100 * square**0.5, 100 * 0.5 / square**0.5 * error
    for what, x, scale in (("KLD", values["kl_mean"], 1), ("Δp", delta, 100)):
        named = quantiles(x, [p for p in PERCENTS if what == "Δp" or p not in (25, 75)])
        for name, value in named.items():
            title = {"min": "Minimum", "max": "Maximum", "50%": "Median"}.get(name) or f"{float(name[:-1]):.1f}%"
            found[f"{title} {what}"] = scale * value, None
    return found


def test_every_line(example):
    _, (p, q, labels), output = example
    want = lines(p, q, labels)
    seen = set()
    for line in output[: output.index("  agreement of the top k")]:
        match = re.match(r"   ?(\S.*?)  +(-?[\d.,]+)(?: ± ([\d.]+))?(?: %)?(?:  .*)?$", line)
        if not match:
            assert not line.strip() or line.startswith("quantised.npy (Q) against base.npy (base): 898 rows")
            continue
        name, shown, error = " ".join(match[1].split()), match[2], match[3]
        value, spread = want[name]
        assert near(shown, value), (line, value)
        assert (error is None) == (spread is None), line
        assert error is None or near(error, spread), (line, spread)
        seen.add(name)
    assert seen == set(want)


def test_every_table(example):
    _, (p, q, labels), output = example
    values, confidence = row_values(p, q, labels)

    def table(title):
        start = output.index(f"  {title}") + 2
        end = next((i for i in range(start, len(output)) if not output[i].strip()), len(output))
        return [re.split(r"  +", line.strip()) for line in output[start:end]]

    rows = table("agreement of the top k")
    assert [row[0] for row in rows] == ["1", "5"]
    for k, *cells in rows:
        for how, cell in zip(("ordered", "set"), cells, strict=True):
            shown, error = re.match(r"([\d.]+) ± ([\d.]+) %", cell).groups()
            value, spread = mean_and_error(values[how, int(k)], np.ones(len(p)))
            assert near(shown, 100 * value)
            assert near(error, 100 * spread)

    for low, high, count, kl, same, ppl, ppl_base in table("KLD by confidence of the base model"):
        some = (confidence >= float(low)) & ((confidence < float(high)) | (high == "1"))
        assert int(count) == some.sum()
        if not some.any():
            assert {kl, same, ppl, ppl_base} == {"-"}
            continue
        shown, error = kl.split(" ± ")
        value, spread = mean_and_error(values["kl_mean"][some], np.ones(some.sum()))
        assert near(shown, value)
        assert near(error, spread)
        assert near(same.removesuffix(" %"), 100 * values["same_top"][some].mean())
        assert near(ppl, math.exp(values["cross_entropy"][some].mean()))
        assert near(ppl_base, math.exp(values["cross_entropy_base"][some].mean()))

    worst = table("worst rows")
    order = np.lexsort((np.arange(len(p)), -values["kl_mean"]))[:10]
    assert [int(row[0]) for row in worst] == order.tolist()
    for row, kl, label, base, other in worst:
        i = int(row)
        assert near(kl, values["kl_mean"][i])
        assert [int(label), int(base), int(other)] == [labels[i], p[i].argmax(), q[i].argmax()]


def test_the_command_prints_it(example, capsys, monkeypatch):
    folder, (p, _, _), output = example
    monkeypatch.chdir(folder)
    assert main(["compare", "base.npy", "quantised.npy", "labels.npy"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert printed[0].startswith(output[0])
    names = [[re.sub(r"[\d.,±%-]+", "", line).split() for line in some[1:]] for some in (printed, output)]
    assert names[0] == names[1]
    assert np.isfinite(log_softmax(p)).all()
