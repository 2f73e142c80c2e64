"""SimCSE: the same text twice, told apart from the others through other dropout."""

import functools

import jax.numpy as jnp

from rl_jax import losses
from rl_jax.methods import arguments, inputs
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Batch, Method, Network


def simcse(
    encoder: Network,
    projector: Network,
    *,
    temperature: float = 0.05,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """Unsupervised SimCSE (Gao, Yao & Chen 2021, arXiv:2104.08821).

    mean_i [log Σ_j exp(s(z_i, z'_j)/τ) − s(z_i, z'_i)/τ] with s the cosine similarity,
    z_i = g(f(x_i)) and z'_i the same of the same text, seen through other dropout
    masks: that noise is the only augmentation. Without any the positives are equal, and
    all the loss does is to push texts apart.

    Args:
      encoder: f, tokens [N, L] to representations h [N, D], with dropout:
        `networks.text_transformer(dropout=0.1, ...)`.
      projector: g, h to embeddings z; discarded afterwards, as the authors do.
      temperature: softmax temperature τ > 0.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method for `tokens` [B, L], with `encode` names `h` and `z`. Metrics:
      `softmax_entropy` and `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for a temperature that is not positive and finite, a batch without
        tokens, an encoder that does not pool, or a micro-batch that batch, devices or
        encoder do not allow.
    """
    arguments.positive("simcse", temperature=temperature)
    criterion = functools.partial(
        losses.info_nce, temperature=temperature, precision=precision
    )
    measure = functools.partial(sharpness, scale=1 / temperature)
    method = joint_embedding(
        encoder, projector, criterion, measure=measure, micro_batch=micro_batch
    )

    def init(rng, batch):
        return method.init(rng, _twice(batch))

    def loss(params, state, batch, rng):
        return method.loss(params, state, _twice(batch), rng)

    def encode(params, state, batch):
        return method.encode(params, state, {"image": inputs.texts("simcse", batch)})

    return Method(init, loss, encode)


def _twice(batch: Batch) -> Batch:
    tokens = inputs.texts("simcse", batch)
    return batch | {"views": jnp.stack([tokens, tokens], axis=1)}
