"""A method's own loss and metrics on examples it was not trained on."""

import jax
import numpy as np

from rl_jax import data
from rl_jax.run.split import Part, rows_of
from rl_jax.run.trained import Run

MOST_BATCHES = 16


def rows_measured(run: Run, part: Part) -> int:
    """How many scored examples, the first ones, `held_out_metrics` looks at."""
    size = run.recipe.batch_size
    return min(rows_of(part).size // size, MOST_BATCHES) * size


def held_out_metrics(run: Run, part: Part) -> dict[str, float]:
    """The method's own loss and metrics on scored examples, as in a training step.

    The mean over at most `MOST_BATCHES` batches of the size of training, the state
    unchanged; {} where there is not one whole batch.
    """
    source, size = rows_of(part), run.recipe.batch_size
    batches = rows_measured(run, part) // size
    if not batches:
        return {}
    method, augment = run.parts.method, run.parts.augment

    @jax.jit
    def measure(params, state, batch, rng):
        rng_views, rng_loss = jax.random.split(rng)
        batch = augment.views(rng_views, batch)
        loss, aux = method.loss(params, state, batch, rng_loss)
        return aux.metrics | {"loss": loss}

    rows, every = [], np.arange(batches * size, dtype=np.int32).reshape(batches, size)
    for i, batch in enumerate(data.batches(source, every)):
        rng = jax.random.fold_in(jax.random.key(run.recipe.seed), i)
        rows.append(
            jax.device_get(measure(run.state.params, run.state.state, batch, rng))
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {name: value for name, value in means.items() if np.isfinite(value)}
