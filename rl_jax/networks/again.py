"""Parts of a network that the backward pass computes a second time."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax


def again(function: Callable) -> Callable:
    """The same function, of which nothing but the arguments is kept.

    The backward pass calls it again and then differentiates that call: one more forward
    pass, for the memory of what lies between arguments and results. `jax.checkpoint`
    does the same where the compiler holds to its barriers. On CPU it takes them away,
    and then computes every part again at once, before any of them is needed. Here a
    part waits for the gradient of its own results.

    Args:
      function: of trees of float arrays, to such a tree.

    Returns:
      The function, to be differentiated in reverse mode.
    """

    @jax.custom_vjp
    def run(*args):
        return function(*args)

    def forward(*args):
        return run(*args), args

    def backward(args, cotangents):
        args, cotangents = _together(args, cotangents)
        return jax.vjp(function, *args)[1](cotangents)

    run.defvjp(forward, backward)
    return run


def _together(early: Any, late: Any) -> tuple[Any, Any]:
    """Both as they are; the first is not to be used before the second is there."""
    if jax.default_backend() != "cpu":
        return lax.optimization_barrier((early, late))
    there = zero_after(late) == 0
    return jax.tree.map(lambda x: jnp.where(there, x, jnp.zeros_like(x)), early), late


def zero_after(tree: Any) -> chex.Array:
    """0, known only once all of `tree` is computed.

    What needs it is a thing that XLA has to wait with on CPU: `checkpoint` and
    `optimization_barrier` do not hold it back, and x + 0·y is folded. No 32 bits have
    64 ones.
    """
    total = sum(jnp.sum(x, dtype=jnp.float32) for x in jax.tree.leaves(tree))
    bits = lax.bitcast_convert_type(total, jnp.uint32)
    return (lax.population_count(bits) >> 6).astype(jnp.int32)
