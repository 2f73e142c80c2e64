"""k-NN while a run trains: how good the representation is at steps in between.

As MoCo's monitor and those of lightly and solo-learn do, on clean images and in
evaluation mode, where the online probe learns and is scored on views in training.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rl_jax import data, evaluate, train
from rl_jax.errors import UsageError
from rl_jax.run import labelled
from rl_jax.run.check import image_limit
from rl_jax.run.encode import encode_batch, in_one_pass
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.run.split import Part, at_most, columns, rows_of, split
from rl_jax.train import sharding
from rl_jax.types import TrainState

NAME = "knn"
"""Of the column in the rows of metrics."""
LEARNT, SCORED = 5_000, 1_000
"""The most images that vote, and that are scored; of each class its part."""
BATCH = 256
"""Images encoded at a time, at most: never more than a training step has."""
MOST_HELD = 2**30
"""Bytes of decoded images up to which they are kept, or a quarter of what a run may
hold if that is less; more are decoded each time."""


class _BrokenOff(Exception):
    """A stop was asked for; what was encoded so far is of no use."""


class KnnCurve:
    """Scores the state of a run every so many steps, and after the last.

    Nothing of the run changes: the state is read, and no random number is drawn. Of
    several processes each scores by itself, on its own devices, and all get the same.

    Args:
      recipe: with `knn_every` ≥ 1.
      source: the data with all labels, those that training may not see included.

    Raises:
      UsageError: where no two classes are labelled, or none is scored.
    """

    def __init__(self, recipe: Recipe, source: data.Source):
        self._recipe = recipe
        fit, scored, note = split(source)
        found = columns(fit.labels, scored.labels, source.class_names, of=source)
        if found.reason:
            raise UsageError(
                f"--knn-every {recipe.knn_every}: {found.reason}, so that no neighbour "
                "can vote; leave it out"
            )
        fit, scored = (_few(fit, LEARNT), _few(scored, SCORED))
        self._sides = [rows_of(part)._replace(held_out=None) for part in (fit, scored)]
        self._is_held_out = source.held_out is not None
        self._note = labelled.note(recipe, source) or note
        self._look: Any = None
        self._warned = False

    def decode(self) -> None:
        """Reads the images once, where that takes little memory."""
        room, sides = min(MOST_HELD, image_limit() // 4), []
        for side in self._sides:
            sides.append(data.resident(side, limit_bytes=room))
            images = sides[-1].images
            room -= 0 if images is None else images.nbytes
        self._sides = sides

    def line(self) -> str:
        """What is scored by what, and whether training sees it, for a run's start."""
        fit, scored = (side.size for side in self._sides)
        kind, note = "held-out examples", ""
        if not self._is_held_out:
            kind, note = "examples", f"; {self._note}"
        return (
            f"k-NN every {self._recipe.knn_every} steps: {scored:,} {kind} by the "
            f"labels of {fit:,} others{note}"
        )

    def due(self, step: int) -> bool:
        """Whether the state after this step is scored."""
        return step % self._recipe.knn_every == 0 or step == self._recipe.steps

    def owed(self, rows: Sequence[dict[str, Any]], step: int) -> dict[str, Any] | None:
        """The row of the step a run goes on from, where a stop has broken it off.

        What JSON could not hold, null in the file, is NaN again.

        Args:
          rows: of the run, in order.
          step: of the checkpoint.
        """
        for row in rows[-1:]:
            if row["step"] == step and self.due(step) and NAME not in row:
                return {k: math.nan if v is None else v for k, v in row.items()}
        return None

    def row(
        self,
        step: int,
        parts: Parts,
        state: TrainState,
        *,
        say: Callable[[str], None],
        **how: Callable,
    ) -> dict[str, float]:
        """What the row of a step gets: `score`, which is said too; {} where not due."""
        value = self.score(parts, state, say=say, **how) if self.due(step) else None
        if value is None:
            return {}
        if math.isfinite(value):
            say(f"step {step}: k-NN {value:.1%}")
        return {NAME: value}

    def score(
        self,
        parts: Parts,
        state: TrainState,
        *,
        say: Callable[[str], None],
        stop: Callable[[], bool] = lambda: False,
        beat: Callable[[], None] = lambda: None,
    ) -> float | None:
        """Accuracy in [0, 1] of k-NN on `h`, of the network that is evaluated.

        Args:
          parts: method and augmentation of the run.
          state: as it is now; its arrays are read and nothing of them is kept.
          say: called with one line where there is no number, once.
          stop: polled between batches.
          beat: called between batches, as a sign of life.

        Returns:
          NaN where a feature is NaN or infinite; None where a stop was asked for.
        """
        if self._look is None:
            self._look = _compiled(parts)
        size = min(BATCH, self._recipe.batch_size, max(s.size for s in self._sides))
        # Several processes stop together, at a step that they agree on later.
        alone = jax.process_count() == 1
        mesh = train.data_mesh(jax.local_devices())
        with jax.set_mesh(mesh):
            params, carried = _here((state.params, state.state), mesh)

            def look(host, placed):
                del host
                if alone and stop():
                    raise _BrokenOff
                beat()
                return self._look(params, carried, placed)

            encode = functools.partial(
                in_one_pass, looks=[look], like=params, batch_size=size, whole=True
            )
            try:
                found = [(encode(side)[0]["h"], _labels(side)) for side in self._sides]
            except _BrokenOff:
                return None
            (bank, labels), (queries, truth) = found
            if not all(np.isfinite(h).all() for h in (bank, queries)):
                if not self._warned:
                    say("warning: no k-NN: h of some image is NaN or infinite")
                self._warned = True
                return math.nan
            beat()
            # Labels of files that turned out to be no images are gone.
            known, asked = labels >= 0, truth >= 0
            if not (known.any() and asked.any()):
                return math.nan
            return evaluate.knn_accuracy(
                bank[known], labels[known], queries[asked], truth[asked]
            )


def of_run(recipe: Recipe, source: data.Source, seen: data.Source) -> KnnCurve | None:
    """The curve of a recipe; None where it asks for none.

    Args:
      recipe: of the run.
      source: its data.
      seen: the same as training sees it, decoded where it fits into memory.
    """
    if not recipe.knn_every:
        return None
    if recipe.labels == labelled.ALL:
        return KnnCurve(recipe, seen)
    if recipe.method.factory in labelled.OF_LABELS_ALONE:
        return KnnCurve(recipe, source._replace(held_out=seen.held_out))
    return KnnCurve(recipe, seen._replace(labels=source.labels))


def decoded(recipe: Recipe, source: data.Source, seen: data.Source) -> KnnCurve | None:
    """`of_run`, its images read."""
    curve = of_run(recipe, source, seen)
    if curve is not None:
        curve.decode()
    return curve


def _few(part: Part, most: int) -> Part:
    """At most so many examples of a part, all with a label."""
    known = part.labels >= 0
    labelled_ones = part._replace(index=part.index[known], labels=part.labels[known])
    return at_most(labelled_ones, most)


def _labels(source: data.Source) -> np.ndarray:
    return data.labels_at(source, np.arange(source.size))


def _here(tree, mesh):
    """Arrays of which every device has all, as those of this process alone."""
    if jax.process_count() == 1:
        return tree
    where = sharding.replicated(mesh)

    def mine(x):
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, where, shards)

    return jax.tree.map(mine, tree)


def _compiled(parts: Parts):
    """`(params, state, batch) -> {"h"}`; whatever else `encode` has is left out."""

    def run(params, state, batch):
        found = encode_batch(parts.method, parts.augment, params, state, batch)
        return {"h": found["h"]}

    return jax.jit(run)
