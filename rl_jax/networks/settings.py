"""What the layers of a network are set to: all that their parameters do not show."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn


def settings(
    function: Callable, *arguments: Any, names: Callable[..., Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The Linen layers that a function calls, in order, with what they are set to.

    Args:
      function: of the arguments; it is traced, not run.
      arguments: arrays or their shapes, in any trees.
      names: `(arguments) -> {name: leaf}`, their parameters and statistics.

    Returns:
      For each layer with parameters or statistics of its own and something set, once:
      `layer` (where its tensors are), `kind`, and of `epsilon`, `strides`, `padding`
      (before and after each axis), `dilation`, `groups` those it has. Layers of other
      libraries are not seen.
    """
    found: dict[str, dict[str, Any]] = {}

    def traced(*given):
        known = {id(leaf): name for name, leaf in names(*given).items()}

        def called(following, args, kwargs, context):
            module = context.module
            own = [
                known[id(leaf)]
                for variables in module.variables.values()
                for leaf in variables.values()
                if id(leaf) in known
            ]
            told = _set(module)
            if own and told and context.method_name == "__call__":
                layer = own[0].rpartition("/")[0]
                kind = type(module).__name__
                found.setdefault(layer, {"layer": layer, "kind": kind} | told)
            return following(*args, **kwargs)

        with nn.intercept_methods(called):
            return function(*given)

    jax.eval_shape(traced, *arguments)
    return list(found.values())


def _set(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, nn.Conv):
        axes = len(module.kernel_size)
        padding = module.padding
        if not isinstance(padding, str):
            each = [padding] * axes if isinstance(padding, int) else padding
            padding = [[p, p] if isinstance(p, int) else list(p) for p in each]
        return {
            "strides": _each(module.strides, axes),
            "padding": padding,
            "dilation": _each(module.kernel_dilation, axes),
            "groups": module.feature_group_count,
        }
    epsilon = getattr(module, "epsilon", None)
    return {} if epsilon is None else {"epsilon": epsilon}


def _each(value: Any, axes: int) -> list[int]:
    return [value or 1] * axes if value is None or isinstance(value, int) else [*value]
