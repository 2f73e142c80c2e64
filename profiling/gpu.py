"""One GPU: its ceilings, NT-Xent beside dense JAX and PyTorch, a SimCLR step.

    python -m profiling.gpu [--budget SECONDS] [--torch-python PYTHON] [--tiny]

Sections in order of what should not be lost: ceilings, a check against float64, NT-Xent
up to 64k views, the SimCLR step, NT-Xent up to 1M views. The JSON is written after each
measurement; what the budget does not allow is skipped and named. A time is that of
queued calls waited for together, over their number: launches overlap with work.
"""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from profiling import arguments, contenders, inputs, results, step, subject, timing
from profiling.peers import TorchPeer
from profiling.session import Bench, memory_limit, start_torch
from profiling.subject import TEMPERATURE, Task

TITLE = "One GPU"
OURS, DENSE = "rl_jax", "dense JAX"
SIZES = {
    "small": (8192, 65536),
    "large": (262144, 1048576),
    "dims": (128, 512),
    "checked": (2048, 128),
}
TINY = {"small": (64, 128), "large": (256,), "dims": (16,), "checked": (32, 16)}
GEMM_SHAPES = ((8192, 8192, 8192), (16384, 512, 16384), (65536, 128, 8192))
MOST_MEMORY = 0.8
"""Share of the card that a dense contender may plan."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measures until done or out of budget."""
    parser = arguments.Parser("gpu", __doc__.split("\n")[0])
    parser.add_torch()
    parser.add_argument(
        "--budget", type=arguments.positive, default=420, metavar="SECONDS"
    )
    parser.add_argument("--tiny", action="store_true", help="a trial, also on CPU")
    chosen = parser.parse_args(argv)
    # PyTorch's process needs its share of the card; jax reads this at its first array.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if jax.default_backend() == "cpu" and not chosen.tiny:
        parser.error("there is no GPU here; --tiny tries the script out")
    out = chosen.out
    if out is None and os.environ.get("OUT"):
        out = pathlib.Path(os.environ["OUT"])
    result = results.new(
        "gpu", temperature=TEMPERATURE, budget_seconds=chosen.budget, tiny=chosen.tiny
    )
    result |= {"ceilings": [], "training": [], "skipped": [], "torch": None}
    if chosen.tiny:
        result["notes"].append(
            "A trial of the script on tiny sizes: figures of no use."
        )
    bench = Bench(result, results.folder(out), chosen.budget)
    with contextlib.ExitStack() as stack:
        torch = start_torch(chosen.torch_python, result, stack)
        measure(bench, torch, TINY if chosen.tiny else SIZES, tiny=chosen.tiny)
    results.finish(result, bench.out)


def measure(bench: Bench, torch: TorchPeer | None, sizes: dict, *, tiny: bool) -> None:
    """All sections in order."""
    shrink = 32 if tiny else 1
    for name, section in (
        ("products", lambda: products(bench.result, shrink)),
        ("elementwise", lambda: elementwise(bench.result, shrink)),
    ):
        bench.attempt(name, section)
    rounds = 2 if tiny else None
    losses(bench, torch, sizes["checked"], rounds=rounds)
    for n in sizes["small"]:
        for dim in sizes["dims"]:
            losses(bench, torch, (n, dim), rounds=rounds)
    for dtype in ("bfloat16", "float32"):
        bench.attempt(
            f"SimCLR step, {dtype}",
            functools.partial(training, bench.result, dtype, tiny),
            needs=0 if tiny else 40,
        )
    for n in sizes["large"]:
        for dim in sizes["dims"]:
            losses(bench, None, (n, dim), last=n // 4, rounds=2)


def products(result: dict, shrink: int) -> None:
    """TFLOP/s of products in bf16, TF32 and float32; outputs bf16, float32, float32."""
    kinds = {
        "bf16": (jnp.bfloat16, lax.Precision.DEFAULT),
        "tf32": (jnp.float32, lax.Precision.DEFAULT),
        "float32": (jnp.float32, lax.Precision.HIGHEST),
    }
    rng = np.random.default_rng(0)
    for shape in GEMM_SHAPES:
        n, k, m = (max(8, size // shrink) for size in shape)
        a, b = (rng.standard_normal(s, np.float32) for s in ((n, k), (k, m)))
        for kind, (dtype, precision) in kinds.items():
            f = jax.jit(functools.partial(jnp.dot, precision=precision))
            row = _ceiling(shrink, f, jnp.asarray(a, dtype), jnp.asarray(b, dtype))
            rate = 2 * n * k * m / row["median"]
            row |= {"what": "product", "kind": kind, "shape": [n, k, m], "rate": rate}
            result["ceilings"].append(row)


def elementwise(result: dict, shrink: int, *, exps: int = 64) -> None:
    """Exponentials a second, bytes moved a second, and the time of an empty launch."""

    def powers(x):
        for _ in range(exps):
            x = jnp.exp2(x) - 1.5  # stays in [-1.2, -0.5]
        return x

    x = jnp.linspace(-1.0, 0.0, 2**24 // shrink**2, dtype=jnp.float32)
    big = jnp.linspace(-1.0, 0.0, 2**28 // shrink**2, dtype=jnp.float32)
    step = jax.jit(lambda x: x + 1)
    for what, f, array, count in (
        ("exp2", jax.jit(powers), x, exps * x.size),
        ("copy", step, big, 2 * big.nbytes),
        ("launch", step, jnp.zeros(8), 1),
    ):
        row = _ceiling(shrink, f, array)
        row |= {"what": what, "kind": "float32", "shape": [array.size]}
        result["ceilings"].append(row | {"rate": count / row["median"]})


def _ceiling(shrink: int, f, *args) -> dict:
    run = timing.jax_contender(f, *args, queued=True)
    run(1)
    (timed,) = timing.interleave({"": run}, seconds=2 / shrink, pause=0).values()
    return timed | timing.summary(timed["seconds"])


def losses(bench: Bench, torch, size, *, rounds, last: int | None = None) -> None:
    """NT-Xent at one size: every contender that fits, in interleaved rounds.

    Args:
      bench: the result.
      torch: PyTorch's process, None: without it.
      size: N and D.
      rounds: None: as many as fit into 8 s.
      last: the next smaller N; its times tell what this size will need.
    """
    task = Task("NT-Xent", *size)
    needs = 0.0
    if last is not None:
        before = subject.groups(bench.result["rows"]).get(
            Task("NT-Xent", last, size[1])
        )
        times = [r["seconds"] for n, r in (before or {}).items() if n.startswith(OURS)]
        # One call to check, one to learn how long it takes, two to record; and inputs.
        needs = sum(4 * (task.rows / last) ** 2 * min(t) for t in times if t)
        needs += task.rows * task.dim / 3e7
    bench.attempt(
        f"NT-Xent {task.rows} x {task.dim}",
        lambda: one_size(bench, task, torch, rounds),
        needs=needs,
    )


def one_size(bench: Bench, task: Task, torch, rounds: int | None) -> None:
    """Checks every contender, then times those that are right."""
    a, b = inputs.pairs(task.pairs, task.dim)
    right = subject.exact(task, a, b)
    if torch is not None:
        torch.load(a, b)
    limit = MOST_MEMORY * memory_limit()
    rows, runs = {}, {}
    for name, make in candidates(jnp.asarray(a), jnp.asarray(b), torch).items():
        entry = make()
        if (entry.temp_bytes or 0) > limit:
            what = f"NT-Xent {task.rows} x {task.dim}, {name}"
            reason = f"plans {results.size_text(entry.temp_bytes)}iB of temporaries"
            bench.result["skipped"].append({"what": what, "reason": reason})
            continue
        rows[name], right = subject.checked(task, name, entry, right)
        if rows[name]["error"] is None:
            runs[name] = entry.run
    timed = timing.interleave(runs, seconds=8, rounds=rounds) if runs else {}
    for name, row in rows.items():
        bench.result["rows"].append(row | timed.get(name, {"seconds": [], "calls": 0}))


def candidates(a, b, torch) -> dict[str, Callable[[], subject.Entry]]:
    """What compiles each contender; ours comes first, the others are held against it.

    Float32 products are TF32 on a GPU, XLA's and, as set there, PyTorch's.
    """
    single = "float32" if jax.default_backend() == "cpu" else "tf32"
    functions = {
        OURS: (contenders.nt_xent(TEMPERATURE), single),
        f"{OURS} bf16": (contenders.nt_xent(TEMPERATURE, precision="bf16"), "bf16"),
        DENSE: (contenders.dense_nt_xent(TEMPERATURE), single),
        f"{DENSE} bf16": (
            contenders.dense_nt_xent(TEMPERATURE, dtype=jnp.bfloat16),
            "bf16",
        ),
    }
    made: dict[str, Callable[[], subject.Entry]] = {
        name: functools.partial(subject.jax_entry, f, a, b, precision, queued=True)
        for name, (f, precision) in functions.items()
    }
    if torch is None:
        return made
    for compiled in (False, True):
        for dtype, precision in (("float32", single), ("bfloat16", "bf16")):
            name = "PyTorch compiled" if compiled else "PyTorch"
            made[name + " bf16" * (precision == "bf16")] = functools.partial(
                subject.torch_entry,
                torch,
                "nt_xent",
                precision,
                dtype=dtype,
                compile=compiled,
            )
    return made


def training(result: dict, dtype: str, tiny: bool) -> None:
    """Images a second of the SimCLR step, and the share of the augmentation."""
    config = (step.TINY if tiny else step.CONFIGS)[0]._replace(dtype=dtype)
    row = step.measured(
        config,
        stages=(step.STEP, step.AUGMENT),
        seconds=20,
        rounds=2 if tiny else None,
    )
    result["training"].append(row)
    for name, reason in row.pop("skipped").items():
        what = f"SimCLR step, {dtype}, {name}"
        result["skipped"].append({"what": what, "reason": reason})


def tables(result: dict) -> list[str]:
    """Ceilings, losses, training, and what was skipped."""
    out = []
    if result["ceilings"]:
        header = ["ceiling", "", "rate", "median ms", "min ms", "spread"]
        rows = []
        for row in result["ceilings"]:
            shape = " × ".join(map(str, row["shape"]))
            rows.append([
                f"{row['what']} {row['kind']}", shape, _rate(row),
                *_times(timing.summary(row["seconds"])),
            ])  # fmt: skip
        out.append(results.table(header, rows, text=2))
    if result["rows"]:
        out += ["NT-Xent, value and gradient:", _losses_table(result)]
    if result["training"]:
        out += ["SimCLR step, data on the device:", step.table(result["training"])]
    if result["skipped"]:
        skipped = [f"- {s['what']}: {s['reason']}" for s in result["skipped"]]
        out.append("Skipped:\n\n" + "\n".join(skipped))
    return out


def _losses_table(result: dict) -> str:
    header = [
        "", "contender", "median ms", "min ms", "spread", "samples × calls",
        "TFLOP/s of 6N²d", "floor / time", "temp", "value error", "gradient error",
    ]  # fmt: skip
    rows = []
    for task, group in subject.groups(result["rows"]).items():
        floor = _floor(result, task)
        for name, r in group.items():
            temp = results.size_text(r["temp_bytes"])
            errors = [_error(r["value_error"]), _error(r["gradient_error"])]
            times = ["–"] * 6
            if r["error"]:
                times[0] = "wrong" if r["value_error"] is not None else "failed"
            elif r["seconds"]:
                s = timing.summary(r["seconds"])
                rate = task.useful_flops / s["median"] / 1e12
                times = [
                    *_times(s),
                    f"{len(r['seconds'])} × {r['calls']}",
                    results.significant(rate),
                    f"{floor / s['median']:.2f}" if floor else "–",
                ]
            what = f"{results.size_name(task.rows)} × {task.dim}"
            rows.append([what, name, *times, temp, *errors])
    return results.table(header, rows, text=2)


def _floor(result: dict, task: Task) -> float | None:
    """Seconds if bf16 products and exponentials overlapped perfectly: max of both."""
    rates = {
        what: max((r["rate"] for r in result["ceilings"] if keep(r)), default=None)
        for what, keep in (
            ("gemm", lambda r: r["what"] == "product" and r["kind"] == "bf16"),
            ("exp", lambda r: r["what"] == "exp2"),
        )
    }
    if None in rates.values():
        return None
    return max(task.flops / rates["gemm"], task.exps / rates["exp"])


def _rate(row: dict) -> str:
    if row["what"] == "launch":
        return f"{1e6 / row['rate']:.1f} µs each"
    scale, unit = {
        "product": (1e12, "TFLOP/s"),
        "exp2": (1e12, "T exp/s"),
        "copy": (1e12, "TB/s"),
    }[row["what"]]
    return f"{results.significant(row['rate'] / scale)} {unit}"


def _times(summary: dict) -> list[str]:
    return [
        results.milliseconds(summary["median"]),
        results.milliseconds(summary["min"]),
        f"{100 * summary['spread']:.1f} %",
    ]


def _error(x: float | None) -> str:
    return "–" if x is None else f"{x:.0e}"


def plot(figure, result: dict) -> None:
    """NT-Xent medians against N, a panel for each D."""
    groups = subject.groups(result["rows"])
    dims = sorted({t.dim for t in groups}) or [0]
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    colours = dict(zip(names, 2 * results.COLOURS, strict=False))
    for ax, dim in zip(
        figure.subplots(1, len(dims), squeeze=False)[0], dims, strict=True
    ):
        tasks = sorted(t for t in groups if t.dim == dim)
        for name in names:
            points = [
                (t.rows, 1e3 * timing.summary(groups[t][name]["seconds"])["median"])
                for t in tasks
                if groups[t].get(name, {}).get("seconds")
            ]
            if points:
                style = {"linestyle": "--"} if "bf16" in name else {}
                ax.plot(*zip(*points, strict=True), marker="o", color=colours[name],
                        label=name, **style)  # fmt: skip
        ax.set(title=f"NT-Xent, D = {dim}", xlabel="N views", ylabel="ms", yscale="log")
        results.sizes_axis(ax.xaxis, [t.rows for t in tasks])
        if tasks:
            ax.legend()


if __name__ == "__main__":
    main()
