"""The runs of a folder, a row each: read without trust, and without importing jax."""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rl_jax import files
from rl_jax.errors import RunError
from rl_jax.files import printable
from rl_jax.report.read import Evaluation, dict_of, evaluation_in, json_in
from rl_jax.report.sections import finite
from rl_jax.report.words import find

DEEP = 2
"""Folders between the one that is named and a run's, at most."""
TAIL = 2**16
"""Bytes at the end of the metrics that are read: the last row is among them."""
PARTS = ("checkpoints", "metrics.jsonl")
"""What is of a run although it has no run.json."""


class Row(NamedTuple):
    """What a run's folder says of it; None where it says nothing.

    Attributes:
      name: of the folder, from the one that was named.
      folder: its path.
      method, data: what learned from what.
      step, steps: trained, of how many; of one that runs the last that was logged.
      status: "running", "done", "stopped" (`resume` goes on from a checkpoint), "not
        finite", "nothing saved" or "unreadable".
      reason: what is wrong with the folder.
      labels: how many of each class the accuracies are of: "all", as a rule.
      probe, knn: of `h`, in [0, 1].
      evaluated: the step of the checkpoint that they are of.
      time: when something was written last, seconds since 1970.
    """

    name: str
    folder: str
    method: str | None = None
    data: str | None = None
    step: int | None = None
    steps: int | None = None
    status: str = "unreadable"
    reason: str | None = None
    labels: str | None = None
    probe: float | None = None
    knn: float | None = None
    evaluated: int | None = None
    time: float | None = None


def runs(folder: pathlib.Path) -> list[Row]:
    """The runs in a folder, those a little deeper too, or the one that it is.

    Whatever is wrong with one is in its row. Nothing in the folder changes, and no code
    of a user is looked for.

    Args:
      folder: is there.

    Returns:
      A row each, the one that was written to last at the end.
    """
    found = [_row(path, name) for path, name in _folders(folder, "", DEEP, set())]
    return sorted(found, key=lambda row: (row.time or 0.0, row.name))


def _folders(
    folder: pathlib.Path, name: str, deep: int, seen: set[tuple[int, int]]
) -> Iterator[tuple[pathlib.Path, str]]:
    """Those of runs, with their names; into links, but nowhere twice."""
    try:
        status = folder.stat()
        inner = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        # What it is nobody can tell: its row says why.
        yield folder, name or folder.absolute().name
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    # The one that is named may have checkpoints of another program in it.
    parts = ("run.json", *(PARTS if name else ()))
    if any(_is_there(folder / part) for part in parts):
        yield folder, name or folder.absolute().name
        return
    if deep >= 0:
        for each in inner:
            if not each.startswith("."):
                path = folder / each
                yield from _folders(path, f"{name}/{each}".strip("/"), deep - 1, seen)


def _is_there(path: pathlib.Path) -> bool:
    return os.path.lexists(path)


def _row(folder: pathlib.Path, name: str) -> Row:
    row = Row(printable(name), str(folder), time=_time(folder))
    try:
        return _read(folder, row)
    except (RunError, OSError) as error:
        return row._replace(reason=printable(" ".join(str(error).split())))
    except Exception as error:  # of a file that nobody has thought of
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return row._replace(reason=printable(reason))


def _read(folder: pathlib.Path, row: Row) -> Row:
    os.listdir(folder)
    content = _file(folder / "run.json")
    if content is None:
        return row._replace(reason="no run.json")
    recipe = content.get("recipe")
    if not isinstance(recipe, dict):
        return row._replace(reason="run.json holds no recipe")
    row = row._replace(
        method=_text(dict_of(recipe.get("method")).get("factory")),
        data=_data(dict_of(recipe.get("data"))),
        steps=_whole(recipe.get("steps")),
    )
    last, saved = _last_row(folder / "metrics.jsonl"), _saved(folder)
    status = "running" if files.is_locked(folder / "run.lock") else None
    done = saved is not None and row.steps is not None and saved >= row.steps
    if status is None and saved is None:
        status = "nothing saved"
    elif status is None and done:
        status = "done"
    elif status is None:
        lost = _not_finite(folder, recipe, saved or 0, last)
        status = "not finite" if lost else "stopped"
    step = _whole(last.get("step")) if status == "running" else saved
    row = row._replace(status=status, step=step)
    try:
        evaluation = _file(folder / "evaluation.json")
        found = evaluation and evaluation_in(evaluation, folder)
    except RunError as error:
        return row._replace(reason=printable(str(error)))
    return row._replace(**_accuracies(found)) if found else row


def _file(path: pathlib.Path) -> dict[str, Any] | None:
    """As `json_in`; of a pipe, which would be waited for, nothing is read."""
    if _is_there(path) and not path.is_file():
        raise RunError(f"{path.name} is no file")
    return json_in(path)


def _accuracies(evaluation: Evaluation) -> dict[str, Any]:
    found = {"evaluated": evaluation.step}
    if not evaluation.table or not evaluation.shares:
        return found
    share = evaluation.shares[-1]
    entry = find(evaluation, "h") or evaluation.table[0]
    scores = {"probe": entry.probe[share].mean, "knn": entry.knn[share].mean}
    return found | {"labels": printable(share)} | scores


def _saved(folder: pathlib.Path) -> int | None:
    """The step of the newest checkpoint: it has its name once it is whole."""
    try:
        names = os.listdir(folder / "checkpoints")
    except OSError:
        return None
    steps = [int(name) for name in names if re.fullmatch(r"[0-9]{1,18}", name)]
    return max(steps, default=None)


def _last_row(path: pathlib.Path) -> dict[str, Any]:
    """The last whole row of the metrics."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read(TAIL).splitlines()
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # torn, by a kill or by where the end begins
        if isinstance(row, dict) and _whole(row.get("step")) is not None:
            return row
    return {}


def _not_finite(
    folder: pathlib.Path, recipe: dict[str, Any], saved: int, last: dict[str, Any]
) -> bool:
    """Whether a step that was not finite has ended it.

    It ends at the row or the save after the step, which a file is named by; with
    "skip", where as many in a row were lost as may be.
    """
    every = _whole(recipe.get("log_every")) or 1
    if recipe.get("on_nonfinite", "halt") != "halt":
        limit = min(_whole(recipe.get("nonfinite_limit")) or 1, every)
        lost = finite(last.get("nonfinite")) or 0
        return last.get("step") == saved and lost >= limit
    names = (re.fullmatch(r"nonfinite-(\d{1,18})\.npz", n) for n in os.listdir(folder))
    return any(0 <= saved - int(name[1]) < every for name in names if name)


def _time(folder: pathlib.Path) -> float | None:
    """When one of the files of a run was written last."""
    known = []
    for name in ("run.json", "metrics.jsonl", "evaluation.json", "checkpoints"):
        try:
            known.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max((t for t in known if 0 < t < 2**36), default=None)


def _data(spec: dict[str, Any]) -> str | None:
    """The name of the data: of files, the last part of the path."""
    path = dict_of(spec.get("arguments")).get("path")
    if isinstance(path, str) and path.strip("/"):
        return printable(path.rstrip("/").split("/")[-1])
    return _text(spec.get("factory"))


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    number = finite(value)
    return None if number is None else int(number)
