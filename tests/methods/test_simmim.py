"""SimMIM: which squares are hidden, what is seen of them, what counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import masked as reference

from rl_jax import methods, networks
from rl_jax.errors import UsageError
from rl_jax.methods.masking import random_orders
from rl_jax.methods.simmim import squares, squares_hidden
from rl_jax.types import Network


def simmim(**arguments):
    encoder = networks.vit(patch=2, width=16, depth=1, heads=2, pool="none")
    return methods.simmim(encoder, **{"mask_ratio": 0.4, "mask_side": 2} | arguments)


def images(count=4):
    return {
        "index": jnp.arange(3, 3 + count, dtype=jnp.int32),
        "image": jax.random.normal(jax.random.key(1), (count, 8, 8, 1)),
    }


def hidden_pixels(rng, index, *, ratio=0.4):
    """Square by square, as the authors' `MaskGenerator` repeats them: [B, 8, 8, 1]."""
    order = np.asarray(random_orders(rng, index, 4))
    small = np.zeros((len(index), 4))
    np.put_along_axis(small, order[:, : int(np.ceil(4 * ratio))], 1, axis=1)
    return small.reshape(-1, 2, 2).repeat(4, 1).repeat(4, 2)[..., None].astype(bool)


def test_nothing_of_the_hidden_is_seen():
    """Tokens are bit for bit the same whatever stands there; the loss is not."""
    method, batch, rng = simmim(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    hidden = hidden_pixels(rng, batch["index"])
    assert hidden.mean() == 0.5
    loss = jax.jit(method.loss)
    one, a = loss(params, state, batch, rng)
    other = jnp.where(hidden, -3.0, batch["image"])
    two, b = loss(params, state, batch | {"image": other}, rng)
    np.testing.assert_array_equal(a.features["h"], b.features["h"])
    assert abs(one - two) > 0.1
    more = jnp.where(hidden, batch["image"], batch["image"] + 1)
    _, c = loss(params, state, batch | {"image": more}, rng)
    assert np.all(np.any(a.features["h"] != c.features["h"], axis=(1, 2)))


def test_only_hidden_pixels_count_and_by_their_distance():
    """A network that predicts 0: the loss is the mean of |pixels| there."""
    method, batch, rng = simmim(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    zero = jax.tree.map(jnp.zeros_like, params)
    hidden = hidden_pixels(rng, batch["index"])

    @jax.jit
    def value(image):
        return method.loss(zero, state, batch | {"image": image}, rng)[0]

    found, slope = jax.value_and_grad(value)(batch["image"])
    pixels = np.asarray(batch["image"], np.float64)[hidden]
    expected, (_, by_target) = reference.absolute_error(np.zeros_like(pixels), pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(slope)[hidden], by_target, atol=1e-7)
    assert not np.asarray(slope)[~hidden].any()


def test_equals_the_formula_of_a_linear_network():
    """Tokens are the patch or the mask token times a matrix, pixels those times one."""

    def apply(params, state, x, *, train, rng=None):
        del train, rng
        if not isinstance(x, networks.Patches):
            return networks.patchify(x, 2) @ params, state
        tokens = x.values @ params
        return jnp.where(x.hidden[..., None], x.token[None, None], tokens), state

    encoder = Network(lambda rng, x: (jax.random.normal(rng, (4, 3)), {}), apply)
    method = methods.simmim(encoder, mask_ratio=0.4, mask_side=2)
    batch, rng = images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    value, aux = jax.jit(method.loss)(params, state, batch, rng)
    # Within one deviation of 0.02, as the authors draw it.
    assert 0 < np.abs(params["mask"]).max() <= 0.02
    head = networks.linear(out=4)
    pixels, _ = head.apply(params["head"], {}, params["mask"][None], train=False)
    pixels = np.asarray(pixels, np.float64)
    hidden = hidden_pixels(rng, batch["index"])
    told = np.tile(pixels.reshape(2, 2), (4, 4))[None, ..., None]
    told = np.broadcast_to(told, hidden.shape)
    image = np.asarray(batch["image"], np.float64)
    expected, _ = reference.absolute_error(told[hidden], image[hidden])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    apart = np.square(told[hidden] - image[hidden]).mean()
    explained = 1 - apart / image.var(0).mean()
    np.testing.assert_allclose(aux.metrics["explained"], explained, rtol=1e-5)

    out = jax.jit(method.encode)(params, state, batch)
    whole = networks.patchify(batch["image"], 2) @ params["encoder"]
    np.testing.assert_allclose(out["h"], np.mean(whole, axis=1), rtol=1e-5, atol=1e-6)
    # The same squares of every image.
    hidden = hidden_pixels(jax.random.key(0), jnp.zeros(len(image), jnp.int32))
    np.testing.assert_allclose(
        out["reconstruction"], np.where(hidden, told, image), rtol=1e-5, atol=1e-6
    )


def test_hidden_squares_follow_the_example():
    method, batch, rng = simmim(), images(), jax.random.key(3)
    params, state = method.init(jax.random.key(0), batch)
    loss = jax.jit(method.loss)
    value, aux = loss(params, state, batch, rng)
    turned, back = loss(params, state, jax.tree.map(lambda x: x[::-1], batch), rng)
    np.testing.assert_allclose(turned, value, rtol=1e-6)
    np.testing.assert_allclose(
        back.features["h"][::-1], aux.features["h"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("grid", "side"), [((4, 4), 1), ((4, 6), 2), ((6, 3), 3)])
def test_squares_are_squares(grid, side):
    found = squares(*grid, side)
    np.testing.assert_array_equal(np.sort(found.ravel()), np.arange(grid[0] * grid[1]))
    rows, columns = np.divmod(found, grid[1])
    assert (np.ptp(rows, axis=1) == side - 1).all()
    assert (np.ptp(columns, axis=1) == side - 1).all()


def test_as_many_are_hidden_as_the_authors_hide():
    """Rounded up: 22 of the 36 squares of 32 pixels in 192."""
    assert squares_hidden(36, 0.6) == 22
    with pytest.raises(UsageError, match="mask_ratio=0.9 hides all of 4 squares"):
        squares_hidden(4, 0.9)


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (lambda: simmim(mask_ratio=1.0), images(), r"mask_ratio must be in \(0, 1\)"),
        (lambda: simmim(mask_side=0), images(), "mask_side must be at least 1, got 0"),
        (
            lambda: simmim(mask_side=3),
            images(),
            "mask_side=3 does not divide a grid of 4×4 patches; choose",
        ),
        (simmim, {"index": jnp.arange(4)}, "the batch must have `image`"),
        (
            lambda: methods.simmim(networks.mlp(out=8)),
            images(),
            "encoder must give a token for each patch",
        ),
    ],
)
def test_refused_before_compiling(make, batch, message):
    with pytest.raises(UsageError, match=f"simmim: .*{message}") as error:
        jax.eval_shape(lambda rng: make().init(rng, batch), jax.random.key(0))
    assert "\n" not in str(error.value).split("\n---")[0]
