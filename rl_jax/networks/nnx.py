"""NNX modules as networks."""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import nnx

from rl_jax.errors import UsageError
from rl_jax.networks.layers import pooled, told
from rl_jax.types import Network, Params, State

TOLD = "told_"
"""Begins the attributes that hold layers: `layer1` may be a block's own name."""

_telling = contextvars.ContextVar("telling", default=False)


def from_nnx(make: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """A Flax NNX module as two pure functions.

    Args:
      make: builds the module, `lambda rngs: MyEncoder(64, rngs=rngs)`. It is called as
        `module(x)`, after `module.train()` or `module.eval()`. Noise in training, such
        as that of `nnx.Dropout`, is drawn from the streams that the module holds; they
        start anew from the `rng` that `apply` is given, and methods give one to every
        pass.

    Returns:
      A network. `params` holds every `nnx.Param`, `state` every other variable but
      streams and intermediates, both as dicts keyed by attribute; evaluation returns
      the very state it was given. Its layers are what the module notes by
      `networks.tell`. Arrays that are attributes without a variable around them are
      constants, those of `make(nnx.Rngs(0))`.

    Raises:
      UsageError: for what makes no NNX module; from `init`, for inputs that the module
        cannot take, or variables that a call makes; while tracing, in training without
        an `rng` where the module holds streams.
    """
    blank = _blank(make)
    name = type(blank).__name__
    graph, *blanks = _split(blank)
    noisy = bool(jax.tree.leaves(blanks[1]))

    def init(rng, x):
        _, params, _, _, state = _split(make(nnx.Rngs(_typed(rng))))
        params, state = _as_dict(params), _as_dict(state)
        try:
            run = functools.partial(apply, params, state, train=True, rng=rng)
            jax.eval_shape(run, x)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"{name}: it cannot take inputs {jnp.shape(x)}: {_first_line(error)}"
            ) from error
        return params, state

    def merged(params, state, rng) -> nnx.Module:
        noted = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), _as_dict(blanks[2]))
        values = (params, _started(blanks[1], rng), noted, state)
        parts = [_filled(b, v) for b, v in zip(blanks, values, strict=True)]
        return nnx.merge(graph, *parts)

    def apply(params, state, x, *, train, rng=None):
        if train and noisy and rng is None:
            raise UsageError(
                f"{name}: it draws noise in training and was given no rng; pass "
                "apply(..., rng=key)"
            )
        module = merged(params, state, rng)
        if not train:
            module.eval()
            return module(x), state
        module.train()
        y = module(x)
        new = _as_dict(_split(module)[4])
        if jax.tree.structure(new) != jax.tree.structure(state):
            before, after = (
                {jax.tree_util.keystr(path) for path, _ in leaves}
                for leaves in map(jax.tree_util.tree_leaves_with_path, (state, new))
            )
            raise UsageError(
                f"{name}: a call makes or removes {', '.join(sorted(before ^ after))}; "
                "make every variable in __init__"
            )
        return y, new

    def layers(params, state, x):
        module = merged(params, state, None)
        module.eval()
        before = _telling.set(True)
        try:
            module(x)
        finally:
            _telling.reset(before)
        return told(_without_prefix(_as_dict(_split(module)[3])))

    return Network(init, apply, layers=layers)


def tell(
    module: nnx.Module, number: int, x: chex.Array, real: chex.Array | None = None
) -> None:
    """What `networks.tell` does for a module of NNX."""
    if _telling.get():
        setattr(module, f"{TOLD}layer{number}", nnx.Intermediate(pooled(x, real)))


def _without_prefix(noted: State) -> State:
    """Only what `tell` noted, by the names of layers."""
    return {
        name.removeprefix(TOLD): _without_prefix(v) if isinstance(v, dict) else v
        for name, v in noted.items()
        if isinstance(v, dict) or name.startswith(TOLD)
    }


def _blank(make: Callable[[nnx.Rngs], nnx.Module]) -> nnx.Module:
    """The module, with shapes for values unless it has arrays without a variable.

    Raises:
      UsageError: for anything but a function that makes one.
    """
    if not callable(make) or isinstance(make, nnx.Module):
        raise UsageError(
            f"from_nnx: expected a function of nnx.Rngs, got {type(make).__name__}; "
            "write from_nnx(lambda rngs: MyModule(rngs=rngs))"
        )
    try:
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        if isinstance(module, nnx.Module) and _has_arrays(module):
            module = make(nnx.Rngs(0))
    except Exception as error:
        raise UsageError(
            f"from_nnx: expected a function of nnx.Rngs, got one that fails: "
            f"{_first_line(error)}; write from_nnx(lambda rngs: MyModule(rngs=rngs))"
        ) from error
    if not isinstance(module, nnx.Module):
        raise UsageError(
            "from_nnx: expected a function that makes an nnx.Module, got one of "
            f"{type(module).__name__}; networks.from_linen takes modules of Linen"
        )
    return module


def _has_arrays(module: nnx.Module) -> bool:
    """Whether attributes are arrays, of which `eval_shape` gives no values."""
    abstract = (jax.core.Tracer, jax.ShapeDtypeStruct)
    return any(
        isinstance(leaf, abstract)
        for _, part in nnx.iter_modules(module)
        for value in vars(part).values()
        if not isinstance(value, nnx.Module | nnx.Variable)
        for leaf in jax.tree.leaves(value, is_leaf=_is_variable)
    )


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _split(module: nnx.Module):
    """Its graph, parameters, streams, intermediates, and the rest."""
    return nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)


def _as_dict(state: nnx.State) -> Params | State:
    """Values of variables by their attributes, numbers in a list as words."""
    tree = {}
    for path, leaf in nnx.to_flat_state(state):
        if not _is_variable(leaf):
            continue
        *parents, last = map(str, path)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf.get_value()
    return tree


def _filled(blank: nnx.State, tree: Params | State) -> nnx.State:
    """The inverse of `_as_dict`, for variables like those of `blank`.

    What is no variable there is taken as it is.
    """
    flat = []
    for path, leaf in nnx.to_flat_state(blank):
        if not _is_variable(leaf):
            flat.append((path, leaf))
            continue
        value = tree
        for name in path:
            value = value[str(name)]
        flat.append((path, leaf.replace(value)))
    return nnx.from_flat_state(flat)


def _started(streams: nnx.State, rng: chex.PRNGKey | None) -> State:
    """Streams at their start, each with a key of its own made from `rng`."""
    rng = jax.random.key(0) if rng is None else _typed(rng)

    def start(i, leaf):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jax.random.split(jax.random.fold_in(rng, i), leaf.shape)

    leaves, tree = jax.tree.flatten(_as_dict(streams))
    return jax.tree.unflatten(tree, [start(i, leaf) for i, leaf in enumerate(leaves)])


def _typed(rng: chex.PRNGKey) -> chex.PRNGKey:
    typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    return rng if typed else jax.random.wrap_key_data(rng)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
