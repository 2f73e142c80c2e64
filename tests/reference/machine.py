"""Meshes of virtual devices, quick compilation, what a compiled function holds."""

import collections
import functools
import math
import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE",
}
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)
"""For programs that run once: in a hurry also under `--optimized`."""


def make_mesh(order):
    """A `data` axis over the devices with these ids, in this order."""
    devices = [jax.devices()[i] for i in order]
    auto = (AxisType.Auto,)
    return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=auto)


def share(mesh, tree):
    """The arrays of a tree with their rows shared out over the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("data")))


def temporary_bytes(executable):
    """Of one device."""
    analysis = executable.memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def largest_array(executable):
    """How many entries the largest array of the compiled text has."""
    shapes = re.findall(r"[a-z]+\d+\[([\d,]+)\]", executable.as_text())
    assert shapes
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


def hops(jaxpr, times=1):
    """How often arrays of each shape are sent on by `ppermute`, steps of scans counted.

    Both branches of a `cond` count, and the body of a `while` once.
    """
    found = collections.Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "ppermute":
            found.update({v.aval.shape: times for v in equation.invars})
        steps = times * equation.params.get("length", 1)
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                found += hops(inner, steps)
    return found
