"""The page: one file without outside resource, every claim on it, nothing unescaped."""

import collections
import re
from html.parser import HTMLParser

import pytest

from experiments import atlas, record

WHERE = {"versions": {"rl_jax": "1.2", "jax": "3.4"}, "device": "1 x <cpu>"}
VOID = {"meta", "br", "hr", "img"}


class Page(HTMLParser):
    """What is on a page: elements with attributes, its text, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.said = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.said.append(data)

    @property
    def text(self):
        return " ".join("".join(self.said).split())


@pytest.fixture
def records(fakes):
    return [record.experiment(name, {}) for name in fakes]


@pytest.fixture
def text(records):
    return atlas.page(records, WHERE)


def test_it_stands_alone(text):
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    page = Page(text)
    assert not page.open
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object")
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)


def test_ids_are_unique_and_every_reference_has_one(text):
    page = Page(text)
    counts = collections.Counter(
        attributes["id"] for _, attributes in page.elements if "id" in attributes
    )
    assert set(counts.values()) == {1}
    referred = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {a or b for a, b in referred} <= set(counts)
    assert len(referred) > 10


def test_everything_is_on_it_and_escaped(text, records):
    said = Page(text).text
    for found in records:
        assert found.entry.claim in said
        assert f"{found.entry.section} · {found.entry.name}" in said
        assert f"rl-jax experiments {found.entry.name}" in said
    assert "2 of 5 hold, 1 with a correction to the text." in said
    assert "Let x be <any> number & y another; a < b is code. Then" in said
    assert "Correction to the text: It is <two>, not three." in said
    assert "It raised: ZeroDivisionError: division by zero" in said
    assert "It raised: KeyError: 'no panel'" in said
    assert "1 + 1 <in all>" in said
    assert "steps = 3 · sizes = (1, 2)" in said
    assert "rl_jax 1.2 · jax 3.4 · 1 x <cpu>" in said
    assert text.count('<td class="verdict good">✓ pass</td>') == 7
    assert text.count('<td class="verdict bad">✗ fail</td>') == 1


def test_contents_link_to_each_with_its_verdict(text, fakes):
    contents = text[text.index('<ol class="contents">') : text.index("</ol>")]
    assert re.findall(r'href="#([^"]+)"', contents) == list(fakes)
    verdicts = re.findall(r'aria-label="(\w+)"', contents)
    assert verdicts == ["holds", "holds", "fails", "error", "error"]
    assert contents.count("corrected</small>") == 1


def test_figures_and_tables_can_be_read_aloud(text):
    page = Page(text)
    pictures = [a for tag, a in page.elements if tag == "svg"]
    assert len(pictures) == 3
    for attributes in pictures:
        assert attributes["role"] == "img"
        said = "A & B <title>. A line; x & more <than> that."
        assert attributes["aria-label"] == said
    heads = [a.get("scope") for tag, a in page.elements if tag == "th"]
    assert set(heads) == {"col", "row"}
    assert ("html", {"lang": "en"}) in page.elements


def test_formulas_stay_as_they_are_written(text):
    assert (
        "<pre>x + y = y + x    for x<sub>i</sub>, y<sub>i</sub> in R<sup>d</sup></pre>"
    ) in text
    assert "<li>the first item goes on here</li><li>the second</li>" in text
    assert "<code>a &lt; b</code>" in text


def test_blocks():
    text = "one\ntwo\n    f = g\n      + h\n\n    k\nthree\n- a\n  b\n- c\n\nlast"
    assert list(atlas.blocks(text)) == [
        ("p", ["one", "two"]),
        ("pre", ["    f = g", "      + h"]),
        ("pre", ["    k"]),
        ("p", ["three"]),
        ("ul", ["- a", "  b", "- c"]),
        ("p", ["last"]),
    ]
    assert list(atlas.blocks("")) == []


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("λ_j U_kᵀ", "λ<sub>j</sub> U<sub>k</sub>ᵀ"),
        ("Σ_{j>k}", "Σ<sub>j&gt;k</sub>"),
        ("log p_σ(x)", "log p<sub>σ</sub>(x)"),
        ("L_sup^μ", "L<sub>sup</sub><sup>μ</sup>"),
        ("e^{−2R} + 10^12", "e<sup>−2R</sup> + 10<sup>12</sup>"),
        ("‖A‖_F", "‖A‖<sub>F</sub>"),
        ("linear_autoencoder x_train_2 theory.p_k", None),
        ("<b> & 'c'", "&lt;b&gt; &amp; &#x27;c&#x27;"),
    ],
)
def test_indices_and_exponents(text, markup):
    assert atlas.formula(text) == (text if markup is None else markup)


def test_a_quote_that_is_never_closed_is_text():
    assert atlas.code("a ` b") == ["a ` b"]


def test_a_page_of_nothing_but_an_error(fakes):
    lost = record.experiment("fake_lost", {})
    said = Page(atlas.page([lost], {})).text
    assert "0 of 1 hold." in said
    assert "No module named 'experiments.fake_lost'" in said
