"""The gradient of a large batch with the activations of a small one (GradCache)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rl_jax.errors import UsageError
from rl_jax.networks import Patches
from rl_jax.networks.again import zero_after
from rl_jax.pairwise import sharded
from rl_jax.types import Network, Params, State


def micro_batched(
    network: Network,
    micro_batch: int,
    *,
    views: int = 1,
    loop: bool | None = None,
    role: str = "encoder",
) -> Network:
    """The same network, trained on one micro-batch after the other (GradCache).

    Gao et al. 2021, arXiv:2101.06983. A loss L(y_1, …, y_K) that couples all examples,
    y_k = f(x_k; θ) the outputs of micro-batch k, has the gradient

      dL/dθ = Σ_k (∂f(x_k; θ)/∂θ)ᵀ ∂L/∂y_k.

    The forward pass keeps y_1 … y_K and no activations; whatever follows sees the
    outputs of the whole batch and its gradient is ∂L/∂y; the backward pass runs each
    micro-batch forward again and adds its term. The result is the gradient of the one
    batch, not an approximation, for one more forward pass. Inputs, outputs and
    parameters are held as ever, activations of one micro-batch at a time.

    Rows must not meet inside f: a network without BatchNorm, or with the statistics of
    `split` groups where a micro-batch holds whole groups. The running averages are then
    the mean over micro-batches, which is the mean over all groups. Under a mesh a
    micro-batch takes its share of the rows of every device, so that no row moves.

    Args:
      network: f; an array or a tree of arrays [N, ...] to the same of other arrays. The
        token of `networks.Patches` is no row, and goes into every micro-batch.
      micro_batch: examples at a time over all devices; divides the batch and is a
        multiple of the number of devices.
      views: rows of one example, side by side; N = B·views in `apply`. `init` is given
        one view of each example, [B, ...].
      loop: run the micro-batches in `lax.scan` (compiled once) instead of unrolled;
        None: unrolled on CPU, where a convolution in a loop is 70 times slower.
      role: of the network, for its errors.

    Returns:
      A network with the same parameters and state. In training it can be differentiated
      in reverse mode, once: exactly for params and x, as a constant for the state.
      Noise, if any, is drawn for each micro-batch by itself: dropout masks then depend
      on the number of devices too. Evaluation is unchanged.

    Raises:
      UsageError: for a micro-batch that does not divide the batch and its devices, or a
        network that couples the rows of different micro-batches; from `init` on.
    """
    if micro_batch < 1:
        raise UsageError(f"micro_batch must be at least 1, got {micro_batch}")

    def init(rng, x):
        params, state = network.init(rng, x)
        _cut(network, state, _rows(x), micro_batch, role)
        return params, state

    def apply(params, state, x, *, train, rng=None):
        if not train:
            return network.apply(params, state, x, train=False, rng=rng)
        batch = _rows(x) // views
        parts, devices = _cut(network, state, batch, micro_batch, role)
        more = {"parts": parts} if parts > 1 and jax.tree.leaves(state) else {}

        def part(shared, state, x, rng):
            params, token = shared
            x = x if token is None else x._replace(token=token)
            return network.apply(params, state, x, train=True, rng=rng, **more)

        if parts == 1:
            return part((params, None), state, x, rng)
        token = None
        if isinstance(x, Patches):
            token, x = x.token, x._replace(token=None)
        in_loop = jax.default_backend() != "cpu" if loop is None else loop
        run = _one_after_the_other(part, parts=parts, devices=devices, loop=in_loop)
        return run((params, token), state, x, rng)

    return Network(init, apply, layers=network.layers)


def _rows(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[0]


def _cut(network: Network, state: State, batch: int, micro_batch: int, role: str):
    """Number of micro-batches, and of devices that share each of them."""
    devices = _devices(batch)
    where = f" on {devices} devices" if devices > 1 else ""
    if batch % micro_batch or micro_batch % devices:
        sizes = [m for m in range(devices, batch + 1, devices) if batch % m == 0]
        raise UsageError(
            f"micro_batch={micro_batch} does not cut the batch of {batch} into equal "
            f"parts{where}; use one of {', '.join(map(str, sizes))}"
        )
    parts = batch // micro_batch
    groups = parts * devices
    if parts > 1 and jax.tree.leaves(state) and network.split % groups:
        raise UsageError(
            f"micro_batch={micro_batch}: batch statistics of the {role} (split="
            f"{network.split}) span its {parts} micro-batches{where}; use one without "
            f"BatchNorm, or with split={groups} or a multiple"
        )
    return parts, devices


def _devices(rows: int) -> int:
    """Over how many devices of the context mesh these rows are shared out."""
    count = sharded.devices()
    return 1 if rows % count else count


def _one_after_the_other(
    apply: Callable, *, parts: int, devices: int, loop: bool
) -> Callable:
    """`apply(params, state, x, rng) -> (y, state)` in parts, with its own gradient.

    Rows of x are [devices, parts, N / (devices·parts)]: part j takes from every device.
    """

    def take(tree, j):
        def rows(x):
            x = x.reshape(devices, parts, -1, *x.shape[1:])
            x = lax.dynamic_index_in_dim(x, j, axis=1, keepdims=False)
            return x.reshape(-1, *x.shape[2:])

        return jax.tree.map(rows, tree)

    def join(tree):
        def rows(x):
            x = x.reshape(parts, devices, -1, *x.shape[2:])
            return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[3:])

        return jax.tree.map(rows, tree)

    def each(body, carry):
        if loop:
            return lax.scan(body, carry, jnp.arange(parts))
        ys = []
        for j in range(parts):
            carry, y = body(carry, j)
            ys.append(y)
        return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)

    def after(tree):
        # Left to itself, XLA starts the micro-batches of an unrolled loop together, and
        # shares the second forward pass with the first; both keep all activations. An
        # index that depends on what came before is what it has to wait for.
        return jnp.int32(0) if loop else zero_after(tree)

    def own(rng, j):
        return None if rng is None else jax.random.fold_in(rng, j)

    @jax.custom_vjp
    def run(params, state, x, rng):
        def body(carry, j):
            total, zero = carry
            j = j + zero
            y, new = apply(params, state, take(x, j), own(rng, j))
            return (_add(total, new), after(y)), y

        (total, _), y = each(body, (_zeros(state), jnp.int32(0)))
        mean = jax.tree.map(lambda t, s: (t / parts).astype(s.dtype), total, state)
        return join(y), mean

    def forward(params, state, x, rng):
        return run(params, state, x, rng), (params, state, x, rng)

    def backward(saved, cotangents):
        params, state, x, rng = saved
        dy, _ = cotangents
        # Of integers, such as the places of patches, there is no gradient.
        real = jax.tree.map(
            lambda a: a if jnp.issubdtype(a.dtype, jnp.inexact) else None, x
        )

        def body(carry, j):
            total, zero = carry
            j = j + zero

            rows = take(x, j)

            def outputs(params, real):
                return apply(params, state, _put_in(real, rows), own(rng, j))[0]

            _, vjp = jax.vjp(outputs, params, take(real, j))
            dparams, dx = vjp(take(dy, j))
            total = _add(total, dparams)
            return (total, after(total)), dx

        (total, _), dx = each(body, (_zeros(params), after(dy)))
        grads = jax.tree.map(lambda t, p: t.astype(p.dtype), total, params)
        return grads, None, join(dx), None

    run.defvjp(forward, backward)
    return run


def _put_in(some: Any, tree: Any) -> Any:
    """A tree with leaves exchanged for those of another, which has None for others."""
    return jax.tree.map(
        lambda new, old: old if new is None else new,
        some,
        tree,
        is_leaf=lambda leaf: leaf is None,
    )


def _zeros(tree: Params) -> Params:
    """Accumulators, at least float32."""
    return jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), tree
    )


def _add(total: Params, tree: Params) -> Params:
    return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, tree)
