"""Two unbiased gradients of the same expectation; one is far noisier.

For E_q log p(x|z), q = N(μ, σ²) with parameters φ,

    score function:  log p(x|z) ∇_φ log q(z|x)                   (Williams 1992)
    reparametrised:  ∇_φ log p(x|z),  z = μ + σε,  ε ~ N(0, I)   (Kingma & Welling 2014)

The divergence is exact in both. A VAE of digits, at random and after some training:
many draws of both gradients by all parameters of the encoder. Means must agree, each
coordinate in units of its standard error; the total variances differ by
more than an order of magnitude.

In the figure differences of means, in standard errors, are those of noise; on the right
the variance of each coordinate, where the score function is above the diagonal.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, methods, networks

SECTION = "4.4"
TITLE = "Reparametrised and score-function gradients"

ESTIMATORS = ("reparametrised", "score_function")


def run(
    *, latent: int = 8, draws: int = 1000, examples: int = 32, steps: int = 300
) -> outcome.Outcome:
    """Draws gradients of the loss of a VAE, before and after training.

    Args:
      latent: d; with 2 the ratio falls short of 10 at random parameters.
      draws: gradients by each estimator, rounded up to a multiple of 50.
      examples: digits in the batch of a gradient.
      steps: of Adam between the two places.
    """
    chunks = -(-draws // 50)
    draws = 50 * chunks
    images = data.digits().images.astype(np.float32) / 255
    net = networks.mlp(features=(64,), out=64, batch_norm=False)
    vaes = [
        methods.vae(net, net, latent=latent, variance=0.1, estimator=name)
        for name in ESTIMATORS
    ]

    def batch(images, rows):
        return {"image": images[rows], "index": rows}

    def places(images):
        """Parameters at random and trained, stacked, and the state."""
        vae, rng = vaes[0], jax.random.key(0)
        params, state = vae.init(rng, batch(images, jnp.arange(2)))

        def loss(params, rng):
            rows = jax.random.randint(rng, (128,), 0, len(images))
            return vae.loss(params, state, batch(images, rows), rng)[0]

        trained, _ = training.minimise(
            loss, params, rng, steps=steps, every=steps,
            optimizer=training.adam(2e-3, steps=steps),
        )  # fmt: skip
        return jax.tree.map(lambda *p: jnp.stack(p), params, trained), state

    def moments(vae, params, state, fixed):
        """Mean and variance over draws of the gradient by all of the encoder."""

        def gradient(rng):
            grads = jax.grad(lambda p: vae.loss(p, state, fixed, rng)[0])(params)
            return ravel_pytree((grads["encoder"], grads["code"]))[0]

        def add(total, rngs):
            g = jax.vmap(gradient)(rngs)
            return total + jnp.stack([g.sum(0), jnp.square(g).sum(0)]), None

        rngs = jax.random.split(jax.random.key(1), (chunks, 50))
        size = jax.eval_shape(gradient, rngs[0, 0]).shape
        total, _ = jax.lax.scan(add, jnp.zeros((2, *size)), rngs)
        return total

    @jax.jit
    def compare(images):
        params, state = places(images)
        fixed = batch(images, jnp.arange(examples))
        return [
            jax.vmap(lambda p, vae=vae: moments(vae, p, state, fixed))(params)
            for vae in vaes
        ]

    totals = np.stack([np.float64(t) for t in jax.device_get(compare(images))]) / draws
    mean = totals[:, :, 0]
    variance = np.maximum(totals[:, :, 1] - mean**2, 0)
    # Pixels that are blank in all examples give coordinates without any gradient.
    apart = [
        (b - a)[v > 0] / np.sqrt(v[v > 0] / draws)
        for a, b, v in zip(*mean, variance.sum(0), strict=True)
    ]
    beyond = [np.mean(np.abs(z) > 3) for z in apart]
    ratio = variance[1].sum(1) / variance[0].sum(1)
    return outcome.Outcome(
        checks=(
            outcome.at_most("share of means more than 3 s.e. apart", beyond, 0.02),
            outcome.at_least("least variance ratio, score to other", ratio, 10),
            outcome.at_most("largest variance ratio, score to other", ratio, 3000),
        ),
        data={"apart": apart, "variance": variance[:, 1]},
        said=(
            f"Of {len(apart[0]):,} coordinates {beyond[0]:.1%} have means more than 3 "
            f"s.e. apart at random parameters, {beyond[1]:.1%} after {steps} steps "
            f"(0.3% by chance). The score function has {ratio[0]:.0f} and "
            f"{ratio[1]:.0f} times the variance."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Differences of means in their standard errors; variances."""
    left, right = figure.subplots(1, 2)
    bins = np.linspace(-5, 5, 41)
    for i, name in enumerate(("at random", "trained")):
        left.hist(
            found.data["apart"][i], bins, density=True, histtype="step", linewidth=1.7,
            color=figures.COLOURS[i], label=name,
        )  # fmt: skip
    normal = np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi)
    left.plot(bins, normal, color=figures.FAINT, linestyle=":", label="N(0, 1)")
    left.set(xlabel="standard errors", title="difference of the means, by coordinate")
    left.legend()
    few = found.data["variance"][:, ::11]
    few = few[:, few.min(0) > 0]
    right.scatter(*few, s=7, color=figures.COLOURS[1], alpha=0.6, linewidth=0)
    edge = [few.min(), few.max()]
    right.plot(edge, edge, color=figures.FAINT, linestyle=":")
    right.set(
        xscale="log",
        yscale="log",
        xlabel="reparametrised",
        ylabel="score function",
        title="variance of each coordinate, trained",
    )
