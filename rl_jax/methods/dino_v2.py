"""DINOv2: iBOT with heads of their own, balanced targets and class tokens apart."""

import functools

from rl_jax.losses import sinkhorn, sinkhorn_centre
from rl_jax.methods import arguments
from rl_jax.methods import prototypes as shared
from rl_jax.methods.self_distillation import Wanted, self_distillation
from rl_jax.types import Method, Network


def dino_v2(
    encoder: Network,
    projector: Network,
    *,
    total_steps: int,
    prototypes: int = 65_536,
    shared_head: bool = False,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
    warmup_temperature: float = 0.04,
    warmup_steps: int = 0,
    sinkhorn_iterations: int = 3,
    koleo_weight: float = 0.1,
    mask_ratio: tuple[float, float] = (0.1, 0.5),
    mask_probability: float = 0.5,
    decay: float = 0.992,
    frozen_steps: int = 0,
    micro_batch: int | None = None,
) -> Method:
    """DINOv2's loss (Oquab et al. 2023, arXiv:2304.07193).

    L_class + L_patch + w Σ_v KoLeo(h_v): the two losses of `ibot`, with targets that
    use all prototypes alike in place of centred ones, q = Sinkhorn(s'/τ_t): once over
    the class tokens of both large views, once over the hidden patches of the batch.
    Patches have a projector and prototypes of their own. `losses.koleo` holds apart the
    student's class tokens h_v of each large view v, before the projector.

    Blocks are hidden as in `ibot`, of 4 patches or more. The authors hide blocks in
    exactly half of a batch and spread the shares evenly over it; ours draws for each
    view by itself, so that it does not depend on the others. Their networks have
    registers (in a later version), LayerScale and SwiGLU, which are the encoder's
    matter. Memory is as in `ibot`: each iteration of Sinkhorn forms the scores of
    hidden patches anew, a block at a time, and keeps a number of each prototype.

    Args:
      encoder: f, as in `ibot`: `networks.vit` with pool="all".
      projector: g, tokens to the bottleneck z; the authors' has three layers of 2048,
        GELU, no BatchNorm, to 256, for ViT-L/14 to 384.
      total_steps: T of the decay schedule.
      prototypes: K ≥ 2 of each head; the authors' ViT-L/14 has 131,072.
      shared_head: whether projector and prototypes are the same for class tokens and
        patches.
      student_temperature: τ_s > 0.
      teacher_temperature: τ_t > 0, Sinkhorn's ε.
      warmup_temperature, warmup_steps: τ_t goes in a straight line from the first to
        `teacher_temperature` in that many steps; the authors' 30 epochs.
      sinkhorn_iterations: at least 1, see `losses.sinkhorn`.
      koleo_weight: w ≥ 0; 0: none.
      mask_ratio: least and largest share of the patches that are hidden, in (0, 1).
      mask_probability: that anything is hidden in a large view, in [0, 1].
      decay: τ₀ of the teacher in [0, 1]; to 1 by a cosine.
      frozen_steps: steps in which the prototypes do not learn; the authors' first
        epoch.
      micro_batch: examples whose activations of the encoder are held at a time, as in
        `simclr`, views of one size after the other; None: all.

    Returns:
      A method with `encode` names `h`, the class token, `z` and `target_h`, the
      teacher's, which the authors evaluate. Metrics: those of `ibot`, and `koleo`, the
      mean of both views.

    Raises:
      UsageError: as `ibot` does.
    """
    arguments.positive(
        "dino_v2",
        teacher_temperature=teacher_temperature,
        warmup_temperature=warmup_temperature,
    )
    arguments.at_least("dino_v2", 0, warmup_steps=warmup_steps)
    arguments.at_least("dino_v2", 1, sinkhorn_iterations=sinkhorn_iterations)
    temperature = functools.partial(
        shared.warmed,
        start=warmup_temperature,
        end=teacher_temperature,
        steps=warmup_steps,
    )

    def targets(told, centre):
        sharp = temperature(told.step)
        options = {"epsilon": sharp, "iterations": sinkhorn_iterations}
        q = sinkhorn(told.cls.reshape(-1, prototypes), **options)
        patch_centre = sinkhorn_centre(
            told.patches, told.prototypes, told.weight, **options
        )
        return Wanted(q.reshape(told.cls.shape), sharp, patch_centre, sharp, centre)

    return self_distillation(
        "dino_v2",
        encoder,
        projector,
        targets,
        centred=False,
        total_steps=total_steps,
        prototypes=prototypes,
        shared_head=shared_head,
        student_temperature=student_temperature,
        mask_ratio=mask_ratio,
        mask_probability=mask_probability,
        smallest_block=4,
        decay=decay,
        frozen_steps=frozen_steps,
        micro_batch=micro_batch,
        koleo_weight=koleo_weight,
    )
