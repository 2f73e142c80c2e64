"""β trades rate for distortion along one curve, whose slope it is, until z collapses.

    distortion + β·rate = E‖x − g(z)‖²/2v + β E KL(q(z|x) ‖ N(0, I))

(Higgins et al. 2017; Alemi et al. 2018). More β means less rate and more distortion;
β = 1 is the evidence bound. At an optimum the curve D(R) has slope −β, so that between
two points it lies between their β. A large β costs more than any bit is worth: the rate
and with it the number of active units go to 0 (posterior collapse).

In the figure each β has a point for each seed; short lines have the slope −β that the
curve must have there. On the right the rate against β, with the units that are active.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, methods, networks

SECTION = "4.5"
TITLE = "The rate-distortion curve of the β-VAE, and its collapse"

BETAS = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0], np.float32)
FEW = 5  # the first of them, up to 10, where a rate is left


def run(
    *, seeds: int = 2, latent: int = 8, variance: float = 0.05, steps: int = 600
) -> outcome.Outcome:
    """Trains a VAE of the digits for each β, all from the same starts.

    Args:
      seeds: random starts, trained together, as all β are.
      latent: dimensions of z.
      variance: v of the Gaussian decoder.
      steps: of Adam.
    """
    images = data.digits().images.astype(np.float32) / 255
    count, net = len(images), networks.mlp(features=(64,), out=64, batch_norm=False)

    def train(beta, rng, images):
        vae = methods.vae(net, net, latent=latent, variance=variance, beta=beta)
        rng_start, rng_steps, rng_end = jax.random.split(rng, 3)
        everything = {"image": images, "index": jnp.arange(count)}
        params, state = vae.init(rng_start, everything)

        def loss(params, rng):
            rows = jax.random.randint(rng, (64,), 0, count)
            batch = {"image": images[rows], "index": rows}
            return vae.loss(params, state, batch, rng)[0]

        params, _ = training.minimise(
            loss, params, rng_steps, steps=steps, every=steps,
            optimizer=training.adam(4e-3, steps=steps),
        )  # fmt: skip
        return vae.loss(params, state, everything, rng_end)[1].metrics

    @jax.jit
    def sweep(betas, images):
        rngs = jax.random.split(jax.random.key(0), seeds)
        each = jax.vmap(train, (0, None, None))
        return jax.vmap(each, (None, 0, None))(betas, rngs, images)

    found = jax.device_get(sweep(BETAS, images))
    rate, active = np.float64(found["rate"]), found["active_units"]
    # −log p(x|z) without the constant, which is not a cost of the code.
    constant = 0.5 * images[0].size * np.log(2 * np.pi * variance)
    distortion = np.float64(found["distortion"]) - constant
    rise = np.diff(distortion[:, :FEW], axis=1)
    fall = -np.diff(rate[:, :FEW], axis=1)
    slope = np.divide(rise, fall, out=np.full(rise.shape, np.nan), where=fall != 0)
    best = BETAS[np.argmax(found["elbo"], axis=1)]
    return outcome.Outcome(
        checks=(
            outcome.at_least(
                "fall of the rate to the next β ≤ 10", fall, 1.0, unit="nat"
            ),
            outcome.at_least(
                "rise of the distortion to the next β ≤ 10", rise, 0.1, unit="nat"
            ),
            outcome.at_least("−ΔD/ΔR / the lower β", slope / BETAS[: FEW - 1], 1.0),
            outcome.at_most("−ΔD/ΔR / the higher β", slope / BETAS[1:FEW], 1.0),
            outcome.at_most("rate at β ≥ 30", rate[:, FEW:], 0.05, unit="nat"),
            outcome.at_most("active units at β ≥ 30", active[:, FEW:], 0),
            outcome.equal("β of the largest ELBO", best, 1.0, tolerance=0.0),
        ),
        data={"rate": rate, "distortion": distortion, "active": active.mean(0)},
        said=(
            f"From β = 0.1 to 10 the rate falls from {rate[:, 0].mean():.1f} to "
            f"{rate[:, FEW - 1].mean():.2f} nat, the distortion rises from "
            f"{distortion[:, 0].mean():.1f} to {distortion[:, FEW - 1].mean():.1f}; "
            f"at β ≥ 30 the rate is at most {rate[:, FEW:].max():.3f} nat and "
            f"{int(active[:, FEW:].max())} of {latent} units are active."
        ),
    )  # fmt: skip


def draw(figure, found: outcome.Outcome) -> None:
    """Distortion against rate; rate against β."""
    left, right = figure.subplots(1, 2)
    rate, distortion = found.data["rate"], found.data["distortion"]
    for r, d in zip(rate, distortion, strict=True):
        left.plot(r, d, "o-", color=figures.COLOURS[0], linewidth=1, alpha=0.7)
    for i in range(FEW):
        r, d = rate[:, i].mean(), distortion[:, i].mean()
        wide = 5 / np.hypot(1, BETAS[i])
        at = r + np.array([-wide, wide])
        left.plot(at, d - BETAS[i] * (at - r), color=figures.COLOURS[1])
        left.annotate(
            f"β = {BETAS[i]:g}", (r, d), (6, 6), textcoords="offset points", fontsize=9
        )
    left.set(
        xlabel="rate in nat", ylabel="distortion in nat", title="slopes −β in orange"
    )
    right.plot(BETAS, rate.T, "o-", color=figures.COLOURS[0], linewidth=1, alpha=0.7)
    for beta, units, top in zip(BETAS, found.data["active"], rate.max(0), strict=True):
        right.annotate(
            f"{units:.0f}", (beta, top), (0, 6), textcoords="offset points",
            ha="center", fontsize=9,
        )  # fmt: skip
    right.margins(y=0.12)
    right.set(
        xscale="log", xlabel="β", ylabel="rate in nat", title="rate and active units"
    )
