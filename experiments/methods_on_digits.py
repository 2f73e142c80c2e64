"""Every method on the same digits: one encoder, one budget, three seeds.

    python -m experiments.methods_on_digits [--only METHOD ...] [--seeds K] [--out DIR]

Trains each method as `rl-jax pretrain METHOD` does, with the arguments below, on the
1,297 training digits without their labels, and measures h on the 500 held-out digits:
logistic probe at 1, 10 and all labels per class, k-NN at 10 and all. Every encoder is
measured untrained too. Rows are written as they come; those that are there already,
with the same settings, are not run again.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax import data, evaluate, files, run, train
from rl_jax.cli import recipe as commands
from rl_jax.cli.cache import enable_compilation_cache
from rl_jax.run import recipe as recipes
from rl_jax.run import weights

RESULTS = pathlib.Path(__file__).parent / "results"
NAME = "methods_on_digits"

ENCODER = ("--encoder", "convnet", "--encoder.widths", "32", "64", "128")
STEPS, BATCH = 300, 128
HALF, PATCHES = ("--mask-ratio", "0.5"), "16 patches, half of them taken out"
COLUMNS = (("probe", 1), ("probe", 10), ("probe", None), ("knn", 10), ("knn", None))
DRAWS = 10


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      group: the lines it stands among.
      method: its factory.
      arguments: flags of `rl-jax pretrain METHOD`, after encoder and budget.
      encoder: flags of the encoder, where it must be another one; () is the preset's.
      note: what the encoder is otherwise.
      steps: the same for all that share the encoder.
    """

    group: str
    method: str
    arguments: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ENCODER
    note: str = ""
    steps: int = STEPS

    def command(self) -> list[str]:
        """What follows `rl-jax pretrain`."""
        budget = ("--steps", str(self.steps), "--batch-size", str(BATCH))
        return [self.method, *self.encoder, *budget, *self.arguments, "--no-probe"]

    def otherwise(self) -> str:
        """The note with the steps where they are others; "" where all is the same."""
        steps = f"{self.steps:,} steps" if self.steps != STEPS else ""
        return ", ".join(part for part in (self.note, steps) if part)

    def untrained(self) -> str:
        """What its encoder is called before training."""
        same = self.encoder == ROWS[0].encoder
        return "untrained" if same else f"untrained {self.method}"


ROWS = (
    Row("labels", "supervised"),
    Row("labels", "sup_con"),
    Row("labels", "vib"),
    Row("contrastive", "simclr"),
    Row("contrastive", "moco"),
    Row("contrastive", "moco_v3"),
    Row("contrastive", "nnclr"),
    Row("contrastive", "memory_bank"),
    Row("contrastive", "info_nce"),
    Row("contrastive", "contrastive_vib"),
    Row("without negatives", "byol"),
    Row("without negatives", "simsiam"),
    Row("without negatives", "barlow_twins"),
    Row("without negatives", "vicreg"),
    Row("without negatives", "lejepa"),
    Row("clustering", "dino"),
    Row("clustering", "swav"),
    Row("clustering", "ibot", (), (), "vision transformer of 16 patches", 1000),
    Row("clustering", "dino_v2", (), (), "the same", 1000),
    Row("captions", "clip"),
    Row("captions", "siglip"),
    Row("reconstruction", "linear_autoencoder", (), (), "linear, of 16 codes", 1000),
    Row("reconstruction", "autoencoder"),
    Row("reconstruction", "denoising_autoencoder"),
    Row("reconstruction", "sparse_autoencoder", (), (), "linear, of 256 codes", 1000),
    Row("reconstruction", "vae"),
    Row("reconstruction", "mae", HALF, (), f"vision transformer of {PATCHES}", 2000),
    Row("reconstruction", "simmim", (), (), "the same, half of them hidden", 2000),
    Row("prediction", "i_jepa", (), (), "vision transformer of 36 patches", 1000),
    Row("pretext", "rotation"),
    Row("pretext", "jigsaw", (), (), "perceptron of a ninth of 12×12 pixels", 1000),
    Row("pretext", "context", (), (), "perceptron of patches of 24×24 pixels", 1000),
    Row("sequences", "cpc", ("--data", "strokes"), (), "perceptron of rows of pixels"),
)
"""Every method of digits; `bert` and `simcse` need text, `ivae` segments."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs what is missing, then prints the table and writes it beside the results."""
    parser = argparse.ArgumentParser(
        prog=f"experiments.{NAME}", description=__doc__.split("\n")[0]
    )
    names = [row.method for row in ROWS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=3, metavar="K")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, metavar="DIR")
    chosen = parser.parse_args(argv)
    if chosen.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {chosen.seeds}")
    enable_compilation_cache()
    path = chosen.out / f"{NAME}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for row in ROWS:
        if chosen.only and row.method not in chosen.only:
            continue
        for seed in range(chosen.seeds):
            asked = _ask(row, seed)
            settings = _settings(asked)
            key = f"{row.method} {seed}"
            if found.get(key, {}).get("settings") != settings:
                found[key] = _train(asked) | {"settings": settings}
                _write(path, json.dumps(found, indent=1) + "\n")
                print(_line(key, found[key]), file=sys.stderr)
            # One untrained network for all that share the encoder: of the first row.
            if row.untrained() == "untrained":
                asked = _ask(ROWS[0], seed)
                settings = _settings(asked)
            key = f"{row.untrained()} {seed}"
            if found.get(key, {}).get("settings") != settings:
                found[key] = _untrained(asked) | {"settings": settings}
                _write(path, json.dumps(found, indent=1) + "\n")
    # They cost a second, and have no settings by which to tell old from new.
    found |= _baselines()
    _write(path, json.dumps(found, indent=1) + "\n")
    text = page(found, chosen.seeds)
    _write(path.with_suffix(".md"), text)
    print(text)


def _ask(row: Row, seed: int) -> commands.Asked:
    """What the command line makes of a row."""
    asked = commands.read("pretrain", [*row.command(), "--seed", str(seed)])
    assert asked is not None
    return asked


def _settings(asked: commands.Asked) -> dict[str, Any]:
    """The recipe in full, as JSON: a changed default means another run.

    And which network is measured, where it is not the one that is trained.
    """
    settings = json.loads(json.dumps(recipes.as_json(asked.recipe)))
    network = recipes.build(asked.recipe, asked.source).method.network
    return settings if network == "online" else settings | {"network": network}


def _train(asked: commands.Asked) -> dict[str, Any]:
    """One method and seed: trained, encoded, measured."""
    start = time.perf_counter()
    recipe, source = asked.recipe, asked.source
    parts = recipes.build(recipe, source)
    logged: list[dict[str, float]] = []
    times: list[float] = []

    def log(values):
        logged.append(values)
        times.append(time.perf_counter())

    state = train.fit(
        parts.method,
        source,
        augment=parts.augment,
        optimizer=parts.optimizer,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        log_every=max(recipe.steps // 12, 1),
        on_log=log,
    )
    trained = time.perf_counter()
    steps = logged[-1]["step"] - logged[0]["step"]
    h = [_h(parts, state, side) for side in _sides(source)]
    out = _measure(source, *h)
    out["seconds_per_step"] = (times[-1] - times[0]) / steps
    out["seconds_trained"] = trained - start
    out["cores"] = os.cpu_count()
    out["dim"] = h[0].shape[1]
    out["last"] = {name: logged[-1][name] for name in ("loss", "accuracy")
                   if name in logged[-1]}  # fmt: skip
    return out


def _sides(source: data.Source) -> tuple[data.Source, data.Source]:
    assert source.held_out is not None
    return source, source.held_out


def _h(parts: recipes.Parts, state, side: data.Source) -> np.ndarray:
    return run.encode(parts.method, parts.augment, state, side)["h"]


def _measure(source: data.Source, fit_x, test_x) -> dict[str, Any]:
    """Accuracies on held-out digits by kind and labels per class: means over draws."""
    fit_y, test_y = (side.labels for side in _sides(source))
    assert fit_y is not None
    assert test_y is not None
    out: dict[str, Any] = {}
    for kind, share in COLUMNS:
        if kind == "probe":
            accuracy = evaluate.linear_probe(
                fit_x, fit_y, test_x, test_y, labels_per_class=share, draws=DRAWS
            ).mean
        else:
            draws = [np.arange(len(fit_y))]
            if share is not None:
                draws = evaluate.label_draws(fit_y, share, DRAWS, 0)
            accuracy = np.mean([
                evaluate.knn_accuracy(fit_x[d], fit_y[d], test_x, test_y) for d in draws
            ])  # fmt: skip
        out[_column(kind, share)] = float(accuracy)
    return out


def _column(kind: str, share: int | None) -> str:
    return f"{kind} {share or 'all'}"


def _untrained(asked: commands.Asked) -> dict[str, Any]:
    """The encoder of a method at its first state, measured."""
    recipe, source = asked.recipe, asked.source
    parts = recipes.build(recipe, source)
    state = weights.initial(recipe, parts)()
    h = [_h(parts, state, side) for side in _sides(source)]
    return _measure(source, *h) | {"dim": h[0].shape[1]}


def _baselines() -> dict[str, Any]:
    """`{key: result}` of what needs no training."""
    source = data.digits()
    sides = _sides(source)
    raw = [evaluate.raw_pixels(side.images) for side in sides]

    def pca(width=32):
        centre = raw[0].mean(0)
        axes = np.linalg.svd(raw[0] - centre, full_matrices=False)[2][:width].T
        return _measure(source, *((x - centre) @ axes for x in raw)) | {"dim": width}

    return {
        "raw pixels 0": _measure(source, *raw) | {"dim": raw[0].shape[1]},
        "PCA 0": pca(),
    }


def page(found: dict[str, Any], seeds: int) -> str:
    """The table in Markdown, and what its columns mean."""
    head = ["h of [width]", "learns from", *(_title(*c) for c in COLUMNS), "ms/step"]
    lines = [("raw pixels", ""), ("PCA", "")]
    lines += [(name, "") for name in dict.fromkeys(row.untrained() for row in ROWS)]
    lines += [(row.method, row.group) for row in ROWS]
    noted = [row for row in ROWS if row.otherwise()]
    mark = {row.method: f" ({k})" for k, row in enumerate(noted, 1)}
    mark |= {
        row.untrained(): mark[row.method]
        for row in noted
        if row.untrained() != "untrained"
    }
    rows = []
    for name, group in lines:
        runs = [found[f"{name} {k}"] for k in range(seeds) if f"{name} {k}" in found]
        if not runs:
            continue
        cells = [_cell([r[_column(*c)] for r in runs]) for c in COLUMNS]
        steps = [1e3 * r["seconds_per_step"] for r in runs if "seconds_per_step" in r]
        shown = f"`{name}`" if steps else _baseline(name)
        label = f"{shown} [{runs[0]['dim']}]"
        last = f"{np.median(steps):.0f}" if steps else ""
        rows.append([label + mark.get(name, ""), group, *cells, last])
    timed = [r for r in found.values() if "seconds_trained" in r]
    seconds = [r["seconds_trained"] for r in timed]
    notes = "; ".join(f"({k}) {row.otherwise()}" for k, row in enumerate(noted, 1))
    text = (
        f"{STEPS} steps of {BATCH} images, a convolutional network of "
        f"{'-'.join(ENCODER[-3:])} channels, except {notes}. Accuracy on "
        f"500 held-out digits: logistic probe and k-NN with 1, 10 and all labels per "
        f"class, each the mean over {DRAWS} draws of labels; ± is the standard "
        f"deviation over {seeds} seeds of training. Untrained is the encoder of that "
        f"number at its first state. Training took "
        f"{np.median(seconds):.0f} s (median) and at most {max(seconds):.0f} s a run "
        f"with compilation, {sum(seconds) / 60:.0f} minutes in all, on "
        f"{timed[0]['cores']} CPU cores."
    )
    return f"{_markdown(head, rows)}\n\n{text}\n"


def _baseline(name: str) -> str:
    """What is shown of it: which encoder is untrained is told by the mark."""
    return "untrained" if name.startswith("untrained") else name


def _title(kind: str, share: int | None) -> str:
    return {"probe": "probe", "knn": "k-NN"}[kind] + f" {share or 'all'}"


def _cell(values: Sequence[float]) -> str:
    spread = f" ±{np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    width = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * w if k < 2 else "-" * (w - 1) + ":" for k, w in enumerate(width)]

    def line(row):
        padded = [
            cell.ljust(w) if k < 2 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, width, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(line(row) for row in (head, rule, *rows))


def _line(key: str, result: dict[str, Any]) -> str:
    return (
        f"{key}: probe 10 {result['probe 10']:.3f}, "
        f"{result['seconds_trained']:.1f} s, last {result['last']}"
    )


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)


if __name__ == "__main__":
    main()
