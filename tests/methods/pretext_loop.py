"""Digits, and a whole training run in one compiled scan, for methods of made tasks."""

import functools

import jax
import jax.numpy as jnp
from reference import loop

from rl_jax import data
from rl_jax.methods.pretext import Task

BATCH = 256


@functools.cache
def digits(size=8):
    """Images in [0, 1] enlarged to size × size, and labels: training, then held out."""

    def part(source):
        image = jnp.asarray(source.images, jnp.float32) / 255.0
        shape = (len(image), size, size, 1)
        return jax.image.resize(image, shape, "linear"), jnp.asarray(source.labels)

    source = data.digits()
    return *part(source), *part(source.held_out)


def batch_of(image, label=None):
    index = jnp.arange(len(image), dtype=jnp.int32)
    label = jnp.full(len(image), -1) if label is None else label
    return {"index": index, "image": image, "label": label}


def fit(method, image, label=None, *, steps, rate, seed=0, rows=BATCH):
    """Params and state after Adam, its rate falling to 0 along a cosine."""
    whole = batch_of(image, label)

    def draw(rng):
        rng_loss, rng_rows = jax.random.split(rng)
        index = jax.random.permutation(rng_rows, len(image))[:rows]
        return {name: value[index] for name, value in whole.items()}, rng_loss

    @jax.jit
    def run(rng):
        start = method.init(rng, {name: v[:rows] for name, v in whole.items()})
        rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(steps))
        optimizer = loop.cosine_adam(rate, steps)
        return loop.scan(method, start, draw, rngs, optimizer=optimizer)[:2]

    return run(jax.random.key(seed))


def accuracy(method, trained, image, seed=100):
    """Of the pretext answers."""
    loss = jax.jit(method.loss)
    _, aux = loss(*trained, batch_of(image), jax.random.key(seed))
    return float(aux.metrics["accuracy"])


def shuffled(task: Task) -> Task:
    """The same questions, with answers drawn anew for every one of them."""

    def ask(rngs, image):
        parts, answer = task.ask(rngs, image)

        def other(rng, answer):
            return jax.random.randint(
                jax.random.fold_in(rng, 1), answer.shape, 0, task.answers
            )

        return parts, jax.vmap(other)(rngs, answer)

    return task._replace(ask=ask)
