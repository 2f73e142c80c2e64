"""A trained run opened for reading, beside a training that may still go on."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rl_jax import data, own, train
from rl_jax.errors import RunError, UsageError
from rl_jax.run import datasets
from rl_jax.run import recipe as recipes
from rl_jax.run.check import data_change, image_limit
from rl_jax.run.outline import stand_in
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.run.weights import initial
from rl_jax.types import TrainState


class Run(NamedTuple):
    """A run read from its folder.

    Attributes:
      recipe: what it was made of.
      notes: the rest of `run.json`: command, environment.
      parts: data, augmentation, method and optimizer, rebuilt.
      step: of the checkpoint.
      state: of the checkpoint.
      untrained: the state of step 0, the baseline of an untrained encoder.
      changed: how the data differs from what the run started with, or None.
      other_code: the files of own code that are not what it started with, or None.
    """

    recipe: Recipe
    notes: dict[str, Any]
    parts: Parts
    step: int
    state: TrainState
    untrained: TrainState
    changed: str | None
    other_code: str | None = None


def check_trained(folder: pathlib.Path) -> None:
    """Refuses a folder that `load` would, as far as that shows without its data.

    Raises:
      UsageError: when the folder holds no run, one without a checkpoint, or one of own
        code that is not imported.
    """
    recipes.read(folder / "run.json")
    own.require(folder)
    if not any((folder / "checkpoints").glob("[0-9]*")):
        raise _untrained(folder)


def load(
    folder: str | pathlib.Path,
    *,
    decode: bool = True,
    examples: bool = True,
    say: Callable[[str], None] = print,
) -> Run:
    """Opens the newest sound checkpoint of a run; nothing in the folder changes.

    Args:
      folder: of the run; its data must be where they were.
      decode: read the run's own images into memory, where they fit.
      examples: whether they are needed. If not, and they are gone, others are made up
        of the same shapes, classes and vocabulary, as far as the run has noted these.
      say: called with a line of warning where data or own code is not what it was.

    Raises:
      UsageError: when the folder holds no run, one without a checkpoint, or one of own
        code that is not imported.
      CheckpointError: when checkpoints exist and none is sound.
    """
    folder = pathlib.Path(folder)
    recipe, notes = recipes.read(folder / "run.json")
    own.require(folder)
    other = own.change(notes, own.digests(own.names(recipes.as_json(recipe))))
    if other:
        say(f"warning: own code has changed since the run started: {other}")
    changed, opened = None, datasets.opener(recipe.data)
    try:
        source = opened()
    except UsageError as error:
        if examples or not notes.get("outline"):
            raise
        source = stand_in(notes["outline"])
        say(f"warning: the data of the run cannot be read, and need not be: {error}")
    else:
        changed = data_change(notes, source, held_out=True)
    if changed:
        say(f"warning: the data has changed since the run started: {changed}")
    parts = recipes.build(recipe, source)
    if decode:
        source = data.resident(source, limit_bytes=image_limit())
    parts = parts._replace(source=source)
    init = initial(recipe, parts)
    with train.Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore(train.restore_target(init, train.data_mesh()))
    if found is None:
        raise _untrained(folder)
    return Run(recipe, notes, parts, *found, init(), changed, other)


def _untrained(folder: pathlib.Path) -> UsageError:
    again = own.again("resume", folder)
    return UsageError(f"{folder} has no checkpoint yet; train it first: {again}")


def checkpoints(
    folder: pathlib.Path, run: Run, *, say: Callable[[str], None] = print
) -> Iterator[tuple[int, TrainState]]:
    """Every sound checkpoint between the first step and the newest, in order.

    Args:
      folder: of the run.
      run: as `load` gave it, with the ends.
      say: called with a line for each checkpoint that cannot be read.
    """
    init = initial(run.recipe, run.parts)
    target = train.restore_target(init, train.data_mesh())
    with train.Checkpoints(folder / "checkpoints", read_only=True) as found:
        for step in found.steps():
            if not 0 < step < run.step:
                continue
            try:
                yield step, found.restore_step(step, target)
            except RunError as error:
                say(f"warning: {error}; left out")
