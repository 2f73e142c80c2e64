"""The whole evaluation of a run: seconds of each section.

    python -m profiling.sections [RUN] [--rounds K]

A run of digits is trained for 20 steps where none is named. It is evaluated several
times in one process, as `rl-jax evaluate` does. The first time compiles; the others use
what was compiled, but for the few programs that each loading of a run makes anew.
"""

import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from profiling import arguments, results
from rl_jax.cli import main as rl_jax
from rl_jax.run import evaluation

TITLE = "Evaluation of a run"
TARGET = 60.0
FIRST = "first"


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluates, writes."""
    parser = arguments.Parser("sections", __doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path, nargs="?", metavar="RUN")
    parser.add_argument("--rounds", type=arguments.positive, default=3, metavar="K")
    parser.add_argument("--skip", nargs="*", default=(), help="sections to leave out")
    chosen = parser.parse_args(argv)
    result = results.new("sections", rounds=chosen.rounds, skip=list(chosen.skip))
    with tempfile.TemporaryDirectory() as folder:
        run = chosen.run or trained(pathlib.Path(folder) / "run")
        for round in range(1 + chosen.rounds):
            for name, seconds in evaluated(run, chosen.skip).items():
                row = {"round": round, "section": name, "seconds": seconds}
                result["rows"].append(row)
            print(f"round {round}", file=sys.stderr)
    results.finish(result, results.folder(chosen.out))


def trained(folder: pathlib.Path) -> pathlib.Path:
    """A short run of SimCLR on digits."""
    options = ("--steps", "20", "--run-dir", str(folder), "--no-evaluate")
    rl_jax(["pretrain", "simclr", "--data", "digits", *options])
    return folder


def evaluated(run: pathlib.Path, skip: Sequence[str]) -> dict[str, float]:
    """Seconds between one line of progress and the next, by the first word."""
    began, now, seconds = time.perf_counter(), "loading", {}

    def say(line: str) -> None:
        nonlocal began, now
        seconds[now] = seconds.get(now, 0.0) + time.perf_counter() - began
        began, now = time.perf_counter(), line.split()[0].strip(":")

    evaluation.evaluate_run(run, skip=skip, say=say)
    say("done")
    return seconds


def tables(result: dict) -> list[str]:
    """A line for each section, and their sum."""
    first, later = _seconds(result)
    rows = [
        [name, f"{first[name]:.1f}", f"{np.median(values):.1f}"]
        for name, values in later.items()
    ]
    total = float(np.sum([np.median(values) for values in later.values()]))
    rows.append(["all", f"{sum(first.values()):.1f}", f"{total:.1f}"])
    verdict = "met" if total <= TARGET else "missed"
    return [
        results.table(["seconds", "first time", "again"], rows),
        f"At most {TARGET:.0f} s apart from compilation: {verdict}, {total:.1f} s. "
        "Medians.",
    ]


def plot(figure, result: dict) -> None:
    """Seconds of each section, the second time on."""
    _, later = _seconds(result)
    axes = figure.subplots()
    place = np.arange(len(later))
    axes.barh(place, [float(np.median(v)) for v in later.values()], 0.7)
    axes.set_yticks(place, list(later))
    axes.invert_yaxis()
    axes.set_xlabel("seconds apart from compilation")


def _seconds(result: dict) -> tuple[dict[str, float], dict[str, list[float]]]:
    first, later = {}, {}
    for row in result["rows"]:
        if row["round"]:
            later.setdefault(row["section"], []).append(row["seconds"])
        else:
            first[row["section"]] = row["seconds"]
    return first, later


if __name__ == "__main__":
    main()
