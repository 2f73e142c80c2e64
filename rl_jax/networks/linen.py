"""Linen modules as networks, and networks one after the other."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import InvalidRngError, ScopeParamShapeError

from rl_jax.errors import UsageError, check_integer
from rl_jax.networks.layers import layers_of, told
from rl_jax.types import Network

OTHERWISE = "use an mlp for vectors and sequences, a text_transformer for tokens"
"""What networks of images say of other inputs."""


def from_linen(module: nn.Module) -> Network:
    """A Flax Linen module as two pure functions.

    `init` needs only the shapes and dtypes of x: it does not run the forward pass.

    Args:
      module: called as `module(x, train=bool)`, x an array or a tuple of them. Noise in
        training, such as that of `nn.Dropout`, is drawn from the rng stream `dropout`,
        which is the `rng` that `apply` is given; methods give one to every pass. An
        attribute `split` is the number of groups of rows that its BatchNorm layers keep
        apart, and becomes the network's. Its layers are what it notes by
        `networks.tell`.

    Returns:
      A network. `state` holds every collection but `params`, `{}` where there is
      none; evaluation returns the very state it was given.
    """
    split = getattr(module, "split", 1)

    def init(rng, x):
        spec = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x)
        variables = dict(module.lazy_init({"params": rng}, spec, train=False))
        return variables.pop("params", {}), variables

    def apply(params, state, x, *, train, rng=None, parts=1):
        if split % parts:
            raise UsageError(
                f"{type(module).__name__}: split={split} groups of rows do not fall "
                f"into {parts} equal parts; use a split that is a multiple of {parts}"
            )
        part = module if parts == 1 else module.clone(split=split // parts)
        y, new_state = _run(
            part,
            params,
            state,
            x,
            train=train,
            rngs=None if rng is None else {"dropout": rng},
            mutable=list(state) if train else [],
        )
        return y, dict(new_state) if train else state

    def layers(params, state, x):
        mutable = ["intermediates"]
        _, noted = _run(module, params, state, x, train=False, mutable=mutable)
        return told(noted.get("intermediates", {}))

    return Network(init, apply, split, layers)


def _run(module: nn.Module, params, state, x, **how):
    try:
        return module.apply({"params": params, **state}, x, **how)
    except ScopeParamShapeError:
        raise UsageError(
            f"{type(module).__name__}: its parameters were made for inputs of "
            f"another shape than {tuple(x.shape)}; give it that shape, or use a "
            "network that takes any size (convnet, resnet)"
        ) from None
    except InvalidRngError:
        reason = (
            "was given no rng; pass apply(..., rng=key)"
            if how.get("rngs") is None
            else "asks for another stream; draw from make_rng('dropout')"
        )
        raise UsageError(
            f"{type(module).__name__}: it draws noise in training, for which there is "
            f"the stream `dropout` alone, and {reason}"
        ) from None


def chain(**networks: Network) -> Network:
    """Networks one after the other, each fed what the one before it returns.

    Args:
      **networks: by name, in order: `chain(encoder=f, projector=g)` is g(f(x)).

    Returns:
      A network whose `params` and `state` are dicts keyed by those names, whose `split`
      is the number of groups that all of them keep apart, and whose layers are theirs,
      counted on from one network to the next.

    Raises:
      UsageError: without any network.
    """
    if not networks:
        raise UsageError("chain: got no network, expected at least one name=network")
    for name, network in networks.items():
        if not isinstance(network, Network):
            raise UsageError(
                f"{name}: expected a Network, got {type(network).__name__}; "
                "networks.from_linen makes one of a Flax module"
            )

    def init(rng, x):
        params, state = {}, {}
        for i, (name, network) in enumerate(networks.items()):
            params[name], state[name] = network.init(jax.random.fold_in(rng, i), x)
            evaluate = functools.partial(network.apply, train=False)
            y, _ = jax.eval_shape(evaluate, params[name], state[name], x)
            x = jnp.zeros(y.shape, y.dtype)
        return params, state

    def apply(params, state, x, *, train, rng=None, parts=1):
        more = {} if parts == 1 else {"parts": parts}
        new_state = {}
        for i, (name, network) in enumerate(networks.items()):
            own = None if rng is None else jax.random.fold_in(rng, i)
            x, new_state[name] = network.apply(
                params[name], state[name], x, train=train, rng=own, **more
            )
        return x, new_state if train else state

    def layers(params, state, x):
        found = []
        for name, network in networks.items():
            found += layers_of(network, params[name], state[name], x).values()
            x, _ = network.apply(params[name], state[name], x, train=False)
        return {f"layer{i + 1}": value for i, value in enumerate(found)}

    split = math.gcd(*(network.split for network in networks.values()))
    return Network(init, apply, split, layers)


def as_sizes(factory: str, **sizes: Sequence[int]) -> tuple[int, ...]:
    """The only argument, sizes of several layers, as a tuple, checked.

    Raises:
      UsageError: as `check_sizes`, and for a single number.
    """
    ((name, size),) = sizes.items()
    if not isinstance(size, Sequence) or isinstance(size, str):
        raise UsageError(
            f"{factory}: {name} must be a tuple of integers, as (64, 128), got {size!r}"
        )
    check_sizes(factory, **{name: tuple(size)})
    return tuple(size)


def check_sizes(factory: str, **sizes: int | tuple[int, ...]) -> None:
    """Refuses sizes of layers that are no integers, or not at least 1.

    Raises:
      UsageError: naming the factory and the argument.
    """
    for name, size in sizes.items():
        each = size if isinstance(size, tuple) else (size,)
        for n in each:
            check_integer(f"{factory}: {name}", n)
        if any(n < 1 for n in each):
            raise UsageError(f"{factory}: {name} must be at least 1, got {size}")


def check_input(
    factory: str, x, expected: str, *, rank: int | None = None, instead: str
) -> None:
    """Refuses what a network cannot take; called in its `__call__`, while tracing.

    Args:
      factory: of the network.
      x: what it got.
      expected: of it, in words.
      rank: of the array; None: any.
      instead: what to use for other inputs.

    Raises:
      UsageError: for no array, or one of another rank.
    """
    array = hasattr(x, "ndim")
    if not array or rank not in (None, x.ndim):
        got = f"{x.dtype} {tuple(x.shape)}" if array else type(x).__name__
        raise UsageError(f"{factory}: expected {expected}, got {got}; {instead}")
