"""Label draws: stratified, nested, the same for ever; folds: stratified, disjoint."""

import numpy as np
import pytest
from reference import evaluate as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.labels import fold_weights

EVERY = pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 1.0])

LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 1, 0, 0, 1, 2])


def test_golden_values():
    expected = [[8, 4, 3, 2, 6, 11], [9, 1, 3, 2, 11, 6]]
    np.testing.assert_array_equal(evaluate.label_draws(LABELS, 2, 2, 7), expected)


def test_equals_the_reference(digits):
    found = evaluate.label_draws(digits.train_y, 9, 3, 2**64 - 1)
    assert found.dtype == np.int32
    target = reference.label_draws(digits.train_y, 9, 3, 2**64 - 1)
    np.testing.assert_array_equal(found, target)


def test_every_class_has_its_share_and_no_example_comes_twice(digits):
    draws = evaluate.label_draws(digits.train_y, 10, 4, 0)
    assert draws.shape == (4, 100)
    for draw in draws:
        np.testing.assert_array_equal(np.bincount(digits.train_y[draw]), 10)
        assert len(set(draw.tolist())) == 100
    assert len({tuple(d) for d in draws.tolist()}) == 4


def test_fewer_labels_are_part_of_more(digits):
    one, ten = (evaluate.label_draws(digits.train_y, m, 3, 5) for m in (1, 10))
    for few, many in zip(one, ten, strict=True):
        assert set(few.tolist()) < set(many.tolist())


@EVERY
def test_fractions_equal_the_reference(digits, fraction):
    found = evaluate.fraction_draws(digits.train_y, fraction, 3, 5)
    assert found.dtype == np.int32
    target = reference.fraction_draws(digits.train_y, fraction, 3, 5)
    np.testing.assert_array_equal(found, target)


@EVERY
def test_a_fraction_is_taken_of_each_class_and_at_least_one(fraction):
    """Classes of 1 to 1,000: what is drawn follows their sizes."""
    sizes = np.array([1, 4, 14, 15, 1000])
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), sizes))
    expected = {0.01: [1, 1, 1, 1, 10], 0.1: [1, 1, 1, 2, 100],
                0.5: [1, 2, 7, 8, 500], 1.0: sizes}[fraction]  # fmt: skip
    draws = evaluate.fraction_draws(labels, fraction, 2, 0)
    for draw in draws:
        np.testing.assert_array_equal(np.bincount(labels[draw]), expected)
        assert len(set(draw.tolist())) == len(draw)


def test_fractions_are_nested_among_themselves_and_with_numbers(digits):
    y = digits.train_y
    hundredth, tenth = (evaluate.fraction_draws(y, f, 3, 5) for f in (0.01, 0.1))
    three = evaluate.label_draws(y, 3, 3, 5)
    # A hundredth of some 50 is 1, a tenth 4 to 6: three lie between.
    for few, more, most in zip(hundredth, three, tenth, strict=True):
        assert set(few.tolist()) < set(more.tolist()) < set(most.tolist())


def test_labels_need_not_be_contiguous():
    draws = evaluate.label_draws(np.array([7, 3, 7, 3]), 1, 1, 0)
    assert sorted(np.array([7, 3, 7, 3])[draws[0]].tolist()) == [3, 7]


def test_folds_are_stratified_and_held_out_once():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 7, 5]))
    weights = fold_weights(labels, 5)
    assert weights.shape == (6, 22)
    np.testing.assert_array_equal(weights[-1], 1.0)
    np.testing.assert_array_equal((weights == 0).sum(0), 1)
    for held in weights[:-1] == 0:
        assert held.sum() in (4, 5)
        counts = np.bincount(labels[held], minlength=3)
        assert counts[0] == 2
        assert counts[1] in (1, 2)
        assert counts[2] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS, 5, 1, 0), "per_class must be <= 4, the examples of class 0, got 5"),
        ((LABELS, 0, 1, 0), "per_class must be >= 1, got 0"),
        ((LABELS, 1, 0, 0), "draws must be >= 1, got 0"),
        ((LABELS, 1, 1, -1), r"seed must be in \[0, 2\^64\), got -1"),
        ((LABELS - 1, 1, 1, 0), "leave unlabelled rows"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        evaluate.label_draws(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LABELS, 0.0, 1, 0), r"fraction must be in \(0, 1\], got 0.0"),
        ((LABELS, 1.5, 1, 0), r"fraction must be in \(0, 1\], got 1.5"),
        ((LABELS, np.nan, 1, 0), r"fraction must be in \(0, 1\], got nan"),
        ((LABELS, 0.1, 0, 0), "fraction_draws: draws must be >= 1, got 0"),
        ((LABELS - 1, 0.1, 1, 0), "fraction_draws: .*leave unlabelled rows"),
    ],
)
def test_wrong_fractions_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        evaluate.fraction_draws(*arguments)
