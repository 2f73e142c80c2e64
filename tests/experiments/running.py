"""Runs an experiment and its figure: what the tests of all of them share."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from experiments import figure


def passes(experiment, **settings):
    """The outcome, after every check has passed and the figure was drawn."""
    outcome = experiment.run(**settings)
    wrong = [check for check in outcome.checks if not check.passed]
    assert not wrong, wrong
    svg = figure.svg(experiment.draw, outcome)
    assert not hard_coded(svg), "black or white, which some page hides"
    return outcome


def failed(experiment, **settings):
    """The quantities that miss what is expected of them."""
    outcome = experiment.run(**settings)
    return [check.quantity for check in outcome.checks if not check.passed]


def hard_coded(svg: str) -> list[str]:
    """What a figure draws in black or white, which one of two pages hides."""
    found = re.findall(r"(?:stroke|fill): #(?:000000|ffffff)", svg)
    for element in _unfilled(ElementTree.fromstring(svg)):
        found.append("".join(element.itertext()).strip() or element.tag)
    return found


def _unfilled(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Paths and texts without a colour, their own or inherited: they are black."""
    kind = element.tag.rpartition("}")[2]
    if kind == "defs" or "fill" in element.get("style", ""):
        return
    if kind in ("path", "text"):
        yield element
    for child in element:
        yield from _unfilled(child)
