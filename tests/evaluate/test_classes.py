"""Class geometry: by hand, against explicit sums and scikit-learn, and its ends."""

import functools

import jax
import numpy as np
import pytest
import scipy.linalg
from reference import comparison as reference
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate import classes


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def scattered(n=150, dim=7, classes=4):
    labels = np.random.default_rng(0).integers(0, classes, n)
    x = normals(1, n, dim) + 2 * normals(2, classes, dim)[labels]
    return (x + 10).astype(np.float32), labels


@pytest.mark.parametrize("dim", [2, 7, 40])
def test_equals_the_reference(dim):
    x, labels = scattered(dim=dim)
    found = evaluate.class_geometry(x, labels)
    margin, separation, spread, fisher = reference.class_geometry(x, labels)
    np.testing.assert_allclose(found.margin, margin, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.separation, separation, rtol=1e-9)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-9)
    assert found.fisher == pytest.approx(fisher, rel=1e-8)
    assert found.beyond == 0.0
    assert found.classes.tolist() == [0, 1, 2, 3]


def test_more_rows_than_a_block():
    x, labels = scattered(n=2500, classes=3)
    found = evaluate.class_geometry(x, labels)
    margin, separation, spread, fisher = reference.class_geometry(x, labels)
    np.testing.assert_allclose(found.margin, margin, rtol=1e-9)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-9)
    assert found.fisher == pytest.approx(fisher, rel=1e-8)


def test_fisher_is_that_of_discriminant_analysis():
    """The trace is the sum of scikit-learn's generalised eigenvalues."""
    x, labels = scattered()
    x = x.astype(np.float64)
    lda = LinearDiscriminantAnalysis(solver="eigen", store_covariance=True)
    lda.fit(x, labels)
    between = np.cov(x.T, bias=True) - lda.covariance_
    values = scipy.linalg.eigh(between, lda.covariance_, eigvals_only=True)
    fisher = evaluate.class_geometry(x, labels).fisher
    assert fisher == pytest.approx(values.sum(), rel=1e-8)


def test_by_hand():
    # Means at -2, 2 and 12; the boundary of the first two is 0, of the others 7.
    x = np.array([[-3.0], [-1], [1], [3], [11], [13]])
    found = evaluate.class_geometry(x, np.array([3, 3, 5, 5, 8, 8]))
    assert found.classes.tolist() == [3, 5, 8]
    assert found.margin == pytest.approx([2, 2, 5])
    assert found.separation == pytest.approx([4, 4, 10])
    assert found.spread == pytest.approx([1, 1, 1])
    # Mean 4: squares 36, 4 and 64, a third each, over a variance of 1.
    assert found.fisher == pytest.approx(104 / 3)


def test_the_nearest_boundary_counts_for_each_example():
    """The middle class: 1 to the left, 3 to the right; and one on the wrong side."""
    x = np.array([[-4.0], [-4], [-1], [1], [10], [10]])
    found = evaluate.class_geometry(x, np.array([0, 0, 1, 1, 2, 2]))
    # Boundaries at -2 and 5.
    assert found.margin == pytest.approx([2, (1 + 3) / 2, 5])
    crossed = np.array([[-1.0], [-1], [5], [-5], [2], [0]])
    found = evaluate.class_geometry(crossed, np.array([0, 0, 1, 1, 2, 2]))
    # Means -1, 0, 1, boundaries ±1/2: 5 lies 4.5 beyond one, -5 beyond the other.
    assert found.margin == pytest.approx([0.5, -4.5, 0.5])


def test_linear_maps_leave_fisher_alone_and_scale_the_rest():
    x, labels = scattered()
    target = evaluate.class_geometry(x, labels)
    mixed = x.astype(np.float64) @ normals(3, 7, 7) + 4
    assert evaluate.class_geometry(mixed, labels).fisher == pytest.approx(
        target.fisher, rel=1e-3
    )
    for scale in (1e-18, 1e18):
        scaled = (x * scale).astype(np.float32)
        found = evaluate.class_geometry(scaled, labels)
        for name in ("margin", "separation", "spread"):
            want = scale * getattr(target, name)
            np.testing.assert_allclose(getattr(found, name), want, rtol=1e-5)
        assert found.fisher == pytest.approx(target.fisher, rel=1e-5)


def test_classes_without_spread_are_infinitely_far_apart():
    labels = np.arange(30) % 3
    x = normals(4, 3, 5).astype(np.float32)[labels]
    found = evaluate.class_geometry(x, labels)
    assert found.fisher == np.inf
    assert found.beyond == pytest.approx(1, abs=1e-12)
    assert found.spread == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.margin, found.separation / 2, rtol=1e-9)


def test_what_fisher_leaves_out_is_told():
    """Classes apart along an axis without spread, and along one with it."""
    labels = np.arange(40) % 2
    x = np.stack([normals(5, 40), np.zeros(40)], axis=1)
    x[:, 0] += 3.0 * labels
    plain = evaluate.class_geometry(x, labels)
    assert plain.beyond == 0.0
    x[:, 1] += 2.0 * labels
    found = evaluate.class_geometry(x, labels)
    shift = x[labels == 1].mean(0) - x[labels == 0].mean(0)
    assert found.fisher == pytest.approx(plain.fisher)
    assert found.beyond == pytest.approx(shift[1] ** 2 / np.sum(shift**2))
    wide = evaluate.class_geometry(normals(6, 10, 50), np.arange(10) % 2)
    assert 0.5 < wide.beyond < 1


def test_equal_means_have_no_margin():
    labels = np.array([0, 0, 1, 1])
    x = np.array([[1.0], [-1], [2], [-2]])
    found = evaluate.class_geometry(x, labels)
    assert found.margin.tolist() == found.separation.tolist() == [0, 0]
    assert (found.fisher, found.beyond) == (0, 0)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (np.eye(4), np.zeros(3, int), r"labels must be int \[4\], .* int64 \(3,\)"),
        (np.eye(4), np.zeros(4), r"labels must be int \[4\], .* float64"),
        (np.eye(4), np.array([0, 1, -1, 0]), "got -1; leave unlabelled"),
        (np.eye(4), np.ones(4, int), "two classes or more, got only 1"),
        (np.ones((4, 2)), np.arange(4), "all rows are equal"),
        (np.full((4, 2), np.nan), np.arange(4), "features must be finite"),
        (np.ones(4), np.arange(4), r"features must be \[n, D\]"),
    ],
)
def test_wrong_arguments_are_named(x, labels, message):
    with pytest.raises(UsageError, match=f"class_geometry: .*{message}"):
        evaluate.class_geometry(x, labels)


def test_more_dimensions_than_rows_are_those_that_the_rows_span():
    x, labels = scattered(n=40)
    turned = np.linalg.qr(normals(7, 60, 7))[0]
    found = evaluate.class_geometry(x.astype(np.float64) @ turned.T, labels)
    target = evaluate.class_geometry(x, labels)
    for name in ("margin", "separation", "spread", "fisher"):
        want = getattr(target, name)
        np.testing.assert_allclose(getattr(found, name), want, rtol=1e-9, atol=1e-12)
    assert found.beyond == pytest.approx(0, abs=1e-12)
    x, labels = scattered(n=40, dim=100)
    found = evaluate.class_geometry(x, labels)
    margin, separation, spread, _ = reference.class_geometry(x, labels)
    np.testing.assert_allclose(found.margin, margin, rtol=1e-9)
    np.testing.assert_allclose(found.separation, separation, rtol=1e-9)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-9)
    geometry = functools.partial(classes._geometry, count=4)
    with jax.enable_x64(True):
        program = str(jax.make_jaxpr(geometry)(x, labels.astype(np.int32)))
    assert "40,40]" in program
    assert "100,100]" not in program
