"""NC1 to NC4: against the paper's matrices, and at constructed collapse."""

import numpy as np
import pytest
from reference import assert_close
from reference import neural_collapse as reference

from rl_jax import evaluate, theory
from rl_jax.errors import UsageError

CLASSES, DIM = 5, 9


def rotation(seed=0, dim=DIM):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def collapsed():
    """Every feature at its corner of a turned and shifted simplex, W its dual."""
    etf = theory.simplex_etf(CLASSES, dim=DIM) @ rotation()
    labels = np.arange(40) % CLASSES
    centre = np.random.default_rng(1).normal(size=DIM)
    features = (2 * etf)[labels] + centre
    kernel = 3 * etf.T
    return features, labels, kernel, -centre @ kernel


def scattered(dim=DIM):
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.r_[np.arange(60) % CLASSES, np.zeros(20, int)])
    features = rng.normal(size=(80, dim)) + rng.normal(size=(CLASSES, dim))[labels]
    return features, labels, rng.normal(size=(dim, CLASSES)), rng.normal(size=CLASSES)


def test_all_zero_at_the_simplex():
    for value in evaluate.neural_collapse(*collapsed()):
        assert value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dim", [2, CLASSES - 1, DIM, 40])
def test_equals_the_reference(dim):
    arguments = scattered(dim)
    found = evaluate.neural_collapse(*arguments)
    assert_close(found._asdict(), reference.neural_collapse(*arguments), tolerance=1e-8)
    single = [np.asarray(x, np.float32) for x in arguments]
    single[1] = arguments[1]
    assert_close(
        evaluate.neural_collapse(*single)._asdict(), found._asdict(), tolerance=1e-5
    )


def test_turning_shifting_and_scaling_change_nothing():
    """Logits included: they are seven times as large."""
    features, labels, kernel, bias = scattered()
    turn, shift = rotation(3), np.arange(DIM)
    turned = turn.T @ kernel
    found = evaluate.neural_collapse(
        7 * features @ turn + shift, labels, turned, 7 * bias - shift @ turned
    )
    same = evaluate.neural_collapse(features, labels, kernel, bias)
    assert_close(found._asdict(), same._asdict(), tolerance=1e-8)


def test_each_number_sees_its_own_failure():
    """What is broken moves; what is not stays at zero."""
    features, labels, kernel, bias = collapsed()
    centre = features.reshape(8, CLASSES, DIM).mean((0, 1))

    # Equal and opposite noise keeps the means.
    noise = np.random.default_rng(4).normal(size=(20, DIM))
    order = np.argsort(labels, kind="stable")
    spread = features.copy()
    spread[order[::2]] += 0.1 * noise
    spread[order[1::2]] -= 0.1 * noise
    found = evaluate.neural_collapse(spread, labels, kernel, bias)
    assert found.within > 1e-3
    assert max(found[1:5]) < 1e-12

    # A mean further out, in its direction: the others lean to keep the sum at zero.
    longer = features + (labels == 0)[:, None] * (features - centre)
    found = evaluate.neural_collapse(longer, labels, kernel, bias)
    assert min(found.equinorm, found.angle, found.duality) > 0.05
    assert found.within < 1e-12

    # A classifier of other directions, and one that swaps two classes.
    found = evaluate.neural_collapse(features, labels, -kernel, bias)
    assert found.duality == pytest.approx(2)
    assert found.nearest > 0.5
    swapped = kernel[:, [1, 0, 2, 3, 4]], bias[[1, 0, 2, 3, 4]]
    found = evaluate.neural_collapse(features, labels, *swapped)
    assert found.nearest == pytest.approx(2 / 5)
    assert max(found[:4]) < 1e-12


def test_equal_angles_need_not_be_those_of_the_simplex():
    """By hand, two classes: cosine −1 whatever they are; three along a line are not."""
    labels = np.arange(6) % 3
    features = np.array([[-1.0], [0.5], [2.5]])[labels]
    found = evaluate.neural_collapse(features, labels, np.ones((1, 3)), np.zeros(3))
    # Centre 2/3: -5/3, -1/6, 11/6; cosines 1, -1, -1 against -1/2.
    assert found.angle == pytest.approx(1.5)
    assert found.equiangle == pytest.approx(np.std([1, -1, -1]))
    assert found.equinorm == pytest.approx(np.std([10, 1, 11]) / (22 / 3))


def changed(**change):
    names = ("features", "labels", "kernel", "bias")
    return dict(zip(names, scattered(), strict=True)) | change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones(80)}, r"got \(80,\) and \(80,\)"),
        ({"labels": np.zeros(3, int)}, r"got \(80, 9\) and \(3,\)"),
        ({"kernel": np.ones((4, 5))}, r"must be \[9, C\] .* got \(4, 5\)"),
        ({"bias": np.ones(4)}, r"bias must be \[5\], got \(4,\)"),
        ({"labels": np.full(80, -1)}, r"in \[0, 5\), got -1 .. -1; leave unlabelled"),
        ({"labels": np.arange(80) % 4}, "class 4 has no example"),
        ({"features": np.full((80, 9), np.nan)}, "must be finite"),
        ({"features": np.ones((80, 9))}, "the mean of class 0 is that of all"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    with pytest.raises(UsageError, match=message):
        evaluate.neural_collapse(**changed(**change))
