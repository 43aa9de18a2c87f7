"""What comes out of an evaluation: the report as text, the dictionary as JSON, the state and what may be merged."""

import copy
import functools
import io
import json
import math
import operator
import re
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import results
from child import run_python

import fastxent as fx
from fastxent import _dispatch, report
from fastxent._accumulators.state import pack
from fastxent.evaluator import Evaluator
from fastxent.report._numbers import with_error
from fastxent.report.lines import sections
from fastxent.results import Bin, Evaluation

INF, NAN = math.inf, math.nan

PROVENANCE = {"fastxent": "1.2.3", "level": "avx2", "classes": 50304, "logits": {"name": "x.npy", "dtype": "float16"}}
EXAMPLE = Evaluation(
    rows=1234567,
    used=1234000,
    ignored=500,
    invalid=60,
    nonfinite=7,
    infinite=2,
    first_invalid=17,
    first_nonfinite=0,
    cross_entropy=2.7182818,
    cross_entropy_stderr=0.00123,
    bits=3.92165,
    perplexity=15.154262,
    perplexity_stderr=0.0186,
    z_loss=123456.789,
    accuracy_bound=0.0659880,
    expected_accuracy=0.25,
    accuracy=0.4375,
    accuracy_stderr=0.00044,
    topk={1: 0.4375, 5: 0.75, 10: 1.0},
    mean_rank=35.5,
    mean_reciprocal_rank=0.546875,
    entropy=2.5,
    brier=0.6875,
    ece=0.015,
    mce=0.2,
    reliability=(Bin(0.0, 0.5, 234000, 0.3, 0.1), Bin(0.5, 1.0, 1000000, 0.875, 1.0), Bin(0.9, 1.0, 0, NAN, NAN)),
    provenance=PROVENANCE,
)
GOLDEN = """\
x.npy: 1,234,567 rows x 50,304 classes float16, fastxent 1.2.3 (avx2)

  rows                              1,234,567  1,234,000 used
  ignored                                 500  label equal to ignore_index
  invalid labels                           60  out of range, the first in row 17
  non-finite rows                           7  left out, the first is row 0
  infinite losses                           2  label masked by -inf; they stay in the mean

  cross-entropy               2.7183 ± 0.0012  nats
                                      3.92165  bits
  perplexity                   15.154 ± 0.019
  exp(-CE)                             6.60 %  lower bound of the next line
  expected accuracy                   25.00 %  mean probability of the label
  z-loss                               123457  mean squared log-sum-exp

  accuracy                     43.75 ± 0.04 %
  top-5                               75.00 %
  top-10                             100.00 %
  mean rank                              35.5  classes before the label
  mean reciprocal rank               0.546875

  predictive entropy                      2.5  nats, mean
  Brier score                          0.6875  0 to 2
  ECE                                  1.50 %  expected calibration error, 3 bins
  MCE                                 20.00 %  largest

  reliability
  confidence          rows  mean confidence  accuracy        gap
  0.000 - 0.500    234,000          30.00 %   10.00 %  -20.00 pp
  0.500 - 1.000  1,000,000          87.50 %  100.00 %  +12.50 pp
"""


def test_golden():
    assert report.text(EXAMPLE) == GOLDEN
    plain = report.text(replace(EXAMPLE, ignored=0, invalid=0, nonfinite=0, infinite=0))
    assert plain == "".join(line for i, line in enumerate(GOLDEN.splitlines(True)) if i not in (3, 4, 5, 6))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.12344, 0.0056, "0.1234 ± 0.0056"),
        (0.12344, 0.00996, "0.123 ± 0.010"),  # 0.00996 has the two digits 0.010
        (0.12344, 0.0996, "0.12 ± 0.10"),
        (12.3456, 0.2, "12.35 ± 0.20"),
        (12.3456, 3.14159, "12.3 ± 3.1"),
        (12.3456, 9.96, "12 ± 10"),
        (123456.7, 1234.5, "123457 ± 1234"),
        (0.1, 1.5e-9, "0.1000000000 ± 0.0000000015"),
        (0.1, 1.5e-20, "0.1 ± 1.5e-20"),
        (1e300, 3e299, "1e+300 ± 3e+299"),
        (12.0, 3e20, "12 ± 3e+20"),
        (1.23456789, 0.0, "1.23457"),
        (1.23456789, NAN, "1.23457"),
        (NAN, 0.1, "-"),
        (NAN, NAN, "-"),
        (INF, NAN, "inf"),
        (INF, INF, "inf"),
        (1.23456789, INF, "1.23457 ± inf"),
    ],
)
def test_with_error(value, error, text):
    assert with_error(value, error) == text


def test_report_of_nothing():
    for result in (Evaluator().result(), fx.evaluate(np.zeros((0, 3)), []), fx.evaluate(np.zeros((2, 3)), [7, 7])):
        words = report.text(result)
        assert ["perplexity", "-"] in [line.split() for line in words.splitlines()]
        assert "quantiles" not in words
        assert "nan" not in words
    overflow = fx.evaluate(np.array([[0.0, -1000.0], [0.0, -900.0]]), [1, 1])
    assert "inf" in report.text(overflow)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", ["x.npy", "run[/b].npy", "log[bold]its[0].npy", "long/" * 30 + "x.npy"])
def test_rich(name, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    example = replace(EXAMPLE, provenance={**PROVENANCE, "logits": {"name": name}})
    report.write(example, file=(file := Terminal()))
    words = file.getvalue()
    assert "\x1b[" in words
    assert name.replace("long/", "") in words
    for section in sections(report.as_result(example)):
        assert all(part in words for line in section.lines for part in (line.name, line.value, line.note))
    assert words.count("█") == 2 + 20  # the accuracies of the reliability table


@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_rich_side_by_side(kind, monkeypatch):
    """All that the plain text has; in a narrow terminal without notes, in a still narrower one the plain text."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    make = getattr(results, kind)
    two = [report.as_result(make(scale), f"run[b]{scale}.json") for scale in (1, 2)]
    plain = report.text(*two)
    cells = {cell for line in plain.splitlines() for cell in re.split(r"\s{2,}", line.strip())}
    for columns in (200, 95, 40):
        monkeypatch.setenv("COLUMNS", str(columns))
        report.write(*two, file=(file := Terminal()))
        words = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
        assert ("\x1b[" in file.getvalue()) == (columns > 40)
        assert (words == plain) == (columns == 40)
        notes = {"mean probability of the label", "nats, KL(base || Q)", "p_Q(label) - p_base(label)"}
        missing = {cell for cell in cells if cell not in words}
        assert not missing if columns != 95 else notes & cells <= missing
        assert not any(re.search(r"\d", cell) for cell in missing if "±" in cell)
    assert {"difference", "mean KLD by group" if kind == "comparison" else "cross-entropy by group"} <= cells


def test_no_rich(monkeypatch):
    report.write(EXAMPLE, file=(file := io.StringIO()))
    assert file.getvalue() == GOLDEN
    monkeypatch.setitem(sys.modules, "rich", None)
    for module in [m for m in sys.modules if m.startswith("rich.")]:
        monkeypatch.delitem(sys.modules, module)
    report.write(EXAMPLE, file=(file := Terminal()))
    assert file.getvalue() == GOLDEN


# ---- the dictionary ----


def test_dictionary_is_strict_json():
    result = fx.evaluate(np.array([[0.0, -INF], [0.0, 1.0], [NAN, 0.0]], np.float16), [1, 1, 0], topk=(2,))
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text) == result.to_dict()
    names = ["schema", *(f.name for f in fields(Evaluation)), "macro", "mutual_information", "confusion"]
    assert list(result.to_dict()) == names
    got = result.to_dict()
    assert (got["cross_entropy"], got["cross_entropy_stderr"], got["accuracy_bound"]) == ("inf", "nan", 0.0)
    assert (got["topk"], got["first_invalid"], got["first_nonfinite"]) == ({"2": 1.0}, None, 2)
    assert got["reliability"][0] == {"lower": 0.0, "upper": 1 / 15, "count": 0, "confidence": None, "accuracy": None}
    assert (got["histogram"]["edges"][-1], got["histogram"]["counts"][-1], sum(got["histogram"]["counts"])) == (
        "inf", 1, 2,
    )  # fmt: skip
    assert set(map(type, got.values())) <= {bool, int, float, str, dict, list, type(None)}
    for what, shape, dtype in (("logits", [3, 2], "float16"), ("labels", [3], "int64")):
        assert len(got["provenance"][what].pop("fingerprint")) == 32
        assert got["provenance"][what] == {"name": what, "shape": shape, "dtype": dtype}
    options = {"topk": [2], "bins": 15, "ignore_index": -100, "worst": 10}
    options |= {"inputs": "logits", "temperature": 1.0, "classes": None, "binary": False, "temperatures": []}
    assert got["provenance"]["options"] == options
    assert {"fastxent", "level", "row_format", "classes"} < got["provenance"].keys()


# ---- states, and what may be merged ----


def evaluator(**options):
    one = Evaluator(**options)
    x = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    x[3] = NAN
    one.update(x, np.arange(50) % 9 - 1, groups=np.arange(50) // 11)
    return one


def test_refusals():
    one, before = evaluator(), evaluator().state()
    others = [evaluator(topk=(1, 2)), evaluator(bins=3), evaluator(ignore_index=0), Evaluator(), evaluator()]
    others[3].update(np.zeros((1, 4)), [0], groups=[0])
    others[4]._row_format = "another"
    for other, word in zip(others, ("options", "options", "options", "classes", "row format"), strict=True):
        with pytest.raises(ValueError, match=word):
            one.merge(other)
    x, y = np.zeros((3, 7)), np.zeros(3, int)
    for logits, labels in ((np.zeros((1, 4)), [0]), (x, y[1:]), (np.zeros((1, 0)), [0]), (x[:, 0], y), (x, y[:, None])):
        with pytest.raises(ValueError, match=r"class|shape"):
            one.update(logits, labels)
    for logits, labels in ((x, y.astype(float)), (x.astype(complex), y), (x.astype(object), y)):
        with pytest.raises(TypeError, match="dtype"):
            one.update(logits, labels)
    assert one.state() == before
    with pytest.raises(ValueError, match="row format"):
        others[4].update(x, y)
    for options, error in (({"topk": (0,)}, ValueError), ({"bins": 0}, ValueError), ({"topk": (1.5,)}, TypeError)):
        with pytest.raises(error):
            fx.evaluate(x, y, **options)


@pytest.mark.skipif(_dispatch.level == "baseline", reason="this is the baseline")
def test_baseline_states_do_not_merge():
    code = "import json, fastxent as f; e = f.Evaluator(); e.update([[0.0, 1.0]], [1]); print(json.dumps(e.state()))"
    state = json.loads(run_python(code, FASTXENT_LEVEL="baseline").stdout)
    other = Evaluator()
    other.update([[0.0, 1.0]], [1])
    with pytest.raises(ValueError, match="row format"):
        other.merge(Evaluator.from_state(state))


INTEGERS = [("next",), ("counts", "rows"), ("counts", "ignored"), ("parts", "means", "n"), ("parts", "bins", "limbs")]
INTEGERS += [("parts", "quantiles", "count"), ("parts", "bins", "first"), ("parts", "means", "sums", 0, 1)]
BROKEN = [(place, bad) for place in INTEGERS for bad in ("nonsense", 1.5, {}, None)]
BROKEN += [(place, bad) for place in INTEGERS[1:] for bad in (-1, 2**70)]  # impossible or inconsistent
BROKEN += [(("layout", "classes"), bad) for bad in ("x", 0, None)] + [(("layout",), bad) for bad in (None, 3, {}, [])]
BROKEN += [(("layout", name), "x") for name in ("weighted", "groups", "bytes", "words")]
BROKEN += [(("layout", name), True) for name in ("weighted", "groups", "bytes")]
BROKEN += [(("row_format",), []), (("logits_dtype",), 7), (("options",), {}), (("options", "bins"), 0)]
BROKEN += [(("options", "topk"), [5, 1]), (("options", "inputs"), "x"), (("options", "temperature"), 0)]
BROKEN += [(("first", "invalid"), "x"), (("parts", "means", "sums", 0, 0), "nonsense")]
BROKEN += [(("parts", "means", "sums", hits, 0), bad) for hits in (5, 8, 9) for bad in ("-0x1", hex(2**1200))]
BROKEN += [(("parts", "means", "sums"), []), (("parts",), {}), (("parts", "bins"), None), (("parts", "worst"), [])]
TEXTS = [("quantiles", "values"), ("worst", "values"), ("worst", "rows"), ("worst", "columns")]
TEXTS += [(table, what) for table in ("bins", "labels", "confusion", "groups") for what in ("keys", "counts", "sums")]
NUMBERS = [pack(np.array(n)) for n in ([1], [-1, 3], [2**62] * 7, [9, 8, 7])] + [pack(np.full(50, NAN))]
BROKEN += [(("parts", *place), bad) for place in TEXTS for bad in ("nonsense!", "AAAA", "", 7, None, ["a"], *NUMBERS)]


def test_broken_states_are_refused():
    state = evaluator().state()
    assert Evaluator.from_state(state).state() == state
    states = [None, [], "no state", {}, {**state, "version": 99}, {**state, "format": "other"}]
    states += [{k: v for k, v in state.items() if k != missing} for missing in state]
    for (*path, last), bad in BROKEN:
        states.append(copy.deepcopy(state))
        functools.reduce(operator.getitem, path, states[-1])[last] = bad
    for i, some in enumerate(states, -len(states)):
        if some == state:  # a table without sums has no text to spoil
            continue
        with pytest.raises(ValueError, match="state"):
            pytest.fail(f"taken: {BROKEN[i] if i >= -len(BROKEN) else some} {Evaluator.from_state(some)}")
