"""Cosines of pairs, the softmax over them, alignment and uniformity."""

import functools

import jax
import numpy as np
import pytest
from reference import comparison as reference
from reference import losses
from reference.machine import largest_array

from rl_jax import evaluate, theory
from rl_jax.errors import UsageError
from rl_jax.evaluate.similarity import _count


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views(n=60, dim=8):
    a = normals(0, n, dim)
    return a, a + 0.7 * normals(1, n, dim)


@pytest.mark.parametrize("block_size", [None, 16])
@pytest.mark.parametrize("bins", [1, 7, 50])
def test_histogram_equals_the_reference(bins, block_size):
    a, b = views()
    found = evaluate.similarity_histogram(a, b, bins=bins, block_size=block_size)
    positive, negative, *means = reference.similarity_histogram(a, b, bins)
    np.testing.assert_array_equal(found.positive, positive)
    np.testing.assert_array_equal(found.negative, negative)
    assert found.positive.sum() == 60
    assert found.negative.sum() == 60 * 59
    assert found.positive.dtype == found.negative.dtype == np.int64
    np.testing.assert_allclose(found.edges, np.linspace(-1, 1, bins + 1))
    assert found[3:] == pytest.approx(means, abs=1e-7)


def test_histogram_by_hand():
    a, b = np.array([[1.0, 0], [0, 2]]), np.array([[3.0, 0], [-1, 0]])
    # Positives: 1, 0; negatives: <a_0, b_1> = -1, <a_1, b_0> = 0.
    found = evaluate.similarity_histogram(a, b, bins=4)
    assert found.positive.tolist() == [0, 0, 1, 1]
    assert found.negative.tolist() == [1, 0, 1, 0]
    assert (found.positive_mean, found.negative_mean) == (0.5, -0.5)


def test_counting_holds_no_matrix():
    rows = jax.ShapeDtypeStruct((4096, 16), np.float32)
    with jax.enable_x64(True):
        executable = _count.lower(rows, rows, bins=50, size=256).compile()
    assert largest_array(executable) < 4096**2 / 16


@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.005])
def test_sharpness_equals_the_reference(temperature, pair):
    a, b = views()
    b = b[:37] if pair else None
    found = evaluate.softmax_sharpness(a, b, temperature=temperature)
    target = reference.softmax_sharpness(a, b, temperature)
    assert found == pytest.approx(target, abs=1e-4 if temperature < 0.1 else 1e-6)


def test_sharpness_at_its_ends():
    same = np.tile(normals(2, 1, 8), (9, 1))
    found = evaluate.softmax_sharpness(same, temperature=0.1)
    assert found == pytest.approx((1, 1 / 8), rel=1e-5)
    found = evaluate.softmax_sharpness(np.eye(9), np.eye(9), temperature=0.01)
    assert found.entropy == pytest.approx(0, abs=1e-6)
    assert found.max_softmax == pytest.approx(1, abs=1e-6)
    # By hand: cosines 1 and 0 twice, e to the one half.
    e = np.exp(0.5)
    p = np.array([e, 1, 1]) / (e + 2)
    found = evaluate.softmax_sharpness(np.eye(3), 5 * np.eye(3), temperature=2.0)
    target = -np.sum(p * np.log(p)) / np.log(3), p[0]
    assert found == pytest.approx(target, abs=1e-6)


def test_sharper_with_lower_temperature():
    a, b = views()
    found = [
        evaluate.softmax_sharpness(a, b, temperature=t) for t in (1.0, 0.3, 0.1, 0.03)
    ]
    entropy, peak = zip(*found, strict=True)
    assert list(entropy) == sorted(entropy, reverse=True)
    assert list(peak) == sorted(peak)


@pytest.mark.parametrize(("alpha", "t"), [(2.0, 2.0), (1.0, 0.5)])
def test_alignment_and_uniformity_equal_the_reference(alpha, t):
    a, b = views()
    found = evaluate.alignment_uniformity(a, b, alpha=alpha, t=t)
    uniform = [losses.uniformity(v, t=t)[0] for v in (a, b)]
    target = losses.alignment(a, b, alpha=alpha)[0]
    assert found.alignment == pytest.approx(target, rel=1e-6)
    assert found.uniformity == pytest.approx(np.mean(uniform), rel=1e-5)
    assert found.limit == pytest.approx(theory.uniformity_limit(dim=8, t=t))
    assert found.limit < found.uniformity < 0


def test_the_uniform_distribution_reaches_the_limit():
    """Independent views too: E‖a − b‖² = 2 on the sphere, whatever the dimension."""
    a, b = normals(3, 3000, 16), normals(4, 3000, 16)
    found = evaluate.alignment_uniformity(a, b)
    assert found.uniformity == pytest.approx(found.limit, abs=0.005)
    assert found.alignment == pytest.approx(2, abs=0.03)
    point = np.ones((9, 16)) * np.arange(1, 10)[:, None]
    collapsed = evaluate.alignment_uniformity(point, point)
    assert collapsed[:2] == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("similarity_histogram", {}),
        ("softmax_sharpness", {"temperature": 0.1}),
        ("alignment_uniformity", {}),
    ],
)
def test_wrong_arrays_are_named(name, options):
    run = getattr(evaluate, name)
    zero, bad = np.eye(4), np.ones((4, 4))
    zero[2], bad[0, 1] = 0, np.nan
    for b, message in (
        (np.ones((4, 3)), r"one width, got \(4, 4\) and \(4, 3\)"),
        (np.ones(4), r"b must be \[n, D\]"),
        (zero, "row 2 of b is zero"),
        (bad, "b must be finite"),
    ):
        with pytest.raises(UsageError, match=f"{name}: .*{message}"):
            run(np.eye(4), b, **options)


def test_wrong_options_are_named():
    eye = np.eye(4)
    with pytest.raises(UsageError, match="bins must be >= 1, got 0"):
        evaluate.similarity_histogram(eye, eye, bins=0)
    with pytest.raises(UsageError, match="same rows, got 4 and, in b, 3"):
        evaluate.similarity_histogram(eye, eye[:3])
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="temperature must be > 0 and finite"):
            evaluate.softmax_sharpness(eye, temperature=temperature)
    with pytest.raises(UsageError, match="n >= 3"):
        evaluate.softmax_sharpness(eye[:2], temperature=1.0)
    for option in ("alpha", "t"):
        with pytest.raises(UsageError, match=f"{option} must be > 0, got 0"):
            evaluate.alignment_uniformity(eye, eye, **{option: 0.0})


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_the_length_of_rows_says_nothing(scale):
    a, b = views()
    short = [np.asarray(v * scale, np.float32) for v in (a, b)]
    plain = [np.asarray(v, np.float32) for v in (a, b)]
    for measure in (
        evaluate.alignment_uniformity,
        functools.partial(evaluate.softmax_sharpness, temperature=0.1),
        lambda a, b: [evaluate.normalized_std(a), evaluate.normalized_std(b)],
        lambda a, b: evaluate.similarity_histogram(a, b, bins=5)[3:],
    ):
        np.testing.assert_allclose(measure(*short), measure(*plain), rtol=1e-5)
