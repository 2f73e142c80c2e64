"""What a run's folder holds, read without trusting it and without importing jax."""

import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax import files, own
from rl_jax.errors import UsageError
from rl_jax.report.sections import Section, finite, sections

FORMAT = 2  # of run.json and of evaluation.json
MAX_PICTURE = 20 * 2**20
_BAD_ARCHIVE = (
    *(OSError, ValueError, LookupError, MemoryError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)

_NO_IMAGES = {
    "query_images": np.zeros((0, 1, 1, 1), np.uint8),
    "query_labels": np.zeros(0, np.int32),
    "neighbour_images": np.zeros((0, 1, 1, 1, 1), np.uint8),
    "neighbour_labels": np.zeros((0, 1), np.int32),
}

Row = dict[str, float | None]


class Score(NamedTuple):
    """Accuracies over draws of labels: mean, standard deviation (None for one)."""

    mean: float | None
    std: float | None


class Entry(NamedTuple):
    """A representation's line in the table; probe, knn: labels per class -> score."""

    representation: str
    title: str
    network: str
    dim: str
    probe: dict[str, Score]
    knn: dict[str, Score]


class Evaluation(NamedTuple):
    """`evaluation.json`.

    Attributes that say more than their name:
      said: sentences on what the texts of the data tell.
      sections: the rest of the evaluation by name; None in its first format.
      checkpoint: what was measured, in words; "" where it is not said.
    """

    step: int
    evaluated: str
    train_images: int
    test_images: int
    classes: list[str]
    shares: list[str]
    table: list[Entry]
    geometry: dict[str, Row]
    verdict: str
    notes: list[str]
    reason: str | None
    said: list[str]
    skipped: list[str]
    sections: dict[str, Section] | None
    checkpoint: str


class Figures(NamedTuple):
    """`figures.npz`: a 2-D map of images, and the nearest neighbours of a few.

    And images beside what the method makes of them, with what it saw, where it does.
    """

    map: np.ndarray
    map_labels: np.ndarray
    query_images: np.ndarray
    query_labels: np.ndarray
    neighbour_images: np.ndarray
    neighbour_labels: np.ndarray
    originals: np.ndarray = np.zeros((0, 1, 1, 1), np.uint8)
    remade: np.ndarray = np.zeros((0, 1, 1, 1), np.uint8)
    seen: np.ndarray = np.zeros((0, 1, 1, 1), np.uint8)


class Features(NamedTuple):
    """Arrays of any encoder that were evaluated; their shapes by name."""

    file: str
    arrays: dict[str, str]


class Record(NamedTuple):
    """A run as its folder tells it; what is absent is None or empty.

    With `features` it is no run: its recipe and its rows are empty.
    """

    folder: pathlib.Path
    name: str
    recipe: dict[str, Any]
    command: str
    environment: dict[str, Any]
    problems: dict[str, Any]
    dims: dict[str, int]
    rows: list[Row]
    evaluation: Evaluation | None
    figures: Figures | None
    views: bytes | None
    features: Features | None


def read(folder: pathlib.Path, *, name: str) -> Record:
    """Reads a run, or an evaluation of features.

    Args:
      folder: of the run.
      name: what the page calls it.

    Raises:
      UsageError: when it holds no run, or a file is too large, of a newer format or
        not what its name says.
    """
    content = json_in(folder / "run.json")
    evaluation = json_in(folder / "evaluation.json")
    features = None
    if content is None:
        features = _features(evaluation, folder)
        content = {"recipe": {}}
    if not isinstance(content.get("recipe"), dict):
        raise UsageError(f"{folder / 'run.json'} holds no recipe; expected a run's")
    notes = {**content, **(evaluation or {})}
    return Record(
        folder=folder,
        name=name,
        recipe=_parts(content["recipe"]),
        command=str(content.get("command") or ""),
        environment=dict_of(content.get("environment")),
        problems=dict_of(notes.get("problems")),
        dims={k: v for k, v in dict_of(content.get("dims")).items() if _is_width(v)},
        rows=_rows(folder / "metrics.jsonl"),
        evaluation=None if evaluation is None else evaluation_in(evaluation, folder),
        figures=_figures(folder / "figures.npz"),
        views=_picture(folder / "views.png"),
        features=features,
    )


def names(folders: Sequence[pathlib.Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    parts = [pathlib.Path(os.path.abspath(f)).parts for f in folders]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(p[-length:]) for p in parts]
        if len(set(found)) == len(set(parts)):
            break
    return [
        name if found.count(name) == 1 else f"{name} ({found[: i + 1].count(name)})"
        for i, name in enumerate(found)
    ]


def _text(path: pathlib.Path) -> str | None:
    try:
        return files.read_text(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}; move it away or shorten it") from None


def json_in(path: pathlib.Path) -> dict[str, Any] | None:
    """What a file of ours holds; None where there is none.

    Raises:
      UsageError: where it cannot be read, or is not what its name says.
    """
    try:
        content = files.read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}; restore it") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no JSON object; expected what rl-jax wrote")
    version = content.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UsageError(
            f"{path}: format {version!r}, this version reads up to {FORMAT}; use a "
            "newer rl_jax"
        )
    return content


def _parts(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe whose networks stand among its parts, as in runs of before roles."""
    nets = recipe.get("networks")
    if not isinstance(nets, dict):
        return recipe
    return nets | {name: v for name, v in recipe.items() if name != "networks"}


def _rows(path: pathlib.Path) -> list[Row]:
    """As `train.metrics.read_rows`, whose package takes seconds to import jax."""
    rows: dict[float, Row] = {}
    for line in (_text(path) or "").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = finite(row.get("step")) if isinstance(row, dict) else None
        if step is not None:
            rows[step] = {
                name: finite(value)
                for name, value in row.items()
                if value is None or isinstance(value, (int, float))
            }
    return [rows[step] for step in sorted(rows)]


def evaluation_in(content: dict[str, Any], folder: pathlib.Path) -> Evaluation:
    """What `evaluation.json` of a folder holds, checked.

    Raises:
      UsageError: where something is missing, or of another kind.
    """
    try:
        shares = [str(s) for s in content["labels_per_class"]]
        table = [
            Entry(
                representation=str(row["representation"]),
                title=str(row["title"]),
                network=str(row["network"]),
                dim=str(row["dim"]),
                probe={s: _score(row["probe"][s]) for s in shares},
                knn={s: _score(row["knn"][s]) for s in shares},
            )
            for row in (content["table"] if shares else ())
        ]
        geometry = {
            str(name): {k: finite(v) for k, v in values.items()}
            for name, values in content["geometry"].items()
        }
        reason = content.get("reason")
        return Evaluation(
            step=_count(content["step"]),
            evaluated=str(content["evaluated"]),
            train_images=_count(content["train_images"]),
            test_images=_count(content["test_images"]),
            classes=[str(c) for c in content["classes"]],
            shares=shares,
            table=table,
            geometry=geometry,
            verdict=str(content["verdict"]),
            notes=[str(note) for note in content.get("notes", ())],
            reason=None if reason is None else str(reason),
            said=[str(line) for line in content.get("said", ())],
            skipped=[str(name) for name in content.get("skipped", ())],
            sections=sections(content["sections"]) if "sections" in content else None,
            checkpoint=_checkpoint(dict_of(content.get("checkpoint"))),
        )
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken(folder / "evaluation.json", repr(error)) from None


def _checkpoint(content: dict[str, Any]) -> str:
    step, network = finite(content.get("step")), content.get("network")
    said = [f"{content['headline']}"] if content.get("headline") else []
    said += [f"of the {network} network"] if network else []
    said += [f"at step {int(step):,}"] if step is not None else []
    said += [f"on {content['data']} data"] if content.get("data") else []
    return " ".join(said)


def _features(evaluation: dict[str, Any] | None, folder: pathlib.Path) -> Features:
    found = (evaluation or {}).get("features")
    if not isinstance(found, dict):
        raise UsageError(
            f"{folder} is not a run: no run.json there; expected a folder made by "
            "`rl-jax pretrain`"
        )
    arrays = {
        str(name): " × ".join(f"{n:,}" for n in shape if isinstance(n, int))
        for name, shape in dict_of(found.get("arrays")).items()
        if isinstance(shape, list)
    }
    return Features(str(found.get("file") or "features"), arrays)


def _count(value: Any) -> int:
    number = finite(value)
    if number is None:
        raise ValueError(f"{str(value)[:40]} is not a count")
    return int(number)


def _score(content: dict[str, Any]) -> Score:
    return Score(finite(content["mean"]), finite(content["std"]))


def _figures(path: pathlib.Path) -> Figures | None:
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > files.MAX_BYTES:
            raise _broken(path, f"{size / 2**20:.0f} MB of arrays, too many")
        with np.load(path, allow_pickle=False) as arrays:
            given = [
                name
                for name in Figures._fields
                if name not in Figures._field_defaults or name in arrays
            ]
            found = Figures(**{name: arrays[name] for name in given})
    except _BAD_ARCHIVE as error:
        if isinstance(error, UsageError):
            raise
        raise _broken(path, str(error)) from None
    if not found.query_images.size:  # of features there are no images
        found = found._replace(**_NO_IMAGES)
    queries, images = found.query_images.shape, found.neighbour_images.shape
    fits = (
        found.map.ndim == 2
        and found.map.shape[1] == 2
        and found.map_labels.shape == found.map.shape[:1]
        and len(queries) == 4
        and found.query_labels.shape == queries[:1]
        and found.neighbour_labels.shape == images[:2]
        and (images[0], *images[2:]) == queries
        and 0 not in (images if images[0] else ())
        and found.query_images.dtype == found.neighbour_images.dtype == np.uint8
        and found.map.dtype.kind == "f"
        and all(found[i].dtype.kind in "iu" for i in (1, 3, 5))
        and _are_pictures(found.originals, found.remade, found.seen)
    )
    if not fits:
        raise _broken(path, "the shapes of its arrays do not fit together")
    places = found.map.astype(np.float64)
    shown = (np.abs(places) < 1e150).all(axis=1)
    return found._replace(map=places[shown], map_labels=found.map_labels[shown])


def _are_pictures(*several: np.ndarray) -> bool:
    """Whether all that there are have one shape [k, H, W, C] of bytes."""
    there = [each for each in several if len(each)]
    return len({each.shape for each in there}) <= 1 and all(
        each.ndim == 4 and each.size and each.dtype == np.uint8
        for each in several
        if len(each)
    )


def _picture(path: pathlib.Path) -> bytes | None:
    """A PNG file of bearable size, else None."""
    if not path.is_file() or path.stat().st_size > MAX_PICTURE:
        return None
    content = path.read_bytes()
    return content if content.startswith(b"\x89PNG\r\n\x1a\n") else None


def _broken(path: pathlib.Path, reason: str) -> UsageError:
    again = own.again("evaluate", path.parent)
    if not (path.parent / "run.json").exists():
        again = "rl-jax evaluate --features FILE"
    return UsageError(f"{path} cannot be read: {reason}; write it again with: {again}")


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def dict_of(value: Any) -> dict[str, Any]:
    """A value of JSON where it is an object; else an empty one."""
    return value if isinstance(value, dict) else {}
