"""Which preset fits, and what it says of a method and of a length."""

from typing import Any

from rl_jax import data
from rl_jax.augment.presets import IMAGENET_MEAN, IMAGENET_STD, cifar
from rl_jax.run.presets.digits import digits
from rl_jax.run.presets.images import photographs, small_images
from rl_jax.run.presets.preset import OTHERS, Change, Preset
from rl_jax.run.presets.published import multiple
from rl_jax.run.presets.records import records, strokes
from rl_jax.run.recipe import Spec


def for_data(factory: str, image_shape: tuple[int, ...]) -> Preset:
    """The preset for a data set, by the factory that makes it and its images' size.

    Never by the data's own name, which is the user's: a folder may be called digits.
    """
    if factory == data.digits.__name__:
        return digits()
    if factory == data.strokes.__name__:
        return strokes()
    if not image_shape:
        return records()
    size = min(image_shape[:2])
    return small_images(size) if size <= 64 else photographs(size)


def for_method(preset: Preset, method: str) -> Preset:
    """The preset with what it has otherwise for a method."""
    changed = _changed(preset, preset.methods.get(method, Change()))
    return changed._replace(methods={})


def for_network(
    preset: Preset,
    method: str,
    encoder: str,
    *,
    trained: bool,
    patch: int | None = None,
) -> Preset:
    """The preset of a method with an encoder of that factory.

    A vision transformer in another's place has its own optimizer, and any has crops
    that its patches divide. A trained encoder that `supervised` starts with is tuned.

    Args:
      preset: as the method has it.
      method: its name.
      encoder: the factory.
      trained: whether another run or a file has its weights.
      patch: of a transformer; None: that of the preset.
    """
    if encoder == "vit" != preset.networks.get("encoder") and preset.vit:
        change = preset.vit.get(method, preset.vit[OTHERS])
        if method not in preset.vit and change.optimizer == preset.optimizer:
            # What the method itself has of that optimizer stays.
            own = {k: v for k, v in change.arguments.items() if k != "optimizer"}
            change = change._replace(arguments=own)
        preset = _changed(preset, change)
    patch = patch or preset.arguments.get("encoder", {}).get("patch")
    if encoder == "vit" and patch:
        preset = _changed(
            preset, Change(arguments=_whole_patches(preset, method, patch))
        )
    if trained and method == "supervised":
        preset = _changed(preset, preset.tuned.get(encoder, Change()))
    return preset


def _whole_patches(preset: Preset, method: str, patch: int) -> dict[str, Any]:
    """Arguments by which what the encoder sees is cut into whole patches."""
    known = preset.arguments.get("augment", {})
    if method == "jigsaw" and "size" in known:
        cell = known["size"] // 3
        return {method: {"gap": max(0, cell - multiple(cell, patch))}}
    if method == "context" and "size" in known:
        return {method: {"patch": multiple(known["size"] // 4, patch)}}
    sides = {k: multiple(known[k], patch) for k in known if k in SIDES}
    return {"augment": sides} if sides else {}


SIDES = ("size", "local_size")
"""Of what encoders see, in augmentations."""


def _changed(preset: Preset, change: Change) -> Preset:
    """Where a part has another factory, nothing of its arguments stays."""
    chosen = preset.networks | change.networks
    differ = {role for role in chosen if chosen[role] != preset.networks.get(role)}
    for part in ("augment", "optimizer"):
        if getattr(change, part) not in (None, getattr(preset, part)):
            differ.add(part)
    arguments = {k: v for k, v in preset.arguments.items() if k not in differ}
    for part, values in change.arguments.items():
        arguments[part] = arguments.get(part, {}) | values
    return preset._replace(
        augment=change.augment or preset.augment,
        optimizer=change.optimizer or preset.optimizer,
        networks=chosen,
        arguments=arguments,
        steps=change.steps or preset.steps,
        batch_size=change.batch_size or preset.batch_size,
        short=change.short or preset.short,
    )


def for_encoder(preset: Preset, encoder: Spec) -> Preset:
    """The preset with an encoder as another run has it.

    One that gave tokens gives them in the way that the method takes them: as those of
    its own preset, or else one vector, of the same weights. What the preset says of
    noise in it stays: that is of the run, not of the weights.
    """
    own = preset.arguments.get("encoder", {}).get("pool")
    same = preset.networks.get("encoder") == encoder.factory
    arguments = encoder.arguments
    pool = arguments.get("pool")
    if same and own in VECTORS:
        arguments = arguments | {"pool": own}
    elif encoder.factory == "vit" and pool in VECTORS:
        arguments = arguments | {"pool": VECTORS[pool]}
    noise = preset.arguments.get("encoder", {})
    arguments = arguments | {k: noise[k] for k in NOISE if k in noise}
    return preset._replace(
        networks=preset.networks | {"encoder": encoder.factory},
        arguments=preset.arguments | {"encoder": arguments},
    )


def for_file(preset: Preset) -> Preset:
    """The preset for weights of PyTorch: images standardised as they learned from."""
    if preset.augment != cifar.__name__:
        return preset
    own = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return _changed(preset, Change(arguments={"augment": own}))


NOISE = ("dropout", "drop_path")
VECTORS = {"none": "mean", "all": "cls"}
"""Of a `vit` that gives tokens, what makes one vector of them."""


def for_size(preset: Preset, examples: int) -> Preset:
    """The preset for that many examples: a batch is at most all of them.

    It is then a power of two, which most numbers of devices divide.
    """
    if examples >= preset.batch_size:
        return preset
    return preset._replace(batch_size=1 << (max(examples, 1).bit_length() - 1))


SHARES = {"warmup_steps": 10, "frozen_steps": 20, "queue_from": 13}
"""Parts of a run that an argument may be at most: a tenth, a twentieth, and
nearly 15 epochs of 200."""


def for_steps(preset: Preset, steps: int) -> Preset:
    """The preset for a run of another length: parts of it are at most a share."""
    arguments = {
        part: values
        | {
            name: min(values[name], steps // share)
            for name, share in SHARES.items()
            if name in values
        }
        for part, values in preset.arguments.items()
    }
    usual = preset.arguments.get("optimizer", {}).get("warmup_steps", 0)
    if steps // SHARES["warmup_steps"] < usual:
        for part, values in preset.short.items():
            arguments[part] = arguments.get(part, {}) | values
    return preset._replace(arguments=arguments, steps=steps)
