"""Methods of texts on files of the user's own."""

import json

import numpy as np
import pytest

from rl_jax.cli import main

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "rain",
    "fell",
    "over",
    "every",
    "green",
    "hill",
    "and",
    "town",
]


def written(folder):
    """Two classes of files, each of some hundred words."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            words = " ".join(rng.choice(WORDS, 150))
            (folder / name / f"{i}.txt").write_text(words)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simcse", "bert"])
def test_a_folder_and_a_file(method, tmp_path):
    folder = written(tmp_path / "texts")
    for i, data in enumerate((folder, folder / "one" / "0.txt")):
        run = tmp_path / f"run{i}"
        options = ["--steps", "2", "--batch-size", "8", "--no-evaluate"]
        options += ["--data.length", "8", "--data.vocab-size", "300"]
        options += ["--encoder.width", "16", "--encoder.dropout", "0.1"]
        main(["pretrain", method, "--data", str(data), "--run-dir", str(run), *options])
        recipe = json.loads((run / "run.json").read_text())["recipe"]
        assert recipe["data"]["factory"] == "text"
        assert recipe["networks"]["encoder"]["arguments"]["dropout"] == 0.1
        assert (run / "checkpoints" / "2").is_dir()
