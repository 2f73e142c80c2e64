"""Factories of methods and networks whose functions are one program each.

Called as they are, every operation of every shape is compiled by itself: a hundred
small programs, which take several times as long.
"""

import functools
import inspect
from types import ModuleType
from typing import Any

import jax

import rl_jax.methods
import rl_jax.networks
from rl_jax.types import Method, Network

PARTS = {
    Method: ("init", "loss", "encode"),
    Network: ("init", "apply", "layers"),
}
STATIC = ("train", "parts")


def compiled(made: Any) -> Any:
    """A method or network with its functions compiled; anything else as it is."""
    if type(made) not in PARTS:
        return made
    functions = {name: getattr(made, name) for name in PARTS[type(made)]}
    return made._replace(**{k: _program(f) for k, f in functions.items() if f})


def _program(function):
    static = set(STATIC) & set(inspect.signature(function).parameters)
    return jax.jit(function, static_argnames=sorted(static))


class Factories:
    """What a package has, its factories' methods and networks compiled."""

    def __init__(self, package: ModuleType):
        self._package = package

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._package, name)
        if not callable(found) or isinstance(found, type):
            return found
        return functools.wraps(found)(lambda *a, **k: compiled(found(*a, **k)))


methods = Factories(rl_jax.methods)
networks = Factories(rl_jax.networks)
