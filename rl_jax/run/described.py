"""What a run says of itself before its first step."""

import contextlib
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from rl_jax import data, own, train
from rl_jax.errors import UsageError
from rl_jax.run import labelled, weights
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.types import TrainState

LARGE = 5_000_000
"""Parameters from which on a CPU is slow; those of the presets of digits are fewer."""
MANY = 1000
"""Steps from which on they are many, for a CPU."""

NEVER = {
    "frozen_steps": "the prototypes never learn",
    "queue_from": "the queue is never used",
}
"""What happens to a method whose argument is a step that its run does not reach."""


def lines(recipe: Recipe, parts: Parts, init: Callable[[], TrainState]) -> list[str]:
    """Data, networks and devices; the optimizer and its rate; where it starts.

    Args:
      recipe, parts: the run.
      init: makes its first state.
    """
    source = parts.source
    shapes = jax.eval_shape(init)
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes.params))
    held = "on the device" if data.in_memory(source) else "streamed"
    if source.held_out is not None:
        held = f"{held}; {source.held_out.size} others held out"
    devices = jax.devices()
    nets = "".join(f"{net.factory}, " for net in recipe.networks.values())
    found = [
        f"{recipe.method.factory} on {source.name}: {source.size} "
        f"{data.contents(source)} ({held}), {nets}"
        f"{count / 1e6:.2f} M parameters, {len(devices)} {devices[0].device_kind} "
        f"device{'s' if len(devices) > 1 else ''}"
    ]
    if not own.is_own(recipe.optimizer.factory):
        rate = train.scale_learning_rate(
            recipe.optimizer.arguments["learning_rate"],
            batch_size=recipe.batch_size,
            scaling=recipe.optimizer.arguments["scaling"],
        )
        last = recipe.optimizer.arguments["total_steps"]
        end = rate.value * recipe.optimizer.arguments.get("end_rate", 0.0)
        found.append(
            f"{recipe.optimizer.factory}: {rate.reason}; warm-up "
            f"{recipe.optimizer.arguments['warmup_steps']} steps, then cosine to "
            f"{end:g} at step {last}"
        )
        if last < recipe.steps and not end:
            found.append(
                f"warning: from step {last} on nothing is learned: the schedule ends "
                "there; `rl-jax resume --steps` makes a run longer, and its schedules"
            )
    for name, then in NEVER.items():
        first = recipe.method.arguments.get(name)
        if name == "queue_from" and not recipe.method.arguments.get("queue_size", 1):
            continue  # There is none.
        if isinstance(first, int) and first >= recipe.steps:
            found.append(
                f"warning: {name}={first}, but the run has {recipe.steps} steps: {then}"
            )
    long = count > LARGE and recipe.steps >= MANY
    if devices[0].platform == "cpu" and long:
        found.append(
            f"on a CPU {recipe.steps:,} steps of such networks may take days: "
            "`rl-jax plan` with the same flags says how long at least; --encoder "
            "convnet, --batch-size and --steps make less of it"
        )
    return [*found, *_beginnings(recipe, source)]


def _beginnings(recipe: Recipe, source: data.Source) -> list[str]:
    """What sets a run apart from one with random weights and all labels."""
    lines = []
    if recipe.labels != labelled.ALL:
        lines.append(
            f"labels: {recipe.labels} of each class, {labelled.count(source):,} in all"
        )
    if recipe.init_from:
        start = recipe.init_from
        step = "" if start.step is None else f", step {start.step}"
        whose = ""
        # The other run need not be there any more, and a file says nothing of it.
        with contextlib.suppress(UsageError):
            whose = f", the {weights.network(pathlib.Path(start.run))} network"
        lines.append(
            f"the encoder starts with that of {start.run}{step}{whose}; all else is "
            "random"
        )
        with contextlib.suppress(UsageError):
            lines += [f"encoder: {each}" for each in weights.differing(recipe)]
    return lines
