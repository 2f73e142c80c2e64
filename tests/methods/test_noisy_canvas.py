"""What made tasks gain on digits, clean and in noise, beside three references.

Each is the probe of h at ten labels per class: of the raw input, of the network
without training, and of one trained on shuffled answers. On clean digits none of the
tasks gains anything over the network without training. In noise rotation gains much,
beyond the pixels; context gains, and stays far below the pixels; jigsaw hardly does.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from pretext_loop import digits, shuffled

from rl_jax import evaluate, networks
from rl_jax.methods.context import task as context
from rl_jax.methods.jigsaw import task as jigsaw
from rl_jax.methods.pretext import Task, pretext
from rl_jax.methods.rotation import task as rotation


class Setting(NamedTuple):
    """A task and the pictures it is asked of.

    Attributes:
      task: what is asked.
      features: hidden width and width of h of the network.
      head: hidden width of what is discarded; None: nothing is.
      side: of the digits, in pixels.
      border: pixels of noise around them.
      steps: of training, 256 pictures each.
    """

    task: Callable[[], Task]
    features: tuple[int, int]
    head: int | None
    side: int
    border: int
    steps: int


SETTINGS = {
    "rotation": Setting(lambda: rotation(True), (256, 128), None, 8, 4, 1500),
    "jigsaw": Setting(lambda: jigsaw(24, 3, 1, True), (64, 32), 128, 12, 0, 1000),
    "context": Setting(lambda: context(6, 2, 2, "keep"), (64, 32), 128, 24, 0, 1000),
}


class Found(NamedTuple):
    """Accuracies: probes of h, of the pixels, and of the answers while training."""

    trained: float
    untrained: float
    control: float
    raw: float
    answered: float
    guessed: float


def on_canvas(rng, image, border, noise):
    """Digits in the middle of pixels of noise, and noise on them."""
    edge = (border, border)
    image = jnp.pad(image, ((0, 0), edge, edge, (0, 0)))
    return image + noise * jax.random.normal(rng, image.shape)


def measured(name, noise) -> Found:
    """Trains on answers and on shuffled ones, noise drawn anew at every step."""
    setting = SETTINGS[name]
    train, label, held, held_label = digits(setting.side)
    canvas = functools.partial(on_canvas, border=setting.border, noise=noise)
    # For the probe the noise is drawn once.
    rngs = jax.random.split(jax.random.key(5))
    pictures = [canvas(*pair) for pair in zip(rngs, (train, held), strict=True)]
    labels = [np.asarray(side) for side in (label, held_label)]

    def probe(features):
        x, y = (np.asarray(features(image)) for image in pictures)
        parts = (x, labels[0], y, labels[1])
        return evaluate.linear_probe(*parts, labels_per_class=10).mean

    def draw(rng):
        rng_rows, rng_noise = jax.random.split(rng)
        index = jax.random.permutation(rng_rows, len(train))[:256]
        image = canvas(rng_noise, train[index])
        return {"index": index, "image": image, "label": jnp.full(256, -1)}

    def after(task, steps):
        hidden, width = setting.features
        encoder = networks.mlp(features=(hidden,), out=width, batch_norm=False)
        head = setting.head and networks.task_head(
            hidden=setting.head, layers=1, batch_norm=False
        )
        method = pretext(encoder, head or None, task)
        params, state, metrics = scanned.run(
            method, draw, jax.random.key(0), steps=steps
        )
        found = probe(lambda x: method.encode(params, state, {"image": x})["h"])
        return found, float(metrics["accuracy"][-20:].mean())

    trained, answered = after(setting.task(), setting.steps)
    untrained, _ = after(setting.task(), 1)
    control, guessed = after(shuffled(setting.task()), setting.steps)
    raw = probe(lambda image: image.reshape(len(image), -1))
    print(
        f"{name}, noise {noise}: {trained:.3f} (answers {answered:.2f}), untrained "
        f"{untrained:.3f}, shuffled answers {control:.3f} ({guessed:.2f}), raw "
        f"{raw:.3f}"
    )
    chance = 1 / setting.task().answers
    assert abs(guessed - chance) < 0.05
    return Found(trained, untrained, control, raw, answered, guessed)


@pytest.mark.slow
def test_rotation_sees_through_noise():
    found = measured("rotation", 0.5)
    assert found.trained > found.untrained + 0.1
    assert found.trained > found.control + 0.1
    assert found.trained > found.raw
    assert found.answered > 0.6


@pytest.mark.slow
def test_context_gains_in_noise_and_stays_below_the_pixels():
    found = measured("context", 0.3)
    assert found.trained > found.untrained + 0.05
    assert found.trained > found.control + 0.05
    assert found.trained < found.raw - 0.2
    assert found.answered > 0.4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "noise", "least"),
    [("jigsaw", 0.0, 0.9), ("jigsaw", 0.3, 0.4), ("context", 0.0, 0.5)],
)
def test_a_task_that_is_solved_need_not_gain(name, noise, least):
    """Its probe is that of the untrained network, far below the pixels' own."""
    found = measured(name, noise)
    assert found.answered > least
    assert abs(found.trained - found.untrained) < 0.08
    assert abs(found.trained - found.control) < 0.08
    assert found.trained < found.raw - 0.2
