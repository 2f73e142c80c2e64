"""What a run refuses before its folder is made, and before anything is compiled."""

import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rl_jax import data, train
from rl_jax.errors import RunError, UsageError
from rl_jax.run.encode import encode_batch
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.types import Method, TrainState


def check(recipe: Recipe, source: data.Source, mesh: Mesh | None = None) -> None:
    """Refuses numbers out of range, and a batch that fits neither data nor devices.

    Args:
      recipe, source: the run.
      mesh: its devices; None: all.

    Raises:
      UsageError: naming the first of them.
    """
    for name in ("steps", "log_every", "checkpoint_every"):
        if getattr(recipe, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(recipe, name)}")
    _check_knn(recipe)
    if recipe.steps >= 2**31:
        raise UsageError(f"steps must be below 2^31, got {recipe.steps}")
    train.check_policy(recipe.on_nonfinite, recipe.nonfinite_limit)
    train.check_seed(recipe.seed)
    data.steps_per_epoch(source.size, recipe.batch_size)
    mesh = train.data_mesh() if mesh is None else mesh
    train.check_batch_size(recipe.batch_size, mesh)


def _check_knn(recipe: Recipe) -> None:
    """Refuses scores between rows of metrics: more calls of the step, of other sizes.

    What is compiled otherwise rounds otherwise, and scores are to change nothing.
    """
    every, rows = recipe.knn_every, recipe.log_every
    if every < 0:
        raise UsageError(f"--knn-every must be 0 or more steps, got {every}")
    if every % rows:
        below = every // rows * rows
        near = f"{below} or {below + rows}" if below else f"{rows}"
        raise UsageError(
            f"--knn-every must be a multiple of --log-every ({rows}), whose rows it "
            f"adds to, got {every}; use {near}"
        )


def trace(
    recipe: Recipe, parts: Parts, init: Callable[[], TrainState]
) -> dict[str, int]:
    """Traces the first state, a step and an encoding; nothing is compiled or run.

    Whatever a method, a network or an augmentation refuses by the shapes it meets, it
    refuses here.

    Args:
      recipe, parts: the run.
      init: makes its first state.

    Returns:
      The width of each representation.

    Raises:
      UsageError: theirs, or for a state that the device could not hold.
    """
    method, augment = parts.method, parts.augment
    _check_range(recipe, parts)
    train.check_labels(method, parts.source)
    train.check_range(augment, parts.source)
    _check_spread(method, parts.source)
    step = functools.partial(
        train.train_step, method=method, augment=augment, optimizer=parts.optimizer
    )

    rows = recipe.batch_size
    batch = {
        name: jax.ShapeDtypeStruct((rows, *shape), dtype)
        for name, (shape, dtype) in data.shapes(parts.source).items()
    }
    batch["index"] = jax.ShapeDtypeStruct((rows,), np.int32)
    encode = functools.partial(encode_batch, method, augment)
    with jax.set_mesh(train.data_mesh()):
        state = jax.eval_shape(init)
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        if size > memory():
            raise UsageError(
                f"parameters, optimizer and method state take {size / 1e9:,.1f} GB, "
                f"the device has {memory() / 1e9:,.1f} GB; make the networks or the "
                "queue smaller"
            )
        # Whether there is an h: the online probe already needs it in the step.
        found = jax.eval_shape(encode, state.params, state.state, batch)
        if "h" not in found or len(found["h"].shape) != 2:
            raise UsageError(
                f"{recipe.method.factory}: encode gives {', '.join(found) or 'nothing'}"
                ", expected h [B, D] among them: what is evaluated and kept"
            )
        jax.eval_shape(step, state, batch)
    return {name: x.shape[1] for name, x in found.items() if len(x.shape) == 2}


OF_UNIT_RANGE = {"error": "cross_entropy", "likelihood": "bernoulli"}
"""Arguments of methods whose loss has no lower bound for values beyond [0, 1]."""


def _check_range(recipe: Recipe, parts: Parts) -> None:
    """Refuses to score standardised images as if they were probabilities."""
    for name, value in OF_UNIT_RANGE.items():
        if recipe.method.arguments.get(name) != value or not parts.source.image_shape:
            continue
        ends = np.zeros((2, *parts.source.image_shape), np.uint8)
        ends[1] = 255
        seen = np.asarray(parts.augment.clean(ends))
        if seen.min() < 0 or seen.max() > 1:
            raise UsageError(
                f"{recipe.method.factory}: {name}={value} is of images in [0, 1], but "
                f"the augmentation {recipe.augment.factory} makes them "
                f"{seen.min():.2f} to {seen.max():.2f}; use --augment plain"
            )


SPREAD = (1024, 16)
"""So many classes may be counted as they are, and so many for each that occurs."""


def _check_spread(method: Method, source: data.Source) -> None:
    """Refuses ids for class numbers: every id up to the largest gets an output."""
    if method.classes is None or source.labels is None:
        return
    occur = len(np.unique(source.labels[source.labels >= 0]))
    fine, each = SPREAD
    if method.classes > max(fine, each * occur):
        raise UsageError(
            f"{source.name}: labels of {occur} classes go up to "
            f"{int(source.labels.max())}, and each number below has an output of its "
            "own; number the classes from 0, as "
            "np.unique(label, return_inverse=True)[1] does"
        )


def data_change(
    notes: Mapping[str, Any], source: data.Source, *, held_out: bool = False
) -> str | None:
    """How the data differs from what the run started with, in a few words, or None.

    Args:
      notes: of `run.json`; runs of before fingerprints have no `data` among them.
      source: the data as it is now.
      held_out: whether a difference of the held-out part counts.

    Raises:
      UsageError: where the notes say nothing that can be read.
    """
    before = notes.get("data")
    if not before:
        return None
    now = data.fingerprint(source)
    try:
        return data.difference(before, now, held_out=held_out)
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"run.json cannot be read as a run: its data: {error!r}; restore it"
        ) from None


def output_file(name: str, path: pathlib.Path, *, overwrite: bool = True) -> None:
    """Refuses, before anything is computed for it, a file that cannot be written.

    Args:
      name: of the command or option, for the message.
      path: of the file.
      overwrite: whether one that is there may be replaced: a page or a plan is soon
        made again, features of an hour's work are not.

    Raises:
      UsageError: where it is a folder, or in one that there is not or that cannot be
        written; or where it is there and may not be replaced.
    """
    if path.is_dir():
        raise UsageError(f"{name} {path} is a folder; give the name of a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{name} {path}: there is no such folder; make it first")
    if path.exists() and not overwrite:
        raise UsageError(
            f"{name} {path} is there already; give another name, or replace it with "
            "--overwrite"
        )
    _writable(name, path, folder)


def output_folder(name: str, path: pathlib.Path) -> None:
    """Refuses, before anything is computed for it, a folder that cannot be written.

    Args:
      name: of the command or option, for the message.
      path: of the folder; what is not there of it can be made.

    Raises:
      UsageError: where it is a file or below one, or cannot be written.
    """
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{name} {path}: {there} is a file; name a folder")
    _writable(name, path, there)


def room(folder: pathlib.Path, init: Callable[[], TrainState]) -> None:
    """Refuses a run whose disk has no room for one checkpoint.

    Args:
      folder: of the run; it need not be there.
      init: makes the first state; its shapes matter.

    Raises:
      RunError: naming what is free and what is needed.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free, needed = (
        shutil.disk_usage(there).free,
        train.room_needed(jax.eval_shape(init)),
    )
    if free < needed:
        raise RunError(
            f"{there} has {free / 1e6:,.1f} MB free, a checkpoint of this run needs "
            f"{needed / 1e6:,.1f} MB; make room or choose another --run-dir"
        )


def _writable(name: str, path: pathlib.Path, folder: pathlib.Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{name} {path}: {folder} cannot be written ({error.strerror}); choose "
            "another"
        ) from None


def memory() -> int:
    """Bytes of memory of a device, or of the host where they share it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )


def image_limit(total: int | None = None) -> int:
    """Bytes of images a run may hold: a quarter of `total`, None: of `memory()`."""
    return (memory() if total is None else total) // 4
