"""In many dimensions some points are everyone's neighbour, until rows have one length.

N_k(x) counts how often x is among the k nearest of another point. Its mean is k; its
skewness E(N − k)³/(E(N − k)²)^{3/2} is near 0 in a plane and grows with the dimension
(Radovanović, Nanopoulos & Ivanović 2010): distances concentrate, and points nearer to
the mean of the data are nearer to all others. Rows of one length are all as far from
the mean, if that is the origin; if it is not, those of the direction of the mean are
hubs still, and it must be taken away first (Suzuki et al. 2013).

In the figure on the left skewness against the dimension, before and after ℓ₂
normalisation. In the middle the counts themselves: some points are nobody's neighbour,
a few are that of a hundred. On the right the same for data whose mean is not 0.
"""

import numpy as np

from experiments import figure as figures
from experiments import outcome
from rl_jax import evaluate

SECTION = "12.1"
TITLE = "Hubs, and what normalisation does to them"
SHOWN = 128


def run(
    *,
    dims: tuple[int, ...] = (2, 8, 32, 128, 512),
    seeds: int = 3,
    examples: int = 1000,
    k: int = 10,
    mean: float = 0.0,
) -> outcome.Outcome:
    """Skewness of the k-occurrence of normal data, by distances and by cosines.

    Args:
      dims: of the data, the smallest first; 128 among them.
      seeds: draws of each.
      examples: points.
      k: neighbours.
      mean: of every coordinate of the data that normalisation should help.
    """
    found = {name: [] for name in ("distance", "cosine", "shifted", "centred")}
    counts, wrong = {}, 0
    for dim in dims:
        rows = {name: [] for name in found}
        for seed in range(seeds):
            x = np.random.default_rng(seed).normal(size=(examples, dim))
            # Columns of zeros change no distance, and one shape is compiled once.
            pad = ((0, 0), (0, max(dims) - dim))
            data, shifted = np.pad(x + mean, pad), np.pad(x + 1.0, pad)
            each = {
                "distance": evaluate.hubness(data, k=k, metric="euclidean"),
                "cosine": evaluate.hubness(data, k=k),
                "shifted": evaluate.hubness(shifted, k=k),
                "centred": evaluate.hubness(shifted - shifted.mean(0), k=k),
            }
            for name, one in each.items():
                rows[name].append(one.skewness)
            if dim == SHOWN and not seed:
                counts = {name: one.occurrence for name, one in each.items()}
                wrong = sum(
                    np.abs(counts[name] - _occurrence(data, k, name)).sum()
                    for name in ("distance", "cosine")
                )
        for name, values in rows.items():
            found[name].append(values)
    skewness = {name: np.array(values) for name, values in found.items()}
    at = {name: values[dims.index(SHOWN)] for name, values in skewness.items()}
    orphans = {name: float(np.mean(n == 0)) for name, n in counts.items()}
    return outcome.Outcome(
        checks=(
            outcome.at_least("skewness by distances, D = 128", at["distance"], 2),
            outcome.at_most("skewness after normalisation, D = 128", at["cosine"], 1),
            outcome.at_most(
                f"skewness by distances, D = {dims[0]}", skewness["distance"][0], 1
            ),
            outcome.at_least(
                "skewness after normalisation, mean 1, D = 128", at["shifted"], 2
            ),
            outcome.at_most("the same with the mean taken away", at["centred"], 1),
            outcome.equal(
                "counts that differ from float64, all distances held, share",
                wrong / (2 * k * examples),
                0.0,
                tolerance=1e-3,
            ),
        ),
        data={"dims": np.array(dims), "skewness": skewness, "counts": counts},
        said=(
            f"At D = 128 skewness is {at['distance'].mean():.2f} by distances and "
            f"{at['cosine'].mean():.2f} after ℓ₂ normalisation; "
            f"{orphans['distance']:.0%} of the points are nobody's neighbour, then "
            f"{orphans['cosine']:.0%}. At D = {dims[0]} skewness by distances is "
            f"{skewness['distance'][0].mean():.2f}."
        ),
        correction=(
            "Normalisation alone helps only data around the origin. With a mean of 1 "
            f"in every coordinate skewness stays {at['shifted'].mean():.2f} after it; "
            f"with the mean taken away first it is {at['centred'].mean():.2f}."
        ),
    )


def _occurrence(x, k, name):
    """How often each row is among the k nearest of another, from the whole matrix."""
    if name == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    square = np.square(x).sum(1)
    distance = square[:, None] - 2 * x @ x.T + square
    np.fill_diagonal(distance, np.inf)
    nearest = np.argpartition(distance, k, axis=1)[:, :k]
    return np.bincount(nearest.ravel(), minlength=len(x))


def draw(figure, found: outcome.Outcome) -> None:
    """Skewness against the dimension; counts at one of them; data with a mean."""
    left, middle, right = figure.subplots(1, 3)
    d = found.data
    groups = (
        (left, "distance", "distances", 1),
        (left, "cosine", "cosines", 0),
        (right, "shifted", "cosines", 0),
        (right, "centred", "centred, cosines", 2),
    )
    for axes, name, label, colour in groups:
        values = d["skewness"][name].T
        figures.band(axes, d["dims"], values, figures.COLOURS[colour], label)
    for axes, title in ((left, "skewness, mean 0"), (right, "skewness, mean 1")):
        axes.set(xscale="log", ylim=(-0.7, 7), xlabel="dimension D", title=title)
        axes.set_xticks(d["dims"], d["dims"])
        axes.set_xticks([], minor=True)
        axes.legend(loc="upper left")
    for name, label, colour in (("distance", "distances", 1), ("cosine", "cosines", 0)):
        ranked = np.sort(d["counts"][name])[::-1]
        colour = figures.COLOURS[colour]
        middle.plot(np.arange(len(ranked)), ranked, color=colour, label=label)
    middle.set(xlabel="point, by rank", title=f"counts, D = {SHOWN}")
    middle.set(ylabel="neighbour of how many")
    middle.set(yscale="symlog", ylim=0)
    middle.legend()
