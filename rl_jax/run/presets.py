"""Settings that work for a kind of data; a flag of the command line overrides them."""

from typing import Any, NamedTuple

from rl_jax import data
from rl_jax.augment.presets import DIGITS_MEAN, DIGITS_STD


class Change(NamedTuple):
    """What a preset has otherwise for one method.

    Attributes:
      augment, optimizer: names of factories; None: those of the preset.
      networks: names of factories by role, those that differ.
      arguments: by part; where the part's factory differs, all of them.
      steps, batch_size: None: those of the preset.
    """

    augment: str | None = None
    optimizer: str | None = None
    networks: dict[str, str] = {}
    arguments: dict[str, dict[str, Any]] = {}
    steps: int | None = None
    batch_size: int | None = None


class Preset(NamedTuple):
    """Names of factories and the arguments that differ from their own defaults.

    Attributes:
      augment, optimizer: names of factories.
      networks: names of factories by role; where a role has one factory only, no name
        is needed.
      arguments: by part, what to pass instead of a factory's default; the name of a
        method gives that method's.
      steps: optimizer steps.
      batch_size: examples of one step.
      log_every, checkpoint_every: in steps.
      methods: what is otherwise for some methods.
    """

    augment: str
    optimizer: str
    networks: dict[str, str]
    arguments: dict[str, dict[str, Any]]
    steps: int
    batch_size: int
    log_every: int
    checkpoint_every: int
    methods: dict[str, Change] = {}


STANDARD_DIGITS = {"mean": DIGITS_MEAN, "std": DIGITS_STD}


RECONSTRUCTION = Change(
    augment="plain",
    networks={"encoder": "mlp", "decoder": "mlp_decoder"},
    arguments={"optimizer": {"learning_rate": 1e-3}},
)
"""For methods that reconstruct the image itself, in [0, 1]."""


def digits() -> Preset:
    """For 8×8 digits: a small conv net, 1,297 images; minutes on two CPU cores."""
    return Preset(
        augment="digits",
        optimizer="adamw",
        networks={"encoder": "convnet"},
        arguments={
            "augment": {"rotate": 15.0, "shear": 10.0},
            "optimizer": {"learning_rate": 3e-3},
            "projector": {"hidden": 256, "out": 64},
            "predictor": {"hidden": 256},
            "simclr": {"temperature": 0.5},
            "moco": {"temperature": 0.2, "decay": 0.95, "queue_size": 1024},
            "byol": {"decay": 0.95},
            "moco_v3": {"temperature": 0.2},
        },
        steps=400,
        batch_size=256,
        log_every=10,
        checkpoint_every=50,
        methods=DIGITS,
    )


SLOW = Change(
    arguments={"optimizer": {"learning_rate": 1e-2}, "projector": {"out": 128}}
)
"""For methods that learn slower than contrast does."""

NARROW = Change(
    augment="plain",
    networks={"encoder": "mlp", "decoder": "mlp_decoder"},
    arguments={
        "encoder": {"out": 16, "batch_norm": False},
        "optimizer": {"learning_rate": 3e-3},
    },
    steps=1000,
)
"""For autoencoders: only the width of the code keeps them from copying."""

WIDE = NARROW._replace(
    arguments=NARROW.arguments | {"encoder": {"batch_norm": False}},
)
"""For those that may not copy anyway."""

CAPTIONED_DIGITS = Change(
    networks={"encoder": "mlp"},
    arguments={
        "augment": {"num_views": 1},
        "text": {"length": 10, "width": 32, "depth": 1, "heads": 2},
        "optimizer": {"learning_rate": 2e-3},
    },
    steps=600,
    batch_size=128,
)
"""One view: an image is compared with its text, not with itself."""


AS_SEEN = {"crop_scale": (0.9, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
"""Crops only, as CLIP has it: a caption may name a colour, or say left and right."""


def captioned(augment: dict[str, Any], text: dict[str, Any], *, dim: int) -> Change:
    """For methods of images and texts, with the optimizer of CLIP."""
    adamw = {"learning_rate": 5e-4, "weight_decay": 0.2, "b2": 0.98}
    own = {method: {"dim": dim} for method in ("clip", "siglip")}
    return Change(
        optimizer="adamw",
        arguments={
            "augment": AS_SEEN | augment,
            "optimizer": adamw | {"warmup_steps": 500},
            "text": text,
            **own,
        },
    )


DIGITS = {
    "vae": RECONSTRUCTION,
    "autoencoder": NARROW,
    "denoising_autoencoder": WIDE,
    "linear_autoencoder": Change(
        augment="plain",
        arguments={"optimizer": {"learning_rate": 1e-2}},
        steps=1000,
    ),
    "sparse_autoencoder": Change(
        augment="plain",
        networks={"encoder": "mlp"},
        arguments={
            "encoder": {"features": (), "out": 256},
            "optimizer": {"learning_rate": 1e-3},
        },
        steps=2000,
    ),
    "vib": Change(augment="plain", networks={"encoder": "mlp"}),
    "moco": Change(arguments={"optimizer": {"learning_rate": 1e-2}}),
    "byol": SLOW,
    "moco_v3": SLOW,
    "simsiam": SLOW,
    "barlow_twins": SLOW,
    "vicreg": SLOW,
    "rotation": Change(augment="plain", arguments={"augment": STANDARD_DIGITS}),
    "jigsaw": Change(
        augment="plain",
        networks={"encoder": "mlp"},
        arguments={
            "augment": {"size": 12, **STANDARD_DIGITS},
            "encoder": {"features": (64,), "out": 32},
        },
        steps=1500,
    ),
    "context": Change(
        augment="plain",
        networks={"encoder": "mlp"},
        arguments={
            "augment": {"size": 24, **STANDARD_DIGITS},
            "encoder": {"features": (64,), "out": 32},
        },
        steps=1500,
    ),
    "mae": Change(
        augment="plain",
        networks={"encoder": "vit", "decoder": "mae_decoder"},
        arguments={
            "encoder": {
                "patch": 2,
                "width": 48,
                "depth": 2,
                "heads": 4,
                "pool": "none",
            },
            "optimizer": {"learning_rate": 2e-3},
        },
        steps=1500,
        batch_size=128,
    ),
    "supervised": Change(arguments={"augment": {"num_views": 1}}),
    "dino": Change(arguments={"dino": {"prototypes": 256, "decay": 0.95}}),
    "swav": Change(arguments={"swav": {"prototypes": 64}}),
    "clip": CAPTIONED_DIGITS,
    "siglip": CAPTIONED_DIGITS,
}
"""What is otherwise on 8×8 digits: parts of the image need more pixels to be parts."""


AUTOENCODERS = (
    "linear_autoencoder",
    "autoencoder",
    "denoising_autoencoder",
    "sparse_autoencoder",
)
BY_ADAM = Change(
    optimizer="adamw",
    arguments={"optimizer": {"learning_rate": 1e-3, "warmup_steps": 500}},
)
"""For losses in the units of the image, whose gradients LARS would make too large."""


def small_images(size: int = 32) -> Preset:
    """For images up to 64 pixels (CIFAR): ResNet-18 with a CIFAR stem, LARS."""
    return Preset(
        augment="cifar",
        optimizer="lars",
        networks={"encoder": "resnet"},
        arguments={
            "encoder": {"depth": 18, "stem": "cifar"},
            "augment": {"size": size},
            "optimizer": {"learning_rate": 1.0, "warmup_steps": 500},
            "projector": {"hidden": 512, "out": 128},
            "predictor": {"hidden": 512},
            "simclr": {"temperature": 0.5},
            "moco": {"temperature": 0.1, "decay": 0.99, "queue_size": 4096},
        },
        steps=20_000,
        batch_size=512,
        log_every=50,
        checkpoint_every=1000,
        methods=dict.fromkeys(AUTOENCODERS, BY_ADAM)
        | dict.fromkeys(
            ("clip", "siglip"),
            captioned({"num_views": 1}, {"width": 128, "depth": 4}, dim=128),
        ),
    )


def photographs(size: int = 256) -> Preset:
    """For larger images: ResNet-50 on crops of 7/8 of their side, LARS."""
    return Preset(
        augment="imagenet",
        optimizer="lars",
        networks={"encoder": "resnet"},
        arguments={
            "encoder": {"depth": 50, "stem": "imagenet"},
            "augment": {"size": size * 7 // 8},
            "optimizer": {"learning_rate": 0.3, "warmup_steps": 1000},
            "projector": {"hidden": 2048, "out": 128},
            "predictor": {"hidden": 4096},
            "simclr": {"temperature": 0.1},
        },
        steps=100_000,
        batch_size=256,
        log_every=50,
        checkpoint_every=1000,
        methods=dict.fromkeys(AUTOENCODERS, BY_ADAM)
        | dict.fromkeys(
            ("clip", "siglip"),
            captioned(
                {"blur": (0.0, 0.0), "solarise": (0.0, 0.0)},
                {"width": 512, "depth": 12, "heads": 8, "causal": True, "pool": "last"},
                dim=512,
            ),
        ),
    )


def records() -> Preset:
    """For vectors, sequences and text: a multi-layer perceptron, no augmentation."""
    return Preset(
        augment="none",
        optimizer="adamw",
        networks={"encoder": "mlp"},
        arguments={"optimizer": {"learning_rate": 1e-3, "warmup_steps": 50}},
        steps=1000,
        batch_size=128,
        log_every=10,
        checkpoint_every=100,
        methods={
            "bert": Change(
                networks={"encoder": "text_transformer"},
                arguments={
                    "encoder": {"pool": "none", "depth": 1},
                    "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100},
                },
                steps=500,
                batch_size=32,
            ),
            "cpc": Change(arguments={"encoder": {"batch_norm": False}}),
            "autoencoder": Change(arguments={"encoder": {"out": 16}}),
            "ivae": Change(
                networks={"decoder": "mlp_decoder"},
                arguments={
                    "encoder": {"features": (64, 64), "out": 64, "batch_norm": False},
                    "decoder": {"features": (64, 64)},
                    "optimizer": {"learning_rate": 3e-3},
                },
                steps=4000,
                batch_size=256,
            ),
            "vae": Change(networks={"decoder": "mlp_decoder"}),
            "info_nce": Change(arguments={"info_nce": {"positives": "temporal"}}),
        },
    )


def strokes() -> Preset:
    """For digits read row by row: eight steps, so windows are short."""
    preset = records()
    short = {
        "cpc": {"window": 1},
        "info_nce": {"window": 2, "gap": (0, 2)},
    }
    methods = dict(preset.methods)
    for method, values in short.items():
        change = methods[method]
        own = change.arguments.get(method, {}) | values
        arguments = change.arguments | {method: own}
        methods[method] = change._replace(arguments=arguments)
    return preset._replace(methods=methods)


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
    change = preset.methods.get(method, Change())
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
        methods={},
    )


def for_steps(preset: Preset, steps: int) -> Preset:
    """The preset for a run of another length: warm-up is at most a tenth of it."""
    optimizer = dict(preset.arguments.get("optimizer", {}))
    if "warmup_steps" in optimizer:
        optimizer["warmup_steps"] = min(optimizer["warmup_steps"], steps // 10)
    arguments = preset.arguments | {"optimizer": optimizer}
    return preset._replace(arguments=arguments, steps=steps)
