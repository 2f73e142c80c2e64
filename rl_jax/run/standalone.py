"""The encoder of a method as one function of raw inputs that holds its weights."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend import core

from rl_jax import networks
from rl_jax.run.encode import encode_batch
from rl_jax.types import Augment, Method, Params, State

PLATFORMS = ("cpu", "cuda", "tpu")
"""What it is lowered for, all in one module."""


class Standalone(NamedTuple):
    """A function that needs neither the weights nor this library.

    Attributes:
      exported: `(*inputs) -> {name: [b, D]}` for any number b of examples.
      inputs: shape and dtype of one example of each input, in order of the arguments.
      used: names of the tensors that the outputs depend on, as `named` has them.
    """

    exported: export.Exported
    inputs: dict[str, tuple[tuple[int, ...], np.dtype]]
    used: list[str]


def represent(
    method: Method, augment: Augment, params: Params, state: State, batch: Mapping
) -> dict[str, jax.Array]:
    """What is made of a raw batch: h, z, ... of the network evaluated, no layers."""
    found = encode_batch(method, augment, params, state, dict(batch))
    left_out = {"target_h", "online_h", "reconstruction", *networks.in_order(found)}
    return {name: v for name, v in found.items() if name not in left_out}


def named(params: Params, state: State) -> dict[str, jax.Array]:
    """Every leaf by its path: `params/encoder/stem/kernel`, `state/encoder/...`."""
    leaves = jax.tree_util.tree_leaves_with_path({"params": params, "state": state})
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
    }


def standalone(
    method: Method,
    augment: Augment,
    params: Params,
    state: State,
    example: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> Standalone:
    """Lowers `represent` with its weights, for any batch size and every platform.

    Weights and inputs that no output depends on are left out.

    Args:
      method, augment: `augment.clean` is part of the function.
      params, state: of the method; as arrays of the host.
      example: shape and dtype of one example's entry of a raw batch, by name.
    """
    (b,) = export.symbolic_shape("b")
    names = [*named(params, state), *sorted(example)]
    leaves, tree = jax.tree.flatten((params, state, _specs(example, 1)))
    known = jax.tree.unflatten(tree, leaves)
    with on_any_platform():
        traced = jax.make_jaxpr(functools.partial(represent, method, augment))(*known)
    kept = used_arguments(traced)
    inputs = [names[i] for i in kept if names[i] in example]
    fixed = [i for i in kept if names[i] not in example]

    @jax.jit
    def function(*given):
        filled = list(leaves)
        # XLA would fold constants into one another, and round other than the run does,
        # whose weights are arguments.
        weights = jax.lax.optimization_barrier([jnp.asarray(leaves[i]) for i in fixed])
        for i, weight in zip(fixed, weights, strict=True):
            filled[i] = weight
        rows = given[0].shape[0]
        batch = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), _specs(example, rows)
        )
        params, state, _ = jax.tree.unflatten(tree, filled)
        batch |= dict(zip(inputs, given, strict=True))
        return represent(method, augment, params, state, batch)

    given = _specs(example, b)
    lower = export.export(function, platforms=PLATFORMS)
    with on_any_platform():
        exported = lower(*(given[name] for name in inputs))
    shapes = {name: example[name] for name in inputs}
    return Standalone(exported, shapes, [names[i] for i in fixed])


def layers(
    method: Method,
    augment: Augment,
    params: Params,
    state: State,
    example: Mapping[str, tuple[tuple[int, ...], np.dtype]],
) -> list[dict[str, Any]]:
    """What the layers behind `represent` are set to, see `networks.settings`.

    Args:
      method, augment, params, state, example: as for `standalone`.
    """
    return networks.settings(
        functools.partial(represent, method, augment),
        params,
        state,
        _specs(example, 1),
        names=lambda params, state, batch: named(params, state),
    )


def on_any_platform():
    """Traced in here, nothing is chosen for the card of this machine alone."""
    return jax.default_device(jax.devices("cpu")[0])


def _specs(example: Mapping, rows) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype)
        for name, (shape, dtype) in example.items()
    }


def used_arguments(traced: core.ClosedJaxpr) -> list[int]:
    """Numbers of the arguments that some output may depend on.

    An operation that any live value comes from is live with all it reads, also where
    it is a function of its own: never too few.
    """
    live = {id(v) for v in traced.jaxpr.outvars}
    for equation in reversed(traced.jaxpr.eqns):
        if live & {id(v) for v in equation.outvars}:
            live |= {id(v) for v in equation.invars}
    return [i for i, v in enumerate(traced.jaxpr.invars) if id(v) in live]
