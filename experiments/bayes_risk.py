"""A sufficient statistic has the Bayes risk of the data, for every loss there is.

Classes N(μ_c, Σ) with one Σ: T = (μ_cᵀΣ⁻¹x)_c is sufficient for the class, so that
p(c|T) = p(c|x) and the least risk min_a Σ_c p(c|·) L(a, c) is the same, whatever L
(Blackwell 1951). A statistic that loses ε = I(C;X|T) = E KL(p(c|x) ‖ p(c|T)) costs no
more than Pinsker's inequality allows, for losses in [0, 1]:

    R(T) − R(x) ≤ E TV(p(c|x), p(c|T)) ≤ √(ε/2)

On the left of the figure the posterior given T lies on that given x; that given the
products μ_cᵀx, without Σ⁻¹, does not. On the right T with random errors in its rows: a
point for each statistic and each loss, all of them below Pinsker's curve, and falling
faster, about as ε.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import theory

SECTION = "2.4"
TITLE = "A sufficient statistic keeps the Bayes risk"


def run(
    *,
    points: int = 4000,
    classes: int = 4,
    dim: int = 8,
    losses: int = 20,
    spoiled: int = 40,
    whiten: bool = True,
) -> outcome.Outcome:
    """Compares posteriors and risks given x, given T and given what is not sufficient.

    Args:
      points: drawn from the mixture; risks are means over them of exact posteriors.
      classes: C.
      dim: D.
      losses: random losses L(a, c) in [0, 1] of C actions, beside the zero-one loss.
      spoiled: statistics with random errors in the rows of T, from 0.001 to 3 of size.
      whiten: whether T has its Σ⁻¹; without it, it is the product with the means.
    """
    rng = np.random.default_rng(0)
    root = rng.normal(size=(dim, 2 * dim))
    covariance = root @ root.T / (2 * dim)
    means = 0.6 * rng.normal(size=(classes, dim))
    prior = rng.dirichlet(np.full(classes, 3.0))
    label = rng.choice(classes, size=points, p=prior)
    x = means[label] + rng.multivariate_normal(np.zeros(dim), covariance, size=points)
    loss = rng.uniform(size=(losses + 1, classes, classes))
    loss[0] = 1
    loss *= 1 - np.eye(classes)  # nothing to pay for the class itself
    errors = np.geomspace(1e-3, 3.0, spoiled)[:, None, None]
    errors = errors * rng.normal(size=(spoiled, classes, dim))

    @jax.jit
    def compare(x, rows, errors, loss):
        def posterior(projection):
            return theory.mixture_log_posterior(
                x, means=means, covariance=covariance, log_prior=np.log(prior),
                projection=projection,
            )  # fmt: skip

        def risks(log_p):
            return jnp.einsum("nc,lac->nla", jnp.exp(log_p), loss).min(2).mean(0)

        full = posterior(None)
        p = jnp.exp(full)

        def lost(projection):
            log_q = posterior(projection)
            apart = jnp.abs(jnp.exp(log_q) - p)
            epsilon = (p * (full - log_q)).sum(1).mean()
            return log_q, apart.max(), risks(log_q), epsilon, apart.sum(1).mean() / 2

        # The differences to one of the rows suffice as well.
        kinds = [rows, rows - rows[:1], jnp.asarray(means)]
        kinds = jnp.concatenate([jnp.stack(kinds), rows[None] + errors])
        return full, risks(full), theory.bayes_risk(full), jax.lax.map(lost, kinds)

    with jax.enable_x64(True):
        rows = theory.mixture_statistic(means, covariance) if whiten else means
        found = jax.device_get(compare(x, np.asarray(rows), errors, loss))
    full, risk, error, (log_q, apart, risks, epsilon, variation) = found
    excess = risks - risk[None]
    beyond = excess - variation[:, None]
    slack = np.sqrt(np.maximum(epsilon, 0) / 2)[:, None]
    wrong = np.mean(np.argmax(full, axis=1) != label)
    deviation = np.sqrt(error * (1 - error) / points)
    return outcome.Outcome(
        checks=(
            outcome.at_most("|p(c|T) − p(c|x)|", apart[:2], 1e-8),
            outcome.at_most(
                f"|R(T) − R(x)|, {losses + 1} losses", np.abs(excess[:2]), 1e-10
            ),
            outcome.at_least("R(μ_cᵀx) − R(x), zero-one loss", excess[2, 0], 0.01),
            outcome.at_most("R(T) − R(x) − E TV, all T", beyond, 1e-10),
            outcome.at_most("E TV − √(ε/2), all T", variation[:, None] - slack, 1e-10),
            outcome.equal(
                "share of points that the Bayes rule gets wrong", wrong, error,
                tolerance=float(4 * deviation),
            ),
        ),
        data={
            "full": np.exp(full[:500, 0]),
            "kept": np.exp(log_q[0, :500, 0]),
            "plain": np.exp(log_q[2, :500, 0]),
            "epsilon": epsilon[3:],
            "excess": excess[3:],
        },
        said=(
            f"Given T and given x the posteriors differ by {apart[:2].max():.0e}, the "
            f"risks of {losses + 1} losses by {np.abs(excess[:2]).max():.0e}. The "
            f"zero-one risk is {error:.3f}; given μ_cᵀx, without Σ⁻¹, it is "
            f"{risks[2, 0]:.3f}."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Posterior against posterior; excess risk against ε."""
    left, right = figure.subplots(1, 2)
    d = found.data
    options = {"s": 8, "linewidth": 0}
    left.scatter(
        d["full"], d["plain"], color=figures.COLOURS[1], alpha=0.6, label="given μ_cᵀx",
        **options,
    )  # fmt: skip
    left.scatter(
        d["full"], d["kept"], color=figures.COLOURS[0], label="given T = μ_cᵀΣ⁻¹x",
        **options,
    )  # fmt: skip
    left.set(xlabel="p(c|x) of one class", title="the same given the statistic")
    left.legend(loc="upper left")
    epsilon = np.broadcast_to(d["epsilon"][:, None], d["excess"].shape)
    seen = d["excess"] > 1e-9
    right.scatter(
        epsilon[seen], d["excess"][seen], color=figures.COLOURS[2], alpha=0.5, **options
    )
    at = np.geomspace(d["epsilon"].min(), d["epsilon"].max(), 50)
    right.plot(at, np.sqrt(at / 2), color=figures.FAINT, linestyle=":", label="√(ε/2)")
    right.set(
        xscale="log",
        yscale="log",
        xlabel="ε = I(C;X|T) in nat",
        title="excess risk R(T) − R(x)",
    )
    right.legend()
