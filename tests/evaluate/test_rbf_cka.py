"""CKA with Gaussian kernels, and the median distance they are measured in."""

import jax
import numpy as np
import pytest
from reference import comparison as reference
from reference.machine import largest_array, temporary_bytes

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.median_distance import _select


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def related(n=110):
    x = normals(0, n, 6)
    return x, x @ normals(1, 6, 9) / 3 + normals(2, n, 9)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("bandwidth", [0.2, 0.8, 10.0])
def test_equals_the_reference(bandwidth, debiased):
    x, y = related()
    kernels = [reference.rbf_kernel(v, bandwidth) for v in (x, y)]
    target = reference.cka(*kernels, debiased=debiased)
    for block_size in (None, 16):
        found = evaluate.rbf_cka(
            x, y, bandwidth=bandwidth, debiased=debiased, block_size=block_size
        )
        assert found == pytest.approx(target, abs=2e-6)


def test_wide_kernels_are_linear():
    x, y = related()
    for debiased in (False, True):
        linear = evaluate.linear_cka(x, y, debiased=debiased)
        wide = evaluate.rbf_cka(x, y, bandwidth=10, debiased=debiased)
        narrow = evaluate.rbf_cka(x, y, bandwidth=0.5, debiased=debiased)
        assert abs(wide - linear) < 0.01 < abs(narrow - linear)


@pytest.mark.parametrize("rows", [2, 3, 4, 10, 101, 1100])
def test_median_distance_equals_sorting_all(rows):
    x = normals(rows, rows, 5)
    for block_size in (None, 7) if rows < 200 else (None,):
        found = evaluate.median_distance(x, block_size=block_size)
        assert found == pytest.approx(reference.median_distance(x), rel=1e-6)


def test_median_distance_by_hand_and_beside_a_far_row():
    # Distances 1, 2, 3, 1, 2, 1: the lower middle one is 1; all others are far.
    line = np.arange(4.0)[:, None]
    assert evaluate.median_distance(line) == pytest.approx(1, rel=1e-6)
    assert evaluate.median_distance(np.ones((9, 2))) == 0.0
    x = normals(0, 60, 3)
    near = reference.median_distance(x)
    x[0] = 1e3
    found = evaluate.median_distance(x)
    assert found == pytest.approx(reference.median_distance(x), rel=1e-4)
    assert found < 1.1 * near
    small = np.float32(1e-20) * normals(1, 30, 4)
    target = reference.median_distance(small)
    assert evaluate.median_distance(small) == pytest.approx(target, rel=1e-6)


def test_no_matrix_of_the_rows_is_held():
    """The kernels' sums are `pairwise.moments`, which has this test of its own."""
    with jax.enable_x64(True):
        rows = jax.ShapeDtypeStruct((4096, 16), np.float32)
        executable = _select.lower(rows, 256).compile()
    assert largest_array(executable) < 4096**2 / 16
    assert temporary_bytes(executable) < 4096**2 * 4 / 16


def test_wrong_options_are_named():
    x, y = related()
    for bandwidth in (0.0, -1.0, 11.0, np.nan):
        with pytest.raises(UsageError, match=r"bandwidth must be in \(0, 10\], got"):
            evaluate.rbf_cka(x, y, bandwidth=bandwidth)
    with pytest.raises(UsageError, match="the kernel of x is the same"):
        evaluate.rbf_cka(x, y, bandwidth=0.01, debiased=True)
    with pytest.raises(UsageError, match="most rows of y are equal"):
        evaluate.rbf_cka(x, np.maximum(y - y.max(0) + 0.1, 0))
    with pytest.raises(UsageError, match=r"median_distance: x must be .* n >= 2"):
        evaluate.median_distance(x[:1])
    with pytest.raises(UsageError, match="median_distance: x must be finite"):
        evaluate.median_distance(np.full((4, 2), np.nan))
