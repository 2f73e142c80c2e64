"""LARS: a rate of its own for every kernel, in the forms that are in use."""

import math
import typing
from typing import Literal

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError
from rl_jax.methods.probe import not_probe
from rl_jax.train.optimizers import (
    Optimizer,
    Scaling,
    check_ranges,
    clipped,
    matrices,
    scale_learning_rate,
    warmup_cosine,
    with_schedule,
)

Form = Literal["simclr", "mae", "paper", "bolts"]
FORMS = typing.get_args(Form)


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
    end_rate: float = 0.0,
    clip_norm: float | None = None,
    vector_rate: float | None = None,
) -> Optimizer:
    """LARS (You et al. 2017, arXiv:1708.03888), by default as SimCLR has it.

    Kernels: u = g + λw, and with the rate γ_t

    - simclr: v ← μ·v + γ_t·r·u, w ← w − v, r = η‖w‖/‖g + λw‖, of SimCLR and optax;
    - paper: the same with r = η‖w‖/(‖g‖ + λ‖w‖), of You et al.; far smaller where g
      opposes λw;
    - mae: simclr's r, the rate outside: v ← μ·v + r·u, w ← w − γ_t·v, of BYOL, Barlow
      Twins, VICReg, MoCo v3 and MAE;
    - bolts: the paper's r, the rate outside, of Lightning Bolts, lightly, solo-learn.

    While the rate is constant, inside and outside are one; where it falls, outside the
    old part of v falls with it. Where r would be 0/0 or 0 it is 1; bolts then takes g
    without its decay. Biases and normalisation scales: plain SGD with momentum, no
    decay, no adaptation.

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
      form: simclr, mae, paper or bolts.
      clip_lr: min(r/γ_t, 1) in place of r: a kernel's rate is then r, but at most γ_t
        (solo-learn's `clip_lr`, with η = 0.02); of bolts alone.
      end_rate: share of the peak rate that the cosine ends with, in [0, 1).
      clip_norm: the gradient, all parameters together, is scaled down to this norm
        where it is longer (Pascanu et al. 2013, arXiv:1211.5063); None: never.
      vector_rate: base rate of biases and normalisation scales, > 0, scaled and moved
        as the other, such as 0.0048 beside 0.2 for kernels (Barlow Twins, Zbontar et
        al. 2021, arXiv:2103.03230); None: that of the kernels.

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
        end_rate=end_rate,
    )
    if form not in FORMS:
        raise UsageError(f"lars: form must be {', '.join(FORMS)}, got {form!r}")
    if clip_lr and form != "bolts":
        raise UsageError(
            f"lars: clip_lr is solo-learn's, of form bolts; got form {form!r}"
        )
    if vector_rate is not None and not 0 < vector_rate < math.inf:
        raise UsageError(
            f"lars: vector_rate must be > 0 and finite, or None, got {vector_rate}"
        )
    rate = scale_learning_rate(learning_rate, batch_size=batch_size, scaling=scaling)
    schedule = warmup_cosine(
        rate.value,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end_rate=end_rate,
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
    else:
        adapt = _adapted(
            form, weight_decay, trust_coefficient, schedule if clip_lr else None
        )
        descend = optax.scale_by_learning_rate(schedule)
        trace = optax.trace(decay=momentum)
        order = (descend, trace) if form == "paper" else (trace, descend)
        optimizer = optax.chain(optax.masked(adapt, matrices), *order)
    if vector_rate is not None:
        # All that follows is linear in these gradients.
        share = optax.scale(vector_rate / learning_rate)
        optimizer = optax.chain(optax.masked(share, _vectors), optimizer)
    return with_schedule(clipped("lars", optimizer, clip_norm), schedule)


def _vectors(params: chex.ArrayTree) -> chex.ArrayTree:
    return jax.tree.map(
        lambda kernel, own: own and not kernel, matrices(params), not_probe(params)
    )


def _adapted(
    form: Form,
    weight_decay: float,
    trust_coefficient: float,
    limit: optax.Schedule | None,
) -> optax.GradientTransformation:
    """From g r·(g + λw), or with a limit γ_t min(r/γ_t, 1) in the place of r."""

    def init(params: chex.ArrayTree) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        assert params is not None
        bound = None if limit is None else limit(state.count)

        def one(g, w):
            u = g + weight_decay * w
            own, length = jnp.linalg.norm(w), jnp.linalg.norm(g)
            if form == "mae":
                below = jnp.linalg.norm(u)
            else:
                below = length + weight_decay * own
            adapts = (own > 0) & (below > 0)
            ratio = trust_coefficient * own / jnp.where(adapts, below, 1.0)
            if bound is not None:
                # At the rate 0 of a warm-up's first step nothing moves whatever r is.
                ratio = jnp.minimum(ratio / jnp.maximum(bound, 1e-30), 1.0)
            if form == "bolts":
                return jnp.where(adapts & (length > 0), ratio * u, g)
            return jnp.where(adapts, ratio, 1.0) * u

        updates = jax.tree.map(one, updates, params)
        count = optax.safe_increment(state.count)
        return updates, optax.ScaleByScheduleState(count=count)

    return optax.GradientTransformation(init, update)
