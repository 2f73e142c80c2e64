"""Conventions of the public interface."""

import inspect

import pytest

from rl_jax import (
    augment,
    data,
    evaluate,
    losses,
    memory,
    methods,
    networks,
    pairwise,
    theory,
)
from rl_jax import train as training

MODULES = [
    augment,
    data,
    evaluate,
    losses,
    memory,
    methods,
    networks,
    pairwise,
    theory,
    training,
]


def public():
    for module in MODULES:
        names = getattr(module, "__all__", None) or [
            n for n, f in vars(module).items()
            if inspect.isfunction(f) and f.__module__ == module.__name__
        ]  # fmt: skip
        for name in names:
            thing = getattr(module, name)
            if inspect.isfunction(thing) and not name.startswith("_"):
                yield pytest.param(thing, id=f"{module.__name__}.{name}")


@pytest.mark.parametrize("function", list(public()))
def test_is_documented(function):
    doc = inspect.getdoc(function)
    assert doc
    assert doc.split("\n")[0].endswith((".", ":", "]", ")")) or doc.count("\n") > 1
    for name in inspect.signature(function).parameters:
        if len(inspect.signature(function).parameters) > 2 and "Args:" in doc:
            assert name in doc, f"{name} is not in the docstring"


@pytest.mark.parametrize("function", list(public()))
def test_randomness_is_called_rng(function):
    names = list(inspect.signature(function).parameters)
    assert "prng_key" not in names
    if "rng" in names:
        assert names[0] == "rng"
