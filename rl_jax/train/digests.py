"""What tells one tree of arrays from another: its layout, the digest of its bits."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rl_jax.errors import UsageError


def _raw(x: chex.Array) -> chex.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def room_needed(state: chex.ArrayTree) -> int:
    """Bytes of disk for one checkpoint, a fifth more than those of its arrays.

    Args:
      state: arrays, or their shapes as `jax.eval_shape` gives them.
    """
    shapes = jax.tree.leaves(jax.eval_shape(lambda s: jax.tree.map(_raw, s), state))
    return int(1.2 * sum(x.size * x.dtype.itemsize for x in shapes))


def _words(x: chex.Array) -> chex.Array:
    """64 bits of NumPy as 32 and 32, of which `jit` would round away a half."""
    wide = isinstance(x, np.ndarray) and x.dtype.itemsize == 8
    return np.ascontiguousarray(x).reshape(-1).view(np.uint32) if wide else x


@jax.jit
def _digests(leaves: list[chex.Array]) -> list[chex.Array]:
    """Two modular sums of each leaf's bits, mixed with their position: uint32 [2].

    Sums modulo 2³² do not depend on the order, so neither on how the leaf is sharded.
    Odd multipliers make every single changed word show.
    """

    def digest(x):
        x = _raw(x)
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        width = 8 * x.dtype.itemsize
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(width, 32)}"))
        bits = bits.reshape(-1).astype(jnp.uint32)
        place = lax.iota(jnp.uint32, bits.size)
        first = jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
        second = (bits ^ (place * jnp.uint32(0x85EBCA6B))) * jnp.uint32(0x9E3779B1)
        second ^= second >> 15
        return jnp.stack([first, jnp.sum(second * (2 * place + 1), dtype=jnp.uint32)])

    return [digest(x) for x in leaves]


def fingerprint(tree: chex.ArrayTree) -> dict[str, list]:
    """Per leaf path: shape, dtype and the two words of its digest."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree), strict=True)
    sums = jax.device_get(_digests([_words(x) for x in leaves]))
    return {
        jax.tree_util.keystr(path): [list(x.shape), str(x.dtype), *map(int, words)]
        for path, x, words in zip(paths, leaves, sums, strict=True)
    }


def layout(tree: chex.ArrayTree) -> dict[str, list]:
    """Per leaf path: shape and dtype."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): [list(x.shape), str(x.dtype)] for p, x in leaves}


def path_of(name: str) -> tuple[str, ...]:
    """The parts of a leaf's path: `.state.online['encoder']` is state, online, encoder.

    Args:
      name: as `fingerprint` and `layout` have it.
    """
    found = re.findall(r"\['([^']*)'\]|\.(\w+)|\[(\d+)\]", name)
    return tuple("".join(part) for part in found)


def check_content(saved: dict[str, list], found: dict[str, list]) -> None:
    """Refuses leaves whose bits are not what was saved."""
    changed = [name for name, entry in saved.items() if found[name] != entry]
    if changed:
        raise ValueError(f"the content of {', '.join(changed[:3])} has changed")


def check_layout(step: int, saved: dict, asked: dict) -> None:
    """Refuses a checkpoint of another configuration, naming the first difference."""
    if {name: entry[:2] for name, entry in saved.items()} == asked:
        return
    for name in sorted(saved.keys() | asked.keys()):
        one, two = saved.get(name, [None, None])[:2], asked.get(name, [None, None])
        if one != two:
            said = [
                "nothing" if shape is None else f"{dtype}{shape}"
                for shape, dtype in (one, two)
            ]
            raise UsageError(
                f"checkpoint {step} was made with another configuration: {name} is "
                f"{said[0]} there, {said[1]} here; use the run's own run.json"
            )
