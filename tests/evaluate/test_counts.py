"""What is counted is whole, and what is measured is an array that float32 holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_jax import evaluate
from rl_jax.errors import UsageError

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.arange(40, dtype=np.int32) % 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: evaluate.knn(X, Y, X, k=2.5), "knn: k must be an integer, got 2.5"),
        (lambda: evaluate.nearest(X, np.array([0]), k=1.5), "nearest: k must be an"),
        (lambda: evaluate.nearest(X, np.array([0.5]), k=1), "must be int [Q]"),
        (
            lambda: evaluate.linear_probe(X, Y, X, Y, labels_per_class=2.5),
            "labels_per_class must be an integer, got 2.5",
        ),
        (lambda: evaluate.mlp_probe(X, Y, X, Y, hidden=3.5), "hidden must be an"),
        (lambda: evaluate.tsne(X, steps=2.5), "tsne: steps must be an integer"),
        (lambda: evaluate.jackknife(np.mean, X, groups=2.5), "groups must be an"),
        (lambda: evaluate.wilson_interval(1, 2.5), "right and n count examples"),
        (
            lambda: evaluate.neural_collapse(X, Y * 1.0, np.zeros((4, 2)), np.zeros(2)),
            "labels must be int, got float64",
        ),
        (
            lambda: evaluate.similarity_histogram(X, X, bins=2.5),
            "bins must be an integer, got 2.5",
        ),
        (
            lambda: evaluate.alpha_req(X, ranks=(1.5, 4)),
            "ranks: first must be an integer, got 1.5",
        ),
        (lambda: evaluate.hubness(X.tolist(), k=3), "must be an array, got list"),
        (
            lambda: evaluate.ridge_probe(X * np.float64(1e200), Y, X, Y),
            "must fit float32, got up to",
        ),
    ],
)
def test_fractions_of_counts_lists_and_what_float32_cannot_hold(call, words):
    with pytest.raises(UsageError) as error:
        call()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_integers_of_any_kind_are_counts():
    one = evaluate.linear_probe(X, Y, X, Y, labels_per_class=3, draws=2)
    for kind in (np.int64, np.uint8, jnp.int32):
        found = evaluate.linear_probe(
            X, Y, X, Y, labels_per_class=kind(3), draws=kind(2)
        )
        np.testing.assert_array_equal(found.accuracies, one.accuracies)


def test_images_of_any_float():
    """bfloat16 too, which NumPy does not know as a float."""
    image = np.linspace(0, 1, 32).reshape(2, 4, 4, 1)
    for dtype in (np.float16, jnp.bfloat16):
        x = image.astype(dtype)
        expected = x.reshape(2, -1).astype(np.float32)
        np.testing.assert_array_equal(evaluate.raw_pixels(x), expected)
        moved = evaluate.pgd(
            jax.random.key(0), x, np.array([1, 1]), norm="linf", radius=0.0, steps=1,
            logits_fn=lambda v: v.reshape(len(v), -1)[:, :2],
        )  # fmt: skip
        np.testing.assert_array_equal(moved.images, x.astype(np.float32))
