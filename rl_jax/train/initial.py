"""The state a run begins with."""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rl_jax import data
from rl_jax.train import sharding
from rl_jax.train.step import init_train_state
from rl_jax.types import Augment, Method, TrainState


def initial_state(
    method: Method | Callable[[chex.ArrayTree], Method],
    source: data.Source,
    *,
    augment: Augment,
    optimizer: optax.GradientTransformation,
    seed: int,
    batch_size: int,
    mesh: Mesh,
    given: chex.ArrayTree | None = None,
) -> Callable[[], TrainState]:
    """The compiled function that makes a run's first state, on every device.

    `jax.eval_shape` of it is what a checkpoint is restored into.

    Args:
      method: what to train; where `given` is, what makes it of that.
      source: the shapes of its examples matter.
      augment, optimizer, seed, batch_size, mesh: as in `fit`.
      given: arrays the first state is made of, as weights to start from. They are
        arguments of the compiled function; those that a method holds would be
        constants of its program.
    """

    def init(given=None):
        batch = {
            name: jnp.zeros((batch_size, *shape), dtype)
            for name, (shape, dtype) in data.shapes(source).items()
        }
        if source.labels is None:
            # In a step all are −1; who cannot do without any says so here.
            del batch["label"]
        batch["index"] = jnp.arange(batch_size, dtype=jnp.int32)
        rng = jax.random.key(seed)
        made = method if isinstance(method, Method) else method(given)
        return init_train_state(
            rng, batch, method=made, augment=augment, optimizer=optimizer
        )

    compiled = jax.jit(init, out_shardings=sharding.replicated(mesh))
    return compiled if given is None else functools.partial(compiled, given)


def restore_target(init: Callable[[], TrainState], mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of a state, nothing computed."""
    everywhere = sharding.replicated(mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        jax.eval_shape(init),
    )
