"""MoCo: queries against a queue of keys made by a slowly moving copy of the network."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.losses import info_nce, normalize
from rl_jax.memory import Queue, empty_queue, enqueue
from rl_jax.methods import momentum, noise, tower
from rl_jax.methods.micro_batch import micro_batched
from rl_jax.methods.sharpness import sharpness
from rl_jax.pairwise import Precision
from rl_jax.types import Aux, Method, Network, Params, State


class MoCoState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of the query network.
      target: parameters of the key network, the moving average.
      target_state: batch statistics of the key network.
      queue: normalised keys of past steps, newest over oldest.
    """

    online: State
    target: Params
    target_state: State
    queue: Queue


def moco(
    encoder: Network,
    projector: Network,
    *,
    temperature: float = 0.07,
    decay: float = 0.999,
    queue_size: int = 65536,
    symmetric: bool = False,
    split: int = 1,
    target_statistics: momentum.Statistics = "own",
    micro_batch: int | None = None,
    precision: Precision | None = None,
) -> Method:
    """Momentum contrast (He et al. 2020, arXiv:1911.05722; v2: arXiv:2003.04297).

    θ_k ← m·θ_k + (1 − m)·θ_q, then InfoNCE of q = g(f(x_a; θ_q)) with its key
    k = sg g(f(x_b; θ_k)) against the queue, then k is enqueued. Slots not yet filled do
    not count: the first step has no negatives, its loss is 0.

    BatchNorm lets a query find its key: of all candidates, only the keys of this step
    were normalised by statistics of the query's own images. Networks made with
    `split=k` do not prevent it by themselves, for query i and key i are in the same
    group i // (B/k) of their passes. With `split=k` here too, the key network gets its
    rows dealt over the groups, row i to group i mod k, and a key shares with its query
    only a k-th of the statistics: what shuffled BN does on k GPUs. The order of a batch
    is random already, so the dealing need not be. On devices that share the batch it
    costs an all-to-all of a view and one of the keys.

    Args:
      encoder: f, images to representations h.
      projector: g, h to embeddings z; discarded afterwards.
      temperature: softmax temperature τ > 0.
      decay: m in [0, 1) of the key network, per step.
      queue_size: K, at least the keys of one step (B, or 2B where symmetric).
      symmetric: both views serve as query and as key, the loss is the mean of the two.
      split: k, that of the networks; it divides B. Without effect on networks whose
        rows do not meet.
      target_statistics: batch statistics of the key network. "own": those of its batch,
        as the authors have it. "average": the moving average of the query network's,
        with which it normalises (EMAN, arXiv:2101.08482): nothing leaks, and `split`
        does not matter to the keys.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`; None: all.
      precision: of the similarities, as in `simclr`.

    Returns:
      A method with `encode` names `h`, `z` and `target_h`. Metrics: `queue_valid`,
      keys in the queue; `softmax_entropy` and `max_softmax`, see `sharpness`.

    Raises:
      UsageError: for values out of range, a queue smaller than the keys of a step, or
        a micro-batch that batch, devices or encoder do not allow.
    """
    if not 0 < temperature < math.inf:
        raise UsageError(f"moco: temperature must be > 0 and finite, got {temperature}")
    if not 0 <= decay < 1:
        raise UsageError(f"moco: decay must be in [0, 1), got {decay}")
    if queue_size < 1:
        raise UsageError(f"moco: queue_size must be at least 1, got {queue_size}")
    if split < 1:
        raise UsageError(f"moco: split must be at least 1, got {split}")
    momentum.check("moco", target_statistics)
    if micro_batch is not None:
        encoder = micro_batched(encoder, micro_batch)

    forward = functools.partial(tower.apply, encoder, projector)
    follow = functools.partial(momentum.follow, statistics=target_statistics)
    see = functools.partial(momentum.forward, forward, statistics=target_statistics)

    def init(rng, batch):
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(encoder, projector, rng, x)
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, x
        )
        queue = empty_queue(queue_size, out["z"].shape[-1])
        return params, MoCoState(state, params, state, queue)

    def loss(params, state, batch, rng):
        both = tower.two_views(batch)
        views = [both[:, 0], both[:, 1]]
        rngs = iter(noise.keys(rng, 4))
        online, queries, keys = state.online, [], []
        for x in views if symmetric else views[:1]:
            out, online = forward(params, online, x, train=True, rng=next(rngs))
            queries.append(out)

        target, target_state = follow(
            state.target, state.target_state, params, online, decay=decay
        )
        for x in reversed(views) if symmetric else views[1:]:
            x = tower.deal(x, split)
            out, target_state = see(target, target_state, x, rng=next(rngs))
            keys.append(normalize(tower.deal(out["z"], len(x) // split)))

        against_queue = functools.partial(
            info_nce,
            negatives=state.queue.rows,
            valid=state.queue.valid,
            temperature=temperature,
            precision=precision,
        )
        value = sum(
            against_queue(q["z"], k) for q, k in zip(queries, keys, strict=True)
        ) / len(queries)
        queue = enqueue(state.queue, tower.interleave(keys))
        features = {
            "h": jnp.stack([q["h"] for q in queries], axis=1),
            "z": jnp.stack([normalize(queries[0]["z"]), keys[0]], axis=1),
        }
        metrics = {"queue_valid": queue.valid} | sharpness(
            queries[0]["z"],
            state.queue.rows,
            scale=1 / temperature,
            own=keys[0],
            valid=state.queue.valid,
        )
        state = MoCoState(online, target, target_state, queue)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    return Method(init, loss, functools.partial(momentum.encode, encoder, projector))
