"""What the diagnostics of a training step cost, as a share of the step.

    python -m profiling.diagnostics [--quick] [--rounds K] [--budget SECONDS]

A SimCLR step (augmentation, forward, backward, update) that returns all its metrics,
and the same step returning the loss only, from which the compiler leaves out what the
metrics took, in interleaved rounds. Beside them the diagnostics alone, compiled by
themselves: a difference below the noise of two long steps is still measured there. The
larger of both shares counts.
"""

import functools
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from profiling import arguments, results, timing
from rl_jax import augment, methods, networks
from rl_jax.augment import presets
from rl_jax.methods import tower
from rl_jax.methods.sharpness import sharpness
from rl_jax.train.step import diagnostics, init_train_state, train_step
from rl_jax.types import Augment, Network

TITLE = "Diagnostics of a training step"
WITHOUT, WITH, ALONE = "without", "with", "alone"
TEMPERATURE = 0.5


class Setup(NamedTuple):
    """What is trained, with SimCLR."""

    encoder: Network
    projector: Network
    augment: Augment
    shape: tuple[int, int, int]
    batch: int


SETUPS = {
    "digits": lambda: Setup(
        networks.convnet(),
        networks.projection_head(hidden=256, out=64),
        presets.digits(rotate=15.0, shear=10.0),
        (8, 8, 1),
        256,
    ),
    "resnet18": lambda: Setup(
        networks.resnet(depth=18, stem="cifar"),
        networks.projection_head(),
        presets.cifar(),
        (32, 32, 3),
        256,
    ),
    "tiny": lambda: Setup(
        networks.mlp(features=(4,), out=4),
        networks.projection_head(hidden=8, out=4),
        augment.views(lambda rng, image: image),
        (4, 4, 1),
        8,
    ),
}
QUICK, DEFAULT = ("digits",), ("digits", "resnet18")


def main(argv: Sequence[str] | None = None) -> None:
    """Times, writes."""
    parser = arguments.Parser("diagnostics", __doc__.split("\n")[0])
    parser.add_quick()
    parser.add_argument("--only", choices=SETUPS, nargs="+", metavar="SETUP")
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--budget",
        type=arguments.positive,
        metavar="SECONDS",
        help="of each setup; decides the rounds where --rounds does not; default 180, "
        "quick 30",
    )
    chosen = parser.parse_args(argv)
    names = chosen.only or (QUICK if chosen.quick else DEFAULT)
    budget = chosen.budget or (30 if chosen.quick else 180)
    result = results.new("diagnostics", rounds=chosen.rounds, budget_seconds=budget)
    out = results.folder(chosen.out)
    for name in names:
        timed = timing.interleave(
            contenders(SETUPS[name]()), seconds=budget, rounds=chosen.rounds
        )
        for contender, samples in timed.items():
            result["rows"].append({"setup": name, "contender": contender} | samples)
        results.save(result, out)
        print(name, file=sys.stderr)
    results.finish(result, out)


def contenders(setup: Setup) -> dict[str, timing.Contender]:
    """The step without and with diagnostics, and the diagnostics alone."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (setup.batch, *setup.shape), np.uint8)
    index = jnp.arange(setup.batch, dtype=jnp.int32)
    batch = {"index": index, "image": jnp.asarray(image), "label": index % 10}
    method = methods.simclr(setup.encoder, setup.projector, temperature=TEMPERATURE)
    pieces = {
        "method": method,
        "augment": setup.augment,
        "optimizer": optax.adamw(1e-3),
    }

    def step(state, batch, names):
        state, metrics = train_step(state, batch, **pieces)
        return state, {name: metrics[name] for name in names or metrics}

    def init():
        return init_train_state(jax.random.key(0), batch, **pieces)

    def features(state, batch):
        seen = setup.augment.views(state.rng, batch)
        return method.loss(state.params, state.state, seen, state.rng)[1].features

    state = jax.jit(init)()
    alone = timing.jax_contender(jax.jit(_alone), jax.jit(features)(state, batch))
    alone(1)
    donated = jax.jit(step, donate_argnums=0, static_argnames="names")
    return {
        WITHOUT: _contender(functools.partial(donated, names=("loss",)), state, batch),
        WITH: _contender(functools.partial(donated, names=()), jax.jit(init)(), batch),
        ALONE: alone,
    }


def _alone(features):
    views = tower.interleave([features["z"][:, 0], features["z"][:, 1]])
    sharp = sharpness(views, views, scale=1 / TEMPERATURE, exclude_self=True)
    return diagnostics(features) | sharp


def _contender(call, state, batch) -> timing.Contender:
    """Seconds of one step; what a call returns is what the next one takes."""

    def run(calls: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(calls):
            state, metrics = call(state, batch)
            jax.block_until_ready(metrics)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / calls

    run(1)
    return run


def tables(result: dict) -> list[str]:
    """A line for each setup."""
    rows = []
    for name, group in _groups(result).items():
        seconds = {k: timing.summary(v) for k, v in group.items()}
        less, more, alone = (seconds[k]["median"] for k in (WITHOUT, WITH, ALONE))
        spread = max(seconds[k]["spread"] for k in (WITHOUT, WITH))
        rows.append(
            [
                name,
                results.milliseconds(less),
                results.milliseconds(more),
                f"{100 * (more - less) / less:+.2f} %",
                f"{100 * spread:.0f} %",
                results.milliseconds(alone),
                f"{100 * alone / less:.2f} %",
            ]
        )
    header = ["SimCLR step, ms", "without", "with", "difference", "spread of steps"]
    return [
        results.table([*header, "alone", "share"], rows),
        "Medians. Spread: interquartile range over median; a difference below it is "
        "noise. The diagnostics alone include a launch of their own.",
    ]


def plot(figure, result: dict) -> None:
    """Share of the step, by difference and alone."""
    groups = _groups(result)
    axes = figure.subplots()
    place = np.arange(len(groups))
    shares: dict[str, list[float]] = {"difference": [], "alone": []}
    for group in groups.values():
        less, more, alone = (
            timing.summary(group[k])["median"] for k in (WITHOUT, WITH, ALONE)
        )
        shares["difference"].append(100 * (more - less) / less)
        shares["alone"].append(100 * alone / less)
    for k, (name, values) in enumerate(shares.items()):
        axes.barh(place + 0.2 * (2 * k - 1), values, 0.36, label=name)
    axes.axvline(2, color=results.COLOURS[-1], linestyle=":")
    axes.set_yticks(place, list(groups))
    axes.set_xlabel("% of the step")
    figure.legend(loc="outside upper left", ncols=2)


def _groups(result: dict) -> dict[str, dict[str, list[float]]]:
    out: dict[str, dict[str, list[float]]] = {}
    for row in result["rows"]:
        out.setdefault(row["setup"], {})[row["contender"]] = row["seconds"]
    return out


if __name__ == "__main__":
    main()
