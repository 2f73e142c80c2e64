"""What is otherwise with a vision transformer, and where an encoder is tuned."""

from typing import Any

from rl_jax.run.presets.preset import OTHERS, Change

Arguments = dict[str, Any]

LABELLED = {
    "augment": {"rand_augment": 9.0, "erasing": 0.25},
    "supervised": {"label_smoothing": 0.1, "mixup": 0.8, "cutmix": 1.0},
}
"""Of DeiT, and of the tuning of BEiT and MAE."""


def instead(
    encoder: Arguments, optimizer: Arguments, *, warmup_steps: int
) -> dict[str, Change]:
    """For methods of views and labels that have another encoder otherwise.

    Args:
      encoder: the transformer's arguments.
      optimizer: AdamW's, of all methods without labels.
      warmup_steps: of those with labels.
    """
    vit = {"encoder": "vit"}
    adamw = {"warmup_steps": warmup_steps} | optimizer
    others = Change(
        optimizer="adamw",
        networks=vit,
        arguments={"encoder": encoder, "optimizer": adamw},
    )
    return {
        OTHERS: others,
        # Chen et al. 2021, arXiv:2104.02057: a random embedding of patches that stays.
        "moco_v3": others._replace(
            arguments=others.arguments | {"optimizer": adamw | {"embed_rate": 0.0}}
        ),
        # Touvron et al. 2020, arXiv:2012.12877: 5e-4 for a batch of 512.
        "supervised": Change(
            optimizer="adamw",
            networks=vit,
            arguments={
                "encoder": encoder | {"drop_path": 0.1},
                "optimizer": {
                    "learning_rate": 2.5e-4,
                    "scaling": "linear",
                    "weight_decay": 0.05,
                    "warmup_steps": warmup_steps,
                },
                **LABELLED,
            },
        ),
    }


def tuned(*, warmup_steps: int) -> dict[str, Change]:
    """For `supervised` that starts with an encoder trained without labels."""
    return {
        # He et al. 2022, arXiv:2111.06377, table 9.
        "vit": Change(
            optimizer="adamw",
            arguments={
                "encoder": {"drop_path": 0.1},
                "optimizer": {
                    "learning_rate": 1e-3,
                    "scaling": "linear",
                    "weight_decay": 0.05,
                    "layer_decay": 0.75,
                    "warmup_steps": warmup_steps,
                },
                **LABELLED,
            },
        ),
        # Chen et al. 2020, arXiv:2002.05709, B.5: without warm-up or decay of weights.
        "resnet": Change(
            optimizer="sgd",
            arguments={
                "optimizer": {
                    "learning_rate": 0.05,
                    "weight_decay": 0.0,
                    "warmup_steps": 0,
                }
            },
        ),
    }
