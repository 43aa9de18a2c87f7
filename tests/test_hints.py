"""The commonest mistakes: each error, or warning, says what was probably meant."""

import numpy as np
import pytest

import fastxent as fx
from fastxent.cli import main

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 7)).astype(np.float32)
Y = rng.integers(0, 7, 40)
P = fx.softmax(X, axis=1)
ONE_HOT = np.eye(7, dtype=int)[Y]
NAMES = [f"name {i}" for i in Y]

# a call, and what its error ends with
MISTAKES = {
    "one-hot rows": (
        lambda: fx.cross_entropy(X, ONE_HOT),
        "of one-hot rows, target.argmax(axis=1) gives the class indices",
    ),
    "one-hot images": (
        lambda: fx.cross_entropy(np.zeros((2, 3, 4)), np.zeros((2, 3, 4), int)),
        "of one-hot rows, target.argmax(axis=1) gives the class indices",
    ),
    "one-hot rows, evaluated": (lambda: fx.evaluate(X, ONE_HOT), "labels.argmax(axis=-1) gives the class indices"),
    "one-hot floats, evaluated": (
        lambda: fx.evaluate(X, ONE_HOT * 1.0),
        "labels.argmax(axis=-1) gives the class indices",
    ),
    "one-hot rows, updated": (
        lambda: fx.Evaluator().update(X, ONE_HOT),
        "labels.argmax(axis=-1) gives the class indices",
    ),
    "a column": (lambda: fx.cross_entropy(X, Y[:, None]), "target.reshape((40,)) drops the axis of 1"),
    "a column, evaluated": (lambda: fx.evaluate(X, Y[:, None]), "labels.reshape((40,)) drops the axis of 1"),
    "classes first": (
        lambda: fx.cross_entropy(X.T, Y),
        "if the classes lie along another axis, say which: axis= (--axis)",
    ),
    "classes first, evaluated": (lambda: fx.evaluate(X.T, Y), "another axis, say which: axis= (--axis)"),
    "classes first, compared": (lambda: fx.compare(X.T, X.T, Y), "another axis, say which: axis= (--axis)"),
    "flat": (
        lambda: fx.evaluate(X.reshape(8, 5, 7), Y),
        "as many labels in the rows' shape would be labels.reshape((8, 5))",
    ),
    "swapped": (lambda: fx.cross_entropy(Y, X), "have they been swapped? logits come first"),
    "swapped, evaluated": (lambda: fx.evaluate(Y, X), "have logits and labels been swapped?"),
    "labels second": (lambda: fx.compare(X, Y, X), "other looks like labels, integers of shape (40,); they come third"),
    "binary scores": (lambda: fx.evaluate(X[:, 0], Y % 2), "one score a row is binary=True (--binary)"),
    "floats": (lambda: fx.cross_entropy(X, Y * 1.0), "; labels are class indices"),
    "names": (
        lambda: fx.cross_entropy(X, NAMES),
        "class names get numbers by numpy.unique(..., return_inverse=True)[1]",
    ),
    "names, evaluated": (lambda: fx.evaluate(X, np.array(NAMES)), "numpy.unique(..., return_inverse=True)[1]"),
    "a list of names, evaluated": (lambda: fx.evaluate(X, NAMES), "numpy.unique(..., return_inverse=True)[1]"),
    "paths": (lambda: fx.cross_entropy("x.npy", "y.npy"), "a path is read by evaluate, compare and open_logits"),
    "None": (lambda: fx.cross_entropy(None, Y), "it is of type NoneType"),
    "one k": (lambda: fx.evaluate(X, Y, topk=5), "topk must be several integers, such as (1, 5), got 5"),
    "a k that is no integer": (lambda: fx.compare(X, X, topk=(1, 2.5)), "topk must be an integer, got 2.5"),
    "no integer": (lambda: fx.evaluate(X, Y, bins=15.0), "bins must be an integer, got 15.0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name):
    call, words = MISTAKES[name]
    with pytest.raises((TypeError, ValueError, FileNotFoundError)) as caught:
        call()
    assert str(caught.value).endswith(words)


def test_what_is_merely_wrong_has_no_hint():
    for labels in (Y[:39], np.zeros((3, 5), int), np.zeros((40, 9), int)):
        with pytest.raises(ValueError, match=r"but the logits want \(40,\)$"):
            fx.cross_entropy(X, labels)


def test_a_hint_is_right():
    """What the errors tell one to do gives the number that was wanted."""
    want = fx.cross_entropy(X, Y)
    assert fx.cross_entropy(X, ONE_HOT.argmax(axis=1)) == want
    assert fx.evaluate(X, ONE_HOT.argmax(axis=-1)).cross_entropy == want
    assert fx.cross_entropy(X, Y[:, None].reshape((40,))) == want
    assert fx.evaluate(X.T, Y, axis=0).cross_entropy == want
    assert fx.evaluate(X.reshape(8, 5, 7), Y.reshape((8, 5))).cross_entropy == want
    numbers = np.unique(NAMES, return_inverse=True)[1]
    assert fx.cross_entropy(X, numbers) == want  # of one digit, so their order is that of the numbers


# ---- labels that mark padding ----


def padded(places, dtype="int64"):
    labels = Y.astype(dtype)
    for place, label in places.items():
        labels[place] = label
    return labels


@pytest.mark.parametrize("score", [fx.cross_entropy, fx.nll_loss])
@pytest.mark.parametrize(
    ("places", "dtype", "words"),
    [
        ({3: -1, 9: -1}, "int64", "target[3] is -1, outside [0, 7); if -1 marks padding, pass ignore_index=-1"),
        ({39: -2}, ">i2", "target[39] is -2, outside [0, 7); if -2 marks padding, pass ignore_index=-2"),
        (
            {3: -1, 9: -100},
            "int8",
            "target[3] is -1, outside [0, 7); if -1 marks padding, too, invalid='ignore' leaves it out",
        ),
        ({3: -1, 9: -2}, "int64", "target[3] is -1, outside [0, 7)"),
        ({3: -1, 9: 7}, "int64", "target[3] is -1, outside [0, 7)"),
        ({3: 7, 9: -1}, "int64", "target[3] is 7, outside [0, 7)"),
        ({3: 255}, "uint8", "target[3] is 255, outside [0, 7)"),
    ],
)
def test_padding(score, places, dtype, words):
    with pytest.raises(IndexError) as caught:
        score(X, padded(places, dtype))
    assert str(caught.value) == words


def test_the_hint_about_padding_is_right():
    rest = np.delete(np.arange(40), [3, 9])
    assert fx.cross_entropy(X, padded({3: -1, 9: -1}), ignore_index=-1) == fx.cross_entropy(X[rest], Y[rest])
    assert fx.cross_entropy(X, padded({3: -1, 9: -100}), invalid="ignore") == fx.cross_entropy(X[rest], Y[rest])


def test_no_hint_where_no_label_can_be_ignored():
    with pytest.raises(IndexError, match=r"^y\[0\] is -1, outside \[0, inf\)$"):
        fx.contingency_table([0], [-1])


def test_padding_far_behind_the_first():
    labels = np.zeros(3_000_000, np.int8)
    labels[[5, -1]] = -1
    with pytest.raises(IndexError, match=r"pass ignore_index=-1$"):
        fx.nll_loss(np.zeros((3_000_000, 2), np.float16), labels)
    labels[-1] = 2
    with pytest.raises(IndexError, match=r"^target\[5\] is -1, outside \[0, 2\)$"):
        fx.nll_loss(np.zeros((3_000_000, 2), np.float16), labels)


# ---- probabilities that are given as logits ----


def test_evaluate_warns_of_probabilities():
    with pytest.warns(fx.NormalizedInputWarning, match=r"rows of logits .* say inputs='probs'") as caught:
        plain = fx.evaluate(P, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert plain.cross_entropy == fx.evaluate(P, Y, inputs="logits").cross_entropy  # and no warning
    assert abs(fx.evaluate(P, Y, inputs="probs").cross_entropy - fx.cross_entropy(X, Y)) < 1e-6
    fx.evaluate(X, Y)
    fx.evaluate(fx.log_softmax(X, axis=1), Y)
    fx.evaluate(P[:, 0], Y % 2, binary=True)


def test_evaluate_warns_of_files(tmp_path):
    np.save(tmp_path / "p.npy", P)
    with pytest.warns(fx.NormalizedInputWarning, match=r"rows of .*p\.npy look"):
        fx.evaluate(tmp_path / "p.npy", Y)


def test_fit_temperature_warns_once():
    scores, labels = np.array([[0.9, 0.1]] * 4), [0, 0, 0, 1]
    with pytest.warns(fx.NormalizedInputWarning) as caught:
        fx.fit_temperature(scores, labels)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("base", "other", "words"),
    [
        (P, P, r"rows of base and other .* say inputs='probs' \(--inputs probs\)$"),
        (P, X, r"rows of base look .* say base_inputs='probs' \(--base-inputs probs\)$"),
        (X, P, r"rows of other look .* inputs='probs', base_inputs='logits' \(--inputs probs --base-inputs logits\)$"),
    ],
)
def test_compare_warns_of_probabilities(base, other, words):
    with pytest.warns(fx.NormalizedInputWarning, match=words) as caught:
        fx.compare(base, other, Y)
    said = str(caught[0].message).partition(" say ")[2].partition(" (")[0]
    options = dict(item.replace("'", "").split("=") for item in said.split(", "))
    assert abs(fx.compare(base, other, Y, **options).kl_mean) < 1e-6  # and no warning
    fx.compare(base, other, Y, inputs="logits")


# ---- the command line ----


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in {"x": X, "y": Y, "p": P}.items():
        np.save(f"{name}.npy", array)
    np.savetxt("y.csv", Y, fmt="%d")


def complaint(capsys, status, *arguments):
    try:
        found = main(arguments)
    except SystemExit as stop:
        found = stop.code
    assert found == status
    return capsys.readouterr().err


def test_no_command_shows_the_help(capsys):
    said = complaint(capsys, 2)
    assert "fastxent eval --demo" in said
    assert "compare two models" in said
    assert said.endswith("\nfastxent: error: a COMMAND is wanted\n")


def test_an_unknown_option_comes_with_the_usage_of_its_command(capsys):
    said = complaint(capsys, 2, "eval", "x.npy", "y.npy", "--device", "cuda")
    assert said.splitlines() == [
        "usage: fastxent eval [options] LOGITS [LABELS]",
        "fastxent eval: error: unrecognized arguments: --device cuda",
    ]
    assert complaint(capsys, 2, "info", "x").splitlines()[-1] == "fastxent info: error: unrecognized arguments: x"


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_help_has_examples_on_lines_of_their_own(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"  fastxent {command} ") for line in lines)


def test_text_is_no_format_but_there_is_a_way(here, capsys):
    said = complaint(capsys, 1, "eval", "x.npy", "y.csv")
    code = said.partition("for text, ")[2].strip()
    assert code == "numpy.save('y.npy', numpy.loadtxt('y.csv', dtype=int))"
    exec(code, {"numpy": np})
    assert (np.load("y.npy") == Y).all()


def test_notes_come_before_the_result(here, capsys):
    said = complaint(capsys, 0, "compare", "x.npy", "p.npy")
    assert said == (
        "fastxent: note: the rows of p.npy look like probabilities; "
        "if so, say inputs='probs', base_inputs='logits' (--inputs probs --base-inputs logits)\n"
    )
    assert complaint(capsys, 0, *"compare x.npy p.npy --inputs probs --base-inputs logits".split()) == ""


def test_a_report_of_something_else(here, capsys):
    assert "x.npy is no JSON, as --json writes it: " in complaint(capsys, 1, "report", "x.npy")
