"""The steps that `fit` will compile, for arguments that need not exist."""

from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from rl_jax import data
from rl_jax.train import nonfinite, sharding
from rl_jax.train.feed import planned_feed
from rl_jax.train.initial import initial_state, restore_target
from rl_jax.train.loop import compiled_steps
from rl_jax.types import Augment, Method, TrainState


class PlannedStep(NamedTuple):
    """The steps `fit` will compile, and their arguments as shapes with shardings.

    Attributes:
      traced: `traced.jaxpr`; `traced.lower().compile()` inside `jax.set_mesh(mesh)`.
      state: of the training.
      lost: of the steps that were not finite.
      held: what the feed keeps on the device.
      inputs: what the steps get.
    """

    traced: jax.stages.Traced
    state: TrainState
    lost: Any
    held: Any
    inputs: Any


def plan_step(
    method: Method,
    source: data.Source,
    *,
    augment: Augment,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    mesh: Mesh,
    resident: bool,
    steps: int = 1,
) -> PlannedStep:
    """Traces what `fit` compiles, for arguments that need not exist.

    Args:
      method, augment, optimizer: the pieces.
      source: its size and the shape of its images matter; nothing is read.
      batch_size: examples of one step over all devices.
      mesh: the devices.
      resident: whether the images will be held on the device.
      steps: how many steps one call makes, see `scanned_steps`; 1 where streamed.
    """
    pieces = {"method": method, "augment": augment, "optimizer": optimizer}
    feed = planned_feed(source, mesh=mesh, batch_size=batch_size, resident=resident)
    init = initial_state(
        source=source, seed=0, batch_size=batch_size, mesh=mesh, **pieces
    )
    everywhere = sharding.replicated(mesh)
    lost = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        nonfinite.none_lost(),
    )
    with jax.set_mesh(mesh):
        state = restore_target(init, mesh)
        arguments = (state, lost, feed.held, feed.inputs(0, steps))
        traced = compiled_steps(feed, mesh, **pieces)(steps).trace(*arguments)
    return PlannedStep(traced, *arguments)
