"""What rotation, jigsaw and context ask, and that training learns to answer it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretext_loop import accuracy, digits, fit, shuffled
from reference.compiled import methods

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.methods.context import task as context
from rl_jax.methods.jigsaw import standardise
from rl_jax.methods.jigsaw import task as jigsaw
from rl_jax.methods.permutations import permutation_set
from rl_jax.methods.pretext import pretext
from rl_jax.methods.rotation import task as rotation


def rngs(count):
    return jax.vmap(jax.random.key)(jnp.arange(count))


def encoder(features=(64,), out=32):
    return networks.mlp(features=features, out=out, batch_norm=False)


def head():
    return networks.task_head(hidden=128, layers=1, batch_norm=False)


# name: side of the digits, task, head, steps, least accuracy, chance.
SETTINGS = {
    "rotation": (8, lambda: rotation(True), None, 800, 0.9, 1 / 4),
    "jigsaw": (12, lambda: jigsaw(24, 3, 1, True), head, 1500, 0.9, 1 / 24),
    "context": (24, lambda: context(6, 2, 2, "keep"), head, 1500, 0.5, 1 / 8),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rotation", "jigsaw", "context"])
def test_learns_to_answer(name):
    """On held-out digits; with answers drawn at random it stays at chance."""
    size, task, top, steps, least, chance = SETTINGS[name]
    train, _, held, _ = digits(size)
    net = encoder((256,), 64) if name == "rotation" else encoder()
    for asked, reached in ((task(), True), (shuffled(task()), False)):
        method = pretext(net, top and top(), asked)
        # Judged by the true answers either way.
        judge = pretext(net, top and top(), task())
        trained = fit(method, train, steps=steps if reached else 300, rate=3e-3)
        found = accuracy(judge, trained, held)
        if reached:
            assert found >= least
        else:
            assert abs(found - chance) < 0.1


def test_rotations_are_quarter_turns():
    image = jnp.arange(2 * 4 * 4, dtype=jnp.float32).reshape(2, 4, 4, 1)
    parts, answer = rotation(True).ask(rngs(2), image)
    assert parts.shape == (2, 4, 1, 4, 4, 1)
    for b in range(2):
        assert sorted(np.asarray(answer[b])) == [0, 1, 2, 3]
        for part, turns in zip(parts[b, :, 0], answer[b], strict=True):
            np.testing.assert_array_equal(part, np.rot90(image[b], int(turns)))


def test_tiles_do_not_tell_their_contrast():
    """Variance 1 down to a hundredth of the range; blank ones stay blank."""
    tiles = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype(np.float32)
    tiles = 0.4 + tiles * np.array([0.2, 0.02, 0.0], np.float32)[:, None, None, None]
    found = np.asarray(standardise(tiles))
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(found.var((1, 2, 3)), [1, 1, 0], atol=0.05)


def test_the_answer_of_a_jigsaw_puts_the_tiles_back():
    image = jax.random.uniform(jax.random.key(0), (5, 9, 9, 1))
    task = jigsaw(24, 3, 0, False)
    shown, answer = task.ask(rngs(5), image)
    tiles, rows = task.look(image), permutation_set(24, 9).rows
    for b in range(5):
        np.testing.assert_array_equal(shown[b, 0], tiles[b][rows[answer[b, 0]]])
    assert len(np.unique(answer)) > 1


@pytest.mark.parametrize(("count", "tiles"), [(24, 9), (6, 3), (100, 9)])
def test_permutations_are_apart(count, tiles):
    rows, distance = permutation_set(count, tiles)
    assert rows.shape == (count, tiles)
    np.testing.assert_array_equal(
        np.sort(rows, 1), np.tile(np.arange(tiles), (count, 1))
    )
    apart = [np.sum(a != b) for a, b in itertools.combinations(rows, 2)]
    assert min(apart) == distance
    if tiles == 9:
        # Of two drawn at random 8 places differ on average, and of many some pair few.
        assert distance >= (7 if count == 24 else 6)
        assert permutation_set(count, tiles).rows is rows


def test_neighbours_lie_where_the_answer_says():
    """An image whose pixels say where they are."""
    side = 24
    row, column = jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing="ij")
    image = jnp.tile((100.0 * row + column)[None, :, :, None], (64, 1, 1, 1))
    parts, answer = context(6, 2, 2, "keep").ask(rngs(64), image)
    assert parts.shape == (64, 1, 2, 6, 6, 1)
    corner = np.asarray(parts[:, 0, :, 0, 0, 0]).astype(int)
    place = np.stack(np.divmod(corner, 100), -1)
    step = place[:, 1] - place[:, 0]
    # Patch and gap are 8 apart, and each is moved by up to 2.
    direction = np.round(step / 8).astype(int)
    assert (np.abs(step - 8 * direction) <= 2).all()
    around = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    np.testing.assert_array_equal(
        direction, np.asarray(around)[np.asarray(answer)[:, 0]]
    )
    assert len(np.unique(answer)) == 8


@pytest.mark.slow
def test_colour_does_not_tell_the_place():
    """Green displaced against red and blue: nothing of it is left in the patches."""
    grey = jax.random.uniform(jax.random.key(0), (32, 24, 24, 1))
    green = jnp.roll(grey, 1, axis=2)
    image = jnp.concatenate([grey, green, grey], axis=-1)

    def displacement(chromatic):
        parts, _ = context(6, 2, 2, chromatic).ask(rngs(32), image)
        x = np.asarray(parts).reshape(-1, 6, 6, 3)
        x = x - x.mean((1, 2), keepdims=True)
        shifted, red = x[:, :, 1:, 1], x[:, :, :-1, 0]
        return np.corrcoef(shifted.ravel(), red.ravel())[0, 1]

    assert displacement("keep") > 0.99
    assert abs(displacement("drop")) < 0.05
    parts, _ = context(6, 2, 2, "project").ask(rngs(32), image)
    across = np.asarray(parts) @ np.array([-1.0, 2.0, -1.0])
    assert np.abs(across).max() < 1e-5


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: methods.jigsaw(encoder(), head()), (10, 10), "jigsaw: .*10"),
        (lambda: methods.context(encoder(), head(), patch=6), (16, 16), "16 x 16"),
        (lambda: methods.rotation(encoder()), (8, 12), "rotation: .*8.*12"),
        (
            lambda: methods.jigsaw(encoder(), head(), grid=2, permutations=25),
            None,
            "24",
        ),
        (lambda: methods.context(encoder(), head(), gap=1, jitter=2), None, "at most"),
    ],
)
def test_refused_before_compiling(make, shape, message):
    with pytest.raises(UsageError, match=message):  # noqa: PT012
        method = make()
        batch = {
            "index": jax.ShapeDtypeStruct((4,), jnp.int32),
            "image": jax.ShapeDtypeStruct((4, *shape, 1), jnp.float32),
        }
        jax.eval_shape(method.init, jax.random.key(0), batch)
