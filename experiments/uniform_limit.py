"""InfoNCE − log K tends to alignment plus uniformity, at its least for uniform vectors.

With κ = 1/τ, positives of cosine c, and u, v uniform on the sphere of R^d,

    L − log K → −κ E[c] + m,    m = log E e^{κ⟨u, v⟩} = log[Γ(d/2) (2/κ)^ν I_ν(κ)],

ν = d/2 − 1 (Wang & Isola 2020, Theorem 1). The first term is alignment, the second
uniformity. Among K candidates the positive itself stands in the sum and adds
log[(K − 1)/K + e^{κc − m}/K]: it may be left out only for K ≫ e^{κ − m}, the more so
the smaller τ and the larger d.

Dots are measured by `losses.info_nce` on identical positives (c = 1), solid lines are
the formula with that term, dotted lines the limit without it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from experiments import figure as figures
from experiments import outcome
from rl_jax import losses, theory

SECTION = "5.5"
TITLE = "InfoNCE − log K tends to alignment plus uniformity"

CASES = ((2, 0.1), (8, 0.1), (64, 0.5), (64, 0.1))
COUNTS = (64, 1024, 16384, 65536)
LEAST = 16384
"""From here on the sum over the negatives is the mean within 0.005 nat."""
QUERIES = 256


def run(*, seed: int = 0, own_term: bool = True) -> outcome.Outcome:
    """Measures InfoNCE on uniform vectors at several K, d and τ.

    Args:
      seed: of the vectors.
      own_term: whether the positive's own term is in the expected value; without it,
        only the limit is.
    """
    measured, expected = np.empty((2, len(CASES), len(COUNTS)))
    limit, reference, spread = np.empty((3, len(CASES)))
    for i, (dim, tau) in enumerate(CASES):
        limit[i] = theory.info_nce_limit(temperature=tau, dim=dim)
        reference[i] = _log_mean(1 / tau, dim) - 1 / tau
        least = theory.uniformity_limit(dim=dim)
        spread[i] = _uniformity(jax.random.key(i), dim=dim) - least
        for j, count in enumerate(COUNTS):
            rng = jax.random.key(100 * seed + 10 * i + j)
            measured[i, j] = _loss(rng, count, tau, dim=dim)
            expected[i, j] = (
                theory.info_nce_limit(temperature=tau, dim=dim, num_candidates=count)
                if own_term
                else limit[i]
            )
    enough = np.array(COUNTS) >= LEAST
    miss = np.abs(measured - expected)[:, enough]
    gap = measured[:, -1] - limit
    worst = int(np.argmax(gap))
    dim, tau = CASES[worst]
    return outcome.Outcome(
        checks=(
            outcome.at_most(
                f"|L − log K − expected| for K ≥ {LEAST:,}", miss, 0.005, unit="nat"
            ),
            outcome.at_most(
                "limit against Bessel's function in float64",
                np.abs(limit - reference),
                1e-4,
                unit="nat",
            ),
            outcome.at_most(
                "uniformity loss of the same vectors, above its least value",
                np.abs(spread),
                0.01,
                unit="nat",
            ),
        ),
        data={
            "count": np.array(COUNTS),
            "measured": measured,
            "expected": expected,
            "limit": limit,
        },
        said=(
            f"For K ≥ {LEAST:,} the loss is within {miss.max():.4f} nat of the "
            f"formula, in {len(CASES)} cases of d and τ. The limit alone is "
            f"{gap[worst]:.3f} nat off at K = {COUNTS[-1]:,} for d = {dim}, "
            f"τ = {tau:g}."
        ),
        correction=(
            "The positive's own weight vanishes only once K ≫ e^{κ − m}: at finite K "
            "the limit needs the term log[(K − 1)/K + e^{κc − m}/K], at "
            f"d = {dim}, τ = {tau:g} still {gap[worst]:.2f} nat for K = {COUNTS[-1]:,}."
            ' And there is no finite d for which "the two objectives compete": '
            "positives that are identical (alignment 0 by construction) and uniform "
            'attain both on every sphere, not only on a "sufficiently '
            'high-dimensional" one, d = 2 included (uniformity within '
            f"{np.abs(spread).max():.3f} of its least value)."
        ),
    )


@functools.partial(jax.jit, static_argnames="dim")
def _loss(rng, count, tau, *, dim):
    """L − log K of uniform vectors; K is traced, so that one program serves all."""
    query, negatives = (
        jax.random.normal(key, (rows, dim))
        for key, rows in zip(jax.random.split(rng), (QUERIES, COUNTS[-1]), strict=True)
    )
    value = losses.info_nce(query, query, negatives, temperature=tau, valid=count - 1)
    return value - jnp.log(count)


@functools.partial(jax.jit, static_argnames="dim")
def _uniformity(rng, *, dim):
    """Of 4096 uniform vectors."""
    return losses.uniformity(jax.random.normal(rng, (4096, dim)))


def _log_mean(kappa, dim):
    """Log E e^{κ⟨u, v⟩} in float64."""
    nu = dim / 2 - 1
    return (
        special.gammaln(dim / 2)
        + nu * np.log(2 / kappa)
        + np.log(special.ive(nu, kappa))
        + kappa
    )


def draw(figure, found: outcome.Outcome) -> None:
    """Loss − log K against K, with the formula and the limit."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for k, (dim, tau) in enumerate(CASES):
        colour = figures.COLOURS[k]
        name = f"d = {dim}, τ = {tau:g}"
        left.axhline(d["limit"][k], color=colour, linestyle=":", linewidth=1.2)
        left.plot(d["count"], d["expected"][k], color=colour)
        left.plot(d["count"], d["measured"][k], "o", color=colour)
        away = np.abs(d["measured"][k] - d["limit"][k])
        right.plot(d["count"], away, "o-", color=colour, label=name)
    left.set(xscale="log", xlabel="candidates K", ylabel="nat",
             title="InfoNCE − log K (dotted: limit)")  # fmt: skip
    right.axhline(0.005, color=figures.FAINT, linestyle="--", linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="candidates K", ylabel="nat",
              ylim=(1e-5, 20), title="distance to the limit")  # fmt: skip
    right.legend(loc="lower left")
