"""What a statistic T = AX loses about Y is I(X;Y|T), and 0 for the regression of Y.

For jointly Gaussian X, Y the ε of ε-sufficiency has two forms, by log-determinants of
different matrices,

    ε = I(X;Y) − I(T;Y) = I(X;Y|T) = ½ log |Σ_{y|t}| − ½ log |Σ_{y|x}|

(the chain rule, as T is a function of X). It is 0 for A = Σ_yx Σ_x⁻¹, and the k rows
that lose least are canonical directions: ε_k = −½ Σ_{j>k} log(1 − ρ_j²) with the
canonical correlations ρ (Hotelling 1936).

In the figure ε falls with the number of rows: fastest for canonical directions, which
lose nothing once there are as many as Y has dimensions; principal components (PCA) look
at the variance of X alone, and are here no better than random rows.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments import figure as figures
from experiments import outcome
from rl_jax import theory

SECTION = "2.3"
TITLE = "ε-sufficiency of linear statistics, exactly"

KINDS = ("canonical", "PCA", "random")
STYLES = ("-", "-", "--")


def run(
    *, draws: int = 100, dim_x: int = 8, dim_y: int = 3, noise: float = 0.0
) -> outcome.Outcome:
    """Draws covariances and measures the ε of statistics of 1, 2, … rows.

    Args:
      draws: random covariances of (X, Y).
      dim_x: dimensions of X.
      dim_y: of Y, fewer.
      noise: deviation of noise added to each row of T = AX; with any, no A suffices.
    """
    rng = np.random.default_rng(0)
    size = dim_x + dim_y
    root = rng.normal(size=(draws, size, size + 2))
    sigma = root @ root.swapaxes(1, 2) / (size + 2)
    sigma_x, sigma_xy = sigma[:, :dim_x, :dim_x], sigma[:, :dim_x, dim_x:]
    principal = np.linalg.eigh(sigma_x)[1][:, :, ::-1].swapaxes(1, 2)
    random = rng.normal(size=principal.shape)
    regression = np.zeros(principal.shape)
    regression[:, :dim_y] = np.linalg.solve(sigma_x, sigma_xy).swapaxes(1, 2)
    rows = np.arange(1, dim_x + 1)

    def measure(noise, sigma, regression, *others):
        x, y, xy = sigma[:dim_x, :dim_x], sigma[dim_x:, dim_x:], sigma[:dim_x, dim_x:]
        # Noise of its own beside each row of A, so that all k make one program: rows
        # beyond the k-th see their noise and nothing else.
        eye = jnp.eye(dim_x)
        blocks = (
            jax.scipy.linalg.block_diag(x, eye),
            y,
            jnp.concatenate([xy, jnp.zeros_like(xy)]),
        )

        def of_first(a, k):
            used = (jnp.arange(dim_x) < k)[:, None]
            projection = jnp.where(used, a, 0), jnp.where(used, noise, 1.0) * eye
            s = theory.gaussian_sufficiency(
                *blocks, projection=jnp.concatenate(projection, axis=1)
            )
            return s.gap, s.conditional

        correlations, canonical = theory.canonical_correlations(x, y, xy)
        kinds = jnp.stack([canonical, *others])
        found = lax.map(lambda a: lax.map(lambda k: of_first(a, k), rows), kinds)
        return correlations, found, of_first(regression, dim_y)

    @jax.jit
    def every(noise, *draws):
        # One matrix at a time: jaxlib 0.10 can wait for ever when two decompositions
        # of stacks of matrices meet in one program on a CPU of two cores.
        return lax.map(lambda draw: measure(noise, *draw), draws)

    with jax.enable_x64(True):
        correlations, (gap, conditional), regressed = jax.device_get(
            every(noise, sigma, regression, principal, random)
        )
    lost = -0.5 * np.log1p(-(correlations**2))
    expected = lost.sum(1, keepdims=True) - np.cumsum(lost, axis=1)
    canonical, others = gap[:, :1], gap[:, 1:]
    full = lost.sum(1).mean()
    apart = np.abs(gap - conditional).max()
    best, pca, chance = gap[:, :, dim_y - 1].mean(0)
    return outcome.Outcome(
        checks=(
            outcome.at_most(
                "|I(X;Y) − I(T;Y) − I(X;Y|T)|", apart, 1e-8, unit="nat"
            ),
            outcome.at_most(
                "ε of A = Σ_yx Σ_x⁻¹, both forms", np.abs(regressed), 1e-8, unit="nat"
            ),
            outcome.at_most(
                "|ε + ½ Σ_{j>k} log(1 − ρ_j²)|, canonical rows",
                np.abs(canonical[:, 0] - expected), 1e-8, unit="nat",
            ),
            outcome.at_most(
                "ε of canonical rows − ε of others", canonical - others, 1e-8,
                unit="nat",
            ),
            outcome.at_least(
                "ε of as many other rows as Y has dimensions",
                others[:, :, :dim_y], 1e-3, unit="nat",
            ),
        ),
        data={"rows": rows, "gap": gap, "full": full},
        said=(
            f"Both forms of ε agree within {apart:.0e} nat for {gap.size} statistics. "
            f"Of {full:.2f} nat {dim_y} canonical rows lose {abs(best):.2f}, {dim_y} "
            f"principal components {pca:.2f}, {dim_y} random rows {chance:.2f} (means)."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Mean ε against the number of rows, with the middle half of the draws."""
    panel = figure.subplots()
    d = found.data
    for i, name in enumerate(KINDS):
        low, high = np.quantile(d["gap"][:, i], (0.25, 0.75), axis=0)
        mean, colour = d["gap"][:, i].mean(0), figures.COLOURS[i]
        panel.fill_between(d["rows"], low, high, color=colour, alpha=0.2, linewidth=0)
        panel.plot(d["rows"], mean, "o" + STYLES[i], color=colour, label=name)
    panel.axhline(d["full"], color=figures.FAINT, linestyle=":", label="I(X;Y)")
    panel.set(
        xlabel="rows of A",
        ylabel="nat",
        title="ε = I(X;Y) − I(AX;Y): mean, and middle half of the draws",
    )
    panel.legend()
