"""Bad input: one clear line, the right exit code, no traceback, nothing lost."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rl_jax.cli import main

pytestmark = pytest.mark.usefixtures("no_cache")

TINY = [
    *("--steps", "2", "--batch-size", "8", "--no-evaluate", "--encoder", "mlp"),
    *("--encoder.features", "8", "--encoder.out", "8"),
]


def fails(capsys, *argv, code=2):
    with pytest.raises(SystemExit) as stopped:
        main([str(a) for a in argv])
    error = capsys.readouterr().err
    assert stopped.value.code == code, error
    assert "Traceback" not in error
    return error


def one_line(capsys, *argv, code=2):
    error = fails(capsys, *argv, code=code)
    assert error.startswith("rl-jax: ")
    assert error.count("\n") == 1, error
    return error


@pytest.fixture
def images(tmp_path):
    """A folder of 20 readable images in two classes."""
    rng = np.random.default_rng(0)
    for k in range(20):
        path = tmp_path / "photos" / f"class{k % 2}" / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def test_unknown_command(capsys):
    assert "unknown command 'pretain'; there are: pretrain" in one_line(
        capsys, "pretain"
    )


def test_unknown_method(capsys):
    error = one_line(capsys, "pretrain", "simcrl")
    assert "unknown method 'simcrl'; there are: autoencoder, barlow_twins" in error


def test_no_method(capsys):
    assert "name a method first" in one_line(capsys, "pretrain", "--data", "digits")


def test_unknown_data(capsys):
    error = one_line(capsys, "pretrain", "simclr", "--data", "cifar11")
    assert "--data cifar11: does not exist; expected one of digits" in error


def test_data_that_is_no_data(capsys, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert "notes.txt: cannot be read as data" in one_line(
        capsys, "pretrain", "simclr", "--data", path
    )


def test_a_folder_called_digits_is_a_folder(capsys, images):
    """Its preset is that of its images: the flags of a ResNet, not of a small net."""
    folder = images.rename(images.with_name("digits"))
    where = ("--data", folder, "--data.size", "32")
    error = one_line(
        capsys, "pretrain", "simclr", *where, "--encoder.depth", "18", "--seed", "-1"
    )
    assert "seed must be in" in error


def test_empty_folder(capsys, tmp_path):
    error = one_line(capsys, "pretrain", "simclr", "--data", tmp_path)
    assert ".jpg" in error
    assert str(tmp_path) in error


def test_broken_images(capsys, images, tmp_path):
    for k in range(5):
        (images / "class0" / f"broken{k}.jpg").write_text("<html>not found</html>")
    error = one_line(
        capsys,
        *("pretrain", "simclr", "--data", images, "--data.size", 32),
        *("--run-dir", tmp_path / "run", *TINY),
    )
    assert "files read cannot be decoded, of 25 in all, more than max_bad=0.01" in error
    assert "broken0.jpg" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["simclr", "supervised"])
def test_ids_for_class_numbers(capsys, tmp_path, method):
    """An output for every number up to the largest id would be a huge classifier."""
    image = np.zeros((20, 8, 8, 1), np.uint8)
    path, run = tmp_path / "ids.npz", tmp_path / "run"
    np.savez(path, image=image, label=np.arange(20) % 2 * 1_000_000)
    error = one_line(
        capsys, "pretrain", method, "--data", path, "--run-dir", run, *TINY
    )
    assert "labels of 2 classes go up to 1000000" in error
    assert "np.unique(label, return_inverse=True)" in error
    assert not run.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--temperature", "-0.1"],
            "simclr: temperature must be > 0 and",
        ),
        (["--batch-size", "5000"], "must be <= the 1297 examples there are, got 5000"),
        (["--batch-size", "100"], "not divisible by 8 devices; use 96 or 104"),
        (["--batch-size", "0"], "must be >= 1, got 0"),
        (["--micro-batch", "48"], "batch of 256 into equal parts on 8 devices; use"),
        (["--micro-batch", "64"], "encoder (split=1) span its 4 micro-batches on 8"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--log-every", "0"], "log_every must be at least 1, got 0"),
        (["--optimizer.learning-rate", "-1"], "learning_rate must be > 0 and finite"),
        (["--augment.noise", "-1"], "got -1"),
        (["--encoder", "resnet", "--encoder.width", "0"], "width must be at least 1"),
        (
            ["--encoder", "vgg"],
            "unknown encoder 'vgg'; there are: convnet, mlp, resnet",
        ),
        (["--tensorboard"], "pip install 'rl-jax[tb]'"),
    ],
)
def test_bad_values(capsys, tmp_path, flags, words):
    run = tmp_path / "run"
    error = one_line(capsys, "pretrain", "simclr", "--run-dir", run, *flags)
    assert words in error
    assert not run.exists()


SPLIT = "BatchNorm: split=3 does not divide the batch of 16"
VIEWS = "expected two views of each image, [B, 2, ...], got (8, {}, 8, 8, 1)"


@pytest.mark.parametrize(
    ("method", "flags", "words"),
    [
        ("moco", ["--queue-size", "4"], "8 rows do not fit a queue of 4"),
        (
            "vae",
            ["--likelihood", "bernoulli", "--augment", "digits"],
            "likelihood=bernoulli is of images in [0, 1], but the augmentation digits "
            "makes them -0.81 to 1.85; use --augment plain",
        ),
        (
            "autoencoder",
            ["--error", "cross_entropy", "--augment", "digits"],
            "autoencoder: error=cross_entropy is of images in [0, 1]",
        ),
        ("vae", ["--decoder", "mae_decoder"], "mae_decoder: expected the tokens of"),
        ("byol", ["--predictor", "jepa_predictor"], "jepa_predictor: expected the"),
        ("i_jepa", [], "i_jepa: encoder must give a token for each patch"),
        ("ibot", [], "ibot: encoder must give a class token and one for each patch"),
        ("moco", ["--queue-size", "8", "--symmetric"], "16 rows do not fit"),
        ("moco", ["--queue-size", "2000000000"], "make the networks or the queue"),
        ("moco", ["--queue-size", "100000000000"], "(queue_size) must be at most"),
        ("moco", ["--temperature", "nan"], "must be > 0 and finite, got nan"),
        ("moco", ["--decay", "nan"], "decay must be in [0, 1), got nan"),
        ("moco", ["--augment.num-views", "1"], VIEWS.format(1)),
        ("byol", ["--augment.num-views", "3"], VIEWS.format(3)),
        ("byol", ["--decay", "nan"], "decay must be in [0, 1], got nan"),
        ("simclr", ["--temperature", "inf"], "must be > 0 and finite, got inf"),
        ("simclr", ["--augment.num-views", "1"], VIEWS.format(1)),
        ("simclr", ["--encoder.split", "3"], SPLIT),
        ("simclr", ["--projector.split", "16"], "one value for each channel"),
        ("simclr", ["--seed", "-1"], "seed must be in [0, 2^32), got -1"),
        ("simclr", ["--seed", str(2**64)], f"[0, 2^32), got {2**64}"),
        ("simclr", ["--steps", str(2**31)], "steps must be below 2^31"),
        ("simclr", ["--optimizer.learning-rate", "inf"], "and finite, got inf"),
        ("simclr", ["--optimizer.weight-decay", "-1"], "weight_decay must be >= 0"),
        ("simclr", ["--optimizer.b1", "1"], "adamw: b1 must be in [0, 1), got 1.0"),
        ("simclr", ["--optimizer.warmup-steps", "-5"], "warmup_steps must be >= 0"),
    ],
)
def test_nothing_is_left_of_a_run_that_cannot_start(
    capsys, tmp_path, method, flags, words
):
    run = tmp_path / "run"
    error = one_line(capsys, "pretrain", method, "--run-dir", run, *TINY, *flags)
    assert words in error
    assert not run.exists()


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("pretrain simclr --temprature 1", "1; did you mean --temperature?"),
        ("pretrain simclr --steps many", "'many'; expected --steps INT"),
        ("pretrain simclr --steps", "missing value for argument '--steps'"),
        ("pretrain simclr --augment.scale 1", "'--augment.scale'. Expected 2 values"),
        (
            "pretrain simclr --optimizer.scaling cubic",
            "'cubic' for argument '--optimizer.scaling'. Expected one of ('none', ",
        ),
        ("pretrain simclr photos/", "options: photos/; see rl-jax pretrain simclr"),
        ("resume", "missing from rl-jax resume: PATH folder of the run"),
        ("resume one two", "unrecognized options: two; see rl-jax resume --help"),
        ("embed run data", "missing from rl-jax embed: -o PATH, --output PATH"),
        ("doctor --paht x", "--paht, x; did you mean --path?"),
    ],
)
def test_flags_that_do_not_parse(capsys, monkeypatch, argv, words, columns):
    monkeypatch.setenv("COLUMNS", columns)
    error = one_line(capsys, *argv.split())
    assert words in error


def test_every_run_is_looked_at_before_one_is_evaluated(capsys, tmp_path, monkeypatch):
    trained = tmp_path / "trained"
    (trained / "checkpoints" / "4").mkdir(parents=True)
    monkeypatch.setattr("rl_jax.run.recipe.read", _only(trained))
    monkeypatch.setattr("rl_jax.run.evaluation.evaluate_run", None)
    error = one_line(capsys, "evaluate", trained, tmp_path / "other")
    assert "other is not a run" in error


def _only(run):
    """Reads the recipe of a folder that has none, and those of others as ever."""
    from rl_jax.run import recipe as recipes

    read = recipes.read
    return lambda path: None if path.parent == run else read(path)


def test_a_stopped_evaluation_says_the_whole_command(capsys, tmp_path, monkeypatch):
    path = tmp_path / "a file.npz"
    rng = np.random.default_rng(0)
    np.savez(path, h=rng.normal(size=(40, 3)), label=np.arange(40) % 2)

    def stopped(*args, poll, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        poll()

    monkeypatch.setattr("rl_jax.run.features.evaluate_features", stopped)
    flags = ["--features", path, "--output", tmp_path / "page.html", "--skip", "cka"]
    error = one_line(capsys, "evaluate", *flags, code=75)
    again = shlex.join(map(str, ["rl-jax", "evaluate", *flags]))
    assert f"continue with: {again}" in error


@pytest.mark.parametrize("command", ["resume", "evaluate", "report", "export"])
def test_not_a_run(capsys, tmp_path, command):
    assert "is not a run" in one_line(capsys, command, tmp_path / "nothing")


def test_an_output_that_cannot_be_written(capsys, tmp_path):
    """Before anything is read or encoded."""
    (tmp_path / "taken.npz").mkdir()
    for output, words in (
        ("features.txt", "must end in .npz"),
        ("taken.npz", "is a folder; give the name of a file in it"),
        ("nowhere/features.npz", "there is no such folder; make it first"),
    ):
        error = one_line(capsys, "embed", tmp_path, "digits", "-o", tmp_path / output)
        assert words in error
    error = one_line(capsys, "evaluate", tmp_path, "--output", tmp_path / "taken.npz")
    assert "--output" in error
    assert "is a folder" in error


@pytest.mark.parametrize("output", ["/proc/nothing", "/proc/nothing/more"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    capsys, tmp_path, monkeypatch, output
):
    monkeypatch.setattr("rl_jax.run.export.load", None)
    error = one_line(capsys, "export", tmp_path, "--output", output)
    assert f"export: --output {output}: /proc cannot be written" in error
    error = one_line(capsys, "embed", tmp_path, "digits", "-o", "/proc/nothing.npz")
    assert "/proc cannot be written" in error


def test_doctor_looks_at_a_folder_that_is_there(capsys, tmp_path):
    error = one_line(capsys, "doctor", "--path", tmp_path / "nothing")
    assert "nothing is no folder" in error


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ("pretrain simclr --data|", "--data"),
        ("pretrain simclr --data=", "--data"),
        ("pretrain simclr --run-dir| ", "--run-dir"),
        ("plan simclr --json|", "--json"),
        ("evaluate runs/a --output|", "--output"),
        ("evaluate --features|", "--features"),
        ("evaluate|", "evaluate"),
        ("embed runs/a|", "runs/a"),
        ("export runs/a --output=", "--output"),
    ],
)
def test_an_empty_value_is_no_path(capsys, tmp_path, monkeypatch, argv, name):
    """That of a variable which is not set: it would mean the current folder."""
    monkeypatch.chdir(tmp_path)
    words, *empty = argv.split("|")
    error = one_line(capsys, *words.split(), *empty)
    assert f"{name}: the value that follows is empty" in error
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_be_read(capsys, tmp_path):
    (tmp_path / "run.json").write_text('{"format": 1, "recipe": {"data"')
    assert "run.json" in one_line(capsys, "resume", tmp_path)


def test_a_run_of_a_newer_version(capsys, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "recipe": {}}))
    assert "format 99" in one_line(capsys, "resume", tmp_path)


def test_a_run_is_never_written_over(capsys, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    error = one_line(capsys, "pretrain", "simclr", "--run-dir", tmp_path)
    assert "holds a run already; continue it with: rl-jax resume" in error
    assert (tmp_path / "run.json").read_text() == "{}"


@pytest.mark.parametrize("left", ["checkpoints", "metrics.jsonl"])
def test_what_is_left_of_a_run_is_not_taken_for_the_new_one(capsys, tmp_path, left):
    (tmp_path / left).mkdir()
    error = one_line(capsys, "pretrain", "simclr", "--run-dir", tmp_path)
    assert f"holds {left} of a run, but no run.json" in error
    assert [path.name for path in tmp_path.iterdir()] == [left]


def test_a_run_in_use(capsys, tmp_path):
    from rl_jax.run.lock import locked

    with locked(tmp_path):
        error = one_line(capsys, "pretrain", "simclr", "--run-dir", tmp_path, *TINY)
    assert "is in use by process" in error


def test_evaluating_what_was_never_trained(capsys, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr("rl_jax.run.pretrain._train", lambda *a, **k: None)
    main(["pretrain", "simclr", "--run-dir", str(run), *TINY])
    assert "has no checkpoint yet" in one_line(capsys, "evaluate", run)
    twice = one_line(capsys, "evaluate", run, tmp_path / "nothing")
    assert "has no checkpoint yet" in twice
    assert "has no checkpoint yet" in one_line(capsys, "export", run)
    assert not (run / "export").exists()


@pytest.mark.parametrize(
    "argv",
    [["--help"], ["pretrain", "--help"], ["pretrain", "moco", "--help"], ["--version"]],
)
def test_help(capsys, argv):
    with contextlib.suppress(SystemExit):
        main(argv)
    text = capsys.readouterr().out
    assert "rl-jax" in text or "rl_jax" in text
    if "moco" in argv:
        for flag in ("--queue-size", "--temperature", "--encoder.widths", "--steps"):
            assert flag in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from rl_jax.cli import main; main(['--help']);"
        "assert not {'jax', 'flax', 'tyro', 'orbax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_full_disk_is_one_line(capsys, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path / "run.json"))

    monkeypatch.setattr("rl_jax.run.recipe.write", full)
    error = one_line(capsys, "pretrain", "simclr", "--run-dir", tmp_path, code=1)
    assert "run.json: No space left on device" in error


def test_a_picture_that_cannot_be_written_ends_no_run(capsys, tmp_path, monkeypatch):
    def full(path, *args):
        path.write_text("a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rl_jax.run.pretrain.save_view_grid", full)
    main(list(map(str, ["pretrain", "simclr", "--run-dir", tmp_path / "run", *TINY])))
    said = capsys.readouterr().out
    assert "warning: views.png not written: No space left on device" in said
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()
    assert not (tmp_path / "run" / "views.png").exists()


IMPORT = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except BaseException:
    pass
"""


def test_ctrl_c_within_an_import_is_not_lost(tmp_path):
    """One that swallows every exception, as some modules do while they start."""
    (tmp_path / "jax.py").write_text(IMPORT)
    # What runs in the background of a shell ignores SIGINT unless it says so.
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from rl_jax.cli import main
main(["resume", "nothing"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "rl-jax: interrupted\n")


@pytest.mark.slow
def test_a_disk_too_full_for_metrics_ends_no_run(capsys, tmp_path, monkeypatch):
    # As if the disk had become full once the run had begun.
    monkeypatch.setattr("rl_jax.run.pretrain._check_new", lambda folder: None)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    flags = ["--log-every", "1", "--run-dir", tmp_path, *TINY]
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, ["pretrain", "simclr", *flags])))
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err.count("\n") == 1
    assert "the run ended, but 2 rows are missing" in said.err
    assert said.out.count("warning: ") == 1
    assert (tmp_path / "checkpoints" / "2").is_dir()
