"""Streaming top k = brute force, and its memory is one tile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close
from reference import evaluate as reference
from reference.machine import make_mesh, share

from rl_jax.errors import UsageError
from rl_jax.pairwise.top_k import top_k

pytestmark = pytest.mark.core


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(query, bank, *, block_size, **options):
    scores, index = top_k(query, bank, block_size=block_size, **options)
    assert scores.dtype == jnp.float32
    assert index.dtype == jnp.int32
    target = reference.top_k(query, bank, **options)
    np.testing.assert_array_equal(index, target[1])
    assert_close(scores, target[0], tolerance=1e-6)


@pytest.mark.parametrize(
    ("queries", "rows", "k", "block_size"),
    [(1, 1, 1, None), (5, 7, 7, 3), (16, 24, 5, 8), (9, 23, 10, 4), (6, 50, 3, None)],
)
def test_equals_brute_force(queries, rows, k, block_size):
    query, bank = normals(0, queries, 6), normals(1, rows, 6)
    check(query, bank, k=k, block_size=block_size)


@pytest.mark.parametrize(("devices", "queries"), [(2, 6), (8, 24), (8, 5)])
def test_queries_shared_out_over_devices(devices, queries):
    query, bank = normals(0, queries, 6), normals(1, 23, 6)
    exclude = np.arange(queries, dtype=np.int32) % 23
    mesh = make_mesh(range(devices)[::-1])
    with jax.set_mesh(mesh):
        if queries % devices == 0:
            query = share(mesh, query)
        check(query, bank, k=4, block_size=3, exclude=exclude)


def test_leaves_out_one_row_for_each_query():
    x = normals(2, 19, 5)
    check(x, x, k=4, block_size=6, exclude=np.arange(19, dtype=np.int32))
    exclude = np.where(np.arange(19) % 2, -1, 18 - np.arange(19)).astype(np.int32)
    check(x, x, k=4, block_size=6, exclude=exclude)


@pytest.mark.parametrize("block_size", [None, 6])
def test_bank_rows_are_scaled(block_size):
    query, bank = normals(0, 8, 5), normals(1, 20, 5)
    scale = np.random.default_rng(2).uniform(0.1, 9, 20).astype(np.float32)
    options = {"k": 4, "block_size": block_size}
    scores, index = top_k(query, bank, bank_scale=scale, **options)
    target = reference.top_k(query, bank * scale[:, None], k=4)
    np.testing.assert_array_equal(index, target[1])
    assert_close(scores, target[0], tolerance=1e-6)
    mesh = make_mesh(range(2))
    with jax.set_mesh(mesh):
        shared = top_k(query, bank, bank_scale=scale, **options)
    np.testing.assert_array_equal(shared[1], index)


@pytest.mark.parametrize("valid", [0, 2, 11])
def test_rows_behind_valid_have_no_influence(valid):
    query, bank = normals(3, 4, 5), normals(4, 17, 5)
    poisoned = np.where(np.arange(17)[:, None] < valid, bank, np.nan)
    scores, index = top_k(query, poisoned, k=3, valid=valid, block_size=4)
    target = reference.top_k(query, bank, k=3, valid=valid)
    np.testing.assert_array_equal(index, target[1])
    assert_close(scores, target[0], tolerance=1e-6)


def test_of_equal_scores_the_lower_index_comes_first():
    bank = np.tile(np.float32([[1, 0], [0, 1], [1, 0]]), (5, 1))
    check(np.float32([[1, 0], [0, 1]]), bank, k=12, block_size=4)


def test_every_row_excluded_is_minus_infinity():
    scores, index = top_k(
        normals(5, 1, 3), normals(6, 1, 3), k=1, exclude=np.zeros(1, np.int32)
    )
    assert float(scores[0, 0]) == -np.inf
    assert int(index[0, 0]) == -1


def test_bfloat16_rows_are_multiplied_in_float32():
    query, bank = (jnp.asarray(normals(s, 8, 64), jnp.bfloat16) for s in (7, 8))
    scores, _ = top_k(query, bank, k=8)
    target = reference.top_k(
        np.asarray(query, np.float64), np.asarray(bank, np.float64), k=8
    )
    assert_close(scores, target[0], tolerance=1e-6)


def test_memory_is_far_below_the_similarity_matrix():
    q, n = 2048, 65536
    shapes = [jax.ShapeDtypeStruct((rows, 32), jnp.float32) for rows in (q, n)]
    compiled = jax.jit(functools.partial(top_k, k=20)).lower(*shapes).compile()
    analysis = compiled.memory_analysis()
    assert 0 < analysis.temp_size_in_bytes < q * n * 4 / 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"top_k: k must be in \[1, 5\], the size of the bank, got 0"),
        ({"k": 6}, r"top_k: k must be in \[1, 5\], the size of the bank, got 6"),
        ({"k": 2.0}, "top_k: k must be an integer, got 2.0"),
        ({"k": 1, "block_size": 2.5}, "block_size must be an integer, got 2.5"),
        ({"k": 1, "block_size": 0}, "top_k: block_size must be >= 1, got 0"),
        ({"k": 1, "exclude": np.zeros(2, np.int32)}, r"exclude must be \[3\]"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        top_k(normals(0, 3, 2), normals(1, 5, 2), **options)


def test_wrong_shapes_are_named():
    with pytest.raises(UsageError, match=r"query \(3, 2\) and bank \(5, 4\)"):
        top_k(normals(0, 3, 2), normals(1, 5, 4), k=1)
    with pytest.raises(UsageError, match="at least one query"):
        top_k(normals(0, 0, 2), normals(1, 5, 2), k=1)
