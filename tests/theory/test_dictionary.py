"""Sparse codes and dictionaries against coordinate descent and scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import reconstruction as reference
from sklearn.decomposition import DictionaryLearning

from rl_jax import theory
from rl_jax.errors import UsageError
from rl_jax.theory.dictionary import _update_atoms

LAM = 0.2


@functools.cache
def small(signed=True):
    return reference.planted(0, count=30, dim=6, atoms=9, on=2, signed=signed)


@pytest.mark.parametrize("positive", [False, True])
def test_codes_equal_coordinate_descent(positive):
    atoms, x = small()
    expected = reference.coordinate_descent(x, atoms, LAM, positive=positive)
    with jax.enable_x64(True):
        z = theory.fista(x, atoms, penalty=LAM, steps=3000, positive=positive)
        error = theory.sparse_coding_error(x, z, atoms, penalty=LAM)
    found = reference.sparse_coding_error(x, expected, atoms, LAM)
    assert_close(error, found, tolerance=1e-10)
    assert_close(z, expected, tolerance=1e-6)
    assert 0.5 < np.mean(np.asarray(z) == 0) < 1
    assert positive == bool(np.all(np.asarray(z) >= 0))


def test_codes_meet_the_optimality_conditions():
    """2dᵀ(x − Dz) = λ sign z where z ≠ 0, and at most λ elsewhere."""
    atoms, x = small()
    z = np.asarray(theory.fista(x, atoms, penalty=LAM, steps=2000), np.float64)
    pull = 2 * (x - z @ atoms) @ atoms.T
    on = z != 0
    np.testing.assert_allclose(pull[on], LAM * np.sign(z[on]), atol=1e-4)
    assert np.all(np.abs(pull[~on]) <= LAM + 1e-4)


def test_rate_of_convergence():
    """Within the bound 2L‖z*‖²/(t + 1)², which plain gradient steps do not keep."""
    atoms, x = small()
    with jax.enable_x64(True):
        best = theory.fista(x, atoms, penalty=LAM, steps=5000)
        least = theory.sparse_coding_error(x, best, atoms, penalty=LAM)
        bound = 4 * np.linalg.norm(atoms, 2) ** 2 * np.mean(np.sum(best**2, axis=1))
        for t in (1, 3, 10, 30, 100):
            z = theory.fista(x, atoms, penalty=LAM, steps=t)
            excess = theory.sparse_coding_error(x, z, atoms, penalty=LAM) - least
            assert excess <= bound / (t + 1) ** 2


def test_codes_by_hand():
    """Orthonormal atoms: the soft threshold at λ/2. A large penalty: none on."""
    x = jnp.asarray([[1.0, -0.5, 0.05]])
    z = theory.fista(x, jnp.eye(3), penalty=0.2, steps=5)
    np.testing.assert_allclose(z, [[0.9, -0.4, 0.0]], atol=1e-6)
    z = theory.fista(x, jnp.eye(3), penalty=0.2, steps=5, positive=True)
    np.testing.assert_allclose(z, [[0.9, 0.0, 0.0]], atol=1e-6)
    assert not np.any(theory.fista(x, jnp.eye(3), penalty=2.0))


def test_atoms_are_updated_as_in_the_paper():
    rng = np.random.default_rng(0)
    atoms, x = small()
    z = rng.normal(size=(30, 9))
    a, b = z.T @ z / 30, z.T @ x / 30
    with jax.enable_x64(True):
        found = _update_atoms(jnp.asarray(atoms), jnp.asarray(a), jnp.asarray(b))
    assert_close(found, reference.updated_atoms(atoms, a, b), tolerance=1e-12)
    # An atom no code has used stays, and is finite.
    a[4], a[:, 4], b[4] = 0, 0, 0
    found = _update_atoms(*map(jnp.asarray, (atoms, a, b)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[4], atoms[4], atol=1e-6)


def test_atoms_are_no_longer_than_1_and_the_error_falls():
    _, x = small()
    found = theory.learn_dictionary(
        jax.random.key(0), x, atoms=9, penalty=LAM, batch_size=16, steps=200
    )
    length = np.linalg.norm(found.atoms, axis=1)
    assert np.all(length <= 1 + 1e-6)
    errors = np.asarray(found.errors)
    assert errors[-20:].mean() < 0.8 * errors[0]


def restarts(x, *, atoms, positive, seeds=3):
    """The least error of all examples from a few starts, and the atoms."""
    found = []
    for seed in range(seeds):
        d = theory.learn_dictionary(
            jax.random.key(seed),
            x,
            atoms=atoms,
            penalty=LAM,
            batch_size=64,
            steps=3000,
            code_steps=30,
            positive=positive,
        ).atoms
        found.append((error_of(x, d, positive), np.asarray(d)))
    return min(found, key=lambda pair: pair[0])


def error_of(x, atoms, positive):
    z = theory.fista(x, atoms, penalty=LAM, steps=1000, positive=positive)
    return float(theory.sparse_coding_error(x, z, atoms, penalty=LAM))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Objective did not converge")
@pytest.mark.parametrize("positive", [True, False])
def test_error_is_that_of_scikit_learn(positive):
    """Within 1 % either way, at the planted atoms, of signed codes and of positive.

    Both end in one of many local minima; of the planted ones both find the lowest.
    """
    planted, x = reference.planted(
        0, count=600, dim=10, atoms=14, on=2, signed=not positive
    )
    peer = DictionaryLearning(
        14,
        alpha=LAM / 2,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        positive_code=positive,
        max_iter=60,
        tol=1e-6,
        random_state=0,
    ).fit(x)
    # Its objective by its own codes is half of ours by ours.
    codes = peer.transform(x)
    theirs = error_of(x, peer.components_, positive)
    own = reference.sparse_coding_error(x, codes, peer.components_, LAM)
    np.testing.assert_allclose(theirs, own, rtol=2e-3)
    error, atoms = restarts(x, atoms=14, positive=positive)
    matched = reference.matched_cosine(planted, atoms, signed=not positive)
    print(f"{error:.4f}, scikit-learn {theirs:.4f}; cosine {matched.mean():.4f}")
    np.testing.assert_allclose(error, theirs, rtol=0.01)
    assert matched.mean() > 0.98


def test_refused():
    atoms, x = small()
    learn = functools.partial(theory.learn_dictionary, jax.random.key(0))
    with pytest.raises(UsageError, match=r"fista: .*\(30, 6\), \(9, 5\)"):
        theory.fista(x, atoms[:, :5], penalty=LAM)
    with pytest.raises(UsageError, match="fista: steps must be >= 1, got 0"):
        theory.fista(x, atoms, penalty=LAM, steps=0)
    with pytest.raises(UsageError, match=r"expected codes \[30, 9\], got \(30, 8\)"):
        theory.sparse_coding_error(x, np.ones((30, 8)), atoms, penalty=LAM)
    with pytest.raises(UsageError, match=r"atoms in \[1, n\], got \(30, 6\) and 31"):
        learn(x, atoms=31, penalty=LAM)
    with pytest.raises(UsageError, match="penalty must be > 0 and finite, got 0"):
        learn(x, atoms=9, penalty=0.0)
    with pytest.raises(UsageError, match="batch_size must be >= 1, got 0"):
        learn(x, atoms=9, penalty=LAM, batch_size=0)
