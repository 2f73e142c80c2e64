"""A whole training run in one compiled loop, for networks without convolutions."""

import functools

import jax
import jax.numpy as jnp
import optax


@functools.partial(jax.jit, static_argnames=("method", "draw", "steps", "rate"))
def run(method, draw, rng, *, steps, rate=3e-3):
    """Parameters, state and metrics [steps] after Adam with a cosine decay.

    draw: `(rng) -> batch`, called for every step inside the loop.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    params, state = method.init(rng, draw(rng))

    def step(carry, t):
        params, state, memory = carry
        rng_b, rng_l = jax.random.split(jax.random.fold_in(rng, t))
        (value, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            params, state, draw(rng_b), rng_l
        )
        updates, memory = optimizer.update(grads, memory, params)
        params = optax.apply_updates(params, updates)
        return (params, aux.state, memory), aux.metrics | {"loss": value}

    carry = (params, state, optimizer.init(params))
    carry, metrics = jax.lax.scan(step, carry, jnp.arange(steps))
    return carry[0], carry[1], metrics
