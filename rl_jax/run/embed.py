"""Representations of any images by a trained run, as an .npz file."""

import pathlib

import numpy as np

from rl_jax import data, files
from rl_jax.errors import UsageError
from rl_jax.run import check, datasets
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.trained import Run, load


def embed(folder: pathlib.Path, name: str, output: pathlib.Path) -> pathlib.Path:
    """Writes `{h, z, ...: float32 [n, D], label: int32 [n]}` of the images in `name`.

    Beside them stand `index` int32 [n], the number in its part; `split` int32 [n], 0 in
    the training part and 1 in the held-out one, where there are both; `path` [n], where
    they are files, also that of one that could not be decoded (label −1), whose row is
    another's.
    Among them are `layer1`, `layer2`, ... of the encoder, first block first. Where the
    run learned from captioned images of the user's and `name` has captions, they are
    read by the run's vocabulary and there is `text`, too, the mean direction of an
    image's captions; images without a caption are then left out.

    Args:
      folder: of the run; its newest sound checkpoint is used.
      name: data as `rl-jax pretrain --data` takes it; all parts of it, first the
        training part.
      output: the .npz file.

    Returns:
      `output`.

    Raises:
      UsageError: for images of another shape than the run was trained on, other
        fields or tokens, or an output that cannot be written.
    """
    if output.suffix != ".npz":
        raise UsageError(f"embed: the output must end in .npz, got {output}")
    check.output_file("embed:", output)
    run = load(folder, decode=False, examples=False)
    source = datasets.build(_spec(run, name))
    ours, theirs = run.parts.source, source
    if ours.image_shape != theirs.image_shape:
        raise UsageError(
            f"embed: {name} has images of shape {source.image_shape}, but the run was "
            f"trained on {ours.image_shape}"
        )
    if not ours.image_shape and (
        data.contents(ours) != data.contents(theirs)
        or ours.vocabulary != theirs.vocabulary
    ):
        raise UsageError(
            f"embed: {name} has {data.contents(theirs)} ({len(theirs.vocabulary)} "
            f"tokens), but the run was trained on {data.contents(ours)} "
            f"({len(ours.vocabulary)} tokens)"
        )
    arrays: dict[str, list[np.ndarray]] = {}
    parts = [source] if source.held_out is None else [source, source.held_out]
    for number, part in enumerate(parts):
        found = encode(
            run.parts.method, run.parts.augment, run.state, part, layers=True
        )
        found["label"] = data.labels_at(part, np.arange(part.size))
        found["index"] = np.arange(part.size, dtype=np.int32)
        if len(parts) > 1:
            found["split"] = np.full(part.size, number, np.int32)
        if part.files:
            found["path"] = np.array(part.files)
        for key, value in found.items():
            arrays.setdefault(key, []).append(value)
    with files.replacing(output) as file:
        np.savez(file, **{key: np.concatenate(v) for key, v in arrays.items()})  # pyright: ignore[reportArgumentType]
    return output


def _spec(run: Run, name: str) -> recipes.Spec:
    """The data set a name means, images decoded as the run's were."""
    source = run.parts.source
    method = recipes.find_method(run.recipe.method.factory)
    path = pathlib.Path(name).expanduser().absolute()
    if run.recipe.data.factory == "captioned" and data.has_captions(path):
        where = {"path": str(path)}
        theirs = {"vocabulary": source.vocabulary, "held_out": 0.0}
        return recipes.resolve(
            data.captioned, **(run.recipe.data.arguments | theirs | where)
        )
    kind = "images" if source.image_shape else datasets.kind(method)
    factory, arguments = datasets.chosen(name, kind)
    known = recipes.resolve(factory).arguments
    ours = run.recipe.data.arguments
    if factory.__name__ != run.recipe.data.factory:
        ours = {k: ours[k] for k in ("max_bad",) if k in ours and k in known}
    if "size" in known and source.image_shape:
        ours = ours | {"size": source.image_shape[0]}
    return recipes.resolve(factory, **(ours | arguments))
