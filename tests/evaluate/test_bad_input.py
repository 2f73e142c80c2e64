"""Every function of features, every unusable input: one clear line or a known limit."""

import inspect

import numpy as np
import pytest

from rl_jax import evaluate
from rl_jax.errors import UsageError

N, DIM, CLASSES = 12, 3, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, DIM)).astype(np.float32)
OTHER = RNG.normal(size=(N, DIM)).astype(np.float32)
Y = np.arange(N) % CLASSES
FACTORS = np.stack([np.arange(N) % 3, np.arange(N) % 2], axis=1)
SPLIT = {"train_x": X, "train_y": Y, "test_x": OTHER, "test_y": Y}
PAIR = {"a": X, "b": OTHER}
CODES = {"z": X, "s": FACTORS}
LAYERS = {"x": X, "y": OTHER}

GOOD = {
    "alignment_uniformity": PAIR,
    "alpha_req": {"features": X, "ranks": (1, 3)},
    "cka_map": {"layers_a": [X, OTHER]},
    "class_embeddings": {"prompts": RNG.normal(size=(CLASSES, 2, DIM))},
    "class_geometry": {"features": X, "labels": Y},
    "collapse_verdict": {"z": X},
    "contrastive_guarantee": {"features": X, "labels": Y},
    "dci": CODES,
    "effective_rank": {"z": X},
    "factor_vae_score": CODES | {"bins": 4, "votes": 20},
    "fit_probe": {"train_x": X, "train_y": Y, "labels_per_class": 2, "draws": 1},
    "hubness": {"features": X, "k": 3},
    "knn": {"features": X, "labels": Y, "queries": OTHER, "k": 3},
    "knn_accuracy": {
        "features": X, "labels": Y, "queries": OTHER, "query_labels": Y, "k": 3
    },
    "lidar": {"views": np.stack([X, OTHER], axis=1)},
    "linear_cka": LAYERS,
    "linear_probe": SPLIT | {"labels_per_class": 2, "draws": 1},
    "logistic": {"features": X, "labels": Y, "num_classes": CLASSES, "l2": 0.1},
    "mean_correlation": CODES,
    "median_distance": {"x": X},
    "minibatch_cka": LAYERS | {"batch_size": 4},
    "mlp_probe": SPLIT | {
        "hidden": 4, "steps": 2, "labels_per_class": 2, "draws": 1
    },
    "mutual_information_gap": CODES | {"bins": 4},
    "nearest": {"features": X, "queries_index": np.arange(3), "k": 2},
    "neural_collapse": {
        "features": X, "labels": Y, "kernel": np.eye(DIM), "bias": np.zeros(CLASSES)
    },
    "normalized_std": {"z": X},
    "pca_2d": {"features": X},
    "rank_me": {"z": X},
    "raw_pixels": {"images": RNG.random((4, 2, 2, 1))},
    "rbf_cka": LAYERS,
    "retrieval_recall": {
        "images": X, "texts": OTHER, "captions": np.arange(N)[:, None]
    },
    "ridge": LAYERS,
    "ridge_probe": {
        "train_x": X, "train_labels": Y, "test_x": OTHER, "test_labels": Y
    },
    "ridge_r2": {"train_x": X, "train_y": OTHER, "test_x": OTHER, "test_y": X},
    "sampled_guarantee": {
        "rng": np.uint32([0, 1]), "features": X, "labels": Y, "samples": 100
    },
    "separated_predictability": CODES,
    "similarity_histogram": PAIR,
    "softmax_sharpness": PAIR | {"temperature": 0.5},
    "tsne": {"features": X, "steps": 4, "perplexity": 2.0},
    "zero_shot": {"images": X, "prompts": OTHER.reshape(CLASSES, -1, DIM)},
    "zero_shot_accuracy": {
        "images": X, "prompts": OTHER.reshape(CLASSES, -1, DIM), "labels": Y
    },
}  # fmt: skip
ELSEWHERE = {
    "label_draws": "labels alone: test_evaluate_labels",
    "fraction_draws": "labels alone: test_evaluate_labels",
    "conformal_quantile": "scores, test_conformal: NaN is refused, few give inf",
    "set_coverage": "sets, test_conformal",
    "aps_sets": "probabilities, test_conformal",
    "lac_sets": "probabilities, test_conformal",
    "brier_score": "probabilities, test_calibration",
    "expected_calibration_error": "probabilities, test_calibration",
    "fit_temperature": "logits, test_calibration",
    "maximum_calibration_error": "probabilities, test_calibration",
    "negative_log_likelihood": "probabilities, test_calibration",
    "reliability": "probabilities, test_calibration",
    "bootstrap_interval": "scores of examples, test_intervals",
    "paired_difference": "scores of examples, test_intervals",
    "wilson_interval": "counts, test_intervals",
    "jackknife": "any arrays, test_jackknife",
    "corrupt": "images, test_corruptions",
    "corrupt_all": "images, test_corruptions",
    "mean_corruption_error": "error rates, test_corruptions",
    "gradient_masking": "images, test_attack",
    "pgd": "images, test_attack",
    "robust_accuracy": "images, test_attack",
}
FEATURES = {
    "a", "b", "features", "images", "kernel", "layers_a", "prompts", "queries",
    "test_x", "texts", "train_x", "views", "x", "y", "z",
}  # fmt: skip
LABELS = {"labels", "query_labels", "test_labels", "test_y", "train_labels", "train_y"}
TARGETS = {"ridge_r2"}  # its train_y and test_y are floating


def functions():
    return [n for n in evaluate.__all__ if inspect.isfunction(getattr(evaluate, n))
            or hasattr(getattr(evaluate, n), "lower")]  # fmt: skip


def test_every_public_function_is_here_or_has_its_reason():
    assert set(functions()) == set(GOOD) | set(ELSEWHERE)
    assert not set(GOOD) & set(ELSEWHERE)


def call(name, **change):
    return getattr(evaluate, name)(**GOOD[name] | change)


def refused(name, what, **change):
    with pytest.raises(UsageError, match=f"^{name}: .*{what}") as caught:
        call(name, **change)
    assert "\n" not in str(caught.value)


def of(name, kinds):
    return [argument for argument in GOOD[name] if argument in kinds]


@pytest.mark.parametrize("name", sorted(GOOD))
def test_the_good_input_is_good(name):
    call(name)


ANSWERS_NAN = {
    "collapse_verdict": lambda out: out.startswith("not finite"),
    "effective_rank": np.isnan,
    "normalized_std": np.isnan,
    "pca_2d": lambda out: np.isnan(out).all(),
    "rank_me": np.isnan,
}


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite(name, bad):
    arguments = of(name, FEATURES | (LABELS if name in TARGETS else set()))
    assert arguments
    for argument in arguments:
        given = GOOD[name][argument]
        several = isinstance(given, list)
        broken = np.array(given[1] if several else given, np.float32)
        broken.flat[broken.size // 2] = bad
        change = {argument: [given[0], broken] if several else broken}
        if name in ANSWERS_NAN:
            assert ANSWERS_NAN[name](call(name, **change)), argument
        else:
            word = r"in \[0, 1\]" if name == "raw_pixels" else "finite"
            refused(name, word, **change)


def constant_class(out):
    return len(np.unique(out)) == 1


CONSTANT = {
    "alignment_uniformity": lambda out: abs(out.uniformity) < 1e-6,
    "alpha_req": "collapsed",
    "cka_map": "constant",
    "class_embeddings": lambda out: np.ptp(out, axis=0).max() < 1e-6,
    "class_geometry": "collapsed",
    "collapse_verdict": lambda out: out.startswith("collapsed"),
    "contrastive_guarantee": lambda out: np.allclose(out[:2] + out[3:], 1),
    "dci": lambda out: out[:3] == (0, 0, 0),
    "effective_rank": lambda out: out == 1,
    "factor_vae_score": lambda out: 0 <= out <= 1,
    "fit_probe": lambda out: not out.weights.any(),
    "hubness": "collapsed",
    # The three first rows, one of each class, vote alike: the lowest class.
    "knn": lambda out: (np.asarray(out) == 0).all(),
    "knn_accuracy": lambda out: out == pytest.approx(1 / 3),
    "lidar": lambda out: out == 1,
    "linear_cka": "constant",
    "linear_probe": lambda out: out.mean == pytest.approx(1 / 3),
    "logistic": lambda out: np.abs(out[0]).max() < 1e-6,
    "mean_correlation": lambda out: out == 0,
    "median_distance": lambda out: out < 1e-12,
    "minibatch_cka": "constant",
    "mlp_probe": lambda out: out.mean == pytest.approx(1 / 3),
    "mutual_information_gap": lambda out: out == 0,
    "nearest": lambda out: out.tolist() == [[1, 2], [0, 2], [0, 1]],
    "neural_collapse": "mean of class 0 is that of all",
    "normalized_std": lambda out: out < 1e-6,
    "pca_2d": lambda out: np.abs(out).max() < 1e-6,
    "rank_me": lambda out: out == pytest.approx(1, abs=1e-3),
    "raw_pixels": lambda out: (out == out[:1]).all(),
    "rbf_cka": "collapsed",
    "retrieval_recall": lambda out: out.image_to_text[1] == pytest.approx(1 / N),
    "ridge": lambda out: not out.weights.any(),
    "ridge_probe": lambda out: out.mean == pytest.approx(1 / 3),
    "ridge_r2": lambda out: out.mean < 0,
    "sampled_guarantee": lambda out: np.allclose(out[:2] + out[3:], 1),
    "separated_predictability": lambda out: out == 0,
    "similarity_histogram": lambda out: np.count_nonzero(out.negative) == 1,
    "softmax_sharpness": lambda out: out.entropy == pytest.approx(1, abs=1e-4),
    "tsne": lambda out: np.isfinite(out).all(),
    "zero_shot": constant_class,
    "zero_shot_accuracy": lambda out: out == pytest.approx(1 / 3),
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_constant_features(name):
    change = {}
    for argument in of(name, FEATURES - {"kernel"}):
        given = GOOD[name][argument]
        several = isinstance(given, list)
        same = [np.repeat(v[:1], len(v), 0) for v in (given if several else [given])]
        change[argument] = same if several else same[0]
    expected = CONSTANT[name]
    if isinstance(expected, str):
        refused(name, expected, **change)
    else:
        assert expected(call(name, **change))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_label(name):
    for argument in of(name, LABELS) * (name not in TARGETS):
        missing = GOOD[name][argument].copy()
        missing[-1] = -1
        refused(name, "got -1", **{argument: missing})


ONE_EXAMPLE = {
    "class_geometry": lambda out: out.spread[0] == 0 and np.isfinite(out.margin).all(),
    "contrastive_guarantee": lambda out: out.supervised <= out.bound,
    "fit_probe": "labels_per_class must be <= 1, the examples of class 0, got 2",
    "knn": lambda out: out.shape == (N,),
    "knn_accuracy": lambda out: 0 <= out <= 1,
    "linear_probe": "labels_per_class must be <= 1, the examples of class 0, got 2",
    "logistic": lambda out: np.isfinite(out[0]).all(),
    "mlp_probe": "labels_per_class must be <= 1, the examples of class 0, got 2",
    "neural_collapse": lambda out: np.isfinite(out).all(),
    "ridge_probe": lambda out: 0 <= out.mean <= 1,
    "sampled_guarantee": lambda out: np.isfinite(out).all(),
    "zero_shot_accuracy": lambda out: 0 <= out <= 1,
}


@pytest.mark.parametrize("name", sorted(ONE_EXAMPLE))
def test_a_class_with_one_example(name):
    labels = np.array([0] + [1, 2] * (N // 2))[:N]
    change = dict.fromkeys(of(name, LABELS), labels)
    expected = ONE_EXAMPLE[name]
    if isinstance(expected, str):
        refused(name, expected, **change)
    else:
        assert expected(call(name, **change))


def test_every_function_of_labels_was_given_a_class_with_one_example():
    assert set(ONE_EXAMPLE) == {n for n in GOOD if of(n, LABELS)} - TARGETS


def test_fewer_than_k_neighbours():
    taken = {
        n for n in GOOD if "k" in inspect.signature(getattr(evaluate, n)).parameters
    }
    assert taken == {"hubness", "knn", "knn_accuracy", "nearest", "retrieval_recall"}
    for name in ("hubness", "nearest"):
        refused(name, rf"k must be in \[1, {N - 1}\], the other rows, got {N}", k=N)
    # All there are, as their docstrings say.
    np.testing.assert_array_equal(call("knn", k=N + 1), call("knn", k=N))
    assert call("knn_accuracy", k=N + 1) == call("knn_accuracy", k=N)
    assert call("retrieval_recall", k=(N + 1,)).image_to_text == {N + 1: 1.0}


def test_a_constant_factor():
    factors = FACTORS.copy()
    factors[:, 1] = 7
    names = [n for n in GOOD if "s" in GOOD[n]]
    assert len(names) == 5
    for name in names:
        refused(name, "(factor|source) 1 is constant", s=factors)


def test_a_test_label_that_training_does_not_have_is_wrong_not_an_error():
    for name, argument in (
        ("knn_accuracy", "query_labels"),
        ("linear_probe", "test_y"),
        ("mlp_probe", "test_y"),
        ("ridge_probe", "test_labels"),
        ("zero_shot_accuracy", "labels"),
    ):
        out = call(name, **{argument: np.full(N, 9)})
        assert getattr(out, "mean", out) == 0.0


def test_rows_of_zeros_have_no_direction_or_a_cosine_of_zero():
    dead = X.copy()
    dead[4] = 0
    for name, argument in (
        ("alignment_uniformity", "a"),
        ("hubness", "features"),
        ("similarity_histogram", "b"),
        ("softmax_sharpness", "a"),
    ):
        refused(name, r"row 4 of \w+ is zero", **{argument: dead})
    assert int(call("zero_shot", images=dead)[4]) == 0
    # Cosine 0 with all: the first three rows are nearest.
    assert int(call("knn", queries=dead, labels=np.array([2, 2] + [0] * 10))[4]) == 2
