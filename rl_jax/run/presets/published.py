"""What methods are trained with on photographs by those who published results.

Rates are for a batch of 256 and grow with it. Steps, batch and warm-up are those of the
preset; what is known to differ from the source stands beside it.
"""

from typing import Any

from rl_jax.run.presets.preset import Change

Arguments = dict[str, Any]

STRONG = {
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "blur": (0.5, 0.5),
    "solarise": (0.0, 0.0),
}
"""SimCLR's colours (Chen et al. 2020, arXiv:2002.05709, A) in place of BYOL's."""

WEAK = {
    "crop_scale": (0.2, 1.0),
    "saturation": 0.4,
    "blur": (0.5, 0.5),
    "solarise": (0.0, 0.0),
}
"""Those of MoCo v2 (Chen et al. 2020, arXiv:2003.04297)."""

DINO_HEAD = {"layers": 3, "hidden": 2048, "out": 256, "activation": "gelu"}
"""Of Caron et al. 2021, arXiv:2104.14294; theirs of transformers has no BatchNorm."""
EACH_CLIPPED = {"clip_norm": 3.0, "clip_each": True}
"""The default of its code and of iBOT's."""

BOUNDED = {"optimizer": {"clip_norm": 10.0}}
"""For losses whose gradient is large at first, which LARS leaves to biases: without the
long warm-up of the source nothing is finite after some steps."""


def of_photographs(side: int) -> dict[str, Change]:
    """For images of `side` pixels, as on ImageNet, by method."""
    return {
        # arXiv:2002.05709, B.1 and B.6: the rate of the preset, 0.3.
        "simclr": Change(arguments={"augment": STRONG}),
        "sup_con": Change(arguments={"augment": STRONG}),
        # arXiv:1805.01978, the code's; crops and colours are those of MoCo v2.
        "memory_bank": Change(
            optimizer="sgd",
            arguments={
                "augment": WEAK | {"blur": (0.0, 0.0), "num_views": 1},
                "optimizer": {"learning_rate": 0.03, "weight_decay": 1e-4},
                "projector": {"layers": 1},
            },
        ),
        # arXiv:2003.04297: v2.
        "moco": Change(
            optimizer="sgd",
            arguments={
                "augment": WEAK,
                "optimizer": {"learning_rate": 0.03, "weight_decay": 1e-4},
                "projector": {"batch_norm": False},
                "moco": {"temperature": 0.2},
            },
        ),
        # arXiv:2104.02057 and its code, ResNet-50, 100 epochs.
        "moco_v3": Change(
            arguments={
                "augment": {"crop_scale": (0.2, 1.0)},
                "optimizer": {"learning_rate": 0.6, "form": "mae"},
                "projector": {"hidden": 4096, "out": 256, "final_batch_norm": True},
            }
        ),
        # arXiv:2006.07733, 3.3 and C.
        "byol": Change(
            arguments={
                "optimizer": {
                    "learning_rate": 0.2,
                    "weight_decay": 1.5e-6,
                    "form": "mae",
                },
                "projector": {"hidden": 4096, "out": 256},
            }
        ),
        # arXiv:2104.14548, 4.1.
        "nnclr": Change(
            arguments={"projector": {"out": 256, "layers": 3, "final_batch_norm": True}}
        ),
        "lejepa": for_lejepa(out=128, warmup_steps=1000),
        # arXiv:2011.10566, 3 and 4.2: the rate of the predictor stays.
        "simsiam": Change(
            optimizer="sgd",
            arguments={
                "augment": WEAK,
                "optimizer": {
                    "learning_rate": 0.05,
                    "weight_decay": 1e-4,
                    "constant": ("predictor",),
                },
                "projector": {"layers": 3, "out": 2048, "final_batch_norm": True},
                "predictor": {"hidden": 512},
            },
        ),
        # arXiv:2103.03230, 2.2, and its code.
        "barlow_twins": Change(
            arguments={
                "optimizer": {
                    "learning_rate": 0.2,
                    "vector_rate": 0.0048,
                    "form": "mae",
                    "end_rate": 1e-3,
                },
                "projector": {"layers": 3, "hidden": 8192, "out": 8192},
            }
        ),
        # arXiv:2105.04906 and its code, 100 epochs.
        "vicreg": Change(
            arguments={
                "optimizer": {"form": "mae", "end_rate": 1e-3},
                "projector": {"layers": 3, "hidden": 8192, "out": 8192},
            },
            short=BOUNDED,
        ),
        # arXiv:2006.09882 and its code for a batch of 256.
        "swav": Change(
            augment="multi_crop",
            arguments={
                "augment": of_crops(side, multiple_of=1)
                | STRONG
                | {
                    "num_local": 6,
                    "crop_scale": (0.14, 1.0),
                    "local_scale": (0.05, 0.14),
                    "local_blur": 0.5,
                },
                "optimizer": {
                    "learning_rate": 0.6,
                    "form": "bolts",
                    "end_rate": 1e-3,
                },
                "swav": {
                    "frozen_steps": 5000,
                    "queue_size": 3840,
                    "queue_from": 75_000,
                },
            },
        ),
        # arXiv:2104.14294 and the defaults of its code, ViT-S/16.
        "dino": of_tokens(
            side,
            encoder={"patch": 16, "pool": "cls"},
            augment={"num_local": 8},
            optimizer=EACH_CLIPPED,
            dino={"frozen_steps": 1000},
        ),
        # arXiv:2111.07832 and its code, ViT-S/16, whose last layer is not normalised.
        "ibot": of_tokens(
            side,
            encoder={"patch": 16, "pool": "all", "drop_path": 0.1},
            augment={
                "num_local": 10,
                "crop_scale": (0.25, 1.0),
                "local_scale": (0.05, 0.25),
            },
            optimizer=EACH_CLIPPED,
            ibot={"frozen_steps": 1000, "warmup_steps": 3750},
        ),
        # arXiv:2304.07193 and its code for ViT-L/14, whose width, depth, stochastic
        # depth, batch and, with it, number of prototypes are larger.
        "dino_v2": of_tokens(
            side,
            encoder={"patch": 14, "pool": "all", "drop_path": 0.1},
            augment={
                "num_local": 8,
                "local_size": multiple(side * 98 // 224, 14),
                "crop_scale": (0.32, 1.0),
                "local_scale": (0.05, 0.32),
            },
            optimizer={
                "learning_rate": 1e-4,
                "scaling": "sqrt",
                "warmup_steps": 10_000,
                "end_weight_decay": 0.2,
                "end_rate": 5e-3,
                "embed_rate": 0.2,
                "clip_norm": 3.0,
            },
            projector={"out": 384},
            dino_v2={
                "prototypes": 8192,
                "decay": 0.994,
                "frozen_steps": 200,
                "warmup_steps": 6000,
            },
        ),
        # He et al. 2015, arXiv:1512.03385, with the schedule of the preset.
        "supervised": Change(
            optimizer="sgd",
            arguments={
                "augment": {
                    "jitter": 0.0,
                    "grey": 0.0,
                    "blur": (0.0, 0.0),
                    "solarise": (0.0, 0.0),
                    "num_views": 1,
                },
                "optimizer": {
                    "learning_rate": 0.1,
                    "weight_decay": 1e-4,
                    "warmup_steps": 1000,
                },
            },
        ),
    }


def of_tokens(
    side: int, *, encoder: Arguments, augment: Arguments, **arguments: Arguments
) -> Change:
    """For DINO and its relatives: ViT-S, crops that patches divide, its authors' AdamW.

    What is given goes before what DINO has.
    """
    dino = {
        "augment": of_crops(side, multiple_of=encoder["patch"])
        | {"blur": (1.0, 0.1), "local_blur": 0.5},
        "encoder": {"size": "S"},
        "optimizer": {
            "learning_rate": 5e-4,
            "scaling": "linear",
            "warmup_steps": 1000,
            "weight_decay": 0.04,
            "end_weight_decay": 0.4,
            "end_rate": 2e-3,
        },
        "projector": DINO_HEAD | {"batch_norm": False},
    }
    own = arguments | {"encoder": encoder, "augment": augment}
    return Change(
        augment="multi_crop",
        optimizer="adamw",
        networks={"encoder": "vit"},
        arguments={part: dino.get(part, {}) | own.get(part, {}) for part in dino | own},
    )


def for_lejepa(*, out: int, warmup_steps: int) -> Change:
    """For LeJEPA, the optimizer of its authors for a ResNet, and their projector."""
    adamw = {"learning_rate": 5e-4, "weight_decay": 5e-4, "end_rate": 1e-3}
    return Change(
        optimizer="adamw",
        arguments={
            "optimizer": adamw | {"warmup_steps": warmup_steps},
            "projector": {"hidden": 2048, "out": out, "layers": 3},
        },
    )


def of_crops(side: int, *, multiple_of: int) -> Arguments:
    """Sides of large views and of crops, whose share is 96 of 224 pixels."""
    return {
        "size": multiple(side, multiple_of),
        "local_size": multiple(side * 96 // 224, multiple_of),
    }


def multiple(side: int, of: int) -> int:
    """The largest multiple that is no larger than `side`, at least one."""
    return max(of, side // of * of)
