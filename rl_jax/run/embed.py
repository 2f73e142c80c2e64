"""Representations of any images by a trained run, as an .npz file."""

import os
import pathlib

import numpy as np

from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.load import load


def embed(folder: pathlib.Path, name: str, output: pathlib.Path) -> pathlib.Path:
    """Writes `{h, z, ...: float32 [n, D], label: int32 [n]}` of the images in `name`.

    Args:
      folder: of the run; its newest sound checkpoint is used.
      name: data as `rl-jax pretrain --data` takes it; all parts of it, first the
        training part.
      output: the .npz file.

    Returns:
      `output`.

    Raises:
      UsageError: for images of another shape than the run was trained on.
    """
    if output.suffix != ".npz":
        raise UsageError(f"embed: the output must end in .npz, got {output}")
    run = load(folder)
    shape = run.parts.source.image_shape
    source = recipes.build_source(recipes.data_spec(name, size=shape[0]))
    if source.image_shape != shape:
        raise UsageError(
            f"embed: {name} has images of shape {source.image_shape}, but the run was "
            f"trained on {shape}"
        )
    arrays: dict[str, list[np.ndarray]] = {}
    for part in (source, source.held_out):
        if part is None:
            continue
        found = encode(run.parts.method, run.parts.augment, run.state, part)
        labels = part.labels
        found["label"] = (
            np.full(part.size, -1, np.int32) if labels is None else np.asarray(labels)
        )
        for key, value in found.items():
            arrays.setdefault(key, []).append(value)
    draft = output.with_name(output.name + ".tmp")
    with draft.open("wb") as file:
        np.savez(file, **{key: np.concatenate(v) for key, v in arrays.items()})  # pyright: ignore[reportArgumentType]
    os.replace(draft, output)
    return output
