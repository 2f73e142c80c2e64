"""One GPU: its ceilings, and the losses over all pairs beside their peers.

    python -m profiling.gpu [--budget SECONDS] [--torch-python PYTHON] [--no-torch]
        [--no-steps] [--dim D ...] [--tiny]

Sections in order of what should not be lost: ceilings, a check against float64,
NT-Xent, CLIP and SigLIP up to 64k rows, NT-Xent up to 1M pairs, training steps of
`profiling.step` (that script has their parts). Peers that are installed take part:
PyTorch, eager and compiled as it is by default, Inf-CL, cut-cross-entropy with nothing
filtered out, Liger, siglip-kernel. What JAX compiles, and PyTorch's training steps, are
compiled first, side by side. The JSON is written after each measurement; what the
budget does not allow is skipped and named. A time is that of queued calls waited for
together, over their number: launches overlap with work.

Up to 4,096 rows float64 decides what is right, beyond this library's float32 on XLA's
path, and up to 262,144 its bf16 there: none of them uses the kernels. What has no
errors in the table was itself what others were held against, or, at the largest sizes,
stood alone.
"""

import concurrent.futures
import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from profiling import (
    arguments,
    contenders,
    inputs,
    results,
    session,
    step,
    subject,
    timing,
)
from profiling.peers import PeerError, TorchPeer
from profiling.session import Bench, in_words, memory_limit, start_torch
from profiling.subject import CLIP, NT_XENT, SIGLIP, TEMPERATURE, Task
from rl_jax.pairwise import mosaic_gpu

TITLE = "One GPU"
OURS, PLAIN, EXACT = "rl_jax bf16", "rl_jax bf16, XLA", "rl_jax float32, XLA"
DENSE = "dense JAX bf16"
SIZES = {
    "small": [
        *(Task(NT_XENT, 4096, dim) for dim in (128, 256, 384, 512)),
        *(Task(loss, 4096, 512) for loss in (CLIP, SIGLIP)),
        *(Task(NT_XENT, 16384, dim) for dim in (128, 512)),
        *(Task(loss, 16384, 512) for loss in (CLIP, SIGLIP)),
        *(Task(NT_XENT, 65536, dim) for dim in (128, 256, 512)),
        *(Task(loss, 65536, 512) for loss in (CLIP, SIGLIP)),
    ],
    "large": [Task(NT_XENT, 2**k, 128) for k in (17, 18, 20, 21)],
}
TINY = {
    "small": [
        Task(loss, rows, 16)
        for rows in (32, 64, 128)
        for loss in (NT_XENT, CLIP, SIGLIP)
    ],
    "large": [Task(NT_XENT, 256, 16)],
}
TORCH_LOSSES = {
    NT_XENT: {"PyTorch bf16": ("nt_xent", False, "bf16")},
    CLIP: {
        "PyTorch bf16": ("clip", False, "bf16"),
        "Inf-CL": ("inf_cl", False, "tf32"),
        "cut-cross-entropy bf16": ("cut_cross_entropy", False, "bf16"),
        "Liger bf16": ("liger", False, "bf16"),
    },
    SIGLIP: {
        "PyTorch bf16": ("siglip", False, "bf16 logits"),
        "siglip-kernel bf16": ("siglip_kernel", False, "bf16 logits"),
    },
}
"""Loss in the PyTorch process, whether compiled, and its class of products."""
COMPILED = {
    NT_XENT: ("PyTorch compiled bf16", ("nt_xent", True, "bf16")),
    CLIP: ("PyTorch compiled bf16", ("clip", True, "bf16")),
    SIGLIP: ("PyTorch compiled bf16", ("siglip", True, "bf16 logits")),
}
PACKAGED = ("inf_cl", "cut_cross_entropy", "liger", "siglip_kernel")
"""Those of packages that may be missing."""
WORTH_COMPILING = 16384
"""Rows from which `torch.compile`, which takes its time, takes part."""
PEER_ROWS = 131072
"""Rows up to which PyTorch takes part: there its matrix is of 32 GiB in 16 bits and 64
in 32, and memory ends."""
COMPILED_ROWS = 65536
"""Rows up to which it is compiled."""
EXACT_ROWS = 65536
"""Rows up to which float32 takes part, whose products are no tensor core's."""
PLAIN_ROWS = 262144
"""Rows up to which XLA's path takes part."""
DENSE_ROWS = {NT_XENT: 16384, CLIP: 4096, SIGLIP: 4096}
"""Rows up to which the dense form takes part: compiling it, XLA tries fusions out on
the whole matrix, beyond this for minutes."""
EXPS = 64
"""Exponentials of each number, one after another, so that memory is not what counts."""
GEMM_SHAPES = ((8192, 8192, 8192), (16384, 512, 16384), (65536, 128, 8192))
COMPILE_SHARE = 0.4
"""Of the budget: longer nothing is waited for that is still being compiled."""
TORCH_LIMIT = 120
"""Seconds that PyTorch may take to compile a training step."""
LAST = 25
"""Seconds left from which a training step that is not yet compiled is left out."""
FEWEST_IN_PANEL = 3
"""Sizes from which a loss at one D has a panel of its own."""
FLOORS = {"least time": ":", "logits through memory": (0, (1, 4))}
"""Bounds that are drawn, and their lines."""
BYTES_OF_A_LOGIT = 8
"""Written and read once in float32."""
MOST_MEMORY = 0.8
"""Share of the card that a contender may plan."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measures until done or out of budget."""
    parser = arguments.Parser("gpu", __doc__.split("\n")[0])
    parser.add_torch()
    session.add_arguments(parser)
    parser.add_argument("--no-steps", action="store_true", help="losses alone")
    parser.add_sizes("--dim", "of the losses only those of so many columns")
    chosen = parser.parse_args(argv)
    sizes = TINY if chosen.tiny else SIZES
    known = sorted({task.dim for task in [*sizes["small"], *sizes["large"]]})
    if not set(chosen.dim or known) <= set(known):
        parser.error(f"--dim: expected some of {known}, got {chosen.dim}")
    sizes = {
        name: [task for task in tasks if task.dim in (chosen.dim or known)]
        for name, tasks in sizes.items()
    }
    bench = session.begin(
        parser, chosen, "gpu", temperature=TEMPERATURE, dims=chosen.dim
    )
    bench.result |= {"ceilings": [], "training": []}
    with contextlib.ExitStack() as stack:
        torch = None
        if not chosen.no_torch:
            torch = start_torch(chosen.torch_python, bench.result, stack)
        measure(bench, torch, sizes, tiny=chosen.tiny, steps=not chosen.no_steps)
    results.finish(bench.result, bench.out)


def measure(
    bench: Bench, torch: TorchPeer | None, sizes: dict, *, tiny: bool, steps: bool
) -> None:
    """All sections in order."""
    shrink = 32 if tiny else 1
    started = bench.left
    # Asked here once, and alone: whoever asks later waits for a trial of every kernel.
    kernels = {kind: mosaic_gpu.available(kind) for kind in ("exp", "softplus")}
    bench.result["kernels"] = kernels
    configs = (step.TINY if tiny else step.CONFIGS) if steps else ()
    theirs = step.torch_steps(torch, configs, TORCH_LIMIT) if torch else {}
    work = [step.Compiling(config, (step.STEP, step.AUGMENT)) for config in configs]
    programs = Programs([*sizes["small"], *sizes["large"]])
    # Compiling disturbs what is being timed.
    until = (1 - COMPILE_SHARE) * started
    programs.wait(max(bench.left - until, 0))
    step.wait_for(work, theirs, max(bench.left - until, 0))
    for name, section in (
        ("products", lambda: products(bench.result, shrink)),
        ("elementwise", lambda: elementwise(bench.result, shrink)),
    ):
        bench.attempt(name, section)
    for task in programs.tasks:
        large = task in sizes["large"]
        rounds = 2 if tiny or large else None
        peer = torch if task.rows <= PEER_ROWS else None
        size = functools.partial(one_size, bench, task, programs, peer, rounds)
        seconds = needs(bench, task) if large else 0.0
        bench.attempt(task.title, size, needs=seconds)
    for compiling in sorted(work, key=lambda c: not c.ready):
        given = theirs.get(compiling.config.name)
        train = functools.partial(training, bench, compiling, given, tiny)
        bench.attempt(compiling.config.title, train, needs=step.LAST)
    for compiling in work:
        for row in bench.result["training"]:
            if row["name"] == compiling.config.name:
                trace = functools.partial(traced, row, compiling)
                bench.attempt(f"{compiling.config.title}, its kernels", trace, needs=8)
    programs.close()


class Programs:
    """Every program in JAX, compiled side by side before anything is measured."""

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = tasks
        self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        self._made = {
            (task, name): self._pool.submit(self._compile, task, loss)
            for task in tasks
            for name, (loss, _) in candidates(task).items()
        }

    @staticmethod
    def _compile(task: Task, loss):
        shape = jax.ShapeDtypeStruct((task.pairs, task.dim), jnp.float32)
        return contenders.value_and_grad(loss).lower(shape, shape).compile()

    def wait(self, seconds: float) -> None:
        """Until all are there, at most so long: compiling disturbs what is timed."""
        concurrent.futures.wait(self._made.values(), timeout=seconds)

    def of(self, task: Task, name: str):
        """The compiled program of one contender.

        Raises:
          TimeoutError: where it is not there yet.
        """
        return self._made[task, name].result(timeout=0)

    def close(self) -> None:
        """Compiles no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def needs(bench: Bench, task: Task) -> float:
    """Seconds that a large size takes, told from the next smaller one."""
    known: dict[str, float] = {}
    for row in bench.result["rows"]:
        same = (row["loss"], row["dim"]) == (task.loss, task.dim)
        if same and row["rows"] < task.rows and row["seconds"]:
            ratio = (task.rows / row["rows"]) ** 2
            known[row["contender"]] = ratio * min(row["seconds"])
    ours = sum(known.get(name, 0.0) for name in candidates(task))
    # One call to check, up to three to learn how long it takes, two to record; and
    # inputs.
    return 6 * ours + task.rows * task.dim / 3e7


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
            row |= {"what": "product", "kind": kind, "shape": [n, k, m]}
            result["ceilings"].append(row)


def elementwise(result: dict, shrink: int) -> None:
    """Exponentials a second, bytes moved a second, and the time of an empty launch."""

    def powers(x):
        for _ in range(EXPS):
            x = jnp.exp2(x) - 1.5  # stays in [-1.2, -0.5]
        return x

    x = jnp.linspace(-1.0, 0.0, 2**24 // shrink**2, dtype=jnp.float32)
    big = jnp.linspace(-1.0, 0.0, 2**28 // shrink**2, dtype=jnp.float32)
    add = jax.jit(lambda x: x + 1)
    for what, f, array in (
        ("exp2", jax.jit(powers), x),
        ("copy", add, big),
        ("launch", add, jnp.zeros(8)),
    ):
        row = _ceiling(shrink, f, array)
        row |= {"what": what, "kind": "float32", "shape": [array.size]}
        result["ceilings"].append(row)


def _ceiling(shrink: int, f, *args) -> dict:
    run = timing.jax_contender(f, *args, queued=True)
    run(1)
    (timed,) = timing.interleave({"": run}, seconds=0.8 / shrink, pause=0).values()
    return timed | timing.summary(timed["seconds"])


def one_size(
    bench: Bench, task: Task, programs: Programs, torch, rounds: int | None
) -> None:
    """Checks every contender, then times those that are right, in turns."""
    a, b = inputs.pairs(task.pairs, task.dim)
    right = subject.exact(task, a, b)
    if torch is not None:
        try:
            torch.load(a, b)
        except PeerError as error:
            bench.skip(f"{task.title}, PyTorch", in_words(error))
            torch = None
    limit = MOST_MEMORY * memory_limit()
    rows, runs = {}, {}
    on_device = jnp.asarray(a), jnp.asarray(b)
    for name, make in entries(task, programs, *on_device, torch).items():
        try:
            entry = make()
        except Exception as error:
            bench.skip(f"{task.title}, {name}", in_words(error))
            continue
        if (entry.temp_bytes or 0) > limit:
            reason = f"plans {results.size_text(entry.temp_bytes)}iB of temporaries"
            bench.skip(f"{task.title}, {name}", reason)
            continue
        rows[name], right = subject.checked(task, name, entry, right)
        if rows[name]["error"] is None:
            runs[name] = entry.run
    first = {OURS: runs[OURS]} if OURS in runs else {}
    timed = in_turns(bench, task, first | runs, rounds)
    for name, row in rows.items():
        bench.result["rows"].append(row | timed.get(name, {"seconds": [], "calls": 0}))
    if torch is not None:
        with contextlib.suppress(PeerError):
            torch.load()  # nothing: its memory is needed by others


def in_turns(bench: Bench, task: Task, runs: dict, rounds: int | None) -> dict:
    """Times contenders in interleaved rounds; again without PyTorch where it fails."""
    if not runs:
        return {}
    options = {"seconds": 1.0 if len(runs) < 6 else 2.0, "rounds": rounds}
    try:
        return timing.interleave(runs, pause=0.01, **options)
    except PeerError as error:
        bench.skip(f"{task.title}, PyTorch", in_words(error))
        in_jax = {name: runs[name] for name in candidates(task) if name in runs}
        return timing.interleave(in_jax, pause=0.01, **options)


def candidates(task: Task) -> dict[str, tuple[contenders.Loss, str]]:
    """The contenders in JAX and their classes of products, the reference first."""
    ours, dense = {
        NT_XENT: (contenders.nt_xent, contenders.dense_nt_xent),
        CLIP: (contenders.clip, contenders.dense_clip),
        SIGLIP: (contenders.siglip, contenders.dense_siglip),
    }[task.loss]
    plain = {"implementation": "xla"}
    out = {}
    if task.rows <= EXACT_ROWS:
        out[EXACT] = (ours(TEMPERATURE, **plain), "float32")
    if task.rows <= PLAIN_ROWS:
        out[PLAIN] = (ours(TEMPERATURE, precision="bf16", **plain), "bf16")
    out[OURS] = (ours(TEMPERATURE, precision="bf16"), "bf16")
    if task.rows <= DENSE_ROWS[task.loss]:
        out[DENSE] = (dense(TEMPERATURE, dtype=jnp.bfloat16), "bf16")
    return out


def entries(
    task: Task, programs: Programs, a, b, torch: TorchPeer | None
) -> dict[str, Callable[[], subject.Entry]]:
    """What makes the entry of each contender."""

    def in_jax(name, loss, precision):
        compiled = programs.of(task, name)
        return subject.jax_entry(loss, a, b, precision, queued=True, compiled=compiled)

    made: dict[str, Callable[[], subject.Entry]] = {
        name: functools.partial(in_jax, name, *chosen)
        for name, chosen in candidates(task).items()
    }
    if torch is None:
        return made
    peers = dict(TORCH_LOSSES[task.loss])
    if WORTH_COMPILING <= task.rows <= COMPILED_ROWS:
        name, peer = COMPILED[task.loss]
        peers[name] = peer
    for name, (loss, compiled, precision) in peers.items():
        if loss in PACKAGED and loss not in torch.info["packages"]:
            continue
        made[name] = functools.partial(
            subject.torch_entry,
            torch,
            loss,
            precision,
            dtype="float32" if precision == "tf32" else "bfloat16",
            compile=compiled,
        )
    return made


def training(
    bench: Bench, work: step.Compiling, theirs: step.TorchStep | None, tiny: bool
) -> None:
    """Images a second of a SimCLR step, and the share of the augmentation."""
    rounds = 2 if tiny else None
    given = {work.config.name: theirs} if theirs else {}
    step.wait_for([work], given, max(bench.left - LAST, 0))
    row = work.measured(theirs=theirs, seconds=6, rounds=rounds)
    bench.result["training"].append(row)
    step.free(theirs, work.config)
    for name, reason in row.pop("skipped").items():
        bench.skip(f"{work.config.title}, {name}", reason)


def traced(row: dict, work: step.Compiling) -> None:
    """Adds the longest kernels of a step to its row."""
    row["kernels"] = work.kernels()


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
    for kind, reason in result.get("kernels", {}).items():
        if reason is not None:
            out.append(f"There are no kernels of {kind} here: {reason}.")
    if result["rows"]:
        out += ["Value and gradient of a loss:", _losses_table(result)]
        out += _errors_list(result)
    if result["training"]:
        out += [
            "SimCLR step, data on the device:",
            step.table(result["training"], _rate_of_products(result)),
        ]
        out += [step.kernels_table(r) for r in result["training"] if r["kernels"]]
    if result["skipped"]:
        skipped = [f"- {s['what']}: {s['reason']}" for s in result["skipped"]]
        out.append("Skipped:\n\n" + "\n".join(skipped))
    return out


def _losses_table(result: dict) -> str:
    header = [
        "", "contender", "median ms", "min ms", "spread", "samples × calls",
        "useful TFLOP/s", "floor / time", "temp", "value error", "gradient error",
    ]  # fmt: skip
    rows = []
    for task, group in subject.groups(result["rows"]).items():
        floor = _floor(result, task)
        for name, r in group.items():
            temp = results.size_text(r["temp_bytes"])
            errors = [_error(r["value_error"]), _error(r["gradient_error"])]
            times = ["–"] * 6
            if r["error"]:
                times[0] = "below"
            elif r["seconds"]:
                s = timing.summary(r["seconds"])
                rate = task.useful_flops / s["median"] / 1e12
                times = [
                    *_times(s),
                    f"{len(r['seconds'])} × {r['calls']}",
                    results.significant(rate),
                    f"{floor / s['median']:.2f}" if floor else "–",
                ]
            size = f"{results.size_name(task.rows)} × {task.dim}"
            rows.append([f"{task.loss} {size}", name, *times, temp, *errors])
    return results.table(header, rows, text=2)


def _errors_list(result: dict) -> list[str]:
    """What was not timed because it failed or was wrong."""
    wrong = [
        f"- {row['loss']} {results.size_name(row['rows'])} × {row['dim']}, "
        f"{row['contender']}: {row['error']}"
        for row in result["rows"]
        if row["error"]
    ]
    return ["Not timed:\n\n" + "\n".join(wrong)] if wrong else []


def _floor(result: dict, task: Task) -> float | None:
    """Seconds if bf16 products and exponentials overlapped perfectly: max of both."""
    products = _rate_of_products(result)
    powers = [_best(r) for r in result["ceilings"] if r["what"] == "exp2"]
    if products is None or not powers:
        return None
    return max(task.flops / products, task.exps / max(powers))


def _rate_of_products(result: dict) -> float | None:
    """The best bf16 rate of the run, FLOP/s."""
    rates = [
        _best(r)
        for r in result["ceilings"]
        if r["what"] == "product" and r["kind"] == "bf16"
    ]
    return max(rates, default=None)


def _best(row: dict) -> float:
    """The rate of the fastest sample of a ceiling: others were disturbed.

    Operations, exponentials, bytes (float32, read and written) or launches a second.
    """
    size = math.prod(row["shape"])
    work = {"product": 2 * size, "exp2": EXPS * size, "copy": 8 * size, "launch": 1}
    return work[row["what"]] / row["min"]


def _rate(row: dict) -> str:
    if row["what"] == "launch":
        return f"{1e6 * row['min']:.1f} µs each"
    scale, unit = {
        "product": (1e12, "TFLOP/s"),
        "exp2": (1e12, "T exp/s"),
        "copy": (1e12, "TB/s"),
    }[row["what"]]
    return f"{results.significant(_best(row) / scale)} {unit}"


def _times(summary: dict) -> list[str]:
    return [
        results.milliseconds(summary["median"]),
        results.milliseconds(summary["min"]),
        f"{100 * summary['spread']:.1f} %",
    ]


def _error(x: float | None) -> str:
    return "–" if x is None else f"{x:.0e}"


def plot(figure, result: dict) -> None:
    """Time above and rate below against the rows, for each loss and D of some sizes.

    Beside the rates are two ceilings: that of the products, and that of whoever lets
    each logit go through memory, written and read once in float32.
    """
    groups = subject.groups(result["rows"])
    sizes: dict[tuple[str, int], list[Task]] = {}
    for task in sorted(groups, key=lambda t: t.rows):
        sizes.setdefault((task.loss, task.dim), []).append(task)
    panels = {
        key: tasks for key, tasks in sizes.items() if len(tasks) >= FEWEST_IN_PANEL
    }
    if not panels:
        figure.text(0.5, 0.5, "no loss was measured at three sizes", ha="center")
        return
    names = list(dict.fromkeys(r["contender"] for r in result["rows"]))
    colours = dict(zip(names, 2 * results.COLOURS, strict=False))
    figure.set_size_inches(3.4 * len(panels) + 1, 6.4)
    axes = figure.subplots(2, len(panels), squeeze=False, sharex="col")
    for (above, below), ((loss, dim), tasks) in zip(
        axes.T, panels.items(), strict=True
    ):
        for name in names:
            found = [
                (t, timing.summary(groups[t][name]["seconds"])["median"])
                for t in tasks
                if groups[t].get(name, {}).get("seconds")
            ]
            if not found:
                continue
            again = names.index(name) >= len(results.COLOURS)
            style = {"color": colours[name], "label": name}
            style |= {"marker": "s", "linestyle": "-."} if again else {"marker": "o"}
            if name == OURS:
                style["linewidth"] = 2.6
            elif not again:
                style["linestyle"] = "--"
            rows = [t.rows for t, _ in found]
            above.plot(rows, [1e3 * s for _, s in found], **style)
            below.plot(rows, [_useful_rate(t, s) for t, s in found], **style)
        rows = [t.rows for t in tasks]
        for label, seconds in _floors(result, tasks).items():
            style = {"color": "#66707b", "linestyle": FLOORS[label], "label": label}
            rates = [_useful_rate(t, s) for t, s in zip(tasks, seconds, strict=True)]
            above.plot(rows, [1e3 * s for s in seconds], **style)
            below.plot(rows, rates, **style)
        above.set(title=f"{loss}, D = {dim}", yscale="log")
        below.set(xlabel="rows", yscale="log")
        results.sizes_axis(below.xaxis, [t.rows for t in tasks])
    axes[0, 0].set_ylabel("ms")
    axes[1, 0].set_ylabel("useful TFLOP/s")
    handles = {
        label: handle
        for ax in axes.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=5)


def _floors(result: dict, tasks: Sequence[Task]) -> dict[str, list[float]]:
    """Seconds of each bound at each size, where its rates were measured."""
    out = {}
    least = [_floor(result, task) for task in tasks]
    if all(least):
        out["least time"] = least
    copies = [_best(r) for r in result["ceilings"] if r["what"] == "copy"]
    if copies:
        moved = [BYTES_OF_A_LOGIT * task.rows**2 for task in tasks]
        out["logits through memory"] = [b / max(copies) for b in moved]
    return out


def _useful_rate(task: Task, seconds: float) -> float:
    return task.useful_flops / seconds / 1e12


if __name__ == "__main__":
    main()
    session.leave()
