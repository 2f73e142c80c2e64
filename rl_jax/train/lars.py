"""LARS: a rate of its own for every kernel, in the three forms that are in use."""

from typing import Literal

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError
from rl_jax.train.optimizers import (
    Optimizer,
    Scaling,
    check_ranges,
    matrices,
    scale_learning_rate,
    warmup_cosine,
    with_schedule,
)

Form = Literal["simclr", "paper", "bolts"]


def lars(
    *,
    total_steps: int,
    batch_size: int = 256,
    learning_rate: float = 0.3,
    scaling: Scaling = "linear",
    warmup_steps: int = 0,
    weight_decay: float = 1e-6,
    momentum: float = 0.9,
    trust_coefficient: float = 1e-3,
    form: Form = "simclr",
    clip_lr: bool = False,
) -> Optimizer:
    """LARS (You et al. 2017, arXiv:1708.03888) in the form of SimCLR, BYOL and MAE.

    Kernels: u = g + λw, v ← μ·v − γ_t·r·u, w ← w + v, where r is

    - simclr: η‖w‖/‖g + λw‖, of SimCLR, BYOL and MAE, and of optax;
    - paper: η‖w‖/(‖g‖ + λ‖w‖), of You et al.; far smaller where g opposes λw;
    - bolts: that of the paper with the rate outside: v ← μ·v + r·u, w ← w − γ_t·v, of
      Lightning Bolts, lightly and solo-learn. While the rate is constant it is the
      paper's; where the rate falls, the old part of v falls with it.

    Where ‖w‖, or ‖g + λw‖ of simclr and ‖g‖ of the others, is 0, r is 1. Biases and
    normalisation scales: plain SGD with momentum, no decay, no adaptation.

    Args:
      total_steps: length of the schedule.
      batch_size: examples of one step, for `scaling`.
      learning_rate: base rate at B = 256, > 0.
      scaling: of the rate with the batch: none, linear (B/256) or sqrt.
      warmup_steps: steps of linear warm-up before the cosine.
      weight_decay: λ ≥ 0; adaptation stays on where it is 0. Both are of all parameters
        of rank > 1, embeddings, class and mask tokens among them.
      momentum: μ in [0, 1).
      trust_coefficient: η ≥ 0.
      form: simclr, paper or bolts.
      clip_lr: min(r/γ_t, 1) in place of r: a kernel's rate is then r, but at most γ_t
        (solo-learn's `clip_lr`, with η = 0.02); of bolts alone.

    Raises:
      UsageError: for values out of range, or `clip_lr` with another form than bolts.
    """
    check_ranges(
        "lars",
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        momentum=momentum,
        trust_coefficient=trust_coefficient,
    )
    if form not in ("simclr", "paper", "bolts"):
        raise UsageError(f"lars: form must be simclr, paper or bolts, got {form!r}")
    if clip_lr and form != "bolts":
        raise UsageError(
            "lars: clip_lr is of form bolts, where the rate comes after the momentum, "
            f"got form {form!r}"
        )
    rate = scale_learning_rate(learning_rate, batch_size=batch_size, scaling=scaling)
    schedule = warmup_cosine(
        rate.value, warmup_steps=warmup_steps, total_steps=total_steps
    )
    if form == "simclr":
        optimizer = optax.lars(
            schedule,
            weight_decay=weight_decay,
            weight_decay_mask=matrices,
            trust_coefficient=trust_coefficient,
            trust_ratio_mask=matrices,
            momentum=momentum,
        )
        return with_schedule(optimizer, schedule)
    adapted = optax.masked(
        _adapted(weight_decay, trust_coefficient, schedule if clip_lr else None),
        matrices,
    )
    descend = optax.scale_by_learning_rate(schedule)
    trace = optax.trace(decay=momentum)
    order = (descend, trace) if form == "paper" else (trace, descend)
    return with_schedule(optax.chain(adapted, *order), schedule)


def _adapted(
    weight_decay: float, trust_coefficient: float, limit: optax.Schedule | None
) -> optax.GradientTransformation:
    """From g r·(g + λw), r = η‖w‖/(‖g‖ + λ‖w‖) or, with a limit γ_t, min(r/γ_t, 1)."""

    def init(params: chex.ArrayTree) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        assert params is not None
        bound = None if limit is None else limit(state.count)

        def one(g, w):
            own, length = jnp.linalg.norm(w), jnp.linalg.norm(g)
            moves = (own > 0) & (length > 0)
            below = jnp.where(moves, length + weight_decay * own, 1.0)
            ratio = trust_coefficient * own / below
            if bound is not None:
                # At the rate 0 of a warm-up's first step nothing moves whatever r is.
                ratio = jnp.minimum(ratio / jnp.maximum(bound, 1e-30), 1.0)
            return jnp.where(moves, ratio, 1.0) * (g + weight_decay * w)

        updates = jax.tree.map(one, updates, params)
        count = optax.safe_increment(state.count)
        return updates, optax.ScaleByScheduleState(count=count)

    return optax.GradientTransformation(init, update)
