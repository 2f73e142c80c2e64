"""Keys for the noise that networks draw in training: dropout, stochastic depth."""

import chex
import jax
import numpy as np

NETWORKS = np.uint32(2**32 - 1)
"""No example has this index, so `fold_in` of one gives no key of a network."""


def keys(rng: chex.PRNGKey | None, count: int) -> list[chex.PRNGKey | None]:
    """A key for each pass through a network, apart from what a method itself draws.

    Each pass has its own, also those of one network: two views, or a network and its
    target, do not share a mask. What a method draws for example i is from
    `fold_in(rng, i)`, or from `split(rng)`, which are the first of these.

    Args:
      rng: key of the step, as the loss gets it; None: no noise.
      count: number of passes.
    """
    if rng is None:
        return [None] * count
    return list(jax.random.split(jax.random.fold_in(rng, NETWORKS), count))
