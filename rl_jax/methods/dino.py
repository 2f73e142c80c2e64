"""DINO: predict the prototypes a slowly moving teacher finds in another view."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from rl_jax.losses import prototype_scores, swapped_cross_entropy
from rl_jax.memory import ema
from rl_jax.methods import arguments, momentum, noise, tower
from rl_jax.methods import prototypes as shared
from rl_jax.types import Aux, Method, Network, Params, State


class DINOState(NamedTuple):
    """Carried from step to step.

    Attributes:
      online: batch statistics of the student.
      target: parameters of the teacher, the moving average; prototypes too.
      target_state: batch statistics of the teacher.
      centre: [K], the moving mean of the teacher's scores.
      step: int32, steps taken; drives decay and temperature.
    """

    online: State
    target: Params
    target_state: State
    centre: chex.Array
    step: chex.Array


def dino(
    encoder: Network,
    projector: Network,
    *,
    total_steps: int,
    prototypes: int = 65_536,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    warmup_temperature: float = 0.04,
    warmup_steps: int = 0,
    centre_momentum: float = 0.9,
    decay: float = 0.996,
    frozen_steps: int = 0,
    target_statistics: momentum.Statistics = "own",
    micro_batch: int | None = None,
) -> Method:
    """Self-distillation without labels (Caron et al. 2021, arXiv:2104.14294).

    −Σ_k q_k log p_k, averaged over the pairs of a large view for the teacher and any
    other view for the student, with p = softmax(s/τ_s), q = softmax((s' − c)/τ_t) and
    s_k = ⟨z, w_k⟩/‖z‖‖w_k‖ the scores of K prototypes: the authors' head, an MLP, a
    normalised bottleneck z and a weight-normalised linear layer. The centre c, the
    moving mean of s', keeps one prototype from winning; τ_t < τ_s keeps q from the
    uniform distribution. The teacher follows the student, prototypes too, as in `byol`.

    Views are the two of `views` and, where the augmentation makes them, any number of
    smaller `local_views`, which only the student sees.

    Args:
      encoder: f, images to representations h; of any size, where crops are smaller.
      projector: g, h to the bottleneck z; the authors' has three layers of 2048, GELU,
        no BatchNorm, to 256.
      total_steps: T of the decay schedule.
      prototypes: K ≥ 2.
      student_temperature: τ_s > 0.
      teacher_temperature: τ_t > 0.
      warmup_temperature, warmup_steps: τ_t goes in a straight line from the first to
        `teacher_temperature` in that many steps; the authors go from 0.04 to 0.07.
      centre_momentum: share of c that stays, in [0, 1]; 1: no centre, it stays at 0.
      decay: τ₀ of the teacher in [0, 1]; to 1 by a cosine.
      frozen_steps: steps in which the prototypes do not learn; the authors' first
        epoch.
      target_statistics: batch statistics of the teacher, as in `moco`. With stochastic
        depth in the encoder use "average": the authors' teacher has none.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`, views of one size after the other; None: all.

    Returns:
      A method with `encode` names `h` and `z` of the teacher, which the authors
      evaluate, and `online_h`, the student's. Metrics: `ema_decay`,
      `teacher_temperature`, and as shares of log K `target_entropy`, the teacher's mean
      entropy, and `usage_entropy`, the entropy of its mean: 0 when one prototype has
      won.

    Raises:
      UsageError: for values out of range, other than two large views, or an encoder
        that does not take the crops.
    """
    arguments.positive(
        "dino",
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        warmup_temperature=warmup_temperature,
    )
    arguments.shares("dino", centre_momentum=centre_momentum, decay=decay)
    arguments.at_least("dino", 0, warmup_steps=warmup_steps, frozen_steps=frozen_steps)
    arguments.at_least("dino", 1, total_steps=total_steps)
    arguments.at_least("dino", 2, prototypes=prototypes)
    momentum.check("dino", target_statistics)

    forward = functools.partial(
        tower.apply_crops, encoder, projector, micro_batch=micro_batch
    )
    temperature = functools.partial(
        shared.warmed,
        start=warmup_temperature,
        end=teacher_temperature,
        steps=warmup_steps,
    )

    def init(rng, batch):
        rng_tower, rng_prototypes = jax.random.split(rng)
        x = tower.two_views(batch)[:, 0]
        params, state = tower.init(
            encoder, projector, rng_tower, x, micro_batch=micro_batch
        )
        out, _ = jax.eval_shape(
            functools.partial(forward, train=False), params, state, batch
        )
        params["prototypes"] = shared.init(
            rng_prototypes, prototypes, out["z"].shape[-1]
        )
        centre = jnp.zeros(prototypes, jnp.float32)
        step = jnp.zeros([], jnp.int32)
        return params, DINOState(state, params, state, centre, step)

    def loss(params, state, batch, rng):
        rng_student, rng_teacher = noise.keys(rng, 2)
        tau = momentum.decay_before(state.step, start=decay, total_steps=total_steps)
        target, target_state = momentum.follow(
            state.target,
            state.target_state,
            params,
            state.online,
            decay=tau,
            statistics=target_statistics,
        )

        out, online = forward(params, state.online, batch, train=True, rng=rng_student)
        large = {"views": tower.two_views(batch)}
        goal, target_state = momentum.forward(
            forward,
            target,
            target_state,
            large,
            rng=rng_teacher,
            statistics=target_statistics,
        )
        weights = shared.frozen(params["prototypes"], state.step, frozen_steps)
        student = prototype_scores(out["z"], weights)
        teacher = prototype_scores(goal["z"], target["prototypes"])

        sharp = temperature(state.step)
        q = jax.nn.softmax((teacher - state.centre[None, None]) / sharp, axis=-1)
        value = swapped_cross_entropy(q, student / student_temperature)

        centre = ema(state.centre, jnp.mean(teacher, (0, 1)), centre_momentum)
        features = {name: v[:, :2] for name, v in out.items()}
        metrics = {
            "ema_decay": tau,
            "teacher_temperature": jnp.asarray(sharp, jnp.float32),
            **shared.entropies(q, q),
        }
        state = DINOState(online, target, target_state, centre, state.step + 1)
        return value, Aux(state, metrics, jax.lax.stop_gradient(features))

    encode = functools.partial(momentum.encode, encoder, projector, network="target")
    return Method(init, loss, encode, network="teacher")
