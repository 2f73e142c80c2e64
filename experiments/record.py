"""An experiment run, timed and drawn, whatever becomes of it; and the file of several.

`results.json` holds all but the arrays and the figures.
"""

import datetime
import importlib
import inspect
import itertools
import json
import math
import pathlib
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from experiments import catalogue, figure
from experiments.outcome import Check, Outcome
from rl_jax import files
from rl_jax.errors import RunError

FORMAT = 1


class Record(NamedTuple):
    """What came of an experiment.

    Attributes:
      entry: what it is.
      settings: every argument of `run`, the defaults too.
      outcome: None where it raised.
      figure: an `<svg>` element, "" where there is none.
      error: one line where running or drawing raised, else "".
      seconds: of `run`.
      importing: seconds until the module was there.
      drawing: seconds of the figure.
    """

    entry: catalogue.Entry
    settings: dict[str, Any]
    outcome: Outcome | None
    figure: str
    error: str
    seconds: float
    importing: float
    drawing: float

    @property
    def passed(self) -> bool:
        """Whether every check holds, and nothing raised."""
        return not self.error and self.outcome is not None and self.outcome.passed

    @property
    def verdict(self) -> str:
        """Holds, fails or error."""
        return "error" if self.error else "holds" if self.passed else "fails"

    @property
    def correction(self) -> str:
        """How the claim must be put; "" where it holds as the text has it."""
        return "" if self.outcome is None else self.outcome.correction


def experiment(name: str, settings: Mapping[str, Any]) -> Record:
    """Runs an experiment; what it raises is recorded, not passed on.

    Args:
      name: one of `experiments.NAMES`.
      settings: arguments of its `run`; the others keep their defaults.
    """
    module, outcome, drawn, error, used = None, None, "", "", dict(settings)
    clock = [time.perf_counter()]
    try:
        module = importlib.import_module(f"experiments.{name}")
        used = defaults(module) | used
        clock.append(time.perf_counter())
        outcome = module.run(**settings)
        clock.append(time.perf_counter())
        drawn = figure.svg(module.draw, outcome)
    except Exception as raised:
        error = one_line(raised, module)
    clock.append(time.perf_counter())
    laps = [after - before for before, after in itertools.pairwise(clock)]
    importing, seconds, drawing = (*laps, 0.0, 0.0)[:3]
    return Record(
        entry=catalogue.read(name),
        settings=used,
        outcome=outcome,
        figure=drawn,
        error=error,
        seconds=seconds,
        importing=importing,
        drawing=drawing,
    )


def lost(name: str, settings: Mapping[str, Any]) -> Record:
    """The record of an experiment whose process ended before it did."""
    return Record(
        entry=catalogue.read(name),
        settings=dict(settings),
        outcome=None,
        figure="",
        error="the process in which it ran, or was to run, ended: killed, or out of "
        "memory; --jobs 1 runs one at a time",
        seconds=0.0,
        importing=0.0,
        drawing=0.0,
    )


def defaults(module: ModuleType) -> dict[str, Any]:
    """The arguments of `run` as they are where nothing is asked for."""
    parameters = inspect.signature(module.run).parameters.values()
    return {p.name: p.default for p in parameters}


def one_line(raised: Exception, module: ModuleType | None) -> str:
    """What was raised, and the line of the experiment that it came through."""
    said = " ".join(str(raised).split()) or "no message"
    kind = "" if isinstance(raised, RunError) else f"{type(raised).__name__}: "
    where = ""
    for frame in traceback.extract_tb(raised.__traceback__):
        if module is not None and frame.filename == module.__file__:
            path = pathlib.Path(frame.filename)
            where = f" (experiments/{path.name}, line {frame.lineno})"
    text = f"{kind}{said}"
    return f"{text[:300]}{'…' if len(text) > 300 else ''}{where}"


def digits(check: Check) -> tuple[str, str, str]:
    """Found, expected and tolerance as text, to the digit that decides."""
    found, expected, tolerance = check.found, check.expected, check.tolerance
    count = 4
    if check.relation == "=" and expected and 0 < tolerance < math.inf:
        size = min(max(abs(expected) / tolerance, 10.0), 1e7)
        count = 2 + math.ceil(math.log10(size))
    return (
        _short(found, count),
        _short(expected, max(count, 6)),
        _short(tolerance, 3) if tolerance else "",
    )


def _short(value: float, count: int) -> str:
    """So many significant digits, 1e-6 for 1e-06."""
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{value:.{count}g}")


def environment() -> dict[str, Any]:
    """Versions and device, as they stand in the file."""
    from rl_jax.run.environment import environment as found

    versions = found()
    device, platform = versions.pop("devices"), versions.pop("platform")
    return {"versions": versions, "device": device, "platform": platform}


def document(
    records: Sequence[Record], asked: Sequence[str], where: Mapping[str, Any]
) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
      records: those there are so far.
      asked: the names of all that were to run.
      where: versions and device.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "format": FORMAT,
        "date": now.isoformat(timespec="seconds"),
        **where,
        "asked": list(asked),
        "experiments": [_written(record) for record in records],
    }


def write(document: dict[str, Any], path: pathlib.Path) -> None:
    """Writes the file; a reader never sees half of it."""
    text = json.dumps(
        _plain(document), indent=1, ensure_ascii=False, allow_nan=False, default=str
    )
    replace(path, text)


def replace(path: pathlib.Path, text: str) -> None:
    """Puts a text in the place of a file, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, f"{text}\n")


def _written(record: Record) -> dict[str, Any]:
    outcome = record.outcome
    return {
        "name": record.entry.name,
        "section": record.entry.section,
        "title": record.entry.title,
        "claim": record.entry.claim,
        "passed": record.passed,
        "error": record.error,
        "checks": [
            {**check._asdict(), "passed": check.passed}
            for check in (outcome.checks if outcome else ())
        ],
        "said": outcome.said if outcome else "",
        "correction": record.correction,
        "seconds": round(record.seconds, 3),
        "seconds_importing": round(record.importing, 3),
        "seconds_drawing": round(record.drawing, 3),
        "settings": record.settings,
    }


def _plain(value: Any) -> Any:
    """The same with null for the numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
