"""The methods under contract, one file for each family.

Each file has `CASES = {name: Case(...)}`; the first word of a name is the factory's.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_jax import augment, networks
from rl_jax.types import Augment, Method

BATCH = 16


def images(seed=0):
    """A raw batch of images with labels."""
    rng = np.random.default_rng(seed)
    return {
        "index": jnp.asarray(rng.permutation(100)[:BATCH], jnp.int32),
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, 4, BATCH), jnp.int32),
    }


def noisy(rng, image):
    return image + 0.1 * jax.random.normal(rng, image.shape)


def as_it_is(rng, batch):
    """No views, for methods whose batch needs none."""
    del rng
    return batch


PLAIN = Augment(views=as_it_is, clean=lambda image: image)
"""For batches without images."""


class Case(NamedTuple):
    """A method, and what it is trained on.

    Attributes:
      make: builds it, with nets at most 16 wide.
      batch: `(seed) -> ` a raw batch.
      augment: of the step.
      slow: its code paths are in quick cases, it runs in `make test-all`.
      silent: parameters, as `keystr` prints them, that rightly get no gradient.
    """

    make: Callable[[], Method]
    batch: Callable[[int], dict] = images
    augment: Augment = augment.views(noisy)
    slow: bool = False
    silent: tuple[str, ...] = ()


def nets(predictor=False, split=1, **encoder):
    """Encoder, projector and, where asked for, predictor."""
    encoder = networks.mlp(features=(16,), out=16, split=split, **encoder)
    projector = networks.projection_head(hidden=16, out=8, split=split)
    head = [networks.prediction_head(hidden=16, out=8)] if predictor else []
    return encoder, projector, *head


def crops(num_local, size=8):
    """Two views and smaller crops, or crops enlarged to the size of the views."""
    crop = functools.partial(augment.random_resized_crop, size=size, scale=(0.3, 0.6))
    return augment.views(noisy, local=(crop, noisy), num_local=num_local)


def every() -> dict[str, Case]:
    """The cases of all families."""
    found: dict[str, Case] = {}
    for module in pkgutil.iter_modules(__path__):
        family = importlib.import_module(f"{__name__}.{module.name}")
        assert not found.keys() & family.CASES.keys()
        found |= family.CASES
    return found
