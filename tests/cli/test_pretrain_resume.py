"""`pretrain --resume`: one command starts a run and, given again, goes on with it."""

import json
import shutil

import numpy as np
import pytest

from rl_jax import report
from rl_jax.cli import continued, main
from rl_jax.cli.recipe import read
from rl_jax.errors import UsageError
from rl_jax.run import evaluation
from rl_jax.run import recipe as recipes

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("no_cache")]
SMALL = [
    *("--batch-size", "8", "--no-evaluate", "--no-probe", "--checkpoint-every", "2"),
    *("--log-every", "1", "--augment", "digits"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
]
HEAD = ["--projector.hidden", "8", "--projector.out", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps, started by `--resume`, and its data beside it."""
    folder = tmp_path_factory.mktemp("trained")
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
    np.savez(folder / "small.npz", image=images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        main(command(folder / "run", data=folder / "small.npz"))
    return folder


def command(run, *more, data, steps=4):
    where = ["--data", str(data), "--run-dir", str(run), "--steps", str(steps)]
    return ["pretrain", "simclr", *where, *SMALL, *HEAD, "--resume", *more]


@pytest.fixture
def copy(trained, tmp_path):
    """`more -> ` the command again, on a copy of the run; `copy.run` is its folder."""

    def again(*more, **other):
        return command(again.run, *more, data=trained / "small.npz", **other)

    again.run = shutil.copytree(trained / "run", tmp_path / "run")
    return again


def steps_of(run):
    return sorted(int(p.name) for p in (run / "checkpoints").iterdir())


def losses(run):
    rows = (run / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, rows)]


def refused(capsys, *argv):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1, error
    return error


def test_a_run_that_was_cut_off_goes_on_by_the_same_command(trained, copy, capsys):
    """Bit for bit: the last checkpoint is gone, as if it had been killed before."""
    shutil.rmtree(copy.run / "checkpoints" / "4")
    record = (copy.run / "run.json").read_bytes()
    main(copy())
    assert "continuing from the checkpoint of step 2" in capsys.readouterr().out
    assert steps_of(copy.run) == steps_of(trained / "run")
    assert losses(copy.run) == losses(trained / "run")
    assert (copy.run / "run.json").read_bytes() == record


def test_a_run_that_is_done_stays_as_it_is(trained, copy):
    main(copy())
    assert losses(copy.run) == losses(trained / "run")


def test_more_steps_make_it_longer(copy):
    """Also where a default follows from them, as the warm-up does."""
    record = read_json(copy.run / "run.json")
    main(copy(steps=14))
    assert [step for step, _ in losses(copy.run)] == [*range(1, 15)]
    there = recipes.read(copy.run / "run.json")[0]
    assert there.steps == 14
    warm = record["recipe"]["optimizer"]["arguments"]["warmup_steps"]
    assert there.optimizer.arguments["warmup_steps"] == warm
    main(copy(steps=14))
    assert len(losses(copy.run)) == 14


def continues(copy, *more, sinks=(), **other):
    argv = copy(*more, **other)[1:]
    return continued.continues(copy.run, read("pretrain", argv), argv, sinks)


def read_json(path):
    return json.loads(path.read_text())


def test_what_a_version_of_before_had_by_default_stays(copy):
    """The command is the same: arguments that are new since do not count."""
    record = read_json(copy.run / "run.json")
    del record["recipe"]["method"]["arguments"]["decoupled"]
    record["recipe"]["optimizer"]["arguments"]["weight_decay"] = 0.5
    (copy.run / "run.json").write_text(json.dumps(record))
    assert continues(copy)
    with pytest.raises(UsageError, match=r"decoupled: nothing -> false.*weight_decay"):
        continues(copy, "--seed", "1")


def test_other_words_for_the_same_go_on(copy, trained):
    """Defaults written out, what is of one call alone, another way to the data."""
    assert continues(copy, "--seed", "0", "--no-decoupled")
    assert continues(copy, "--stall-timeout", "60", "--threads=1", "--evaluate")
    (trained / "sub").mkdir(exist_ok=True)
    around = trained / "sub" / ".." / "small.npz"
    argv = [str(around) if w.endswith("small.npz") else w for w in copy()[1:]]
    assert continued.continues(copy.run, read("pretrain", argv), argv, ())


def test_other_data_are_another_run(copy, trained):
    other = shutil.copy(trained / "small.npz", trained / "other.npz")
    argv = [str(other) if w.endswith("small.npz") else w for w in copy()[1:]]
    with pytest.raises(UsageError, match=r"data.path: .*small.npz -> .*other.npz"):
        continued.continues(copy.run, read("pretrain", argv), argv, ())


@pytest.mark.parametrize("words", [("pretrain", "--resume"), ("resume",)])
def test_what_was_evaluated_is_not_evaluated_again(copy, words, monkeypatch, capsys):
    """`rl-jax evaluate` may have measured more since."""
    asked = []
    monkeypatch.setattr(evaluation, "evaluate_run", lambda *a, **k: asked.append(a))
    monkeypatch.setattr(report, "write", lambda folders, path: path)
    argv = [word for word in copy() if word != "--no-evaluate"]
    if words == ("resume",):
        argv = ["resume", str(copy.run)]
    for step in (None, 2, 4):
        if step is not None:
            (copy.run / "evaluation.json").write_text(json.dumps({"step": step}))
        capsys.readouterr()
        main(argv)
        evaluated = len(asked)
        asked.clear()
        assert evaluated == (step != 4)
        assert ("evaluated already" in capsys.readouterr().out) == (step == 4)


def test_a_run_of_other_arguments_is_refused(copy, capsys):
    before = {p: p.read_bytes() for p in copy.run.rglob("*") if p.is_file()}
    error = refused(capsys, *copy("--temperature", "0.25", "--log-every", "3"))
    assert "method.arguments.temperature: 0.5 -> 0.25" in error
    assert "log_every: 1 -> 3" in error  # it would not be heeded
    assert f"rl-jax resume {copy.run}" in error
    assert "steps: 4 -> 2" in refused(capsys, *copy(steps=2))
    assert {p: p.read_bytes() for p in copy.run.rglob("*") if p.is_file()} == before


def test_without_a_folder_it_is_refused(capsys):
    error = refused(capsys, "pretrain", "simclr", "--resume", "--steps", "2")
    assert "--resume: name the folder by --run-dir" in error


def test_without_the_flag_a_run_is_not_touched(copy, capsys):
    argv = [word for word in copy() if word != "--resume"]
    assert "holds a run already" in refused(capsys, *argv)


def test_other_sinks_are_another_run(copy):
    with pytest.raises(UsageError, match=r"metrics also to: \[\] -> \['wandb'\]"):
        continues(copy, "--wandb", sinks=("wandb",))


def test_the_record_says_which_weights_it_began_with(trained, copy, tmp_path, capsys):
    """The other run has trained on since; this one keeps what it started from."""
    started = tmp_path / "started"
    argv = command(
        started, "--init-from", str(copy.run), data=trained / "small.npz", steps=2
    )
    main(argv)
    record = (started / "run.json").read_bytes()
    main(copy(steps=6))
    main(argv)
    assert (started / "run.json").read_bytes() == record
    other = shutil.copytree(copy.run, tmp_path / "other")
    assert "init_from: " in refused(capsys, *argv[:-1], str(other))
