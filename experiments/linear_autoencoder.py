"""The best linear autoencoder is PCA: its error is the sum of discarded eigenvalues.

For x centred with covariance Σ = U diag(λ) Uᵀ, encoder W₁ [k, D], decoder W₂ [D, k]:

    min E‖x − W₂W₁x‖² = Σ_{j>k} λ_j,    reached where W₂W₁ = U_k U_kᵀ

(Baldi & Hornik 1989). Only the product is determined: (W₂R, R⁻¹W₁) is as good for every
invertible R, so the codes are the principal components up to a linear map. Every other
stationary point is a saddle, hence gradient descent arrives, unless λ_k = λ_{k+1}.

In the figure each line is a run; its error above the floor falls until float32 has no
more digits, and on the right the product's distance to the projector with it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import theory

SECTION = "3.2"
TITLE = "The linear autoencoder finds the principal subspace"


def run(
    *, seeds: int = 3, dim: int = 20, k: int = 3, steps: int = 1500
) -> outcome.Outcome:
    """Trains W₁, W₂ on tr RΣRᵀ, R = I − W₂W₁, from random starts.

    Args:
      seeds: random starts, trained together.
      dim: D.
      k: width of the code; the spectrum has its gap after three eigenvalues.
      steps: of Adam; 200 are too few.
    """
    values = np.concatenate(
        [[5.0, 3.0, 2.0, 1.0, 0.8], np.linspace(0.5, 0.05, dim - 5)]
    )
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))
    covariance = basis * values @ basis.T
    floor = theory.pca_floor(covariance, k=k)
    projector = theory.pca_projector(covariance, k=k)
    sigma = jnp.asarray(covariance, jnp.float32)

    def loss(params, rng):
        del rng  # the whole distribution at once
        rest = jnp.eye(dim) - params["encoder"] @ params["decoder"]
        return jnp.einsum("ij,ik,kj->", rest, sigma, rest)

    def distance(params):
        product = params["encoder"] @ params["decoder"]
        return loss(params, None), jnp.linalg.norm(product - projector)

    def train(rng):
        first, second, rest = jax.random.split(rng, 3)
        params = {
            "encoder": 0.2 * jax.random.normal(first, (dim, k)),
            "decoder": 0.2 * jax.random.normal(second, (k, dim)),
        }
        optimizer = training.adam(2e-2, steps=steps)
        return training.minimise(
            loss, params, rest, steps=steps, optimizer=optimizer, record=distance,
            every=10,
        )  # fmt: skip

    params, (errors, distances) = jax.jit(jax.vmap(train))(
        jax.random.split(jax.random.key(0), seeds)
    )
    excess = np.array([
        theory.linear_autoencoder_error(covariance, e, d) / floor - 1
        for e, d in zip(params["encoder"], params["decoder"], strict=True)
    ])  # fmt: skip
    turned, others = _in_float64(
        covariance,
        *(np.asarray(params[name][0], np.float64) for name in ("encoder", "decoder")),
    )
    product = np.asarray(params["encoder"] @ params["decoder"], np.float64)
    miss = np.linalg.norm(product - projector, axis=(1, 2))
    return outcome.Outcome(
        checks=(
            outcome.at_most("(error − Σ_{j>k} λ_j) / Σ_{j>k} λ_j", excess, 1e-6),
            outcome.at_least("the same of other (W₂, W₁)", others / floor - 1, 0.0),
            outcome.at_most("‖W₂W₁ − U_k U_kᵀ‖_F", miss, 1e-3),
            outcome.at_most("|error of (W₂R, R⁻¹W₁) / of (W₂, W₁) − 1|", turned, 1e-9),
        ),
        data={
            "step": 10 * np.arange(steps // 10),
            "excess": np.asarray(errors, np.float64) / floor - 1,
            "distance": np.asarray(distances),
        },
        said=(
            f"From {seeds} random starts the error ends {excess.max():.0e} (relative) "
            f"above the floor {floor:.3f}, the product within {miss.max():.0e} of the "
            f"projector. Turned by R the error moves by {turned.max():.0e} (relative), "
            f"and the best of {len(others)} other pairs is "
            f"{others.min() / floor - 1:.0e} above the floor."
        ),
    )


def _in_float64(covariance, encoder, decoder):
    """What R does to the error, relative; errors of other pairs, near and far.

    Others are the trained pair with noise on its encoder, or a random decoder with its
    best encoder, which projects onto its rows.
    """
    rng = np.random.default_rng(1)
    dim, k = encoder.shape

    def error(first, second):
        return theory.linear_autoencoder_error(covariance, first, second)

    start = error(encoder, decoder)
    turns = rng.normal(size=(10, k, k))
    turned = [error(encoder @ np.linalg.inv(r).T, r.T @ decoder) for r in turns]
    near = [
        error(encoder + size * rng.normal(size=(dim, k)), decoder)
        for size in np.logspace(-3, 0, 50)
    ]
    best = [error(np.linalg.pinv(d), d) for d in rng.normal(size=(50, k, dim))]
    return np.abs(np.array(turned) / start - 1), np.array(near + best)


def draw(figure, found: outcome.Outcome) -> None:
    """Excess error and distance to the projector against the step."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for excess, distance in zip(d["excess"], d["distance"], strict=True):
        left.plot(d["step"], np.maximum(excess, 1e-8), color=figures.COLOURS[0])
        right.plot(d["step"], distance, color=figures.COLOURS[1])
    left.axhline(1e-6, color=figures.FAINT, linestyle=":")
    left.set(yscale="log", xlabel="step", title="error above the floor, relative")
    right.axhline(1e-3, color=figures.FAINT, linestyle=":")
    right.set(yscale="log", xlabel="step", title="‖W₂W₁ − projector‖")
