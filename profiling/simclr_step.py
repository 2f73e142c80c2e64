"""The whole SimCLR step, timed: data on the device, augmentation, forward, update."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from profiling.timing import Contender
from rl_jax import augment, methods, networks
from rl_jax.train.step import init_train_state, step_keys, train_step
from rl_jax.types import Augment, Method


class Setup(NamedTuple):
    """What is trained on how much."""

    method: Method
    augment: Augment
    images: int
    batch: int
    steps: int  # in one compiled call


def cifar(dtype: str) -> Setup:
    """ResNet-18 with the CIFAR stem, batch 512 of 50,000 images, 20 steps a call."""
    encoder = networks.resnet(depth=18, stem="cifar", dtype=dtype)
    method = methods.simclr(encoder, networks.projection_head())
    return Setup(method, augment.cifar(), images=50_000, batch=512, steps=20)


def tiny() -> Setup:
    """The same step on next to nothing; one step a call, as CPUs want it."""
    encoder = networks.convnet(widths=(4,))
    head = networks.projection_head(hidden=8, out=4)
    return Setup(
        methods.simclr(encoder, head),
        augment.cifar(size=8),
        images=16,
        batch=8,
        steps=1,
    )


def contenders(setup: Setup) -> dict[str, Contender]:
    """`step`, the whole step, and `augment`, its views alone: seconds of one step."""
    size = 8 if setup.steps == 1 else 32
    shape = (setup.images, size, size, 3)
    data = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = jnp.asarray(data)
    pieces = {
        "method": setup.method,
        "augment": setup.augment,
        "optimizer": optax.adamw(1e-3),
    }

    def batch_of(images, rng):
        index = jax.random.randint(rng, (setup.batch,), 0, setup.images, jnp.int32)
        return {"index": index, "image": images[index], "label": index % 10}

    def one(state, images):
        batch = batch_of(images, jax.random.fold_in(state.rng, state.step))
        state, metrics = train_step(state, batch, **pieces)
        return state, metrics["loss"]

    def views(total, images):
        rng, _ = step_keys(jax.random.key(0), jnp.int32(total))
        return total + 1, jnp.mean(
            setup.augment.views(rng, batch_of(images, rng))["views"]
        )

    def many(f):
        def run(carry, images):
            if setup.steps == 1:
                return f(carry, images)
            return lax.scan(lambda c, _: f(c, images), carry, None, length=setup.steps)

        return jax.jit(run, donate_argnums=0)

    init = jax.jit(
        lambda: init_train_state(
            jax.random.key(0), batch_of(images, jax.random.key(1)), **pieces
        )
    )
    return {
        "step": _contender(many(one), init(), images, setup.steps),
        "augment": _contender(many(views), jnp.int32(0), images, setup.steps),
    }


def _contender(call, carry, images, steps: int) -> Contender:
    """Seconds of one step; what a call returns is what the next one takes."""

    def run(calls: int) -> float:
        nonlocal carry
        start = time.perf_counter()
        for _ in range(calls):
            carry, out = call(carry, images)
        jax.block_until_ready((carry, out))
        return (time.perf_counter() - start) / (calls * steps)

    run(1)
    return run
