"""Which patches are hidden: as the authors' loop draws them, and each by itself."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax.errors import UsageError
from rl_jax.methods import hiding

RNG = jax.random.key(3)


@functools.partial(
    jax.jit, static_argnames=("grid", "views", "probability", "ratio", "least")
)
def draw(index, *, grid=(6, 5), views=2, probability=1.0, ratio=(0.1, 0.5), least=1):
    return hiding.draw(
        RNG, index, grid, views=views, probability=probability, ratio=ratio, least=least
    )


def authors(rng, rows, columns, *, ratio, least):
    """The loop of iBOT's `ImageFolderMask.__getitem__`, block after block."""
    wanted = rng.uniform(*ratio) * rows * columns
    mask = np.zeros((rows, columns), bool)
    while mask.sum() < wanted:
        left, before = wanted - mask.sum(), mask.sum()
        for _ in range(10):
            area = (
                rng.uniform(least, left) if least < left else rng.uniform(left, least)
            )
            aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            h = round(math.sqrt(area * aspect))
            w = round(math.sqrt(area / aspect))
            if w >= columns or h >= rows:
                continue
            top, start = rng.integers(rows - h + 1), rng.integers(columns - w + 1)
            block = mask[top : top + h, start : start + w]
            if 0 < block.size - block.sum() <= left:
                block[:] = True
                break
        if mask.sum() == before:
            break
    return mask


@pytest.mark.parametrize(
    ("grid", "least"), [((4, 4), 1), ((6, 5), 4), ((14, 14), 16), ((14, 14), 4)]
)
def test_as_many_and_as_close_as_the_authors_hide(grid, least):
    """Shares, and how often a neighbour below or beside is hidden as well."""
    rng = np.random.default_rng(0)
    count = 1500
    theirs = np.stack([
        authors(rng, *grid, ratio=(0.1, 0.5), least=least) for _ in range(count)
    ])  # fmt: skip
    index = jnp.arange(count, dtype=jnp.int32)
    ours = np.asarray(draw(index, grid=grid, views=1, least=least))
    ours = ours.reshape(count, *grid)

    def told(mask):
        share = mask.mean((1, 2))
        below = (mask[:, 1:] & mask[:, :-1]).mean((1, 2))
        beside = (mask[:, :, 1:] & mask[:, :, :-1]).mean((1, 2))
        corner = mask[:, 0, 0]
        return np.stack([share, share**2, below, beside, corner])

    a, b = told(ours), told(theirs)
    error = np.sqrt((a.var(1) + b.var(1)) / count)
    np.testing.assert_array_less(np.abs(a.mean(1) - b.mean(1)), 4 * error)


def test_hidden_are_no_more_than_the_largest_share():
    hidden = np.asarray(draw(jnp.arange(300, dtype=jnp.int32), ratio=(0.2, 0.4)))
    assert hidden.shape == (300, 2, 30)
    counts = hidden.sum(-1)
    assert counts.max() <= 12
    assert counts.max() >= 10
    # Views of one example are drawn apart.
    assert np.mean(counts[:, 0] == counts[:, 1]) < 0.5


def test_about_as_many_views_as_asked_are_hidden_at_all():
    index = jnp.arange(1000, dtype=jnp.int32)
    for probability in (0.0, 0.3, 1.0):
        found = np.asarray(draw(index, probability=probability)).any(-1).mean()
        assert abs(found - probability) < 0.05
    assert not draw(index, probability=0.0).any()


def test_the_draw_is_that_of_the_example():
    index = jnp.asarray([7, 2, 90, 2], jnp.int32)
    hidden = np.asarray(draw(index))
    np.testing.assert_array_equal(hidden[1], hidden[3])
    np.testing.assert_array_equal(draw(index[::-1])[::-1], hidden)
    assert (hidden[0] != hidden[1]).any()


def test_places_are_those_of_the_hidden():
    hidden = np.asarray(draw(jnp.arange(20, dtype=jnp.int32)))[:, 0]
    places, weight = hiding.places(jnp.asarray(hidden), 15)
    assert places.dtype == jnp.int32
    for mask, numbers, counts in zip(
        hidden, *map(np.asarray, (places, weight)), strict=True
    ):
        assert len(set(numbers.tolist())) == 15
        np.testing.assert_array_equal(numbers[counts], np.flatnonzero(mask))


def test_most_hidden_is_rounded_up():
    assert hiding.most_hidden("ibot", (14, 14), (0.1, 0.5)) == 98
    assert hiding.most_hidden("ibot", (3, 3), (0.1, 0.5)) == 5
    with pytest.raises(
        UsageError, match=r"ibot: mask_ratio=\(0.1, 0.2\) hides none of"
    ):
        hiding.most_hidden("ibot", (2, 2), (0.1, 0.2))


@pytest.mark.parametrize(("grid", "least"), [((1, 8), 1), ((8, 1), 1), ((2, 2), 4)])
def test_a_grid_too_small_for_a_block_is_refused(grid, least):
    """In which hardly any view, or none, would have anything hidden."""
    rows, columns = grid
    message = (
        f"dino_v2: {rows}×{columns} patches are too few to hide a block of {least}"
    )
    with pytest.raises(UsageError, match=message):
        hiding.most_hidden("dino_v2", grid, (0.1, 0.5), least)


@pytest.mark.parametrize(
    "ratio", [(0.5, 0.1), (0.0, 0.5), (0.1, 1.0), (0.1,), 0.3, ("a", "b")]
)
def test_refused(ratio):
    with pytest.raises(UsageError, match="ibot: mask_ratio must be least and largest"):
        hiding.check("ibot", ratio)
