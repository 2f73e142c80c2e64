"""A whole training run in one compiled loop, for networks without convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from reference import loop

from rl_jax import data, evaluate
from rl_jax.augment import presets


@functools.partial(jax.jit, static_argnames=("method", "draw", "steps", "rate"))
def run(method, draw, rng, *, steps, rate=3e-3):
    """Parameters, state and metrics [steps] after Adam with a cosine decay.

    draw: `(rng) -> batch`, called for every step inside the loop.
    """

    def batch_and_key(rng):
        rng_batch, rng_loss = jax.random.split(rng)
        return draw(rng_batch), rng_loss

    start = method.init(rng, draw(rng))
    rngs = jax.vmap(jax.random.fold_in, (None, 0))(rng, jnp.arange(steps))
    optimizer = loop.cosine_adam(rate, steps)
    return loop.scan(method, start, batch_and_key, rngs, optimizer=optimizer)


class Digits:
    """The digits with labels as a stream of batches of views, and a probe of h."""

    def __init__(self, *, num_views=2):
        source = data.digits()
        self.augment = presets.digits(rotate=15.0, shear=10.0, num_views=num_views)
        self.images = [jnp.asarray(s.images) for s in (source, source.held_out)]
        self.labels = [np.asarray(s.labels) for s in (source, source.held_out)]

    def draw(self, rng, size=128):
        """A batch of different digits."""
        rng_index, rng_views = jax.random.split(rng)
        order = jax.random.permutation(rng_index, len(self.images[0]))
        index = order[:size].astype(jnp.int32)
        label = jnp.asarray(self.labels[0])[index]
        batch = {"index": index, "image": self.images[0][index], "label": label}
        return self.augment.views(rng_views, batch)

    def probe(self, method, params, state, name="h"):
        """Accuracy on the held-out digits with two labels of each class."""
        clean = [{"image": self.augment.clean(x)} for x in self.images]
        return self._probe([method.encode(params, state, b)[name] for b in clean])

    def probe_of_pixels(self):
        """The same of the images themselves."""
        return self._probe([self.augment.clean(x) for x in self.images])

    def _probe(self, features):
        x, held = (np.asarray(f).reshape(len(f), -1) for f in features)
        y, held_y = self.labels
        return evaluate.linear_probe(x, y, held, held_y, labels_per_class=2).mean
