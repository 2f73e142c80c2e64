"""Optimizers with warm-up, cosine decay and the exclusions self-supervision needs."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from rl_jax.errors import UsageError
from rl_jax.methods.probe import not_probe
from rl_jax.train.depth import scale_by_depth
from rl_jax.train.descent import descend
from rl_jax.types import TrainState

Scaling = Literal["none", "linear", "sqrt"]

RANGES = {
    "total_steps": (1, math.inf),
    "warmup_steps": (0, math.inf),
    "weight_decay": (0, math.inf),
    "trust_coefficient": (0, math.inf),
    "momentum": (0, 1),
    "b1": (0, 1),
    "b2": (0, 1),
    "end_weight_decay": (0, math.inf),
    "end_rate": (0, 1),
}
"""Of the arguments of the optimizers: low ≤ value < high."""


class LearningRate(NamedTuple):
    """The peak learning rate after scaling, and the sentence that says why."""

    value: float
    reason: str


def scale_learning_rate(
    base: float, *, batch_size: int, scaling: Scaling
) -> LearningRate:
    """The learning rate for a batch size.

    linear: base·B/256 (Goyal et al. 2017, arXiv:1706.02677); sqrt: base·√(B/256);
    none: base.

    Args:
      base: rate at B = 256, > 0.
      batch_size: B, examples (not views) of one optimizer step over all devices.
      scaling: the rule.

    Returns:
      The scaled rate and its reason, for printing.

    Raises:
      UsageError: for a rate that is not positive and finite, a batch without examples,
        or an unknown rule.
    """
    if not 0 < base < math.inf:
        raise UsageError(f"learning_rate must be > 0 and finite, got {base}")
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if scaling not in ("none", "linear", "sqrt"):
        raise UsageError(f"scaling must be none, linear or sqrt, got {scaling!r}")
    if scaling == "none":
        return LearningRate(base, f"learning rate {base:g}, not scaled with the batch")
    ratio = batch_size / 256
    value = base * (ratio if scaling == "linear" else ratio**0.5)
    rule = f"{batch_size}/256" if scaling == "linear" else f"sqrt({batch_size}/256)"
    return LearningRate(
        value, f"learning rate {base:g} x {rule} = {value:g} ({scaling} scaling)"
    )


def warmup_cosine(
    peak: float, *, warmup_steps: int, total_steps: int, end_rate: float = 0.0
) -> optax.Schedule:
    """Linear from 0 to `peak` over `warmup_steps`, then half a cosine to its end.

    Counts optimizer steps; `warmup_steps` is cut to `total_steps` − 1. The end is
    `end_rate` times the peak.
    """
    warmup = max(0, min(warmup_steps, total_steps - 1))
    cosine = optax.cosine_decay_schedule(
        peak, max(total_steps - warmup, 1), alpha=end_rate
    )
    if not warmup:
        return cosine
    ramp = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([ramp, cosine], [warmup])


class Optimizer(optax.GradientTransformationExtraArgs):
    """An optimizer of optax that tells its learning rate.

    Attributes:
      learning_rate: `(updates) -> float`, that after so many updates; on the host.
    """

    learning_rate: Callable[[int], float]


def with_schedule(
    optimizer: optax.GradientTransformation, schedule: optax.Schedule
) -> Optimizer:
    """The same optimizer, whose learning rate `fit` gives in its rows.

    Those of this module have theirs. One that is wrapped (`optax.chain`) needs it anew.

    Args:
      optimizer: any of optax; neither its updates nor its state change.
      schedule: what it was made with, updates made so far to a rate.

    Raises:
      UsageError: for a rate in its place.
    """
    if not callable(schedule):
        raise UsageError(
            f"with_schedule: expected a schedule, step -> rate, got {schedule!r}; a "
            "rate that stays is optax.constant_schedule(rate)"
        )
    told = Optimizer(*optax.with_extra_args_support(optimizer))

    def learning_rate(updates: int) -> float:
        # Schedules are of jax: on an accelerator each would wait for the steps there.
        with jax.default_device(_host()):
            return float(schedule(updates))

    told.learning_rate = learning_rate
    return told


def _host() -> Any:
    """The CPU as a device; None where JAX_PLATFORMS leaves it out."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def updates_made(ts: TrainState) -> chex.Array:
    """How many updates the schedule has counted, fewer than steps where some were lost.

    Where the optimizer counts nothing these are the steps.
    """

    def counts(x):
        return isinstance(x, optax.ScaleByScheduleState)

    found = filter(counts, jax.tree.leaves(ts.opt_state, is_leaf=counts))
    return next((x.count for x in found), ts.step)


def clipped(
    factory: str,
    optimizer: optax.GradientTransformation,
    clip_norm: float | None,
    *,
    each: bool = False,
) -> optax.GradientTransformation:
    """The same optimizer on gradients whose norm is bounded, an online probe's apart.

    Args:
      factory: for the message.
      optimizer: any of optax.
      clip_norm: the bound; None leaves gradients, and the optimizer's state, alone.
      each: whether it bounds each parameter's norm, or that over all of them.

    Raises:
      UsageError: for a bound that is not positive and finite, or `each` without one.
    """
    if clip_norm is None:
        if each:
            raise UsageError(f"{factory}: clip_each needs a clip_norm, got None")
        return optimizer
    if not 0 < clip_norm < math.inf:
        raise UsageError(
            f"{factory}: clip_norm must be > 0 and finite, or None, got {clip_norm}"
        )
    bound = _clip_each(clip_norm) if each else optax.clip_by_global_norm(clip_norm)
    apart = optax.masked(bound, not_probe)

    # Stateless, which `masked` is not: the tree of a checkpoint stays what it was.
    def shorter(updates, params):
        return apart.update(updates, apart.init(updates), params)[0]

    return optax.chain(optax.stateless(shorter), optimizer)


def _clip_each(most: float) -> optax.GradientTransformation:
    """Scales each parameter's gradient down to a norm where it is longer."""

    def shorter(g: chex.Array, _) -> chex.Array:
        norm = jnp.linalg.norm(g.astype(jnp.float32).ravel())
        return g * jnp.minimum(1.0, most / jnp.maximum(norm, 1e-30)).astype(g.dtype)

    return optax.stateless_with_tree_map(shorter)


def check_ranges(factory: str, **arguments: float) -> None:
    """Refuses arguments outside `RANGES`, NaN among them.

    Raises:
      UsageError: naming the factory and the argument.
    """
    for name, value in arguments.items():
        low, high = RANGES[name]
        if not low <= value < high:
            expected = (
                f"in [{low}, {high})" if high < math.inf else f">= {low} and finite"
            )
            raise UsageError(f"{factory}: {name} must be {expected}, got {value}")


def matrices(params: chex.ArrayTree) -> chex.ArrayTree:
    """True for parameters of rank > 1, False for biases, scales and single numbers.

    And False for an online probe: what is adapted or decays is the method's.

    Beside kernels these are embeddings of tokens and positions, class and mask tokens,
    as MAE and solo-learn have it, who judge by rank too. open_clip does likewise, but
    its class token is a vector, and so spared.
    """
    return jax.tree.map(lambda p, own: own and p.ndim > 1, params, not_probe(params))


def adamw(
    *,
    total_steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    scaling: Scaling = "none",
    warmup_steps: int = 0,
    weight_decay: float = 1e-4,
    b1: float = 0.9,
    b2: float = 0.999,
    end_weight_decay: float | None = None,
    end_rate: float = 0.0,
    clip_norm: float | None = None,
    clip_each: bool = False,
    layer_decay: float = 1.0,
    embed_rate: float = 1.0,
) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); no decay of vectors.

    Args:
      total_steps: length of the schedule.
      batch_size: examples of one step, for `scaling`.
      learning_rate: base rate, > 0.
      scaling: of the rate with the batch: none, linear (B/256) or sqrt.
      warmup_steps: steps of linear warm-up before the cosine.
      weight_decay: decoupled decay, ≥ 0, of all parameters of rank > 1: kernels,
        embeddings, class and mask tokens; not of biases and normalisation scales.
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1).
      end_weight_decay: what the decay becomes along half a cosine of `total_steps`, as
        DINO's from 0.04 to 0.4 (Caron et al. 2021, arXiv:2104.14294); None: it stays.
      end_rate: share of the peak rate that the cosine ends with, in [0, 1).
      clip_norm: the gradient, all parameters together, is scaled down to this norm
        where it is longer (Pascanu et al. 2013, arXiv:1211.5063); None: never.
      clip_each: the gradient of each parameter is, by itself: as DINO has it.
      layer_decay: d in (0, 1]: of L blocks of the encoder number i has the rate times
        d^(L + 1 − i), what is before them d^(L + 1), all else 1; for tuning a trained
        encoder (Bao et al. 2022, arXiv:2106.08254), MAE's 0.75, DINOv2's 0.9.
      embed_rate: share of its rate that the embedding of patches has, in [0, 1], such
        as DINOv2's 0.2; 0: it stays as it is (Chen et al. 2021, arXiv:2104.02057).

    Raises:
      UsageError: for values out of range; from `init`, for rates by depth of an encoder
        without blocks, or without an embedding.
    """
    for name, share, fits in (
        ("layer_decay", layer_decay, 0 < layer_decay <= 1),
        ("embed_rate", embed_rate, 0 <= embed_rate <= 1),
    ):
        if not fits:
            low = "(0" if name == "layer_decay" else "[0"
            raise UsageError(f"adamw: {name} must be in {low}, 1], got {share}")
    check_ranges(
        "adamw",
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        b1=b1,
        b2=b2,
        end_weight_decay=end_weight_decay or 0.0,
        end_rate=end_rate,
    )
    rate = scale_learning_rate(learning_rate, batch_size=batch_size, scaling=scaling)
    schedule = warmup_cosine(
        rate.value,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end_rate=end_rate,
    )
    if end_weight_decay is None:
        optimizer = optax.adamw(
            schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=matrices
        )
    else:
        decay = _half_cosine(weight_decay, end_weight_decay, total_steps)
        optimizer = optax.chain(
            optax.scale_by_adam(b1=b1, b2=b2),
            optax.masked(_decayed(decay), matrices),
            optax.scale_by_learning_rate(schedule),
        )
    if layer_decay != 1 or embed_rate != 1:
        depth = scale_by_depth("adamw", layer_decay=layer_decay, embed_rate=embed_rate)
        optimizer = optax.chain(optimizer, depth)
    optimizer = clipped("adamw", optimizer, clip_norm, each=clip_each)
    return with_schedule(optimizer, schedule)


def _half_cosine(start: float, end: float, steps: int) -> optax.Schedule:
    """From `start` at step 0 to `end` at `steps`, and there after it."""

    def schedule(count):
        share = jnp.minimum(jnp.asarray(count, jnp.float32) / steps, 1.0)
        return end + (start - end) * (1 + jnp.cos(jnp.pi * share)) / 2

    return schedule


def _decayed(decay: optax.Schedule) -> optax.GradientTransformation:
    """Adds λ_t w."""

    def init(params: chex.ArrayTree) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        now = decay(state.count)
        updates = jax.tree.map(
            lambda u, w: u + jnp.asarray(now, u.dtype) * w, updates, params
        )
        count = optax.safe_increment(state.count)
        return updates, optax.ScaleByScheduleState(count=count)

    return optax.GradientTransformation(init, update)


def sgd(
    *,
    total_steps: int,
    batch_size: int = 256,
    learning_rate: float = 0.03,
    scaling: Scaling = "linear",
    warmup_steps: int = 0,
    weight_decay: float = 1e-4,
    momentum: float = 0.9,
    end_rate: float = 0.0,
    clip_norm: float | None = None,
    constant: tuple[str, ...] = (),
) -> Optimizer:
    """SGD with momentum; λ‖w‖²/2 of all but vectors, its gradient under the momentum.

    Args:
      total_steps: length of the schedule.
      batch_size: examples of one step, for `scaling`.
      learning_rate: base rate at B = 256, > 0.
      scaling: of the rate with the batch: none, linear (B/256) or sqrt.
      warmup_steps: steps of linear warm-up before the cosine.
      weight_decay: λ ≥ 0, of all parameters of rank > 1: kernels, embeddings, class
        and mask tokens; not of biases and normalisation scales.
      momentum: in [0, 1).
      end_rate: share of the peak rate that the cosine ends with, in [0, 1).
      clip_norm: the gradient, all parameters together, is scaled down to this norm
        where it is longer (Pascanu et al. 2013, arXiv:1211.5063); None: never.
      constant: networks whose rate stays at its peak, without warm-up or decay, such as
        `predictor` of SimSiam (Chen & He 2021, arXiv:2011.10566, 4.2).

    Raises:
      UsageError: for values out of range, or networks that are not there.
    """
    check_ranges(
        "sgd",
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        momentum=momentum,
        end_rate=end_rate,
    )
    rate = scale_learning_rate(learning_rate, batch_size=batch_size, scaling=scaling)
    schedule = warmup_cosine(
        rate.value,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end_rate=end_rate,
    )
    optimizer = optax.chain(
        optax.add_decayed_weights(weight_decay, mask=matrices),
        optax.chain(
            optax.trace(decay=momentum),
            descend("sgd", schedule, peak=rate.value, constant=constant),
        ),
    )
    return with_schedule(clipped("sgd", optimizer, clip_norm), schedule)
