"""Which labels training sees, and how a classifier that learned from few is scored."""

import shutil

import numpy as np
import pytest
from test_evaluation import source, untrained

from rl_jax.cli import recipe as commands
from rl_jax.errors import UsageError
from rl_jax.run import (
    classifier,
    compare,
    evaluation,
    labelled,
    measures,
    pretrain,
    summary,
)
from rl_jax.run import recipe as recipes
from rl_jax.run.encode import encode
from rl_jax.run.split import rows_of, split

LABELS = np.repeat([0, 1, 2], [40, 60, 100])


@pytest.mark.parametrize(
    ("labels", "counts"),
    [("3", [3, 3, 3]), ("1%", [1, 1, 1]), ("10%", [3, 5, 8]), ("100%", [32, 48, 80])],
)
def test_labels_are_drawn_from_every_class_and_none_is_scored(labels, counts):
    images = source(LABELS)
    seen = labelled.seen(images, labels=labels, method="supervised", seed=4)
    assert np.bincount(seen.labels).tolist() == counts
    chosen = labelled.draw(images, labels, 4)
    np.testing.assert_array_equal(seen.images, images.images[chosen])
    _, scored, _ = split(images)
    assert not np.intersect1d(chosen, scored.index).size
    np.testing.assert_array_equal(chosen, labelled.draw(images, labels, 4))
    if labels != "100%":
        assert not np.array_equal(chosen, labelled.draw(images, labels, 5))


def test_other_methods_see_all_images_and_few_labels():
    images = source(LABELS, held_out=source([0, 1, 2]))
    seen = labelled.seen(images, labels="2", method="simclr")
    assert seen.size == len(LABELS)
    assert labelled.count(seen) == 6
    chosen = labelled.draw(images, "2", 0)
    np.testing.assert_array_equal(np.flatnonzero(seen.labels >= 0), chosen)
    np.testing.assert_array_equal(seen.labels[chosen], LABELS[chosen])
    assert labelled.count(images) == len(LABELS)
    assert labelled.seen(images, labels="all", method="supervised") is images


@pytest.mark.parametrize("word", ["0", "1.5", "0%", "101%", "nan%", "some"])
def test_what_is_no_number_and_no_part_is_refused(word):
    with pytest.raises(UsageError, match=f"--labels must be .* or all, got '{word}'"):
        commands.read("pretrain", ["supervised", "--labels", word])


def test_labels_that_there_are_not_are_refused():
    few = source(np.repeat([0, 1], [10, 40]))._replace(class_names=("cat", "dog"))
    with pytest.raises(UsageError, match="class cat has 8 examples to learn from"):
        labelled.draw(few, "9", 0)
    unknown = few._replace(labels=None)
    with pytest.raises(UsageError, match="--labels 1%: arrays has no labels"):
        labelled.draw(unknown, "1%", 0)


def test_a_batch_is_at_most_the_images_with_a_label():
    asked = commands.read("pretrain", ["supervised", "--labels", "1%"])
    assert (asked.recipe.labels, asked.recipe.batch_size) == ("1%", 8)
    assert asked.source.size == 1297
    asked = commands.read("pretrain", ["simclr", "--labels", "1%"])
    assert asked.recipe.batch_size == 256


def classifying(images, **changes):
    """A run of `supervised` at its first state."""
    run = untrained(images)
    spec = {"encoder": run.recipe.networks["encoder"]}
    method = recipes.Spec("supervised", {"num_classes": 3})
    recipe = run.recipe._replace(networks=spec, method=method, **changes)
    parts = recipes.build(recipe, images)
    state = pretrain.initial(recipe, parts)()
    return run._replace(recipe=recipe, parts=parts, state=state, untrained=state)


def test_a_run_is_scored_by_its_own_classifier(tmp_path, monkeypatch):
    test = source(np.arange(30) % 3)
    run = classifying(source(LABELS, held_out=test), labels="2")
    monkeypatch.setattr(evaluation, "load", lambda folder, say: run)
    one, two = tmp_path / "a", tmp_path / "b"
    one.mkdir()
    result = evaluation.evaluate_run(one, skip=measures.SECTIONS, say=lambda line: None)
    found = result["classifier"]
    logits = encode(run.parts.method, run.parts.augment, run.state, test)["logits"]
    right = logits.argmax(1) == test.labels
    assert found["accuracy"]["value"] == pytest.approx(right.mean())
    assert found["accuracy"]["low"] < right.mean() < found["accuracy"]["high"]
    assert (found["examples"], found["labels"], found["learned_from"]) == (30, "2", 6)
    words = "from 6 labels (2 of each class), encoder from scratch"
    assert f"on 30 scored examples, learned {words}" in summary.table(result)

    # Beside another run, of which everything is the same but this classifier.
    shutil.copytree(one, two)
    with np.load(two / "predictions.npz") as file:
        arrays = dict(file)
    arrays[f"{compare.OWN}2"] = arrays["labels"][None]
    np.savez(two / "predictions.npz", **arrays)
    compared = compare.compare([one, two])
    row = compared["rows"][-1]
    assert (row["measure"], row["labels"], row["images"]) == ("classifier", "2", 30)
    assert row["difference"] == pytest.approx(right.mean() - 1)
    assert "a minus b, own classifier (labels: 2): -0." in " ".join(compared["lines"])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("all", "training has seen the scored fifth with its labels"),
        ("2", "a fifth was kept from training, and is scored"),
    ],
)
def test_a_classifier_that_had_the_scored_labels_is_not_scored(labels, words):
    images = source(LABELS)
    run = classifying(images, labels=labels)
    fit, scored, _ = split(images)
    sides = [encode(run.parts.method, run.parts.augment, run.state, rows_of(part))
             for part in (fit, scored)]  # fmt: skip
    pairs = {"logits": measures.Pair(*(side["logits"] for side in sides))}
    study = measures.Study(pairs, measures.Pair(fit.labels, scored.labels), {})
    assert (classifier.own(run, study) is None) == (labels == "all")
    assert words in labelled.note(run.recipe, images)
    assert labelled.note(untrained(images).recipe, images) is None


def test_an_own_method_may_have_seen_the_labels():
    images = source(LABELS)
    recipe = untrained(images).recipe
    assert labelled.unseen(recipe, images)
    own = recipe._replace(method=recipes.Spec("mine:method", {}))
    assert not labelled.unseen(own, images)
    assert "training may have seen the scored fifth" in labelled.note(own, images)
    assert labelled.unseen(own._replace(labels="2"), images)


@pytest.mark.parametrize("apart", [True, False])
def test_the_table_says_whether_training_has_seen_the_labels_scored(
    apart, tmp_path, monkeypatch
):
    test = source(np.arange(30) % 3) if apart else None
    run = classifying(source(LABELS, held_out=test))
    monkeypatch.setattr(evaluation, "load", lambda folder, say: run)
    result = evaluation.evaluate_run(
        tmp_path, skip=measures.SECTIONS, say=lambda line: None
    )
    told = "to score, which training has seen with their labels"
    assert (told in summary.table(result)) != apart
