"""What a command chooses without being asked for, it says; and it replaces nothing."""

import json

import numpy as np
import pytest
from PIL import Image

from rl_jax import data
from rl_jax.cli import main, recipe
from rl_jax.errors import UsageError
from rl_jax.run import embed, export

pytestmark = pytest.mark.usefixtures("no_cache")

VIT = [
    *("--steps", "2", "--batch-size", "8", "--no-evaluate", "--encoder", "vit"),
    *("--encoder.depth", "1", "--encoder.width", "16", "--encoder.heads", "2"),
    *("--projector.hidden", "8", "--projector.out", "4"),
]


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(16):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def remarks(data, *more):
    found = recipe.read("pretrain", ["simclr", "--data", str(data), *VIT, *more])
    assert found is not None
    return found.recipe.augment.arguments["size"], found.remarks


def test_a_side_that_patches_do_not_divide_is_said(photos):
    assert remarks(photos, "--encoder.patch", "4") == (16, [])
    size, lines = remarks(photos, "--encoder.patch", "5")
    assert size == 15
    assert lines == [
        "--augment.size is 15, not 16, which patches of 5 pixels do not divide; give "
        "both flags to have others"
    ]


@pytest.mark.parametrize("given", [["--augment.size=15"], ["--augment.size", "15"]])
def test_a_side_that_was_asked_for_is_not(given, photos):
    assert remarks(photos, "--encoder.patch", "5", *given) == (15, [])


def test_they_are_said_first_and_stay_in_the_record(photos, tmp_path, capsys):
    (photos / "old.tar").touch()
    run = tmp_path / "run"
    words = ["--data", str(photos), "--run-dir", str(run), *VIT, "--encoder.patch", "5"]
    main(["pretrain", "simclr", *words])
    first, second, third = capsys.readouterr().out.splitlines()[:3]
    assert first.startswith("photos is read as a folder of images; left out: 1 tar")
    assert second.startswith("--augment.size is 15, not 16, which patches of 5")
    assert third.startswith("simclr on photos: 16 images 16x16x3")
    main(["resume", str(run), "--steps", "3", "--no-evaluate"])
    assert json.loads((run / "run.json").read_text())["remarks"] == [first, second]


def test_they_are_said_before_images_are_read(photos, tmp_path, capsys, monkeypatch):
    """Which may take minutes."""

    def read(*_, **__):
        said.append(capsys.readouterr().out)
        raise UsageError("enough")

    said = []
    monkeypatch.setattr(data, "resident", read)
    words = ["--run-dir", tmp_path / "run", *VIT, "--encoder.patch", "5"]
    assert "enough" in refused(capsys, "pretrain", "simclr", "--data", photos, *words)
    (line,) = said
    assert line.startswith("--augment.size is 15, not 16, which patches of 5")
    assert not (tmp_path / "run").exists()


def refused(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_features_that_are_there_are_not_replaced(tmp_path, capsys, monkeypatch):
    """Before anything is read; of a run and of a file with weights."""
    output, weights = tmp_path / "features.npz", tmp_path / "dino.safetensors"
    output.write_text("an hour's work")
    weights.touch()
    monkeypatch.setattr(embed, "load", None)
    monkeypatch.setattr("rl_jax.run.torch_file.read", None)
    for run in (tmp_path, weights):
        assert refused(capsys, "embed", run, "digits", "-o", output) == (
            f"rl-jax: embed: {output} is there already; give another name, or replace "
            "it with --overwrite\n"
        )
    assert output.read_text() == "an hour's work"
    with pytest.raises(TypeError, match="not callable"):
        main(["embed", str(tmp_path), "digits", "-o", str(output), "--overwrite"])


def test_an_export_in_another_folder_is_not_replaced(tmp_path, capsys, monkeypatch):
    """In the run's own it is: that is where it has been before."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").touch()
    monkeypatch.setattr(export, "load", None)
    words = ["export", str(tmp_path), "--output", str(output)]
    for passed in (words, [*words, "--overwrite"], words[:2]):
        with pytest.raises(TypeError, match="not callable"):
            main(passed)
        for folder in (output, tmp_path / "export"):
            folder.mkdir(exist_ok=True)
            (folder / "export.json").touch()
    assert refused(capsys, *words) == (
        f"rl-jax: export: {output} has export.json already; name another folder, or "
        "replace them with --overwrite\n"
    )
