"""A run.json that was edited, or made by somebody else, is refused in one line."""

import json
import os
import resource
import shutil
import sys

import numpy as np
import pytest

from rl_jax import files
from rl_jax.cli import main
from rl_jax.run import changes, datasets
from rl_jax.run import recipe as recipes

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_cache")]
SMALL = [
    *("--steps", "2", "--batch-size", "8", "--no-evaluate", "--no-probe"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two steps; copied for each test."""
    folder = tmp_path_factory.mktemp("trained")
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    np.savez(folder / "small.npz", image=images, label=np.arange(12) % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        where = ["--data", str(folder / "small.npz"), "--run-dir", str(folder / "run")]
        main(["pretrain", "simclr", *where, *SMALL])
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def edit(run, **changes):
    """Sets values of a recipe by their dotted names, `.` written as `__`."""
    path = run / "run.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *way, last = name.split("__")
        part = content["recipe"]
        for word in way:
            part = part[word]
        assert last in part
        part[last] = value
    path.write_text(json.dumps(content))


def tried(capsys, *argv):
    """Exit code and standard error of a command."""
    code = 0
    try:
        main([str(a) for a in argv])
    except SystemExit as stopped:
        code = stopped.code
    return code, capsys.readouterr().err


def one_line(capsys, *argv):
    code, error = tried(capsys, *argv)
    assert code == 2, error
    assert error.startswith("rl-jax: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def resume(run, capsys, *flags):
    return tried(capsys, "resume", run, "--no-evaluate", *flags)


def noted(run, step):
    meta = json.loads((run / "checkpoints" / str(step) / "meta/metadata").read_text())
    return meta["notes"]["recipe"]


def test_edited_values_of_one_shape_are_named(run, capsys):
    edit(run, method__arguments__temperature=0.9)
    edit(run, optimizer__arguments__learning_rate=0.125)
    rate = noted(run, 2)["optimizer"]["arguments"]["learning_rate"]
    before = sorted(run.rglob("*"))
    error = one_line(capsys, "resume", run, "--no-evaluate")
    assert "run.json is not what checkpoint 2 was made with: " in error
    assert "method.arguments.temperature: 0.5 -> 0.9; " in error
    assert f"optimizer.arguments.learning_rate: {rate} -> 0.125; put" in error
    assert f"go on as it is now with: rl-jax resume {run} --allow-changes" in error
    assert sorted(run.rglob("*")) == before


def test_another_width_is_named_as_the_recipe_has_it(run, capsys):
    edit(run, networks__encoder__arguments__out=16)
    error = one_line(capsys, "resume", run, "--no-evaluate")
    assert "networks.encoder.arguments.out: 8 -> 16" in error


def test_more_steps_where_that_is_allowed(run, capsys):
    edit(run, steps=4, optimizer__arguments__total_steps=4)
    assert "steps: 2 -> 4" in one_line(capsys, "resume", run, "--no-evaluate")
    assert resume(run, capsys, "--allow-changes") == (0, "")
    assert noted(run, 4)["steps"] == 4
    # The checkpoint that is now the newest was made with what run.json says.
    assert resume(run, capsys) == (0, "")


def test_more_steps_than_the_schedule_has_are_warned_of(run, capsys):
    edit(run, steps=3)
    capsys.readouterr()
    main(["resume", str(run), "--no-evaluate", "--allow-changes"])
    said = " ".join(capsys.readouterr().out.split())
    assert "cosine to 0 at step 2" in said
    assert "from step 2 on nothing is learned: the schedule ends there" in said


def test_a_run_is_made_longer_and_its_schedules_with_it(run, capsys, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("rl_jax.train.fit", lambda *a, **k: sys.exit(9))
        assert resume(run, capsys, "--steps", "4")[0] == 9
    # Before its first new checkpoint it is a run of four steps with one of two.
    assert resume(run, capsys) == (0, "")
    assert noted(run, 4)["steps"] == 4
    assert noted(run, 4)["optimizer"]["arguments"]["total_steps"] == 4
    assert resume(run, capsys, "--steps", "4") == (0, "")
    assert resume(run, capsys, "--steps", "6") == (0, "")
    content = json.loads((run / "run.json").read_text())
    assert content["steps_before"] == [2, 4]
    assert noted(run, 6)["steps"] == content["recipe"]["steps"] == 6
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2, 4, 6]
    recipe = recipes.read(run / "run.json")[0]
    of_six = recipes.build(recipe, datasets.build(recipe.data)).optimizer
    rate = json.loads(rows[2])["learning_rate"]
    assert rate == of_six.learning_rate(5) != of_six.learning_rate(6)


def test_a_run_that_is_longer_still_refuses_other_changes(run, capsys):
    edit(run, method__arguments__temperature=0.9)
    edited = (run / "run.json").read_bytes()
    error = one_line(capsys, "resume", run, "--steps", "4")
    assert (run / "run.json").read_bytes() == edited, "what is refused changes nothing"
    assert "checkpoint 2 was made with: method.arguments.temperature: 0.5" in error
    assert "steps" not in error.partition("with: ")[2].partition(";")[0]


def test_a_run_is_not_made_shorter(run, capsys):
    before = (run / "run.json").read_bytes()
    error = one_line(capsys, "resume", run, "--steps", "1")
    assert "--steps 1: the run has 2, and can be made longer only" in error
    assert "steps must be below 2^31" in one_line(
        capsys, "resume", run, "--steps", str(2**31)
    )
    assert (run / "run.json").read_bytes() == before


def test_a_schedule_of_a_length_of_its_own_stays(run):
    recipe, _ = recipes.read(run / "run.json")
    own = recipe._replace(optimizer=recipe.optimizer.given(total_steps=9))
    assert recipes.with_steps(own, 4).optimizer.arguments["total_steps"] == 9
    assert recipes.with_steps(recipe, 4).optimizer.arguments["total_steps"] == 4


def test_a_schedule_that_ends_above_nothing_is_no_end_of_learning(run, capsys):
    edit(run, steps=3)
    content = json.loads((run / "run.json").read_text())
    content["recipe"]["optimizer"]["arguments"]["end_rate"] = 0.5
    (run / "run.json").write_text(json.dumps(content))
    main(["resume", str(run), "--no-evaluate", "--allow-changes"])
    assert "nothing is learned" not in " ".join(capsys.readouterr().out.split())


def test_how_often_it_says_and_saves_may_change(run, capsys):
    edit(run, log_every=1, checkpoint_every=1)
    assert resume(run, capsys) == (0, "")


def test_checkpoints_of_before_they_held_a_recipe_go_on(run, capsys):
    path = run / "checkpoints" / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    del meta["notes"], meta["notes_sum"]
    path.write_text(json.dumps(meta))
    edit(run, method__arguments__temperature=0.9)
    assert resume(run, capsys) == (0, "")


def test_a_changed_note_is_a_checkpoint_that_is_not_sound(run, capsys):
    path = run / "checkpoints" / "2" / "meta" / "metadata"
    text = path.read_text()
    assert text.count('"temperature": 0.5') == 1
    path.write_text(text.replace('"temperature": 0.5', '"temperature": 0.3'))
    code, error = resume(run, capsys)
    assert code == 3
    assert "the content of its notes has changed" in error


def test_of_a_newer_version_a_recipe_is_refused():
    with pytest.raises(ValueError, match="use a newer rl_jax"):
        changes.differences({"format": recipes.FORMAT + 1, "recipe": {}}, None)


def deep(path):
    path.write_text('{"format": 2, "recipe": ' + "[" * 200_000)


def deep_but_whole(path):
    path.write_text('{"format": 2, "recipe": ' + "[" * 200_000 + "]" * 200_000 + "}")


def gigabyte(path):
    os.truncate(path, 2**30)


def bytes_of_no_text(path):
    path.write_bytes(bytes(range(256)) * 10)


def of_nan(path):
    """Every number of the recipe NaN."""

    def spoilt(value):
        if isinstance(value, dict):
            return {name: spoilt(v) for name, v in value.items()}
        if isinstance(value, list):
            return [spoilt(v) for v in value]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return float("nan") if number else value

    content = json.loads(path.read_text())
    content["recipe"] = spoilt(content["recipe"])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("command", ["resume", "evaluate", "embed", "export", "report"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (deep, "nested too deeply"),
        (deep_but_whole, "nested too deeply"),
        (gigabyte, "it has 1024 MB, at most 200 MB are read"),
        (bytes_of_no_text, "run.json"),
        (of_nan, "is nan, expected"),
    ],
)
def test_a_hostile_record_is_one_line(run, capsys, command, spoil, words):
    spoil(run / "run.json")
    if (command, spoil) == ("report", of_nan):  # which shows what it can
        assert tried(capsys, command, run) == (0, "")
        return
    more = ("digits", "-o", run / "out.npz") if command == "embed" else ()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert words in one_line(capsys, command, run, *more)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, "kB: the file was read"


@pytest.mark.parametrize("spoil", [deep, deep_but_whole, gigabyte])
def test_a_hostile_checkpoint_is_not_sound(run, capsys, spoil):
    spoil(run / "checkpoints" / "2" / "meta" / "metadata")
    code, error = resume(run, capsys)
    assert code == 3
    assert error.count("\n") == 1
    assert "checkpoint 2 is not sound" in error


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"steps": float("nan")}, "steps is nan, expected int"),
        ({"seed": True}, "seed is True, expected int"),
        ({"probe": 1}, "probe is 1, expected bool"),
        ({"method__arguments__temperature": float("inf")}, "an argument is inf"),
        ({"method__arguments__temperature": "hot"}, "simclr: '<' not supported"),
        ({"optimizer__arguments__warmup_steps": {"a": {}}}, "nested too deeply"),
        ({"augment__arguments__scale": [[[[[1]]]]]}, "nested too deeply"),
    ],
)
def test_a_value_that_is_none(run, capsys, value, words):
    edit(run, **value)
    assert words in one_line(capsys, "resume", run)


def test_json_is_read_up_to_its_size(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text('{"a": "é"}')
    monkeypatch.setattr(files, "MAX_BYTES", path.stat().st_size)
    assert files.read_json(path) == {"a": "é"}
    monkeypatch.setattr(files, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="are read"):
        files.read_json(path)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "b.json")
