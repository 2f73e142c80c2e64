"""Linear probe: against scikit-learn, and the test part never reaches the fit."""

import subprocess
import sys

import numpy as np
import pytest
from reference import assert_close
from reference import evaluate as reference
from sklearn.linear_model import LogisticRegression

from rl_jax import evaluate
from rl_jax.errors import UsageError
from rl_jax.evaluate.labels import common, fold_weights
from rl_jax.evaluate.mlp_probe import DECAY_FEW_LABELS
from rl_jax.evaluate.probe import L2_FEW_LABELS, L2_GRID, strengths


def wide(x, dim=120):
    """More dimensions than examples, far from standardised."""
    rng = np.random.default_rng(1)
    mixed = np.tanh(x @ rng.normal(size=(x.shape[1], dim)) / 2)
    return (mixed * rng.uniform(0.1, 9, dim) + 3).astype(np.float32)


def standardize(x, like):
    return (x - like.mean(0, dtype=np.float64)) / like.std(0, dtype=np.float64)


def sklearn_fit(x, y, l2):
    model = LogisticRegression(C=1 / (len(x) * l2), tol=1e-6, max_iter=2000)
    return model.fit(x, y)


@pytest.fixture(scope="module")
def fitted(digits):
    x = wide(digits.train_x)
    return x, evaluate.fit_probe(x, digits.train_y, labels_per_class=10, draws=3)


def test_the_reduced_fit_equals_scikit_learn_in_all_dimensions(digits, fitted):
    x, probe = fitted
    y, std = digits.train_y, x.std(0, dtype=np.float64)
    standard, unseen = standardize(x, x), wide(digits.test_x)
    draws = evaluate.label_draws(y, 10, 3, 0)
    assert x.shape[1] > draws.shape[1]
    for draw, w, b, l2 in zip(draws, probe.weights, probe.bias, probe.l2, strict=True):
        model = sklearn_fit(standard[draw], y[draw], l2)
        target = model.predict_proba(standardize(unseen, x))
        assert np.abs(reference.probabilities(unseen, w, b) - target).max() <= 1e-3
        w, b = w * std[:, None], b + x.mean(0, dtype=np.float64) @ w
        for gradient in reference.logistic_gradient(
            w, b, standard[draw], y[draw], l2=l2
        ):
            assert np.abs(gradient).max() <= 1e-4


def test_the_strength_is_the_best_of_the_folds_inside_the_draw(digits, fitted):
    x, probe = fitted
    draw = evaluate.label_draws(digits.train_y, 10, 3, 0)[0]
    x, y = standardize(x, x)[draw], digits.train_y[draw]
    losses = []
    for l2 in L2_GRID:
        total = 0.0
        for weights in fold_weights(y, 5)[:-1]:
            seen, held = weights > 0, weights == 0
            model = sklearn_fit(x[seen], y[seen], l2)
            log_p = model.predict_log_proba(x[held])
            total -= log_p[np.arange(held.sum()), y[held]].mean()
        losses.append(total)
    assert probe.l2[0] == L2_GRID[int(np.argmin(losses))]


def test_the_test_part_is_only_scored(digits):
    x, y = digits.train_x, digits.train_y
    options = {"labels_per_class": 10, "draws": 3}
    junk = np.full((50, 64), 1e6, np.float32)
    parts = {
        "clean": (digits.test_x, digits.test_y),
        "junk": (junk, np.zeros(50, np.int32)),
    }
    both = tuple(np.concatenate(v) for v in zip(*parts.values(), strict=True))
    results = {
        name: evaluate.linear_probe(x, y, *part, **options)
        for name, part in (parts | {"both": both}).items()
    }
    for result in results.values():
        np.testing.assert_array_equal(result.l2, results["clean"].l2)
    right = {
        name: result.accuracies * len(part[1])
        for (name, result), part in zip(
            results.items(), [*parts.values(), both], strict=True
        )
    }
    np.testing.assert_allclose(right["clean"] + right["junk"], right["both"])


def test_accuracy_on_digits_and_what_is_reported(digits):
    few = evaluate.linear_probe(*digits, labels_per_class=10, draws=3)
    assert few.accuracies.shape == few.l2.shape == (3,)
    assert few.mean == pytest.approx(few.accuracies.mean())
    assert few.std == pytest.approx(few.accuracies.std(ddof=1))
    assert (few.labels_per_class, few.n) == (10, 100)
    assert set(few.l2.tolist()) <= set(L2_GRID)
    everything = evaluate.linear_probe(*digits)
    assert everything.accuracies.shape == (1,)
    assert (everything.std, everything.labels_per_class, everything.n) == (0, None, 500)
    assert 0.8 < few.mean < everything.mean
    assert everything.mean > 0.93


def test_a_fraction_of_the_labels(digits):
    """The probe of the draws themselves; a tenth of 500 is some 5 of each class."""
    found = evaluate.linear_probe(*digits, label_fraction=0.1, draws=2)
    draws = evaluate.fraction_draws(digits.train_y, 0.1, 2, 0)
    assert (found.label_fraction, found.labels_per_class) == (0.1, None)
    assert found.n == draws.shape[1]
    x, y, *scored = digits
    for accuracy, draw in zip(found.accuracies, draws, strict=True):
        again = evaluate.linear_probe(x[draw], y[draw], *scored)
        # Features are standardised by all that there are, or by those of the draw.
        assert abs(accuracy - again.mean) < 0.03
    whole = evaluate.linear_probe(*digits, label_fraction=1.0, draws=1)
    assert whole.n == 500
    assert found.mean < whole.mean
    with pytest.raises(UsageError, match="labels_per_class or label_fraction, not bo"):
        evaluate.fit_probe(x, y, labels_per_class=3, label_fraction=0.1)
    with pytest.raises(UsageError, match=r"label_fraction must be in \(0, 1\], got 2"):
        evaluate.fit_probe(x, y, label_fraction=2)


@pytest.mark.parametrize("rare", [1, 4])
@pytest.mark.parametrize("fit", [evaluate.fit_probe, evaluate.mlp_probe])
def test_a_rare_class_does_not_decide_the_strength(digits, fit, rare):
    """A class of a few labels is left out of the folds' losses, and is learned."""
    x, y = digits.train_x, digits.train_y
    keep = np.concatenate([np.flatnonzero(y != 9), np.flatnonzero(y == 9)[:rare]])
    x, y = x[keep], y[keep]
    if fit is evaluate.fit_probe:
        probe, few = fit(x, y), L2_FEW_LABELS
        assert 9 in probe.classes
    else:
        probe = fit(x, y, digits.test_x, digits.test_y, draws=1, steps=100)
        few = DECAY_FEW_LABELS
    without = y < 9
    assert probe.l2[0] < few
    if fit is evaluate.fit_probe:
        alone = fit(x[without], y[without])
        # One step of the grid at most: the weights of the others are hardly other.
        assert 0.3 <= probe.l2[0] / alone.l2[0] <= 3.4


def test_which_labels_occur_often_enough():
    labels = np.repeat([0, 1, 2, 5], [7, 5, 4, 9])
    np.testing.assert_array_equal(common(labels, 5), labels != 2)
    assert not common(np.repeat([0, 1, 2], [9, 4, 4]), 5).any()
    assert common(np.repeat([0, 1], [9, 4]), 5).sum() == 9


def test_more_labels_have_weaker_strengths_too():
    assert strengths(1297) == strengths(5) == L2_GRID
    assert strengths(5000) == (*L2_GRID, 3e-4, 1e-4)
    assert strengths(50_000)[-1] == 1e-5
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 8))
    y = (x @ rng.normal(size=(8, 3))).argmax(1)
    probe = evaluate.fit_probe(x[:5000], y[:5000])
    assert probe.l2[0] == 1e-4, "nothing is to be smoothed where lines part all"


def test_below_five_labels_the_strength_is_a_constant(digits):
    one = evaluate.linear_probe(*digits, labels_per_class=1, draws=2)
    np.testing.assert_array_equal(one.l2, L2_FEW_LABELS)
    assert 0.3 < one.mean < 0.8


def test_scale_and_shift_of_a_feature_do_not_matter(digits, fitted):
    x, probe = fitted
    rng = np.random.default_rng(3)
    scale, shift = rng.uniform(0.5, 50, (2, x.shape[1])).astype(np.float32)
    moved = evaluate.fit_probe(
        x * scale + shift, digits.train_y, labels_per_class=10, draws=3
    )
    np.testing.assert_array_equal(moved.l2, probe.l2)
    assert_close(moved.weights * scale[:, None], probe.weights, tolerance=2e-3)


def test_a_large_mean_costs_nothing_in_float64(digits):
    """As the same features without it."""
    moved = digits._replace(
        train_x=digits.train_x.astype(np.float64) + 1e8,
        test_x=digits.test_x.astype(np.float64) + 1e8,
    )
    one, other = (
        evaluate.linear_probe(*part, labels_per_class=10, draws=2)
        for part in (digits, moved)
    )
    np.testing.assert_allclose(other.accuracies, one.accuracies, atol=0.005)


def test_dead_and_unseen_features_are_harmless(digits):
    # The second is a constant up to float32 rounding.
    rounding = np.random.default_rng(0).integers(-1, 2, len(digits.train_x)) * 6e-5
    dead = np.stack([np.full_like(rounding, 0.1), 1e3 + rounding], 1)
    woken = np.full((len(digits.test_x), 2), 1e3)
    options = {"labels_per_class": 1, "draws": 2}
    with_dead = evaluate.linear_probe(
        np.hstack([digits.train_x, dead.astype(np.float32)]),
        digits.train_y,
        np.hstack([digits.test_x, woken]),
        digits.test_y,
        **options,
    )
    without = evaluate.linear_probe(*digits, **options)
    np.testing.assert_allclose(with_dead.accuracies, without.accuracies, atol=0.01)


def test_labels_keep_their_names(digits):
    named = digits._replace(
        train_y=3 * digits.train_y + 5, test_y=3 * digits.test_y + 5
    )
    options = {"labels_per_class": 1, "draws": 2}
    found = evaluate.linear_probe(*named, **options).accuracies
    np.testing.assert_array_equal(
        found, evaluate.linear_probe(*digits, **options).accuracies
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": np.full((500, 64), np.nan)}, "must be finite, got NaN or inf"),
        ({"train_y": np.full(500, -1)}, "labels must be >= 0, got -1"),
        ({"train_y": np.full(500, 3)}, "two classes or more, got only 3"),
        ({"train_y": np.zeros(4, int)}, r"got \(500, 64\) and \(4,\)"),
        ({"test_x": np.zeros((300, 9))}, r"beside \(500, 64\), got \(300, 9\)"),
        ({"test_y": np.zeros(4, int)}, r"got \(300, 64\) and \(4,\)"),
    ],
)
def test_wrong_arguments_are_named(digits, change, message):
    with pytest.raises(UsageError, match=message):
        evaluate.linear_probe(*digits._replace(**change))


def test_importing_evaluation_is_light():
    heavy = ["flax", "grain", "orbax", "sklearn", "matplotlib"]
    code = (
        f"import sys, rl_jax.evaluate; print(*[m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ""
