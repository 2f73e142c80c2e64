"""The target: a slowly moving copy of a network, from which MoCo, BYOL, DINO learn.

Two conventions for its BatchNorm are in use. "own": parameters alone are averaged, and
the target runs as in training, on statistics of its own batch and with running averages
of its own (the authors of MoCo, BYOL, DINO and MoCo v3; lightly, solo-learn).
"average": running statistics are averaged like parameters, and the target normalises
with them (EMAN, Cai et al. 2021, arXiv:2101.08482). stable-pretraining averages them
too, but its target runs as in training: they then matter in evaluation only. Dropout
and stochastic depth follow: "own" draws masks for the target, "average" has none.
"""

from collections.abc import Callable
from typing import Literal, get_args

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.memory import cosine_decay, ema
from rl_jax.methods import tower
from rl_jax.types import Batch, Network, Params, State

Statistics = Literal["own", "average"]


def check(factory: str, target_statistics: str) -> None:
    """Refuses a convention there is not.

    Raises:
      UsageError: naming the two there are.
    """
    if target_statistics not in get_args(Statistics):
        raise UsageError(
            f"{factory}: target_statistics must be one of "
            f"{', '.join(get_args(Statistics))}, got {target_statistics!r}"
        )


def decay_before(step: chex.Array, *, start: float, total_steps: int) -> chex.Array:
    """BYOL's decay of the step before: its target moves after a step, ours at the next.

    Args:
      step: t, steps taken; at 0 target and network are equal, and any decay will do.
      start, total_steps: as in `memory.cosine_decay`.
    """
    return cosine_decay(jnp.maximum(step - 1, 0), start=start, total_steps=total_steps)


def follow(
    target: Params,
    target_state: State,
    online: Params,
    online_state: State,
    *,
    decay: chex.Numeric,
    statistics: Statistics = "own",
) -> tuple[Params, State]:
    """The target a step closer to the network, θ_k ← m·θ_k + (1 − m)·θ_q: a constant.

    The gradient of a loss ends here, and so does that of all the target then makes.

    Args:
      target, target_state: parameters and batch statistics of the target.
      online, online_state: those of the network.
      decay: m in [0, 1].
      statistics: "average" moves the batch statistics too.
    """
    if statistics == "average":
        target_state = ema(target_state, online_state, decay)
    return jax.lax.stop_gradient((ema(target, online, decay), target_state))


def forward(
    network: Callable,
    target: Params,
    target_state: State,
    x,
    *,
    rng: chex.PRNGKey | None = None,
    statistics: Statistics = "own",
):
    """What the target makes of x, and its batch statistics afterwards.

    Args:
      network: `(params, state, x, *, train, rng) -> (out, state)`.
      target, target_state: from `follow`.
      x: what the network takes.
      rng: for its noise, where it runs as in training.
      statistics: which of them normalise: of this batch, or the averages.
    """
    return network(target, target_state, x, train=statistics == "own", rng=rng)


def encode(
    encoder: Network,
    projector: Network,
    params: Params,
    state,
    batch: Batch,
    *,
    network: Literal["online", "target"] = "online",
) -> dict[str, chex.Array]:
    """What a network makes of the clean images, and the other's h beside it.

    The target is the one that the last step had.

    Args:
      encoder, projector: f and g, of images.
      params: of the network that is trained.
      state: with `online`, `target` and `target_state`.
      batch: with `image`.
      network: which of the two is evaluated; of the other are `target_h` or `online_h`.
    """
    both = {
        "online": (params, state.online),
        "target": (state.target, state.target_state),
    }
    x = batch["image"]
    out = tower.encode(encoder, projector, *both.pop(network), x)
    for name, weights in both.items():
        other, _ = tower.apply(encoder, projector, *weights, x, train=False)
        out[f"{name}_h"] = other["h"]
    return out
