"""An observed segment makes nonlinear ICA possible: iVAE finds what a VAE cannot.

x = g(s), independent sources whose variances change with an observed segment u. With a
prior p(z|u) = N(μ_u, σ_u²) the sources are identifiable up to order, scale and sign
(Khemakhem et al. 2020, arXiv:1907.04809, theorem 1); with N(0, I) any rotation of z is
as good. Scored by MCC, the mean correlation of each source with a code of its own.

The objective has local optima, for both. Of some restarts the one of least −ELBO is
kept, never the one of best MCC, which needs the truth.

In the figure on the left each point is a restart, a ring those kept: for iVAE a better
bound goes with a better MCC, for the VAE it tells nothing. On the right correlations of
sources and codes: a permutation, and a mixture.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import linear_sum_assignment

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, evaluate, methods, networks
from rl_jax.types import Method

SECTION = "10.2"
TITLE = "With an auxiliary variable sources are found again"


def run(
    *,
    seeds: int = 2,
    restarts: int = 4,
    steps: int = 1500,
    batch_size: int = 128,
    width: int = 48,
    shuffled: bool = False,
) -> outcome.Outcome:
    """Trains both on the same mixtures, all seeds and restarts together.

    Args:
      seeds: mixtures, each of four sources in 30 segments of 500 examples.
      restarts: of each; single ones scatter widely.
      steps: of Adam.
      batch_size: examples in a step.
      width: of the hidden layers.
      shuffled: whether the segments are dealt out at random, so that they say nothing.
    """
    sources = [data.ica(seed=seed) for seed in range(seeds)]
    factors = np.stack([s.fields["factors"] for s in sources])
    count, observed = np.stack([s.fields["image"] for s in sources]).shape[1:]
    u = np.stack([s.fields["u"] for s in sources])
    if shuffled:
        u = np.random.default_rng(0).permuted(u, axis=1)
    examples = {
        "image": jnp.asarray(np.stack([s.fields["image"] for s in sources])),
        "u": jnp.asarray(u),
        "index": jnp.tile(jnp.arange(count, dtype=jnp.int32), (seeds, 1)),
    }
    latent, sizes = factors.shape[2], (width, width)
    options = {"activation": "silu", "batch_norm": False}
    encoder = networks.mlp(features=sizes, out=width, **options)
    decoder = networks.mlp(features=sizes, out=observed, **options)
    both = {
        "iVAE": methods.ivae(
            encoder, decoder, num_segments=int(u.max()) + 1, latent=latent
        ),
        "VAE": methods.vae(encoder, decoder, latent=latent, variance=0.01),
    }
    order = np.random.default_rng(1).integers(count, size=(steps, batch_size))
    rngs = jax.random.split(jax.random.key(0), (seeds, restarts))
    bounds, mcc, kept = {}, {}, {}
    for name, method in both.items():
        found = _train(method, jnp.asarray(order), rngs, examples)
        bounds[name], codes = (np.asarray(v, np.float64) for v in found)
        mcc[name] = np.array([
            [evaluate.mean_correlation(z, s) for z in row]
            for row, s in zip(codes, factors, strict=True)
        ])  # fmt: skip
        best = bounds[name].argmin(1)
        kept[name] = codes[np.arange(seeds), best]
    chosen = {
        name: np.take_along_axis(m, bounds[name].argmin(1)[:, None], 1)[:, 0]
        for name, m in mcc.items()
    }
    return outcome.Outcome(
        checks=(
            outcome.at_least("MCC of iVAE, each seed", chosen["iVAE"], 0.9),
            outcome.at_least(
                "MCC of iVAE − of VAE, each seed", chosen["iVAE"] - chosen["VAE"], 0.1
            ),
        ),
        data={
            "bounds": bounds,
            "mcc": mcc,
            "tables": {n: _table(z[0], factors[0]) for n, z in kept.items()},
        },
        said=(
            f"Of {restarts} restarts the one of least −ELBO has MCC "
            f"{_list(chosen['iVAE'])} with iVAE and {_list(chosen['VAE'])} with a VAE "
            f"({seeds} mixtures of {latent} sources). Single iVAEs scatter from "
            f"{mcc['iVAE'].min():.2f} to {mcc['iVAE'].max():.2f}."
        ),
        correction=(
            "Identifiable is the model, not each fit of it: of these single iVAEs the "
            f"worst has MCC {mcc['iVAE'].min():.2f}. Restarts, chosen by −ELBO, do it."
        ),
    )


def _train(method: Method, order, rngs, examples):
    """−ELBO and codes of all examples, for each seed and restart."""
    optimizer = training.adam(5e-3, steps=len(order))

    def one(rng, examples):
        params, state = method.init(rng, jax.tree.map(lambda x: x[:4], examples))

        def step(carry, now):
            index, rng = now
            params, state, opt_state = carry
            batch = jax.tree.map(lambda x: x[index], examples)
            grads, aux = jax.grad(method.loss, has_aux=True)(params, state, batch, rng)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), aux.state, opt_state), None

        carry = params, state, optimizer.init(params)
        noise = jax.random.split(jax.random.key(1), len(order))
        (params, state, _), _ = jax.lax.scan(step, carry, (order, noise))
        bound, _ = method.loss(params, state, examples, rng)
        return bound, method.encode(params, state, examples)["z"]

    of_restarts = jax.vmap(one, in_axes=(0, None))
    return jax.jit(jax.vmap(of_restarts))(rngs, examples)


def _table(z, s):
    """|Correlations| of sources and codes, the codes in the order of the sources."""
    table = np.abs(np.corrcoef(s.T, z.T)[: s.shape[1], s.shape[1] :])
    return table[:, linear_sum_assignment(table, maximize=True)[1]]


def _list(values):
    return ", ".join(f"{v:.3f}" for v in values)


def draw(figure, found: outcome.Outcome) -> None:
    """MCC against −ELBO of the restarts; correlations of one kept of either."""
    left, *tables = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    d = found.data
    for name, colour in zip(d["mcc"], figures.COLOURS, strict=False):
        bound, mcc = d["bounds"][name], d["mcc"][name]
        left.plot(bound.ravel(), mcc.ravel(), "o", color=colour, label=name)
        best = np.arange(len(bound)), bound.argmin(1)
        ring = {"markersize": 10, "markerfacecolor": "none"}
        left.plot(bound[best], mcc[best], "o", color=colour, **ring)
    left.axhline(0.9, color=figures.FAINT, linestyle=":")
    left.set(xlabel="−ELBO [nat], better to the left", ylabel="MCC", ylim=(0.5, 1.02))
    left.set(title="restarts, those kept ringed")
    left.legend(loc="center right")
    for axes, (name, table), colour in zip(
        tables, d["tables"].items(), figures.COLOURS, strict=False
    ):
        figures.table(axes, table, colour)
        place = np.arange(len(table))
        axes.set_xticks(place + 0.5, place + 1)
        axes.set_yticks(place + 0.5, place + 1)
        axes.set(xlabel="code", ylabel="source", title=f"|correlation|, {name}")
