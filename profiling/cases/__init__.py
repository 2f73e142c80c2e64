"""What `profiling.agreement` compares: ours beside the same of other libraries."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Peer(NamedTuple):
    """Where the same is computed by others.

    Attributes:
      library: a package, or the name of a repository of the authors' code.
      name: the function or class there; `peers/torch_losses.py`,
        `torch_masks.py`, `torch_training.py` and `torch_encoders.py` call it.
      convention: how it differs by definition, and so what stands on which side.
      factor: what the convention multiplies theirs by to give ours: from the two
        definitions, never from numbers.
      ours: arguments of ours that choose their convention.
      inside: the function itself where it is one of JAX.
    """

    library: str
    name: str
    convention: str = ""
    factor: float = 1.0
    ours: dict[str, Any] = {}
    inside: Callable | None = None


class Case(NamedTuple):
    """One thing of ours, its inputs, and its peers.

    Attributes:
      name: what it is, a row of the table.
      ours: `(*inputs, **options)` to a scalar.
      inputs: `(rng) -> arrays`, float32.
      wrt: the gradients are by so many leading inputs; 0: `ours` gives an array, which
        is compared as it is.
      options: what both sides are called with.
      peers: the others.
    """

    name: str
    ours: Callable
    inputs: Callable[[np.random.Generator], tuple]
    wrt: int
    options: dict[str, Any]
    peers: tuple[Peer, ...]


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], tuple]:
    """Inputs that are normal, of these shapes."""
    return lambda rng: tuple(rng.standard_normal(s, np.float32) for s in shapes)


def pairs(count: int, dim: int) -> Callable[[np.random.Generator], tuple]:
    """Two views: rows of every length, those of one index alike."""

    def make(rng):
        centre, *noise = rng.standard_normal((3, count, dim), np.float32)
        return tuple(centre + n for n in noise)

    return make
