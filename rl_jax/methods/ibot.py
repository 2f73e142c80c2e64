"""iBOT: DINO's class token, and what the teacher makes of patches hidden from it."""

import functools

import jax
import jax.numpy as jnp

from rl_jax.memory import ema
from rl_jax.methods import arguments
from rl_jax.methods import prototypes as shared
from rl_jax.methods.self_distillation import Wanted, self_distillation
from rl_jax.types import Method, Network


def ibot(
    encoder: Network,
    projector: Network,
    *,
    total_steps: int,
    prototypes: int = 8192,
    shared_head: bool = True,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
    patch_temperature: float = 0.07,
    warmup_temperature: float = 0.04,
    warmup_steps: int = 0,
    centre_momentum: float = 0.9,
    mask_ratio: tuple[float, float] = (0.1, 0.5),
    mask_probability: float = 0.5,
    decay: float = 0.996,
    frozen_steps: int = 0,
    micro_batch: int | None = None,
) -> Method:
    """Image BERT with an online tokenizer (Zhou et al. 2022, arXiv:2111.07832).

    The loss of `dino` on class tokens, and on patches that are hidden from the student
    −Σ_k q_jk log p_jk, the mean over those of a large view, then over views: with
    p_j = softmax(s_j/τ_s) where a learned token stood for patch j, and q_j =
    softmax((s'_j − c')/τ_p) of the teacher, who sees the view whole. s are scores of K
    prototypes as in `dino`; c', the moving mean of s' over all patches, is the patches'
    own. The teacher follows as in `dino`, and never has noise.

    In a large view, with a probability of `mask_probability`, blocks of patches are
    hidden, up to a share drawn anew for each view; a view in which none is adds 0 to
    the second mean. The student's class token is that of the view with blocks hidden.
    Smaller `local_views`, where the augmentation makes them, are never hidden, and only
    their class tokens count.

    Scores of hidden patches are formed a block at a time, on each device, and forgotten
    (`losses.patch_distillation`): beside the encoder, memory is that of the scores of
    class tokens, [B, 2 + V, K] for V small views, and of K prototypes. Up to a block of
    scores, they are kept.

    Args:
      encoder: f, images or `networks.Patches`, some hidden, to a class token and one
        for each patch: `networks.vit` with pool="all"; of any size, where crops are
        smaller.
      projector: g, tokens to the bottleneck z; the authors' has three layers of 2048,
        GELU, no BatchNorm, to 256. What BatchNorm would average holds patches that are
        not hidden.
      total_steps: T of the decay schedule.
      prototypes: K ≥ 2.
      shared_head: whether projector and prototypes are the same for class tokens and
        patches, which the authors found better.
      student_temperature: τ_s > 0.
      teacher_temperature: τ_t > 0, of class tokens.
      patch_temperature: τ_p > 0, of patches.
      warmup_temperature, warmup_steps: τ_t and τ_p go in a straight line from the first
        to their own in that many steps; the authors' 30 of 800 epochs.
      centre_momentum: share of the centres that stays, in [0, 1]; 1: they stay at 0.
      mask_ratio: least and largest share of the patches that are hidden, in (0, 1).
      mask_probability: that anything is hidden in a large view, in [0, 1].
      decay: τ₀ of the teacher in [0, 1]; to 1 by a cosine.
      frozen_steps: steps in which the prototypes do not learn; the authors' first
        epoch.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`, views of one size after the other; None: all.

    Returns:
      A method with `encode` names `h`, the class token, `z` and `target_h`, the
      teacher's, which the authors evaluate. Metrics: those of `dino`; `patch_loss`, the
      second of the two; `patch_target_entropy` and `patch_usage_entropy`, as those of
      class tokens; and `hidden`, the share of the patches that were.

    Raises:
      UsageError: for values out of range; from `init` on, for other than two large
        views, an encoder without these tokens or one that does not take the crops, or a
        share of less than a patch; as `micro_batched` does.
    """
    arguments.positive(
        "ibot",
        teacher_temperature=teacher_temperature,
        patch_temperature=patch_temperature,
        warmup_temperature=warmup_temperature,
    )
    arguments.shares("ibot", centre_momentum=centre_momentum)
    arguments.at_least("ibot", 0, warmup_steps=warmup_steps)
    temperature = functools.partial(
        shared.warmed, start=warmup_temperature, steps=warmup_steps
    )

    def targets(told, centre):
        sharp = temperature(told.step, end=teacher_temperature)
        patch_sharp = temperature(told.step, end=patch_temperature)
        q = jax.nn.softmax((told.cls - centre["cls"][None, None]) / sharp, axis=-1)
        means = {"cls": jnp.mean(told.cls, (0, 1)), "patch": told.mean}
        new = ema(centre, means, centre_momentum)
        return Wanted(q, sharp, centre["patch"], patch_sharp, new)

    return self_distillation(
        "ibot",
        encoder,
        projector,
        targets,
        centred=True,
        total_steps=total_steps,
        prototypes=prototypes,
        shared_head=shared_head,
        student_temperature=student_temperature,
        mask_ratio=mask_ratio,
        mask_probability=mask_probability,
        smallest_block=None,
        decay=decay,
        frozen_steps=frozen_steps,
        micro_batch=micro_batch,
    )
