"""A denoiser that is as good as can be points along the score of the noisy density.

For x̃ = x + σε the least E‖x − r(x̃)‖² is that of the posterior mean, and (Robbins 1956,
Vincent 2011, Alain & Bengio 2014)

    r*(x̃) = E[x|x̃] = x̃ + σ²∇log p_σ(x̃),    so    (r(x̃) − x̃)/σ² ≈ ∇log p_σ(x̃)

For a mixture of Gaussians both sides have closed forms: E[x|x̃] by conditioning each
component, the score by its responsibilities. They must agree in float64; a denoising
autoencoder of the same mixture must come near.

In the figure arrows of the trained denoiser lie on those of the score, and point to the
three components; on the right its components against the exact ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import losses, networks, theory

SECTION = "3.4"
TITLE = "A trained denoiser is the score of the noisy density"

MIXTURE = theory.Mixture(
    np.ones(3) / 3,
    np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]]),
    np.tile(0.16 * np.eye(2), (3, 1, 1)),
)


def run(
    *,
    seeds: int = 3,
    noise: float = 0.5,
    taken_for: float | None = None,
    steps: int = 2000,
    batch_size: int = 256,
) -> outcome.Outcome:
    """Trains denoisers of a mixture of three Gaussians in the plane.

    Args:
      seeds: random starts, trained together.
      noise: σ of the training.
      taken_for: the σ that displacements are divided by the square of; None: the true.
      steps: of Adam; 300 are too few.
      batch_size: fresh points in each step.
    """
    taken_for = noise if taken_for is None else taken_for
    rng = np.random.default_rng(0)
    part = rng.integers(0, 3, size=4000)
    clean = MIXTURE.means[part] + 0.4 * rng.normal(size=(4000, 2))
    noisy = clean + noise * rng.normal(size=clean.shape)
    axis = np.linspace(-3.0, 3.0, 13)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    points = np.concatenate([noisy, grid])

    # Apart: jaxlib 0.10 can wait for ever when two decompositions of stacks of
    # matrices, here of covariances, meet in one program on a CPU of two cores.
    exact = jax.jit(theory.mixture_score), jax.jit(theory.mixture_posterior_mean)
    with jax.enable_x64(True):
        score, mean = (np.asarray(f(points, MIXTURE, noise=noise)) for f in exact)
        by_score = np.asarray(theory.tweedie(points, score, noise=noise))

    net = networks.mlp(features=(48, 48), out=2, batch_norm=False)

    def denoise(params, x):
        y, _ = net.apply(params, {}, x, train=True)
        return x + y

    def loss(params, rng):
        rng_part, rng_point = jax.random.split(rng)
        part = jax.random.randint(rng_part, (batch_size,), 0, 3)
        within, added = jax.random.normal(rng_point, (2, batch_size, 2))
        x = jnp.asarray(MIXTURE.means, jnp.float32)[part] + 0.4 * within
        return losses.squared_distance(x, denoise(params, x + noise * added))

    def train(rng, points):
        rng_start, rng_steps = jax.random.split(rng)
        params, _ = net.init(rng_start, points[:1])
        params, _ = training.minimise(
            loss, params, rng_steps, steps=steps, every=steps,
            optimizer=training.adam(3e-3, steps=steps),
        )  # fmt: skip
        return denoise(params, points)

    @jax.jit
    def trained(points):
        rngs = jax.random.split(jax.random.key(0), seeds)
        return jax.vmap(train, (0, None))(rngs, points)

    made = np.float64(jax.device_get(trained(np.float32(points))))
    with jax.enable_x64(True):
        x = np.tile(points, (seeds, 1, 1))
        learned = np.asarray(theory.denoiser_score(x, made, noise=taken_for))
    seen, true = learned[:, :4000], score[None, :4000]
    size = np.linalg.norm(true)
    error = np.sqrt(np.square(seen - true).sum((1, 2))) / size
    cosine = (seen * true).sum((1, 2)) / (np.sqrt(np.square(seen).sum((1, 2))) * size)
    return outcome.Outcome(
        checks=(
            outcome.at_most(
                "|E[x|x̃] − (x̃ + σ²∇log p_σ)|", np.abs(mean - by_score), 1e-10
            ),
            outcome.at_most("‖learned score − score‖ / ‖score‖", error, 0.10),
            outcome.at_least("cosine of learned score and score", cosine, 0.99),
        ),
        data={
            "grid": grid, "score": score[4000:], "learned": learned[0, 4000:],
            "true": true[0, :400], "seen": seen[0, :400], "noisy": noisy[:400],
        },
        said=(
            "Posterior mean and Tweedie's formula agree within "
            f"{np.abs(mean - by_score).max():.0e}. The score of {seeds} trained "
            f"denoisers is off by {error.min():.1%} to {error.max():.1%}, its cosine "
            f"at least {cosine.min():.4f}."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Arrows of both scores; one against the other."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.scatter(*d["noisy"].T, s=4, color=figures.FAINT, alpha=0.5, linewidth=0)
    options = {"angles": "xy", "scale_units": "xy", "scale": 8}
    for i, (name, width, alpha) in enumerate(
        (("score", 0.012, 0.5), ("learned", 0.004, 1.0))
    ):
        left.quiver(
            *d["grid"].T, *d[name].T, color=figures.COLOURS[i], width=width,
            alpha=alpha, **options,
        )  # fmt: skip
    left.set(aspect="equal", title="∇log p_σ (wide) and the learned (thin)")
    left.set(xlabel="x₁", ylabel="x₂")
    right.scatter(
        d["true"].ravel(), d["seen"].ravel(), s=7, color=figures.COLOURS[1], alpha=0.6,
        linewidth=0,
    )  # fmt: skip
    edge = [d["true"].min(), d["true"].max()]
    right.plot(edge, edge, color=figures.FAINT, linestyle=":")
    right.set(xlabel="component of ∇log p_σ", title="the same of (r(x̃) − x̃)/σ²")
