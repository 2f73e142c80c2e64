"""InfoNCE on two views, two windows and pairs; SupCon on two views and labels."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference import losses as reference
from reference.compiled import methods
from reference.sequences import find

from rl_jax import evaluate, networks
from rl_jax.errors import UsageError
from rl_jax.methods import windows
from rl_jax.types import Network

B, TAU = 6, 0.3


def linear(d_out, seed):
    """A linear network without state, so that a step can be written out by hand."""

    def init(rng, x):
        del rng
        shape = (math.prod(x.shape[1:]), d_out)
        return 0.5 * jax.random.normal(jax.random.key(seed), shape), {}

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        return x.reshape(len(x), -1) @ params, state

    return Network(init, apply)


PARTS = (linear(4, 1), linear(3, 2))


def batch(seed=0, steps=12):
    rngs = jax.random.split(jax.random.key(seed), 3)
    views = jax.random.normal(rngs[0], (B, 2, 5))
    return {
        "index": jnp.arange(B, dtype=jnp.int32),
        "views": views,
        "image": views[:, 0] + 1,
        "pair": views[:, 1] - 1,
        "sequence": jax.random.normal(rngs[1], (B, steps, 2)),
        "label": jnp.asarray([0, 1, 0, -1, 1, -1], jnp.int32),
    }


def embed(params, x):
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    return x @ params["encoder"] @ params["projector"]


def run(method, given, rng=0):
    params, state = method.init(jax.random.key(5), given)
    value, aux = jax.jit(method.loss)(params, state, given, jax.random.key(rng))
    return jax.tree.map(np.asarray, params), float(value), aux


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("positives", ["augmentation", "paired"])
def test_equals_the_paper(positives, symmetric):
    method = methods.info_nce(
        *PARTS, positives=positives, temperature=TAU, symmetric=symmetric
    )
    given = batch()
    params, value, aux = run(method, given)
    x, y = (
        (given["image"], given["pair"])
        if positives == "paired"
        else np.moveaxis(np.asarray(given["views"]), 1, 0)
    )
    x, y, own = embed(params, x), embed(params, y), np.arange(B)
    expected = find(x, y, own, temperature=TAU)
    if symmetric:
        expected = (expected + find(y, x, own, temperature=TAU)) / 2
    assert value == pytest.approx(expected, rel=1e-5)
    assert float(aux.metrics["information"]) == pytest.approx(
        math.log(B) - expected, abs=1e-5
    )
    np.testing.assert_allclose(aux.features["z"], np.stack([x, y], 1), rtol=1e-4)


def test_windows_are_those_that_were_drawn():
    """The loss is that of the two windows which the rng of the step gives."""
    method = methods.info_nce(
        *PARTS, positives="temporal", window=3, gap=(1, 4), temperature=TAU
    )
    given = batch()
    params, value, _ = run(method, given, rng=7)
    pair = windows.two(jax.random.key(7), given, window=3, gap=(1, 4))
    x, y = (embed(params, pair[:, v]) for v in (0, 1))
    own = np.arange(B)
    ways = [find(*sides, own, temperature=TAU) for sides in ((x, y), (y, x))]
    assert value == pytest.approx(sum(ways) / 2, rel=1e-5)


@pytest.mark.parametrize("gap", [(0, 0), (2, 2), (0, 3), (1, 5)])
def test_two_windows_of_a_sequence(gap):
    """Neighbouring steps in order, the second behind the first; every place occurs."""
    count, steps, window = 4000, 12, 3
    sequence = jnp.tile(
        jnp.arange(steps, dtype=jnp.float32)[None, :, None], (count, 1, 1)
    )
    given = {"index": jnp.arange(count), "sequence": sequence}
    draw = functools.partial(windows.two, window=window, gap=gap)
    pair = np.asarray(jax.jit(draw)(jax.random.key(0), given))[..., 0]
    assert pair.shape == (count, 2, window)
    assert np.all(np.diff(pair, axis=2) == 1)
    apart = pair[:, 1, 0] - pair[:, 0, 2] - 1
    found, counts = np.unique(apart, return_counts=True)
    assert found.tolist() == list(range(gap[0], gap[1] + 1))
    assert counts.min() > 0.8 * count / len(found)
    for distance in found:
        starts = pair[apart == distance, 0, 0]
        places, counts = np.unique(starts, return_counts=True)
        assert places.tolist() == list(range(int(steps - 2 * window - distance + 1)))
        assert counts.min() > 0.6 * len(starts) / len(places)


def test_windows_follow_the_example():
    """Not its place in the batch."""
    given = batch()
    order = np.array([3, 1, 5, 0, 4, 2])
    moved = {k: given[k][order] for k in ("index", "sequence")}
    draw = functools.partial(windows.two, window=3, gap=(0, 4))
    here, there = (draw(jax.random.key(2), b) for b in (given, moved))
    np.testing.assert_array_equal(here[order], there)
    assert np.any(here != draw(jax.random.key(3), given))


def test_a_sequence_is_encoded_as_the_mean_of_its_windows():
    method = methods.info_nce(*PARTS, positives="temporal", window=5, gap=(0, 0))
    given = batch(steps=13)
    params, state = method.init(jax.random.key(0), given)
    out = method.encode(params, state, given)
    x = np.asarray(given["sequence"], np.float64)
    parts = [x[:, :5], x[:, 5:10]]
    h = np.mean([p.reshape(B, -1) @ params["encoder"] for p in parts], 0)
    np.testing.assert_allclose(out["h"], h, rtol=1e-4, atol=1e-5)
    z = h @ np.asarray(params["projector"], np.float64)
    np.testing.assert_allclose(out["z"], z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positives": "both"}, "one of augmentation, temporal, paired, got 'both'"),
        ({"temperature": 0.0}, "info_nce: temperature must be > 0 and finite, got 0.0"),
        ({"window": 0}, "info_nce: window must be at least 1, got 0"),
        ({"gap": (3, 2)}, r"gap must be 0 <= least <= most, got \(3, 2\)"),
        ({"gap": (-1, 2)}, "gap must be"),
    ],
)
def test_refuses_values_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        methods.info_nce(*PARTS, **arguments)


@pytest.mark.parametrize(
    ("positives", "change", "message"),
    [
        ("augmentation", {"views": None}, "the batch must have `views`, got"),
        ("paired", {"pair": None}, "the batch must have `pair`, got"),
        ("temporal", {"sequence": None}, "the batch must have `sequence`, got"),
        ("paired", {"pair": jnp.zeros((B, 4))}, r"one shape, got \(6, 5\), \(6, 4\)"),
        (
            "paired",
            {"pair": jnp.zeros((B, 5), jnp.uint8)},
            "one dtype, got float32, uint8; an augmentation changes image alone",
        ),
        (
            "temporal",
            {"sequence": jnp.zeros((B, 23, 2))},
            "two windows of 8 steps and a gap of up to 8 need 24 steps, got sequences "
            "of 23",
        ),
    ],
)
def test_refuses_a_batch_without_positives(positives, change, message):
    method = methods.info_nce(*PARTS, positives=positives)
    given = {k: v for k, v in (batch() | change).items() if v is not None}
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(method.init, jax.random.key(0), given)


# What it learns.

SIZE = 128


def nets():
    encoder = networks.mlp(features=(64,), out=16, batch_norm=False)
    return encoder, networks.projection_head(hidden=32, out=16, batch_norm=False)


def noisy_pairs(rng, size=SIZE, *, shuffled=False):
    """Two arrays that share 2 of their 4 sources; a shuffled pair shares none."""
    rngs = jax.random.split(rng, 3)
    shared, own, other = (jax.random.normal(r, (size, 2)) for r in rngs)
    mix = jax.random.normal(jax.random.key(99), (4, 10))
    x, y = (jnp.tanh(jnp.concatenate([shared, p], 1) @ mix) for p in (own, other))
    if shuffled:
        y = jnp.roll(y, 1, axis=0)
    given = {"index": jnp.arange(size), "image": x, "pair": y}
    return given | {"shared": shared, "own": own}


def rotations(rng, size=SIZE, *, shuffled=False):
    """Noisy circles [128, 48, 2] at one of four speeds; a shuffled one has no order."""
    rngs = jax.random.split(rng, 4)
    label = jax.random.randint(rngs[0], (size,), 0, 4)
    start = jax.random.uniform(rngs[1], (size, 1), maxval=2 * math.pi)
    angle = start + (0.3 + 0.25 * label)[:, None] * jnp.arange(48.0)[None]
    x = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    x += 0.8 * jax.random.normal(rngs[2], x.shape)
    if shuffled:
        x = jax.vmap(jax.random.permutation)(jax.random.split(rngs[3], size), x)
    return {"index": jnp.arange(size), "sequence": x, "label": label}


shuffled_pairs = functools.partial(noisy_pairs, shuffled=True)
shuffled_rotations = functools.partial(rotations, shuffled=True)


def explained(method, params, state):
    """Share of the variance of the sources, shared and own, that is linear in z."""
    one, two = (noisy_pairs(jax.random.key(s), 1000) for s in (100, 101))
    z, held = (np.asarray(method.encode(params, state, b)["z"]) for b in (one, two))
    z, held = (np.concatenate([x, np.ones((len(x), 1))], 1) for x in (z, held))
    found = []
    for name in ("shared", "own"):
        weights = np.linalg.lstsq(z, np.asarray(one[name]), rcond=None)[0]
        target = np.asarray(two[name])
        found.append(1 - np.mean((held @ weights - target) ** 2) / np.var(target))
    return found


def accuracy(method, params, state):
    """Of a linear probe of h that tells the speeds."""
    one, two = (rotations(jax.random.key(s), 1000) for s in (100, 101))
    h, held = (np.asarray(method.encode(params, state, b)["h"]) for b in (one, two))
    labels = [np.asarray(b["label"]) for b in (one, two)]
    return evaluate.linear_probe(h, labels[0], held, labels[1]).mean


def test_pairs_teach_what_they_share():
    method = methods.info_nce(*nets(), positives="paired", temperature=0.1)
    rng = jax.random.key(0)
    params, state, metrics = scanned.run(method, noisy_pairs, rng, steps=300)
    learned = float(metrics["information"][-20:].mean())
    shared, own = explained(method, params, state)
    params, state, metrics = scanned.run(method, shuffled_pairs, rng, steps=300)
    nothing = float(metrics["information"][-20:].mean())
    print(f"information {learned:.2f}, of strangers {nothing:.2f} nat")
    print(f"R² shared {shared:.3f}, own {own:.3f}")
    control = explained(method, params, state)
    print(f"of strangers: shared {control[0]:.3f}, own {control[1]:.3f}")
    assert learned > 1.5
    assert nothing < 0.02
    assert shared > 0.8
    assert own < control[1] - 0.3


@pytest.mark.slow
def test_windows_teach_what_lasts():
    method = methods.info_nce(*nets(), positives="temporal", window=8, gap=(0, 8))
    rng = jax.random.key(0)
    untrained = accuracy(method, *method.init(rng, rotations(rng)))
    params, state, metrics = scanned.run(method, rotations, rng, steps=300)
    learned = float(metrics["information"][-20:].mean())
    found = accuracy(method, params, state)
    params, state, metrics = scanned.run(method, shuffled_rotations, rng, steps=300)
    nothing = float(metrics["information"][-20:].mean())
    control = accuracy(method, params, state)
    print(f"information {learned:.2f}, without order {nothing:.2f} nat")
    print(f"accuracy {found:.3f}, control {control:.3f}, untrained {untrained:.3f}")
    assert learned > 0.15
    assert nothing < 0.02
    assert found > max(control, untrained) + 0.1


# SupCon.


def test_sup_con_equals_the_paper():
    """Images without a label are each a class of their own."""
    method = methods.sup_con(*PARTS, temperature=TAU)
    given = batch()
    params, value, _ = run(method, given)
    z = embed(params, given["views"].reshape(2 * B, -1))
    label = np.repeat([0, 1, 0, 2, 1, 3], 2)
    expected, _ = reference.sup_con(z, label, temperature=TAU)
    assert value == pytest.approx(expected, rel=1e-5)


def test_sup_con_without_labels_is_simclr():
    given = batch() | {"label": jnp.full((B,), -1, jnp.int32)}
    _, value, _ = run(methods.sup_con(*PARTS, temperature=TAU), given)
    _, expected, _ = run(methods.simclr(*PARTS, temperature=TAU), given)
    assert value == pytest.approx(expected, rel=1e-5)


def test_sup_con_refusals():
    with pytest.raises(UsageError, match="sup_con: temperature must be > 0"):
        methods.sup_con(*PARTS, temperature=-1.0)
    method, given = methods.sup_con(*PARTS), batch()
    params, state = method.init(jax.random.key(0), given)
    del given["label"]
    with pytest.raises(UsageError, match="sup_con: the batch must have `label`, got"):
        method.loss(params, state, given, None)
