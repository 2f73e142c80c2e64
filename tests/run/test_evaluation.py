"""Tiny and oddly labelled data: nothing crashes, and what is missing is said."""

import html
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from rl_jax import data, networks, report, train
from rl_jax.augment import presets as augmentations
from rl_jax.errors import UsageError
from rl_jax.run import evaluation, measures, pretrain, summary, trained
from rl_jax.run import recipe as recipes
from rl_jax.run.split import columns, rows_of, shares_of, split
from rl_jax.run.trained import Run


def source(labels, *, held_out=None, side=4):
    labels = np.asarray(labels)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), side, side, 1)).astype(np.uint8)
    return data.arrays(images, labels, held_out=held_out)


def unlabelled(count):
    return source(np.zeros(count, int))._replace(labels=None)


def parts(labels):
    fit, scored, _ = split(source(labels))
    return fit.labels.tolist(), scored.labels.tolist()


def test_every_fifth_of_a_class_is_scored_and_the_last_of_a_small_one():
    fit, scored, note = split(source([1] * 11 + [4] * 3 + [7]))
    assert scored.index.tolist() == [4, 9, 13]
    assert sorted([*fit.index, *scored.index]) == list(range(15))
    assert "pretraining has seen the scored fifth" in note


def test_where_nothing_can_be_held_out_nothing_is_scored():
    fit, scored, note = split(source([0, 1, 2]))
    assert len(fit.index) == len(scored.index) == 3
    assert scored.labels.max() == -1
    assert note == "no image could be held out"


@pytest.mark.fault
def test_rows_keep_no_label_of_an_image_that_was_replaced(tmp_path):
    for i in range(10):
        path = tmp_path / "ab"[i // 5] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "b" / "9.png").write_bytes(b"no image")
    whole = data.folder(tmp_path, size=4)
    _, scored, _ = split(whole)
    data.examples(whole, scored.index)
    np.testing.assert_array_equal(rows_of(scored).labels, [0, -1])


@pytest.mark.parametrize(
    ("labels", "shares"),
    [
        (np.arange(60) % 3 + 1, [1, 10, None]),  # 1-based
        (np.arange(60) % 3 * 100 + 7, [1, 10, None]),  # with gaps
        (np.arange(12) % 3, [1, None]),
        ([0] * 20 + [1] * 2, [1, None]),
        ([-1] * 5 + [0, 0, 1, 1], [1, None]),
        ([0] * 20, []),
        ([-1] * 20, []),
        (np.arange(20), []),
    ],
)
def test_columns_follow_the_classes_that_occur(labels, shares):
    fit, scored = map(np.array, parts(labels))
    found = columns(fit, scored)
    assert found.shares == shares
    assert (found.reason is None) == bool(shares)
    assert bool(found.notes) == (bool(shares) and 10 not in shares)


def test_parts_of_the_labels_are_columns_of_any_data():
    shares = shares_of(["1", "50", "1%", "10%", "1%"])
    assert shares == (1, 50, 0.01, 0.1, None)
    found = columns(np.arange(60) % 3, np.arange(3), shares=shares)
    assert found.shares == [1, 0.01, 0.1, None]
    assert [note[:30] for note in found.notes] == ["no column of 50 labels per cla"]


@pytest.mark.parametrize("word", ["0", "-1", "1.5", "0%", "101%", "nan%", "%", "all"])
def test_labels_that_are_no_number_and_no_part_are_refused(word):
    with pytest.raises(UsageError, match=f"as 1%, got '{word}'"):
        shares_of(["10", word])


@pytest.mark.parametrize(
    ("fit", "scored", "words"),
    [
        ([0] * 10 + [1] * 3, [0, 1], "too few images to learn from of class dog"),
        ([0] * 10 + [1] * 10, [0, 2, 2], "2 of the scored images count as wrong"),
        ([0] * 10 + [1] * 10, [0, 0], "no image is scored of class dog"),
        ([0] * 10 + [1] * 10, [-1, -1], "no scored image has a label"),
        ([1] * 10, [1, 0], "there are labels of one class only, dog"),
        ([-1] * 10, [-1], "the data has no labels"),
    ],
)
def test_what_is_missing_is_said(fit, scored, words):
    found = columns(np.array(fit), np.array(scored), ["cat", "dog", "eel"])
    assert words in " ".join([*found.notes, found.reason or ""])


def test_many_classes_make_one_line():
    (note,) = columns(np.arange(40) % 20, np.arange(20)).notes
    assert note.endswith("of class 0, 1, 2, 3, 4 and 15 more")


def test_checkpoints_between_come_in_order_and_broken_ones_are_said(tmp_path):
    run = untrained(source(np.arange(40) % 2))
    with train.Checkpoints(tmp_path / "checkpoints") as saved:
        for step in (2, 4, 6):
            state = run.state._replace(step=run.state.step + step)
            saved.save(step, state)
        saved.finish()
    newest = run._replace(step=6, state=state)
    shutil.rmtree(tmp_path / "checkpoints" / "2" / "meta")
    said = []
    found = list(trained.checkpoints(tmp_path, newest, say=said.append))
    assert [(step, int(each.step)) for step, each in found] == [(4, 4)]
    assert len(said) == 1
    assert "checkpoint 2 cannot be read" in said[0]


def untrained(images, *, out=8):
    """A run of `images` at its first state."""
    recipe = recipes.Recipe(
        data=recipes.Spec("npz", {"path": "unused"}),
        augment=recipes.resolve(augmentations.digits),
        networks={
            "encoder": recipes.resolve(networks.mlp, features=(8,), out=out),
            "projector": recipes.resolve(networks.projection_head, hidden=8, out=4),
        },
        method=recipes.Spec("simclr", {"temperature": 0.2}),
        optimizer=recipes.resolve(train.sgd, total_steps=5, batch_size=8),
        steps=5,
        batch_size=8,
        seed=3,
        probe=True,
        log_every=1,
        checkpoint_every=2,
    )
    built = recipes.build(recipe, images)
    state = pretrain.initial(recipe, built)()
    return Run(recipe, {}, built, 0, state, state, None)


@pytest.mark.parametrize(
    ("images", "out", "shares", "words"),
    [
        (source(np.arange(12) % 3 + 1), 1, ["1", "all"], "no column of 10 labels"),
        pytest.param(
            source(np.arange(12)),
            8,
            [],
            "no scored image has a label",
            marks=pytest.mark.slow,
        ),
        (unlabelled(12), 8, [], "the data has no labels"),
        pytest.param(
            source(np.arange(12) % 2, held_out=source([1])),
            8,
            ["1", "all"],
            "no map and no neighbours: they need 4 scored images",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["1-based", "singles", "unlabelled", "one scored"],
)
def test_tiny_data(tmp_path, monkeypatch, images, out, shares, words):
    run = untrained(images, out=out)
    monkeypatch.setattr(evaluation, "load", lambda folder, say: run)
    result = evaluation.evaluate_run(
        tmp_path, skip=evaluation.LONG, say=lambda line: None
    )
    assert result["labels_per_class"] == shares
    assert words in summary.table(result)
    for row in result["table"]:
        for kind in ("probe", "knn"):
            assert list(row[kind]) == shares
            assert 0 <= row[kind]["all"]["mean"] <= 1
    recipes.write(run.recipe, tmp_path / "run.json")
    page = report.write([tmp_path], tmp_path / "report.html").read_text()
    assert words in page


def test_probes_learn_from_at_most_so_many(tmp_path, monkeypatch):
    """Of each class its part, and the record says how many there are."""
    run = untrained(source(np.arange(80) % 2, held_out=source([0, 1])))
    monkeypatch.setattr(evaluation, "load", lambda folder, say: run)

    def evaluated(**options):
        skip = set(measures.SECTIONS) - {"geometry"} - options.pop("more", set())
        quiet = {"say": lambda line: None}
        return evaluation.evaluate_run(tmp_path, skip=skip, **quiet, **options)

    few = evaluated(train_images=30)
    assert few["train_images"] == 30
    assert few["evaluated"].endswith("learnt from 30 of 80")
    assert few["labels_per_class"] == ["1", "10", "all"]
    assert few["test_images"] == 2
    every = evaluated(train_images=80)
    assert every["train_images"] == 80
    assert "learnt" not in every["evaluated"]
    # Sections of another amount are none of this evaluation.
    assert set(evaluated(more={"cka"})["sections"]) == {"geometry", "cka"}
    assert set(evaluated(train_images=30)["sections"]) == {"geometry"}
    with pytest.raises(UsageError, match="evaluate: train_images must be >= 1, got 0"):
        evaluated(train_images=0)


def test_what_is_skipped_stays_while_weights_and_data_are_the_same(
    tmp_path, monkeypatch
):
    run = untrained(unlabelled(40))
    opened = [run]
    monkeypatch.setattr(evaluation, "load", lambda folder, say: opened[-1])
    light = {"geometry", "cka"}

    def evaluated(*measured):
        evaluation.evaluate_run(
            tmp_path, skip=set(measures.SECTIONS) - {*measured}, say=lambda line: None
        )
        return evaluation.read(tmp_path)

    first = evaluated(*light)
    assert set(first["sections"]) == light
    again = evaluated("geometry")
    assert again["sections"] == first["sections"]
    assert list(again["sections"]) == [n for n in measures.SECTIONS if n in light]
    assert again["skipped"] == first["skipped"] == sorted({*measures.SECTIONS} - light)
    recipes.write(run.recipe, tmp_path / "run.json")
    page = report.write([tmp_path], tmp_path / "report.html").read_text()
    for section in first["sections"].values():
        for line in section["lines"]:
            assert html.escape(line) in page

    # The same step, but not the same weights; the same weights, but not the same data.
    params = jax.tree.map(lambda x: x + 1, run.state.params)
    opened.append(run._replace(state=run.state._replace(params=params)))
    assert set(evaluated("geometry")["sections"]) == {"geometry"}
    parts = run.parts._replace(source=unlabelled(44))
    opened.append(opened[-1]._replace(parts=parts))
    assert set(evaluated("cka")["sections"]) == {"cka"}
    # A record of before there was an origin lends nothing.
    content = evaluation.read(tmp_path)
    del content["origin"]
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    assert set(evaluated("geometry")["sections"]) == {"geometry"}


@pytest.mark.slow
def test_every_section_of_a_run(tmp_path, monkeypatch):
    images = source(np.arange(200) % 2, side=8)
    images = images._replace(held_out=source(np.arange(60) % 2, side=8))
    run = untrained(images)
    monkeypatch.setattr(evaluation, "load", lambda folder, say: run)
    result = evaluation.evaluate_run(tmp_path, say=lambda line: None)
    assert set(result["sections"]) == set(measures.SECTIONS) - {"factors"}
    for name, section in result["sections"].items():
        assert "not measured" not in section["lines"][0], name
    corrupted = result["sections"]["corruptions"]
    assert corrupted["mce"]["raw"]["value"] == 1.0
    assert len(corrupted["accuracy"]["h"]) == 19
    assert result["checkpoint"] == {
        "step": 0,
        "of": 5,
        "network": "online",
        "headline": "h",
        "data": "clean",
    }
    recipes.write(run.recipe, tmp_path / "run.json")
    page = report.write([tmp_path], tmp_path / "report.html").read_text()
    for name, section in result["sections"].items():
        for line in section["lines"]:
            assert html.escape(line) in page, name


def test_images_to_learn_from_are_those_with_a_label():
    labels = measures.Pair(np.array([0, -1, 1, -1, 1]), np.array([-1, 0, 1]))
    x = measures.Pair(np.eye(5), np.eye(5)[:3])
    study = measures.Study({"h": x}, labels, {"h": "h"})
    found = evaluation.first_look(study)
    assert (found["train_images"], found["test_images"]) == (3, 2)
    unknown = measures.Pair(np.full(5, -1), np.full(3, -1))
    found = evaluation.first_look(study._replace(labels=unknown))
    assert (found["train_images"], found["test_images"]) == (5, 3)
