"""Operations counted from a jaxpr equal the arithmetic."""

import jax
import jax.numpy as jnp
import pytest

from rl_jax import losses, train
from rl_jax.train.flops import count_flops

M, K, N = 6, 10, 14


def count(f, *shapes, dtype=jnp.float32):
    args = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return count_flops(jax.make_jaxpr(f)(*args))


def product(a, b):
    return a @ b


def test_matmul():
    assert count(product, (M, K), (K, N)).by_dtype == {"float32": 2 * M * K * N}
    half = count(product, (M, K), (K, N), dtype=jnp.bfloat16)
    assert half.by_dtype == {"bfloat16": 2 * M * K * N}


def test_batched_matmul():
    assert count(product, (5, M, K), (5, K, N)).total == 2 * 5 * M * K * N
    assert count(lambda a, b: jnp.einsum("bij,bkj->", a, b), (5, M, K), (5, N, K)).total
    assert count(jnp.outer, (M,), (N,)).total == 0  # elementwise: no sum over products


def test_gradient_of_a_matmul_is_three_of_them():
    grad = jax.value_and_grad(lambda a, b: jnp.sum(jnp.sin(a @ b)), argnums=(0, 1))
    assert count(grad, (M, K), (K, N)).total == 3 * 2 * M * K * N


def test_jit_vmap_remat_and_custom_derivatives():
    once = 2 * M * K * N
    assert count(jax.jit(jax.jit(product)), (M, K), (K, N)).total == once
    assert count(jax.vmap(product), (3, M, K), (3, K, N)).total == 3 * once
    assert count(jax.checkpoint(product), (M, K), (K, N)).total == once

    custom = jax.custom_vjp(product)
    custom.defvjp(lambda a, b: (a @ b, (a, b)), lambda r, g: (g @ r[1].T, r[0].T @ g))
    assert count(custom, (M, K), (K, N)).total == once
    grad = jax.value_and_grad(lambda a, b: jnp.sum(custom(a, b)), argnums=(0, 1))
    assert count(grad, (M, K), (K, N)).total == 3 * once

    def loss(a, b):
        return jnp.sum(jax.checkpoint(lambda a, b: jnp.sin(a @ b))(a, b))

    # Three, and the forward product again.
    grad = jax.value_and_grad(loss, argnums=(0, 1))
    assert count(grad, (M, K), (K, N)).total == 4 * once


def test_scan_counts_every_turn_where_xla_counts_one():
    def f(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, None, length=10)[0]

    x = jnp.zeros((16, 16))
    assert count(f, (16, 16)).total == 10 * 2 * 16**3
    assert count(
        lambda x: jax.lax.fori_loop(0, 7, lambda i, c: c @ x, x), (16, 16)
    ) == (
        {"float32": 7 * 2 * 16**3},
        0,
    )
    # The reason for this module; where XLA learns to count, it may go.
    assert jax.jit(f).lower(x).compile().cost_analysis()["flops"] < 2 * 2 * 16**3


def test_a_loop_of_unknown_length_is_said():
    def f(x):
        return jax.lax.while_loop(lambda c: c[0, 0] < 1, lambda c: c @ x, x)

    assert count(f, (16, 16)) == ({"float32": 2 * 16**3}, 1)

    def counting(x):
        return jax.lax.while_loop(lambda c: c < x[0, 0], lambda c: c + 1, 0.0)

    assert count(counting, (16, 16)) == ({}, 0)


def test_cond_counts_the_larger_branch():
    def f(a, b):
        small, large = (lambda a, b: a @ b), (lambda a, b: a @ b @ b.T @ b)
        return jax.lax.cond(a[0, 0] > 0, small, large, a, b)

    assert count(f, (M, K), (K, N)).total == 3 * 2 * M * K * N


def conv(**options):
    options = {"window_strides": (1, 1), "padding": "VALID"} | options
    return lambda x, w: jax.lax.conv_general_dilated(
        x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


CONVOLUTIONS = [
    ({}, (3, 3, 4, 8), 6 * 6 * 9 * 4),
    ({"window_strides": (2, 2)}, (3, 3, 4, 8), 3 * 3 * 9 * 4),
    ({"feature_group_count": 2}, (3, 3, 2, 8), 6 * 6 * 9 * 2),
    ({"rhs_dilation": (2, 2)}, (3, 3, 4, 8), 4 * 4 * 9 * 4),
    # 8 outputs, of whose 3 taps the padding takes one at either end.
    ({"padding": "SAME"}, (3, 3, 4, 8), 22 * 22 * 4),
    # 15 positions hold 8 elements; 13 windows of 3 see 1 or 2 of them.
    ({"lhs_dilation": (2, 2), "padding": ((0, 0), (0, 0))}, (3, 3, 4, 8), 20 * 20 * 4),
]


@pytest.mark.parametrize(("options", "kernel", "pairs"), CONVOLUTIONS)
def test_convolution(options, kernel, pairs):
    batch, out = 5, kernel[-1]
    found = count(conv(**options), (batch, 8, 8, 4), kernel)
    assert found.total == 2 * batch * out * pairs


@pytest.mark.parametrize(("options", "kernel", "pairs"), CONVOLUTIONS)
def test_gradients_of_a_convolution_are_two_more(options, kernel, pairs):
    f = conv(**options)
    grad = jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(f(x, w))), argnums=(0, 1))
    once = count(f, (5, 8, 8, 4), kernel).total
    assert count(grad, (5, 8, 8, 4), kernel).total == 3 * once


@pytest.mark.parametrize(("options", "kernel", "pairs"), CONVOLUTIONS)
def test_convolutions_agree_with_xla(options, kernel, pairs):
    x, w = jnp.zeros((5, 8, 8, 4)), jnp.zeros(kernel)
    compiled = jax.jit(conv(**options)).lower(x, w).compile()
    assert count(conv(**options), x.shape, w.shape).total == pytest.approx(
        compiled.cost_analysis()["flops"], rel=0.01
    )


def test_the_streamed_loss_counts_its_tiles():
    """The triangle of 2·700 rows in tiles, forward and backward."""
    from rl_jax import pairwise

    dim, size, blocks = 8, 100, 14
    tile = 2 * size * size * dim

    def f(z):
        return pairwise.logsumexp(z, scale=1.0, max_norm=1.0, block_size=size).sum()

    above = blocks * (blocks - 1) // 2
    found = count(f, (1400, dim))
    assert found == ({"float32": (blocks + above) * tile}, 0)
    # The backward forms each tile again, with one product on and two off the diagonal.
    found = count(jax.value_and_grad(f), (1400, dim))
    assert found.total == (3 * blocks + 4 * above) * tile


def test_on_devices_the_work_of_all_is_counted():
    mesh = train.data_mesh()

    def f(z):
        return losses.nt_xent(z, z, temperature=0.5)

    one = count(f, (64, 8)).total
    with jax.set_mesh(mesh):
        many = count(f, (64, 8)).total
    # Rows against all others: the square instead of the triangle's one tile of all.
    assert many == one == 2 * 128 * 128 * 8
