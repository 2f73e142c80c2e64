"""Evaluation of features made by any framework, from an .npz file."""

import hashlib
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rl_jax import networks
from rl_jax.errors import UsageError
from rl_jax.run import earlier, evaluation
from rl_jax.run.measures import Pair, Study
from rl_jax.run.split import SHARES, Share, every_fifth

RESERVED = (
    *("label", "split", "index", "path"),
    *("factors", "factor_names", "class_names"),
)
_MOST_LABELS = 2**20
_HEADLINES = ("h", "features", "embeddings", "x")


class Features(NamedTuple):
    """What an .npz file of features holds.

    Attributes:
      study: its arrays in two parts.
      index: int [m], which examples are scored: those of `index`, else rows.
      note: how the parts came about.
    """

    study: Study
    index: np.ndarray
    note: str


def evaluate_features(
    path: pathlib.Path,
    output: pathlib.Path,
    *,
    skip: Iterable[str] = (),
    shares: Sequence[Share] = SHARES,
    say: Callable[[str], None] = print,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluates arrays as `evaluate_run` does a run, apart from what needs a network.

    The file, as `rl-jax embed` writes it, or `numpy.savez`:

    - one or more representations, float [n, D], under names of your own. The headline
      is `h`, else `features`, `embeddings` or `x`, else the first.
    - `label` int [n], −1 where unknown; without it nothing is probed.
    - `split` int [n], 0 to learn from and 1 to score; without it every fifth example of
      each class is scored.
    - `index` int [n], the number of each example in its part, as `rl-jax embed` writes
      it: examples of equal numbers are compared with those of runs and of other files.
      Without it rows are numbered as they stand in the file.
    - `factors` [n, F], the true factors, and `factor_names` str [F]. Integers are taken
      by their values, floating ones in bins where a score counts.
    - `class_names` str [C].
    - `NAME_view` float [n, D]: NAME of another view of the same examples, for
      alignment, uniformity and the cosines of pairs.
    - `layerI` float [n, D]: layers of the encoder, in order.

    Args:
      path: of the file.
      output: folder for `evaluation.json` and `predictions.npz`; made if need be.
      skip, shares, say, poll: as in `evaluate_run`.

    Returns:
      What was written.

    Raises:
      UsageError: for a file or arrays that are not such.
    """
    skip = evaluation.checked_sections(skip)
    found = read_features(path)
    study = found.study
    arrays = study.representations | study.layers
    say(f"evaluating {', '.join(study.representations)} of {path}")
    result: dict[str, Any] = {
        "format": evaluation.FORMAT,
        "step": 0,
        "features": {
            "file": str(path),
            "arrays": {
                name: [len(pair.fit) + len(pair.scored), pair.fit.shape[1]]
                for name, pair in arrays.items()
            },
        },
        "checkpoint": {"headline": study.headline},
        "evaluated": f"{path.name}; {found.note}",
        "problems": {},
        "held_out": {},
    }
    result |= evaluation.first_look(study)
    measured, predictions = evaluation.measure(
        study, skip=skip, shares=shares, say=say, poll=poll
    )
    result |= measured
    result["origin"] = earlier.origin(_digest(path))
    result = earlier.with_earlier(output, result, skip=skip)
    output.mkdir(parents=True, exist_ok=True)
    evaluation.write(output, result, predictions, study, found.index)
    return result


def read_features(path: pathlib.Path) -> Features:
    """Reads and checks the file that `evaluate_features` describes."""
    arrays = _load(path)
    views = {k.removesuffix("_view"): k for k in arrays if k.endswith("_view")}
    names = [k for k in arrays if k not in RESERVED and k not in views.values()]
    if not names:
        raise UsageError(
            f"{path} holds no representation; expected float arrays [n, D] beside "
            f"{', '.join(RESERVED)}, got {', '.join(arrays) or 'nothing'}"
        )
    n = len(arrays[names[0]]) if arrays[names[0]].ndim else 0
    for name in [
        *names,
        *views.values(),
        *(["factors"] if "factors" in arrays else []),
    ]:
        arrays[name] = _matrix(path, name, arrays[name], n)
    for base, name in views.items():
        if base not in names or arrays[base].shape != arrays[name].shape:
            raise UsageError(
                f"{path}: {name} must have the shape of {base}, which it is a view of"
            )
    labels = _integers(path, "label", arrays.get("label", np.full(n, -1)), n)
    scored, note = _scored(path, arrays, labels, n)

    def pair(x):
        return Pair(x[~scored], x[scored])

    first = next((k for k in _HEADLINES if k in names), None)
    layers = networks.in_order(names)
    kept = [k for k in names if k not in layers] or names
    first = first if first in kept else kept[0]
    kept.sort(key=lambda k: k != first)
    names_of = _words(path, arrays, "factor_names")
    if names_of and len(names_of) != arrays.get("factors", np.zeros((0, 0))).shape[1]:
        raise UsageError(
            f"{path}: factor_names must be one for each column of factors, got "
            f"{len(names_of)}"
        )
    study = Study(
        representations={k: pair(arrays[k]) for k in kept},
        labels=pair(labels),
        headline=first,
        classes=_words(path, arrays, "class_names"),
        titles={k: k for k in kept},
        baselines=tuple(k for k in ("random", "raw") if k in kept),
        layers={k: pair(arrays[k]) for k in layers if k not in kept},
        views={k: (arrays[k][scored], arrays[v][scored]) for k, v in views.items()},
        factors=pair(arrays["factors"]) if "factors" in arrays else None,
        factor_names=names_of,
    )
    return Features(study, _numbers(path, arrays, scored), note)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                return {"features": file}
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name an .npz file") from None
    except IsADirectoryError:
        raise UsageError(
            f"{path} is a folder, no .npz file; leave --features out for a run"
        ) from None
    except Exception as error:
        # What NumPy says of other files is of pickles, which are never read here.
        why = "" if isinstance(error, ValueError) else f": {error}"
        raise UsageError(
            f"{path} is no .npz file of plain arrays{why}; write it with numpy.savez, "
            "or with rl-jax embed"
        ) from None


def _matrix(path, name: str, x: np.ndarray, n: int) -> np.ndarray:
    if x.ndim != 2 or len(x) != n or not x.size or x.dtype.kind not in "fiu":
        raise UsageError(
            f"{path}: {name} must be numbers [{n}, D], got {x.dtype} {x.shape}"
        )
    if name == "factors" and x.dtype.kind in "iu":
        return x.astype(np.int64)
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise UsageError(
            f"{path}: {name} holds NaN or inf in {bad.sum()} of {n} rows, first in row "
            f"{bad.argmax()}; the encoder has diverged, or leave these rows out"
        )
    return x


def _integers(path, name: str, x: np.ndarray, n: int) -> np.ndarray:
    whole = x.dtype.kind in "iu" or (x.dtype.kind == "f" and (x == np.floor(x)).all())
    if x.shape != (n,) or not whole or (x < -1).any() or (x >= _MOST_LABELS).any():
        raise UsageError(
            f"{path}: {name} must be whole numbers [{n}] below {_MOST_LABELS:,}, -1 "
            f"where unknown, got {x.dtype} {x.shape}"
        )
    return x.astype(np.int32)


def _scored(path, arrays, labels: np.ndarray, n: int) -> tuple[np.ndarray, str]:
    """Which rows are scored, and why those."""
    if "split" in arrays:
        split = _integers(path, "split", arrays["split"], n)
        counts = [int((split == side).sum()) for side in (0, 1)]
        if sum(counts) != n or not all(counts):
            raise UsageError(
                f"{path}: split must be 0 (to learn from) or 1 (to score) with both "
                f"present, got {sorted(set(split.tolist()))[:5]}"
            )
        return split == 1, "the parts are those of the file"
    scored = every_fifth(labels)
    if not scored.any() or scored.all():
        raise UsageError(
            f"{path}: {n} rows are too few to score some of them; it takes two of a "
            "class, or a `split`"
        )
    return scored, "no `split` in the file: every fifth example of a class is scored"


def _numbers(path, arrays, scored: np.ndarray) -> np.ndarray:
    """By what numbers the scored examples are known."""
    if "index" not in arrays:
        return np.flatnonzero(scored)
    index = arrays["index"]
    if index.shape != scored.shape or index.dtype.kind not in "iu":
        raise UsageError(
            f"{path}: index must be integers [{len(scored)}], got {index.dtype} "
            f"{index.shape}"
        )
    found = index[scored]
    if index.min() < 0 or len(np.unique(found)) < len(found):
        raise UsageError(
            f"{path}: index must be the number of each example in its part, from 0 and "
            "each once among those that are scored; leave it out if there are none"
        )
    return found


def _words(path, arrays, name: str) -> tuple[str, ...]:
    if name not in arrays:
        return ()
    if arrays[name].ndim != 1:
        raise UsageError(f"{path}: {name} must be one name each, [k]")
    return tuple(map(str, arrays[name]))
