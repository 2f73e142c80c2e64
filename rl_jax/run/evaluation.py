"""How good a run's representations are, beside the baselines that keep it honest.

Writes `evaluation.json` (the table) and `figures.npz` (what the page draws).
"""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rl_jax import data, evaluate
from rl_jax.run.encode import encode, images
from rl_jax.run.load import Run, load
from rl_jax.run.recipe import has_labels, num_classes

FORMAT = 1
DRAWS = 10
MAX_POINTS = 1000  # of the map and the neighbours
SHARES = (1, 10, None)  # labels per class; None is all


class Part(NamedTuple):
    """Images one side of the evaluation uses: representations, labels, indices."""

    source: data.Source
    index: np.ndarray
    labels: np.ndarray


def evaluate_run(
    folder: pathlib.Path,
    *,
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run on clean images.

    Probes and k-NN learn from the pretraining part and are scored on the held-out part;
    data without one is split once, 80/20, stratified, by a fixed rule (pretraining then
    has seen the scored images, without their labels, and the record says so). The raw
    pixels and the untrained encoder are measured in the same way with the same labels.

    Args:
      folder: of the run.
      say: called with a line for each thing measured.
      poll: called between them; may raise to stop.

    Returns:
      What was written to `evaluation.json`.
    """
    run = load(folder, say=say)
    fit_part, test_part, note = _split(run.parts.source)
    if run.changed:
        note += f"; the data has changed since the run started: {run.changed}"
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
        "reason": None,
        "problems": run.parts.source.problems(),
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
    result["verdict"] = evaluate.collapse_verdict(trained["z"][1])
    if has_labels(run.parts.source):
        result["classes"] = _class_names(run.parts.source)
        smallest = int(np.bincount(fit_part.labels[fit_part.labels >= 0]).min())
        shares = [s for s in SHARES if s is None or s <= smallest]
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
            "the data has no labels (name them by sub-folders, or `label` in an .npz), "
            "so there is nothing to probe: RankMe, the collapse meter, alignment, "
            "uniformity and the neighbours below say how the representation looks"
        )
    _write_figures(folder / "figures.npz", everything["h"][1], test_part)
    draft = folder / "evaluation.tmp"
    draft.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(draft, folder / "evaluation.json")
    return result


def _share(per_class: int | None) -> str:
    return "all" if per_class is None else str(per_class)


def _title(name: str, method: str) -> str:
    known = {"raw": "raw pixels", "random": "untrained encoder h"}
    return known.get(name, f"{method} {name}")


def _class_names(source: data.Source) -> list[str]:
    return list(source.class_names) or [str(c) for c in range(num_classes(source))]


def _split(source: data.Source) -> tuple[Part, Part, str]:
    """The part that probes learn from, the part that scores them, and what to say."""
    if source.held_out is not None:
        held = source.held_out
        parts = [Part(s, np.arange(s.size), _labels(s)) for s in (source, held)]
        return *parts, "scored on held-out images"
    labels = _labels(source)
    # Every fifth image of each class, counted in the fixed order of the source.
    test = np.zeros(source.size, bool)
    for c in np.unique(labels):
        test[np.flatnonzero(labels == c)[4::5]] = True
    parts = []
    for chosen in (~test, test):
        index = np.flatnonzero(chosen)
        parts.append(Part(source, index, labels[index]))
    note = "no held-out part: pretraining has seen the scored fifth, without labels"
    return *parts, note


def _labels(source: data.Source) -> np.ndarray:
    if source.labels is None:
        return np.full(source.size, -1, np.int32)
    return np.asarray(source.labels)


def _representations(run: Run, fit_part: Part, test_part: Part) -> dict[str, tuple]:
    """`{name: (of the fit part, of the test part)}`, trained first, then baselines."""
    sides = []
    for part in (fit_part, test_part):
        source = _rows(part)
        method, augment = run.parts.method, run.parts.augment
        found = encode(method, augment, run.state, source)
        found["random"] = encode(method, augment, run.untrained, source)["h"]
        found["raw"] = evaluate.raw_pixels(_small(source))
        sides.append(found)
    return {name: (sides[0][name], sides[1][name]) for name in sides[0]}


def _rows(part: Part) -> data.Source:
    """The chosen rows of a source, as a source."""
    source = part.source
    if len(part.index) == source.size:
        return source
    index = part.index
    return source._replace(
        size=len(index),
        labels=part.labels,
        images=None if source.images is None else source.images[index],
        load=lambda i: source.load(int(index[i])),
    )


def _small(source: data.Source, *, most: int = 32) -> np.ndarray:
    """The images, averaged down to at most `most` pixels a side."""
    out = []
    for start in range(0, source.size, 256):
        block = images(source, np.arange(start, min(start + 256, source.size)))
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
    pictures = images(part.source, part.index[np.concatenate([queries, near.ravel()])])
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        np.savez(
            file,
            map=evaluate.tsne(h[chosen], seed=0),
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
        return f"{result['reason']}\n{rank}\n{result['verdict']}"
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
    return "\n".join([*lines, "", _caption(result)])


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
