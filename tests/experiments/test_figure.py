"""Figures: ink of the page, nothing black or white, the same bytes each time."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from experiments import figure
from tests.experiments.running import hard_coded


def everything(axes):
    """What matplotlib would draw in black."""
    axes.bar([0, 1], [1, 2], edgecolor=None, hatch="/", fill=False)
    axes.annotate("a < b & c", (0, 1), (1, 2), arrowprops={"arrowstyle": "->"})
    axes.boxplot([[1, 2, 3, 9]])
    axes.errorbar([0, 1], [0, 1], [0.1, 0.1], label="x")
    axes.legend()
    axes.set(title="title", xlabel="step")


def draw(fig, found):
    left, right = fig.subplots(1, 2)
    left.plot([0, 1, 2], found)
    left.set_yscale("log")
    everything(right)


@pytest.fixture(scope="module")
def svg():
    return figure.svg(draw, [1.0, 10.0, 100.0])


def test_it_is_one_element_of_text(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    said = {"".join(text.itertext()) for text in root.iter() if "text" in text.tag}
    assert {"title", "step", "a < b & c"} <= said


def test_ink_is_that_of_the_page(svg):
    assert "currentColor" in svg
    assert figure._INK not in svg
    assert not hard_coded(svg)


@pytest.mark.parametrize("colour", ["black", "white"])
@pytest.mark.parametrize("what", ["line", "text", "patch"])
def test_black_and_white_are_found(colour, what):
    def draw(fig, found):
        axes = fig.subplots()
        if what == "line":
            axes.plot([0, 1], color=colour)
        elif what == "text":
            axes.text(0.5, 0.5, "word", color=colour)
        else:
            axes.axvspan(0, 1, color=colour)

    assert hard_coded(figure.svg(draw, None))


def test_the_same_figure_has_the_same_bytes(svg):
    assert figure.svg(draw, [1.0, 10.0, 100.0]) == svg
    assert figure.svg(draw, [1.0, 10.0, 101.0]) != svg


def test_nothing_of_elsewhere_and_no_date(svg):
    assert "<metadata" not in svg
    urls = set(re.findall(r"https?://[^\"]+", svg))
    assert urls == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_coordinates_have_two_decimals_and_labels_all(svg):
    def long(fig, found):
        fig.subplots().set(title="0.123456", xticks=[0.123456, 0.5])

    texts = [figure.svg(long, None), svg]
    assert "0.123456" in texts[0]
    assert not re.search(r' (?:d|x|y)="[^"]*\d\.\d{3}', "".join(texts))


def test_alone_it_has_an_ink_for_any_background(svg):
    text = figure.alone(svg)
    assert "currentColor" not in text
    assert ElementTree.fromstring(text).tag.endswith("svg")
    grey = [int(figure.COLOURS[-1][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    light = sum(
        w * ((c + 0.055) / 1.055) ** 2.4
        for w, c in zip((0.2126, 0.7152, 0.0722), grey, strict=True)
    )
    near_black = 0.0056  # GitHub's dark page
    assert 1.05 / (light + 0.05) > 4
    assert (light + 0.05) / (near_black + 0.05) > 4


def test_settings_of_matplotlib_are_left_as_they_were():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure.svg(draw, [1, 2, 3])
    assert dict(matplotlib.rcParams) == before
