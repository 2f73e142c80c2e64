"""A falling I(X;T) in training is clustered activations seen through bins.

For a deterministic network T = h(X) has I(X;T) = H(X) throughout. Cut into bins it is
H(bins of T), which falls when units saturate: Shwartz-Ziv & Tishby (2017) saw a
"compression phase" with tanh, Saxe et al. (2018) not with ReLU. With noise added to the
layer I(X;T) is finite without bins, and lies between two sums over pairs (Kolchinsky &
Tracey 2017; Goldfeld et al. 2019).

The drop is the maximum, from the first record with accuracy 0.9 on, minus the end. Left
and middle: the last hidden layer of 12-10-7-5-4-3-2 networks. Binned, tanh falls by
bits and ReLU hardly. With noise tanh falls too, by less: its activations do cluster in
the corners of the cube. Right: the very same activations with other bins are anything
from 2 to 10 bits, so that the binned number says little by itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import networks, theory

SECTION = "7.4"
TITLE = "The compression phase depends on what is measured"

ACTIVATIONS = ("tanh", "relu")
BINS = (10, 30, 100, 300, 3000, 30000)
WIDTHS = (10, 300, 30000)
RECORDS = 21
BIT = np.log(2)


class Found(NamedTuple):
    """Of one activation: [S, RECORDS]; of other numbers of bins [S, len(BINS)].

    Attributes:
      accuracy: on all inputs.
      binned: I(X;T) in bins.
      upper, lower: bounds of it with noise.
      end: binned, at the end only.
      others: [S, len(WIDTHS), RECORDS], binned.
    """

    accuracy: np.ndarray
    binned: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    end: np.ndarray
    others: np.ndarray


def run(
    *,
    seeds: int = 3,
    steps: int = 3000,
    bins: int = 30,
    variance: float = 0.1,
    learning_rate: float = 2e-3,
) -> outcome.Outcome:
    """Trains small networks on a rule of 12 bits and measures their last hidden layer.

    Args:
      seeds: starts of each activation, trained together.
      steps: of Adam on 256 inputs.
      bins: of each unit, over its range: −1 to 1, or 0 to the largest of the run.
      variance: σ² of the noise of the other estimate.
      learning_rate: of Adam.
    """
    x, label = _rule()
    inputs, targets = jnp.asarray(x, jnp.float32), jnp.asarray(label)
    order = np.random.default_rng(1).permutation(len(x))
    seen = jnp.asarray(order[: int(0.85 * len(x))])
    some = jnp.asarray(order[:512])
    stretch = max(steps // (RECORDS - 1), 1)
    steps = stretch * (RECORDS - 1)

    def one(network, tanh, rng):
        rng, rng_start = jax.random.split(rng)
        params, _ = network.init(rng_start, inputs[:1])

        def loss(params, rng):
            index = seen[jax.random.randint(rng, (256,), 0, len(seen))]
            logits, _ = network.apply(params, {}, inputs[index], train=True)
            cost = optax.softmax_cross_entropy_with_integer_labels(
                logits, targets[index]
            )
            return cost.mean()

        def look(params):
            logits, _ = network.apply(params, {}, inputs, train=False)
            h = network.layers(params, {}, inputs)["layer5"]
            return jnp.mean(logits.argmax(-1) == targets), h

        params, records = training.minimise(
            loss, params, rng, steps=steps,
            optimizer=training.adam(learning_rate, steps=steps),
            record=look, every=stretch,
        )  # fmt: skip
        accuracy, h = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new[None]]), records, look(params)
        )
        low, high = (-1.0, 1.0) if tanh else (0.0, jnp.maximum(h.max(), 1e-6))

        def binned(h, bins):
            return theory.binned_information(h, bins=bins, low=low, high=high)

        def through(bins):
            return jax.lax.map(lambda h: binned(h, bins), h)

        noisy = jax.lax.map(
            lambda h: theory.noisy_information(h[some], variance=variance), h
        )
        others = {n: through(n) for n in WIDTHS}
        return Found(
            accuracy=accuracy,
            binned=through(bins),
            upper=noisy.upper,
            lower=noisy.lower,
            end=jnp.stack([others[n][-1] if n in others else binned(h[-1], n)
                           for n in BINS]),
            others=jnp.stack(list(others.values())),
        )  # fmt: skip

    rngs = jax.random.split(jax.random.key(0), seeds)
    found = {}
    for name in ACTIVATIONS:
        network = networks.mlp(
            features=(10, 7, 5, 4, 3), out=2, activation=name, batch_norm=False
        )
        train = jax.vmap(functools.partial(one, network, name == "tanh"))
        found[name] = Found(*(np.asarray(v, np.float64) for v in jax.jit(train)(rngs)))
    drop, noisy, lower = (
        {name: _drop(f.accuracy, getattr(f, what)) / BIT for name, f in found.items()}
        for what in ("binned", "upper", "lower")
    )
    tanh = found["tanh"]
    by_width = np.array([
        _drop(tanh.accuracy, tanh.others[:, i]) / BIT for i in range(len(WIDTHS))
    ])  # fmt: skip
    drops = ", ".join(f"{d:.1f}" for d in by_width.mean(1))
    widths = ", ".join(f"{n:,}" for n in WIDTHS)
    fewest, most = tanh.end.mean(0)[[0, -1]] / BIT
    return outcome.Outcome(
        checks=(
            outcome.at_least("binned drop, tanh", drop["tanh"], 2.0, unit="bit"),
            outcome.at_most(
                "binned drop, ReLU, mean", drop["relu"].mean(), 0.8, unit="bit"
            ),
            outcome.at_most(
                "mean binned drop, ReLU − half of tanh's",
                drop["relu"].mean() - 0.5 * drop["tanh"].mean(),
                0.0,
                unit="bit",
            ),
            outcome.at_least(
                "drop with noise, upper bound, tanh, mean",
                noisy["tanh"].mean(),
                0.3,
                unit="bit",
            ),
            outcome.at_least(
                "drop with noise, lower bound, tanh, mean",
                lower["tanh"].mean(),
                0.15,
                unit="bit",
            ),
            outcome.at_most(
                "mean drop with noise, upper bound − half of the binned, tanh",
                noisy["tanh"].mean() - 0.5 * drop["tanh"].mean(),
                0.0,
                unit="bit",
            ),
            outcome.at_least(
                f"tanh, largest − smallest drop in {widths} bins",
                np.ptp(by_width, axis=0),
                1.5,
                unit="bit",
            ),
        ),
        data={"step": stretch * np.arange(RECORDS), "bins": bins}
        | {name: f._asdict() for name, f in found.items()},
        said=(
            f"Binned, the last layer falls by {drop['tanh'].min():.1f} to "
            f"{drop['tanh'].max():.1f} bits with tanh and {drop['relu'].mean():.2f} on "
            f"average with ReLU; with noise of variance {variance:g} the upper bound "
            f"falls by {noisy['tanh'].mean():.2f} and {noisy['relu'].mean():.2f}, the "
            f"lower by {lower['tanh'].mean():.2f} and {lower['relu'].mean():.2f}. At "
            f"the end the same tanh layer has {fewest:.1f} bits in {BINS[0]} bins and "
            f"{most:.1f} in {BINS[-1]:,}."
        ),
        correction=(
            "It is not true that compression disappears with another estimator: with "
            "noise instead of bins the upper bound of tanh still falls by "
            f"{noisy['tanh'].mean():.2f} bit and the lower by "
            f"{lower['tanh'].mean():.2f} (where binned it falls by "
            f"{drop['tanh'].mean():.1f}), because its activations do cluster. What is "
            f"an artefact is the size: in {widths} bins the same runs fall by {drops}."
        ),
    )


def _rule():
    """All 12-bit inputs as ±1, and a smooth random function of them cut at its median.

    Returns:
      [4096, 12] and int32 [4096].
    """
    rng = np.random.default_rng(0)
    x = ((np.arange(4096)[:, None] >> np.arange(12)) & 1) * 2.0 - 1.0
    inner = rng.normal(size=(12, 4)) / np.sqrt(12)
    value = np.tanh(1.5 * x @ inner) @ rng.normal(size=4)
    return x, (value > np.median(value)).astype(np.int32)


def _drop(accuracy, information):
    """Maximum from the first record of accuracy 0.9 on, minus the end, of each run."""
    learnt = np.maximum.accumulate(accuracy >= 0.9, axis=1)
    # A run that learns nothing has its end only, and no drop.
    learnt[:, -1] = True
    return np.where(learnt, information, -np.inf).max(1) - information[:, -1]


def draw(figure, found: outcome.Outcome) -> None:
    """Both estimates against the step, and the end against the bins."""
    left, middle, right = figure.subplots(1, 3)
    d = found.data
    names = {"tanh": "tanh", "relu": "ReLU"}
    for k, name in enumerate(ACTIVATIONS):
        style = {"color": figures.COLOURS[k], "linewidth": 1.2}
        for axes, what in ((left, "binned"), (middle, "upper")):
            for i, values in enumerate(d[name][what]):
                label = None if i else names[name]
                axes.plot(d["step"], values / BIT, label=label, **style)
        for values in d[name]["end"]:
            right.plot(BINS, values / BIT, "o-", **style)
    left.set(title=f"cut into {d['bins']} bins", xlabel="step", ylabel="I(X;T), bit")
    left.legend()
    middle.set(title="with noise (upper bound)", xlabel="step")
    right.set(title="the end, by bins", xlabel="bins of a unit", xscale="log")
    for axes in (left, middle, right):
        axes.set_ylim(0, 12.3)
