"""Steps that are not finite change nothing, are counted, named and bounded."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import augment, data, methods, networks, train
from rl_jax.errors import NonFiniteError, UsageError
from rl_jax.train import loop, nonfinite, sharding
from rl_jax.types import Augment

pytestmark = [pytest.mark.core, pytest.mark.fault]
BATCH = 16


def made(name):
    """A method that has all there is to spoil: statistics, a target, a queue."""
    encoder = networks.convnet(widths=(4,))
    projector = networks.projection_head(hidden=8, out=4)
    if name == "moco":
        return methods.moco(encoder, projector, queue_size=32)
    predictor = networks.prediction_head(hidden=8, out=4)
    return methods.byol(encoder, projector, predictor, total_steps=9)


def views(rng, batch):
    """Two views of each image; `spoilt` [B, 2] is added to all their pixels."""
    del rng
    image = batch["image"][:, None] / 255.0 + batch["spoilt"][:, :, None, None, None]
    return {"views": image, "index": batch["index"]}


def raw(**spoilt):
    rng = np.random.default_rng(0)
    spoil = np.zeros((BATCH, 2), np.float32)
    for where, value in spoilt.items():
        example, view = map(int, where.strip("_").split("_"))
        spoil[example, view] = value
    return {
        "index": np.arange(BATCH, dtype=np.int32),
        "image": rng.integers(0, 256, (BATCH, 8, 8, 1)).astype(np.float32),
        "spoilt": spoil,
    }


@pytest.fixture(scope="module", params=["moco", "byol"])
def stepping(request):
    """The compiled step on eight devices, and a state after two steps."""
    mesh = train.data_mesh()
    pieces = {
        "method": made(request.param),
        "augment": Augment(views=views, clean=lambda image: image),
        "optimizer": optax.adam(1e-3),
    }
    everywhere, rows = sharding.replicated(mesh), sharding.batched(mesh)
    body = functools.partial(train.train_step, **pieces)
    with jax.set_mesh(mesh):
        state = jax.jit(
            lambda: train.init_train_state(jax.random.key(0), raw(), **pieces),
            out_shardings=everywhere,
        )()
    compiled = jax.jit(body, out_shardings=everywhere)

    def step(state, batch):
        with jax.set_mesh(mesh):
            return compiled(state, sharding.put(batch, rows))

    for _ in range(2):
        state, metrics = step(state, raw())
        assert metrics["nonfinite"] == 0
        assert metrics["nonfinite_leaf"] == -1
    return step, state


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize(
    "where",
    [
        {"_0_0", "_0_1"},  # both views of one image, on the first device
        {"_15_1"},  # one view only, on the last device only
        {f"_{i}_{v}" for i in range(BATCH) for v in (0, 1)},
    ],
    ids=["image", "view", "batch"],
)
def test_a_spoilt_batch_changes_nothing(stepping, where, value):
    """Statistics, target, queue, moments and their counters are bit for bit the old."""
    step, state = stepping
    after, metrics = step(state, raw(**dict.fromkeys(where, value)))
    assert metrics["nonfinite"] == 1
    assert train.fingerprint(after[1:]) == train.fingerprint(state[1:])
    assert int(after.step) == int(state.step) + 1
    for leaf in jax.tree.leaves(after[1:]):
        assert leaf.sharding.is_fully_replicated
    name = nonfinite.leaf_names(state)[int(metrics["nonfinite_leaf"])]
    assert name.startswith(("the gradient of params[", "the new state["))
    # And the step after is the one it would have been.
    good, metrics = step(after._replace(step=state.step), raw())
    assert metrics["nonfinite"] == 0
    assert train.fingerprint(good) == train.fingerprint(step(state, raw())[0])
    assert train.fingerprint(good[2:]) != train.fingerprint(state[2:])


def test_every_leaf_has_its_name(stepping):
    """The places of the step are those of the names, whatever is an integer between."""
    _, state = stepping
    names = nonfinite.leaf_names(state)
    floats = [len(nonfinite.inexact(x)) for x in state[2:]]
    assert len(names) == floats[0] + sum(floats) + 2
    assert len(set(names)) == len(names)
    assert names[-1] == "the loss"


STEPS = 12


def toxic(bad):
    """A source whose images `bad` make the loss NaN, held on the device."""
    rng = np.random.default_rng(0)
    images = rng.integers(1, 255, (50, 4, 4, 1)).astype(np.uint8)
    images[list(bad)] = 255
    return data.arrays(images)


def spoiling(rng, image):
    """An image all of 255 becomes NaN."""
    toxic = jnp.all(image > 0.99)
    image = image + 0.1 * jax.random.normal(rng, image.shape)
    return jnp.where(toxic, jnp.nan, image)


def fit(source, **kwargs):
    options = {
        "augment": augment.views(spoiling),
        "optimizer": optax.sgd(0.1),
        "steps": STEPS,
        "batch_size": BATCH,
        "log_every": 4,
        "mesh": train.data_mesh(jax.devices()[:1]),
    }
    method = methods.simclr(
        networks.mlp(features=(8,), out=8), networks.projection_head(hidden=8, out=4)
    )
    return train.fit(method, source, **options | kwargs)


def batches():
    return [
        data.batch_indices(0, t, size=50, batch_size=BATCH).tolist()
        for t in range(STEPS)
    ]


def lost_at(bad):
    return [t + 1 for t, ids in enumerate(batches()) if set(ids) & set(bad)]


def rarely():
    """An example that is in two batches at most, and not in the first."""
    found = [i for i in range(50) if 1 <= len(lost_at([i])) <= 4]
    return next(i for i in found if lost_at([i])[0] > 1)


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_skipping_goes_on_and_counts(steps_per_call, monkeypatch):
    bad = [rarely()]
    at = lost_at(bad)
    rows, told, reads = [], [], []
    fetch = loop.fetch
    monkeypatch.setattr(loop, "fetch", lambda tree: reads.append(1) or fetch(tree))
    state = fit(
        toxic(bad),
        on_nonfinite="skip",
        on_log=rows.append,
        on_lost=told.append,
        steps_per_call=steps_per_call,
    )
    assert int(state.step) == STEPS
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    counts = [sum(t - 4 < n <= t for n in at) for t in (4, 8, 12)]
    assert sum(counts) > 0
    assert [row["nonfinite"] for row in rows] == counts
    assert len(reads) == 1 + 3, "the start and the three log points, nothing between"
    assert [lost.count for lost in told] == [n for n in counts if n]
    for lost in told:
        assert lost.step == next(n for n in at if n > lost.after)
        assert lost.index.tolist() == batches()[lost.step - 1]
        assert set(lost.index) & set(bad)
        assert lost.leaf.startswith("the gradient of params['encoder']")


def test_halting_names_the_step_and_the_leaf(tmp_path):
    bad = [rarely()]
    at, told = lost_at(bad), []
    with (
        train.Checkpoints(tmp_path) as checkpoints,
        pytest.raises(NonFiniteError, match=f"first at {at[0]} in the gradient of par"),
    ):
        fit(toxic(bad), on_lost=told.append, checkpoints=checkpoints)
    assert [lost.step for lost in told] == [at[0]]
    assert train.Checkpoints(tmp_path).steps() == [-(-at[0] // 4) * 4]


@pytest.mark.parametrize(("limit", "until"), [(5, 8), (3, 4), (12, 12), (13, None)])
def test_too_many_in_a_row_end_the_run(limit, until):
    """Counted over log points; of twelve steps that are lost, all."""
    run = functools.partial(
        fit, toxic(range(50)), on_nonfinite="skip", nonfinite_limit=limit
    )
    if until is None:
        state = run()
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
        return
    with pytest.raises(NonFiniteError, match=f"{until} in a row with {limit} allowed"):
        run()


def test_the_terms_of_the_loss_that_are_not_finite_are_named():
    lost = nonfinite.LostSteps(4, 8, 1, 1, 6, "the loss", np.arange(2))
    row = {"loss": math.nan, "step": 8, "rate": 2.0, "distortion": math.inf}
    error = nonfinite.error(lost, row | {"grad_norm": 1.5}, limit=None)
    assert "(at 8: loss nan, grad_norm 1.5, distortion inf); their" in str(error)


def test_a_streak_ends_with_a_finite_step():
    lost = nonfinite.none_lost()
    for step, leaf in enumerate([-1, 7, 5, -1, 3], start=1):
        lost = nonfinite.note(lost, step=step, leaf=jnp.int32(leaf))
    assert [int(x) for x in lost] == [3, 1, 2, 2, 7]
    lost = nonfinite.note(nonfinite.none_lost(1), step=6, leaf=jnp.int32(4))
    assert [int(x) for x in lost] == [1, 2, 2, 6, 4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_nonfinite": "ignore"}, "must be one of halt, skip, got 'ignore'"),
        ({"nonfinite_limit": 0}, "nonfinite_limit must be at least 1, got 0"),
        ({"nonfinite_limit": 1.5}, "nonfinite_limit must be an integer, got 1.5"),
    ],
)
def test_a_policy_there_is_not(options, message):
    with pytest.raises(UsageError, match=message):
        fit(toxic([]), **options)
