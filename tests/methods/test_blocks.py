"""Blocks of patches: their sizes and places, and what is never both seen and told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import masked as reference

from rl_jax.methods import blocks

GRID = (7, 9)
DRAWN = {
    "targets": 3,
    "target_scale": (0.1, 0.2),
    "target_aspect": (0.75, 1.5),
    "context_scale": (0.5, 0.8),
}


@functools.partial(jax.jit, static_argnames=("grid", "kept"))
def draw(rng, index, *, grid=GRID, kept=12):
    return blocks.draw(rng, index, grid, kept=kept, **DRAWN)


@pytest.mark.parametrize("side", [4, 8, 14, 16])
@pytest.mark.parametrize(
    ("scale", "aspect"), [((0.15, 0.2), (0.75, 1.5)), ((0.85, 1.0), (1.0, 1.0))]
)
def test_sizes_are_by_the_formula_of_the_authors(side, scale, aspect):
    """Of the scales and aspects at the middles of equal parts of their ranges."""
    found = blocks.sizes(side, side, scale=scale, aspect=aspect)
    parts = (np.arange(blocks.DRAWS) + 0.5) / blocks.DRAWS
    expected = [
        reference.block_size(side, side, scale[0] + s * np.ptp(scale), a)
        for s in parts
        for a in aspect[0] + parts * np.ptp(aspect)
    ]
    np.testing.assert_array_equal(found, expected)


def test_sizes_of_14_by_14_patches():
    """As the paper's figures have them: about a sixth, and nearly all."""
    target = blocks.sizes(14, 14, scale=(0.15, 0.2), aspect=(0.75, 1.5))
    area = np.prod(target, axis=1) / 196
    assert 0.12 < area.min() < 0.15
    assert 0.2 <= area.max() < 0.23
    assert 0.16 < area.mean() < 0.19
    assert set(map(tuple, blocks.sizes(14, 14, scale=(0.85, 1.0)))) == {
        (13, 13), (14, 14)
    }  # fmt: skip


@pytest.mark.parametrize("grid", [(4, 12), (12, 4), (1, 5)])
def test_a_block_of_all_patches_is_the_image(grid):
    assert set(map(tuple, blocks.sizes(*grid, scale=(1.0, 1.0)))) == {grid}


def rectangle(places, grid):
    """Whether these patches are all of a rectangle."""
    rows, columns = np.divmod(places, grid[1])
    area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    return len(set(places)) == len(places) == area


def test_masks_are_what_they_say():
    """Blocks of one size; contexts of K patches, none of them a target's."""
    index = jnp.arange(200, dtype=jnp.int32)
    sizes = set()
    for step in range(8):
        found = jax.tree.map(np.asarray, draw(jax.random.key(step), index))
        assert found.context.shape == (200, 12)
        count = found.counts[0, 0].sum()
        # With 12 of 63 patches to see there is room beside three blocks.
        assert (found.counts.sum(-1) == count).all()
        for context, targets, counts in zip(*found, strict=True):
            assert len(set(context)) == 12
            assert not set(context) & set(targets[counts])
            for block, there in zip(targets, counts, strict=True):
                assert rectangle(block[there], GRID)
                assert not block[~there].any()
        first = found.targets[0, 0][found.counts[0, 0]]
        sizes.add(tuple(np.ptp(x) + 1 for x in np.divmod(first, GRID[1])))
        all_sizes = blocks.sizes(*GRID, scale=(0.1, 0.2), aspect=(0.75, 1.5))
        assert sizes <= set(map(tuple, all_sizes))
    assert len(sizes) > 2


def test_masks_follow_the_example_and_the_step():
    index = jnp.asarray([5, 3, 90, 7, 7], jnp.int32)
    one = draw(jax.random.key(0), index)
    turned = draw(jax.random.key(0), index[::-1])
    for a, b in zip(one, turned, strict=True):
        np.testing.assert_array_equal(a, b[::-1])
        np.testing.assert_array_equal(a[3], a[4])
    assert np.any(one.context[0] != one.context[1])
    assert np.any(one.targets[0] != one.targets[1])
    alone = draw(jax.random.key(0), index[2:3])
    np.testing.assert_array_equal(alone.context, one.context[2:3])
    other = draw(jax.random.key(1), index)
    assert np.any(other.context != one.context)


def test_blocks_lie_anywhere_alike():
    """How often each patch is told, beside the count of the places a block has."""
    count, grid = 20_000, (4, 5)
    index = jnp.arange(count, dtype=jnp.int32)
    masks = blocks.draw(
        jax.random.key(0),
        index,
        grid,
        kept=1,
        targets=1,
        target_scale=(0.3, 0.3),
        target_aspect=(1.0, 1.0),
        context_scale=(0.5, 0.5),
    )
    height, width = blocks.sizes(*grid, scale=(0.3, 0.3))[0]
    assert (height, width) == (2, 3)
    told = np.zeros((count, 20))
    rows = np.arange(count)[:, None]
    np.add.at(told, (rows, np.asarray(masks.targets[:, 0])), masks.counts[:, 0])
    expected = reference.coverage(*grid, height, width)
    np.testing.assert_allclose(told.mean(0).reshape(grid), expected, atol=0.02)
    # What is seen is in the context block, and beside the target, alike on all sides.
    seen = np.bincount(np.asarray(masks.context[:, 0]), minlength=20).reshape(grid)
    for turned in (seen[::-1], seen[:, ::-1]):
        np.testing.assert_allclose(seen / count, turned / count, atol=0.02)


def test_contexts_are_drawn_from_their_block_first():
    """A block of the left half alone is seen, where no target hides it."""
    index = jnp.arange(300, dtype=jnp.int32)
    masks = blocks.draw(
        jax.random.key(0),
        index,
        (8, 8),
        kept=6,
        targets=1,
        target_scale=(0.05, 0.05),
        target_aspect=(1.0, 1.0),
        context_scale=(0.25, 0.25),
    )
    rows, columns = np.divmod(np.asarray(masks.context), 8)
    assert np.ptp(rows, axis=1).max() < 4
    assert np.ptp(columns, axis=1).max() < 4
    # Six of the sixteen or fewer, not the first ones of them.
    assert len(np.unique(rows - rows.min(1, keepdims=True), axis=0)) > 50


def test_targets_that_must_be_seen_do_not_count():
    """More patches to see than targets leave: what is seen is never asked for."""
    index = jnp.arange(100, dtype=jnp.int32)
    found = jax.tree.map(np.asarray, draw(jax.random.key(0), index, kept=55))
    seen = np.zeros((100, 63), bool)
    np.put_along_axis(seen, found.context, True, axis=1)
    assert (seen.sum(1) == 55).all()
    rows = np.arange(100)[:, None, None]
    assert not (seen[rows, found.targets] & found.counts).any()
    assert found.counts.sum() < 100 * 3 * found.counts[0, 0].size
    # All others of the image are seen before a patch of a target is.
    told = np.zeros((100, 63), bool)
    np.put_along_axis(told, found.targets.reshape(100, -1), True, axis=1)
    told[:, 0] = False
    assert (seen | told)[:, 1:].all()
