"""What is timed: a loss at one size, its contenders, and what they must agree with."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from profiling import contenders, reference, timing
from profiling.peers import PeerError, TorchPeer

TEMPERATURE = 0.1
GATE = 4096
"""Up to so many rows float64 decides; beyond, a contender is compared with dense."""

NT_XENT, CLIP, SIGLIP = "NT-Xent", "CLIP", "SigLIP"
FORMULAS = {
    NT_XENT: reference.nt_xent,
    CLIP: reference.clip,
    SIGLIP: functools.partial(reference.sigmoid, bias=contenders.BIAS),
}
"""What is right, in float64."""

TOLERANCE = {
    "tf32": (1e-3, 1e-2),
    "bf16": (1e-3, 5e-2),
    "bf16 logits": (4e-3, 5e-2),
    "bf16x3": (1e-5, 1e-3),
    "float32": (1e-5, 1e-4),
}
"""Errors allowed in the value, per nat, and in the gradient, by class of product.

Logits of bf16 are what is left of products that are not kept in float32.
"""


class Task(NamedTuple):
    """A loss at one size."""

    loss: str  # a name of `FORMULAS`
    rows: int  # N views, or B pairs
    dim: int

    @property
    def title(self) -> str:
        """Loss and size, in words."""
        return f"{self.loss} {self.rows} x {self.dim}"

    @property
    def pairs(self) -> int:
        """Rows of each of the two inputs."""
        return self.rows // 2 if self.loss == NT_XENT else self.rows

    @property
    def flops(self) -> float:
        """Of streamed products: 4N²d with symmetry used, of a rectangle 8B²d.

        SigLIP's are 6B²d: no sum has to be known before a pair's derivative is.
        """
        return {NT_XENT: 4, CLIP: 8, SIGLIP: 6}[self.loss] * self.rows**2 * self.dim

    @property
    def useful_flops(self) -> float:
        """The one count by which all rates are stated: 6N²d, CLIP's 8B²d."""
        return (8 if self.loss == CLIP else 6) * self.rows**2 * self.dim

    @property
    def exps(self) -> float:
        """One a pair in each of forward and backward; symmetry halves NT-Xent's.

        SigLIP's are made once.
        """
        return (2 if self.loss == CLIP else 1) * self.rows**2

    def limit(self, ceilings: Mapping[str, float]) -> float:
        """Seconds at the machine's own rates."""
        return self.flops / ceilings["gemm"] + self.exps / ceilings["exp"]

    @property
    def work(self) -> float:
        """Its share of the time budget, to a constant."""
        return self.flops + 400 * self.exps + 1e9


class Entry(NamedTuple):
    """A contender: what it computes, how it is timed, how exact it has to be."""

    check: Callable[[], tuple]  # () -> (value, [gradients])
    run: timing.Contender
    precision: str = "float32"
    temp_bytes: int | None = None


def jax_entry(
    loss, a, b, precision: str, *, queued: bool = False, compiled=None
) -> Entry:
    """The entry of a loss in JAX; compiles it, unless it is given compiled."""
    step = compiled or contenders.value_and_grad(loss).lower(a, b).compile()
    plan = step.memory_analysis()
    run = timing.jax_contender(step, a, b, queued=queued)
    return Entry(lambda: step(a, b), run, precision, plan.temp_size_in_bytes)


def torch_entry(torch: TorchPeer, loss: str, precision: str, **options) -> Entry:
    """The entry of a loss of the PyTorch process, at the inputs it has loaded."""
    options = {"temperature": TEMPERATURE} | options
    run = torch.contender(loss, **options)
    return Entry(lambda: torch.value_and_grad(loss, **options), run, precision)


def exact(task: Task, a, b):
    """`(value, [gradients])` in float64, or None where that is too much."""
    if task.rows > GATE:
        return None
    value, *grads = FORMULAS[task.loss](a, b, temperature=TEMPERATURE)
    return value, grads


def checked(task: Task, name: str, entry: Entry, right):
    """A row with the errors of value and gradient, and what to compare others with."""
    row = task._asdict() | {
        "contender": name,
        "precision": entry.precision,
        "temp_bytes": entry.temp_bytes,
        "value_error": None,
        "gradient_error": None,
        "error": None,
    }
    try:
        value, grads = entry.check()
    except (PeerError, jax.errors.JaxRuntimeError) as error:
        return row | {"error": " ".join(str(error).split())[:200]}, right
    # Every so many rows: of millions, a sample.
    grads = [np.asarray(g[:: max(1, len(g) // GATE)]) for g in grads]
    if right is None:
        return row, (float(value), grads)
    errors = (
        abs(float(value) - right[0]) / max(1.0, right[0]),
        max(
            reference.relative_error(g, e) for g, e in zip(grads, right[1], strict=True)
        ),
    )
    row |= {"value_error": errors[0], "gradient_error": errors[1]}
    allowed = TOLERANCE[entry.precision]
    if not all(e <= t for e, t in zip(errors, allowed, strict=True)):
        row["error"] = (
            f"value off by {errors[0]:.1e}, gradient by {errors[1]:.1e}; "
            f"allowed {allowed[0]:.0e} and {allowed[1]:.0e}"
        )
    return row, right


def groups(rows: Sequence[dict]) -> dict[Task, dict[str, dict]]:
    """`{task: {contender: row}}`, in the order of the rows."""
    out: dict[Task, dict[str, dict]] = {}
    for row in rows:
        task = Task(row["loss"], row["rows"], row["dim"])
        out.setdefault(task, {})[row["contender"]] = row
    return out
