"""The sections of an evaluation, each read in the one shape its figure draws."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_TOO_LARGE = 1e150  # squares of larger numbers overflow; shown as not finite
_MOST_LINES = 50


class Interval(NamedTuple):
    """A number and its 95 % interval; ends are None where it is exact or unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Section(NamedTuple):
    """A part of an evaluation.

    Attributes:
      title: of its card.
      lines: sentences on what its numbers mean.
      values: in the shape of `SHAPES`; empty for a name that is not there.
    """

    title: str
    lines: list[str]
    values: dict[str, Any]


class Maybe(NamedTuple):
    """The shape of what may be absent."""

    shape: Any


# float: a number or None. [shape]: a list. {str: shape}: any names. A dict of names:
# these, numbers and intervals None where absent.
SHAPES: dict[str, dict[str, Any]] = {
    "probes": {
        "rows": [
            {
                "representation": str,
                "title": str,
                "dim": str,
                "ridge": Interval,
                "mlp": Interval,
            }
        ]
    },
    "differences": {
        "rows": [
            {
                "a": str,
                "b": str,
                "measure": str,
                "labels": str,
                "difference": float,
                "low": float,
                "high": float,
                "images": float,
            }
        ]
    },
    "layers": {"rows": [{"name": str, "dim": str, "probe": Interval, "knn": Interval}]},
    "cka": {"names": [str], "matrix": [[float]], "rows": float},
    "drift": {
        "steps": [float],
        "cka": [Interval],
        "probe": [Interval],
        "matrix": Maybe([[float]]),
    },
    "geometry": {"rows": [{"name": str, "measures": {str: Interval}}]},
    "alignment": {
        "points": [
            {
                "name": str,
                "alignment": Interval,
                "uniformity": Interval,
                "lidar": Interval,
            }
        ],
        "limit": float,
    },
    "similarity": {
        "edges": [float],
        "positive": [float],
        "negative": [float],
        "positive_mean": float,
        "negative_mean": float,
        "entropy": float,
        "max_softmax": float,
        "temperature": float,
    },
    "calibration": {
        "reliability": {
            "edges": [float],
            "confidence": [float],
            "accuracy": [float],
            "count": [float],
        },
        "ece": Interval,
        "ece_mass": Interval,
        "mce": Interval,
        "brier": Interval,
        "nll": Interval,
        "temperature": Interval,
        "after": Maybe({"ece": Interval, "nll": Interval}),
    },
    "sets": {
        "alpha": float,
        "splits": float,
        "rows": [
            {
                "kind": str,
                "coverage": Interval,
                "size": Interval,
                "class_coverage": [float],
            }
        ],
        "classes": [str],
    },
    "collapse": {
        "within": Interval,
        "equinorm": Interval,
        "equiangle": Interval,
        "angle": Interval,
        "duality": Interval,
        "nearest": Interval,
        "cosines": [[float]],
        "expected": float,
        "classes": [str],
    },
    "guarantee": {
        "rows": [
            {
                "features": str,
                "unsupervised": float,
                "supervised": float,
                "collision": float,
                "bound": Interval,
            }
        ]
    },
    "factors": {
        "rows": [{"name": str, "dim": str, "scores": {str: Interval}}],
        "r2": Maybe({"factors": [str], "h": [float]}),
    },
    "corruptions": {
        "families": {str: [str]},
        "severities": [float],
        "accuracy": {str: {str: [float]}},
        "clean": {str: float},
        "mce": Maybe({str: Interval}),
        "baseline": Maybe(str),
        "images": float,
    },
    "attacks": {
        "rows": [
            {
                "norm": str,
                "representation": str,
                "radii": [float],
                "accuracy": [float],
            }
        ],
        "masking": Maybe([str]),
        "steps": float,
        "images": float,
    },
}


def finite(value: Any) -> float | None:
    """A number that can be drawn, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -_TOO_LARGE < value < _TOO_LARGE else None


def sections(content: Any) -> dict[str, Section]:
    """The sections of an evaluation, in their order.

    Args:
      content: what stands under "sections"; None where it is absent.

    Raises:
      TypeError, ValueError: for what has not the shape of its section.
    """
    if content is None:
        return {}
    out = {}
    for name, each in _are(content, dict).items():
        lines = _shaped(_are(each, dict).get("lines", []), [str])[:_MOST_LINES]
        values: dict[str, Any] = {}
        # One that could not be measured says why, and has no more.
        if name in SHAPES and (not lines or set(each) - {"title", "lines"}):
            values = _shaped(each, SHAPES[name])
            if name in _FITS and not _FITS[name](values):
                raise ValueError(f"the lengths in section {name} do not fit together")
        out[str(name)] = Section(str(each.get("title") or name), lines, values)
    return out


def comparison(content: Any) -> dict[str, Any]:
    """What `rl_jax.run.compare` says of several runs, in the shape drawn here.

    Raises:
      TypeError, ValueError: as `sections`.
    """
    row = {"a": float, "b": float, "measure": str, "labels": str}
    row |= {"difference": float, "low": float, "high": float, "images": float}
    shape = {"runs": [str], "rows": [row], "cka": Maybe([[float]]), "notes": [str]}
    found = _shaped(content, shape)
    count = len(found["runs"])
    index = range(count)
    if not all(r["a"] in index and r["b"] in index for r in found["rows"]):
        raise ValueError("a difference of runs that are not there")
    if found["cka"] and not _square(found["cka"], count):
        raise ValueError("a CKA of runs that are not there")
    for each in found["rows"]:
        each |= {"a": int(each["a"]), "b": int(each["b"])}
    return found


def _shaped(value: Any, shape: Any) -> Any:
    if isinstance(shape, Maybe):
        return None if value is None else _shaped(value, shape.shape)
    if shape is float:
        return finite(value)
    if shape is str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError(f"expected text, got {_brief(value)}")
        return str(value)
    if shape is Interval:
        if not isinstance(value, dict):
            return Interval(finite(value))
        return Interval(*(finite(value.get(name)) for name in Interval._fields))
    if isinstance(shape, list):
        return [_shaped(item, shape[0]) for item in _are(value, list)]
    if str in shape:
        return {str(k): _shaped(v, shape[str]) for k, v in _are(value, dict).items()}
    value = _are(value, dict)
    return {name: _shaped(value.get(name), part) for name, part in shape.items()}


def _are(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected a {kind.__name__}, got {_brief(value)}")
    return value


def _brief(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def _square(matrix: Sequence[Sequence], size: int) -> bool:
    return len(matrix) == size and all(len(row) == size for row in matrix)


def _rising(values: Sequence[float | None], least: int = 2) -> bool:
    known = [v for v in values if v is not None]
    return len(known) == len(values) >= least and known == sorted(set(known))


def _reliability(values) -> bool:
    found = values["reliability"]
    bins = len(found["count"])
    each = len(found["confidence"]), len(found["accuracy"]), len(found["edges"]) - 1
    return _rising(found["edges"]) and set(each) == {bins}


def _corruptions(values) -> bool:
    names = [n for family in values["families"].values() for n in family]
    count = len(values["severities"])
    return _rising(values["severities"], 1) and all(
        len(each[name]) == count
        for each in values["accuracy"].values()
        for name in names
        if name in each
    )


_FITS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "cka": lambda v: _square(v["matrix"], len(v["names"])),
    "drift": lambda v: (
        _rising(v["steps"], 0)
        and len(v["steps"]) == len(v["cka"]) == len(v["probe"])
        and (v["matrix"] is None or _square(v["matrix"], len(v["steps"])))
    ),
    "similarity": lambda v: (
        _rising(v["edges"])
        and len(v["edges"]) - 1 == len(v["positive"]) == len(v["negative"])
    ),
    "calibration": _reliability,
    "sets": lambda v: (
        v["alpha"] is not None
        and all(len(r["class_coverage"]) == len(v["classes"]) for r in v["rows"])
    ),
    # Of many classes there are no cosines.
    "collapse": lambda v: not v["cosines"] or _square(v["cosines"], len(v["classes"])),
    "factors": lambda v: (
        v["r2"] is None or len(v["r2"]["factors"]) == len(v["r2"]["h"])
    ),
    "corruptions": _corruptions,
    "attacks": lambda v: all(
        len(r["radii"]) == len(r["accuracy"]) and _rising(r["radii"], 0)
        for r in v["rows"]
    ),
}
