"""The experiments: seconds of each, compiled and with what was compiled before.

    python -m profiling.experiments [NAME ...] [--rounds K] [--jobs N]

`rl-jax experiments` runs in a process of its own: first with an empty folder for
compiled programs (cold), then again with that folder (warm). As many experiments run at
a time as that command chooses, or `--jobs`: 1 gives the seconds of each by itself.
Seconds of an experiment are those of its `run`; its import, with all that it is the
first to import, and its figure are counted apart. What is held against the target is
the whole command: start, experiments, figures, page.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from profiling import arguments, results

TITLE = "Experiments"
TARGETS = {"cold": 150.0, "warm": 60.0}
PARTS = ("seconds", "seconds_importing", "seconds_drawing")
ROOT = pathlib.Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all or those named, cold and warm, and writes."""
    parser = arguments.Parser("experiments", __doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=arguments.positive, default=1, metavar="K")
    parser.add_argument("--jobs", type=arguments.positive, metavar="N")
    chosen = parser.parse_args(argv)
    result = results.new(
        "experiments", names=chosen.names, rounds=chosen.rounds, jobs=chosen.jobs
    )
    for round in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for state in TARGETS:
                found, wall = ran(chosen.names, pathlib.Path(folder), chosen.jobs)
                result["rows"] += rows(found, wall, state=state, round=round)
                print(f"round {round}, {state}: {wall:.1f} s", file=sys.stderr)
                note(result, found)
    results.finish(result, results.folder(chosen.out))


def ran(
    names: Sequence[str], folder: pathlib.Path, jobs: int | None = None
) -> tuple[dict, float]:
    """Runs the command; returns its file of results, and seconds of the process."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {"PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    out = folder / "out"
    command = [sys.executable, "-P", "-m", "experiments", *names, "--out", str(out)]
    command += [] if jobs is None else ["--jobs", str(jobs)]
    began = time.perf_counter()
    # What it prints is in the file of results; its errors are the command's.
    done = subprocess.run(command, env=os.environ | env, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return json.loads((out / "results.json").read_text()), wall


def rows(found: dict, wall: float, *, state: str, round: int) -> list[dict]:
    """A row for each experiment, and one of the whole process."""
    out = [
        {
            "round": round,
            "state": state,
            "name": experiment["name"],
            "passed": experiment["passed"],
            **{part: experiment[part] for part in PARTS},
        }
        for experiment in found["experiments"]
    ]
    return [*out, {"round": round, "state": state, "name": "", "wall": wall}]


def note(result: dict, found: dict) -> None:
    """Says once which did not pass: their seconds are not those of the claim."""
    for experiment in found["experiments"]:
        text = f"`{experiment['name']}` did not pass."
        if not experiment["passed"] and text not in result["notes"]:
            result["notes"].append(text)


def tables(result: dict) -> list[str]:
    """A line for each experiment, then the totals."""
    names = list(dict.fromkeys(row["name"] for row in result["rows"] if row["name"]))
    each = [
        [name, *(f"{_run(result, s, name):.1f}" for s in TARGETS)] for name in names
    ]
    sums = [
        ["all experiments", *(f"{_sum(result, s, 'seconds'):.1f}" for s in TARGETS)],
        ["imports", *(f"{_sum(result, s, PARTS[1]):.1f}" for s in TARGETS)],
        ["figures", *(f"{_sum(result, s, PARTS[2]):.1f}" for s in TARGETS)],
        ["the command", *(f"{_wall(result, s):.1f}" for s in TARGETS)],
    ]
    header = ["seconds", *TARGETS]
    said = []
    for state, target in TARGETS.items():
        total = _wall(result, state)
        verdict = "met" if total <= target else "missed"
        said.append(f"At most {target:.0f} s {state}: {verdict}, {total:.1f} s.")
    jobs = result["settings"].get("jobs")
    said.append(f"{jobs or 'As many as there are cores, up to four,'} at a time.")
    rounds = result["settings"]["rounds"]
    if rounds > 1:
        said.append(f"Medians of {rounds}.")
    return [results.table(header, each), results.table(header, sums), " ".join(said)]


def plot(figure, result: dict) -> None:
    """Seconds of each experiment, cold and warm."""
    names = list(dict.fromkeys(row["name"] for row in result["rows"] if row["name"]))
    place = np.arange(len(names))
    axes = figure.subplots()
    for k, state in enumerate(TARGETS):
        seconds = [_run(result, state, name) for name in names]
        axes.bar(place + 0.4 * k - 0.2, seconds, 0.4, label=state,
                 color=results.COLOURS[1 - k])  # fmt: skip
    axes.set_xticks(place, names, rotation=60, ha="right", fontsize=8)
    axes.set_ylabel("seconds")
    axes.legend()


def _run(result: dict, state: str, name: str) -> float:
    """Median over rounds of the seconds of one experiment."""
    return float(np.median([
        row["seconds"] for row in result["rows"]
        if (row["state"], row["name"]) == (state, name)
    ]))  # fmt: skip


def _sum(result: dict, state: str, part: str) -> float:
    """Median over rounds of the sum over experiments."""
    sums = {}
    for row in result["rows"]:
        if row["state"] == state and row["name"]:
            sums[row["round"]] = sums.get(row["round"], 0.0) + row[part]
    return float(np.median(list(sums.values())))


def _wall(result: dict, state: str) -> float:
    return float(np.median([
        row["wall"] for row in result["rows"]
        if row["state"] == state and not row["name"]
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
