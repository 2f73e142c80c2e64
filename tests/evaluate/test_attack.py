"""Projected gradient descent: a linear classifier in closed form, NumPy, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import attack as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate import projected_gradient

SHAPE = (2, 3, 1)
RNG = jax.random.key(3)
NORMS = ["linf", "l2"]
BOTH = pytest.mark.parametrize("norm", NORMS)


def drawn(n, *, low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (n, *SHAPE)).astype("f4")


WEIGHTS = np.random.default_rng(1).normal(size=6)
DEEP = reference.network(np.random.default_rng(2), 6, 5, 3)


def linear(x):
    """Two classes; the second where ⟨w, x⟩ is above its value at grey."""
    w = jnp.asarray(WEIGHTS, jnp.float32)
    score = (x.reshape(len(x), -1) - 0.5) @ w
    return jnp.stack([jnp.zeros_like(score), score], axis=1)


def deep(x):
    w, b, v = (jnp.asarray(a, jnp.float32) for a in DEEP)
    return jnp.tanh(x.reshape(len(x), -1) @ w + b[None]) @ v


def steep(x):
    """As `linear`, but so certain that its cross-entropy is 0 in float32."""
    return 1e5 * linear(x)


def flat(x):
    """As `linear`, of rounded pixels: right or wrong, its gradient is zero."""
    return linear(jnp.round(x * 8) / 8)


def margins(x, labels):
    return (2 * labels - 1) * ((x.reshape(len(x), -1).astype("f8") - 0.5) @ WEIGHTS)


def labelled(n=60, noisy=0):
    x = drawn(n, low=0.3, high=0.7)
    labels = (margins(x, 1) > 0).astype(int)
    labels[:noisy] = 1 - labels[:noisy]
    return x, labels


@BOTH
def test_a_linear_classifier_is_exactly_as_robust_as_its_margins(norm):
    x, labels = labelled(noisy=5)
    radii = [0.0, 0.05, 0.01, 0.2]
    found = evaluate.robust_accuracy(
        RNG, x, labels, logits_fn=linear, norm=norm, radii=radii, steps=60
    )
    size = np.abs(WEIGHTS).sum() if norm == "linf" else np.sqrt(WEIGHTS @ WEIGHTS)
    left = margins(x, labels)[None] - np.asarray(radii)[:, None] * size
    assert np.abs(left).min() > 1e-5
    np.testing.assert_array_equal(found.right, left > 0)
    np.testing.assert_array_equal(found.accuracy, (left > 0).mean(1))
    assert found.accuracy[0] == 55 / 60
    assert found.accuracy[0] > found.accuracy[2] > found.accuracy[1]
    assert found.accuracy[1] > found.accuracy[3]


@BOTH
def test_equals_the_reference_from_the_same_start(norm):
    x = drawn(60, low=0, high=1, seed=5)
    labels = np.arange(60) % 3
    options = {"norm": norm, "radius": 0.15, "steps": 6, "step_size": 0.04}
    found = evaluate.pgd(RNG, x, labels, logits_fn=deep, **options)
    start = projected_gradient.random_start(
        jax.random.fold_in(RNG, 0), np.arange(60), x, norm=norm, radius=0.15
    )
    for i in range(60):
        args = (x[i].astype("f8"), labels[i], np.asarray(start[i], "f8"), DEEP)
        image, loss, fooled = reference.pgd(*args, **options)
        np.testing.assert_allclose(found.images[i], image, atol=2e-6)
        assert found.losses[i] == pytest.approx(loss, rel=1e-5)
        assert found.fooled[i] == fooled


@BOTH
def test_images_stay_in_the_ball_and_in_the_box(norm):
    x, labels = drawn(60, low=0, high=1, seed=6), np.arange(60) % 3
    found = evaluate.pgd(RNG, x, labels, logits_fn=deep, norm=norm, radius=0.3)
    moved = np.asarray(found.images, "f8").reshape(60, -1) - x.reshape(60, -1)
    length = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.3 + 1e-6
    assert length.max() > 0.29
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    logits = np.asarray(deep(found.images))
    np.testing.assert_array_equal(found.fooled, logits.argmax(1) != labels)


@BOTH
def test_more_steps_restarts_and_radius_never_help_the_defender(norm):
    x = drawn(60, low=0, high=1, seed=7)
    labels = np.asarray(deep(x)).argmax(1)

    def run(**options):
        options = {"radius": 0.1, "steps": 2} | options
        return evaluate.pgd(RNG, x, labels, logits_fn=deep, norm=norm, **options)

    few, many, again = run(), run(steps=4), run(restarts=3)
    for more in (many, again):
        assert np.all(more.fooled >= few.fooled)
        same = np.asarray(more.fooled == few.fooled)
        assert np.all(np.asarray(more.losses >= few.losses)[same])
        assert np.any(more.losses > few.losses)
    table = evaluate.robust_accuracy(
        RNG, x, labels, logits_fn=deep, norm=norm, radii=[0.2, 0, 0.1], batch_size=60
    )
    assert table.accuracy[1] == 1 > table.accuracy[2] > table.accuracy[0]
    whole = run(steps=20, radius=0.1).fooled
    np.testing.assert_array_equal(table.right[2], ~np.asarray(whole))


def test_radius_zero_is_the_image_itself():
    x, labels = labelled(8)
    found = evaluate.pgd(RNG, x, labels, logits_fn=linear, norm="l2", radius=0.0)
    np.testing.assert_array_equal(found.images, x)
    expected = np.log1p(np.exp(-margins(x, labels)))
    np.testing.assert_allclose(found.losses, expected, rtol=1e-5)


def test_a_certain_classifier_is_attacked_as_well():
    x, labels = labelled()
    options = {"norm": "linf", "radius": 0.05, "steps": 20}
    found = evaluate.pgd(RNG, x, labels, logits_fn=linear, **options)
    certain = evaluate.pgd(RNG, x, labels, logits_fn=steep, **options)
    assert 0 < np.mean(found.fooled) < 1
    np.testing.assert_array_equal(certain.fooled, found.fooled)


def test_the_compiled_loop_is_the_python_loop():
    x, labels = labelled(5)
    rest = (x, labels, np.float32(0.1), np.float32(0.02))
    options = {"logits_fn": deep, "norm": "l2"}

    def start():
        zeros = jnp.zeros(5), jnp.zeros(5, bool), jnp.zeros(5, bool)
        return projected_gradient.Search(jnp.asarray(x), jnp.asarray(x) * 0, *zeros)

    one = projected_gradient._repeat(start(), 3, *rest, **options)
    many = projected_gradient._steps(start(), 3, *rest, **options)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_compilation_serves_all_radii_and_steps():
    traced = []

    def counted(x):
        traced.append(x.shape)
        return linear(x)

    x, labels = labelled()
    options = {"norm": "linf", "steps": 3, "radii": [0.05, 0.1]}
    few = options | {"logits_fn": counted, "batch_size": 16}
    found = evaluate.robust_accuracy(RNG, x, labels, **few)
    evaluate.robust_accuracy(RNG, x, labels, **few | {"steps": 5, "radii": [0.2]})
    # To see the shape of the logits, and to compile the gradient.
    assert len(traced) <= 3
    whole = evaluate.robust_accuracy(RNG, x, labels, logits_fn=linear, **options)
    np.testing.assert_array_equal(found.right, whole.right)


def masking(logits_fn, **options):
    x, labels = labelled()
    options = {"norm": "linf", "radius": 0.05, "steps": 8} | options
    return evaluate.gradient_masking(RNG, x, labels, logits_fn=logits_fn, **options)


def test_a_smooth_model_shows_no_masking():
    found = masking(linear, steps=20)
    assert not found.masked
    assert found.verdict.startswith("no sign of masking: accuracy 1.000 clean, 0.")
    assert found.clean == 1 >= found.random > found.steps == found.twice_steps
    assert found.one_step >= found.steps
    assert found.without_gradient == 0
    short = masking(linear, steps=8)
    assert not short.masked
    assert short.steps > short.twice_steps
    assert short.verdict.startswith("not converged: ")
    assert "use more steps" in short.verdict


def test_rounding_and_misleading_gradients_are_found():
    found = masking(flat)
    assert found.masked
    assert found.without_gradient == 1
    assert found.verdict.startswith("masked: 100% of the images have no gradient")

    @jax.custom_vjp
    def turned(x):
        return x

    turned.defvjp(lambda x: (x, None), lambda _, g: (-g,))
    found = masking(lambda x: linear(turned(x)), radius=0.1)
    assert found.masked
    assert found.random < found.steps
    assert "random points leave accuracy" in found.verdict


X, LABELS = labelled(4)
GOOD = {"logits_fn": linear, "norm": "linf", "radius": 0.1}


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (X, LABELS, {"norm": "l1"}, "norm must be linf or l2, got 'l1'"),
        (X, LABELS, {"radius": -0.1}, "radius must be >= 0 and finite, got -0.1"),
        (X, LABELS, {"radius": np.nan}, "radius must be >= 0 and finite, got nan"),
        (X, LABELS, {"steps": -1}, "steps must be >= 0, got -1"),
        (X, LABELS, {"restarts": 0}, "restarts must be >= 1, got 0"),
        (X, LABELS, {"step_size": 0.0}, "step_size must be > 0 .* radius / 8"),
        (X[0], LABELS, {}, r"images must be \[B, H, W, C\], B >= 1, got \(2, 3, 1\)"),
        ((X * 255).astype("u1"), LABELS, {}, "got uint8; divide uint8 by 255"),
        (X * 255, LABELS, {}, r"images must be in \[0, 1\], got .* standardise inside"),
        (X * np.nan, LABELS, {}, r"images must be in \[0, 1\], got nan"),
        (X, LABELS + 1, {}, r"labels must be in \[0, 2\), got 1 .. 2"),
        (X, LABELS[:3], {}, r"labels must be int \[4\]"),
        (X, LABELS, {"logits_fn": lambda x: x[0]}, r"must give \[4, C\], got"),
        (X, LABELS, {"logits_fn": lambda x: x[:, 0, 0]}, "two classes or more"),
        (X, LABELS, {"logits_fn": lambda x: linear(x) * jnp.nan}, "has diverged"),
    ],
)
def test_wrong_arguments_are_named(images, labels, options, message):
    with pytest.raises(UsageError, match=f"pgd: .*{message}"):
        evaluate.pgd(RNG, images, labels, **GOOD | options)


def test_the_other_functions_name_themselves():
    with pytest.raises(UsageError, match=r"robust_accuracy: radius .* got \[-1\]"):
        evaluate.robust_accuracy(
            RNG, X, LABELS, logits_fn=linear, norm="l2", radii=[-1]
        )
    with pytest.raises(UsageError, match="robust_accuracy: batch_size must be >= 1"):
        evaluate.robust_accuracy(
            RNG, X, LABELS, logits_fn=linear, norm="l2", radii=[1], batch_size=0
        )
    with pytest.raises(UsageError, match="gradient_masking: radius must be > 0"):
        masking(linear, radius=0)
    with pytest.raises(UsageError, match="gradient_masking: steps must be >= 8"):
        masking(linear, steps=7)
