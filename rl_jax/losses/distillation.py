"""Patches assigned to prototypes as a teacher assigns them, scores never all held."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from rl_jax.errors import UsageError, check_integer, checked
from rl_jax.losses.assignment import (
    check_width,
    patch_cross_entropy,
    prototype_scores,
)
from rl_jax.losses.normalize import normalize
from rl_jax.pairwise import rows as blocks

BLOCK_BYTES = {"cpu": 2**23, "gpu": 2**27}
"""Of a block of scores, float32; a device holds some four at a time.

On two CPU cores blocks of 4 and 16 MiB took a third of the time of one of 64, for
32,768 prototypes. Elsewhere, not measured, 128 MiB are 512 patches and 65,536
prototypes: of fewer, adding to the prototypes' gradient would take most of the time.
"""


class Distilled(NamedTuple):
    """What `patch_distillation` finds.

    Attributes:
      loss: scalar float32 ≥ 0.
      target_entropy: scalar, the mean of H(q) over all that counts; no gradient.
      usage: [K], the mean of q over the same; no gradient.
    """

    loss: chex.Array
    target_entropy: chex.Array
    usage: chex.Array


@checked
def patch_distillation(
    z: chex.Array,
    prototypes: chex.Array,
    target_z: chex.Array,
    target_prototypes: chex.Array,
    weight: chex.Array,
    *,
    centre: chex.Array,
    temperature: chex.Numeric,
    target_temperature: chex.Numeric,
    block_size: int | None = None,
) -> Distilled:
    """The cross-entropy of patches with a teacher's assignments, a mean over images.

    `patch_cross_entropy` for q = softmax((s' − c)/τ_t) and logits s/τ_s, where s and s'
    are the `prototype_scores` of student and teacher: iBOT's for a centre c that is the
    moving mean of s' (Zhou et al. 2022, arXiv:2111.07832), DINOv2's for that of
    `sinkhorn_centre` (Oquab et al. 2023, arXiv:2304.07193).

    Scores [N·M, K] are formed, used and forgotten a block of patches at a time, first
    those that count; a block without any is left out. The gradient, for a cotangent of
    one, is made in the same pass, so that none is formed twice: memory is a few blocks,
    z and the prototypes. Inside `jax.set_mesh(mesh)` with a `data` axis each device
    takes the blocks of its own images.

    Args:
      z: [N, M, D] of the student's patches; normalised here, in float32.
      prototypes: [K, D] of the student.
      target_z: [N, M, D'] of the teacher, without gradient.
      target_prototypes: [K, D'] of the teacher, without gradient.
      weight: [N, M] ≥ 0, 1 where a patch counts and 0 where it does not, which may hold
        anything then; without gradient.
      centre: [K], c, without gradient.
      temperature: τ_s > 0.
      target_temperature: τ_t > 0, without gradient.
      block_size: patches at a time on each device; None: from K, `BLOCK_BYTES` of their
        scores. Where it is all of them there is no loop and scores are kept.

    Returns:
      The loss, and of the teacher's assignments q their mean entropy and their mean.

    Raises:
      UsageError: for shapes that do not fit together, a temperature that is no number
        above 0, or an empty block.
    """
    name = "patch_distillation"
    shape = z.shape
    if len(shape) != 3 or target_z.shape[:-1] != shape[:2] or weight.shape != shape[:2]:
        raise UsageError(
            f"{name}: expected patches [N, M, D] of student and teacher and a weight "
            f"[N, M], got {shape}, {target_z.shape}, {weight.shape}"
        )
    count = len(prototypes)
    if len(target_prototypes) != count or centre.shape != (count,):
        raise UsageError(
            f"{name}: student, teacher and centre must have as many prototypes, got "
            f"{count}, {len(target_prototypes)}, {centre.shape}"
        )
    check_width(name, z, prototypes)
    check_width(name, target_z, target_prototypes)
    for what, value in (
        ("temperature", temperature),
        ("target_temperature", target_temperature),
    ):
        if isinstance(value, int | float) and not value > 0:
            raise UsageError(f"{name}: {what} must be > 0, got {value}")
    weight, centre, sharp = (
        jax.lax.stop_gradient(jnp.asarray(x, jnp.float32))
        for x in (weight, centre, target_temperature)
    )
    target_z, target_prototypes = jax.lax.stop_gradient((target_z, target_prototypes))
    z, target_z = counted(z, weight), counted(target_z, weight)
    part = weight / jnp.maximum(jnp.sum(weight), 1.0)
    size = rows_of_a_block(name, weight.size, count, block_size)
    if size >= weight.size:
        told = prototype_scores(target_z, target_prototypes)
        q = jax.nn.softmax((told - centre[None, None]) / sharp, axis=-1)
        logits = prototype_scores(z, prototypes) / temperature
        entropy = -jnp.sum(jax.scipy.special.xlogy(q, q), axis=-1)
        usage = jnp.einsum("nm,nmk->k", part, q, precision="highest")
        soft = jnp.sum(part * entropy)
        return Distilled(patch_cross_entropy(q, logits, weight), soft, usage)
    share = weight / jnp.maximum(jnp.sum(weight, 1, keepdims=True), 1.0) / len(weight)
    fixed = _Fixed(
        flat(normalize(target_z) / sharp),
        share.reshape(-1),
        part.reshape(-1),
        normalize(target_prototypes),
        -centre / sharp,
    )
    # What is divided here carries the gradient by the temperature.
    rows = flat(normalize(z) / temperature)
    return _streamed(size, rows, normalize(prototypes), fixed)


class _Fixed(NamedTuple):
    """What has no gradient.

    Attributes:
      target: [R, D'], rows of the teacher over its temperature.
      share: [R], how much of the loss a row is.
      part: [R], how much of the mean over rows.
      words: [K, D'] unit rows.
      offset: [K], added to the teacher's scores.
    """

    target: chex.Array
    share: chex.Array
    part: chex.Array
    words: chex.Array
    offset: chex.Array


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _streamed(size: int, z, words, fixed: _Fixed) -> Distilled:
    return _sums(size, z, words, fixed, slopes=False)[0]


@_streamed.defjvp
def _streamed_jvp(size, primals, tangents):
    (z, words, fixed), (z_dot, words_dot, _) = primals, tangents
    found, (dz, dwords) = _sums(size, z, words, fixed, slopes=True)
    still = jax.tree.map(jnp.zeros_like, found)
    moved = jnp.sum(dz * z_dot) + jnp.sum(dwords * words_dot)
    return found, still._replace(loss=moved)


def _sums(size: int, z, words, fixed: _Fixed, *, slopes: bool):
    """What is found, and the gradients by z and words; None without `slopes`."""

    def local(rows, everywhere, axis):
        words, target_words, offset = everywhere

        def step(carry, rows):
            z, target, share, part = rows
            t = scores(target, target_words) + offset[None]
            q = jax.nn.softmax(t, axis=-1)
            entropy = logsumexp(t, axis=1) - jnp.sum(q * t, axis=1)
            run, dz = _cross_entropy, None
            if slopes:
                run = jax.value_and_grad(_cross_entropy, (0, 1))
            loss = run(z, words, q, share)
            if slopes:
                loss, (dz, dwords) = loss
                carry, so_far = carry
            usage = jnp.einsum("r,rk->k", part, q, precision="highest")
            new = Distilled(loss, jnp.sum(part * entropy), usage)
            carry = jax.tree.map(jnp.add, carry, new)
            return ((carry, so_far + dwords) if slopes else carry), dz

        zero = jnp.zeros([], jnp.float32)
        carry = Distilled(zero, zero, jnp.zeros(len(words), jnp.float32))
        carry = (carry, jnp.zeros_like(words)) if slopes else carry
        carry, dz = blocks.fold(step, carry, rows, rows[2] > 0, size)
        return blocks.total(carry, axis), dz

    rows = z, fixed.target, fixed.share, fixed.part
    everywhere = words, fixed.words, fixed.offset
    carry, dz = blocks.over_devices(local, rows, everywhere)
    return (carry[0], (dz, carry[1])) if slopes else (carry, (None, None))


def _cross_entropy(z, words, q, share):
    """Σ_r share_r (log Σ_k exp s_rk − Σ_k q_rk s_rk), for rows of q that sum to 1."""
    s = scores(z, words)
    return jnp.sum(share * (logsumexp(s, axis=1) - jnp.sum(q * s, axis=1)))


def scores(z, words):
    """Products [R, K] of rows."""
    return jnp.einsum("rd,kd->rk", z, words, precision="highest")


def flat(x):
    """[..., D] as rows [R, D]."""
    return x.reshape(-1, x.shape[-1])


def counted(x, weight):
    """The same with zeros for rows that do not count, which may hold anything."""
    return jnp.where((weight > 0)[..., None], x, jnp.zeros([], x.dtype))


def rows_of_a_block(name: str, rows: int, prototypes: int, asked: int | None) -> int:
    """As many as were asked for, or `BLOCK_BYTES` of scores hold; at most all.

    Raises:
      UsageError: for a number that is none or less than 1.
    """
    if asked is None:
        # From all rows, not a device's: whether there are blocks is the same on any.
        limit = BLOCK_BYTES.get(jax.default_backend(), 2**27)
        return min(rows, max(1, limit // (4 * prototypes)))
    check_integer(f"{name}: block_size", asked)
    if asked < 1:
        raise UsageError(f"{name}: block_size must be at least 1, got {asked}")
    return min(rows, asked)
