"""One compiled loop of gradient steps, for networks small enough to run under vmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from rl_jax.types import Batch, Method, Network

UNCHANGED = Network(
    init=lambda rng, x: ({}, {}),
    apply=lambda params, state, x, train, rng=None: (x, {}),
)
"""The network that is none: a head or a predictor left out."""


def minimise(
    loss: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    rng: jax.Array,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    record: Callable[[Any], Any] | None = None,
    every: int = 1,
) -> tuple[Any, Any]:
    """Takes `steps` gradient steps in a scan; jit and vmap it from outside.

    Args:
      loss: (params, rng) -> scalar; draws its batch from rng, which differs each step.
      params: where to start.
      rng: of the whole run.
      steps: a multiple of `every`.
      optimizer: its schedule counts single steps.
      record: of the parameters before every `every`-th step; None records the loss
        of those steps.
      every: steps between two records.

    Returns:
      The parameters at the end, and the records stacked: [steps / every, ...].

    Raises:
      ValueError: where `every` does not divide `steps`.
    """

    def step(carry, t):
        params, opt_state = carry
        value, grads = jax.value_and_grad(loss)(params, jax.random.fold_in(rng, t))
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    carry = params, optimizer.init(params)
    noted = None if record is None else lambda carry: record(carry[0])
    (params, _), losses, records = _scan(
        "minimise", step, carry, noted, steps=steps, every=every
    )
    return params, losses if record is None else records


def adam(learning_rate: float, *, steps: int) -> optax.GradientTransformation:
    """Adam whose rate falls along a cosine to 0 at the end."""
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def pretrain(
    method: Method,
    batch: Callable[[jax.Array], Batch],
    rng: jax.Array,
    *,
    steps: int,
    optimizer: optax.GradientTransformation,
    data_rng: jax.Array | None = None,
    record: Callable[[Any, Any], Any] | None = None,
    every: int = 1,
) -> tuple[Any, Any, jax.Array, Any]:
    """`minimise` for a method, whose state is carried along; jit and vmap it outside.

    Args:
      method: any of `rl_jax.methods`.
      batch: of a key that differs each step.
      rng: of the start, and of the noise inside the loss.
      steps: a multiple of `every`.
      optimizer: its schedule counts single steps.
      data_rng: of the batches, None: from `rng`. Runs under `vmap` that share it see
        the same batches, which are then drawn once for all of them.
      record: of parameters and state before every `every`-th step.
      every: steps between two records.

    Returns:
      Parameters and state at the end, the losses of every `every`-th step, and the
      records of those steps, None without `record`: [steps / every, ...].

    Raises:
      ValueError: where `every` does not divide `steps`.
    """
    rng_start, rng_loss = jax.random.split(rng)
    data_rng = jax.random.fold_in(rng, 0) if data_rng is None else data_rng
    params, state = method.init(rng_start, batch(data_rng))

    def step(carry, t):
        params, state, opt_state = carry
        (value, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            params,
            state,
            batch(jax.random.fold_in(data_rng, t)),
            jax.random.fold_in(rng_loss, t),
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), aux.state, opt_state), value

    carry = params, state, optimizer.init(params)
    noted = None if record is None else lambda carry: record(carry[0], carry[1])
    (params, state, _), losses, records = _scan(
        "pretrain", step, carry, noted, steps=steps, every=every
    )
    return params, state, losses, records


def _scan(name, step, carry, record, *, steps: int, every: int):
    """The carry at the end; of every so many steps the loss, and what is recorded."""
    if steps % every:
        raise ValueError(f"{name}: every={every} does not divide steps={steps}")

    def stretch(carry, start):
        noted = None if record is None else record(carry)
        carry, values = lax.scan(step, carry, start + jnp.arange(every))
        return carry, (values[0], noted)

    carry, (losses, records) = lax.scan(
        stretch, carry, every * jnp.arange(steps // every)
    )
    return carry, losses, records
