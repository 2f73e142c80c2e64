"""Representations of any images by a trained run or by PyTorch's weights, as .npz."""

import pathlib

import jax
import numpy as np

from rl_jax import augment, data, files, methods, networks
from rl_jax.errors import UsageError
from rl_jax.run import check, datasets, torch_file
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.trained import Run, load
from rl_jax.types import Augment, Method, TrainState

SIDE = 224
"""Of images, where an encoder has none of its own."""


def embed(
    folder: pathlib.Path, name: str, output: pathlib.Path, *, overwrite: bool = False
) -> pathlib.Path:
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
      overwrite: replace one that is there.

    Returns:
      `output`.

    Raises:
      UsageError: for images of another shape than the run was trained on, other
        fields or tokens, or an output that cannot be written or is there already.
    """
    _check_output(output, overwrite)
    run = load(folder, decode=False, examples=False)
    spec = _spec(run, name)
    source = datasets.build(spec)
    for line in datasets.choices(spec):
        print(line)
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
    _write(run.parts.method, run.parts.augment, run.state, source, output)
    network = run.parts.method.network
    print(f"h is of the {network} network in the checkpoint of step {run.step}")
    return output


def embed_by_file(
    path: pathlib.Path,
    name: str,
    output: pathlib.Path,
    *,
    size: int | None = None,
    heads: int | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """The same by an encoder of PyTorch, as `networks.from_torch` reads it: `h`.

    Images are cut to the central 7/8 of their shorter side, resized and standardised as
    on ImageNet (`augment.imagenet`).

    Args:
      path: a file of safetensors with the names of timm or torchvision.
      name, output, overwrite: as in `embed`.
      size: side of the images in pixels; None: that of the positions it has learned, or
        else 224.
      heads: of a transformer, which no weight tells; None: as `from_torch` has it.

    Returns:
      `output`.

    Raises:
      UsageError: for a file without such an encoder, images that are not of three
        channels, a size that patches do not divide, or an output that cannot be
        written or is there already.
    """
    _check_output(output, overwrite)
    found = torch_file.read(path)
    patch = found.arguments.get("patch", 1)
    table = found.params.get("positions")
    side = SIDE if table is None else len(table) * patch
    side = side if size is None else size
    if side < 1 or side % patch:
        raise UsageError(
            f"embed: --size must be a multiple of the patches' {patch} pixels, got "
            f"{side}"
        )
    factory, arguments = datasets.chosen(name, "images")
    spec = recipes.resolve(factory, **arguments)
    if "size" in spec.arguments and "size" not in arguments:
        spec = spec.given(size=-(-side * 8 // 7))
    source = datasets.build(spec)
    for line in datasets.choices(spec):
        print(line)
    if source.image_shape[-1:] != (3,):
        raise UsageError(
            f"embed: {path} is of images [H, W, 3], got {source.image_shape} from "
            f"{name}"
        )
    own = {} if heads is None else {"heads": heads}
    if own and found.factory != "vit":
        raise UsageError(f"embed: --heads is of transformers, {path} has a ResNet")
    encoder = getattr(networks, found.factory)(**(found.arguments | own))
    shape = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    wanted, _ = jax.eval_shape(encoder.init, jax.random.key(0), shape)
    params, state = torch_file.fitted(found, wanted)

    def encode_clean(params, state, batch):
        x = batch["image"]
        h, _ = encoder.apply(params, state, x, train=False)
        return {"h": h} | networks.layers_of(encoder, params, state, x)

    # Never trained: of the method nothing but this is called.
    method = methods.supervised(encoder, num_classes=2)._replace(encode=encode_clean)
    seen = TrainState(np.int32(0), None, params, state, None)
    _write(method, augment.imagenet(size=side), seen, source, output)
    return output


def _check_output(output: pathlib.Path, overwrite: bool) -> None:
    if output.suffix != ".npz":
        raise UsageError(f"embed: the output must end in .npz, got {output}")
    check.output_file("embed:", output, overwrite=overwrite)


def _write(
    method: Method,
    views: Augment,
    state: TrainState,
    source: data.Source,
    output: pathlib.Path,
) -> None:
    """Representations of all parts of the data, and what is known of its examples."""
    arrays: dict[str, list[np.ndarray]] = {}
    parts = [source] if source.held_out is None else [source, source.held_out]
    for number, part in enumerate(parts):
        found = encode(method, views, state, part, layers=True)
        found["label"] = data.labels_at(part, np.arange(part.size))
        found["index"] = np.arange(part.size, dtype=np.int32)
        if len(parts) > 1:
            found["split"] = np.full(part.size, number, np.int32)
        if part.files:
            found["path"] = np.array(part.files)
        for key, value in found.items():
            arrays.setdefault(key, []).append(value)
    whole = {k: v[0] if len(v) == 1 else np.concatenate(v) for k, v in arrays.items()}
    with files.replacing(output) as file:
        np.savez(file, **whole)  # pyright: ignore[reportArgumentType]


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
