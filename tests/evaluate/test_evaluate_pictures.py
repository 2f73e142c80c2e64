"""Neighbours of a page, and raw pixels as a baseline."""

import numpy as np
import pytest
from reference import evaluate as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError


def test_neighbours_equal_brute_force_without_self():
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    queries = np.array([3, 39, 0, 3])
    found = evaluate.nearest(x * np.arange(1, 41)[:, None], queries, k=5)
    unit = reference.unit_rows(x)
    target = reference.top_k(unit[queries], unit, k=5, exclude=queries)[1]
    np.testing.assert_array_equal(found, target)
    assert not (found == queries[:, None]).any()


def test_a_twin_is_found_and_the_row_itself_is_not():
    x = np.float32([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    np.testing.assert_array_equal(
        evaluate.nearest(x, np.array([0, 2]), k=3), [[2, 3, 1], [0, 3, 1]]
    )


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        ([0], 4, r"nearest: k must be in \[1, 3\], the other rows, got 4"),
        ([0], 0, "nearest: k must be >= 1, got 0"),
        ([4], 1, r"rows in \[0, 4\), got \[4\]"),
        ([-1], 1, r"rows in \[0, 4\), got \[-1\]"),
    ],
)
def test_wrong_neighbours_are_named(queries, k, message):
    with pytest.raises(UsageError, match=message):
        evaluate.nearest(np.ones((4, 2), np.float32), np.array(queries), k=k)


def test_raw_pixels_of_bytes_and_floats():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2)
    images[0, 0, 0, 0] = 255
    found = evaluate.raw_pixels(images)
    assert found.dtype == np.float32
    assert found.shape == (2, 12)
    np.testing.assert_allclose(found[0], [1, *(np.arange(1, 12) / 255)], rtol=1e-6)
    np.testing.assert_array_equal(
        evaluate.raw_pixels(images.astype(np.float64) / 255), found
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 3)), r"expected \[n, H, W, C\], got \(2, 3, 3\)"),
        (np.zeros((0, 3, 3, 1)), r"got \(0, 3, 3, 1\)"),
        (np.zeros((2, 3, 3, 1), int), "expected uint8 or float, got int64"),
        (np.full((2, 3, 3, 1), -1.0), r"in \[0, 1\], got -1.0 .. -1.0; undo"),
        (np.full((2, 3, 3, 1), np.nan), r"in \[0, 1\], got nan"),
    ],
)
def test_wrong_images_are_named(images, message):
    with pytest.raises(UsageError, match=message):
        evaluate.raw_pixels(images)
