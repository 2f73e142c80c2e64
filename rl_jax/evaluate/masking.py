"""Whether an attack fails because the model is robust, or because gradients mislead."""

from typing import NamedTuple

import chex
import numpy as np

from rl_jax.errors import UsageError, checked
from rl_jax.evaluate import attack
from rl_jax.evaluate.projected_gradient import STEPS_TO_THE_EDGE, Logits, Norm

DEAD = 0.01
"""Share of examples without any gradient from which on accuracy is not to be trusted:
by so much it may be too high."""
CONVERGED = 0.01
"""What twice the steps may still take off the accuracy."""


class GradientMasking(NamedTuple):
    """Accuracies under attacks of which the stronger must find more.

    Attributes:
      clean: without attack.
      random: under as many random points of the ball as the attack looks at.
      one_step: one step as long as the radius, from a random start.
      steps: under `pgd`.
      twice_steps: under `pgd` of twice the steps; never above `steps`.
      without_gradient: share of the examples attacked whose gradient was zero in every
        step.
      masked: whether accuracy under attack says nothing of robustness here.
      verdict: in words, with the numbers.
    """

    clean: float
    random: float
    one_step: float
    steps: float
    twice_steps: float
    without_gradient: float
    masked: bool
    verdict: str


@checked
def gradient_masking(
    rng: chex.PRNGKey,
    images: chex.Array,
    labels: chex.Array,
    *,
    logits_fn: Logits,
    norm: Norm,
    radius: float,
    steps: int = 20,
    batch_size: int = 256,
) -> GradientMasking:
    """Signs of obfuscated gradients (Athalye et al. 2018, arXiv:1802.00420, 3.1).

    Masked if random points of the ball or a single step fool more than `pgd` does, or
    if the gradient is zero for more than 1 % of the examples. Passing proves nothing:
    an attack made for the model may still find more.

    Args:
      rng, images, labels, logits_fn, norm, batch_size: see `robust_accuracy`.
      radius: > 0; one at which accuracy has begun to fall.
      steps: ≥ 8, of radius / 8 each; also run with twice as many.

    Returns:
      A `GradientMasking`.

    Raises:
      UsageError: as `robust_accuracy`.
    """
    name = "gradient_masking"
    if not radius > 0:
        raise UsageError(f"{name}: radius must be > 0, got {radius}")
    if steps < STEPS_TO_THE_EDGE:
        raise UsageError(
            f"{name}: steps must be >= {STEPS_TO_THE_EDGE}, got {steps}: fewer do not "
            "reach the edge of the ball, and a long step would look stronger"
        )
    images, labels = attack.checked(
        name, images, labels, logits_fn, norm, [radius], steps, None, 1
    )

    def standing(rows, *, steps, radius=radius, step_size=None, restarts=1):
        fooled, alive = attack.attacked(
            rng,
            rows,
            images,
            labels,
            batch_size=batch_size,
            logits_fn=logits_fn,
            norm=norm,
            radius=radius,
            steps=steps,
            step_size=step_size,
            restarts=restarts,
        )
        return rows[~fooled], alive

    clean, _ = standing(np.arange(len(images)), steps=0, radius=0.0)
    by_chance, _ = standing(clean, steps=0, restarts=steps + 1)
    one_step, _ = standing(clean, steps=1, step_size=radius)
    many, alive = standing(clean, steps=steps)
    # The same start and step: those fooled by fewer steps are so by more.
    twice, _ = standing(many, steps=2 * steps)
    shares = (len(v) / len(images) for v in (clean, by_chance, one_step, many, twice))
    dead = float(np.mean(~alive)) if len(alive) else 0.0
    return _judged(*shares, dead, steps=steps)


def _judged(clean, by_chance, one_step, many, twice, dead, *, steps):
    masked = True
    if dead > DEAD:
        verdict = (
            f"masked: {dead:.0%} of the images have no gradient; accuracy under attack "
            "says nothing, remove what rounds or saturates, or attack a smooth copy"
        )
    elif by_chance < many:
        verdict = (
            f"masked: random points leave accuracy {by_chance:.3f}, {steps} steps "
            f"along the gradient {many:.3f}; the gradient misleads the attack"
        )
    elif one_step < twice:
        verdict = (
            f"masked: one long step leaves accuracy {one_step:.3f}, {2 * steps} short "
            f"ones {twice:.3f}; the gradient holds only near by, use restarts or "
            "longer steps"
        )
    elif many - twice > CONVERGED:
        masked = False
        verdict = (
            f"not converged: accuracy {many:.3f} after {steps} steps, {twice:.3f} "
            f"after {2 * steps}; use more steps before you believe it"
        )
    else:
        masked = False
        verdict = (
            f"no sign of masking: accuracy {clean:.3f} clean, {by_chance:.3f} under "
            f"random points, {one_step:.3f} one step, {many:.3f} {steps} steps, "
            f"{twice:.3f} {2 * steps}"
        )
    return GradientMasking(
        clean, by_chance, one_step, many, twice, dead, masked, verdict
    )
