"""The Gaussian bottleneck has a closed frontier, of slope ρ² at rate 0 and 0 far out.

For scalars of correlation ρ the best code is T = X + ξ, and at rate R = I(X;T)

    I(T;Y) = −½ log(1 − ρ²(1 − e^{−2R})),    dI(T;Y)/dR = 1/β = ρ² at R = 0

(Chechik, Globerson, Tishby & Weiss 2005). The first nat a code spends on X buys at most
ρ² nat about Y, since what is noise in X for Y is bought with it; slope 1 would mean
that X determines Y. For vectors the eigenvalues λ of Σ_{x|y} Σ_x⁻¹ decide: direction i
enters at the critical β_i = 1/(1 − λ_i), and no other linear code lies above the curve.

Left: closed forms, samples of (T, Y), and the discrete solver on a grid; the dashed
line through 0 has slope 1. Right: random linear codes of vectors lie below the curve of
the closed form, whose solutions lie on it; ticks mark where a direction enters.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import theory

SECTION = "7.2"
TITLE = "The frontier of the Gaussian bottleneck"

RATES = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0)
CORRELATIONS = (0.5, 0.8, 0.95)
PLANTED = np.array([0.95, 0.8, 0.5, 0.2])
"""Canonical correlations ρ_i of the vectors: direction i enters at β_i = 1/ρ_i²."""


def run(
    *,
    samples: int = 400_000,
    codes: int = 2000,
    slope: float | None = None,
    seed: int = 0,
) -> outcome.Outcome:
    """Compares the frontier with samples, a grid, and other codes.

    Args:
      samples: pairs (T, Y) for each rate.
      codes: random linear codes of vectors.
      slope: expected at rate 0; None: ρ² of each correlation.
      seed: of samples, codes and covariances.
    """
    generator = np.random.default_rng(seed)
    rho, rates = np.array(CORRELATIONS), np.array(RATES)
    sampled, error = _sampled(generator, rho, rates, samples)
    fine = np.linspace(0, 2.5, 120)
    sigma = _covariances(generator)
    critical = 1 / PLANTED**2
    around = np.concatenate([0.999 * critical, 1.001 * critical])
    top = 1 / np.array([0.8, 0.6, 0.4, 0.3, 0.2])
    wide = 1.6 * fine
    with jax.enable_x64():
        # A grid of 32 cells resolves a code no finer than this.
        grid = theory.discrete_curve(
            theory.gaussian_cells(rho[1]), betas=1 / np.array([0.5, 0.3, 0.2])
        )
        grid = np.asarray(grid.rate), np.asarray(grid.relevance)
        solved = jax.jit(
            jax.vmap(lambda beta: theory.gaussian_bottleneck(*sigma, beta=beta))
        )(np.concatenate([top, around]))
        solved = jax.tree.map(np.asarray, solved)
        used = np.linalg.matrix_rank(solved.projection[len(top) :], tol=1e-6)
        solved = jax.tree.map(lambda value: value[: len(top)], solved)
        lam = solved.eigenvalues[0]
        cloud = _random_codes(generator, sigma, solved.projection, codes)
        forms = jax.tree.map(
            np.asarray, _closed_forms(rho, rates, fine, grid[0], wide, cloud[0], lam)
        )
    exact, curves, on_grid, slopes, frontier, on_cloud = forms
    grid_miss, above = grid[1] - on_grid, cloud[1] - on_cloud
    points = np.stack([solved.rate, solved.relevance], axis=-1)
    direct = _information(*sigma, solved.projection)
    enters = 0.5 * np.log([
        _odds(lam[:i]) / _odds(lam[i]) ** i for i in range(1, len(lam))
    ])  # fmt: skip
    expected = rho**2 if slope is None else np.full_like(rho, slope)
    z = (sampled - exact) / error
    miss = slopes[:, 0] - expected
    return outcome.Outcome(
        checks=(
            outcome.at_most("|sampled − closed form| / s.e.", np.abs(z), 4.0),
            outcome.at_most("largest s.e. of a sample", error, 5e-3, unit="nat"),
            outcome.at_most(
                "|grid − closed form|", np.abs(grid_miss), 1e-3, unit="nat"
            ),
            outcome.at_most("|slope at rate 0 − expected|", np.abs(miss), 1e-6),
            outcome.at_most("slope at rate 20", slopes[:, 1], 1e-6),
            outcome.at_most(
                "vectors: solution − log-determinants",
                np.abs(points - direct),
                1e-8,
                unit="nat",
            ),
            outcome.at_most(
                "vectors: |rank of the code around β_i − directions entered|",
                np.abs(used.reshape(2, -1) - [[0, 1, 2, 3], [1, 2, 3, 4]]),
                0,
            ),
            outcome.at_most(
                "vectors: random code above the curve", above, 1e-9, unit="nat"
            ),
        ),
        data={
            "rates": rates, "sampled": sampled, "grid": grid, "fine": fine,
            "curves": curves, "cloud": cloud[:, :: codes // 600 + 1], "points": points,
            "frontier": (wide, frontier), "enters": enters,
        },
        said=(
            f"Samples are within {np.abs(sampled - exact).max():.4f} nat of the closed "
            f"form, the grid within {np.abs(grid_miss).max():.4f}; the slope at rate 0 "
            f"is {', '.join(f'{s:.4f}' for s in slopes[:, 0])} for ρ = "
            f"{', '.join(f'{r:g}' for r in rho)}. Of {codes} random codes of "
            f"vectors {np.sum(above > 1e-9)} lie above their curve; directions "
            f"enter it at β = {', '.join(f'{b:.2f}' for b in critical)}."
        ),
        correction=(
            "The curve does not start diagonally: its slope at rate 0 is ρ², not 1 "
            f"({slopes[1, 0]:.2f} for ρ = {rho[1]:g}), and so no code of rate above 0 "
            "is worth its price while β ≤ 1/ρ²."
        ),
    )  # fmt: skip


def _closed_forms(rho, rates, fine, grid, wide, cloud, lam):
    """Both curves where they are needed, and the slope of the first at its ends."""

    def curve(rate, rho):
        return theory.scalar_relevance(rate, rho=rho)

    @jax.jit
    def compute(rates, fine, grid, wide, cloud, lam):
        slope = jax.vmap(jax.grad(curve), in_axes=(0, None))
        ends = jnp.array([0.0, 20.0])
        return (
            jnp.stack([curve(rates, r) for r in rho]),
            jnp.stack([curve(fine, r) for r in rho]),
            curve(grid, rho[1]),
            jnp.stack([slope(ends, r) for r in rho]),
            theory.gaussian_curve(wide, eigenvalues=lam),
            theory.gaussian_curve(cloud, eigenvalues=lam),
        )

    return compute(rates, fine, grid, wide, cloud, lam)


def _sampled(generator, rho, rates, samples):
    """I(T;Y) from the correlation of samples, [R, S], and its standard error."""
    noise = 1 / np.sqrt(np.expm1(2 * rates))
    x, other, xi = generator.normal(size=(3, samples))
    r = np.empty((len(rho), len(rates)))
    for i, value in enumerate(rho):
        y = value * x + np.sqrt(1 - value**2) * other
        for j, sd in enumerate(noise):
            r[i, j] = np.corrcoef(x + sd * xi, y)[0, 1]
    # The error of r is (1 − r²)/√n.
    return -0.5 * np.log1p(-(r**2)), np.abs(r) / np.sqrt(samples)


def _covariances(generator, dim=4):
    """Σ_x, Σ_y, Σ_xy of Y = X·(.9, .7, .4, .1) + noise in turned axes."""
    turn, _ = np.linalg.qr(generator.normal(size=(dim, dim)))
    scale = np.array([1.0, 2.0, 0.5, 1.5])
    return (
        turn * scale**2 @ turn.T,
        np.eye(dim),
        turn * (scale * PLANTED),
    )


def _information(sigma_x, sigma_y, sigma_xy, a):
    """I(X;T) and I(T;Y) of T = AX + noise of unit variance, by log-determinants."""
    t = a @ sigma_x @ np.swapaxes(a, -1, -2) + np.eye(a.shape[-2])
    cross = a @ sigma_xy
    given = t - cross @ np.linalg.inv(sigma_y) @ np.swapaxes(cross, -1, -2)
    whole, rest = (np.linalg.slogdet(m)[1] for m in (t, given))
    return np.stack([0.5 * whole, 0.5 * (whole - rest)], -1)


def _random_codes(generator, sigma, solutions, codes):
    """Rate and I(T;Y) of random A; half of them are solutions, disturbed."""
    a = generator.normal(size=(codes, 4, 4))
    half = codes // 2
    near = solutions[generator.integers(len(solutions), size=half)]
    spread = np.linalg.norm(near, axis=(1, 2), keepdims=True)
    a[:half] = near + spread * generator.uniform(0, 0.4, (half, 1, 1)) * a[:half]
    a[half:] *= np.exp(generator.uniform(-3, 1, size=(codes - half, 1, 1)))
    keep = generator.random((codes - half, 4, 1))
    a[half:] *= keep < generator.random((codes - half, 1, 1))
    return _information(*sigma, a).T


def _odds(lam):
    """Π (1 − λ)/λ."""
    return np.prod((1 - np.asarray(lam)) / np.asarray(lam))


def draw(figure, found: outcome.Outcome) -> None:
    """Scalar curves with samples and the grid; vectors with random codes."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.plot([0, 0.7], [0, 0.7], color=figures.FAINT, linestyle="--", linewidth=1)
    left.annotate("slope 1", (0.62, 0.62), (-4, 2), ha="right",
                  textcoords="offset points")  # fmt: skip
    for k, (rho, curve, samples) in enumerate(
        zip(CORRELATIONS, d["curves"], d["sampled"], strict=True)
    ):
        colour = figures.COLOURS[k]
        left.plot(d["fine"], curve, color=colour)
        left.plot(d["rates"], samples, "o", color=colour)
        left.annotate(f"ρ = {rho:g}", (d["fine"][-1], curve[-1]), (0, 3), ha="right",
                      textcoords="offset points")  # fmt: skip
    left.plot(*d["grid"], "s", color=figures.FAINT, markersize=7, fillstyle="none")
    left.set(title="scalars: dots sampled, squares a grid", ylim=(-0.05, 1.3))
    right.plot(*d["cloud"], ".", color=figures.COLOURS[6], markersize=2, alpha=0.5)
    right.plot(*d["frontier"], color=figures.COLOURS[0])
    right.plot(*d["points"].T, "o", color=figures.COLOURS[0])
    for rate in d["enters"]:
        right.axvline(rate, ymax=0.06, color=figures.COLOURS[1])
    right.set(title="vectors: random codes, frontier", xlim=(0, 4), ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="rate I(X;T), nat", ylabel="I(T;Y), nat")
