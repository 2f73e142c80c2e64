"""The bottleneck of a flipped bit against the channels it is made of."""

import jax
import numpy as np
import pytest
from reference import theory as reference

from rl_jax import theory
from rl_jax.errors import UsageError

FLIP = 0.1


def h(p):
    """Entropy of a coin, by its definition."""
    return -sum(q * np.log(q) for q in (p, 1 - p) if q > 0)


def test_entropy_of_a_coin():
    p = np.array([0.0, 0.1, 0.5, 0.73, 1.0])
    np.testing.assert_allclose(
        theory.coin_entropy(p), [h(q) for q in p], rtol=1e-14, atol=1e-15
    )


@pytest.mark.parametrize("flip", [0.01, 0.1, 0.4])
def test_the_curve_is_that_of_channels_one_after_the_other(flip):
    delta = np.linspace(0.001, 0.499, 30)
    rate = np.array([np.log(2) - h(d) for d in delta])
    both = delta * (1 - flip) + (1 - delta) * flip
    expected = [np.log(2) - h(b) for b in both]
    found = theory.binary_relevance(rate, flip=flip)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_code_of_two_or_three_letters_tells_more():
    joint = np.array([[1 - FLIP, FLIP], [FLIP, 1 - FLIP]]) / 2
    rng = np.random.default_rng(0)
    for letters in (2, 3):
        for encoder in rng.dirichlet(np.full(letters, 0.5), size=(300, 2)):
            with_x = encoder / 2
            with_y = joint.T @ encoder
            rate, relevance = information(with_x), information(with_y)
            assert relevance <= theory.binary_relevance(rate, flip=FLIP) + 1e-12


def information(joint):
    """I of a table of probabilities."""
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return np.sum(joint[seen] * np.log(joint[seen] / apart[seen]))


def test_the_slope_at_the_rate_of_beta_is_one_over_beta():
    beta = np.array([1.6, 2.0, 2.5, 3.0])
    rate, step = theory.binary_rate(beta, flip=FLIP), 1e-5
    above, below = (theory.binary_relevance(rate + s, flip=FLIP) for s in (step, -step))
    np.testing.assert_allclose((above - below) / (2 * step), 1 / beta, rtol=1e-6)


def test_nothing_is_kept_up_to_the_critical_beta():
    critical = 1 / (1 - 2 * FLIP) ** 2
    rates = theory.binary_rate(np.array([0.5, 1.0, 0.999 * critical]), flip=FLIP)
    assert np.all(rates < 1e-6)
    assert theory.binary_rate(1.01 * critical, flip=FLIP) > 1e-3


def test_ends():
    found = theory.binary_relevance(np.array([0.0, np.log(2)]), flip=FLIP)
    np.testing.assert_allclose(found, [0.0, np.log(2) - h(FLIP)], atol=1e-10)


def test_the_solver_finds_it():
    joint = np.array([[1 - FLIP, FLIP], [FLIP, 1 - FLIP]]) / 2
    with jax.enable_x64():
        found = theory.discrete_bottleneck(joint, beta=3.0)
    np.testing.assert_allclose(
        found.rate, theory.binary_rate(3.0, flip=FLIP), atol=1e-8
    )


def test_cells_of_a_gaussian():
    found = theory.gaussian_cells(0.8, cells=9, reach=3.0)
    expected = reference.gaussian_table(0.8, cells=9, edge=3.0)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.binary_relevance(0.1, flip=0.5), "inside (0, 0.5), got 0.5"),
        (lambda: theory.binary_relevance(0.8, flip=0.1), "got 0.8 to 0.8"),
        (lambda: theory.binary_rate(0.0, flip=0.1), "beta must be > 0, got 0"),
        (lambda: theory.binary_rate(1.0, flip=-0.1), "inside (0, 0.5), got -0.1"),
        (lambda: theory.gaussian_cells(1.0), "got 1.0 and 32"),
        (lambda: theory.gaussian_cells(0.0, cells=0), "got 0.0 and 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UsageError) as refused:
        call()
    assert message in str(refused.value)
