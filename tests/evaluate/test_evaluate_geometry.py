"""Closed forms of rank and spread, and the sentence made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import comparison
from reference import evaluate as reference
from reference.machine import temporary_bytes

from rl_jax import evaluate
from rl_jax.errors import UsageError


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rank_of_equal_singular_values_is_the_dimension():
    q = np.linalg.qr(normals(0, 12, 5))[0]
    assert float(evaluate.rank_me(3 * q)) == pytest.approx(5, rel=1e-5)


def test_rank_by_hand():
    # p = (3/4, 1/4): H = log 4 - 3/4 log 3.
    z = np.diag(np.float32([3, 1]))
    assert float(evaluate.rank_me(z)) == pytest.approx(4 / 3**0.75, rel=1e-6)


def test_rank_of_parallel_rows_is_one():
    z = np.outer(np.arange(1, 9), [1.0, 2.0, 3.0]).astype(np.float32)
    assert float(evaluate.rank_me(z)) == pytest.approx(1, abs=1e-4)
    assert float(evaluate.rank_me(np.zeros((4, 3)))) == 1.0


def test_rank_equals_the_reference_and_is_invariant():
    z = normals(1, 40, 7) * np.float32([5, 4, 3, 2, 1, 0.1, 0.01]) + 1
    target = reference.rank_me(z)
    rotation = np.linalg.qr(normals(2, 7, 7))[0]
    scaled = (100 * z, np.float32(1e-30) * z, np.float32(1e37) * z)
    for same in (z, z[::-1].copy(), z[:, ::-1].copy(), z @ rotation, *scaled):
        assert float(evaluate.rank_me(same)) == pytest.approx(target, rel=1e-5)
    # Not centred: the mean is part of the matrix.
    assert abs(float(evaluate.rank_me(z - z.mean(0))) - target) > 0.1


@pytest.mark.parametrize("name", ["rank_me", "effective_rank", "normalized_std"])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 3)])
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(UsageError, match=rf"{name}: expected \[n, D\], not empty, got"):
        getattr(evaluate, name)(np.zeros(shape, np.float32))


def test_effective_rank_by_hand():
    """Variances 9 : 1 where `rank_me` has 3 : 1, and no mean."""
    z = np.float32([[3, 0], [-3, 0], [0, 1], [0, -1]]) + 100
    p = np.array([0.9, 0.1])
    target = np.exp(-np.sum(p * np.log(p)))
    assert float(evaluate.effective_rank(z)) == pytest.approx(target, rel=1e-5)
    assert float(evaluate.effective_rank(np.eye(5))) == pytest.approx(4, rel=1e-5)
    line = np.outer(np.arange(9.0), [1.0, 2.0]) + 7
    assert float(evaluate.effective_rank(line)) == pytest.approx(1, abs=1e-5)
    assert float(evaluate.effective_rank(np.ones((4, 3)))) == 1.0


def test_effective_rank_equals_the_reference_and_is_invariant():
    z = normals(1, 40, 7) * np.float32([5, 4, 3, 2, 1, 0.1, 0.01]) + 1
    target = comparison.effective_rank(z)
    rotation = np.linalg.qr(normals(2, 7, 7))[0]
    for same in (z, z[::-1].copy(), 1e-20 * z, 1e20 * z, z @ rotation, z + 5):
        found = float(evaluate.effective_rank(np.float32(same)))
        assert found == pytest.approx(target, rel=1e-4)


def test_spread_equals_the_reference_and_ignores_length():
    z = normals(3, 40, 7) + 0.5
    target = reference.normalized_std(z)
    lengths = np.random.default_rng(4).uniform(0.1, 9, (40, 1)).astype(np.float32)
    for same in (z, lengths * z, z[::-1].copy()):
        assert float(evaluate.normalized_std(same)) == pytest.approx(target, rel=1e-5)


def test_spread_is_one_on_the_sphere_and_zero_at_a_point():
    assert float(evaluate.normalized_std(normals(5, 4000, 32))) == pytest.approx(
        1, abs=0.01
    )
    point = np.tile(normals(6, 1, 32), (50, 1))
    assert float(evaluate.normalized_std(point)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("noise", "sentence"),
    [
        (0.02, "collapsed: std 0.002, expected 0.088 for D=128"),
        (0.5, "partly collapsed: std 0.039, expected 0.088 for D=128"),
        (50.0, "healthy: std 0.088, expected 0.088 for D=128"),
    ],
)
def test_verdicts(noise, sentence):
    z = 1 + noise * normals(7, 500, 128)
    assert evaluate.collapse_verdict(z) == sentence


def test_verdict_of_broken_embeddings():
    z = normals(8, 4, 3)
    z[1, 2] = np.nan
    assert evaluate.collapse_verdict(z).startswith("not finite: ")
    with pytest.raises(UsageError, match=r"n >= 2, got \(1, 3\)"):
        evaluate.collapse_verdict(z[:1])


@pytest.mark.parametrize("measure", [evaluate.rank_me, evaluate.effective_rank])
def test_ranks_of_many_rows_take_no_matrix_of_pairs(measure):
    rows = jax.ShapeDtypeStruct((20_000, 4), jnp.float32)
    compiled = jax.jit(measure).lower(rows).compile()
    assert temporary_bytes(compiled) < 20_000**2
