"""What a run will take, from the compiler: memory, operations and the least time.

The step the run would compile is compiled for arguments that do not exist; none of it
is executed.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rl_jax import data, own, train
from rl_jax.errors import UsageError
from rl_jax.run import check, labelled
from rl_jax.run import recipe as recipes
from rl_jax.run.rates import Rates, rates_of
from rl_jax.run.recipe import Recipe, Spec

LARGEST = 2**20
"""Beyond this batch the search does not go."""

_UNCOUNTED = 2**31 - 1


class Memory(NamedTuple):
    """Bytes on one device while a step runs.

    Attributes:
      parameters: what the optimizer trains.
      optimizer: its state.
      method: what the method carries: statistics, a moving average, a queue; counters.
      data: images and labels that stay on the device.
      batch: what a step is fed; where it is streamed, the next one too.
      rest: activations and everything else the compiler sets aside.
    """

    parameters: int
    optimizer: int
    method: int
    data: int
    batch: int
    rest: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class Plan(NamedTuple):
    """What one training step takes.

    Attributes:
      recipe: of the run.
      source: its data.
      mesh: the devices it was compiled for.
      resident: whether the images are held on the device.
      memory: bytes on one device.
      limit: bytes one device has.
      flops: operations of the products, over all devices.
      bytes_accessed: what one device reads and writes, as its compiler counts it; loop
        bodies once, so that it is too low where a loss is streamed.
      rates: of one device.
      foreign: whether the rates are of another kind of device than it was compiled for.
    """

    recipe: Recipe
    source: data.Source
    mesh: Mesh
    resident: bool
    memory: Memory
    limit: int
    flops: train.Flops
    bytes_accessed: float
    rates: Rates
    foreign: bool

    @property
    def fits(self) -> bool:
        """Whether one device has the memory."""
        return self.memory.total <= self.limit

    @property
    def compute_seconds(self) -> float:
        """The products at peak rate."""
        half = sum(
            n for d, n in self.flops.by_dtype.items() if np.dtype(d).itemsize <= 2
        )
        seconds = half / self.rates.half + (self.flops.total - half) / self.rates.single
        return seconds / self.mesh.size

    @property
    def traffic_seconds(self) -> float:
        """The compiler's bytes at full bandwidth."""
        return self.bytes_accessed / self.rates.bandwidth

    @property
    def least_seconds(self) -> float:
        """The roofline: a bound from below, which no run reaches.

        The products alone where it was compiled for another kind of device: how many
        bytes move depends on the compiler.
        """
        if self.foreign:
            return self.compute_seconds
        return max(self.compute_seconds, self.traffic_seconds)

    @property
    def device_kind(self) -> str:
        """What jax calls the devices it was compiled for."""
        return self.mesh.devices.flat[0].device_kind


def plan(
    recipe: Recipe,
    source: data.Source,
    *,
    mesh: Mesh,
    limit: int,
    peak_flops: float | None = None,
    bandwidth: float | None = None,
) -> Plan:
    """Compiles one step and reads off what it takes.

    Memory is argument + output + temp − alias of the compiled step, and what lies on
    the device beside its arguments: unused ones, and the next batch of a stream.

    Args:
      recipe: of the run.
      source: its data; sizes matter, no image is read.
      mesh: devices to compile for.
      limit: bytes one device has; a quarter may hold images, as in the run.
      peak_flops, bandwidth: of one device, where they are not to be looked up; as in
        `rates_of`.

    Raises:
      UsageError: whatever the parts say about their arguments, before compilation.
    """
    source = labelled.of_run(recipe, source)
    parts = recipes.build(recipe, source)
    check.check(recipe, source, mesh)
    resident = data.fits(source, limit_bytes=check.image_limit(limit))
    count = train.scanned_steps(recipe.log_every) if resident else 1
    if count > min(recipe.checkpoint_every, recipe.steps):
        count = 1
    with own.one_line(own.names(recipes.as_json(recipe))):
        step = train.plan_step(
            parts.method,
            source,
            augment=parts.augment,
            optimizer=parts.optimizer,
            batch_size=recipe.batch_size,
            mesh=mesh,
            resident=resident,
            steps=count,
        )
    with jax.set_mesh(mesh):
        compiled = step.traced.lower().compile()
    cost = compiled.cost_analysis() or {}
    device = mesh.devices.flat[0]
    return Plan(
        recipe,
        source,
        mesh,
        resident,
        _memory(step, compiled),
        limit,
        train.count_flops(step.traced.jaxpr).over(count),
        float(cost.get("bytes accessed", 0.0)),
        rates_of(device, peak_flops=peak_flops, bandwidth=bandwidth),
        # Who gives a bandwidth where jax has only the CPU has something else in mind.
        device.platform == "cpu" and bandwidth is not None,
    )


def _memory(step: train.PlannedStep, compiled) -> Memory:
    stats = compiled.memory_analysis()
    arguments = (step.state, step.lost, step.held, step.inputs)
    used = jax.tree.leaves(compiled.input_shardings[0], is_leaf=lambda s: s is None)
    # An argument nothing depends on is no argument of the compiled step.
    unused = sum(
        _bytes(x)
        for x, s in zip(jax.tree.leaves(arguments), used, strict=True)
        if s is None
    )
    total = unused + (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )
    counters = (step.state.step, step.state.rng, step.lost)
    parameters, optimizer, method, held, batch = map(
        _bytes,
        (
            step.state.params,
            step.state.opt_state,
            (step.state.state, counters),
            step.held,
            step.inputs,
        ),
    )
    rest = total - (parameters + optimizer + method + held + batch)
    following = 0 if step.held else batch
    return Memory(parameters, optimizer, method, held, batch + following, rest)


def _bytes(tree: Any) -> int:
    """Of the leaves of a tree on one device."""

    def one(x):
        shape = x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)
        return int(np.prod(shape)) * x.dtype.itemsize

    return sum(map(one, jax.tree.leaves(tree)))


HEADS = ("projection_head", "prediction_head", "task_head")
"""What these hold of an example is next to nothing beside an encoder."""


def remedies(found: Plan) -> list[str]:
    """Flags that make a run that does not fit smaller, with values by proportion."""
    memory, recipe = found.memory, found.recipe
    grows = memory.batch + memory.rest
    room = found.limit - (memory.total - grows)
    if room <= 0:
        fixed = "parameters, states and data alone are too much"
        return [f"a smaller network or fewer images ({fixed})"]
    devices = found.mesh.size
    most = recipe.batch_size * room // grows
    below = batch_sizes(batch_unit(recipe, devices), most)
    lines = [f"--batch-size {below[-1]} or so"] if below else []
    if "micro_batch" in recipe.method.arguments:
        lines.append("a smaller --micro-batch")
    for role, net in recipe.networks.items():
        if net.arguments.get("dtype") == "float32" and net.factory not in HEADS:
            lines.append(f"--{role}.dtype bfloat16")
        if net.arguments.get("remat") is False:
            lines.append(f"--{role}.remat")
    least = devices * -(-grows // room)
    enough = (n for n in range(least, recipe.batch_size) if not recipe.batch_size % n)
    if count := next(enough, None):
        lines.append(f"--devices {count} or so")
    return lines


def batch_unit(recipe: Recipe, devices: int) -> int:
    """What a batch must be a multiple of."""
    parts = (recipe.method, *recipe.networks.values())
    divisors = [p.arguments.get(n) for p in parts for n in ("split", "micro_batch")]
    return math.lcm(devices, *(n for n in divisors if n))


def imagined(name: str) -> tuple[Spec, data.Source] | None:
    """Data that need not exist: HxWxC or HxWxC:COUNT, without labels.

    Without a count there are too many images to be held on a device.

    Returns:
      Its spec and source, or None for any other name.
    """
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)(?::(\d+))?", name)
    if found is None:
        return None
    height, width, channels = map(int, found.groups()[:3])
    size = _UNCOUNTED if found[4] is None else int(found[4])
    if min(height, width, channels, size) < 1 or size > _UNCOUNTED:
        raise UsageError(f"--data {name}: sizes must be at least 1, images below 2^31")

    def load(index: int) -> np.ndarray:
        raise UsageError(f"--data {name} is for planning; it has no images")

    spec = Spec("imagined", {"name": name})
    return spec, data.Source(name, size, (height, width, channels), load)


def counted(source: data.Source) -> bool:
    """Whether the number of images is known."""
    return source.size < _UNCOUNTED


def batch_sizes(unit: int, most: int) -> list[int]:
    """1, 2, 3, then 4, 5, 6, 7 times powers of two: times `unit`, up to `most`."""
    factors = [1, 2, 3]
    factors += [m << j for j in range(most.bit_length()) for m in (4, 5, 6, 7)]
    return [unit * f for f in factors if unit * f <= most]


def largest(
    sizes: list[int], need: Callable[[int], int | None], *, start: int, limit: int
) -> int | None:
    """The largest of `sizes` that needs no more than `limit`; `need` must not fall.

    Doubles or halves from `start` until the limit lies between two sizes, then goes
    where the straight line through the two nearest would meet it.

    Args:
      sizes: as `batch_sizes` returns them.
      need: bytes for a size; None where it is refused. Called once for each size tried.
      start: where to begin; the nearest of `sizes` not above it is taken.
      limit: bytes.

    Returns:
      A size that was tried and fits, the next of `sizes` having been tried and does
      not; None where not even the first fits.
    """
    known: dict[int, int | None] = {}
    low, high = -1, len(sizes)
    at = max([i for i, size in enumerate(sizes) if size <= start], default=0)
    while high - low > 1:
        found = known[at] = need(sizes[at])
        if found is not None and found <= limit:
            low = at
        else:
            high = at
        at = _next(sizes, known, low, high, limit)
    return sizes[low] if low >= 0 else None


def _next(sizes, known, low: int, high: int, limit: int) -> int:
    """An index between the two, or any where none is left."""
    points = [(i, n) for i, n in known.items() if n is not None]
    points = sorted(points, key=lambda point: abs(point[1] - limit))[:2]
    guess = low + 4 if high == len(sizes) else high - 4
    if len(points) == 2:
        (i, a), (j, b) = points
        slope = (b - a) / (sizes[j] - sizes[i])
        reach = sizes[i] + (limit - a) / slope if slope > 0 else float("inf")
        guess = max([k for k, size in enumerate(sizes) if size <= reach], default=0)
        # A line through two small sizes says little about very large ones.
        guess = min(guess, max(known) + 16)
    return min(max(guess, low + 1), high - 1)
