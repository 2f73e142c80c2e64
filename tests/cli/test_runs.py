"""The commands on a run, as a user would: pretrain, evaluate, embed, export, report."""

import json

import numpy as np
import pytest

from rl_jax import train
from rl_jax.cli import main
from rl_jax.run import evaluation
from rl_jax.run import recipe as recipes

pytestmark = pytest.mark.usefixtures("no_cache")

SMALL = [
    *("--steps", "4", "--batch-size", "16", "--log-every", "2"),
    *("--encoder", "mlp", "--encoder.features", "8", "--encoder.out", "8"),
    *("--augment", "digits", "--projector.hidden", "8", "--projector.out", "4"),
]


def make_data(path, *, labels):
    rng = np.random.default_rng(0)
    label = np.arange(60) % 3
    image = rng.integers(0, 100, (60, 8, 8, 1)) + 50 * label[:, None, None, None]
    arrays = {"image": image.astype(np.uint8)}
    np.savez(path, **(arrays | {"label": label} if labels else arrays))
    return path


@pytest.mark.slow
def test_micro_batches_are_an_option_of_the_method(tmp_path, capsys):
    source = make_data(tmp_path / "small.npz", labels=True)
    run = tmp_path / "run"
    main(
        [
            *("pretrain", "simclr", "--data", str(source), "--run-dir", str(run)),
            *("--micro-batch", "8", "--encoder.no-batch-norm", "--no-evaluate"),
            *SMALL,
        ]
    )
    capsys.readouterr()
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    assert recipe["method"]["arguments"]["micro_batch"] == 8
    assert [row["step"] for row in train.read_rows(run / "metrics.jsonl")] == [2, 4]


@pytest.mark.slow
def test_from_labelled_images_to_the_page(tmp_path, capsys):
    source = make_data(tmp_path / "small.npz", labels=True)
    run = tmp_path / "run"
    main(["pretrain", "byol", "--data", str(source), "--run-dir", str(run), *SMALL])
    printed = capsys.readouterr().out
    last = printed.strip().splitlines()
    assert any(line.startswith("byol h [8]") for line in last)
    assert any(line.startswith("raw pixels [64]") for line in last)
    assert any(line.startswith("untrained encoder h [8]") for line in last)
    (said,) = [line for line in last if line.startswith("after 4 steps: ")]
    assert said.endswith("(of the last batch)")
    dims = json.loads((run / "run.json").read_text())["dims"]
    assert dims == {"h": 8, "z": 4, "target_h": 8, "layer1": 8}

    result = evaluation.read(run)
    assert result["step"] == 4
    assert "expected 0.500 for D=4" in result["verdict"]
    names = [row["representation"] for row in result["table"]]
    assert set(names) == {"h", "z", "target_h", "random", "raw"}
    assert result["labels_per_class"] == ["1", "10", "all"]
    # The classes differ in brightness: a linear map of the pixels tells them apart.
    raw = next(row for row in result["table"] if row["representation"] == "raw")
    assert raw["probe"]["all"]["mean"] > 0.9
    assert result["train_images"] + result["test_images"] == 60
    assert "pretraining has seen the scored fifth" in result["evaluated"]

    page = (run / "report.html").read_text()
    assert "untrained" in page
    assert (run / "views.png").stat().st_size > 0
    rows = train.read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    assert {"loss", "probe_accuracy", "ema_decay", "z_std"} <= set(rows[0])
    assert {"h_rank", "z_rank", "positive_cosine"} <= set(rows[0])

    output = tmp_path / "features.npz"
    main(["embed", str(run), str(source), "-o", str(output)])
    found = np.load(output)
    assert found["h"].shape == (60, 8)
    assert found["z"].shape == (60, 4)
    assert found["layer1"].shape == (60, 8)
    np.testing.assert_array_equal(found["label"], np.arange(60) % 3)

    capsys.readouterr()
    main(["export", str(run)])
    *said, last = capsys.readouterr().out.splitlines()
    assert last == str(run / "export")
    assert said[2].startswith("encode.stablehlo: h [8], largest difference ")
    record = json.loads((run / "export" / "export.json").read_text())
    assert (record["step"], record["network"]) == (4, "online")
    assert [x["name"] for x in record["functions"][0]["inputs"]] == ["image"]
    names = {tensor["name"].split("/")[1] for tensor in record["tensors"]}
    assert names == {"encoder", "projector", "online"}


@pytest.mark.slow
def test_without_labels_the_page_says_why(tmp_path, capsys):
    source = make_data(tmp_path / "plain.npz", labels=False)
    run = tmp_path / "run"
    main(["pretrain", "simclr", "--data", str(source), "--run-dir", str(run), *SMALL])
    printed = capsys.readouterr().out
    assert "the data has no labels" in printed
    assert "RankMe" in printed
    result = evaluation.read(run)
    assert result["table"] == []
    assert result["geometry"]["h"]["dim"] == 8
    assert "no labels" in (run / "report.html").read_text()
    rows = train.read_rows(run / "metrics.jsonl")
    assert "probe_accuracy" not in rows[0]


def test_moco_is_told_how_its_networks_split_the_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("rl_jax.run.pretrain._train", lambda *a, **k: None)
    source = make_data(tmp_path / "small.npz", labels=False)
    flags = [*("--data", str(source)), "--no-evaluate", *SMALL, "--queue-size", "32"]
    for name, more in (("plain", []), ("split", ["--encoder.split", "4"])):
        run = tmp_path / name
        main(["pretrain", "moco", "--run-dir", str(run), *flags, *more])
        recipe, _ = recipes.read(run / "run.json")
        assert recipe.method.arguments["split"] == (4 if more else 1)
