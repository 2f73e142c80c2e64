"""Nearest rows of a bank: time and memory beside the dense matrix and scikit-learn.

    python -m profiling.top_k [--quick | --all] [--rounds K]

The k largest inner products of Q unit queries with a bank of n unit rows, by
`pairwise.top_k`, by `jax.lax.top_k` on the whole matrix and by scikit-learn's
`NearestNeighbors` (brute force), in interleaved rounds, after their scores agreed with
float64.
"""

import importlib.metadata
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from profiling import arguments, inputs, results, timing
from rl_jax import pairwise

TITLE = "Nearest rows of a bank"
OURS, DENSE, SKLEARN = "rl_jax", "dense JAX", "scikit-learn"
CHECKED_QUERIES = 64
TOLERANCE = 1e-5


class Task(NamedTuple):
    """Sizes: bank rows, queries, width, neighbours."""

    bank: int
    queries: int
    dim: int
    k: int


ALL = tuple(
    Task(n, q, d, k)
    for n, q, d, k in itertools.product(
        (10_000, 50_000), (1_000, 10_000), (128, 512), (20, 200)
    )
)
DEFAULT = (
    Task(10_000, 1_000, 128, 20),
    Task(50_000, 1_000, 128, 20),
    Task(50_000, 1_000, 128, 200),
    Task(50_000, 1_000, 512, 200),
    Task(50_000, 10_000, 128, 20),
    Task(50_000, 10_000, 128, 200),
)
QUICK = DEFAULT[:2]


def main(argv: Sequence[str] | None = None) -> None:
    """Checks, times, writes."""
    parser = arguments.Parser("top_k", __doc__.split("\n")[0])
    parser.add_quick()
    parser.add_argument("--all", action="store_true", help="all 16 sizes")
    parser.add_argument(
        "--sizes",
        type=arguments.positive,
        nargs=4,
        action="append",
        metavar=("BANK", "QUERIES", "DIM", "K"),
        help="one size; may be given again",
    )
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--budget",
        type=arguments.positive,
        metavar="SECONDS",
        help="decides the rounds where --rounds does not; default 300, quick 30",
    )
    chosen = parser.parse_args(argv)
    tasks = QUICK if chosen.quick else ALL if chosen.all else DEFAULT
    if chosen.sizes:
        tasks = [Task(*size) for size in chosen.sizes]
    for task in tasks:
        if task.k > task.bank:
            parser.error(f"K must be at most the size of the bank, got {task}")
    budget = chosen.budget or (30 if chosen.quick else 300)
    result = results.new(
        "top_k", rounds=chosen.rounds, budget_seconds=budget, dtype="float32"
    )
    out = results.folder(chosen.out)
    measure(result, tasks, rounds=chosen.rounds, budget=budget, out=out)
    results.finish(result, out)
    wrong = [r for r in result["rows"] if not r["error"] <= TOLERANCE]
    if wrong:
        print(f"profiling.top_k: wrong scores: {wrong[0]}", file=sys.stderr)
        sys.exit(1)


def measure(result: dict, tasks: Sequence[Task], *, rounds, budget, out) -> None:
    """Adds a row for each task and contender."""
    try:
        result["machine"]["versions"][SKLEARN] = importlib.metadata.version(SKLEARN)
    except importlib.metadata.PackageNotFoundError:
        result["notes"].append("scikit-learn is not installed: not measured.")
    end = time.perf_counter() + budget
    for k, task in enumerate(tasks):
        work = [t.bank * t.queries * (t.dim + 200) for t in tasks[k:]]
        start = time.perf_counter()
        seconds = max(0.0, end - start) * work[0] / sum(work)
        query, bank = data(task)
        runs, plans = contenders(task, query, bank, SKLEARN in _versions(result))
        errors = {
            n: score_error(search(), query, bank, task)
            for n, (search, _) in runs.items()
        }
        seconds -= time.perf_counter() - start
        right = {n: run for n, (_, run) in runs.items() if errors[n] <= TOLERANCE}
        timed = timing.interleave(right, seconds=seconds, rounds=rounds)
        for name in runs:
            row = task._asdict() | {"contender": name, "error": errors[name]}
            row |= {"temp_bytes": plans.get(name)}
            result["rows"].append(row | timed.get(name, {"seconds": [], "calls": 0}))
        results.save(result, out)
        print(_name(task), file=sys.stderr)


def data(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Unit queries that are noisy rows of the bank, and the bank of unit rows."""
    rng = np.random.default_rng(0)
    bank = inputs.unit(rng.standard_normal((task.bank, task.dim), np.float32))
    rows = rng.integers(0, task.bank, task.queries)
    noise = rng.standard_normal((task.queries, task.dim), np.float32) / task.dim**0.5
    return inputs.unit(bank[rows] + noise), bank


def contenders(task: Task, query, bank, with_sklearn: bool):
    """`{name: (search, timed)}` and the temporary bytes of those that are compiled.

    `search()` returns the scores [Q, k] in decreasing order.
    """
    runs: dict[str, tuple[Callable, timing.Contender]] = {}
    plans = {}

    def ours(query, bank):
        return pairwise.top_k(query, bank, k=task.k)

    def dense(query, bank):
        scores = jnp.dot(query, bank.T, precision=lax.Precision.HIGHEST)
        return lax.top_k(scores, task.k)

    arrays = jnp.asarray(query), jnp.asarray(bank)
    for name, function in ((OURS, ours), (DENSE, dense)):
        step = jax.jit(function)
        plan = step.lower(*arrays).compile().memory_analysis()
        plans[name] = plan.temp_size_in_bytes
        search = lambda step=step: np.asarray(step(*arrays)[0])  # noqa: E731
        runs[name] = search, timing.jax_contender(step, *arrays)
    if with_sklearn:
        runs[SKLEARN] = _sklearn(task, query, bank)
    return runs, plans


def _sklearn(task: Task, query, bank):
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=task.k, algorithm="brute").fit(bank)

    def search():
        distance, _ = index.kneighbors(query)
        return 1 - np.square(distance) / 2  # of unit rows

    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            index.kneighbors(query)
        return (time.perf_counter() - start) / calls

    return search, run


def score_error(found, query, bank, task: Task) -> float:
    """Largest difference from the float64 scores of some of the queries."""
    some = np.linspace(0, task.queries - 1, min(CHECKED_QUERIES, task.queries)).astype(
        int
    )
    scores = query[some].astype(np.float64) @ bank.T.astype(np.float64)
    expected = -np.partition(-scores, task.k - 1, axis=1)[:, : task.k]
    return float(np.abs(found[some] - -np.sort(-expected, axis=1)).max())


def tables(result: dict) -> list[str]:
    """Medians and memory side by side, then every contender's spread."""
    groups = _groups(result["rows"])
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    header = ["ms, median (± spread)", *names, "rl_jax temp MiB", "dense temp MiB"]
    rows = []
    for task, group in groups.items():
        cells = []
        for name in names:
            if not group[name]["seconds"]:
                cells.append("wrong")
                continue
            s = timing.summary(group[name]["seconds"])
            cells.append(
                f"{results.milliseconds(s['median'])} ± {100 * s['spread']:.0f} %"
            )
        temp = [results.mebibytes(group[n]["temp_bytes"]) for n in (OURS, DENSE)]
        rows.append([_name(task), *cells, *temp])
    least = min(len(r["seconds"]) for r in result["rows"] if r["seconds"])
    told = (
        "Scores of all agree with float64 to "
        f"{max(r['error'] for r in result['rows']):.0e}. Spread: interquartile range "
        f"over median, of at least {least} samples; minima and all samples are in the "
        "JSON. scikit-learn sorts by distance, of which its time includes the root."
    )
    return [results.table(header, rows), told]


def plot(figure, result: dict) -> None:
    """Dots on a line for each size: time, and temporary memory."""
    groups = _groups(result["rows"])
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    left, right = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(groups))[::-1]
    for name, colour in zip(names, results.COLOURS, strict=False):
        group = [g[name] for g in groups.values()]
        style = {"marker": "o", "linestyle": "", "color": colour, "markersize": 7}
        times = [
            1e3 * timing.summary(r["seconds"])["median"] if r["seconds"] else None
            for r in group
        ]
        left.plot(times, place, label=name, **style)
        if group[0]["temp_bytes"] is not None:
            right.plot([r["temp_bytes"] / 2**20 for r in group], place, **style)
    left.set_xlabel("ms")
    right.set_xlabel("temporary MiB")
    left.set_yticks(place, [_name(t) for t in groups])
    left.set_ylim(-0.5, len(groups) - 0.5)
    for ax in (left, right):
        results.decades(ax.xaxis)
    figure.legend(loc="outside upper left", ncols=len(names))


def _groups(rows: Sequence[dict]) -> dict[Task, dict[str, dict]]:
    out: dict[Task, dict[str, dict]] = {}
    for row in rows:
        task = Task(row["bank"], row["queries"], row["dim"], row["k"])
        out.setdefault(task, {})[row["contender"]] = row
    return out


def _name(task: Task) -> str:
    return f"n {task.bank:,}, Q {task.queries:,}, D {task.dim}, k {task.k}"


def _versions(result: dict) -> dict:
    return result["machine"]["versions"]


if __name__ == "__main__":
    main()
