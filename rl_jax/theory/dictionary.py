"""Dictionary learning: sparse codes by FISTA, atoms by block coordinate descent."""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError, checked


class Dictionary(NamedTuple):
    """What `learn_dictionary` found.

    Attributes:
      atoms: [m, D], one atom a row, ‖d_j‖ ≤ 1.
      errors: [steps], the mean objective of each batch with the atoms before its step.
    """

    atoms: chex.Array
    errors: chex.Array


@checked
def sparse_coding_error(
    x: chex.Array, codes: chex.Array, atoms: chex.Array, *, penalty: chex.Numeric
) -> chex.Array:
    """Objective of sparse coding (Olshausen & Field 1996, doi:10.1038/381607a0).

    1/B Σ_i ‖x_i − Dz_i‖² + λ‖z_i‖₁. scikit-learn's is half of it, its alpha λ/2.

    Args:
      x: [B, D].
      codes: z [B, m].
      atoms: Dᵀ [m, D], one atom a row.
      penalty: λ ≥ 0.

    Returns:
      Scalar ≥ 0, in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit.
    """
    x, atoms = _checked("sparse_coding_error", x, atoms)
    codes = jnp.asarray(codes, float)
    if codes.shape != (len(x), len(atoms)):
        raise UsageError(
            f"sparse_coding_error: expected codes [{len(x)}, {len(atoms)}], got "
            f"{codes.shape}"
        )
    return _objective(x, codes, atoms, penalty)


@checked
def fista(
    x: chex.Array,
    atoms: chex.Array,
    *,
    penalty: chex.Numeric,
    steps: int = 200,
    positive: bool = False,
) -> chex.Array:
    """Sparse codes by FISTA (Beck & Teboulle 2009, doi:10.1137/080716542).

    argmin_z ‖x − Dz‖² + λ‖z‖₁, from z = 0:

        z_t = S(y_t − ∇/L, λ/L),  ∇ = 2Dᵀ(Dy_t − x),  L = 2‖D‖²,
        y_{t+1} = z_t + (s_t − 1)/s_{t+1} (z_t − z_{t−1}),

    with s_{t+1} = ½(1 + √(1 + 4s_t²)), s_1 = 1, and S the soft threshold.
    After t steps the objective is at most 2L‖z*‖²/(t + 1)² above its minimum.

    Args:
      x: [B, D].
      atoms: Dᵀ [m, D], one atom a row.
      penalty: λ ≥ 0, the same for all.
      steps: how many, ≥ 1.
      positive: only codes z ≥ 0.

    Returns:
      z [B, m], with exact zeros; in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for shapes that do not fit, no steps, or λ < 0.
    """
    x, atoms = _checked("fista", x, atoms)
    if (
        not isinstance(penalty, jax.core.Tracer)
        and not (np.asarray(penalty) >= 0).all()
    ):
        raise UsageError(f"fista: penalty must be >= 0, got {penalty}")
    if steps < 1:
        raise UsageError(f"fista: steps must be >= 1, got {steps}")
    zero = jnp.zeros((len(x), len(atoms)), x.dtype)
    return _fista(x, atoms, zero, penalty, steps, positive)


@checked
def learn_dictionary(
    rng: chex.PRNGKey,
    x: chex.Array,
    *,
    atoms: int,
    penalty: float,
    batch_size: int = 64,
    steps: int = 3000,
    code_steps: int = 50,
    positive: bool = False,
) -> Dictionary:
    """Online dictionary learning (Mairal et al. 2009, arXiv:0908.0050).

    min over D, ‖d_j‖ ≤ 1, and z of E‖x − Dz‖² + λ‖z‖₁. Each step codes a batch by
    `fista`, adds it to A ← βA + 1/η Σ zzᵀ and B ← βB + 1/η Σ xzᵀ, and once updates each
    atom in turn,

        u_j = d_j + (b_j − Da_j)/A_jj,  d_j = u_j / max(1, ‖u_j‖).

    At step t of batches of η the past counts β = (θ + 1 − η)/(θ + 1), θ = tη for
    t < η, η² + t − η afterwards: early codes are of bad atoms and are forgotten. Atoms
    start as examples drawn at random, scaled to length 1; one that no code of the past
    has used stays where it is.

    Args:
      rng: key of the batches and the first atoms.
      x: [n, D] data; the mean is not taken away.
      atoms: m ≥ 1, in [1, n].
      penalty: λ > 0.
      batch_size: η ≥ 1, drawn with replacement.
      steps: how many batches, ≥ 1.
      code_steps: steps of `fista` for each.
      positive: only codes z ≥ 0.

    Returns:
      A `Dictionary`, in float64 under `jax.enable_x64()`.

    Raises:
      UsageError: for values out of range.
    """
    x = jnp.asarray(x, float)
    if x.ndim != 2 or not 1 <= atoms <= len(x):
        raise UsageError(
            f"learn_dictionary: expected x [n, D] and atoms in [1, n], got {x.shape} "
            f"and {atoms}"
        )
    if not 0 < penalty < math.inf:
        raise UsageError(
            f"learn_dictionary: penalty must be > 0 and finite, got {penalty}"
        )
    sizes = {"batch_size": batch_size, "steps": steps, "code_steps": code_steps}
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"learn_dictionary: {name} must be >= 1, got {value}")
    return _learn(rng, x, penalty, atoms, batch_size, steps, code_steps, positive)


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6, 7))
def _learn(rng, x, penalty, count, batch_size, steps, code_steps, positive):
    rng_start, rng_steps = jax.random.split(rng)
    chosen = jax.random.choice(rng_start, len(x), (count,), replace=False)
    start = x[chosen]
    start = start / jnp.maximum(
        jnp.linalg.norm(start, axis=1, keepdims=True), jnp.finfo(x.dtype).tiny
    )

    def step(carry, t):
        d, a, b = carry
        rng_batch = jax.random.fold_in(rng_steps, t)
        batch = x[jax.random.randint(rng_batch, (batch_size,), 0, len(x))]
        zero = jnp.zeros((batch_size, count), x.dtype)
        z = _fista(batch, d, zero, penalty, code_steps, positive)
        t = t.astype(x.dtype) + 1
        late = batch_size**2 + t - batch_size
        theta = jnp.where(t < batch_size, t * batch_size, late)
        past = (theta + 1 - batch_size) / (theta + 1)
        a = past * a + z.T @ z / batch_size
        b = past * b + z.T @ batch / batch_size
        new = _update_atoms(d, a, b)
        return (new, a, b), _objective(batch, z, d, penalty)

    zeros = jnp.zeros((count, count), x.dtype), jnp.zeros_like(start)
    (atoms, _, _), errors = lax.scan(step, (start, *zeros), jnp.arange(steps))
    return Dictionary(atoms, errors)


def _update_atoms(d, a, b):
    """Each row of [m, D] in turn, with those before it already moved."""

    def one(j, d):
        used = a[j, j] > 1e-10
        move = (b[j] - a[j] @ d) / jnp.where(used, a[j, j], 1.0)
        u = d[j] + move
        u = u / jnp.maximum(jnp.linalg.norm(u), 1.0)
        return d.at[j].set(jnp.where(used, u, d[j]))

    return lax.fori_loop(0, len(d), one, d)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _fista(x, atoms, start, penalty, steps, positive):
    gram, correlation = atoms @ atoms.T, x @ atoms.T
    # Zero atoms would make it 0.
    bound = jnp.maximum(2 * jnp.linalg.eigvalsh(gram)[-1], jnp.finfo(x.dtype).tiny)

    def step(carry, _):
        z, y, s = carry
        moved = y - 2 * (y @ gram - correlation) / bound
        if positive:
            new = jnp.maximum(moved - penalty / bound, 0)
        else:
            size = jnp.maximum(jnp.abs(moved) - penalty / bound, 0)
            new = jnp.sign(moved) * size
        after = 0.5 * (1 + jnp.sqrt(1 + 4 * s * s))
        return (new, new + (s - 1) / after * (new - z), after), None

    first = start, start, jnp.ones([], x.dtype)
    (z, _, _), _ = lax.scan(step, first, length=steps)
    return z


def _objective(x, z, atoms, penalty):
    miss = jnp.square(x - z @ atoms).sum() + penalty * jnp.abs(z).sum()
    return miss / len(x)


def _checked(name, x, atoms):
    """Both as floating arrays that fit together."""
    x, atoms = jnp.asarray(x, float), jnp.asarray(atoms, float)
    if x.ndim != 2 or atoms.shape[1:] != x.shape[1:] or not len(atoms):
        raise UsageError(
            f"{name}: expected x [B, D] and atoms [m, D] with m >= 1, got {x.shape}, "
            f"{atoms.shape}"
        )
    return x, atoms
