"""Settings that work for a kind of data; a flag of the command line overrides them."""

from typing import Any, NamedTuple

from rl_jax import data


class Preset(NamedTuple):
    """Names of factories and the arguments that differ from their own defaults.

    Attributes:
      encoder, augment, optimizer: names of factories.
      arguments: by part, what to pass instead of a factory's default; the name of a
        method gives that method's.
      steps: optimizer steps.
      batch_size: examples of one step.
      log_every, checkpoint_every: in steps.
    """

    encoder: str
    augment: str
    optimizer: str
    arguments: dict[str, dict[str, Any]]
    steps: int
    batch_size: int
    log_every: int
    checkpoint_every: int


def digits() -> Preset:
    """For 8×8 digits: a small conv net, 1,297 images; minutes on two CPU cores."""
    return Preset(
        encoder="convnet",
        augment="digits",
        optimizer="adamw",
        arguments={
            "augment": {"rotate": 15.0, "shear": 10.0},
            "optimizer": {"learning_rate": 3e-3},
            "projector": {"hidden": 256, "out": 64},
            "predictor": {"hidden": 256},
            "simclr": {"temperature": 0.5},
            "moco": {"temperature": 0.2, "decay": 0.99, "queue_size": 1024},
            "byol": {"decay": 0.99},
        },
        steps=400,
        batch_size=256,
        log_every=10,
        checkpoint_every=50,
    )


def small_images(size: int = 32) -> Preset:
    """For images up to 64 pixels (CIFAR): ResNet-18 with a CIFAR stem, LARS."""
    return Preset(
        encoder="resnet",
        augment="cifar",
        optimizer="lars",
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
    )


def photographs(size: int = 256) -> Preset:
    """For larger images: ResNet-50 on crops of 7/8 of their side, LARS."""
    return Preset(
        encoder="resnet",
        augment="imagenet",
        optimizer="lars",
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
    )


def for_data(factory: str, image_shape: tuple[int, int, int]) -> Preset:
    """The preset for a data set, by the factory that makes it and its images' size.

    Never by the data's own name, which is the user's: a folder may be called digits.
    """
    if factory == data.digits.__name__:
        return digits()
    size = min(image_shape[:2])
    return small_images(size) if size <= 64 else photographs(size)


def for_steps(preset: Preset, steps: int) -> Preset:
    """The preset for a run of another length: warm-up is at most a tenth of it."""
    optimizer = dict(preset.arguments.get("optimizer", {}))
    if "warmup_steps" in optimizer:
        optimizer["warmup_steps"] = min(optimizer["warmup_steps"], steps // 10)
    arguments = preset.arguments | {"optimizer": optimizer}
    return preset._replace(arguments=arguments, steps=steps)
