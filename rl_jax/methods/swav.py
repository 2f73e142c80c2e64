"""SwAV: predict the cluster of one view from another, clusters of equal size."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.losses import (
    normalize,
    prototype_scores,
    sinkhorn,
    swapped_cross_entropy,
)
from rl_jax.memory import Queue, empty_queue, enqueue
from rl_jax.methods import arguments, tower
from rl_jax.methods import prototypes as shared
from rl_jax.types import Aux, Method, Network, State


class SwAVState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder and projector.
      queues: of each large view, normalised embeddings of past steps; none without.
      step: int32, steps taken; ends the freeze of the prototypes, starts the queues.
    """

    online: State
    queues: tuple[Queue, ...]
    step: chex.Array


def swav(
    encoder: Network,
    projector: Network,
    *,
    prototypes: int = 3000,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    sinkhorn_iterations: int = 3,
    frozen_steps: int = 0,
    queue_size: int = 0,
    queue_from: int = 0,
    micro_batch: int | None = None,
) -> Method:
    """Swapping assignments between views (Caron et al. 2020, arXiv:2006.09882).

    −Σ_k q_k log p_k, averaged over the pairs of a large view for q and any other view
    for p, with s_k = ⟨z, c_k⟩/‖z‖‖c_k‖ the scores of K prototypes, p = softmax(s/τ) and
    q = Sinkhorn(s/ε), no gradient: the assignment of the batch that uses all prototypes
    equally. Where the batch is small beside K, it is assigned together with past
    embeddings of the same view, a queue of them, once that is full; then it is enqueued
    itself. Prototypes are normalised where they are used, the authors' before each
    step.

    Views are the two of `views` and, where the augmentation makes them, any number of
    smaller `local_views`, which give no targets.

    Args:
      encoder: f, images to representations h; of any size, where crops are smaller.
      projector: g, h to z; the authors' has two layers, 2048 and 128.
      prototypes: K ≥ 2.
      temperature: τ > 0 of the predictions.
      epsilon: ε > 0 of the assignments.
      sinkhorn_iterations: at least 1, see `losses.sinkhorn`.
      frozen_steps: steps in which the prototypes do not learn; the authors' first
        epoch.
      queue_size: rows of each queue, at least a batch; 0: no queues. The authors'
        for batches of 256 are 3840, and none for 4096.
      queue_from: the step from which they are filled; the authors' 15 epochs of 200.
        Before, embeddings change too fast.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`, views of one size after the other; None: all.

    Returns:
      A method with `encode` names `h` and `z`. Metrics, as shares of log K:
      `target_entropy`, the mean entropy of q, and `usage_entropy`, the entropy of the
      mean of p: 0 when one prototype has won. With queues `queue_valid`, rows in one.

    Raises:
      UsageError: for values out of range, queues smaller than the batch, other than two
        large views, or an encoder that does not take the crops.
    """
    arguments.positive("swav", temperature=temperature, epsilon=epsilon)
    arguments.at_least("swav", 1, sinkhorn_iterations=sinkhorn_iterations)
    arguments.at_least(
        "swav",
        0,
        frozen_steps=frozen_steps,
        queue_size=queue_size,
        queue_from=queue_from,
    )
    arguments.at_least("swav", 2, prototypes=prototypes)

    forward = functools.partial(
        tower.apply_crops, encoder, projector, micro_batch=micro_batch
    )
    assign = functools.partial(
        sinkhorn, epsilon=epsilon, iterations=sinkhorn_iterations
    )

    def init(rng, batch):
        rng_tower, rng_prototypes = jax.random.split(rng)
        x = tower.two_views(batch)[:, 0]
        if 0 < queue_size < len(x):
            raise UsageError(
                f"swav: queue_size={queue_size} is less than a batch of {len(x)}; make "
                "it larger, or 0 for no queues"
            )
        params, state = tower.init(
            encoder, projector, rng_tower, x, micro_batch=micro_batch
        )
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, batch
        )
        dim = out["z"].shape[-1]
        params["prototypes"] = shared.init(rng_prototypes, prototypes, dim)
        queues = (empty_queue(queue_size, dim),) * 2 if queue_size else ()
        return params, SwAVState(state, queues, jnp.zeros([], jnp.int32))

    def assigned(scores, queue, weights):
        """The assignment of one view's batch [B, K], together with its queue."""
        past = prototype_scores(queue.rows, weights)
        full = jnp.broadcast_to(queue.valid == queue_size, past.shape[:1])
        counts = jnp.concatenate([full, jnp.ones(len(scores), bool)])
        return assign(jnp.concatenate([past, scores]), counts)[queue_size:]

    def filled(queue, z, step):
        """The queue with the embeddings of a view [B, D], from `queue_from` on."""
        later = enqueue(queue, normalize(z))
        begun = step >= queue_from
        return jax.tree.map(functools.partial(jnp.where, begun), later, queue)

    def loss(params, state, batch, rng):
        out, online = forward(params, state.online, batch, train=True, rng=rng)
        weights = shared.frozen(params["prototypes"], state.step, frozen_steps)
        scores = prototype_scores(out["z"], weights)
        large, z, still = jax.lax.stop_gradient((scores[:, :2], out["z"], weights))
        queues, metrics = state.queues, {}
        if queues:
            each = [assigned(large[:, v], queues[v], still) for v in range(2)]
            queues = tuple(filled(queues[v], z[:, v], state.step) for v in range(2))
            metrics = {"queue_valid": queues[0].valid}
        else:
            each = [assign(large[:, v]) for v in range(2)]
        q = jnp.stack(each, axis=1)
        value = swapped_cross_entropy(q, scores / temperature)

        metrics |= shared.entropies(q, jax.nn.softmax(large / temperature, axis=-1))
        features = {name: v[:, :2] for name, v in out.items()}
        state = SwAVState(online, queues, state.step + 1)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state.online, x)

    return Method(init, loss, encode)
