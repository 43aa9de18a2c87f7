"""The report as an HTML file: what is in it, what can't be in it, and how a real browser shows it."""

import functools
import io
import os
import re
import shutil
import sys
import warnings
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from child import run_python
from results import comparison, evaluation

import fastxent as fx
from fastxent import report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

VOID = {"meta", "path", "use", "rect", "line", "br", "link", "img", "hr", "input"}
HOSTILE = "a\x1b\0\r\n\u202egpj</script></style></svg><script>alert(1)</script>\"' onload=x &amp; $x^2$ {{7*7}} é漢"


class Page(HTMLParser):
    """The elements of a page; what is not closed in order is an error."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.ids, self.refs, self.attributes = [], [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name in ("aria-labelledby", "aria-describedby"):
                self.refs += value.split()
            self.refs += re.findall(r"url\(#([^)]*)\)", value or "")
            if name == "href":
                assert value.startswith("#")
                self.refs.append(value[1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@functools.cache
def pages():
    """Pages with all blocks, of one result and of several, of one model and of two."""
    runs = [evaluation(scale) for scale in (1, 1.1, 0.9, 1.2, 1.3, 1.4, 1.5)]
    return {
        "one": report.html(runs[0]),
        "seven": report.html(*(report.as_result(run, f"run {i}.json") for i, run in enumerate(runs))),
        "comparison": report.html(comparison()),
        "comparisons": report.html(*(report.as_result(comparison(x), f"q{8 // x}.json") for x in (1, 2))),
        "least": report.html({"rows": 0, "cross_entropy": "nan"}),
        "demo": report.html(fx.evaluate(np.eye(5)[np.arange(90) % 5] * 3, np.arange(90) % 4)),
    }


NAMES = ("one", "seven", "comparison", "comparisons", "least", "demo")
PLOTS = {
    "one": {
        "Reliability", "Before and after temperature", "Loss by temperature", "Distribution of the loss",
        "Loss, sorted", "Rank curve", "Loss by group",
    },
    "comparison": {
        "KL divergence by confidence of the base model", "KL divergence, sorted", "KLD by position",
        "Change of the label's probability, sorted", "Agreement of the top k",
    },
    "least": set(),
    "demo": {"Reliability", "Rank curve", "Distribution of the loss", "Loss, sorted"},
}  # fmt: skip


PLOTS_OF = {
    "reliability": ["Reliability"], "groups": ["Loss by group", "KLD by position"], "topk": ["Rank curve"],
    "quantiles": ["Loss, sorted", "Distribution of the loss"], "temperatures": ["Loss by temperature"],
    "calibration": ["Before and after temperature"],
    "kl_by_confidence": ["KL divergence by confidence of the base model"],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_well_formed_and_self_contained(name):
    text = pages()[name]
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.refs) <= set(page.ids)
    assert not {"script", "img", "link", "iframe", "object", "image"} & set(page.tags)
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
    assert page.tags.count("h1") == page.tags.count("title") - page.tags.count("svg") == 1
    assert page.tags.count("caption") == page.tags.count("table")
    assert page.tags.count("svg") == page.tags.count("desc") == page.tags.count("figcaption")


@pytest.mark.parametrize("name", PLOTS)
def test_plots(name):
    text = pages()[name]
    assert set(re.findall(r"<h3>(.*?)</h3>", text.replace("&#39;", "'"))) == PLOTS[name]
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        # colours are roles; a bare black would vanish in the dark
        colors = {"none", *(f"var(--{role})" for role in ("ink", "grid", "muted", *(f"run-{i}" for i in range(1, 7))))}
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= colors
        assert "var(--run-1)" in svg
        assert "mathdefault" not in svg


def test_numbers_are_those_of_the_text():
    for data, name in ((evaluation(), "one"), (comparison(), "comparison")):
        words = " ".join(" ".join(Page(pages()[name]).text).split())
        for line in report.text(data).splitlines()[1:]:
            for cell in re.split(r"\s{2,}", line.strip()):
                assert " ".join(cell.split()) in words or cell == "..."


def test_missing_blocks_are_left_out():
    for whole, fields in (
        (evaluation(), ("reliability", "temperatures", "provenance")),
        (evaluation(), ("groups", "topk", "quantiles", "calibration", "cross_entropy_stderr")),
        (comparison(), ("kl_by_confidence", "groups", "kl_mean")),
    ):
        text = report.html({k: v for k, v in whole.items() if k not in fields})
        assert "None" not in text
        Page(text)
        titles = set(re.findall(r"<h3>(.*?)</h3>", text.replace("&#39;", "'")))
        gone = {title for field in fields for title in PLOTS_OF.get(field, ())}
        assert titles == PLOTS["one" if "accuracy" in whole else "comparison"] - gone


def test_same_bytes_in_another_process(tmp_path):
    code = f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        import matplotlib; matplotlib.rcParams.update({{"axes.facecolor": "red", "font.size": 30}})
        from results import evaluation; from fastxent import report
        sys.stdout.buffer.write(report.html(evaluation()).encode())
        """
    done = run_python(code, PYTHONHASHSEED="7", SOURCE_DATE_EPOCH="7")
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode(errors="surrogateescape").decode() == pages()["one"]


def test_hostile_words():
    groups = [{"group": f"{HOSTILE}{i}", "cross_entropy": 1.0 + i, HOSTILE: HOSTILE} for i in range(3)]
    data = {**evaluation(), "groups": groups, "provenance": {HOSTILE: HOSTILE, "logits": {"name": HOSTILE}}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in (report.html(data, data, heading=HOSTILE), report.html(report.as_result(data, HOSTILE))):
            page = Page(text)
            assert "script" not in page.tags
            assert not set(text) & set("\x1b\0\r\u202e")
            assert any("<script>alert(1)</script>" in words for words in page.text)  # as words
            assert "{{7*7}}" in text
            assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
            text.encode()


def test_odd_numbers():
    """NaN, infinities, nothing but zeros, huge and tiny ones: no plot breaks."""
    plain = {k: v for k, v in evaluation().items() if k not in ("calibration", "temperatures")}  # plots take long
    for x in ("inf", 0, 1e308, -3e-300):
        data = {**plain, "quantiles": dict.fromkeys(evaluation()["quantiles"], x), "topk": {"1": x, "5": x}}
        data["groups"] = [{"group": g, "cross_entropy": x, "cross_entropy_stderr": x} for g in ("a", "b")]
        data["reliability"] = [{"lower": 0, "upper": 1, "count": 3, "confidence": x, "accuracy": x}]
        data["histogram"] = {"edges": [0, x, 2], "counts": [1, 2]}
        Page(report.html(data))
        both = {**comparison(), "kl_quantiles": data["quantiles"], "delta_p_quantiles": data["quantiles"]}
        both["kl_by_confidence"] = [{"bucket": "all", "kl_mean": x}]
        Page(report.html(both))
    many = [{"group": f"g{i}", "cross_entropy": i} for i in range(1000)]
    text = report.html({"rows": 1000, "cross_entropy": 2.5, "groups": many})
    assert "800 more are in the JSON" in text
    assert "The first 24 of 1000 groups" in text


def binned(edges, counts):
    """A result with a histogram, and no other plot."""
    whole = {"rows": 1010, "used": 1000, "cross_entropy": 2.5, "accuracy": 0.4}
    return {**whole, "histogram": {"edges": edges, "counts": counts}}


def test_histogram_of_counts():
    data = binned([0, 1, 2, 4], [1, 2, 3])
    assert "Drawn from quantiles" in pages()["one"]
    assert "Drawn from quantiles" not in pages()["demo"]
    text = report.html({**data, "quantiles": evaluation()["quantiles"]})
    assert "Distribution of the loss" in text
    assert "Drawn from quantiles" not in text
    assert "Not drawn" not in text


def test_histogram_says_what_it_does_not_draw():
    edges = [0, 0.001, 0.01, 1, 256, "inf"]
    data = binned(edges, [1, 0, 5, 2, 2])
    words = "10.00 % of the rows below 0.001 and 20.00 % of the rows from 256 on"
    assert f"Not drawn: {words}." in report.html(data)
    other = report.as_result(binned(edges, [0, 5, 5, 0, 0]), "b")
    assert f"Not drawn: a: {words}." in report.html(report.as_result(data, "a"), other)
    for counts in ([0] * 5, [3, 0, 0, 0, 0], [0, 0, 0, 0, 3]):  # none that could be drawn
        text = report.html(binned(edges, counts))
        assert ("Distribution of the loss" in text) == (counts[0] > 0)  # from 0 on, drawn evenly


def test_plots_of_a_real_comparison():
    """Errors stand beside their values, and are no curves of their own."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(50, 6))
    text = report.html(fx.compare(base, base + rng.normal(size=base.shape), np.arange(50) % 6))
    assert "stderr" not in text
    (agreement,) = re.findall(r'<svg[^>]*"topk-agreement-title.*?</svg>', text, re.DOTALL)
    assert {"ordered", "set"} <= set(re.findall(r">([a-z_]+)</text>", agreement))


def test_bars_of_few_rows_are_octaves():
    edges = [0, 0.001, 1, 1.25, 1.5, 1.75, 2, 2.5]
    data = binned(edges, [0, 5, 1, 2, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="one edge more"):
        report.html(data)
    data["histogram"]["counts"].pop()

    def bars(used):
        (svg,) = re.findall(r'<svg[^>]*"histogram-title.*?</svg>', report.html({**data, "used": used}), re.DOTALL)
        return max(path.count("L") for path in re.findall(r'<path d="([^"]*)"', svg))

    assert bars(9_999) == bars(10_000) - 2 * 3  # of the quarters from 1 to 2


def test_without_the_extra(monkeypatch):
    for name in ("jinja2", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(ImportError, match=rf'{name}: pip install "fastxent\[report\]"'):
                report.html(evaluation())
            assert report.text(evaluation())


def contrast(one, two):
    """Of two colours, as WCAG 2 has it."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_contrast():
    css = (Path(report.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks]
    assert len(schemes) == 3  # light, dark, print
    for colors in schemes:
        for back in ("page", "card"):
            assert min(contrast(colors[name], colors[back]) for name in ("ink", "muted")) > 4.5
            assert min(contrast(colors[f"run-{i}"], colors[back]) for i in range(1, 7)) > 3


# ---- a real browser ----

SIZES = {"phone": (390, 844), "narrow": (320, 568), "desk": (1280, 900)}


def browser_path():
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")]
    return os.environ.get("FASTXENT_TEST_BROWSER") or next((path for path in found if path), None)


@pytest.fixture(scope="module")
def browser():
    """Chromium, the system's or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as play:
        try:
            running = play.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no browser: apt-get install chromium, or playwright install chromium ({str(error)[:80]})")
        yield running
        running.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A page opened, without a network request, an error or a word on the console."""
    contexts, complaints = [], []

    def open_page(text, width, height, scheme="light"):
        (file := tmp_path / f"{len(contexts)}.html").write_text(text, "utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: request.url == file.as_uri() or complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def decoded(png):
    from matplotlib.image import imread

    return imread(io.BytesIO(png), format="png")[..., :3]


def pixels(page):
    return decoded(page.screenshot(full_page=True))


@pytest.mark.parametrize("name", ["one", "seven", "comparisons", "least"])
def test_screenshots(opened, name):
    page = opened(pages()[name], *SIZES["phone"])
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        width, height = SIZES["phone" if scheme == "dark" else "desk"]
        page.set_viewport_size({"width": width, "height": height})
        picture = pixels(page)
        assert picture.mean() > 0.8 if scheme == "light" else picture.mean() < 0.25
        assert picture.std() > 0.03  # not blank


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_stand_out(opened, scheme):
    """Each plot's ink and lines differ from what is behind them, and it is drawn inside its box."""
    page = opened(pages()["comparisons"], *SIZES["phone"], scheme)
    plots = page.locator("svg.plot")
    assert plots.count() == 5
    for i in range(plots.count()):
        box = plots.nth(i).bounding_box()
        assert 300 < box["width"] < 390
        assert 150 < box["height"] < 500
        picture = decoded(plots.nth(i).screenshot())
        back = np.median(picture.reshape(-1, 3), axis=0)
        assert (back.mean() > 0.9) == (scheme == "light")
        away = np.abs(picture - back).max(axis=2)
        assert 0.005 < (away > 0.4).mean() < 0.5
        colorful = picture.max(axis=2) - picture.min(axis=2) > 0.3
        assert colorful.sum() > 30
    heights = "[...document.querySelectorAll('svg.plot text')].map(t => t.getBoundingClientRect().height)"
    assert min(page.evaluate(heights)) >= 9


def test_hostile_words_do_nothing(opened):
    data = {**evaluation(), "groups": [{"group": f"{HOSTILE}{i}", "cross_entropy": 1.0 + i} for i in range(3)]}
    page = opened(report.html(report.as_result(data, HOSTILE)), *SIZES["phone"])
    assert page.locator("script").count() == 0
    assert page.evaluate("document.scrollingElement.scrollWidth") <= SIZES["phone"][0]
    assert page.get_by_role("region", name="by group").inner_text().count("<script>alert(1)</script>") == 3


def test_long_names_fit(opened):
    name = "a-very-long-name-without-a-place-to-break_" * 6
    data = {**evaluation(), "groups": [{"group": name + str(i), "cross_entropy": 1.0 + i} for i in range(3)]}
    runs = [report.as_result(data, f"{name}{i}.json") for i in range(6)]
    page = opened(report.html(*runs), *SIZES["phone"])
    assert page.evaluate("document.scrollingElement.scrollWidth") <= SIZES["phone"][0]


@pytest.mark.parametrize("name", ["one", "comparisons"])
def test_print(opened, name, tmp_path):
    """On paper: light whatever the scheme, nothing cut off by a box that scrolls."""
    page = opened(pages()[name], *SIZES["desk"], "dark")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins
    assert pixels(page).mean() > 0.85
    boxes = "[...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflow)"
    assert set(page.evaluate(boxes)) == {"visible"}
    wide = "Math.max(...[...document.querySelectorAll('table, figure, dl')].map(e => e.getBoundingClientRect().right))"
    assert page.evaluate(wide) <= 688
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


def test_keyboard_and_roles(opened):
    """What a screen reader goes by: headings in order, names of plots, scopes; tables scroll with the keyboard."""
    page = opened(pages()["one"], *SIZES["phone"])
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for i in range(page.locator("svg.plot").count()):
        assert page.locator("svg.plot").nth(i).get_attribute("role") == "img"
        assert page.get_by_role("img").nth(i).is_visible()
    assert page.locator("tbody tr > :first-child:not(th)").count() == 0
    region = page.get_by_role("region", name="by group")
    region.focus()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"
