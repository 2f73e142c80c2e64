"""Every name has its file, in the order of the text, with all that makes a page."""

import importlib
import inspect
import pathlib
import re

import pytest

import experiments
from experiments import catalogue, runner

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "experiments"
RESERVED = {"out", "figures", "jobs", "list", "quick_help", "help"}


def sections(text):
    """The first number of a section as two numbers: (5, 5) of 5.5, 12.2."""
    first = re.match(r"(\d+)\.(\d+)", text)
    assert first, text
    return int(first[1]), int(first[2])


@pytest.mark.parametrize("name", experiments.NAMES)
def test_what_the_file_says(name):
    entry = catalogue.read(name)
    assert sections(entry.section) >= (1, 1)
    assert entry.title
    assert not entry.title.endswith(".")
    assert entry.claim.endswith(".")
    assert entry.text
    assert entry.caption.endswith(".")
    assert len(f'"""{entry.claim}') <= 88


@pytest.mark.parametrize("name", experiments.NAMES)
def test_what_can_be_asked_of_it(name):
    module = importlib.import_module(f"experiments.{name}")
    given = inspect.signature(module.run).parameters
    assert given
    for parameter in given.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.name not in RESERVED
        documented = re.search(
            rf"^\s+(\w+, )*{parameter.name}\b.*:", module.run.__doc__, re.M
        )
        assert documented, parameter.name
    assert [*inspect.signature(module.draw).parameters] == ["figure", "found"]
    asked = runner.parsed(name, [])
    assert asked == {key: parameter.default for key, parameter in given.items()}


@pytest.mark.parametrize("name", experiments.NAMES)
def test_it_has_a_test(name):
    # The suffix where another folder has a test of that name.
    files = [f"test_{name}.py", f"test_{name}_experiment.py"]
    assert any((ROOT / "tests" / "experiments" / file).exists() for file in files)


def test_names_are_in_the_order_of_the_text():
    found = [sections(catalogue.read(name).section) for name in experiments.NAMES]
    assert found == sorted(found)


def test_no_experiment_is_without_a_name():
    written = {
        path.stem
        for path in FOLDER.glob("*.py")
        if re.search(r"^SECTION = ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert written == set(experiments.NAMES)


def test_the_figures_of_the_readme_are_those_it_names():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(
        r"rl-jax experiments ([\w ]+) --figures experiments/results/figures", text
    )
    shown = re.findall(r"\(experiments/results/figures/(\w+)\.svg\)", text)
    assert command
    assert shown == command[1].split()
    for name in shown:
        assert name in experiments.NAMES
        path = FOLDER / "results" / "figures" / f"{name}.svg"
        assert path.read_text(encoding="utf-8").startswith("<svg")
