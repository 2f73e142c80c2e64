"""MoCo v3: a predictor and the keys of the batch in place of a queue."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax import networks
from rl_jax.losses import info_nce
from rl_jax.memory import cosine_decay
from rl_jax.methods import arguments, momentum, noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Aux, Method, Network, Params, State


class MoCoV3State(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of encoder, projector and predictor.
      target: parameters of the key network, the moving average; no predictor.
      target_state: batch statistics of the key network.
      step: int32, steps taken; drives the decay.
    """

    online: State
    target: Params
    target_state: State
    step: chex.Array


def moco_v3(
    encoder: Network,
    projector: Network,
    predictor: Network,
    *,
    total_steps: int,
    temperature: float = 1.0,
    decay: float = 0.99,
    cosine: bool = True,
    target_statistics: momentum.Statistics = "own",
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """MoCo v3 (Chen, Xie & He 2021, arXiv:2104.02057): momentum contrast, no queue.

    2τ·[InfoNCE(q_a, k_b) + InfoNCE(q_b, k_a)], q = p(g(f(x; θ_q))) with predictor p,
    k = sg g(f(x; θ_k)), candidates the B keys of the other view. The sum of both
    directions times 2τ, as the authors have it: the gradient then keeps its size
    whatever τ is. θ_k ← m·θ_k + (1 − m)·θ_q moves before the keys are made, with
    m_t = 1 − (1 − m)(cos(πt/T) + 1)/2 of the step at hand.

    Batch statistics are those of both views; the authors pass each by itself.

    Args:
      encoder: f, images to representations h. The authors freeze the patch projection
        of a ViT at its random start; here it learns.
      projector: g, h to z; the authors' ends in a BatchNorm without scale and bias, and
        has two layers of 4096 to 256 for a ResNet, three for a ViT.
      predictor: p, z to queries; two layers of 4096.
      total_steps: T of the decay schedule.
      temperature: τ > 0; the authors' 1.0 for ResNet-50, 0.2 for ViT.
      decay: m of the first step, in [0, 1].
      cosine: whether m goes to 1 by a half cosine over T; otherwise it is constant.
      target_statistics: batch statistics of the key network, as in `moco`.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h`, `z` and `target_h`. Metrics: `ema_decay`, m;
      `softmax_entropy` and `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for values out of range, or a micro-batch that batch, devices or
        encoder do not allow.
    """
    arguments.positive("moco_v3", temperature=temperature)
    arguments.shares("moco_v3", decay=decay)
    arguments.at_least("moco_v3", 1, total_steps=total_steps)
    momentum.check("moco_v3", target_statistics)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch, views=2)
    everything = networks.chain(
        encoder=encoder, projector=projector, predictor=predictor
    )
    forward = functools.partial(tower.apply, encoder, projector)
    contrast = functools.partial(info_nce, temperature=temperature, precision=precision)

    def tower_of(tree):
        return {name: tree[name] for name in ("encoder", "projector")}

    def init(rng, batch):
        params, state = everything.init(rng, tower.two_views(batch)[:, 0])
        target, target_state = tower_of(params), tower_of(state)
        step = jnp.zeros([], jnp.int32)
        return params, MoCoV3State(state, target, target_state, step)

    def loss(params, state, batch, rng):
        rng_online, rng_predictor, rng_target = noise.keys(rng, 3)
        x = tower.flatten_views(tower.two_views(batch))
        out, online = forward(params, state.online, x, train=True, rng=rng_online)
        q, head = predictor.apply(
            params["predictor"],
            state.online["predictor"],
            out["z"],
            train=True,
            rng=rng_predictor,
        )

        m = jnp.asarray(decay, jnp.float32)
        if cosine:
            m = cosine_decay(state.step, start=decay, total_steps=total_steps)
        target, target_state = momentum.follow(
            state.target,
            state.target_state,
            tower_of(params),
            online,
            decay=m,
            statistics=target_statistics,
        )
        goal, target_state = momentum.forward(
            forward,
            target,
            target_state,
            x,
            rng=rng_target,
            statistics=target_statistics,
        )

        q, k = tower.split_views(q, 2), tower.split_views(goal["z"], 2)
        value = contrast(q[:, 0], k[:, 1]) + contrast(q[:, 1], k[:, 0])
        features = {name: tower.split_views(v, 2) for name, v in out.items()}
        online["predictor"] = head
        state = MoCoV3State(online, target, target_state, state.step + 1)
        metrics = sharpness(q[:, 0], k[:, 1], scale=1 / temperature)
        metrics["ema_decay"] = m
        aux = Aux(state, metrics, jax.lax.stop_gradient(features))
        return 2 * temperature * value, aux

    return Method(init, loss, functools.partial(momentum.encode, encoder, projector))
