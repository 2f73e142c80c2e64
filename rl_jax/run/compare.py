"""Evaluated runs against each other, on the examples that both have scored."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax import evaluate, own
from rl_jax.errors import UsageError
from rl_jax.run.measures.comparison import varies
from rl_jax.run.measures.section import number, plain, shown

_FEWEST = 10
OWN = "classifier:own:"
"""What the predictions of a run's own classifier are called; then the labels it had."""
KINDS = {"probe": "linear probe", "knn": "k-NN", "classifier": "own classifier"}


class _Scored(NamedTuple):
    name: str
    data: str
    headline: str
    arrays: dict[str, np.ndarray]


def compare(
    folders: Sequence[pathlib.Path], names: Sequence[str] | None = None
) -> dict[str, Any]:
    """Differences of accuracy with paired bootstrap intervals, and CKA of headlines.

    Accuracies are those of the headline representation, with all labels, and of the
    classifiers the runs themselves have trained, on the examples both of a pair have
    scored. Runs on other data are not compared, nor files
    of features that have neither labels nor `raw` in common, and a note says so; one
    says of which pair there is no CKA.

    Args:
      folders: of evaluated runs or features.
      names: what they are called; None: as their folders are.

    Returns:
      `{"runs", "rows": [{"a", "b", "measure", "labels", "difference", "low", "high",
      "images"}], "cka": [[...]] or None, "notes": [...], "lines": [...]}`; a and b are
      places in `runs`, the difference is a minus b.
    """
    found, notes = [], []
    names = [folder.name for folder in folders] if names is None else names
    for folder, name in zip(folders, names, strict=True):
        read = _read(folder, name)
        if read is None:
            again = own.again("evaluate", folder)
            notes.append(f"{name} has no predictions to compare: {again} writes them")
        found.append(read)
    rows, lines = [], []
    matrix: list[list[float | None]] = [
        [1.0 if i == j else None for j in range(len(found))] for i in range(len(found))
    ]
    for (i, a), (j, b) in itertools.combinations(enumerate(found), 2):
        if a is None or b is None:
            continue
        if not _same_examples(a, b):
            notes.append(f"{a.name} and {b.name} have scored different data")
            continue
        try:
            matrix[i][j] = matrix[j][i] = _cka(a, b)
        except UsageError as error:
            notes.append(f"no CKA of {a.name} (x) and {b.name} (y): {error}")
        for measure, kind in KINDS.items():
            keys = [_key(s, measure) for s in (a, b)]
            row = _difference(a, b, keys)
            if row is None:
                continue
            labels = " and ".join(dict.fromkeys(k.rpartition(":")[2] for k in keys))
            rows.append({"a": i, "b": j, "measure": measure, "labels": labels} | row)
            said = shown(number(row["difference"], row["low"], row["high"]))
            had = "" if labels == "all" else f" (labels: {labels})"
            lines.append(f"{a.name} minus {b.name}, {kind}{had}: {said}")
    if rows:
        lines.append(
            "accuracy with all labels, unless said; 95 % intervals: paired bootstrap "
            f"over {rows[0]['images']:,} examples that both have scored"
        )
    known = any(v is not None for i, row in enumerate(matrix) for v in row[:i])
    return plain(
        {
            "runs": list(names),
            "rows": rows,
            "cka": matrix if known else None,
            "notes": notes,
            "lines": lines,
        }
    )


def _read(folder: pathlib.Path, name: str) -> _Scored | None:
    from rl_jax.run.evaluation import read

    try:
        record = read(folder)
        with np.load(folder / "predictions.npz", allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, KeyError):
        return None
    if not {"index", "labels", "h", "h_index"} <= set(arrays):
        return None
    headline = str((record.get("checkpoint") or {}).get("headline", "h"))
    return _Scored(name, str(record.get("data", "")), headline, arrays)


def _same_examples(a: _Scored, b: _Scored) -> bool:
    """Whether equal indices are equal examples.

    By the inputs where both records know them, and by the labels of those that both
    have scored; without either, nothing tells.
    """
    both, at, other = np.intersect1d(
        a.arrays["index"], b.arrays["index"], return_indices=True
    )
    same = a.arrays["labels"][at] == b.arrays["labels"][other]
    if a.data and b.data:
        return a.data == b.data and bool(same.all())
    return len(both) > 0 and bool(same.all())


def _key(scored: _Scored, measure: str) -> str:
    """Of its predictions by a classifier: with all labels, or those its own had."""
    if measure == "classifier":
        found = [key for key in scored.arrays if key.startswith(OWN)]
        return found[0] if found else ""
    return f"{measure}:{scored.headline}:all"


def _difference(a: _Scored, b: _Scored, keys: Sequence[str]) -> dict[str, Any] | None:
    if keys[0] not in a.arrays or keys[1] not in b.arrays:
        return None
    _, at, other = np.intersect1d(
        a.arrays["index"], b.arrays["index"], return_indices=True
    )
    if len(at) < _FEWEST:
        return None
    right = [
        (s.arrays[key] == s.arrays["labels"][None]).mean(0)[rows]
        for s, key, rows in zip((a, b), keys, (at, other), strict=True)
    ]
    found = evaluate.paired_difference(*right)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "images": len(at),
    }


def _cka(a: _Scored, b: _Scored) -> float:
    """Of the headlines; a UsageError says why there is none."""
    _, at, other = np.intersect1d(
        a.arrays["h_index"], b.arrays["h_index"], return_indices=True
    )
    x, y = a.arrays["h"][at], b.arrays["h"][other]
    found = evaluate.linear_cka(x, y, debiased=True)
    for name, h in (("x", x), ("y", y)):
        if not varies(h):
            raise UsageError(f"{name} is constant up to rounding: it has collapsed")
    return float(np.clip(found, -1, 1))
