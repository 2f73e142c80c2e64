"""InfoNCE on any kind of positives: two views, two windows of a sequence, a pair."""

import math
from typing import Literal

import jax.numpy as jnp

from rl_jax import losses
from rl_jax.errors import UsageError
from rl_jax.methods import arguments, inputs, windows
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Method, Network

NEEDS = {
    "augmentation": ("views",),
    "temporal": ("sequence", "index"),
    "paired": ("image", "pair"),
}


def info_nce(
    encoder: Network,
    projector: Network,
    *,
    positives: Literal["augmentation", "temporal", "paired"] = "augmentation",
    temperature: float = 0.1,
    symmetric: bool = True,
    window: int = 8,
    gap: tuple[int, int] = (0, 8),
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) on g(f(x)) and g(f(y)).

    mean_i [log Σ_j exp(s(x_i, y_j)/τ) − s(x_i, y_i)/τ] with s the cosine similarity of
    embeddings: each x finds its y among those of the batch. log B − loss is a lower
    bound on the mutual information of x and y, in nats, in expectation. The positives
    (x, y) are

      augmentation: the two `views` of an image, as SimCLR has them, but a view is not
        compared with other views of its own kind.
      temporal: two windows of a `sequence` [B, T, F], x the earlier. The steps between
        them are drawn from `gap`, and then the start of x from all that leave room for
        both, for each example of each step anew.
      paired: `image` and `pair`, two arrays of one shape and dtype. No augmentation
        sees `pair`: bring both in the units that f expects, and leave them as they are
        (`presets.none`). Modalities that need a network each have `clip`.

    Args:
      encoder: f, images or windows [N, window, F] to representations h.
      projector: g, h to the embeddings z the loss compares; discarded afterwards.
      positives: what x and y are.
      temperature: softmax temperature τ > 0.
      symmetric: the mean of both directions; otherwise x finds y only.
      window: steps of a window, ≥ 1; temporal only.
      gap: smallest and largest number of steps between the windows, ≥ 0; temporal only.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h` and `z`: of `image`, or for a sequence the means
      over its ⌊T / window⌋ windows side by side. Metrics: `information` is log B −
      loss; `softmax_entropy` and `max_softmax`, of x, see `sharpness`.

    Raises:
      UsageError: for values out of range, a batch without what the positives are made
        of, sequences shorter than two windows and the largest gap, or a micro-batch
        that batch, devices or encoder do not allow.
    """
    if positives not in NEEDS:
        known = ", ".join(NEEDS)
        raise UsageError(
            f"info_nce: positives must be one of {known}, got {positives!r}"
        )
    arguments.positive("info_nce", temperature=temperature)
    arguments.at_least("info_nce", 1, window=window)
    if len(gap) != 2 or not 0 <= gap[0] <= gap[1]:
        raise UsageError(f"info_nce: gap must be 0 <= least <= most, got {gap}")

    def criterion(x, y):
        if symmetric:
            scale = 1 / temperature
            return losses.clip(x, y, logit_scale=scale, precision=precision)
        return losses.info_nce(x, y, temperature=temperature, precision=precision)

    def measure(x, y):
        return sharpness(x, y, scale=1 / temperature)

    method = joint_embedding(
        encoder, projector, criterion, measure=measure, micro_batch=micro_batch
    )

    def with_views(batch, rng):
        for name in NEEDS[positives]:
            inputs.take(f"info_nce ({positives} positives)", batch, name)
        if positives == "temporal":
            return batch | {"views": windows.two(rng, batch, window=window, gap=gap)}
        if positives == "paired":
            x, y = batch["image"], batch["pair"]
            if x.shape != y.shape:
                raise UsageError(
                    f"info_nce: image and pair must have one shape, got {x.shape}, "
                    f"{y.shape}; use clip where they are of different kinds"
                )
            if x.dtype != y.dtype:
                raise UsageError(
                    f"info_nce: image and pair must have one dtype, got {x.dtype}, "
                    f"{y.dtype}; an augmentation changes image alone, use none"
                )
            return batch | {"views": jnp.stack([x, y], axis=1)}
        return batch

    def init(rng, batch):
        return method.init(rng, with_views(batch, rng))

    def loss(params, state, batch, rng):
        value, aux = method.loss(params, state, with_views(batch, rng), rng)
        size = len(aux.features["z"])
        metrics = aux.metrics | {"information": math.log(size) - value}
        return value, aux._replace(metrics=metrics)

    def encode(params, state, batch):
        if positives != "temporal":
            return method.encode(params, state, batch)
        x = windows.cut(batch["sequence"], window)
        rows = {"image": x.reshape(-1, *x.shape[2:])}
        out = method.encode(params, state, rows)
        return {k: v.reshape(*x.shape[:2], -1).mean(1) for k, v in out.items()}

    return Method(init, loss, encode)
