"""Kernels for Hopper GPUs one by one: where the time of a loss goes.

    python -m profiling.kernels [--out DIR] [--tiny]

Value and gradient of CLIP, SigLIP and NT-Xent at D = 512 with their longest kernels,
the kernels alone beside the products that follow them, tiles of other sizes, and the
sizes from which SigLIP's kernels are faster than XLA. Each program is compiled by
itself, and held against float64 or XLA's path first. Prints lines, and writes them to
`kernels.txt`; three minutes.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from profiling import (
    arguments,
    contenders,
    inputs,
    results,
    session,
    subject,
    timing,
)
from profiling import step as steps
from profiling.subject import CLIP, NT_XENT, SIGLIP, TEMPERATURE, Task
from rl_jax.pairwise import mosaic_gpu, tiles
from rl_jax.pairwise.mosaic_gpu import forward, parts, weights

DIM = 512
LONGEST = 9
SCALE = 8.0
LOSSES = {
    CLIP: contenders.clip, SIGLIP: contenders.siglip, NT_XENT: contenders.nt_xent,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = arguments.Parser("kernels", __doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a trial, also on CPU")
    chosen = parser.parse_args(argv)
    session.need_accelerator(parser, chosen)
    lines = Lines(results.new("kernels")["machine"])
    reasons = {kind: mosaic_gpu.available(kind) for kind in ("exp", "softplus")}
    lines.say(f"why there are no kernels: {reasons}")
    there = not any(reasons.values())
    options = {"implementation": "mosaic_gpu" if there else None}
    large, tile = (256, 256) if chosen.tiny else (65536, 8192)
    for name in (CLIP, SIGLIP, NT_XENT):
        loss(lines, Task(name, large, DIM), **options)
    alone(lines, tile, kernels=there)
    usual = parts.LARGE_TILE
    parts.LARGE_TILE = parts.TILE
    jax.clear_caches()
    for name in (CLIP, SIGLIP):
        loss(lines, Task(name, large, DIM), f", tiles of {parts.TILE}", **options)
    parts.LARGE_TILE = usual
    jax.clear_caches()
    for rows in (64, 128) if chosen.tiny else (4096, 8192, 16384):
        loss(lines, Task(SIGLIP, rows, DIM), ", XLA", implementation="xla")
        loss(lines, Task(SIGLIP, rows, DIM), **options)
    for name in (CLIP, NT_XENT):
        loss(lines, Task(name, large // 4, DIM), **options)
    path = results.folder(chosen.out) / "kernels.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines.said) + "\n")
    print(f"written: {path}", file=sys.stderr)


class Lines:
    """What is said, with the seconds since the start."""

    def __init__(self, on: dict):
        self.said: list[str] = []
        self._start = time.perf_counter()
        versions = ", ".join(f"{k} {v}" for k, v in on["versions"].items())
        self.say(f"{on['device']}; {versions}; commit {on['commit']}")

    def say(self, line: str) -> None:
        """Prints a line and keeps it."""
        line = f"{line}  [{time.perf_counter() - self._start:.0f} s]"
        self.said.append(line)
        print(line, flush=True)


def loss(lines: Lines, task: Task, note: str = "", **options) -> None:
    """A loss compiled by itself: its errors, and if it is right time and kernels.

    Up to 4,096 rows float64 decides, beyond XLA's path with the same 16-bit products.
    """
    a, b = inputs.pairs(task.pairs, task.dim)

    def entry(**options):
        made = LOSSES[task.loss](TEMPERATURE, precision="bf16", **options)
        program = contenders.value_and_grad(made).lower(a, b).compile()
        given = jnp.asarray(a), jnp.asarray(b)
        return program, subject.jax_entry(
            made, *given, "bf16", queued=True, compiled=program
        )

    right = subject.exact(task, a, b)
    if right is None:
        _, xla = entry(implementation="xla")
        _, right = subject.checked(task, "XLA", xla, None)
    program, ours = entry(**options)
    row, _ = subject.checked(task, task.title, ours, right)
    if row["error"]:
        lines.say(f"{task.title}{note}: {row['error']}")
        return
    lines.say(
        f"{task.title}{note}: {timed(ours.run)}, "
        f"{results.size_text(row['temp_bytes'])}iB planned, "
        f"off by {row['value_error']:.0e} and {row['gradient_error']:.0e}"
    )
    if jax.default_backend() == "cpu":
        return
    for found in steps.kernels(ours.run, program.as_text(), 1)[:LONGEST]:
        where = f"{found['name'][:60]} {found['op'][-50:]}"
        lines.say(f"    {found['ms']:.3f} ms in {found['count']:.0f}: {where}")


def alone(lines: Lines, size: int, *, kernels: bool) -> None:
    """The kernels on one tile, and the products of its weights."""
    rng = np.random.default_rng(0)
    x, y = (
        jnp.asarray(rng.normal(size=(size, DIM)) / DIM**0.5, jnp.bfloat16)
        for _ in range(2)
    )
    w = jnp.asarray(rng.normal(size=(size, size)), jnp.bfloat16)
    a, exclude = jnp.ones(size), jnp.arange(size, dtype=jnp.int32)
    at_once = functools.partial(
        weights.weights, kind="softplus", sums=("weight", "value")
    )
    made: dict[str, tuple[Callable, tuple]] = {
        "product W y": (lambda w, y: tiles.product((w,), (y,)), (w, y)),
        "product Wᵀ y": (lambda w, y: tiles.product((w.T,), (y,)), (w, y)),
    }
    if kernels:
        made |= {
            "sums": (lambda x, y: forward.sums(x, y, SCALE, SCALE), (x, y)),
            "weights": (
                lambda x, y, a: weights.weights(x, y, a, a, SCALE, SCALE),
                (x, y, a),
            ),
            "weights and sums of softplus": (
                lambda x, y, e: at_once(x, y, None, None, SCALE, SCALE, exclude=e),
                (x, y, exclude),
            ),
        }
    for name, (f, args) in made.items():
        run = timing.jax_contender(jax.jit(f), *args, queued=True)
        least = best(run)
        rate = 2 * size**2 * DIM / least / 1e12
        lines.say(f"{name}, {size}²: {1e3 * least:.4f} ms at least, {rate:.0f} TFLOP/s")


def timed(run: timing.Contender) -> str:
    """Median and minimum of five samples."""
    found = timing.summary(_samples(run))
    return f"{1e3 * found['median']:.3f} ms (least {1e3 * found['min']:.3f})"


def best(run: timing.Contender) -> float:
    """Seconds of the fastest of five samples."""
    return min(_samples(run))


def _samples(run: timing.Contender) -> list[float]:
    run(1)
    found = timing.interleave({"": run}, seconds=0.5, rounds=5, pause=0.01)
    return found[""]["seconds"]


if __name__ == "__main__":
    main()
