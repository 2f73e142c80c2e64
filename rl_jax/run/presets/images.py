"""Settings for other images, by their size."""

import functools
from typing import Any

from rl_jax.run.presets.cifar import of_small_images
from rl_jax.run.presets.preset import Change, Preset
from rl_jax.run.presets.published import (
    DINO_HEAD,
    EACH_CLIPPED,
    multiple,
    of_photographs,
)
from rl_jax.run.presets.transformers import instead, tuned

AS_SEEN = {"crop_scale": (0.9, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
"""Crops only, as CLIP has it: a caption may name a colour, or say left and right."""

PREDICTED = {"crop_scale": (0.3, 1.0), "flip": 0.0}
"""Crops alone, as I-JEPA's authors have it: nothing by hand that h should not tell."""


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


AUTOENCODERS = (
    "linear_autoencoder",
    "autoencoder",
    "denoising_autoencoder",
    "sparse_autoencoder",
    "vae",
)
BY_ADAM = Change(
    optimizer="adamw",
    arguments={"optimizer": {"learning_rate": 1e-3, "warmup_steps": 500}},
)
"""For losses in the units of the image, whose gradients LARS would make too large."""


def of_patches(
    side: int,
    *,
    patch: int,
    size: str,
    augment: dict[str, Any],
    networks: dict[str, str],
    **arguments: dict[str, Any],
) -> Change:
    """For methods of masked patches: a vision transformer, crops that patches divide.

    Crops and flips only, AdamW and its decay (He et al. 2022, arXiv:2111.06377, A.1).
    """
    crops = AS_SEEN | {"crop_scale": (0.2, 1.0), "flip": 0.5}
    optimizer = {"weight_decay": 0.05, "b2": 0.95} | arguments.pop("optimizer")
    return Change(
        optimizer="adamw",
        networks={"encoder": "vit"} | networks,
        arguments={
            "encoder": {"size": size, "patch": patch, "pool": "none"},
            "augment": crops | {"size": multiple(side, patch)} | augment,
            "optimizer": optimizer,
            **arguments,
        },
    )


def tokens_of_small(side: int) -> dict[str, Change]:
    """For iBOT and DINOv2, of which nothing is published there: the views of DINO."""
    patch = 4 if side >= 16 else 2
    change = Change(
        optimizer="adamw",
        networks={"encoder": "vit"},
        arguments={
            "encoder": {"size": "Ti", "patch": patch, "pool": "all"},
            "augment": {
                "size": multiple(side, patch),
                "saturation": 0.2,
                "solarise": 0.1,
            },
            "optimizer": {
                "learning_rate": 5e-4,
                "warmup_steps": 500,
                "weight_decay": 0.04,
            }
            | EACH_CLIPPED,
            "projector": DINO_HEAD | {"batch_norm": False},
        },
    )
    own = {"prototypes": 4096, "frozen_steps": 200, "warmup_steps": 750}
    return {
        method: change._replace(arguments=change.arguments | {method: own})
        for method in ("ibot", "dino_v2")
    }


ONE_VIEW = {"num_views": 1}
"""For methods that look at one: a second is made for nothing."""
UNCOLOURED = ONE_VIEW | {"blur": (0.0, 0.0), "solarise": (0.0, 0.0)}
"""What `imagenet` has beside jitter and grey, left out."""


def small_images(size: int = 32) -> Preset:
    """For images up to 64 pixels (CIFAR): ResNet-18 with a CIFAR stem, LARS."""
    tiny = functools.partial(
        of_patches,
        size,
        patch=4 if size >= 16 else 2,
        size="Ti",
        optimizer={"learning_rate": 5e-4, "warmup_steps": 500},
    )
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
            "moco": {"decay": 0.99},
        },
        steps=20_000,
        batch_size=512,
        log_every=50,
        checkpoint_every=1000,
        methods=of_small_images()
        | dict.fromkeys(AUTOENCODERS, BY_ADAM)
        | {
            "mae": tiny(
                augment=ONE_VIEW,
                networks={"decoder": "mae_decoder"},
                decoder={"width": 96, "depth": 2},
            ),
            "simmim": tiny(
                augment={"num_views": 1, "crop_scale": (0.67, 1.0)},
                networks={},
                simmim={"mask_side": 1},
            ),
            "i_jepa": tiny(
                augment=ONE_VIEW | PREDICTED,
                networks={"predictor": "jepa_predictor"},
                predictor={"width": 96, "depth": 4},
            ),
            **dict.fromkeys(
                ("memory_bank", "rotation", "context"),
                Change(arguments={"augment": ONE_VIEW}),
            ),
            "jigsaw": Change(
                arguments={"augment": ONE_VIEW | {"size": multiple(size, 3)}}
            ),
        }
        | tokens_of_small(size)
        | dict.fromkeys(
            ("clip", "siglip"),
            captioned(ONE_VIEW, {"width": 128, "depth": 4}, dim=128),
        ),
        vit=instead(
            {"size": "Ti", "patch": 4 if size >= 16 else 2},
            {"learning_rate": 5e-4, "weight_decay": 0.05},
            warmup_steps=500,
        ),
        tuned=tuned(warmup_steps=500),
    )


def photographs(size: int = 256) -> Preset:
    """For larger images: ResNet-50 on crops of 7/8 of their side, LARS."""
    side = size * 7 // 8
    small = functools.partial(of_patches, side, patch=16, size="S")
    return Preset(
        augment="imagenet",
        optimizer="lars",
        networks={"encoder": "resnet"},
        arguments={
            "encoder": {"depth": 50, "stem": "imagenet"},
            "augment": {"size": side},
            "optimizer": {"learning_rate": 0.3, "warmup_steps": 1000},
            "projector": {"hidden": 2048, "out": 128},
            "predictor": {"hidden": 4096},
            "simclr": {"temperature": 0.1},
        },
        steps=100_000,
        batch_size=256,
        log_every=50,
        checkpoint_every=1000,
        methods=of_photographs(side)
        | dict.fromkeys(AUTOENCODERS, BY_ADAM)
        | {
            "mae": small(
                augment=UNCOLOURED,
                optimizer={"learning_rate": 6e-4, "warmup_steps": 1000},
                networks={"decoder": "mae_decoder"},
                decoder={"width": 256, "depth": 4, "heads": 8},
            ),
            "simmim": small(
                augment=UNCOLOURED | {"crop_scale": (0.67, 1.0)},
                optimizer={"learning_rate": 8e-4, "warmup_steps": 1000},
                networks={},
                simmim={"mask_side": 2 if side // 16 % 2 == 0 else 1},
            ),
            "i_jepa": small(
                augment=UNCOLOURED | PREDICTED,
                optimizer={"learning_rate": 5e-4, "warmup_steps": 1000},
                networks={"predictor": "jepa_predictor"},
                predictor={"width": 192, "depth": 6, "heads": 6},
            ),
            **dict.fromkeys(
                ("rotation", "context"), Change(arguments={"augment": UNCOLOURED})
            ),
            "jigsaw": Change(
                arguments={"augment": UNCOLOURED | {"size": multiple(side, 3)}}
            ),
        }
        | dict.fromkeys(
            ("clip", "siglip"),
            captioned(
                UNCOLOURED,
                {"width": 512, "depth": 12, "heads": 8, "causal": True, "pool": "last"},
                dim=512,
            ),
        ),
        # Chen et al. 2021, arXiv:2104.02057, 5 and A, of SimCLR and BYOL too.
        vit=instead(
            {"size": "S", "patch": 16},
            {"learning_rate": 1.5e-4, "scaling": "linear", "weight_decay": 0.1},
            warmup_steps=1000,
        ),
        tuned=tuned(warmup_steps=1000),
    )
