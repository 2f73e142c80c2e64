"""What a layer tells of the input: counts, bounds, and what they do not depend on."""

import jax
import numpy as np
import pytest

from rl_jax import theory
from rl_jax.errors import UsageError
from tests.reference import theory as reference


@pytest.mark.parametrize("bins", [1, 4, 30, 30_000])
def test_binned_information_is_the_entropy_of_the_cells(bins):
    h = np.random.default_rng(0).uniform(-1.2, 1.2, size=(300, 3)).astype(np.float32)
    found = theory.binned_information(h, bins=bins, low=-1.0, high=1.0)
    expected = reference.cell_entropy(h.astype(np.float64), bins, -1.0, 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_binned_information_by_hand():
    h = np.array([[0.1, 0.1], [0.2, 0.1], [0.9, 0.1], [0.9, 0.9]])
    found = theory.binned_information(h, bins=2, low=0.0, high=1.0)
    np.testing.assert_allclose(found, 1.5 * np.log(2), rtol=1e-6)


def test_bins_fine_enough_tell_all_distinct_rows_apart():
    h = np.random.default_rng(1).uniform(size=(64, 2))
    found = theory.binned_information(h, bins=2**20, low=0.0, high=1.0)
    np.testing.assert_allclose(found, np.log(64), rtol=1e-6)


@pytest.mark.parametrize("variance", [1e-3, 0.1, 10.0])
def test_bounds_are_those_of_the_pairs(variance):
    h = np.random.default_rng(2).normal(size=(40, 3))
    found = theory.noisy_information(h, variance=variance)
    for value, times in zip(found, (8, 2), strict=True):
        expected = reference.mixture_overlap(h, variance, times)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variance", [1e-3, 0.1, 10.0])
def test_the_information_lies_between_the_bounds(variance):
    h = np.random.default_rng(3).normal(size=25)
    exact = reference.noisy_information(h, variance)
    found = theory.noisy_information(h[:, None], variance=variance)
    assert found.lower <= exact + 1e-5
    assert exact <= found.upper + 1e-5


def test_rows_are_cut_into_tiles(monkeypatch):
    h = np.random.default_rng(4).normal(size=(50, 2))
    whole = theory.noisy_information(h, variance=0.1)
    monkeypatch.setattr("rl_jax.theory.activations.TILE", 120)
    np.testing.assert_allclose(theory.noisy_information(h, variance=0.1), whole, 1e-5)


def test_both_run_under_vmap_and_jit():
    h = np.random.default_rng(5).uniform(size=(3, 20, 2)).astype(np.float32)
    binned = jax.jit(
        jax.vmap(lambda h: theory.binned_information(h, bins=5, low=0.0, high=1.0))
    )(h)
    alone = [theory.binned_information(x, bins=5, low=0.0, high=1.0) for x in h]
    np.testing.assert_allclose(binned, alone, rtol=1e-6)
    noisy = jax.jit(jax.vmap(lambda h: theory.noisy_information(h, variance=0.1)))(h)
    alone = [theory.noisy_information(x, variance=0.1) for x in h]
    np.testing.assert_allclose(noisy.upper, [a.upper for a in alone], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda h: theory.binned_information(h, bins=0, low=0, high=1), "bins"),
        (lambda h: theory.binned_information(h, bins=2, low=1, high=1), "low"),
        (lambda h: theory.binned_information(h[0], bins=2, low=0, high=1), "n, D"),
        (lambda h: theory.noisy_information(h, variance=0.0), "variance"),
        (lambda h: theory.noisy_information(h[:0], variance=1.0), "n, D"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(UsageError, match=words) as caught:
        call(np.zeros((4, 2)))
    assert "\n" not in str(caught.value)
