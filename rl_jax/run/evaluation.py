"""How good a run's representations are, beside the baselines that keep it honest.

Writes `evaluation.json` (table and sections), `predictions.npz` (what two runs are
compared by) and `figures.npz` (what the page draws).
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rl_jax import data, evaluate, files, own, train
from rl_jax.errors import UsageError
from rl_jax.evaluate import arguments
from rl_jax.run import classifier, figures, labelled, measures, studies, words
from rl_jax.run import recipe as recipes
from rl_jax.run.earlier import origin, with_earlier
from rl_jax.run.held_out import held_out_metrics
from rl_jax.run.measures import SECTIONS, Study
from rl_jax.run.split import SHARES, Part, Share, at_most, columns, split
from rl_jax.run.texts import said, with_texts
from rl_jax.run.trained import Run, checkpoints, load

FORMAT = 2
AFTER_TRAINING = 50_000
"""Images that probes learn from in the evaluation that follows training: reading and
encoding a million may take hours where few processors decode."""
LONG = ("probes", "factors", "drift", "guarantee", "corruptions", "attacks")
"""Left out of the evaluation that follows training: what takes most of the time."""
KEPT_ROWS = 1000
NUMBERED = 1000
"""Labels without names: up to so many have their numbers as names in the record."""


def evaluate_run(
    folder: pathlib.Path,
    *,
    skip: Iterable[str] = (),
    shares: Sequence[Share] = SHARES,
    train_images: int | None = None,
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run on clean images.

    Probes and k-NN learn from the pretraining part and are scored on the held-out part;
    data without one is split once, 80/20, stratified, by a fixed rule (pretraining then
    has seen the scored images, as a rule without their labels, and the record says so).
    What the labels do not allow is left out, with a line in `notes` that says why. The
    raw pixels and the untrained encoder are measured in the same way with the same
    labels. A classifier that the run itself has trained is scored as it is.

    Args:
      folder: of the run.
      skip: sections not to measure, of `measures.SECTIONS`; one that an earlier
        evaluation has of the same weights, data and version stays.
      shares: labels the table's probes and k-NN learn from, all of them (None) last.
      train_images: the most that probes and k-NN learn from, of each class its part;
        where nothing is held out, at most a quarter as many are scored. None: all.
      say: called with a line for each thing measured.
      poll: called between them; may raise to stop.

    Returns:
      What was written to `evaluation.json`.

    Raises:
      UsageError: for a section that does not exist, or as `load`.
    """
    skip = checked_sections(skip)
    if train_images is not None:
        arguments.counts("evaluate", train_images=train_images)
    run = load(folder, say=say)
    source = run.parts.source
    fit_part, test_part, note = split(source)
    note = labelled.note(run.recipe, source) or note
    there = len(fit_part.index)
    if train_images is not None and there > train_images:
        fit_part = at_most(fit_part, train_images)
        note = f"{note}; learnt from {len(fit_part.index):,} of {there:,}"
        if source.held_out is None:
            test_part = at_most(test_part, max(1, train_images // 4))
    network = run.parts.method.network
    say(f"evaluating the checkpoint of step {run.step}, the {network} network")
    study = studies.study(run, fit_part, test_part)
    # Labels of files that turned out to be no images are gone.
    fit_part, test_part = (
        part._replace(labels=labels)
        for part, labels in zip((fit_part, test_part), study.labels, strict=True)
    )
    poll()
    title = run.recipe.method.factory
    result: dict[str, Any] = {
        "format": FORMAT,
        "step": run.step,
        "checkpoint": {
            "step": run.step,
            "of": run.recipe.steps,
            "network": network,
            "headline": study.headline,
            "data": "clean",
        },
        "evaluated": (
            f"{title}, checkpoint of step {run.step} of {run.recipe.steps}, evaluation "
            f"mode, clean {'images' if source.image_shape else 'examples'}; "
            f"{' and '.join(k for k in ('h', 'z') if k in study.representations)} of "
            f"{_described(network)}; {note}"
        ),
        "problems": source.problems(),
    }
    result |= first_look(study)
    result["held_out"] = held_out_metrics(run, test_part)
    if found := words.by_frequency(run, fit_part, test_part):
        result["words"] = found
        result["said"] = [words.said(found, result["held_out"])]
    if "text" in run.recipe.networks:
        z = study.representations["z"].scored
        result["texts"] = with_texts(run, test_part, z)
        result["said"] = said(result["texts"])
        poll()

    def images(readings):
        return studies.images(run, test_part, study, readings)

    def at_checkpoints():
        states = checkpoints(folder, run, say=say)
        return studies.checkpoints(run, study, states, fit_part, test_part)

    measured, predictions = measure(
        study,
        images=images,
        checkpoints=at_checkpoints,
        skip=skip,
        shares=shares,
        say=say,
        poll=poll,
    )
    result |= measured
    if run.other_code:
        changed = f"own code has changed since the run started: {run.other_code}"
        result["notes"].append(changed)
    if mine := classifier.own(run, study):
        result["classifier"], found = mine
        result["said"] = [*result.get("said", ()), result["classifier"]["line"]]
        predictions |= found
    if run.changed:
        changed = f"the data has changed since the run started: {run.changed}"
        result["notes"].append(changed)
    recipe = recipes.as_json(run.recipe)
    measured = {
        "weights": train.fingerprint((run.state.params, run.state.state)),
        "recipe": recipe,
        "train_images": len(fit_part.index),
        "data": data.fingerprint(source),
        "classes": list(study.classes),
    }
    if code := own.digests(own.names(recipe)):
        measured["own"] = code
    if network != "online":
        # What versions of before measured of these weights was the other one.
        measured["network"] = network
    result["origin"] = origin(measured)
    result = with_earlier(folder, result, skip=skip)
    _draw(folder, run, study, test_part, result)
    write(folder, result, predictions, study, test_part.index)
    return result


def first_look(study: Study) -> dict[str, Any]:
    """Counts, and whether the trained representations have collapsed."""
    trained = {k: v for k, v in study.representations.items() if k in ("h", "z")}
    trained = trained or {study.headline: study.representations[study.headline]}
    watched = trained.get("z", next(iter(trained.values()))).scored
    verdict = "not known: one scored image shows no collapse"
    if len(watched) > 1:
        verdict = evaluate.collapse_verdict(watched)
    return {
        "train_images": _counted(study.labels.fit),
        "test_images": _counted(study.labels.scored),
        "verdict": verdict,
        "geometry": {
            name: {
                "rank_me": float(evaluate.rank_me(pair.scored)),
                "std": float(evaluate.normalized_std(pair.scored)),
                "dim": int(pair.scored.shape[1]),
            }
            for name, pair in trained.items()
        },
    }


def _counted(labels: np.ndarray) -> int:
    """Examples of classifiers: those with a label, all where none has one."""
    return int(np.sum(labels >= 0)) or len(labels)


def measure(
    study: Study,
    *,
    images: Callable[[dict], measures.Images | None] = lambda readings: None,
    checkpoints: Callable[[], dict] | None = None,
    skip: Iterable[str] = (),
    shares: Sequence[Share] = SHARES,
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], measures.Predictions]:
    """The table and the sections, as they stand in the record, and the predictions."""
    result: dict[str, Any] = {
        "classes": [],
        "labels_per_class": [],
        "table": [],
        "reason": None,
    }
    predictions: measures.Predictions = {}
    readings: dict[str, measures.Reading] = {}
    found = columns(*study.labels, study.classes, shares=shares)
    shares, result["notes"], reason = found
    if shares:
        most = max(int(side.max(initial=-1)) for side in study.labels)
        result["classes"] = list(study.classes)
        if not study.classes and most < NUMBERED:
            result["classes"] = [str(c) for c in range(most + 1)]
        result["labels_per_class"] = [measures.share_name(s) for s in shares]
        say("  table: linear probe and k-NN by labels per class")
        readings = measures.readings(study)
        rows, predictions = measures.table(study, readings, shares, poll=poll)
        for row in rows:
            name = row["representation"]
            result["table"].append(
                {
                    "representation": name,
                    "title": study.titles[name],
                    "network": _network(name, study),
                    "dim": int(study.representations[name].fit.shape[1]),
                }
                | row
            )
    else:
        result["reason"] = (
            f"{reason}, so there is nothing to probe: RankMe, the collapse meter and "
            "what else needs no labels say how the representation looks"
        )
    looked_at = readings and not {"corruptions", "attacks"} <= set(skip)
    sections = measures.measure(
        study,
        readings,
        predictions,
        images=images(readings) if looked_at else None,
        checkpoints=checkpoints,
        skip=skip,
        say=say,
        poll=poll,
    )
    result["sections"] = {k: measures.record(v) for k, v in sections.items()}
    return result, predictions


def checked_sections(skip: Iterable[str]) -> set[str]:
    """The names as a set.

    Raises:
      UsageError: naming the first that is no section, and those there are.
    """
    skip = set(skip)
    for name in sorted(skip - set(SECTIONS)):
        raise UsageError(
            f"evaluate: there is no section {name!r}; there are: {', '.join(SECTIONS)}"
        )
    return skip


def write(
    folder: pathlib.Path,
    result: dict[str, Any],
    predictions: measures.Predictions,
    study: Study,
    index: np.ndarray,
) -> None:
    """Writes the record, and what another run is compared by; each file whole."""
    h = study.representations[study.headline].scored
    chosen = measures.spread(len(h), KEPT_ROWS)
    known = study.labels.scored >= 0
    # As labels: places among the classes differ between runs.
    classes = np.unique(study.labels.fit[study.labels.fit >= 0])
    predictions = {name: classes[p] for name, p in predictions.items()}
    result["data"] = _digest(study, index)
    with files.replacing(folder / "predictions.npz") as file:
        np.savez_compressed(
            file,
            index=index[known],
            labels=study.labels.scored[known],
            h=h[chosen].astype(np.float32),
            h_index=index[chosen],
            **{name: p.astype(np.int32) for name, p in predictions.items()},  # pyright: ignore[reportArgumentType]
        )
    text = json.dumps(measures.plain(result), indent=1)
    files.write_text(folder / "evaluation.json", f"{text}\n")


def read(folder: pathlib.Path) -> dict[str, Any]:
    """What `evaluate_run` wrote."""
    return files.read_json(folder / "evaluation.json")


def _draw(folder, run: Run, study: Study, part: Part, result) -> None:
    if run.parts.source.image_shape and len(part.index) >= 4:
        h = study.representations[study.headline].scored
        remade = figures.reconstructed(run, part)
        figures.write(folder / "figures.npz", h, part, remade)
        return
    (folder / "figures.npz").unlink(missing_ok=True)
    if run.parts.source.image_shape:
        result["notes"].append("no map and no neighbours: they need 4 scored images")


def _network(name: str, study: Study) -> str:
    if name == "raw":
        return ""
    if name in study.baselines:
        return "untrained"
    return {"target_h": "target", "online_h": "online"}.get(name, study.network)


def _described(network: str) -> str:
    average = "" if network == "online" else ", the moving average of what is trained"
    return f"the {network} network{average}"


def _digest(study: Study, index: np.ndarray) -> str:
    """Of the scored inputs, where they are known; "" otherwise."""
    if "raw" not in study.representations:
        return ""
    found = hashlib.sha256(np.ascontiguousarray(index, np.int64).tobytes())
    raw = study.representations["raw"].scored
    found.update(np.ascontiguousarray(raw, np.float32).tobytes())
    return found.hexdigest()
