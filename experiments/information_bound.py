"""InfoNCE bounds mutual information from below, and never certifies more than log K.

For pairs (x, y) and K candidates, of which one is the pair's own,

    I_NCE(K) = E[f(x, y) − log 1/K Σ_j e^{f(x, y_j)}] ≤ min(I(X;Y), log K)

for every critic f (van den Oord et al. 2018; Poole et al. 2019). The best critic is the
log density ratio, with it I_NCE → I as K → ∞. Every sample is below log K, as the
pair's own y stands in the sum, but only the expectation is below I: a sample lies above
it about every other time once K is large, hence the standard errors. With f = log p(x,
y)/p(x)p(y) of Gaussian pairs E f = I is known, and I − E log mean e^f has a ten to a
hundred times smaller error than log K − loss.

Left: one pair of scalars reaches I with few candidates, five strongly correlated pairs
(I = 9.8 nat) climb along the ceiling log K. Right: trained critics, measured on fresh
pairs, stay below the curve −½ log(1 − ρ²); measured on the pairs they were trained on
(`pairs=128`), they do not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import losses, networks, theory

SECTION = "5.3"
TITLE = "InfoNCE is a lower bound on mutual information, below log K"

COUNTS = (2, 16, 256, 4096, 65536)


def run(
    *,
    seeds: int = 2,
    correlations: tuple[float, ...] = (0.5, 0.9, 0.99),
    steps: int = 1000,
    batch: int = 128,
    pairs: int = 0,
) -> outcome.Outcome:
    """Estimates the bound of the best critic at several K, and trains critics.

    Args:
      seeds: trained critics of each correlation.
      correlations: ρ of single pairs of scalars; the last also of five pairs at once.
      steps: of Adam on InfoNCE.
      batch: K of the trained critics.
      pairs: train on so many pairs only and measure on them; 0: fresh pairs always.
    """
    several = np.full(5, correlations[-1])
    laws = [np.array([rho]) for rho in correlations] + [several]
    truth = np.array([-0.5 * np.log1p(-(rho**2)).sum() for rho in laws])
    counts = np.array(COUNTS)
    best, error, excess = np.empty((3, len(laws), len(counts)))
    for i, rho in enumerate(laws):
        for j, k in enumerate(COUNTS):
            found = theory.info_nce_bound(
                jax.random.key(100 * i + j),
                rho=rho,
                num_candidates=k,
                # Five times the work for each value, and no need of precision there.
                num_queries=64 // len(rho),
                repeats=64 if k < 4096 else 16,
            )
            plain = found.plain_error < found.exact_error
            best[i, j] = found.plain if plain else found.exact
            error[i, j] = found.plain_error if plain else found.exact_error
            excess[i, j] = found.plain - np.log(k)

    over = np.mean(_samples(correlations, COUNTS[-1]) > truth[:-1, None], axis=1)
    trained, trained_error = _critics(correlations, seeds, steps, batch, pairs)
    single = truth[:-1]
    above = (best - truth[:, None]) / error
    gap = np.abs(best[:-1, -1] - single)
    share = trained / single[:, None]
    surely = (trained - 3 * trained_error) / single[:, None]
    return outcome.Outcome(
        checks=(
            outcome.at_most("(bound − I) / s.e.", above, 3.0),
            outcome.at_most(
                "log K − loss, above log K (≤ 0 by construction)",
                excess,
                1e-4,
                unit="nat",
            ),
            outcome.equal(
                f"share of samples above I at K = {counts[-1]:,}",
                over,
                0.5,
                tolerance=0.25,
            ),
            outcome.at_most(
                f"|I − bound| of one pair at K = {counts[-1]:,}",
                gap,
                2e-3,
                unit="nat",
            ),
            outcome.at_least(
                "bound / log K of five pairs at K ≤ 16",
                best[-1, :2] / np.log(counts[:2]),
                0.99,
            ),
            outcome.at_most("trained critic: (bound − 3 s.e.) / I", surely, 1.0),
            outcome.at_least("trained critic: bound / I", share, 0.9),
        ),
        data={
            "count": counts,
            "bound": best,
            "information": truth,
            "rho": np.array(correlations),
            "trained": trained,
        },
        said=(
            f"At K = {counts[-1]:,} the bound is within {gap.max():.4f} nat of I for "
            f"one pair; for five pairs, I = {truth[-1]:.2f}, it is {best[-1, 1]:.2f} "
            f"of log 16 = {np.log(16):.2f} and {best[-1, -1]:.2f} of log "
            f"{counts[-1]:,} = {np.log(counts[-1]):.2f}. Trained critics reach "
            f"{100 * share.min():.0f} to {100 * share.max():.0f} % of I."
        ),
        correction=(
            "The bound is one of expectations: of single samples of one pair at "
            f"K = {counts[-1]:,}, {over.min():.0%} to {over.max():.0%} have "
            "log K − loss > I. What holds is that means exceed I by no more than their "
            f"errors explain: of {above.size} means the largest (mean − I)/s.e. is "
            f"{above.max():.2f}; up to 3 may be chance."
        ),
    )


def _samples(correlations, count, *, samples=64, queries=16):
    """[R, samples], log K − loss of the best critic for one pair, sample by sample."""

    def one(rho, rng):
        rng_y, rng_x = jax.random.split(rng)
        y = jax.random.normal(rng_y, (count, 1))
        noise = jax.random.normal(rng_x, (queries, 1))
        x = rho * y[:queries] + jnp.sqrt(1 - rho**2) * noise
        own = theory.log_density_ratio(x, y[:queries], rho=rho)
        return jnp.mean(own - theory.log_mean_ratio(x, y, rho=rho))

    @jax.jit
    def every(rhos):
        rngs = jax.random.split(jax.random.key(1), samples)
        return lax.map(lambda rho: lax.map(lambda rng: one(rho, rng), rngs), rhos)

    return np.asarray(every(jnp.array(correlations)))


def _critics(correlations, seeds, steps, batch, pairs):
    """[R, S] bounds of trained critics ⟨u(x), v(y)⟩/τ, and their standard errors."""
    network = networks.mlp(
        features=(64, 64), out=16, activation="silu", batch_norm=False
    )

    def draw(rng, rho, count):
        x, noise = jax.random.normal(rng, (2, count, 1))
        return x, rho * x + jnp.sqrt(1 - rho**2) * noise

    def loss(params, x, y):
        u, _ = network.apply(params["x"], {}, x, train=True)
        v, _ = network.apply(params["y"], {}, y, train=True)
        return losses.info_nce(u, v, temperature=0.1)

    def train(rng, rho):
        rngs = jax.random.split(rng, 4)
        fixed = draw(rngs[3], rho, pairs or batch)

        def sample(rng):
            if not pairs:
                return draw(rng, rho, batch)
            chosen = jax.random.permutation(rng, pairs)[:batch]
            return tuple(side[chosen] for side in fixed)

        params = {
            name: network.init(rng, fixed[0])[0]
            for name, rng in zip("xy", rngs[:2], strict=True)
        }
        params, _ = training.minimise(
            lambda params, rng: loss(params, *sample(rng)),
            params,
            rngs[2],
            steps=steps,
            optimizer=training.adam(3e-3, steps=steps),
            every=steps,
        )
        # Other draws than those of training, which were folded from the same key.
        test = jax.random.split(jax.random.fold_in(rngs[2], steps), 128)
        return np.log(batch) - jax.vmap(lambda r: loss(params, *sample(r)))(test)

    rngs = jax.random.split(jax.random.key(0), seeds)
    every_seed = jax.vmap(train, in_axes=(0, None))
    estimates = jax.jit(jax.vmap(every_seed, in_axes=(None, 0)))(
        rngs, jnp.array(correlations)
    )
    estimates = np.asarray(estimates, np.float64)
    deviation = estimates.std(axis=-1, ddof=1)
    return estimates.mean(axis=-1), deviation / estimates.shape[-1] ** 0.5


def draw(figure, found: outcome.Outcome) -> None:
    """The bound against K beside its two limits; trained critics against ρ."""
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    d = found.data
    left.plot(d["count"], np.log(d["count"]), color=figures.FAINT, linestyle="--")
    left.annotate("log K", (3000, np.log(3000)), (-10, 4), ha="right",
                  textcoords="offset points")  # fmt: skip
    names = [f"ρ = {rho:g}" for rho in d["rho"]] + [f"5 pairs, ρ = {d['rho'][-1]:g}"]
    for k, (name, bound, limit) in enumerate(
        zip(names, d["bound"], d["information"], strict=True)
    ):
        colour = figures.COLOURS[k]
        left.axhline(limit, color=colour, linestyle=":", linewidth=1.2)
        left.plot(d["count"], bound, "o-", color=colour, label=name)
    left.set(xscale="log", xlabel="candidates K", ylabel="nat",
             title="bound of the best critic (dotted: I)")  # fmt: skip
    left.legend(loc="center left", bbox_to_anchor=(0, 0.62))
    rho = np.linspace(0.3, 0.995, 200)
    right.plot(rho, -0.5 * np.log1p(-(rho**2)), color=figures.FAINT, linestyle="--")
    right.annotate("I = −½ log(1 − ρ²)", (0.87, 1.2), ha="right",
                   color=figures.FAINT)  # fmt: skip
    for k, (at, values) in enumerate(zip(d["rho"], d["trained"], strict=True)):
        right.plot([at] * len(values), values, "o", color=figures.COLOURS[k])
    right.set(xlabel="correlation ρ", ylabel="nat", ylim=(0, None),
              title="bound of trained critics")  # fmt: skip
