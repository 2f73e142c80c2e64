"""Data that changed between the start of a run and what follows is noticed."""

import json
import shutil

import numpy as np
import pytest

from rl_jax.cli import main

pytestmark = pytest.mark.usefixtures("no_cache")

SMALL = [
    *("--steps", "2", "--batch-size", "8", "--no-evaluate", "--no-probe"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
]


def write(path, n):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
    np.savez(path, image=images, label=np.arange(n) % 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on twelve images, and its data; copied for each test."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "small.npz", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        where = ["--data", str(folder / "small.npz"), "--run-dir", str(folder / "run")]
        main(["pretrain", "simclr", *where, *SMALL])
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """The run and its data, moved to another place."""
    for name in ("small.npz", "run"):
        copy = shutil.copytree if name == "run" else shutil.copy
        copy(trained / name, tmp_path / name)
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text().replace(str(trained), str(tmp_path)))
    return tmp_path / "run"


def resume(run, capsys):
    """Exit code and standard error of `rl-jax resume`."""
    code = 0
    try:
        main(["resume", str(run), "--no-evaluate"])
    except SystemExit as stopped:
        code = stopped.code
    return code, capsys.readouterr().err


@pytest.mark.slow
def test_moved_data_is_the_same(run, capsys):
    assert resume(run, capsys) == (0, "")


def test_resume_refuses_changed_data(run, capsys):
    write(run.parent / "small.npz", 13)
    code, error = resume(run, capsys)
    assert code == 2
    assert error.count("\n") == 1
    assert "data has changed since the run started: 12 images then, 13 now" in error
    assert "put back what it started with, or start a new run" in error


def test_resume_without_its_data(run, capsys):
    (run.parent / "small.npz").unlink()
    code, error = resume(run, capsys)
    assert code == 2
    assert "small.npz' cannot be read: No such file" in error


def test_runs_of_before_fingerprints_go_on(run, capsys):
    content = json.loads((run / "run.json").read_text())
    del content["data"]
    (run / "run.json").write_text(json.dumps(content))
    write(run.parent / "small.npz", 13)
    assert resume(run, capsys) == (0, "")


def test_embed_warns(run, capsys):
    write(run.parent / "small.npz", 13)
    output = run.parent / "features.npz"
    main(["embed", str(run), str(run.parent / "small.npz"), "-o", str(output)])
    printed = capsys.readouterr().out
    assert "warning: the data has changed since the run started: 12 images" in printed
    assert len(np.load(output)["h"]) == 13


def test_other_images_are_embedded_and_the_encoder_exported_without_the_data(
    run, tmp_path, capsys
):
    """Shapes, classes and vocabulary are in run.json; all else still needs the data."""
    write(tmp_path / "other.npz", 9)
    embed = ["embed", str(run), str(tmp_path / "other.npz"), "-o"]
    main([*embed, str(tmp_path / "with.npz")])
    (tmp_path / "small.npz").unlink()
    main([*embed, str(tmp_path / "without.npz")])
    assert "small.npz' cannot be read: No such file" in capsys.readouterr().out
    with (
        np.load(tmp_path / "with.npz") as one,
        np.load(tmp_path / "without.npz") as two,
    ):
        assert one.files == two.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name])
    main(["export", str(run)])
    assert (run / "export" / "encode.stablehlo").exists()
    code, error = resume(run, capsys)
    assert code == 2
    assert "No such file" in error

    record = json.loads((run / "run.json").read_text())
    del record["outline"]
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as stopped:
        main([*embed, str(tmp_path / "again.npz")])
    assert stopped.value.code == 2
    assert "No such file" in capsys.readouterr().err
