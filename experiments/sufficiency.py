"""A sufficient statistic is all that a likelihood ratio depends on, and all of it.

    p(x; θ) = g(T(x), θ) h(x):  T is sufficient        (Fisher 1922, Neyman 1935)
    p(x; θ) / p(y; θ) free of θ only where T(x) = T(y):  T is minimal
                                                       (Lehmann & Scheffé 1950)

Given T(x) a sample is drawn again, without θ: log p(x; θ) − log p(y; θ) must then be
one number for all θ, its spread over θ, max − min, 0. Where T(y) differs the spread is
that of η(θ)ᵀ(T(x) − T(y)), η the natural parameter. Families: N(μ, 1) with T = Σx;
N(μ, σ²) with T = (Σx, Σx²); Gamma(2, rate), with T = Σx.

In the figure the spread falls to 0 with the difference of the statistics. On the right
the ratio does not move with σ for a sample drawn again given T; for one drawn given the
mean alone it does: the mean does not suffice where the variance is unknown.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import theory

SECTION = "2.1-2.2"
TITLE = "Likelihood ratios depend on the sufficient statistic only"

MOVES = np.concatenate([[0.0], np.geomspace(1e-6, 1.0, 13)])
SIGMAS = np.geomspace(0.5, 3.0, 40)
NORMAL = "N(μ, σ²)"


class Case(NamedTuple):
    """A family, where it is compared, and its exponential form η(θ)ᵀT(x), in NumPy.

    Attributes:
      family: of the library.
      thetas: [K, P], the parameters compared.
      natural: η [K, S] of these.
      sums: samples [..., n] to T [..., S].
    """

    family: theory.Family
    thetas: np.ndarray
    natural: np.ndarray
    sums: Callable[[np.ndarray], np.ndarray]


def run(
    *, pairs: int = 50, n: int = 9, given: Literal["statistic", "mean"] = "statistic"
) -> outcome.Outcome:
    """Draws samples again given their statistic, and moves some away from it.

    Args:
      pairs: samples of each family.
      n: numbers in a sample.
      given: what a normal sample of unknown variance keeps when it is drawn again: its
        sufficient statistic, or the mean alone.
    """
    cases = _cases(given)
    rng = np.random.default_rng(0)
    samples = {name: rng.gamma(2.0, size=(pairs, n)) for name in cases}

    @jax.jit
    def compare(samples):
        rngs = jax.random.split(jax.random.key(0), pairs)

        def moved(case, x, rng):
            y = (1 + MOVES[:, None]) * case.family.conditional(rng, x)[None]
            spread = jax.vmap(
                lambda y: theory.likelihood_ratio_spread(
                    case.family, x, y, thetas=case.thetas
                )
            )(y)
            return y, spread

        found = {
            name: jax.vmap(lambda x, rng, case=case: moved(case, x, rng))(
                samples[name], rngs
            )
            for name, case in cases.items()
        }
        x = samples[NORMAL][0]
        wider = theory.gaussian_mean().conditional(rngs[1], x)
        three = jnp.stack([x, found[NORMAL][0][0, 0], wider])
        thetas = jnp.stack([jnp.full(len(SIGMAS), x.mean()), SIGMAS], axis=1)
        density = theory.gaussian().log_density
        logs = jax.vmap(lambda x: jax.vmap(lambda t: density(t, x))(thetas))(three)
        return found, logs[:1] - logs[1:]

    with jax.enable_x64(True):
        found, ratios = jax.device_get(compare(samples))

    checks, curves = [], {}
    for name, case in cases.items():
        y, spread = found[name]
        gap = case.sums(samples[name])[:, None] - case.sums(y)
        size = np.linalg.norm(gap, axis=2)
        expected = np.ptp(gap @ case.natural.T, axis=2)
        checks += [
            outcome.at_most(f"{name}: spread given T", spread[:, 0], 1e-10, unit="nat"),
            outcome.at_least(
                f"{name}: spread / |T(x) − T(y)| elsewhere",
                spread[:, 1:] / size[:, 1:],
                0.05,
            ),
            outcome.at_most(
                f"{name}: |spread − that of ηᵀ(T(x) − T(y))|",
                np.abs(spread - expected),
                1e-10,
                unit="nat",
            ),
        ]
        curves[name] = np.median(size, 0)[1:], np.median(spread, 0)[1:]
    given_t = max(spread[:, 0].max() for _, spread in found.values())
    mean_alone = np.ptp(ratios[1])
    return outcome.Outcome(
        checks=tuple(checks),
        data={"curves": curves, "ratios": ratios - ratios.mean(1, keepdims=True)},
        said=(
            f"Given T the log ratio varies with θ by at most {given_t:.0e} nat, in "
            f"{pairs} samples of each of {len(cases)} families; elsewhere in "
            "proportion to T(x) − T(y). Given the mean alone, of a normal sample of "
            f"unknown variance, it varies by {mean_alone:.1f} nat."
        ),
    )


def _cases(given: str) -> dict[str, Case]:
    def total(x):
        return x.sum(-1, keepdims=True)

    def totals(x):
        return np.stack([x.sum(-1), np.square(x).sum(-1)], axis=-1)

    means, rates = (
        np.linspace(-2.0, 2.0, 9)[:, None],
        np.geomspace(0.2, 5.0, 9)[:, None],
    )
    both = np.stack(np.meshgrid([-1.0, 0.0, 2.0], [0.5, 1.0, 3.0]), -1).reshape(-1, 2)
    mean, sigma = both[:, :1], both[:, 1:]
    normal = theory.gaussian()
    if given == "mean":
        normal = normal._replace(conditional=theory.gaussian_mean().conditional)
    return {
        "N(μ, 1)": Case(theory.gaussian_mean(), means, means, total),
        NORMAL: Case(
            normal,
            both,
            np.concatenate([mean / sigma**2, -0.5 / sigma**2], axis=1),
            totals,
        ),
        "Gamma(2, rate)": Case(theory.gamma(), rates, -rates, total),
    }


def draw(figure, found: outcome.Outcome) -> None:
    """Spread against the difference of statistics; ratios against σ."""
    left, right = figure.subplots(1, 2)
    d = found.data
    for i, (name, (size, spread)) in enumerate(d["curves"].items()):
        left.plot(size, spread, "o-", color=figures.COLOURS[i], label=name)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="|T(x) − T(y)|",
        ylabel="nat",
        title="spread of log p(x;θ)/p(y;θ) over θ",
    )
    left.legend()
    for ratio, colour, label in zip(
        d["ratios"], figures.COLOURS, ("given T", "given the mean"), strict=False
    ):
        right.plot(SIGMAS, ratio, color=colour, label=f"drawn again {label}")
    right.set(xlabel="σ", ylabel="nat", title="log p(x;θ)/p(y;θ) of N(μ, σ²)")
    right.legend()
