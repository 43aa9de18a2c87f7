"""Results read back from JSON, the comparison's lines, and several results side by side."""

import io
import json
import math
import os
import re

import numpy as np
import pytest
from results import comparison, evaluation

import fastxent as fx
from fastxent import report
from fastxent.report._numbers import difference, visible
from fastxent.report.reading import results_of_one_kind

LLAMA = """\
q4.npy (Q) against base.npy (base): 5,000 rows x 32,000 classes float16, fastxent 1.2.3 (avx2)

  rows                                            5,000  5,000 used

  Mean PPL(Q)                             6.407 ± 0.039
  Mean PPL(base)                          6.383 ± 0.039
  Cor(ln(PPL(Q)), ln(PPL(base)))                99.92 %
  Mean ln(PPL(Q)/PPL(base))           0.00380 ± 0.00024
  Mean PPL(Q)/PPL(base)               1.00381 ± 0.00024
  Mean PPL(Q)-PPL(base)                 0.0243 ± 0.0015

  Mean    KLD                         0.01235 ± 0.00012  nats, KL(base || Q)
  Maximum KLD                                  5.250000
  99.9%   KLD                                  5.218579
  99.0%   KLD                                  4.942771
  95.0%   KLD                                  3.859232
  90.0%   KLD                                  2.790065
  Median  KLD                                  0.001250
  10.0%   KLD                                  0.000005
   5.0%   KLD                                  0.000000
   1.0%   KLD                                  0.000000
   0.1%   KLD                                  0.000000
  Minimum KLD                                  0.000000

  Mean    Δp                           -0.012 ± 0.004 %  p_Q(label) - p_base(label)
  Maximum Δp                                   25.000 %
  99.9%   Δp                                   24.850 %
  99.0%   Δp                                   23.530 %
  95.0%   Δp                                   18.225 %
  90.0%   Δp                                   12.800 %
  75.0%   Δp                                    3.125 %
  Median  Δp                                    0.000 %
  25.0%   Δp                                   -3.125 %
  10.0%   Δp                                  -12.800 %
   5.0%   Δp                                  -18.225 %
   1.0%   Δp                                  -23.530 %
   0.1%   Δp                                  -24.850 %
  Minimum Δp                                  -25.000 %
  RMS Δp                                2.000 ± 0.030 %
  Same top p                           98.123 ± 0.036 %

  Mean reverse KLD                               0.0125  nats, KL(Q || base)
  Mean JS                                         0.003  nats, Jensen-Shannon divergence
  Mean TV                                          0.03  total variation distance, 0 to 1
"""


def test_names_of_llama_perplexity():
    text = report.text(comparison())
    assert text[: len(LLAMA)] == LLAMA
    assert "  5  70.00 %  90.00 %\n" in text
    assert "  0.25     0.5  1,000  0.0300 ± 0.0010\n" in text


@pytest.mark.parametrize("make", [evaluation, comparison])
def test_each_field_may_be_missing(make):
    whole = make()
    for name in whole:
        for some in ({k: v for k, v in whole.items() if k != name}, {**whole, name: None}):
            if name != "rows":
                assert report.text(some)
    least = {"rows": 0, "cross_entropy": "nan"} if make is evaluation else {"rows": 0, "kl_mean": "nan"}
    assert len(report.text(least).splitlines()) == 5
    assert report.text(least, least)


def test_every_field_is_shown():
    """What an evaluation has today is in the report."""
    words = report.text(evaluation())
    for part in ("2.500 ± 0.013", "3.6067", "12.18 ± 0.15", "8.21 %", "50.00 %", "top-100", "0.6875", "in row 17"):
        assert part in words
    for part in ("left out\n", "fitted temperature", "ECE after", "median", "wiki", "2.00 ± 0.10", "30004"):
        assert part in words
    assert "unknown" not in words


def test_side_by_side():
    words = report.text(evaluation(), evaluation(2), evaluation(0.5)).splitlines()
    (line,) = (line for line in words if line.startswith("  cross-entropy  "))
    assert line.split("  ")[-1] == "nats"
    assert [float(x.split(" ± ")[0]) for x in line.split("  ")[2:-1] if x.strip()] == [2.5, 5.0, 2.5, 1.25, -1.25]
    assert words[0].startswith("x.npy (1): folder/x.npy: 1,010 rows")
    heads = [line for line in words if "difference" in line]
    assert len(heads) == 2  # of the lines, and of the loss by group
    assert heads[0].split() == ["x.npy", "(1)", "x.npy", "(2)", "difference", "x.npy", "(3)", "difference"]
    lonely = report.text(evaluation(), {"rows": 3, "accuracy": 0.5})
    (line,) = (line for line in lonely.splitlines() if line.startswith("  accuracy"))
    assert line.split() == ["accuracy", "40.00", "±", "1.55", "%", "50.00", "%", "+10.00", "pp"]


def test_differences():
    plain = [difference(x, "number") for x in (0.00123456, -2.0, 0.0, math.nan, math.inf)]
    assert plain == ["+0.00123", "-2", "0", "", "+inf"]
    assert [difference(0.0123, kind) for kind in ("share", "number")] == ["+1.23 pp", "+0.0123"]
    assert difference(-1234, "count") == "-1,234"


def test_short_names(tmp_path):
    def names(*paths):
        return [r.name for r in results_of_one_kind(report.as_result(evaluation(), p) for p in paths)]

    assert names("a/x.json", "b/y.json") == ["x.json", "y.json"]
    assert names("a/x.json", "b/x.json") == ["a/x.json", "b/x.json"]
    assert names("x.json", "x.json") == ["x.json (1)", "x.json (2)"]
    assert names("a/x.json") == ["x.json"]


def test_read(tmp_path):
    file = tmp_path / "r.json"
    want = fx.evaluate([[0.0, 1.0], [0.0, float("nan")]], [1, 1])
    file.write_text(json.dumps(want.to_dict()))
    assert report.text(report.read(file)) == report.text(want)
    file.write_text("\ufeff" + file.read_text())  # an editor of Windows has saved it
    assert report.read(file).number("cross_entropy") == want.cross_entropy


def error(function, *args):
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as found:
        function(*args)
    return str(found.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is no JSON, as --json writes it: Expecting value"),
        (b'{"rows": ', "is no JSON, as --json writes it: Expecting value"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "is no JSON"),
        (b"3", "is no result of fastxent, but int"),
        (b"[]", "but list"),
        (b'"x"', "but str"),
        (b"{}", "no result of fastxent eval or fastxent compare"),
        (b'{"cross_entropy": 1}', "no result"),
        (json.dumps(fx.Evaluator().state()).encode(), "accumulator's state"),
    ],
)
def test_broken_files(tmp_path, text, words):
    (file := tmp_path / "bad.json").write_bytes(text)
    assert words in error(report.read, file)
    assert str(file) in error(report.read, file)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("cross_entropy", "a lot"), ("cross_entropy", True), ("cross_entropy", [1]), ("cross_entropy_stderr", {}),
        ("rows", 1.5), ("rows", "7"), ("used", []), ("topk", 3), ("topk", {"one": 1}), ("topk", {"1": "x"}),
        ("reliability", 3), ("reliability", [1]), ("reliability", [{"count": "x"}]), ("groups", "x"),
        ("groups", [{"group": 1, "rows": {}, "cross_entropy": []}]), ("quantiles", {"a": 1}), ("provenance", 3),
        ("histogram", {"edges": 1, "counts": []}), ("histogram", {"edges": [1], "counts": [2]}),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind(field, bad):
    def both(data):
        report.text(data)
        report.html(data)

    assert field in error(both, {**evaluation(), field: bad})


def test_two_kinds_or_none():
    assert "is an evaluation" in error(report.text, evaluation(), comparison())
    assert "is a comparison" in error(report.text, comparison(), evaluation())
    assert "at least one" in error(report.text)
    assert "but int" in error(report.text, 3)


def test_huge_numbers_and_odd_tables():
    data = {**evaluation(), "cross_entropy": 10**400, "mean_rank": -(10**400), "groups": {"a": {"loss": 1}, "b": 2}}
    data |= {"quantiles": [[0.5, 1.0], ["99%", 2.0], ["max", "inf"], [0, None]], "calibration": "none"}
    words = report.text(data)
    shown = {" ".join(line.split()) for line in words.splitlines()}
    assert shown >= {"cross-entropy inf nats", "mean rank -inf classes before the label"}
    assert shown >= {"99 % 2", "maximum inf", "a 1", "b 2"}


def test_tables_of_columns():
    data = {**evaluation(), "quantiles_exact": False, "quantiles": {"min": 0.0, "0.1%": 0.5, "50%": 1, "max": 2.0}}
    data |= {"masked": 5, "weight": 12.5, "cross_entropy_cluster_stderr": 0.125, "accuracy_cluster_stderr": "nan"}
    data["groups"] = {
        "name": ["a", "nan"], "used": [3, 4], "cross_entropy": [1.5, "nan"], "cross_entropy_stderr": [0.25, "nan"],
        "bits_per_byte": ["nan", "nan"],
    }  # fmt: skip
    data["macro"] = {"groups": 2, "cross_entropy": 1.75, "accuracy": 0.5}
    data["classes"] = {"count": [5, 6], "precision": [0.5, 1.0], "confusion": [[0, 1, 2]] * 3}
    data["mutual_information"] = 0.3
    del data["calibration"]
    lines = [" ".join(line.split()) for line in report.text(data).splitlines()]
    assert {"masked rows 5 left out by mask, lengths or shift", "± 0.12 error by groups"} <= set(lines)
    assert "sum of weights 12.5 means and shares are weighted" in lines
    assert "best temperature 1.2 of 16; logits divided by it" in lines
    assert "mutual information 0.3 of label and prediction, nats" in lines
    assert {"quantiles of the loss, nats, each order statistic within 0.5 %", "0.1 % 0.5", "median 1"} <= set(lines)
    i = lines.index("by group")
    assert lines[i + 1 : i + 5] == ["group used cross entropy", "a 3 1.50 ± 0.25", "nan 4 -", "macro average 1.75"]
    i = lines.index("by class")
    assert lines[i + 1 : i + 4] == ["class count precision", "0 5 50.00 %", "1 6 100.00 %"]
    assert "unequal length" in error(report.text, {**data, "groups": {"name": ["a"], "used": [1, 2]}})


def test_what_no_row_says_is_a_dash():
    base = np.array([[9.0, 0.0], [0.5, 0.0], [9.0, 0.0]])
    result = fx.compare(base, base / 2, [0, 1, 0], groups=[7, 7, 8])
    assert result.to_dict()["kl_by_confidence"][0] == {
        "lower": 0.0, "upper": 0.25, "count": 0, "kl_mean": None, "kl_mean_stderr": None, "same_top": None,
        "ppl": None, "ppl_base": None,
    }  # fmt: skip
    lines = [line.split() for line in report.text(result).splitlines()]
    assert ["0", "0.25", "0", "-", "-", "-", "-"] in lines
    bins = fx.evaluate(base, [0, 1, 0]).to_dict()["reliability"]
    assert {b["accuracy"] for b in bins if not b["count"]} == {None}
    for some in (result, fx.evaluate(base, [0, 1, 0]), fx.evaluate(base, [5, 5, 5]), fx.compare(base, base, [5, 5, 5])):
        assert "nan" not in report.text(some)
        assert not re.search(r"\bnan\b", report.html(some))


def test_odd_results():
    x = np.array([[3.0, 0.0]])
    one = report.text(fx.evaluate(x[:, :1], [0], temperatures=[1.5]))
    assert one.startswith("logits: 1 row x 1 class float64")
    assert "\n  other temperature " in one
    for words in (report.text(fx.evaluate(x, [7], groups=["<q>"])), report.text(fx.compare(x, x, [7], groups=["<q>"]))):
        assert [line.strip() for line in words.split("\n\n")[-1].splitlines()] == [
            "by group", "group  rows  used", "<q>       1     0"
        ]  # fmt: skip
    weightless = fx.compare(x, x, [0], sample_weight=[0.0])
    assert "agreement" not in report.text(weightless)
    assert np.isnan(fx.compare(x, x, [0]).delta_p_rms_stderr)  # of one row nobody knows
    assert fx.compare(x, x, [0]).delta_p_rms == 0.0
    page = report.html(fx.evaluate(x, [0], groups=["<q>"]))
    assert "<q>" not in page
    assert not re.search(r">\s*None\s*<", page)


def test_errors_of_clusters_of_a_comparison():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 5))
    result = fx.compare(base, base + rng.normal(size=base.shape), np.arange(60) % 5, groups=np.arange(60) // 6)
    lines = [line.split() for line in report.text(result).splitlines()]
    for name, shown in (
        ("Mean ln(PPL(Q)/PPL(base))", f"± {result.log_ppl_ratio_cluster_stderr:.2g} error by groups"),
        ("Mean    KLD", f"± {result.kl_mean_cluster_stderr:.2g} error by groups"),
        ("Same top p", f"± {100 * result.same_top_cluster_stderr:.3f} % error by groups"),
    ):
        place = next(i for i, line in enumerate(lines) if line[: len(name.split())] == name.split())
        assert lines[place + 1] == shown.split()


HOSTILE = "a\x1b[31m\0\r\n\u202egpj\u2066\u2028\udcff</script><script>alert(1)</script>$x^2$é漢"


def test_foreign_words_are_made_visible():
    assert visible("\x1b[2J\0\n\u202e\u200f\U000e0041\udc80é漢👍🏽\u200d") == (
        "\\x1b[2J\\x00\\x0a\\u202e\\u200f\\U000e0041\\udc80é漢👍🏽\u200d"
    )
    data = {**evaluation(), "groups": [{"group": HOSTILE, HOSTILE: 1}], "provenance": {HOSTILE: HOSTILE}}
    for words in (report.text(data), report.text(data, data), report.text(report.as_result(data, HOSTILE))):
        assert not set(words) & set("\x1b\0\r\u202e\u2066\u2028\udcff")
        words.encode()
    report.write(data, file=(file := io.TextIOWrapper(io.BytesIO(), "ascii")))
    file.flush()
    assert b"+/-" in file.buffer.getvalue()


def test_aligned_with_wide_letters():
    data = {**evaluation(), "groups": [{"group": name, "cross_entropy": 1.0} for name in ("漢字", "e\u0301", "word")]}
    rows = report.text(data).split("by group\n")[1].splitlines()[1:4]
    assert [len(row) for row in rows] == [len(rows[2]) - 2, len(rows[2]) + 1, len(rows[2])]


def test_odd_file_names(tmp_path):
    file = tmp_path / os.fsdecode(b"\xff\x1b[2J.json")
    file.write_text("{")
    words = error(report.read, file)
    assert "\\x1b[2J" in words
    words.encode()
