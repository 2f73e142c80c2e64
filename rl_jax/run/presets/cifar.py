"""What methods are trained with on CIFAR by those who published results."""

from rl_jax.run.presets.preset import Change
from rl_jax.run.presets.published import (
    BOUNDED,
    DINO_HEAD,
    STRONG,
    Arguments,
    for_lejepa,
)

COLOURS = ("brightness", "contrast", "saturation", "hue")


def of_small_images() -> dict[str, Change]:
    """For CIFAR: solo-learn's, 1,000 epochs of ResNet-18; of LeJEPA its authors'.

    Where one view of two is solarised there, with probability 0.2, both are here, 0.1.
    """
    weak = {"blur": 0.5}
    strong = weak | {k: v for k, v in STRONG.items() if k in COLOURS}
    one_solarised = {"saturation": 0.2, "solarise": 0.1}

    def adapted(rate: float, decay: float) -> Arguments:
        return {
            "learning_rate": rate,
            "weight_decay": decay,
            "form": "bolts",
            "trust_coefficient": 0.02,
            "clip_lr": True,
        }

    wide = {"hidden": 4096, "out": 256}
    three = {"layers": 3, "hidden": 2048, "out": 2048}
    return {
        "moco": Change(
            optimizer="sgd",
            arguments={
                "augment": weak,
                "optimizer": {
                    "learning_rate": 0.3,
                    "weight_decay": 1e-4,
                    "warmup_steps": 500,
                },
                "projector": {"hidden": 2048, "out": 256, "batch_norm": False},
                "moco": {"temperature": 0.2, "queue_size": 32768},
            },
        ),
        "moco_v3": Change(
            arguments={
                "augment": one_solarised,
                "optimizer": adapted(0.3, 1e-6),
                "projector": wide | {"final_batch_norm": True},
                "predictor": {"hidden": 4096},
                "moco_v3": {"temperature": 0.2},
            }
        ),
        "byol": Change(
            arguments={
                "augment": one_solarised,
                "optimizer": adapted(1.0, 1e-5),
                "projector": wide,
                "predictor": {"hidden": 4096},
                "byol": {"decay": 0.99},
            }
        ),
        "nnclr": Change(
            arguments={
                "augment": one_solarised,
                "optimizer": adapted(0.4, 1e-5),
                "projector": {"hidden": 2048, "out": 256},
                "predictor": {"hidden": 4096},
                "nnclr": {"temperature": 0.2, "queue_size": 65536},
            }
        ),
        "simsiam": Change(
            optimizer="sgd",
            arguments={
                "augment": weak,
                "optimizer": {
                    "learning_rate": 0.5,
                    "weight_decay": 1e-5,
                    "warmup_steps": 500,
                    "constant": ("predictor",),
                },
                "projector": three | {"final_batch_norm": True},
            },
        ),
        "barlow_twins": Change(
            arguments={
                "augment": one_solarised,
                "optimizer": adapted(0.3, 1e-4),
                "projector": three,
                "barlow_twins": {"scale": 0.1},
            }
        ),
        "vicreg": Change(
            arguments={
                "augment": one_solarised | {"crop_scale": (0.2, 1.0)},
                "optimizer": adapted(0.3, 1e-4),
                "projector": three,
            },
            short=BOUNDED,
        ),
        "dino": Change(
            arguments={
                "augment": one_solarised,
                "optimizer": adapted(0.3, 1e-6),
                "projector": DINO_HEAD,
                "dino": {"prototypes": 4096, "decay": 0.9995},
            }
        ),
        "swav": Change(
            arguments={
                "augment": strong,
                "optimizer": adapted(0.6, 1e-6),
                "projector": {"hidden": 2048},
                "swav": {
                    "frozen_steps": 400,
                    "queue_size": 3840,
                    "queue_from": 10_000,
                },
            }
        ),
        "sup_con": Change(
            optimizer="sgd",
            arguments={
                "augment": strong,
                "optimizer": {
                    "learning_rate": 0.4,
                    "weight_decay": 1e-5,
                    "warmup_steps": 500,
                },
                "projector": {"hidden": 2048, "out": 256},
                "sup_con": {"temperature": 0.2},
            },
        ),
        "lejepa": for_lejepa(out=64, warmup_steps=500),
        # He et al. 2015, arXiv:1512.03385, 4.2, with the decay since in use; crops in
        # place of shifts by up to four pixels, a cosine in place of steps.
        "supervised": Change(
            optimizer="sgd",
            arguments={
                "augment": {
                    "crop_scale": (0.6, 1.0),
                    "jitter": 0.0,
                    "grey": 0.0,
                    "num_views": 1,
                },
                "optimizer": {"learning_rate": 0.1, "weight_decay": 5e-4},
            },
        ),
    }
