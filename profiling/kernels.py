"""Kernels for Hopper GPUs one by one: where the time of a loss goes.

    python -m profiling.kernels [--out DIR] [--tiny]

Value and gradient of CLIP, SigLIP and NT-Xent at D = 512 with their longest kernels,
the kernels alone beside the products that follow them, tiles of other sizes, and the
sizes from which SigLIP's kernels are faster than XLA. Each program is compiled by
itself, and its value and gradients are held against XLA's path. Prints lines, and
writes them to `kernels.txt`; three minutes.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from profiling import arguments, contenders, inputs, results, timing
from profiling import step as steps
from profiling.subject import TEMPERATURE
from rl_jax.pairwise import mosaic_gpu, tiles
from rl_jax.pairwise.mosaic_gpu import forward, parts, weights

DIM = 512
LONGEST = 9
SCALE = 8.0


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = arguments.Parser("kernels", __doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a trial, also on CPU")
    chosen = parser.parse_args(argv)
    if jax.default_backend() == "cpu" and not chosen.tiny:
        parser.error("there is no accelerator here; --tiny tries the script out")
    lines = Lines(results.new("kernels")["machine"])
    reasons = {kind: mosaic_gpu.available(kind) for kind in ("exp", "softplus")}
    lines.say(f"why there are no kernels: {reasons}")
    there = not any(reasons.values())
    options = {"implementation": "mosaic_gpu" if there else None}
    large, tile = (256, 256) if chosen.tiny else (65536, 8192)
    for name, rows in (("clip", large), ("siglip", large), ("nt_xent", large // 2)):
        loss(lines, name, rows, **options)
    alone(lines, tile, kernels=there)
    usual = parts.LARGE_TILE
    parts.LARGE_TILE = parts.TILE
    jax.clear_caches()
    for name in ("clip", "siglip"):
        loss(lines, name, large, note=f", tiles of {parts.TILE}", **options)
    parts.LARGE_TILE = usual
    jax.clear_caches()
    for rows in (64, 128) if chosen.tiny else (4096, 8192, 16384):
        loss(lines, "siglip", rows, note=", XLA", implementation="xla")
        loss(lines, "siglip", rows, **options)
    for name, rows in (("clip", large // 4), ("nt_xent", large // 8)):
        loss(lines, name, rows, **options)
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


def loss(lines: Lines, name: str, rows: int, *, note: str = "", **options) -> None:
    """A loss of `rows` pairs, compiled by itself: errors, time, longest kernels.

    It is held against XLA's path with the same 16-bit products.
    """
    a, b = (jnp.asarray(v) for v in inputs.pairs(rows, DIM))

    def compiled(**options):
        made = getattr(contenders, name)(TEMPERATURE, precision="bf16", **options)
        return contenders.value_and_grad(made).lower(a, b).compile()

    program = compiled(**options)
    run = timing.jax_contender(program, a, b, queued=True)
    planned = results.size_text(program.memory_analysis().temp_size_in_bytes)
    lines.say(
        f"{name} {rows} x {DIM}{note}: {timed(run)}, {planned}iB planned, "
        f"off by {errors(program(a, b), compiled(implementation='xla')(a, b))}"
    )
    if jax.default_backend() == "cpu":
        return
    for row in steps.kernels(run, program.as_text(), 1)[:LONGEST]:
        where = f"{row['name'][:60]} {row['op'][-50:]}"
        lines.say(f"    {row['ms']:.3f} ms in {row['count']:.0f}: {where}")


def errors(found, right) -> str:
    """Relative errors of a value and of its gradients, the larger one."""
    value, *gradients = (
        float(jnp.linalg.norm(f - r) / jnp.linalg.norm(r))
        for f, r in zip(*map(jax.tree.leaves, (found, right)), strict=True)
    )
    return f"{value:.0e} and {max(gradients):.0e}"


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
