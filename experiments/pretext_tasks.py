"""A solved pretext task is not yet a better representation: the data decide.

A classifier answers questions made from images without labels, each with one of K
answers a, from features f of the parts x₁, x₂, … that it is shown:

    E −log softmax(Wᵀ g(f(x₁), f(x₂), …) + b)_a    chance 1/K

- rotation: by which quarter turn was the image turned, K = 4 (Gidaris, Singh &
  Komodakis 2018, arXiv:1803.07728)
- jigsaw: in which of K = 24 orders are nine tiles (Noroozi & Favaro 2016,
  arXiv:1603.09246)
- context: which of K = 8 neighbours is the other patch (Doersch, Gupta & Efros 2015,
  arXiv:1505.05192)

The hope is that f must see the object to answer. A linear probe of f with few labels
tells, but only beside three others: of the pixels, of f before training, and of f
trained on shuffled answers, which teach nothing of the images. Questions are asked of
digits, clean and in Gaussian noise, for rotation in the middle of 16 × 16 pixels.

In the figure are the four probes of each task. On clean digits a random f keeps what
the pixels tell; rotation is solved and adds nothing. In noise a random f loses it, and
f trained on rotation has it again, for it must tell strokes from noise; f trained on
shuffled answers does not. Jigsaw and context see tiles alone, without their places,
and stay far below the pixels either way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, evaluate, networks
from rl_jax.methods.context import task as context
from rl_jax.methods.jigsaw import task as jigsaw
from rl_jax.methods.pretext import Task, pretext
from rl_jax.methods.rotation import task as rotation

SECTION = "8.1"
TITLE = "What a solved pretext task is worth depends on the data"

GAIN = 0.05
"""Of accuracy, over the untrained f: what counts, as for masked autoencoding (8.2)."""
BATCH, DRAWS = 64, 5
READ = ("pixels", "untrained", "shuffled", "trained")


class Setting(NamedTuple):
    """A task, what is asked, and of what.

    Attributes:
      task: the questions.
      solved: accuracy of the answers on clean held-out digits from which on it is.
      features: hidden width of f, and width of its features.
      head: width of g; None: there is none.
      side: of the digits, in pixels.
      border: pixels around them.
    """

    task: Callable[[], Task]
    solved: float
    features: tuple[int, int]
    head: int | None
    side: int
    border: int


SETTINGS = {
    "rotation": Setting(lambda: rotation(True), 0.9, (128, 64), None, 8, 4),
    "jigsaw": Setting(lambda: jigsaw(24, 3, 1, True), 0.9, (64, 32), 128, 12, 0),
    "context": Setting(lambda: context(6, 2, 2, "keep"), 0.5, (64, 32), 128, 24, 0),
}


def run(
    *,
    seeds: int = 2,
    steps: int = 400,
    noise: float = 0.3,
    labels: int = 4,
    tasks: tuple[str, ...] = ("rotation", "jigsaw", "context"),
) -> outcome.Outcome:
    """Trains on the answers and on shuffled ones, on clean and on noisy digits.

    Args:
      seeds: starts, trained together on the same images.
      steps: of Adam.
      noise: standard deviation, beside pixels in [0, 1]; drawn anew at every step.
      labels: of each class, that the probe sees; the mean of five draws of them.
      tasks: rotation first, then any of jigsaw and context.
    """
    if "rotation" not in tasks:
        raise ValueError(f"tasks must include rotation, got {', '.join(tasks)}")
    found = {
        name: _learn(SETTINGS[name], seeds, steps, noise, labels) for name in tasks
    }
    solved = {name: answered[0, 0] for name, (answered, _) in found.items()}
    right = {name: rows for name, (_, rows) in found.items()}

    def gains(first, second, level):
        """Over the held-out digits, of the mean of the starts."""
        return {
            name: evaluate.paired_difference(
                rows[first][level].mean(0), rows[second][level].mean(0)
            )
            for name, rows in right.items()
        }

    clean, noisy = (gains("trained", "untrained", k) for k in (0, 1))
    control = [gains("shuffled", "untrained", k) for k in (0, 1)]
    over_control = gains("trained", "shuffled", 1)["rotation"]
    most = max(tasks, key=lambda name: control[0][name].difference)
    probe = {name: rows[1].mean() for name, rows in right["rotation"].items()}
    return outcome.Outcome(
        checks=(
            *(
                outcome.at_least(
                    f"{name}: accuracy of answers, clean", value, SETTINGS[name].solved
                )
                for name, value in solved.items()
            ),
            *(
                outcome.at_most(
                    f"{name}: gain of the probe, clean, upper limit", gain.high, GAIN
                )
                for name, gain in clean.items()
            ),
            outcome.at_least(
                "rotation: gain of the probe, in noise, lower limit",
                noisy["rotation"].low,
                GAIN,
            ),
            outcome.at_least(
                "rotation: the same over shuffled answers, lower limit",
                over_control.low,
                GAIN,
            ),
            outcome.at_most(
                "rotation: gain by shuffled answers, upper limit",
                [gain["rotation"].high for gain in control],
                GAIN,
            ),
        ),
        data={
            "answered": {name: answered[0] for name, (answered, _) in found.items()},
            "right": right,
            "noise": noise,
        },
        said=(
            f"Held-out questions are answered with accuracy "
            f"{_each(solved, lambda v: f'{v.mean():.2f}')}, and on clean digits the "
            f"probe with {labels} labels per class gains "
            f"{_each(clean, lambda g: f'{g.difference:+.2f}')} over the untrained f. "
            f"In noise of {noise:g} rotation gains {_interval(noisy['rotation'])}: "
            f"{probe['trained']:.2f} beside {probe['untrained']:.2f} untrained, "
            f"{probe['shuffled']:.2f} with shuffled answers and {probe['pixels']:.2f} "
            "of the pixels."
        ),
        correction=(
            "To solve the task is not to learn a better representation: on clean "
            "digits all are solved and none gains. What is gained in noise "
            f"({_each(noisy, lambda g: f'{g.difference:+.2f}')}) is over the untrained "
            "f; over the pixels it is "
            f"{probe['trained'] - probe['pixels']:+.2f} at best, with rotation."
            + _by_shuffled(most, control[0][most])
        ),
    )


def _by_shuffled(task: str, gain: evaluate.Difference) -> str:
    """What is said where the control, too, rises on clean digits."""
    if gain.low <= 0:
        return ""
    return (
        " Nor is every rise the task's merit: shuffled answers alone move the probe of "
        f"{task} on clean digits by {_interval(gain)}."
    )


def _each(values, words: Callable[[Any], str]) -> str:
    return ", ".join(f"{words(value)} ({name})" for name, value in values.items())


def _interval(gain: evaluate.Difference) -> str:
    return f"{gain.difference:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"


def _learn(setting: Setting, seeds: int, steps: int, noise: float, labels: int):
    """Trains in one program: answers true or shuffled, digits clean or noisy, starts.

    Returns:
      Accuracy of the answers to held-out questions [true or shuffled, clean or noisy,
      seeds]; and by name of `READ` how often the probe is right about each held-out
      digit [clean or noisy, seeds (1 of the pixels), 500].
    """
    source = data.digits()
    assert source.held_out is not None
    rng = np.random.default_rng(0)
    sides = []
    for part in (source, source.held_out):
        image = _canvas(part.images, setting)
        # For the probe the noise is drawn once.
        drawn = rng.normal(size=image.shape).astype(np.float32)
        sides.append((jnp.asarray(image), jnp.asarray(noise * drawn)))
    hidden, width = setting.features
    encoder = networks.mlp(features=(hidden,), out=width, batch_norm=False)
    head = setting.head and networks.task_head(
        hidden=setting.head, layers=1, batch_norm=False
    )
    task = setting.task()
    judge = pretext(encoder, head or None, task)

    def train(shuffle, noisy, rng, sides, data_rng):
        method = pretext(encoder, head or None, _shuffled(task, shuffle))
        seen = [image + noisy * drawn for image, drawn in sides]
        images = sides[0][0]

        def batch(rng):
            rng_index, rng_noise = jax.random.split(rng)
            index = jax.random.randint(rng_index, (BATCH,), 0, len(images))
            image = images[index]
            drawn = jax.random.normal(rng_noise, image.shape)
            return {"index": index, "image": image + noisy * noise * drawn}

        def features(params, state):
            return [method.encode(params, state, {"image": x})["h"] for x in seen]

        params, state, _, start = training.pretrain(
            method, batch, rng, steps=steps, every=steps, data_rng=data_rng,
            optimizer=training.adam(3e-3, steps=steps), record=features,
        )  # fmt: skip
        held = {"index": jnp.arange(len(seen[1])), "image": seen[1]}
        _, aux = judge.loss(params, state, held, jax.random.key(1))
        start = [x[0] for x in start]
        return aux.metrics["accuracy"], start, features(params, state)

    # One axis of all runs: of three, one inside the other, each takes tracing.
    shape = (2, 2, seeds)
    shuffle, noisy, start_of = np.indices(shape).reshape(3, -1)
    rng, data_rng = jax.random.split(jax.random.key(0))
    runs = jax.vmap(train, in_axes=(0, 0, 0, None, None))
    found = jax.jit(runs)(
        shuffle > 0, noisy, jax.random.split(rng, seeds)[start_of], sides, data_rng
    )
    answered, start, end = jax.tree.map(
        lambda x: np.asarray(x).reshape(*shape, *x.shape[1:]), found
    )
    pixels = [np.stack([x, x + drawn]) for x, drawn in sides]
    features = {
        "pixels": [x.reshape(2, 1, x.shape[1], -1) for x in pixels],
        "untrained": [x[0] for x in start],
        "shuffled": [x[1] for x in end],
        "trained": [x[0] for x in end],
    }

    def probed(train, held):
        probe = evaluate.fit_probe(
            train, source.labels, labels_per_class=labels, draws=DRAWS
        )
        logits = held @ probe.weights + probe.bias[:, None]
        right = probe.classes[logits.argmax(-1)] == source.held_out.labels
        return right.mean(0)

    right = {
        name: np.array([
            [probed(*pair) for pair in zip(*level, strict=True)]
            for level in zip(*parts, strict=True)
        ])
        for name, parts in features.items()
    }  # fmt: skip
    return answered, right


def _canvas(images: Any, setting: Setting) -> np.ndarray:
    """Float32 in [0, 1], enlarged, and in the middle of zeros."""
    image = np.asarray(images, np.float32) / 255
    shape = (len(image), setting.side, setting.side, 1)
    edge = (setting.border, setting.border)
    image = np.asarray(jax.image.resize(image, shape, "linear"))
    return np.pad(image, ((0, 0), edge, edge, (0, 0)))


def _shuffled(task: Task, shuffle: jax.Array) -> Task:
    """The same questions; where `shuffle`, with answers that know nothing of them."""

    def ask(rngs, image):
        parts, answer = task.ask(rngs, image)
        rng = jax.random.fold_in(rngs[0], 1)
        other = jax.random.randint(rng, answer.shape, 0, task.answers)
        return parts, jnp.where(shuffle, other, answer)

    return task._replace(ask=ask)


def draw(figure, found: outcome.Outcome) -> None:
    """Four probes of each task, with 95 % intervals over digits; circles: starts."""
    d = found.data
    panels = figure.subplots(1, 2, sharey=True)
    titles = ("clean digits", f"in noise of {d['noise']:g}")
    colours = (figures.FAINT, *(figures.COLOURS[k] for k in (4, 1, 0)))
    for level, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for i, right in enumerate(d["right"].values()):
            for k, (name, colour) in enumerate(zip(READ, colours, strict=True)):
                each = right[name][level]
                mean, low, high = evaluate.bootstrap_interval(each.mean(0))
                x = i + 0.2 * (k - 1.5)
                label = None if i else name
                axes.bar(x, mean, color=colour, alpha=0.6, width=0.17, label=label)
                ends = [[mean - low], [high - mean]]
                axes.errorbar(x, mean, ends, fmt="none", ecolor=colour, capsize=2)
                dots = axes.plot([x] * len(each), each.mean(1), "o", color=colour)
                dots[0].set(fillstyle="none")
        axes.axhline(0.1, color=figures.FAINT, linestyle=":")
        names = [
            f"{name}\nanswers: {answered[level].mean():.2f}"
            for name, answered in d["answered"].items()
        ]
        axes.set_xticks(range(len(names)), names)
        axes.set(title=title, ylim=(0, 1.0))
        axes.grid(axis="x", visible=False)
    panels[0].set(ylabel="accuracy of the probe")
    panels[1].legend(ncols=2)
