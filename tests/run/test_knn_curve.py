"""k-NN while a run trains: what it scores, and that training does not notice."""

import json
import math
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_resume import DYING, rows

from rl_jax import data, evaluate, run, train
from rl_jax.cli import main
from rl_jax.errors import UsageError
from rl_jax.report import listing
from rl_jax.run import knn_curve, labelled, split
from rl_jax.run import recipe as recipes
from rl_jax.run.check import check
from rl_jax.run.knn_curve import KnnCurve

pytestmark = pytest.mark.core
STEPS = 14
SMALL = [
    *("--steps", STEPS, "--batch-size", 64, "--log-every", 2, "--no-evaluate"),
    *("--checkpoint-every", 6, "--encoder", "mlp", "--encoder.features", 16),
    *("--encoder.out", 16, "--projector.hidden", 16, "--projector.out", 8),
]


def pretrain(folder, *more, method="simclr"):
    main([*map(str, ["pretrain", method, *SMALL, "--run-dir", folder, *more])])
    return folder


def resume(folder):
    main(["resume", str(folder), "--no-evaluate"])


def digests(folder):
    meta = folder / "checkpoints" / str(STEPS) / "meta" / "metadata"
    return json.loads(meta.read_text())["leaves"]


def timeless(folder, *without):
    without = {*without, *train.CLOCK}
    return [{k: v for k, v in row.items() if k not in without} for row in rows(folder)]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    return pretrain(tmp_path_factory.mktemp("knn") / "scored", "--knn-every", 4)


def test_rows_have_it_every_so_many_steps_and_at_the_end(scored):
    assert [row["step"] for row in rows(scored) if "knn" in row] == [4, 8, 12, 14]


def test_training_does_not_notice(scored, tmp_path):
    other = pretrain(tmp_path / "without")
    assert digests(other) == digests(scored)
    assert timeless(other) == timeless(scored, "knn")


def encoded(found, source):
    return run.encode(found.parts.method, found.parts.augment, found.state, source)["h"]


def accuracy(folder):
    """Of a trained run's `h`, the way an evaluation takes."""
    found = run.load(folder, say=lambda line: None)
    (bank, labels), (queries, truth) = (
        (encoded(found, split.rows_of(part)), part.labels)
        for part in split.split(found.parts.source)[:2]
    )
    return evaluate.knn_accuracy(bank, labels, queries, truth)


def test_the_last_is_that_of_the_trained_encoder(scored):
    assert rows(scored)[-1]["knn"] == pytest.approx(accuracy(scored), abs=0.004)


def test_of_a_teacher_where_the_method_has_one(tmp_path):
    """Its student is far from it after a few steps at a high rate."""
    words = ["--knn-every", STEPS, "--optimizer.learning-rate", 0.3, "--prototypes", 16]
    folder = pretrain(tmp_path / "run", *words, method="dino")
    found = run.load(folder, say=lambda line: None)
    assert found.parts.method.network == "teacher"
    assert rows(folder)[-1]["knn"] == pytest.approx(accuracy(folder), abs=0.004)


def test_a_run_that_is_killed_has_the_same_rows(scored, tmp_path):
    folder = tmp_path / "run"
    words = ["pretrain", "simclr", *SMALL, "--knn-every", 4, "--run-dir", folder]
    killed = subprocess.run(
        [sys.executable, "-c", DYING, json.dumps({"step": 10}), *map(str, words)],
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resume(folder)
    assert digests(folder) == digests(scored)
    assert timeless(folder) == timeless(scored)


@pytest.mark.parametrize("at", [8, STEPS])
def test_one_that_is_stopped_while_it_is_scored(at, scored, tmp_path, monkeypatch):
    """At once: the score is made when the run goes on, also that of the last step.

    Where a stop breaks that off too, no step is made, and the score is made next time.
    """
    score, folder, looks = KnnCurve.score, tmp_path / "run", []

    def stopped(self, parts, state, **how):
        if int(state.step) == at:
            looks.append(how["stop"])
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, parts, state, **how)

    monkeypatch.setattr(KnnCurve, "score", stopped)
    with pytest.raises(SystemExit) as end:
        pretrain(folder, "--knn-every", 4)
    assert end.value.code == 75
    assert "knn" not in rows(folder)[-1]
    (listed,) = listing.runs(tmp_path)
    assert (listed.status, listed.step) == ("done" if at == STEPS else "stopped", at)
    assert rows(folder)[-1]["step"] == at == train.Checkpoints(
        folder / "checkpoints", read_only=True
    ).steps()[-1]  # fmt: skip
    before = (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(SystemExit) as end:
        resume(folder)
    assert end.value.code == 75
    assert len(looks) == 2
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert train.Checkpoints(folder / "checkpoints", read_only=True).steps()[-1] == at
    monkeypatch.setattr(KnnCurve, "score", score)
    resume(folder)
    assert digests(folder) == digests(scored)
    assert timeless(folder) == timeless(scored)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(2, STEPS + 1, 2)]


def test_what_was_not_finite_in_a_row_that_is_owed_is_nan(trained):
    """In the file it is null, which TensorBoard would not take."""
    curve = KnnCurve(trained.recipe, trained.parts.source)
    row = curve.owed([{"step": 4, "loss": None, "time": 1.0}], 4)
    assert row == {"step": 4, "loss": pytest.approx(math.nan, nan_ok=True), "time": 1.0}
    assert curve.owed([{"step": 4, "knn": None}], 4) is None


def small_recipe(**changed):
    recipe = recipes.Recipe(
        data=recipes.Spec("digits", {}),
        augment=recipes.Spec("plain", {}),
        networks={"encoder": recipes.resolve(recipes.networks.mlp)},
        method=recipes.resolve(recipes.methods.autoencoder),
        optimizer=recipes.resolve(train.adamw, total_steps=10),
        steps=10,
        batch_size=40,
        seed=0,
        probe=False,
        log_every=5,
        checkpoint_every=5,
        knn_every=5,
    )
    return recipe._replace(**changed)


@pytest.fixture(scope="module")
def trained(scored):
    return run.load(scored, say=lambda line: None)


def test_one_program_and_a_sign_of_life_for_every_batch(trained, monkeypatch):
    """Both sides, of which one is smaller than a batch, by the same program."""
    monkeypatch.setattr(knn_curve, "LEARNT", 150)
    monkeypatch.setattr(knn_curve, "SCORED", 30)
    curve, beats = KnnCurve(trained.recipe, trained.parts.source), []
    sizes = [side.size for side in curve._sides]
    assert 128 < sizes[0] <= 150
    assert sizes[1] <= 30
    for _ in range(2):
        value = curve.score(
            trained.parts,
            trained.state,
            say=pytest.fail,
            beat=lambda: beats.append(1),
        )
        assert 0.5 < value <= 1
    assert curve._look._cache_size() == 1
    assert len(beats) == 2 * (3 + 1 + 1)


def test_a_class_keeps_its_part_of_the_few(trained, monkeypatch):
    monkeypatch.setattr(knn_curve, "LEARNT", 100)
    curve = KnnCurve(trained.recipe, trained.parts.source)
    counts = np.bincount(curve._sides[0].labels)
    assert counts.sum() <= 100
    assert set(counts) <= {9, 10}


def test_features_that_are_not_finite_end_nothing(trained):
    said = []
    nothing = jax.tree.map(lambda x: x * np.nan, trained.state.params)
    broken = trained.state._replace(params=nothing)
    curve = KnnCurve(trained.recipe, trained.parts.source)
    for step in (4, 8):
        row = curve.row(step, trained.parts, broken, say=said.append)
        assert math.isnan(row["knn"])
    assert said == ["warning: no k-NN: h of some image is NaN or infinite"]


def test_labels_that_training_may_not_see_are_scored(tmp_path):
    """The curve ends where the evaluation does, which sees all of them."""
    words = ["--knn-every", 14, "--labels", "5"]
    folder = pretrain(tmp_path / "run", *words)
    assert rows(folder)[-1]["knn"] == pytest.approx(accuracy(folder), abs=0.004)


def test_images_are_read_once_where_they_take_little(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    read = []

    def load(i):
        read.append(i)
        return images[i]

    labels = np.arange(60, dtype=np.int32) % 3
    source = data.Source("own", 60, (8, 8, 1), load, labels, ("a", "b", "c"))
    recipe = small_recipe()
    curve = knn_curve.decoded(recipe, source, source)
    assert sorted(read) == list(range(60))
    assert all(side.images is not None for side in curve._sides)
    monkeypatch.setattr(knn_curve, "MOST_HELD", 47 * 64)
    curve = knn_curve.decoded(recipe, source, source)
    assert [side.images is None for side in curve._sides] == [True, False]
    assert curve.line() == (
        "k-NN every 5 steps: 12 examples by the labels of 48 others; no held-out part: "
        "pretraining has seen the scored fifth, without labels"
    )


@pytest.mark.parametrize(
    ("method", "labels", "held_out", "said"),
    [
        ("autoencoder", "all", False, "pretraining has seen the scored fifth, without"),
        ("autoencoder", "3", False, "pretraining has seen the scored fifth, without"),
        ("supervised", "all", False, "training has seen the scored fifth with its"),
        ("supervised", "3", False, "a fifth was kept from training, and is scored"),
        ("supervised", "all", True, None),
    ],
)
def test_it_is_said_whether_training_sees_what_is_scored(
    method, labels, held_out, said, monkeypatch
):
    """Also where it is fewer than a fifth."""
    monkeypatch.setattr(knn_curve, "SCORED", 9)
    images = np.zeros((60, 8, 8, 1), np.uint8)
    source = data.arrays(images, np.arange(60, dtype=np.int32) % 3)
    if held_out:
        source = source._replace(held_out=source)
    factory = recipes.Spec(method, {})
    recipe = small_recipe(method=factory, labels=labels)
    seen = labelled.of_run(recipe, source)
    line = knn_curve.of_run(recipe, source, seen).line()
    kind, others = ("held-out examples", 60) if held_out else ("examples", 48)
    start = f"k-NN every 5 steps: 9 {kind} by the labels of {others} others"
    assert line.startswith(start)
    rest = line.removeprefix(start)
    assert rest.startswith(f"; no held-out part: {said}") if said else not rest


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (-1, r"--knn-every must be 0 or more steps, got -1"),
        (7, r"multiple of --log-every \(5\), .* got 7; use 5 or 10"),
        (3, r"multiple of --log-every \(5\), .* got 3; use 5$"),
    ],
)
def test_steps_between_rows_are_refused(every, said):
    with pytest.raises(UsageError, match=said):
        check(small_recipe(knn_every=every), data.digits())


def test_texts_without_labels_are_told_what_gives_them_some(tmp_path, capsys):
    (tmp_path / "one.txt").write_text("no class is named here, and none there\n" * 200)
    words = ["--data", tmp_path / "one.txt", "--steps", 4, "--knn-every", 2]
    words += ["--log-every", 2, "--run-dir", tmp_path / "run"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, ["pretrain", "simcse", *words])])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "rl-jax: --knn-every 2: the data has no labels (give the texts of each class "
        "in a sub-folder of their own), so that no neighbour can vote; leave it out\n"
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "the data has no labels (name them by sub-folders"),
        (np.zeros(64, np.int32), "there are labels of one class only, 0"),
        (np.arange(64), "no scored image has a label"),
    ],
)
def test_no_labels_is_one_line_before_there_is_a_folder(
    labels, said, tmp_path, capsys, monkeypatch
):
    images = np.zeros((64, 8, 8, 1), np.uint8)
    arrays = {"image": images} | ({} if labels is None else {"label": labels})
    np.savez(tmp_path / "bare.npz", **arrays)
    folder = tmp_path / "run"
    monkeypatch.setattr("jax.stages.Lowered.compile", pytest.fail)
    with pytest.raises(SystemExit) as end:
        pretrain(folder, "--data", tmp_path / "bare.npz", "--knn-every", 2)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("rl-jax: --knn-every 2: ")
    assert said in error
    assert error.endswith("leave it out\n")
    assert error.count("\n") == 1
    assert not folder.exists()
