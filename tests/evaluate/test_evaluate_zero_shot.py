"""Zero-shot classification and retrieval against NumPy float64."""

import numpy as np
import pytest
from reference import evaluate as reference

from rl_jax import evaluate
from rl_jax.errors import UsageError


def problem(seed, n=60, classes=7, templates=4, dim=5):
    """Images near the mean of their class's texts, which differ in length."""
    rng = np.random.default_rng(seed)
    prompts = rng.normal(size=(classes, 1, dim)) + rng.normal(
        size=(classes, templates, dim)
    )
    labels = rng.integers(0, classes, n)
    images = prompts.mean(1)[labels] + 0.5 * rng.normal(size=(n, dim))
    prompts = prompts * np.exp(2 * rng.normal(size=(classes, templates, 1)))
    return images.astype(np.float32), prompts.astype(np.float32), labels


@pytest.mark.parametrize("templates", [1, 4])
def test_equals_the_reference(templates):
    images, prompts, labels = problem(0, templates=templates)
    expected = reference.zero_shot(images, prompts)
    found = evaluate.zero_shot(images, prompts)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
    accuracy = evaluate.zero_shot_accuracy(images, prompts, labels)
    assert accuracy == pytest.approx(np.mean(expected == labels))
    assert 0.3 < accuracy < 1


def test_every_template_counts_the_same():
    """However long its embedding: (0, 1) against 9·(1, 0) and 1·(0, 1)·2 times."""
    prompts = np.float32([[[9, 0], [0, 1], [0, 2]], [[5, 1], [5, 1], [1, 0.2]]])
    np.testing.assert_allclose(
        evaluate.class_embeddings(prompts),
        [np.float64([1, 2]) / 5**0.5, np.float64([5, 1]) / 26**0.5],
        rtol=1e-6,
    )
    # Of the sums, (9, 3) and (11, 2.2), the first is nearer to (3, 1) by less.
    images = np.float32([[0.2, 1], [3, 1]])
    np.testing.assert_array_equal(evaluate.zero_shot(images, prompts), [0, 1])


def test_lengths_do_not_matter_and_ties_go_to_the_lower_class():
    images, prompts, _ = problem(1)
    found = evaluate.zero_shot(images, prompts)
    lengths = np.random.default_rng(2).uniform(0.1, 9, (60, 1)).astype(np.float32)
    np.testing.assert_array_equal(evaluate.zero_shot(lengths * images, prompts), found)
    same = np.ones((3, 2, 5), np.float32)
    np.testing.assert_array_equal(evaluate.zero_shot(images, same), np.zeros(60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": np.ones((7, 5))}, r"prompts \[C, T, D\], not empty, got \(7, 5\)"),
        ({"prompts": np.ones((7, 0, 5))}, "not empty"),
        ({"images": np.ones((60, 4))}, r"images \[N, 5\].*\(60, 4\) and \(7, 4, 5\)"),
        ({"labels": np.zeros(3)}, r"labels must be int \[60\], one for each"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    images, prompts, labels = problem(0)
    arguments = {"images": images, "prompts": prompts, "labels": labels} | change
    with pytest.raises(UsageError, match=message):
        evaluate.zero_shot_accuracy(**arguments)


def pairs(seed, n=40, texts=30, each=3, dim=4):
    rng = np.random.default_rng(seed)
    captions = rng.integers(0, texts, (n, each))
    captions[:texts, 0] = np.arange(texts)  # no text without an image
    text = rng.normal(size=(texts, dim)).astype(np.float32)
    image = text[captions[:, 0]] + 0.5 * rng.normal(size=(n, dim))
    return image.astype(np.float32), text, captions


@pytest.mark.parametrize("each", [1, 3])
def test_recall_equals_the_reference(each):
    image, text, captions = pairs(0, each=each)
    found = evaluate.retrieval_recall(image, text, captions, k=(1, 5))
    for k in (1, 5):
        expected = reference.recall(image, text, captions, k)
        assert found.image_to_text[k] == pytest.approx(expected[0])
        assert found.text_to_image[k] == pytest.approx(expected[1])
    assert 0.1 < found.image_to_text[1] < found.image_to_text[5] < 1


def test_recall_by_hand():
    """Image 2 has its text last; texts 1 and 2 have their images second."""
    image = np.float32([[1, 0], [0.6, 0.8], [0.9, 0.5]])
    text = np.float32([[1, 0.1], [0.7, 0.6], [0, 1]])
    found = evaluate.retrieval_recall(image, text, np.arange(3)[:, None], k=(1, 2, 9))
    assert found.image_to_text == pytest.approx({1: 2 / 3, 2: 2 / 3, 9: 1.0})
    assert found.text_to_image == pytest.approx({1: 1 / 3, 2: 1.0, 9: 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": np.ones((30, 3))}, r"got \(40, 4\), \(30, 3\) and \(40, 3\)"),
        ({"captions": np.zeros((9, 1), int)}, r"captions \[N, T\]"),
        ({"captions": np.full((40, 1), 30)}, r"rows of the 30 texts.*\[30, 30\]"),
        ({"captions": np.full((40, 1), 0.5)}, "rows of the 30 texts, got float64"),
        ({"k": (0, 1)}, "k must be >= 1, got 0"),
        ({"k": ()}, "expected one k or more, got none"),
    ],
)
def test_wrong_arguments_of_recall_are_named(change, message):
    image, text, captions = pairs(0)
    arguments = {"images": image, "texts": text, "captions": captions} | change
    with pytest.raises(UsageError, match=message):
        evaluate.retrieval_recall(**arguments)
