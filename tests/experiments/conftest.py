"""Experiments made up for the tests of what runs them."""

import importlib
import sys

import pytest

import experiments

FAKE = '''"""{claim}

Let x be <any> number & y another; `a < b` is code. Then

    x + y = y + x    for x_i, y_i in R^{{d}}

- the first item
  goes on here
- the second

In the figure is nothing.
"""

from experiments import outcome

SECTION = "{section}"
TITLE = "{title}"


def run(*, value: float = {value}, steps: int = 3, sizes: tuple[int, ...] = (1, 2)):
    """Adds.

    Args:
      value: what is found.
      steps: how many, at most 9.
      sizes: of both.
    """
    if steps > 9:
        raise ValueError("steps must be at most 9,\\ngot " + str(steps) + " <so>")
    checks = (
        outcome.equal("1 + 1 <in all>", value, 2.0, tolerance=0.01, unit="nat"),
        outcome.at_most("size", sizes, 5.0),
    )
    return outcome.Outcome(checks, {{}}, "It is " + str(value) + ".", "{correction}")


def draw(figure, found):
    """A line; `x` & more <than> that."""
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set(title="a < b & c", xlabel="step")
    {draw}
'''
KINDS = {
    "fake_holds": {"section": "1.1", "claim": "One and one <are> two."},
    "fake_corrected": {"section": "2.2", "correction": "It is <two>, not three."},
    "fake_fails": {"section": "3.3", "value": "2.5"},
    "fake_raises": {"section": "4.4", "value": "1 / 0"},
    "fake_figure": {"section": "5.5", "draw": "raise KeyError('no panel')"},
}
USUAL = {"claim": "A claim.", "title": "A & B <title>", "value": "2.0",
         "correction": "", "draw": "pass"}  # fmt: skip


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """The names of five: two that hold, one that fails, two that raise."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name, kind in KINDS.items():
        text = FAKE.format(**{**USUAL, **kind})
        if name == "fake_raises":
            text = text.replace("value: float = 1 / 0", "value: float = 2.0").replace(
                "    if steps > 9", "    1 / 0\n    if steps > 9"
            )
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(folder)])
    monkeypatch.setattr(experiments, "NAMES", tuple(KINDS))
    importlib.invalidate_caches()
    yield tuple(KINDS)
    for name in KINDS:
        sys.modules.pop(f"experiments.{name}", None)
