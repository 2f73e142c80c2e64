"""A run's folder with every file, made by hand: nothing is trained."""

import io
import json
import pathlib
from typing import Any

import evaluation_sections
import numpy as np
import pytest
from pages import page


def png(height: int, width: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    picture = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    Image.fromarray(picture).save(out, format="png")
    return out.getvalue()


def recipe(**changes) -> dict[str, Any]:
    def spec(factory, **arguments):
        return {"factory": factory, "arguments": arguments}

    return {
        "data": spec("digits"),
        "augment": spec("digits", max_shift=1),
        "networks": {
            "encoder": spec("convnet", widths=[8, 16]),
            "projector": spec("projection_head", hidden=32, out=16),
        },
        "method": spec("simclr", temperature=0.3),
        "optimizer": spec("adamw", learning_rate=0.003, warmup_steps=40),
        "steps": 100,
        "batch_size": 64,
        "seed": 0,
        "probe": True,
        "log_every": 10,
        "checkpoint_every": 50,
        **changes,
    }


def rows(**changes) -> list[dict[str, Any]]:
    out = []
    for step in range(10, 101, 10):
        row = {
            "step": step,
            "loss": 5 - 0.02 * step,
            "grad_norm": 1.5,
            "learning_rate": 0.003,
            "nonfinite": 0.0,
            "z_std": 0.9,
            "uniformity": -2.0,
            "alignment": 0.4,
            "z_rank": 7.5,
            "h_rank": 40.0,
            "softmax_entropy": 0.9,
            "max_softmax": 0.02,
            "positive_cosine": 0.8,
            "negative_cosine": 0.01,
            "probe_loss": 1.0,
            "probe_accuracy": step / 200,
            "queue_valid": 12.0,
            "time": 1.7e9 + step,
            "images_per_second": 5000.0,
            "data_wait": 0.01,
        }
        out.append({**row, **changes})
    return out


def evaluation(**changes) -> dict[str, Any]:
    def scores(one, ten, every):
        return {
            "1": {"mean": one, "std": 0.03, "draws": 10},
            "10": {"mean": ten, "std": 0.01, "draws": 10},
            "all": {"mean": every, "std": None, "draws": 1},
        }

    def row(name, title, probe, knn):
        network = "target" if name == "target_h" else "online"
        return {
            "representation": name,
            "title": title,
            "network": network,
            "dim": 16,
            "probe": scores(*probe),
            "knn": scores(*knn),
        }

    return {
        "format": 1,
        "step": 100,
        "evaluated": "the online network of step 100 on clean images",
        "train_images": 1297,
        "test_images": 500,
        "classes": [str(c) for c in range(10)],
        "labels_per_class": ["1", "10", "all"],
        "table": [
            row("h", "simclr h", (0.50, 0.853, 0.96), (0.49, 0.84, 0.95)),
            row("z", "simclr z", (0.48, 0.80, 0.93), (0.55, 0.81, 0.92)),
            row("random", "untrained encoder h", (0.3, 0.7, 0.9), (0.3, 0.7, 0.9)),
            row("raw", "raw pixels", (0.44, 0.79, 0.92), (0.45, 0.8, 0.97)),
        ],
        "geometry": {"h": {"rank_me": 41.25, "std": 0.7, "dim": 256}},
        "verdict": "healthy: embeddings are spread",
        "reason": None,
        **changes,
    }


def whole(*, classes: int = 10, shift: float = 0.0, **sections) -> dict[str, Any]:
    """An evaluation with all sections; a section given as None is left out."""
    found = evaluation_sections.sections(classes=classes, shift=shift) | sections
    return evaluation(
        format=2,
        classes=[str(c) for c in range(classes)],
        checkpoint={"step": 100, "network": "online", "headline": "h", "data": "clean"},
        sections={k: v for k, v in found.items() if v is not None},
    )


def figures(**changes) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int32) % 10

    def images(*shape):
        return rng.integers(0, 256, shape).astype(np.uint8)

    return {
        "map": rng.normal(size=(20, 2)).astype(np.float32),
        "map_labels": labels,
        "query_images": images(2, 8, 8, 1),
        "query_labels": np.array([3, 4], np.int32),
        "neighbour_images": images(2, 3, 8, 8, 1),
        "neighbour_labels": np.array([[3, 3, 8], [4, 1, 1]], np.int32),
        **changes,
    }


class Runs:
    """Writes run folders under one directory; None leaves a file out."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        self.recipe, self.rows = recipe, rows
        self.evaluation, self.figures, self.png = evaluation, figures, png
        self.whole = whole

    def __call__(self, name: str = "run", **files) -> pathlib.Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        run = {
            "format": 1,
            "recipe": recipe(),
            "command": "rl-jax pretrain simclr --steps 100",
            "environment": {"rl_jax": "0.1.0", "devices": "8 x cpu (cpu)"},
            "dims": {"h": 256, "z": 16},
            **files.get("run", {}),
        }
        (folder / "run.json").write_text(json.dumps(run))
        for file, default in (("metrics", rows()), ("evaluation", evaluation())):
            content = files.get(file, default)
            if content is not None and file == "metrics":
                lines = [json.dumps(row) + "\n" for row in content]
                (folder / "metrics.jsonl").write_text("".join(lines))
            elif content is not None:
                (folder / "evaluation.json").write_text(json.dumps(content))
        if (arrays := files.get("figures", figures())) is not None:
            np.savez(folder / "figures.npz", **arrays)
        if (views := files.get("views", png(20, 12))) is not None:
            (folder / "views.png").write_bytes(views)
        return folder

    def features(self, name: str = "features", **changes) -> pathlib.Path:
        """The folder of an evaluation of features: no run, no pictures."""
        none = np.zeros((0, 0, 0, 0, 0), np.uint8)
        folder = self(
            name,
            metrics=None,
            views=None,
            figures=figures(
                query_images=np.zeros((0, 0, 0, 0), np.uint8),
                query_labels=np.zeros(0, np.int32),
                neighbour_images=none,
                neighbour_labels=np.zeros((0, 0), np.int32),
            ),
            evaluation=whole(corruptions=None, attacks=None, layers=None, drift=None)
            | {"features": {"file": "/data/F.npz", "arrays": {"h": [1797, 64]}}}
            | changes,
        )
        (folder / "run.json").unlink()
        return folder


@pytest.fixture
def runs(tmp_path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory) -> str:
    """The page of one run with all sections."""
    runs = Runs(tmp_path_factory.mktemp("whole"))
    return page(runs(evaluation=runs.whole()))
