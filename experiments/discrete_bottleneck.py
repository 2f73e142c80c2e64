"""The information bottleneck trades the rate of a code against what it tells of Y.

    min over p(t|x) of I(X;T) − β I(T;Y),    T − X − Y

(Tishby, Pereira & Bialek 1999) is solved by its self-consistent equations. The curve of
(I(X;T), I(T;Y)) is concave, has slope 1/β at the solution of β, and ends at I(X;Y).
Two laws have it in closed form: Gaussian pairs, here cut into 32 × 32 cells, and a fair
bit seen through a channel that flips it with probability ε, where the best code is
another such channel (Wyner & Ziv 1973): I(T;Y) = log 2 − h(δ(1 − ε) + (1 − δ)ε) at
I(X;T) = log 2 − h(δ), h the entropy of a coin.

Dots are solutions at several β, the lines closed forms: below the critical β nothing is
kept. A start whose rows are all equal (`start="uniform"`) is a fixed point of rate 0.
"""

from typing import Literal

import jax
import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import theory

SECTION = "7.1"
TITLE = "The information bottleneck of finite distributions"

SLOPES = (0.9, 0.7, 0.55, 0.5, 0.4, 0.3, 0.2, 0.1)
BIT_SLOPES = (0.62, 0.6, 0.57, 0.53, 0.45, 0.3, 0.1)


def run(
    *,
    rho: float = 0.8,
    flip: float = 0.1,
    cells: int = 32,
    iterations: int = 3000,
    start: Literal["own", "uniform"] = "own",
) -> outcome.Outcome:
    """Solves both bottlenecks at several β in float64.

    Args:
      rho: correlation of the Gaussian pair.
      flip: ε of the channel, in (0, ½).
      cells: of each axis, from −4 to 4.
      iterations: of the equations.
      start: "own", nine tenths of each cell to a code of its own; "uniform", all alike.
    """
    table = theory.gaussian_cells(rho, cells=cells)
    bits = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
    with jax.enable_x64():
        found, found_bits = (
            theory.discrete_curve(
                joint,
                betas=1 / np.array(slopes),
                iterations=iterations,
                start=None if start == "own" else np.ones((len(joint), len(joint))),
            )
            for joint, slopes in ((table, SLOPES), (bits, BIT_SLOPES))
        )
        all_of_it = float(theory.mutual_information(table))
        beta = 1 / np.array(SLOPES)
        rate, relevance, bit_rate, bit_relevance = (
            np.asarray(v)
            for v in (
                found.rate,
                found.relevance,
                found_bits.rate,
                found_bits.relevance,
            )
        )
        exact_rate = np.asarray(theory.scalar_rate(beta, rho=rho))
        on_curve = np.asarray(theory.scalar_relevance(rate, rho=rho))
        fine = np.linspace(0, 2, 100)
        curve = np.asarray(theory.scalar_relevance(fine, rho=rho))
    kept = np.array(SLOPES) < rho**2
    bit_curve = theory.binary_relevance(bit_rate, flip=flip)
    bit_exact = theory.binary_rate(1 / np.array(BIT_SLOPES), flip=flip)
    bit_miss = np.stack([bit_rate - bit_exact, bit_relevance - bit_curve])
    # The chords between neighbouring solutions: their slope lies between 1/β of both.
    order = np.argsort(rate[kept])
    with np.errstate(invalid="ignore"):
        chord = np.diff(relevance[kept][order]) / np.diff(rate[kept][order])
    ends = np.array(SLOPES)[kept][order]
    inside = np.minimum(ends[:-1] - chord, chord - ends[1:])
    return outcome.Outcome(
        checks=(
            outcome.at_most(
                "|I(X;T) − Gaussian closed form|",
                np.abs(rate - exact_rate),
                2e-3,
                unit="nat",
            ),
            outcome.at_most(
                "|I(T;Y) − Gaussian curve at the rate found|",
                np.abs(relevance - on_curve),
                1e-3,
                unit="nat",
            ),
            outcome.at_most("I(X;T) where 1/β ≥ ρ²", rate[~kept], 1e-6, unit="nat"),
            outcome.at_most(
                "I(T;Y) − I(X;Y) of the cells", relevance - all_of_it, 0.0, unit="nat"
            ),
            outcome.at_least("chord of the curve inside its 1/β", inside, 0.0),
            outcome.at_most(
                "a bit's information − closed form",
                np.abs(bit_miss),
                1e-8,
                unit="nat",
            ),
        ),
        data={
            "rate": rate,
            "relevance": relevance,
            "curve": (fine, curve),
            "ceiling": -0.5 * np.log1p(-(rho**2)),
            "bit": (bit_rate, bit_relevance),
            "flip": flip,
            "rho": rho,
        },
        said=(
            f"At {len(SLOPES)} values of β the rate is within "
            f"{np.abs(rate - exact_rate).max():.4f} nat of the Gaussian closed form "
            f"and I(T;Y) within {np.abs(relevance - on_curve).max():.4f}; the bit's "
            f"are exact to {np.abs(bit_miss).max():.0e}."
        ),
    )


def draw(figure, found: outcome.Outcome) -> None:
    """Both information curves, with the solutions on them."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.plot(*d["curve"], color=figures.FAINT)
    left.axhline(d["ceiling"], color=figures.FAINT, linestyle=":")
    left.annotate("I(X;Y)", (0, d["ceiling"]), (0, -12), textcoords="offset points")
    left.plot(d["rate"], d["relevance"], "o", color=figures.COLOURS[0])
    left.set(title=f"Gaussian pair in cells, ρ = {d['rho']:g}", xlim=(-0.05, 2))
    fine = np.linspace(0, np.log(2), 200)
    right.plot(fine, theory.binary_relevance(fine, flip=d["flip"]), color=figures.FAINT)
    least = np.log(2) - theory.coin_entropy(d["flip"])
    right.axhline(least, color=figures.FAINT, linestyle=":")
    right.plot(*d["bit"], "o", color=figures.COLOURS[1])
    right.set(title=f"bit, flipped with probability {d['flip']:g}")
    for axes in (left, right):
        axes.set(xlabel="rate I(X;T), nat", ylabel="I(T;Y), nat")
