"""Settings for scikit-learn's digits."""

from rl_jax.augment.presets import DIGITS_MEAN, DIGITS_STD
from rl_jax.run.presets.preset import OTHERS, Change, Preset

STANDARD_DIGITS = {"mean": DIGITS_MEAN, "std": DIGITS_STD}


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
            "nnclr": {"temperature": 0.2, "queue_size": 1024},
            "lejepa": {"slices": 256},
        },
        steps=400,
        batch_size=256,
        log_every=10,
        checkpoint_every=50,
        methods=DIGITS,
        vit={OTHERS: WITH_VIT},
        tuned=TUNED,
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

SMALL_VIT = {"patch": 2, "width": 48, "depth": 2, "heads": 4, "pool": "none"}
"""For methods of masked patches."""

WITH_VIT = Change(
    networks={"encoder": "vit"},
    arguments={
        "encoder": SMALL_VIT | {"pool": "mean"},
        "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100, "b2": 0.95},
    },
)
"""For methods that have another encoder otherwise."""

TUNED = {
    "convnet": Change(
        optimizer="sgd",
        arguments={"optimizer": {"learning_rate": 0.03, "scaling": "none"}},
    ),
    "vit": Change(arguments={"optimizer": {"layer_decay": 0.75}}),
}
"""For `supervised` with a trained encoder."""

SHARP = {
    "prototypes": 256,
    "teacher_temperature": 0.02,
    "warmup_temperature": 0.02,
    "decay": 0.99,
}
"""Class tokens begin much alike: flatter targets, or a faster teacher, end uniform."""

TOKENS = Change(
    networks={"encoder": "vit"},
    arguments={
        "encoder": SMALL_VIT | {"pool": "all"},
        "optimizer": {"learning_rate": 4e-3, "warmup_steps": 100, "b2": 0.95},
        "projector": {"batch_norm": False},
    },
    steps=1000,
    batch_size=128,
)
"""For methods of class tokens and hidden patches."""

DIGITS = {
    "vae": NARROW._replace(
        arguments={
            "encoder": {"features": (), "out": 128},
            "decoder": {"features": (128,)},
            "optimizer": {"learning_rate": 2e-3},
            "vae": {"latent": 8, "variance": 0.05},
        },
    ),
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
    "nnclr": SLOW,
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
            "encoder": SMALL_VIT,
            "augment": STANDARD_DIGITS,
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100, "b2": 0.95},
        },
        steps=2000,
        batch_size=128,
    ),
    "simmim": Change(
        augment="plain",
        networks={"encoder": "vit"},
        arguments={
            "encoder": SMALL_VIT,
            "augment": STANDARD_DIGITS,
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100, "b2": 0.95},
            "simmim": {"mask_ratio": 0.5, "mask_side": 1},
        },
        steps=2000,
        batch_size=128,
    ),
    # Fixed positions outweigh here what patches show, and what all images have in
    # common is soon predicted; blocks of 4×4 patches would have one to four of them.
    "i_jepa": Change(
        augment="plain",
        networks={"encoder": "vit", "predictor": "jepa_predictor"},
        arguments={
            "encoder": SMALL_VIT | {"positions": "learned"},
            "augment": {"size": 12, **STANDARD_DIGITS},
            "optimizer": {"learning_rate": 5e-3, "warmup_steps": 100, "b2": 0.95},
            "i_jepa": {"context_share": 0.4},
        },
        steps=1000,
        batch_size=128,
    ),
    "ibot": TOKENS._replace(
        arguments=TOKENS.arguments | {"ibot": SHARP | {"patch_temperature": 0.04}},
    ),
    "dino_v2": TOKENS._replace(arguments=TOKENS.arguments | {"dino_v2": SHARP}),
    "supervised": Change(arguments={"augment": {"num_views": 1}}),
    "dino": Change(arguments={"dino": {"prototypes": 256, "decay": 0.95}}),
    "swav": Change(arguments={"swav": {"prototypes": 64}}),
    "clip": CAPTIONED_DIGITS,
    "siglip": CAPTIONED_DIGITS,
}
"""What is otherwise on 8×8 digits: parts of the image need more pixels to be parts."""
