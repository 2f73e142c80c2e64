"""ELBO + KL(q‖posterior) = log p(x) for every q, so that the gap is what q misses.

    log p(x) = E_q log p(x|z) − KL(q(z) ‖ p(z)) + KL(q(z) ‖ p(z|x))

(Jordan et al. 1999; Kingma & Welling 2014). In the linear-Gaussian model z ~ N(0, I),
x|z ~ N(Wz + b, vI) all terms are known (Tipping & Bishop 1999): log p(x) is that of
N(b, WWᵀ + vI). The ELBO is computed in float32 by the library's losses, with the
expectation taken exactly; gap and evidence are those of NumPy in float64. A diagonal q
is fitted by gradient steps; where the columns of W are not orthogonal the posterior is
not diagonal, and the best gap is ½(log det C + Σ log (C⁻¹)_jj), C its covariance.

In the figure the ELBO rises to log p(x) less that last gap; their sum stays on the line
at every step. On the right the last gap against the cosine of the columns of W.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import losses
from rl_jax.theory import linear_gaussian

SECTION = "4.1-4.2"
TITLE = "The evidence bound and its gap"

DIM, LATENT = 5, 2


def run(
    *, points: int = 64, variance: float = 0.3, steps: int = 400, cosines: int = 10
) -> outcome.Outcome:
    """Fits q to points of linear-Gaussian models, from a wide start.

    Args:
      points: B, drawn from each model.
      variance: v of the observation.
      steps: of Adam.
      cosines: models, with cosines of the two columns of W from 0 to 0.95.
    """
    rng = np.random.default_rng(0)
    cosine = np.linspace(0.0, 0.95, cosines)
    first, other = np.linalg.qr(rng.normal(size=(DIM, LATENT)))[0].T
    second = np.outer(cosine, first) + np.outer(np.sqrt(1 - cosine**2), other)
    weight = 1.5 * np.stack([np.broadcast_to(first, second.shape), second], axis=2)
    bias = rng.normal(size=DIM)
    z = rng.normal(size=(points, LATENT))
    noise = np.sqrt(variance) * rng.normal(size=(points, DIM))
    x = np.einsum("bk,mdk->mbd", z, weight) + bias + noise
    weight, bias, x = np.float32(weight), np.float32(bias), np.float32(x)

    def bound(q, weight, x):
        """[B], exactly: a quadratic has its mean over the points μ ± √k σ_j e_j."""
        signs = np.sqrt(LATENT) * np.concatenate([np.eye(LATENT), -np.eye(LATENT)])
        spread = jnp.exp(0.5 * q["log_variance"])[:, None] * jnp.float32(signs)[None]
        z = (q["mean"][:, None] + spread).reshape(-1, LATENT)
        made = z @ weight.T + bias[None]
        log_p = losses.gaussian_log_likelihood(
            jnp.repeat(x, len(signs), axis=0), made, np.log(variance)
        )
        kl = losses.gaussian_kl(q["mean"], q["log_variance"])
        return log_p.reshape(points, -1).mean(1) - kl.sum(1)

    def fit(weight, x):
        start = {
            "mean": jnp.zeros((points, LATENT)),
            "log_variance": jnp.ones((points, LATENT)),
        }
        _, found = training.minimise(
            lambda q, rng: -bound(q, weight, x).mean(),
            start, jax.random.key(0), steps=steps, every=10,
            optimizer=training.adam(0.2, steps=steps),
            record=lambda q: (q, bound(q, weight, x)),
        )  # fmt: skip
        return found

    q, elbo = jax.device_get(jax.jit(jax.vmap(fit))(weight, x))
    evidence, gap, least = [], np.zeros(elbo.shape), []
    for i in range(cosines):
        model = {"weight": weight[i], "bias": bias, "variance": variance}
        evidence.append(linear_gaussian.log_evidence(x[i], **model))
        mean, covariance = linear_gaussian.posterior(x[i], **model)
        for t in range(elbo.shape[1]):
            gap[i, t] = linear_gaussian.gap(
                q["mean"][i, t], q["log_variance"][i, t], mean, covariance
            )
        inverse = np.diag(np.linalg.inv(covariance))
        least.append(0.5 * (np.linalg.slogdet(covariance)[1] + np.log(inverse).sum()))
    evidence, least = np.stack(evidence)[:, None], np.array(least)
    miss = np.abs(elbo + gap - evidence) / np.abs(evidence)
    final = gap[:, -1].mean(1)
    return outcome.Outcome(
        checks=(
            outcome.at_most("|ELBO + KL − log p(x)| / |log p(x)|", miss, 1e-5),
            outcome.at_most(
                "ELBO − log p(x)", elbo - evidence, 1e-5, unit="nat"
            ),
            outcome.at_most(
                "gap of the fitted q, orthogonal columns", final[0], 1e-4, unit="nat"
            ),
            outcome.at_most(
                "|gap of the fitted q − ½(log det C + Σ log (C⁻¹)_jj)|",
                np.abs(final - least), 1e-3, unit="nat",
            ),
        ),
        data={
            "step": 10 * np.arange(elbo.shape[1]), "elbo": elbo.mean(2),
            "sum": (elbo + gap).mean(2), "evidence": evidence.mean((1, 2)),
            "cosine": cosine, "gap": final, "least": least,
        },
        said=(
            f"For {gap.size} pairs of q and x, ELBO + KL is log p(x) within "
            f"{miss.max():.0e} of it. Fitted, q leaves {final[0]:.0e} nat where the "
            f"columns of W are orthogonal and {final[-1]:.2f} where their cosine is "
            f"{cosine[-1]:.2f} and no diagonal q is the posterior."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """ELBO against the step for three models; the last gap against the cosine."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for i, model in enumerate((0, len(d["cosine"]) // 2, len(d["cosine"]) - 1)):
        colour = figures.COLOURS[i]
        label = f"cosine {d['cosine'][model]:.2f}"
        left.plot(d["step"], d["elbo"][model], color=colour, label=label)
        left.plot(d["step"], d["sum"][model], color=colour, linestyle="--")
    left.set(
        xlabel="step",
        xlim=(0, 150),
        ylabel="nat, mean over x",
        title="ELBO, and ELBO + KL(q‖posterior) (dashed)",
        ylim=(d["evidence"].min() - 4, d["evidence"].max() + 1),
    )
    left.legend(loc="lower right")
    right.plot(d["cosine"], d["least"], color=figures.FAINT, label="closed form")
    right.plot(d["cosine"], d["gap"], "o", color=figures.COLOURS[3], label="fitted q")
    right.set(
        xlabel="cosine of the columns of W",
        ylabel="nat",
        title="KL(q‖posterior) of the best diagonal q",
    )
    right.legend()
