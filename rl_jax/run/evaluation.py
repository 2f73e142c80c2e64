"""How good a run's representations are, beside the baselines that keep it honest.

Writes `evaluation.json` (the table) and `figures.npz` (what the page draws).
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rl_jax import data, evaluate
from rl_jax.run.encode import encode
from rl_jax.run.load import Run, load
from rl_jax.run.recipe import num_classes
from rl_jax.run.split import Part, columns, split
from rl_jax.run.texts import said, with_texts

FORMAT = 1
DRAWS = 10
MAX_POINTS = 1000  # of the map and the neighbours


def evaluate_run(
    folder: pathlib.Path,
    *,
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run on clean images.

    Probes and k-NN learn from the pretraining part and are scored on the held-out part;
    data without one is split once, 80/20, stratified, by a fixed rule (pretraining then
    has seen the scored images, without their labels, and the record says so). What the
    labels do not allow is left out, with a line in `notes` that says why. The raw
    pixels and the untrained encoder are measured in the same way with the same labels.

    Args:
      folder: of the run.
      say: called with a line for each thing measured.
      poll: called between them; may raise to stop.

    Returns:
      What was written to `evaluation.json`.
    """
    run = load(folder, say=say)
    source = run.parts.source
    fit_part, test_part, note = split(source)
    say(f"evaluating the checkpoint of step {run.step}")
    everything = _representations(run, fit_part, test_part)
    poll()
    title = run.recipe.method.factory
    result: dict[str, Any] = {
        "format": FORMAT,
        "step": run.step,
        "evaluated": (
            f"{title}, checkpoint of step {run.step} of {run.recipe.steps}, evaluation "
            f"mode, clean images; h and z of the online network; {note}"
        ),
        "train_images": len(fit_part.index),
        "test_images": len(test_part.index),
        "classes": [],
        "labels_per_class": [],
        "table": [],
        "notes": [],
        "reason": None,
        "problems": source.problems(),
    }
    trained = {name: v for name, v in everything.items() if name in ("h", "z")}
    result["geometry"] = {
        name: {
            "rank_me": float(evaluate.rank_me(test)),
            "std": float(evaluate.normalized_std(test)),
            "dim": int(test.shape[1]),
        }
        for name, (_, test) in trained.items()
    }
    result["verdict"] = _verdict(trained.get("z", trained["h"])[1])
    result["held_out"] = held_out_metrics(run, test_part)
    if "text" in run.recipe.networks:
        result["texts"] = with_texts(run, test_part, everything["z"][1])
        result["said"] = said(result["texts"])
        poll()
    shares, result["notes"], reason = columns(
        fit_part.labels, test_part.labels, source.class_names
    )
    if run.changed:
        changed = f"the data has changed since the run started: {run.changed}"
        result["notes"].append(changed)
    if shares:
        result["classes"] = _class_names(source)
        result["labels_per_class"] = [_share(s) for s in shares]
        for name, (train_x, test_x) in everything.items():
            row = {
                "representation": name,
                "title": _title(name, title),
                "network": "target" if name.startswith("target") else "online",
                "dim": int(train_x.shape[1]),
            }
            measured = _measure(
                train_x, fit_part.labels, test_x, test_part.labels, shares
            )
            result["table"].append(row | measured)
            poll()
    else:
        result["reason"] = (
            f"{reason}, so there is nothing to probe: RankMe, the collapse meter, "
            "alignment, uniformity and the neighbours below say how the representation "
            "looks"
        )
    if not source.image_shape:
        (folder / "figures.npz").unlink(missing_ok=True)
    elif len(test_part.index) < 4:
        (folder / "figures.npz").unlink(missing_ok=True)
        result["notes"].append("no map and no neighbours: they need 4 scored images")
    else:
        _write_figures(folder / "figures.npz", everything["h"][1], test_part)
    draft = folder / "evaluation.tmp"
    draft.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(draft, folder / "evaluation.json")
    return result


def held_out_metrics(run: Run, part: Part, *, most: int = 16) -> dict[str, float]:
    """The method's own loss and metrics on scored examples, as in a training step.

    The mean over at most `most` batches of the size of training, the state unchanged;
    {} where there is not one whole batch.
    """
    source, size = _rows(part), run.recipe.batch_size
    batches = min(source.size // size, most)
    if not batches:
        return {}
    method, augment = run.parts.method, run.parts.augment

    @jax.jit
    def measure(params, state, batch, rng):
        rng_views, rng_loss = jax.random.split(rng)
        batch = augment.views(rng_views, batch)
        loss, aux = method.loss(params, state, batch, rng_loss)
        return aux.metrics | {"loss": loss}

    rows = []
    for i in range(batches):
        batch = data.examples(
            source, np.arange(i * size, (i + 1) * size, dtype=np.int32)
        )
        rng = jax.random.fold_in(jax.random.key(run.recipe.seed), i)
        rows.append(
            jax.device_get(measure(run.state.params, run.state.state, batch, rng))
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {name: value for name, value in means.items() if np.isfinite(value)}


def _share(per_class: int | None) -> str:
    return "all" if per_class is None else str(per_class)


def _verdict(z: np.ndarray) -> str:
    if len(z) < 2:
        return "not known: one scored image shows no collapse"
    return evaluate.collapse_verdict(z)


def _title(name: str, method: str) -> str:
    known = {"raw": "raw pixels", "random": "untrained encoder h"}
    return known.get(name, f"{method} {name}")


def _class_names(source: data.Source) -> list[str]:
    return list(source.class_names) or [str(c) for c in range(num_classes(source))]


def _representations(run: Run, fit_part: Part, test_part: Part) -> dict[str, tuple]:
    """`{name: (of the fit part, of the test part)}`, trained first, then baselines."""
    sides = []
    for part in (fit_part, test_part):
        source = _rows(part)
        method, augment = run.parts.method, run.parts.augment
        found = encode(method, augment, run.state, source)
        found["random"] = encode(method, augment, run.untrained, source)["h"]
        raw = _raw(source)
        if raw is not None:
            found["raw"] = raw
        sides.append(found)
    # A text that goes with an image is no representation of it.
    names = [k for k, value in sides[0].items() if value.ndim == 2 and k != "text"]
    return {name: (sides[0][name], sides[1][name]) for name in names}


def _rows(part: Part) -> data.Source:
    """The chosen rows of a source, as a source."""
    if len(part.index) == part.source.size:
        return part.source
    return data.rows(part.source, part.index)._replace(labels=part.labels)


def _raw(source: data.Source) -> np.ndarray | None:
    """What a method is given, as features; None for text."""
    if source.image_shape:
        return evaluate.raw_pixels(_small(source))
    for name in ("image", "sequence"):
        if name in source.fields:
            return source.fields[name].reshape(source.size, -1)
    return None


def _small(source: data.Source, *, most: int = 32) -> np.ndarray:
    """The images, averaged down to at most `most` pixels a side."""
    out = []
    for start in range(0, source.size, 256):
        block = data.examples(source, np.arange(start, min(start + 256, source.size)))[
            "image"
        ]
        k = -(-max(block.shape[1:3]) // most)
        n, height, width, channels = block.shape
        block = block[:, : height // k * k, : width // k * k]
        block = block.reshape(n, height // k, k, width // k, k, channels)
        out.append(block.mean((2, 4)).round().astype(np.uint8))
    return np.concatenate(out)


def _measure(train_x, train_y, test_x, test_y, shares) -> dict[str, dict]:
    known, scored = train_y >= 0, test_y >= 0
    train_x, train_y = train_x[known], train_y[known]
    test_x, test_y = test_x[scored], test_y[scored]
    out: dict[str, dict] = {"probe": {}, "knn": {}}
    for share in shares:
        probe = evaluate.linear_probe(
            train_x, train_y, test_x, test_y, labels_per_class=share, draws=DRAWS
        )
        out["probe"][_share(share)] = _summary(np.asarray(probe.accuracies))
        if share is None:
            draws = np.arange(len(train_y))[None]
        else:
            draws = evaluate.label_draws(train_y, share, DRAWS, 0)
        accuracies = [
            evaluate.knn_accuracy(train_x[d], train_y[d], test_x, test_y) for d in draws
        ]
        out["knn"][_share(share)] = _summary(np.asarray(accuracies))
    return out


def _summary(accuracies: np.ndarray) -> dict[str, Any]:
    several = len(accuracies) > 1
    return {
        "mean": float(accuracies.mean()),
        "std": float(accuracies.std(ddof=1)) if several else None,
        "draws": len(accuracies),
    }


def _write_figures(path: pathlib.Path, h: np.ndarray, part: Part) -> None:
    chosen = np.linspace(0, len(h) - 1, min(len(h), MAX_POINTS)).astype(int)
    queries = np.linspace(0, len(h) - 1, min(len(h), 8)).astype(int)
    k = min(8, len(h) - 1)
    near = evaluate.nearest(h, queries, k=k)
    plane = np.pad(h[chosen], ((0, 0), (0, max(0, 2 - h.shape[1]))))
    shown = part.index[np.concatenate([queries, near.ravel()])]
    pictures = data.examples(part.source, shown)["image"]
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        np.savez(
            file,
            map=evaluate.tsne(plane, seed=0),
            map_labels=part.labels[chosen],
            query_images=pictures[: len(queries)],
            query_labels=part.labels[queries],
            neighbour_images=pictures[len(queries) :].reshape(
                *near.shape, *pictures.shape[1:]
            ),
            neighbour_labels=part.labels[near],
        )
    os.replace(draft, path)


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `evaluate_run` wrote."""
    return json.loads((folder / "evaluation.json").read_text())


def table(result: dict[str, Any]) -> str:
    """The table of an evaluation as text, a line a representation."""
    if result["reason"]:
        rank = ", ".join(
            f"{name}: RankMe {g['rank_me']:.1f} of {g['dim']}, std {g['std']:.2f}"
            for name, g in result["geometry"].items()
        )
        rest = [*result.get("said", ()), *_held_out(result), *_notes(result)]
        return "\n".join([result["reason"], rank, result["verdict"], *rest])
    shares = result["labels_per_class"]
    head = ["accuracy"]
    head += [f"{kind} {share}" for kind in ("probe", "k-NN") for share in shares]
    rows = [head]
    for row in result["table"]:
        cells = [
            _cell(row[kind][share]) for kind in ("probe", "knn") for share in shares
        ]
        rows.append([f"{row['title']} [{row['dim']}]", *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines += ["", _caption(result), *result.get("said", ())]
    return "\n".join([*lines, *_held_out(result), *_notes(result)])


def _held_out(result: dict[str, Any]) -> list[str]:
    found = ", ".join(f"{k} {v:.4g}" for k, v in result.get("held_out", {}).items())
    return [f"its own task on scored examples: {found}"] if found else []


def _notes(result: dict[str, Any]) -> list[str]:
    return [f"note: {note}" for note in result.get("notes", ())]


def _cell(entry: dict[str, Any]) -> str:
    spread = "" if entry["std"] is None else f" ±{entry['std']:.3f}"
    return f"{entry['mean']:.3f}{spread}"


def _caption(result: dict[str, Any]) -> str:
    shares = ", ".join(result["labels_per_class"])
    return (
        f"probe: multinomial logistic regression; k-NN: cosine, weighted; {shares} "
        f"labels per class, mean ± std over {DRAWS} draws; {result['train_images']} "
        f"images to learn from, {result['test_images']} to score"
    )
