"""A network that starts with given weights instead of random ones."""

import chex
import jax
import jax.numpy as jnp

from rl_jax.errors import UsageError
from rl_jax.types import Network, Params, State


def pretrained(network: Network, params: Params, state: State | None = None) -> Network:
    """The same network, whose `init` returns given weights: the start of fine-tuning.

    Whatever a method makes of its networks at the start, such as the moving average of
    MoCo, BYOL and DINO, is then made of these weights too. Of a trained method take
    those of the network that `encode` names `h`: `params["encoder"]`, or of one with a
    `Method.network` of its own, such as DINO's teacher, `state.target["encoder"]`.

    Args:
      network: any; what it computes does not change.
      params: its parameters, arrays of any kind under the names they have there.
      state: its batch statistics; None: it has none.

    Returns:
      A network; each `init` makes a copy.

    Raises:
      UsageError: for what is no Network; from `init`, for weights of other names,
        shapes or dtypes than the network has for that input.
    """
    if not isinstance(network, Network):
        raise UsageError(
            f"pretrained: expected a Network, got {type(network).__name__}; make one "
            "with networks.from_linen or from_nnx"
        )
    given = (params, {} if state is None else state)

    def init(rng, x):
        wanted = jax.eval_shape(network.init, rng, x)
        there, asked = _leaves(given), _leaves(wanted)
        for name in sorted(there.keys() | asked.keys()):
            one, two = (
                f"{jnp.result_type(v)}{list(jnp.shape(v))}" if v is not None else "none"
                for v in (there.get(name), asked.get(name))
            )
            if one != two:
                raise UsageError(
                    f"pretrained: {name} is {one} in the weights, {two} in the network "
                    "for this input; give weights of the same network and input"
                )
        # Copies: what leaves a compiled function as it came in is the same buffer, and
        # a state is donated.
        leaves = [jnp.array(there[name]) for name in asked]
        return jax.tree.unflatten(jax.tree.structure(wanted), leaves)

    return network._replace(init=init)


def _leaves(weights: tuple[Params, State]) -> dict[str, chex.Array]:
    """By path, in the order of the tree: `params/Dense_0/kernel`."""
    kinds = {"params": weights[0], "state": weights[1]}
    return {
        f"{kind}/{jax.tree_util.keystr(path, simple=True, separator='/')}": leaf
        for kind, tree in kinds.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
