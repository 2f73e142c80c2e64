"""BYOL: predict what a slowly moving copy of the network makes of another view."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.losses import negative_cosine
from rl_jax.methods import momentum, noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.types import Aux, Method, Network, Params, State


class BYOLState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder and projector.
      predictor: batch statistics of the predictor.
      target: parameters of the target network, the moving average.
      target_state: batch statistics of the target network.
      step: int32, steps taken; drives the decay.
    """

    online: State
    predictor: State
    target: Params
    target_state: State
    step: chex.Array


def byol(
    encoder: Network,
    projector: Network,
    predictor: Network,
    *,
    total_steps: int,
    decay: float = 0.996,
    target_statistics: momentum.Statistics = "own",
    micro_batch: int | None = None,
) -> Method:
    """Bootstrap your own latent (Grill et al. 2020, arXiv:2006.07733).

    ‖norm(q(z_a)) − sg norm(z'_b)‖² + ‖norm(q(z_b)) − sg norm(z'_a)‖², z' from the
    target network, whose parameters follow the online ones with decay
    τ_t = 1 − (1 − τ₀)(cos(πt/T) + 1)/2. The sum of both directions, as the authors have
    it. The target moves at the start of a step with the decay of the step before, which
    is the authors' update after that step. Batch statistics are those of both views;
    the authors pass each by itself.

    Args:
      encoder: f, images to representations h.
      projector: g, h to embeddings z.
      predictor: q, z to predictions; online network only.
      total_steps: T of the decay schedule.
      decay: τ₀ in [0, 1].
      target_statistics: batch statistics of the target network, as in `moco`.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.

    Returns:
      A method with `encode` names `h`, `z` and `target_h`.

    Raises:
      UsageError: for values out of range, or a micro-batch that batch, devices or
        encoder do not allow.
    """
    if not 0 <= decay <= 1:
        raise UsageError(f"byol: decay must be in [0, 1], got {decay}")
    if total_steps < 1:
        raise UsageError(f"byol: total_steps must be at least 1, got {total_steps}")
    momentum.check("byol", target_statistics)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)

    forward = functools.partial(tower.apply, encoder, projector)
    follow = functools.partial(momentum.follow, statistics=target_statistics)
    see = functools.partial(momentum.forward, forward, statistics=target_statistics)

    def init(rng, batch):
        rng_tower, rng_predictor = jax.random.split(rng)
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(encoder, projector, rng_tower, x)
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, x
        )
        z = jnp.zeros(out["z"].shape, out["z"].dtype)
        head, head_state = predictor.init(rng_predictor, z)
        step = jnp.zeros([], jnp.int32)
        train = {"predictor": head, **params}
        return train, BYOLState(state, head_state, params, state, step)

    def loss(params, state, batch, rng):
        rng_online, rng_predictor, rng_target = noise.keys(rng, 3)
        online = {name: p for name, p in params.items() if name != "predictor"}
        tau = momentum.decay_before(state.step, start=decay, total_steps=total_steps)
        target, target_state = follow(
            state.target, state.target_state, online, state.online, decay=tau
        )

        x = tower.flatten_views(tower.two_views(batch))
        out, online_state = forward(online, state.online, x, train=True, rng=rng_online)
        p, head_state = predictor.apply(
            params["predictor"],
            state.predictor,
            out["z"],
            train=True,
            rng=rng_predictor,
        )
        goal, target_state = see(target, target_state, x, rng=rng_target)

        p = tower.split_views(p, 2)
        goal = tower.split_views(goal["z"], 2)
        a = negative_cosine(p[:, 0], goal[:, 1])
        b = negative_cosine(p[:, 1], goal[:, 0])
        value = (2 + 2 * a) + (2 + 2 * b)

        features = {name: tower.split_views(v, 2) for name, v in out.items()}
        state = BYOLState(
            online_state, head_state, target, target_state, state.step + 1
        )
        aux = Aux(state, {"ema_decay": tau}, jax.lax.stop_gradient(features))
        return value, aux

    return Method(init, loss, functools.partial(momentum.encode, encoder, projector))
