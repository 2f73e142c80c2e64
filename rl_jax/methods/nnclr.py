"""NNCLR: a view is to be told from others by its nearest neighbour in the past."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks, pairwise
from rl_jax.losses import info_nce, normalize
from rl_jax.memory import Queue, empty_queue, enqueue
from rl_jax.methods import arguments, noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Aux, Method, Network, State


class NNCLRState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder, projector and predictor.
      queue: the support set, normalised embeddings of past steps, newest over oldest.
    """

    online: State
    queue: Queue


def nnclr(
    encoder: Network,
    projector: Network,
    predictor: Network,
    *,
    temperature: float = 0.1,
    queue_size: int = 98304,
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """Nearest-neighbour contrast (Dwibedi et al. 2021, arXiv:2104.14548).

    With z = norm(g(f(x))), p = norm(q(z)) and n(z) the row of the support set with the
    largest cosine to z, half the sum over both orders of the views a, b of

      mean_i [log Σ_j exp(⟨n(z_ai), p_bj⟩/τ) − ⟨n(z_ai), p_bi⟩/τ],

    j over the batch. The positive is another image's embedding: learned is what images
    of a kind have in common, beyond what the augmentation leaves alone. Only p has a
    gradient. Then the z_a are enqueued. Rows not yet filled are no neighbours; at the
    first step, where there are none, n(z) is z. Neighbours are searched tile by tile,
    without a matrix of batch and support set.

    Batch statistics are those of both views.

    Args:
      encoder: f, images to representations h.
      projector: g, h to embeddings z; the authors' has three layers, 2048, 2048 and
        256, with BatchNorm on all.
      predictor: q, z to predictions; the authors' has two layers, 4096 and 256.
      temperature: softmax temperature τ > 0.
      queue_size: rows of the support set, at least a batch. It pays to have many: a
        neighbour should be of the same kind.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities in the loss, as in `simclr`.

    Returns:
      A method with `encode` names `h` and `z`. Metrics: `queue_valid`, rows in the
      support set; `neighbour_cosine`, of z and n(z), the mean; `softmax_entropy` and
      `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for values out of range, a support set smaller than the batch, or a
        micro-batch that batch, devices or encoder do not allow.
    """
    arguments.positive("nnclr", temperature=temperature)
    arguments.at_least("nnclr", 1, queue_size=queue_size)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)
    everything = networks.chain(
        encoder=encoder, projector=projector, predictor=predictor
    )
    contrast = functools.partial(info_nce, temperature=temperature, precision=precision)

    def init(rng, batch):
        x = tower.two_views(batch)[:, 0]
        params, state = everything.init(rng, x)
        out, _ = jax.eval_shape(
            functools.partial(tower.apply, encoder, projector, train=False),
            params, state, x,
        )  # fmt: skip
        queue = empty_queue(queue_size, out["z"].shape[-1])
        return params, NNCLRState(state, queue)

    def loss(params, state, batch, rng):
        rng_tower, rng_predictor = noise.keys(rng, 2)
        x = tower.flatten_views(tower.two_views(batch))
        out, online = tower.apply(
            encoder, projector, params, state.online, x, train=True, rng=rng_tower
        )
        p, head_state = predictor.apply(
            params["predictor"],
            state.online["predictor"],
            out["z"],
            train=True,
            rng=rng_predictor,
        )
        z = jax.lax.stop_gradient(normalize(out["z"]))
        near, cosine = _nearest(z, state.queue)
        near, p = tower.split_views(near, 2), tower.split_views(p, 2)
        value = contrast(near[:, 0], p[:, 1]) / 2 + contrast(near[:, 1], p[:, 0]) / 2

        features = {name: tower.split_views(v, 2) for name, v in out.items()}
        queue = enqueue(state.queue, tower.split_views(z, 2)[:, 0])
        metrics = {"queue_valid": queue.valid, "neighbour_cosine": jnp.mean(cosine)}
        metrics |= sharpness(near[:, 0], p[:, 1], scale=1 / temperature)
        state = NNCLRState(online | {"predictor": head_state}, queue)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state.online, x)

    return Method(init, loss, encode)


def _nearest(z: chex.Array, queue: Queue) -> tuple[chex.Array, chex.Array]:
    """The row of a queue nearest to each of z, and their cosine; of an empty one z."""
    cosine, index = pairwise.top_k(z, queue.rows, k=1, valid=queue.valid)
    found = index >= 0
    return jnp.where(found, queue.rows[index[:, 0]], z), jnp.where(found, cosine, 1.0)
