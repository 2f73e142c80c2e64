"""Networks so small that what a method does with them can be written out by hand."""

import jax
import jax.numpy as jnp

from rl_jax.types import Network


def linear(d_in, d_out, seed):
    """A linear network of numbers or tokens, without state."""

    def init(rng, x):
        del rng, x
        return 0.5 * jax.random.normal(jax.random.key(seed), (d_in, d_out)), {}

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x.reshape(len(x), -1).astype(jnp.float32) @ params, state

    return Network(init, apply)
