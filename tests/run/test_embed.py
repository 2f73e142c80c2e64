"""Representations of other data than the run's, read as the run read its own."""

import numpy as np
import pytest
from PIL import Image

from rl_jax.cli.recipe import read
from rl_jax.errors import UsageError
from rl_jax.run import embed, pretrain, studies
from rl_jax.run import recipe as recipes
from rl_jax.run.features import read_features
from rl_jax.run.split import split
from rl_jax.run.trained import Run


def photographs(folder, *, broken, parents=False):
    folder.mkdir(parents=parents)
    for k in range(16):
        Image.new("RGB", (12, 10), (k, 0, 0)).save(folder / f"{k:02}.png")
    for k in range(broken):
        (folder / f"{k:02}.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("share", ["0.5", "0.01"])
def test_as_many_bad_files_as_the_run_allowed(tmp_path, monkeypatch, share):
    asked = read(
        "pretrain",
        [
            *("simclr", "--data", str(photographs(tmp_path / "own", broken=0))),
            *("--data.max-bad", share, "--batch-size", "8", "--encoder", "mlp"),
            *("--encoder.features", "4", "--encoder.out", "4"),
        ],
    )
    built = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, built)()
    run = Run(asked.recipe, {}, built, 7, state, state, None)
    monkeypatch.setattr(embed, "load", lambda folder, **_: run)
    others = str(photographs(tmp_path / "others", broken=4))
    output = tmp_path / "found.npz"
    if share == "0.01":
        with pytest.raises(UsageError, match="cannot be decoded"):
            embed.embed(tmp_path, others, output)
        assert not output.exists()
        return
    embed.embed(tmp_path, others, output)
    with np.load(output) as found:
        assert found["h"].shape == (16, 4)
        assert (found["label"] == -1).all()
        assert found["path"].tolist() == [f"{k:02}.png" for k in range(16)]
        np.testing.assert_array_equal(found["index"], np.arange(16))
        assert "split" not in found


def test_a_file_that_is_no_image_has_no_label(tmp_path, monkeypatch):
    """Neither among what is embedded nor in an evaluation: its image is another's."""
    for name in "ab":
        photographs(tmp_path / "data" / name, broken=2, parents=True)
    asked = read(
        "pretrain",
        [
            *("simclr", "--data", str(tmp_path / "data"), "--data.max-bad", "0.5"),
            *("--batch-size", "8", "--encoder", "mlp"),
            *("--encoder.features", "4", "--encoder.out", "4"),
        ],
    )
    source = asked.source._replace(images=None)
    built = recipes.build(asked.recipe, source)
    state = pretrain.initial(asked.recipe, built)()
    run = Run(asked.recipe, {}, built, 7, state, state, None)
    monkeypatch.setattr(embed, "load", lambda folder, **_: run)
    embed.embed(tmp_path, str(tmp_path / "data"), tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as found:
        assert found["label"].tolist() == ([-1] * 2 + [0] * 14) + ([-1] * 2 + [1] * 14)

    fit, scored, _ = split(built.source)
    study = studies.study(run, fit, scored)
    broken = {0, 1, 16, 17}
    for part, labels in ((fit, study.labels.fit), (scored, study.labels.scored)):
        expected = [-1 if i in broken else int(i >= 16) for i in part.index]
        assert labels.tolist() == expected


def test_rows_say_which_part_they_are_of(tmp_path, monkeypatch):
    words = ["simclr", "--encoder", "mlp", "--encoder.features", "4"]
    asked = read("pretrain", [*words, "--encoder.out", "4"])
    built = recipes.build(asked.recipe, asked.source)
    state = pretrain.initial(asked.recipe, built)()
    run = Run(asked.recipe, {}, built, 7, state, state, None)
    monkeypatch.setattr(embed, "load", lambda folder, **_: run)
    embed.embed(tmp_path, "digits", tmp_path / "found.npz")
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["split"], [0] * 1297 + [1] * 500)
        np.testing.assert_array_equal(found["index"], [*range(1297), *range(500)])
        held_out = asked.source.held_out.labels
        np.testing.assert_array_equal(found["label"][1297:], held_out)
    study, scored, _ = read_features(tmp_path / "found.npz")
    assert len(study.labels.fit) == 1297
    np.testing.assert_array_equal(scored, np.arange(500))
