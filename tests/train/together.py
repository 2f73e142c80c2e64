"""One of several processes that train as one; run by test_training_together.py.

    python together.py FOLDER

Trains from memory, stopped by the last process and continued, and from files that are
decoded as they are needed; the first process writes what came of it to FOLDER.
"""

import json
import pathlib
import sys

import jax
import numpy as np
import optax

from rl_jax import augment, data, methods, networks, train
from rl_jax.train import pace

STEPS, BATCH = 6, 16


def noisy(rng, image):
    return image + 0.1 * jax.random.normal(rng, image.shape)


def memory():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    return data.arrays(images, rng.integers(0, 3, 50))


def files(decoded):
    """The same, decoded one by one; which is noted."""
    held = memory()

    def load(index):
        decoded.extend(int(i) for i in np.atleast_1d(index))
        return held.images[index]

    return held._replace(images=None, load=load)


def pieces():
    return {
        "method": methods.moco(
            networks.mlp(features=(8,), out=8),
            networks.projection_head(hidden=8, out=4),
            queue_size=32,
        ),
        "augment": augment.views(noisy),
        "optimizer": optax.sgd(0.1),
    }


def fit(source, **options):
    options = pieces() | {"steps": STEPS, "batch_size": BATCH, "log_every": 2} | options
    return train.fit(options.pop("method"), source, **options)


def target():
    """What a checkpoint is read into."""
    mesh = train.data_mesh()
    init = train.initial_state(
        source=memory(), seed=0, batch_size=BATCH, mesh=mesh, **pieces()
    )
    return train.restore_target(init, mesh)


def main(folder):
    train.join()
    last = jax.process_index() == jax.process_count() - 1
    found = {}

    rows = []
    whole = fit(memory(), on_log=rows.append)
    found["whole"] = train.fingerprint(whole)
    found["loss"] = [row["loss"] for row in rows]

    with train.Checkpoints(folder / "checkpoints") as checkpoints:
        asked = iter([False, False, False, last])
        pace.SECONDS = 0  # the others are asked after every step
        options = {"checkpoints": checkpoints, "checkpoint_every": 100}
        state = fit(memory(), stop=lambda: next(asked), **options)
        found["stopped"] = int(state.step)
        checkpoints.finish()
        step, state = checkpoints.restore(target())
        found["restored"] = step
        continued = fit(memory(), state=state, **options)
        checkpoints.finish()
        found["steps"] = checkpoints.steps()
    found["continued"] = train.fingerprint(continued)

    decoded = []
    found["streamed"] = train.fingerprint(fit(files(decoded)))
    (folder / f"decoded{jax.process_index()}.json").write_text(json.dumps(decoded))
    try:
        with train.together():
            if last:
                raise ValueError("the last one")
    except (ValueError, RuntimeError, train.processes.RunError) as error:
        found["failed"] = str(error)
    try:
        fit(memory(), steps=STEPS + last, seed=int(last))
    except train.processes.RunError as error:
        (folder / f"unlike{jax.process_index()}.txt").write_text(str(error))
    if train.is_first():
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
