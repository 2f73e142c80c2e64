"""`rl-jax plan METHOD`: what a run would take, before anything runs."""

import argparse
import contextlib
import json
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from rl_jax import data, files, train
from rl_jax.cli import recipe as recipes
from rl_jax.cli.cache import enable_compilation_cache
from rl_jax.errors import UsageError
from rl_jax.run import check
from rl_jax.run import plan as plans
from rl_jax.run.datasets import Kind
from rl_jax.run.plan import Plan
from rl_jax.run.recipe import Recipe, Spec, with_batch_size

FLAGS = {
    "devices": (int | None, None),
    "memory": (str | None, None),
    "largest": (bool, False),
    "peak_flops": (float | None, None),
    "bandwidth": (float | None, None),
    "json": (pathlib.Path | None, None),
}

DOC = """\
  devices: number of devices to plan for; by default those of this machine. Without
    accelerators more than there are can be had.
  memory: what jax may use on one device, as 80GB or 24GiB; by default what the device
    reports (jax takes three quarters of a GPU unless told), else the machine's memory.
  largest: find the largest batch that fits, by compiling for several, from
    --batch-size up or down.
  peak_flops: operations per second of one device, in place of the known or measured.
  bandwidth: bytes per second between one device and its memory, likewise.
  json: write the numbers to this file too.
"""

UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def plan(argv: Sequence[str]) -> None:
    """Parses the arguments of a run, compiles its step and prints what it takes."""
    enable_compilation_cache()
    _ask_for_devices(argv)
    asked = recipes.read("plan", argv, more=FLAGS, doc=DOC, open_data=_open_data)
    if asked is None:
        return
    flags = asked.flags
    mesh = _mesh(flags["devices"])
    options = {"mesh": mesh, "limit": _limit(flags["memory"])}
    for name in ("peak_flops", "bandwidth"):
        value = options[name] = flags[name]
        if value is not None and not 0 < value < math.inf:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} must be > 0, got {value:g}")
    if flags["json"] is not None:
        check.output_file("--json", flags["json"])
    if flags["largest"]:
        found = _largest(asked.recipe, asked.source, options)
    else:
        found = plans.plan(asked.recipe, asked.source, **options)
    for line in asked.remarks:
        print(line)
    print(table(found))
    if flags["json"] is not None:
        files.write_text(flags["json"], json.dumps(content(found), indent=1) + "\n")


def _open_data(
    name: str, kind: Kind, argv: Sequence[str], prog: str
) -> tuple[Spec, data.Source]:
    return plans.imagined(name) or recipes.open_data(name, kind, argv, prog)


def _ask_for_devices(argv: Sequence[str]) -> None:
    """Asks for more virtual CPU devices, which is possible until jax has started."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--devices", default="")
    count = parser.parse_known_args(list(argv))[0].devices
    there = re.findall(r"device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    if count.isdigit() and int(count) > max(map(int, there), default=1):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", int(count))


def _mesh(count: int | None) -> Mesh:
    devices = jax.devices()
    if count is None:
        return train.data_mesh()
    if count < 1:
        raise UsageError(f"--devices must be at least 1, got {count}")
    if count > len(devices):
        there = f"--devices {count}: jax has {len(devices)} {devices[0].device_kind}"
        if devices[0].platform == "cpu":
            raise UsageError(f"{there} and has started; use a process of its own")
        raise UsageError(f"{there}; JAX_PLATFORMS=cpu plans on virtual devices")
    return train.data_mesh(devices[:count])


def _limit(text: str | None) -> int:
    return check.memory() if text is None else parse_bytes(text)


def parse_bytes(text: str) -> int:
    """The bytes of an amount of memory such as 80GB (10⁹), 24GiB (2³⁰) or 500MB.

    Raises:
      UsageError: for anything else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)b", text.strip().lower())
    amount = float(found[1]) if found else 0.0
    if found is None or (found[3] and not found[2]) or not amount:
        raise UsageError(
            f"--memory {text}: expected an amount with its unit, as 80GB or 24GiB"
        )
    return int(amount * (1024 if found[3] else 1000) ** UNITS[found[2]])


def _largest(recipe: Recipe, source: data.Source, options: dict[str, Any]) -> Plan:
    """The plan of the largest batch that fits, or of the smallest if none does."""
    mesh, limit = options["mesh"], options["limit"]
    unit = plans.batch_unit(recipe, mesh.size)
    sizes = plans.batch_sizes(unit, min(source.size, plans.LARGEST))
    if not sizes:
        raise UsageError(
            f"the batch must be a multiple of {unit}, there are {source.size} examples"
        )
    tried: dict[int, Plan] = {}

    def need(size: int) -> int | None:
        try:
            found = plans.plan(with_batch_size(recipe, size), source, **options)
        except UsageError as error:
            if not tried:
                raise
            print(f"batch {size:>9,}  refused: {error}", flush=True)
            return None
        tried[size] = found
        answer = "fits" if found.fits else "does not fit"
        line = f"batch {size:>9,}  {amount(found.memory.total):>10}  {answer}"
        print(line, flush=True)
        return found.memory.total

    best = plans.largest(sizes, need, start=recipe.batch_size, limit=limit)
    print()
    if best == sizes[-1]:
        print(f"the search ends at {best:,}, the largest size it tries on this data\n")
    return tried[best or min(tried)]


def amount(count: float) -> str:
    """Bytes for reading: 512 B, 38.8 MiB, 23.5 GiB."""
    units = ("B", "KiB", "MiB", "GiB")
    power = min(int(math.log(max(count, 1), 1024)), len(units) - 1)
    number = count / 1024**power
    return f"{number:,.{1 if power else 0}f} {units[power]}"


def duration(seconds: float) -> str:
    """Seconds for reading: 7.21 µs, 206 ms, 3.4 s, 5.0 min, 12.3 h, 4.2 days."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= (2 * size if unit != "s" else size):
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def scaled(count: float) -> str:
    """A count with its power of a thousand: 12.3 G, 1.20 T."""
    power = max(0, min(int(math.log(max(count, 1), 1000)), 5))
    return f"{count / 1000**power:,.3g} {('', 'k', 'M', 'G', 'T', 'P')[power]}"


def content(found: Plan) -> dict[str, Any]:
    """The numbers of a plan for a file: bytes, operations, seconds."""
    memory, rates = found.memory, found.rates
    return {
        "method": found.recipe.method.factory,
        "networks": {r: net.factory for r, net in found.recipe.networks.items()},
        "data": found.source.name,
        "images": found.source.size if plans.counted(found.source) else None,
        "image_shape": list(found.source.image_shape),
        "resident": found.resident,
        "batch_size": found.recipe.batch_size,
        "steps": found.recipe.steps,
        "devices": found.mesh.size,
        "compiled_for": found.device_kind,
        "memory": memory._asdict() | {"total": memory.total},
        "limit": found.limit,
        "fits": found.fits,
        "flops": found.flops.by_dtype,
        "open_loops": found.flops.open_loops,
        "bytes_accessed": found.bytes_accessed,
        "rates": rates._asdict(),
        "foreign": found.foreign,
        "compute_seconds": found.compute_seconds,
        "traffic_seconds": found.traffic_seconds,
        "least_seconds": found.least_seconds,
    }


def table(found: Plan) -> str:
    """A plan as text: memory, one step, what to keep in mind, the verdict."""
    recipe, memory = found.recipe, found.memory
    each = " on each device" if found.mesh.size > 1 else ""
    run = found.least_seconds * recipe.steps
    rows = [
        ("memory of one device", ""),
        ("parameters", amount(memory.parameters)),
        ("optimizer state", amount(memory.optimizer)),
        ("method state", amount(memory.method)),
        ("data held", amount(memory.data)),
        ("batch" if found.resident else "batch and the next", amount(memory.batch)),
        ("activations and the rest", amount(memory.rest)),
        ("total", amount(memory.total)),
        ("there is", amount(found.limit)),
        ("", ""),
        ("one step", ""),
        ("products", f"{scaled(found.flops.total)}FLOP"),
        (f"bytes moved{each}", amount(found.bytes_accessed)),
        ("products at peak rate", duration(found.compute_seconds)),
        ("bytes at full bandwidth", duration(found.traffic_seconds)),
        ("a step takes at least", duration(found.least_seconds)),
        (f"{recipe.steps:,} steps at least", duration(run)),
    ]
    wide = max(len(name) for name, _ in rows)
    lines = []
    for name, value in rows:
        number, _, unit = value.partition(" ")
        lines.append(f"{name:<{wide}}  {number:>9} {unit}".rstrip())
    return "\n".join(
        [_headline(found), "", *lines, "", *_notes(found), "", verdict(found)]
    )


def _headline(found: Plan) -> str:
    recipe, source = found.recipe, found.source
    count = f"{source.size:,} " if plans.counted(source) else ""
    held = "held on the device" if found.resident else "streamed"
    plural = "s" if found.mesh.size > 1 else ""
    return (
        f"{recipe.method.factory}{_encoder(recipe)} on {source.name}: "
        f"{count}{data.contents(source)} ({held}), batch {recipe.batch_size:,}, "
        f"{found.mesh.size} {found.device_kind} device{plural}"
    )


def _encoder(recipe: Recipe) -> str:
    encoder = recipe.networks.get("encoder")
    return f" with {encoder.factory}" if encoder else ""


def _notes(found: Plan) -> list[str]:
    """Where the numbers come from and what they leave out, a line each."""
    rates, by_dtype = found.rates, found.flops.by_dtype
    peak = f"{scaled(rates.single)}FLOP/s"
    if rates.half != rates.single:
        peak += f" ({scaled(rates.half)}FLOP/s at 16 bits)"
    lines = [
        f"rates: {peak}, {scaled(rates.bandwidth)}B/s, {rates.origin}",
        "least time: a roofline and no promise; bytes are the compiler's count, with "
        "each loop gone through once",
    ]
    if found.foreign:
        lines[-1] = (
            "least time: that of the products, and no promise; other compilers move "
            "other bytes"
        )
    if len(by_dtype) > 1:
        shares = ", ".join(f"{scaled(n)}FLOP in {d}" for d, n in by_dtype.items())
        lines.insert(0, f"products: {shares}")
    if found.flops.open_loops:
        lines.append(
            f"products: {found.flops.open_loops} loops of unknown length count once"
        )
    if found.mesh.devices.flat[0].platform == "cpu":
        note = "compiled for cpu: another device's compiler sets aside other amounts"
        if "bfloat16" in by_dtype:
            note += "; cpu computes bfloat16 in float32, others need less"
        lines.append(note)
    return lines


def verdict(found: Plan) -> str:
    """Whether it fits, by how much, and what helps where it does not."""
    need, limit = found.memory.total, found.limit
    if found.fits:
        spare = amount(limit - need)
        return f"fits: {amount(need)} of {amount(limit)}, {spare} to spare"
    helps = plans.remedies(found)
    hint = f"; what helps: {', or '.join(helps)}" if helps else ""
    over = amount(need - limit)
    return (
        f"does not fit: {amount(need)} needed, {over} more than {amount(limit)}{hint}"
    )
