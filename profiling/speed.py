"""Wall time of loss and gradient, in interleaved rounds beside every peer.

    python -m profiling.speed [--quick] [--torch-python PYTHON] [--rounds K]

NT-Xent over N = 2B views and CLIP over B pairs: the library, dense jitted JAX, optax,
dense PyTorch and pytorch-metric-learning, on the same inputs, after each agreed with
float64. Beside them the limit of the machine, from its GEMM and exp rates in this run.
"""

import contextlib
import sys
import time
from collections.abc import Sequence

import jax.numpy as jnp

from profiling import arguments, contenders, inputs, machine, results, subject, timing
from profiling.peers import PeerError, TorchPeer

TITLE = "Time of loss and gradient"
OURS, DENSE = "rl_jax", "dense JAX"
PRECISIONS = ("bf16", "bf16x3")
VIEWS, DIMS = (512, 2048, 8192, 16384), (64, 128, 512)
PAIRS, CLIP_DIM = (1024, 4096), 512
QUICK = {"views": (512, 2048), "dims": (128,), "pairs": (1024,)}
MOST_BYTES, QUICK_BYTES = 8e9, 5e8
"""Peers that form larger arrays are left out."""


def main(argv: Sequence[str] | None = None) -> None:
    """Checks, times, writes."""
    parser = arguments.Parser("speed", __doc__.split("\n")[0])
    parser.add_quick()
    parser.add_torch()
    parser.add_sizes("--views", f"N of NT-Xent, even; default {VIEWS}")
    parser.add_sizes("--dims", f"D of NT-Xent; default {DIMS}")
    parser.add_sizes("--pairs", f"B of CLIP at D = {CLIP_DIM}; default {PAIRS}")
    parser.add_argument("--rounds", type=arguments.positive, metavar="K")
    parser.add_argument(
        "--budget",
        type=arguments.positive,
        metavar="SECONDS",
        help="decides the rounds where --rounds does not; default 720, quick 60",
    )
    chosen = parser.parse_args(argv)
    default = QUICK if chosen.quick else {"views": VIEWS, "dims": DIMS, "pairs": PAIRS}
    sizes = {k: sorted(set(getattr(chosen, k) or v)) for k, v in default.items()}
    if any(n % 2 for n in sizes["views"]):
        parser.error(f"--views must be even, got {sizes['views']}")
    tasks = [
        subject.Task(subject.NT_XENT, n, d)
        for n in sizes["views"]
        for d in sizes["dims"]
    ]
    tasks += [subject.Task(subject.CLIP, b, CLIP_DIM) for b in sizes["pairs"]]
    budget = chosen.budget or (60 if chosen.quick else 720)
    result = results.new(
        "speed",
        **sizes,
        clip_dim=CLIP_DIM,
        temperature=subject.TEMPERATURE,
        dtype="float32",
        rounds=chosen.rounds,
        budget_seconds=budget,
        most_bytes=QUICK_BYTES if chosen.quick else MOST_BYTES,
    )
    out = results.folder(chosen.out)
    torch = _torch(chosen.torch_python, result)
    with torch or contextlib.nullcontext():
        try:
            measure(result, tasks, torch, rounds=chosen.rounds, budget=budget, out=out)
        except PeerError as error:
            result["notes"].append(f"Cut off while PyTorch was timed: {error}.")
    results.finish(result, out)
    wrong = [
        r for r in result["rows"] if r["error"] and r["contender"].startswith(OURS)
    ]
    if wrong:
        print(
            f"profiling.speed: {_name(wrong[0])}: {wrong[0]['error']}", file=sys.stderr
        )
        sys.exit(1)


def _torch(python: str | None, result: dict) -> TorchPeer | None:
    result["torch"] = None
    if python is None:
        note = "PyTorch was not measured: no --torch-python and no RL_JAX_TORCH_PYTHON."
        result["notes"].append(note)
        return None
    try:
        peer = TorchPeer(python)
    except PeerError as error:
        result["notes"].append(f"PyTorch was not measured: {error}.")
        return None
    result["torch"] = peer.info
    return peer


def measure(result, tasks, torch, *, rounds, budget, out) -> None:
    """Adds rows for each task, with the machine's rates read before and after."""
    share = min(6.0, budget / 20)
    shrink = 1 if share > 2 else 16
    readings = result["ceilings"] = []
    readings.append(machine.ceilings(seconds=share, shrink=shrink))
    end = time.perf_counter() + budget
    most = result["settings"]["most_bytes"]
    for k, task in enumerate(tasks):
        work = sum(t.work for t in tasks[k:])
        seconds = max(0.0, end - time.perf_counter()) * task.work / work
        result["rows"] += one_task(
            task, torch, rounds=rounds, seconds=seconds, most=most
        )
        results.save(result, out)
        print(f"{task.loss} {task.rows} x {task.dim}", file=sys.stderr)
    readings.append(machine.ceilings(seconds=share, shrink=shrink))


def one_task(
    task: subject.Task, torch: TorchPeer | None, *, rounds, seconds, most: float
) -> list[dict]:
    """Checks every contender, times those that are right: one row each."""
    start = time.perf_counter()
    a, b = inputs.pairs(task.pairs, task.dim)
    entries = jax_entries(task, a, b, most)
    if torch is not None:
        torch.load(a, b)
        entries |= torch_entries(task, torch, most)
    right = subject.exact(task, a, b)
    rows = {}
    # Where float64 is too much, dense comes first and stands in for it.
    for name in sorted(entries, key=lambda n: n != DENSE):
        rows[name], right = subject.checked(task, name, entries[name], right)
    runs = {n: e.run for n, e in entries.items() if rows[n]["error"] is None}
    seconds -= time.perf_counter() - start
    timed = timing.interleave(runs, seconds=seconds, rounds=rounds) if runs else {}
    return [rows[n] | timed.get(n, {"seconds": [], "calls": 0}) for n in entries]


def jax_entries(task: subject.Task, a, b, most: float) -> dict[str, subject.Entry]:
    """The library in every precision, dense JAX, and optax where it fits."""
    if task.loss == subject.NT_XENT:
        ours, dense = contenders.nt_xent, contenders.dense_nt_xent
    else:
        ours, dense = contenders.clip, contenders.dense_clip
    functions = {OURS: (ours(subject.TEMPERATURE), "float32")}
    functions[DENSE] = dense(subject.TEMPERATURE), "float32"
    for precision in PRECISIONS:
        function = ours(subject.TEMPERATURE, precision=precision), precision
        functions[f"{OURS} {precision}"] = function
    if task.loss == subject.NT_XENT and 4 * task.rows**2 * task.dim < most:
        functions["optax"] = contenders.optax_nt_xent(subject.TEMPERATURE), "float32"
    a, b = jnp.asarray(a), jnp.asarray(b)
    return {
        name: subject.jax_entry(function, a, b, precision)
        for name, (function, precision) in functions.items()
    }


def torch_entries(
    task: subject.Task, torch: TorchPeer, most: float
) -> dict[str, subject.Entry]:
    """Dense PyTorch, eager, and pytorch-metric-learning where it fits."""
    names = {"PyTorch": "nt_xent" if task.loss == subject.NT_XENT else "clip"}
    # It compares every positive with every negative: several arrays of N³ float32.
    fits = 16 * task.rows**3 < most
    if (
        task.loss == subject.NT_XENT
        and fits
        and "metric_learning" in torch.info["packages"]
    ):
        names["metric-learning"] = "metric_learning"
    return {
        name: subject.torch_entry(torch, loss, "float32")
        for name, loss in names.items()
    }


def tables(result: dict) -> list[str]:
    """Medians side by side, then everything."""
    ceilings = _ceilings(result)
    groups = subject.groups(result["rows"])
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    header = ["ms, median", *names, "limit", "limit/ours", "dense/ours", "PyTorch/ours"]
    rows = []
    for task, group in groups.items():
        median = {
            n: timing.summary(r["seconds"])["median"]
            for n, r in group.items()
            if r["seconds"]
        }
        limit = task.limit(ceilings)
        ours = median.get(OURS)

        def ratio(name, median=median, ours=ours):
            return f"{median[name] / ours:.2f}×" if ours and name in median else "–"

        rows.append([
            f"{task.loss} {task.rows} × {task.dim}",
            *(results.milliseconds(median.get(n)) for n in names),
            results.milliseconds(limit),
            f"{limit / ours:.2f}" if ours else "–",
            ratio(DENSE),
            ratio("PyTorch"),
        ])  # fmt: skip
    torch = result["torch"]
    told = (
        f"The limit: {ceilings['gemm'] / 1e9:.0f} GFLOP/s in float32 products and "
        f"{ceilings['exp'] / 1e9:.2f} G exponentials a second in cache, the best of "
        "this run, for what a loss that never holds the matrix must do: 4N²d FLOPs and "
        "N² exponentials in NT-Xent, 8B²d and 2B² in CLIP."
    )
    if torch:
        told += f" PyTorch {torch['torch']}, eager, {torch['threads']} threads."
    wrong = [f"- {_name(r)}: {r['error']}." for r in result["rows"] if r["error"]]
    return [
        results.table(header, rows),
        told,
        "Every measurement. GFLOP/s count 6N²d for NT-Xent and 8B²d for CLIP, whoever "
        "runs; spread is the interquartile range over the median; errors are those "
        "against float64, for more than "
        f"{subject.GATE} rows against dense JAX.",
        _all(result),
        *(["Not timed, because wrong or failed:\n\n" + "\n".join(wrong)] * bool(wrong)),
    ]


def _all(result: dict) -> str:
    header = [
        "", "contender", "median ms", "min ms", "spread", "samples × calls", "GFLOP/s",
        "temp MiB", "value error", "gradient error",
    ]  # fmt: skip
    rows = []
    for task, group in subject.groups(result["rows"]).items():
        for name, r in group.items():
            what = f"{task.loss} {task.rows} × {task.dim}"
            tail = [
                results.mebibytes(r["temp_bytes"]),
                _error(r["value_error"]),
                _error(r["gradient_error"]),
            ]
            if not r["seconds"]:
                rows.append([what, name, *["–"] * 5, *tail])
                continue
            s = timing.summary(r["seconds"])
            rows.append([
                what,
                name,
                results.milliseconds(s["median"]),
                results.milliseconds(s["min"]),
                f"{100 * s['spread']:.1f} %",
                f"{len(r['seconds'])} × {r['calls']}",
                results.significant(task.useful_flops / s["median"] / 1e9),
                *tail,
            ])  # fmt: skip
    return results.table(header, rows, text=2)


def plot(figure, result: dict) -> None:
    """Medians against N, a panel for each D, and CLIP."""
    groups = subject.groups(result["rows"])
    panels: dict[tuple, list[subject.Task]] = {}
    for task in groups:
        panels.setdefault((task.loss, task.dim), []).append(task)
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    colours = dict(zip(names, results.COLOURS, strict=False))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, ((loss, dim), tasks) in zip(axes, panels.items(), strict=True):
        sizes = [t.rows for t in tasks]
        for name in names:
            points = [
                (t.rows, 1e3 * timing.summary(groups[t][name]["seconds"])["median"])
                for t in tasks
                if name in groups[t] and groups[t][name]["seconds"]
            ]
            if points:
                ax.plot(
                    *zip(*points, strict=True),
                    marker="o",
                    color=colours[name],
                    label=name,
                )
        limits = [1e3 * t.limit(_ceilings(result)) for t in tasks]
        ax.plot(sizes, limits, color="#16191d", linestyle=":", label="limit")
        ax.set(title=f"{loss}, D = {dim}", yscale="log")
        ax.set_xlabel("N views" if loss == subject.NT_XENT else "B pairs")
        results.sizes_axis(ax.xaxis, sizes)
    axes[0].set_ylabel("ms, value and gradient")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))


def _ceilings(result: dict) -> dict[str, float]:
    readings = result["ceilings"]
    return {name: max(r[name] for r in readings) for name in ("gemm", "exp")}


def _name(row: dict) -> str:
    return f"{row['loss']} {row['rows']} × {row['dim']}, {row['contender']}"


def _error(x: float | None) -> str:
    return "–" if x is None else f"{x:.0e}"


if __name__ == "__main__":
    main()
