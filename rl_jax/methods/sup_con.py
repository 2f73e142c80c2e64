"""SupCon: SimCLR whose positives are all views of a class."""

import functools

import jax.numpy as jnp

from rl_jax import losses
from rl_jax.methods import arguments, inputs, tower
from rl_jax.methods.joint_embedding import joint_embedding
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Method, Network


def sup_con(
    encoder: Network,
    projector: Network,
    *,
    temperature: float = 0.1,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """Supervised contrastive learning (Khosla et al. 2020, arXiv:2004.11362), L_out.

    mean over the N = 2B views of log Σ_{j≠i} exp(s_ij/τ) − mean_{p∈P(i)} s_ip/τ, with s
    the cosine similarity and P(i) the other views of all images of i's class. An image
    whose label is unknown (−1) is a class of its own, so without labels this is SimCLR.

    Args:
      encoder: f, images to representations h.
      projector: g, h to the embeddings z the loss compares; discarded afterwards.
      temperature: softmax temperature τ > 0.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h` and `z`; its batch has `label`. Metrics:
      `softmax_entropy` and `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for a temperature that is not positive and finite, a batch without
        labels, or a micro-batch that batch, devices or encoder do not allow.
    """
    arguments.positive("sup_con", temperature=temperature)
    compare = functools.partial(
        losses.sup_con, temperature=temperature, precision=precision
    )

    def criterion(a, b, label):
        own = jnp.max(label) + 1 + jnp.arange(len(label), dtype=label.dtype)
        label = jnp.where(label < 0, own, label)
        return compare(tower.interleave([a, b]), tower.interleave([label, label]))

    def measure(a, b):
        views = tower.interleave([a, b])
        return sharpness(views, views, scale=1 / temperature, exclude_self=True)

    method = joint_embedding(
        encoder,
        projector,
        criterion,
        given=["label"],
        measure=measure,
        micro_batch=micro_batch,
    )

    def init(rng, batch):
        inputs.take("sup_con", batch, "label")
        return method.init(rng, batch)

    def loss(params, state, batch, rng):
        inputs.take("sup_con", batch, "label")
        return method.loss(params, state, batch, rng)

    return method._replace(init=init, loss=loss)
