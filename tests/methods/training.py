"""Whole runs on digits in one compiled loop, for tests of what training leads to."""

import jax
import jax.numpy as jnp

from rl_jax import data, train


def on_digits(method, augment, optimizer, *, steps, batch_size, seed=0):
    """The state after `steps` steps, and each metric as an array [steps].

    For methods without convolutions, which are slow in a loop on CPU.
    """
    pieces = {"method": method, "augment": augment, "optimizer": optimizer}
    images = jnp.asarray(data.digits().images)

    def batch(rng, t):
        order = jax.random.permutation(jax.random.fold_in(rng, t), len(images))
        index = order[:batch_size]
        return {"index": index, "image": images[index]}

    @jax.jit
    def run(rng):
        def one(ts, t):
            return train.train_step(ts, batch(rng, t), **pieces)

        start = train.init_train_state(rng, batch(rng, 0), **pieces)
        return jax.lax.scan(one, start, jnp.arange(steps))

    return run(jax.random.key(seed))
