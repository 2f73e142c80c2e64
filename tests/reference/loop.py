"""A whole training in one compiled loop, for what methods learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_jax import data


def scan(method, start, draw, rngs, *, optimizer):
    """Parameters, state and metrics [steps] after a step for each key of `rngs`.

    Args:
      method: what to train.
      start: its parameters and state.
      draw: `(rng) -> (batch, rng of the loss)`.
      rngs: keys [steps].
      optimizer: of the parameters.
    """

    def step(carry, rng):
        params, state, memory = carry
        batch, rng_loss = draw(rng)
        grad = jax.value_and_grad(method.loss, has_aux=True)
        (value, aux), grads = grad(params, state, batch, rng_loss)
        updates, memory = optimizer.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
        return (params, aux.state, memory), aux.metrics | {"loss": value}

    carry = (*start, optimizer.init(start[0]))
    (params, state, _), metrics = jax.lax.scan(step, carry, rngs)
    return params, state, metrics


def fit(method, examples, rng, *, optimizer, steps, batch_size):
    """Parameters and state after `steps` steps on batches drawn with replacement.

    Traceable: jit it, and vmap it over `rng` or over what the method is made of.
    """
    count = len(jax.tree.leaves(examples)[0])
    rng_init, rng_steps = jax.random.split(rng)
    start = method.init(rng_init, {k: v[:2] for k, v in examples.items()})

    def draw(rng):
        rng_rows, rng_loss = jax.random.split(rng)
        rows = jax.random.randint(rng_rows, (batch_size,), 0, count)
        return {k: v[rows] for k, v in examples.items()}, rng_loss

    rngs = jax.random.split(rng_steps, steps)
    return scan(method, start, draw, rngs, optimizer=optimizer)[:2]


def cosine_adam(learning_rate, steps):
    """Adam whose rate falls to 0 along a cosine."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def digits():
    """Batches of all digits in [0, 1]: for training, and held out."""
    source = data.digits()
    sides = []
    for side in (source, source.held_out):
        index = np.arange(len(side.images), dtype=np.int32)
        image = np.asarray(side.images, np.float32) / 255
        sides.append({"index": index, "image": image, "label": side.labels})
    return [jax.tree.map(jnp.asarray, side) for side in sides]
