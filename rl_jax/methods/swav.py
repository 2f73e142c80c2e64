"""SwAV: predict the cluster of one view from another, clusters of equal size."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.losses import prototype_scores, sinkhorn, swapped_cross_entropy
from rl_jax.methods import arguments, tower
from rl_jax.methods import prototypes as shared
from rl_jax.types import Aux, Method, Network, State


class SwAVState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder and projector.
      step: int32, steps taken; ends the freeze of the prototypes.
    """

    online: State
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
) -> Method:
    """Swapping assignments between views (Caron et al. 2020, arXiv:2006.09882).

    −Σ_k q_k log p_k, averaged over the pairs of a large view for q and any other view
    for p, with s_k = ⟨z, c_k⟩/‖z‖‖c_k‖ the scores of K prototypes, p = softmax(s/τ) and
    q = Sinkhorn(s/ε), no gradient: the assignment of the batch that uses all prototypes
    equally. K at most a few times the batch: the authors add a queue for small batches,
    which is not here. Prototypes are normalised where they are used, the authors'
    before each step.

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

    Returns:
      A method with `encode` names `h` and `z`. Metrics, as shares of log K:
      `target_entropy`, the mean entropy of q, and `usage_entropy`, the entropy of the
      mean of p: 0 when one prototype has won.

    Raises:
      UsageError: for values out of range, other than two large views, or an encoder
        that does not take the crops.
    """
    arguments.positive("swav", temperature=temperature, epsilon=epsilon)
    arguments.at_least("swav", 1, sinkhorn_iterations=sinkhorn_iterations)
    arguments.at_least("swav", 0, frozen_steps=frozen_steps)
    arguments.at_least("swav", 2, prototypes=prototypes)

    forward = functools.partial(tower.apply_crops, encoder, projector)
    assign = functools.partial(
        sinkhorn, epsilon=epsilon, iterations=sinkhorn_iterations
    )

    def init(rng, batch):
        rng_tower, rng_prototypes = jax.random.split(rng)
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(encoder, projector, rng_tower, x)
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, batch
        )
        params["prototypes"] = shared.init(
            rng_prototypes, prototypes, out["z"].shape[-1]
        )
        return params, SwAVState(state, jnp.zeros([], jnp.int32))

    def loss(params, state, batch, rng):
        out, online = forward(params, state.online, batch, train=True, rng=rng)
        weights = shared.frozen(params["prototypes"], state.step, frozen_steps)
        scores = prototype_scores(out["z"], weights)
        large = jax.lax.stop_gradient(scores[:, :2])
        q = jnp.stack([assign(large[:, 0]), assign(large[:, 1])], axis=1)
        value = swapped_cross_entropy(q, scores / temperature)

        metrics = shared.entropies(q, jax.nn.softmax(large / temperature, axis=-1))
        features = {name: v[:, :2] for name, v in out.items()}
        state = SwAVState(online, state.step + 1)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    def encode(params, state, batch):
        x = batch["image"]
        return tower.encode(encoder, projector, params, state.online, x)

    return Method(init, loss, encode)
