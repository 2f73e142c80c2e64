"""Where rotation helps: digits on a noisy canvas, beside shuffled answers.

On clean digits it gains nothing, the network without training is as good.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from pretext_loop import digits, shuffled

from rl_jax import evaluate, networks
from rl_jax.methods.pretext import pretext
from rl_jax.methods.rotation import task as rotation

NOISE, STEPS = 0.5, 1500


def on_canvas(rng, image):
    """8×8 digits in the middle of 16×16 pixels of noise."""
    image = jnp.pad(image, ((0, 0), (4, 4), (4, 4), (0, 0)))
    return image + NOISE * jax.random.normal(rng, image.shape)


@functools.cache
def pictures():
    """Training and held-out images with labels, the noise drawn once."""
    train, label, held, held_label = digits()
    rngs = jax.random.split(jax.random.key(5))
    images = [on_canvas(*pair) for pair in zip(rngs, (train, held), strict=True)]
    return *images, np.asarray(label), np.asarray(held_label)


def probe(features):
    train, held, label, held_label = pictures()
    x, y = (np.asarray(features(image)) for image in (train, held))
    return evaluate.linear_probe(x, label, y, held_label, labels_per_class=10).mean


def probe_after(task, *, steps):
    """Of h after training with noise drawn anew at every step, and its accuracy."""
    encoder = networks.mlp(features=(256,), out=128, batch_norm=False)
    method = pretext(encoder, None, task)
    clean = digits()[0]

    def draw(rng):
        rng_rows, rng_noise = jax.random.split(rng)
        index = jax.random.permutation(rng_rows, len(clean))[:256]
        image = on_canvas(rng_noise, clean[index])
        return {"index": index, "image": image, "label": jnp.full(256, -1)}

    params, state, metrics = scanned.run(method, draw, jax.random.key(0), steps=steps)
    found = probe(lambda x: method.encode(params, state, {"image": x})["h"])
    return found, float(metrics["accuracy"][-20:].mean())


@pytest.mark.slow
def test_rotation_sees_through_noise():
    trained, answered = probe_after(rotation(True), steps=STEPS)
    untrained, _ = probe_after(rotation(True), steps=1)
    control, guessed = probe_after(shuffled(rotation(True)), steps=STEPS)
    raw = probe(lambda image: image.reshape(len(image), -1))
    print(
        f"rotation {trained:.3f} (answers {answered:.2f}), untrained {untrained:.3f}, "
        f"shuffled answers {control:.3f} ({guessed:.2f}), raw {raw:.3f}"
    )
    assert trained > untrained + 0.1
    assert trained > control + 0.1
    assert trained > raw
    assert answered > 0.6
    assert abs(guessed - 0.25) < 0.05
