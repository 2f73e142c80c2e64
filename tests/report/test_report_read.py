"""A run's folder is read without trusting it."""

import json
import pathlib

import numpy as np
import pytest

from rl_jax import files
from rl_jax.errors import UsageError
from rl_jax.report import words
from rl_jax.report.read import names, read


def test_everything_is_read(runs):
    run = read(runs(), name="a")
    assert run.name == "a"
    assert run.recipe["steps"] == 100
    assert [row["step"] for row in run.rows] == list(range(10, 101, 10))
    assert run.evaluation.table[0].probe["10"] == (0.853, 0.01)
    assert run.evaluation.table[0].probe["all"].std is None
    assert run.figures.map.shape == (20, 2)
    assert run.views.startswith(b"\x89PNG")


def test_what_is_absent_is_none(runs):
    run = read(runs(metrics=None, evaluation=None, figures=None, views=None), name="a")
    assert run.rows == []
    assert (run.evaluation, run.figures, run.views) == (None, None, None)


def test_networks_are_parts_in_both_formats(runs):
    """The first format had them among the parts, the page has them there still."""
    folder = runs()
    run = read(folder, name="a")
    assert words.factory(run, "encoder") == "convnet"
    content = json.loads((folder / "run.json").read_text())
    content["recipe"] |= content["recipe"].pop("networks")
    (folder / "run.json").write_text(json.dumps(content | {"format": 1}))
    assert read(folder, name="a").recipe == run.recipe


def test_a_folder_without_run_json_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a run: no run.json"):
        read(tmp_path, name="a")


def test_rows_survive_torn_lines_and_odd_values(runs):
    folder = runs(metrics=None)
    lines = [
        '{"step": 20, "loss": 1.0, "text": "x", "list": [1]}',
        '{"step": 10, "loss": NaN, "z_std": 1e400}',
        '{"step": 20, "loss": 2.0}',
        "[" * 100_000,
        '{"loss": 1}',
        '{"step": "30"}',
        "[1, 2]",
        '{"step": 40, "lo',
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    assert read(folder, name="a").rows == [
        {"step": 10, "loss": None, "z_std": None},
        {"step": 20, "loss": 2.0},
    ]


@pytest.mark.parametrize("file", ["run.json", "evaluation.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"recipe":' + "[" * 200_000, "is not JSON: nested too deeply"),
        ("[]", "holds no JSON object"),
        ('{"format": 3}', "use a newer rl_jax"),
        ('{"format": "x"}', "use a newer rl_jax"),
        ('{"recipe": 3}', "holds no recipe|cannot be read"),
    ],
)
def test_broken_json_is_refused(runs, file, content, message):
    folder = runs()
    (folder / file).write_text(content)
    with pytest.raises(UsageError, match=message):
        read(folder, name="a")


@pytest.mark.parametrize(
    "change",
    [
        {"table": [{"representation": "h"}]},
        {"table": 3},
        {"geometry": []},
        {"labels_per_class": None},
        {"train_images": 10**400},
        {"step": "x"},
        {"classes": 7},
    ],
)
def test_a_broken_evaluation_names_the_command(runs, change):
    folder = runs(evaluation=runs.evaluation(**change))
    with pytest.raises(UsageError, match="write it again with: rl-jax evaluate"):
        read(folder, name="a")


@pytest.mark.parametrize(
    "change",
    [
        {"map": np.zeros((20, 3), np.float32)},
        {"map": np.full((20, 2), "x")},
        {"map": np.full((20, 2), None)},
        {"map_labels": np.zeros(3, np.int32)},
        {"query_images": np.zeros((2, 8, 8, 1))},
        {"query_labels": np.zeros(2)},
        {"neighbour_images": np.zeros((2, 3, 9, 8, 1), np.uint8)},
        {"neighbour_labels": np.zeros((2, 4), np.int32)},
    ],
)
def test_figures_that_do_not_fit_are_refused(runs, change):
    folder = runs(figures=runs.figures(**change))
    with pytest.raises(UsageError, match="figures.npz cannot be read"):
        read(folder, name="a")


def test_broken_and_oversized_files_are_refused(runs, monkeypatch):
    folder = runs()
    content = (folder / "figures.npz").read_bytes()
    for broken in (b"", content[:200], content.replace(b"NUMPY", b"NUMBY")):
        (folder / "figures.npz").write_bytes(broken)
        with pytest.raises(UsageError, match="figures.npz cannot be read"):
            read(folder, name="a")
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match="it has 0 MB, at most 0 MB are read"):
        read(folder, name="a")


def test_a_compressed_bomb_is_not_unpacked(runs, monkeypatch):
    folder = runs()
    bomb = runs.figures(map=np.zeros((100_000, 2), np.float32))
    np.savez_compressed(folder / "figures.npz", **bomb)
    assert (folder / "figures.npz").stat().st_size < 50_000
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    with pytest.raises(UsageError, match="MB of arrays"):
        read(folder, name="a")


def test_points_that_are_not_finite_are_left_out(runs):
    places = np.zeros((20, 2), np.float32)
    places[3, 0], places[5, 1] = np.nan, np.inf
    run = read(runs(figures=runs.figures(map=places)), name="a")
    assert run.figures.map.shape == (18, 2)
    assert run.figures.map_labels.shape == (18,)


@pytest.mark.parametrize("views", [b"", b"<svg onload=alert(1)>", b"\x89PNG"])
def test_a_picture_that_is_no_png_is_left_out(runs, views):
    assert read(runs(views=views), name="a").views is None


def test_evaluation_numbers_that_are_not_finite_become_none(runs):
    content = runs.evaluation()
    content["table"][0]["probe"]["10"]["mean"] = float("nan")
    folder = runs(evaluation=None)
    (folder / "evaluation.json").write_text(json.dumps(content))
    assert read(folder, name="a").evaluation.table[0].probe["10"].mean is None


def test_names_tell_runs_apart():
    paths = [pathlib.Path(p) for p in ("/x/a/run", "/x/b/run", "/x/c")]
    assert names(paths) == ["a/run", "b/run", "x/c"]
    assert names(paths[1:]) == ["run", "c"]
    assert names([paths[0], paths[0]]) == ["run (1)", "run (2)"]
