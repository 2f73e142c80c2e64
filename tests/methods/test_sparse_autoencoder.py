"""Sparse autoencoders: losses written out, planted atoms found, dead units counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scanned
from reference import reconstruction as reference
from reference.compiled import methods

from rl_jax import networks, theory
from rl_jax.errors import UsageError
from rl_jax.methods.sparse_autoencoder import k_largest

B, UNITS = 8, 10


def linear(out):
    return networks.mlp(features=(), out=out, batch_norm=False)


def batch(seed=0):
    x = np.random.default_rng(seed).normal(size=(B, 3, 2))
    return {"index": jnp.arange(B), "image": jnp.asarray(x, jnp.float32)}


def small(**options):
    method = methods.sparse_autoencoder(linear(UNITS), **options)
    return method, *method.init(jax.random.key(0), batch())


def by_hand(params, penalty, k=3):
    """x, code, reconstruction in float64."""
    x = np.float64(batch()["image"]).reshape(B, 6)
    layer = jax.tree.map(np.float64, params["encoder"]["Dense_0"])
    a = x @ layer["kernel"] + layer["bias"]
    z = 1 / (1 + np.exp(-a)) if penalty == "kl" else np.maximum(a, 0)
    if penalty == "top_k":
        for row in z:
            row[np.argsort(row)[:-k]] = 0
    atoms = np.float64(params["atoms"])
    if penalty != "kl":
        atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    return x, z, z @ atoms + np.float64(params["bias"]), a


@pytest.mark.parametrize("penalty", ["l1", "kl", "top_k"])
def test_loss_written_out(penalty):
    method, params, state = small(penalty=penalty, weight=0.7, rho=0.2, k=3)
    # Atoms of other lengths, and a bias: what the start does not have.
    params = params | {"atoms": 3 * params["atoms"], "bias": params["bias"] + 0.5}
    value, aux = jax.jit(method.loss)(params, state, batch(), jax.random.key(1))
    x, z, out, a = by_hand(params, penalty)
    error = reference.squared_distance(x, out)
    paid = {
        "l1": 0.7 * reference.l1(z),
        "kl": 0.7 * reference.kl_sparsity(z, 0.2),
        "top_k": 0.0,
    }[penalty]
    np.testing.assert_allclose(value, error + paid, rtol=1e-5)
    on = a > 0 if penalty == "kl" else z > 0
    expected = {
        "error": error,
        "explained": 1 - error / x.var(0).sum(),
        "units_on": on.sum(1).mean(),
        "dead_units": 0.0,
    }
    assert set(aux.metrics) == set(expected)
    for name, metric in expected.items():
        np.testing.assert_allclose(aux.metrics[name], metric, rtol=1e-4, err_msg=name)
    found = method.encode(params, state, batch())
    np.testing.assert_allclose(found["h"], z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        found["reconstruction"].reshape(B, 6), out, rtol=1e-5, atol=1e-5
    )


def test_k_largest():
    a = jnp.asarray([[1.0, 3.0, 2.0, -1.0], [-1.0, -2.0, 0.5, -3.0]])
    expected = [[0.0, 3.0, 2.0, 0.0], [0.0, 0.0, 0.5, 0.0]]
    np.testing.assert_array_equal(k_largest(a, k=2), expected)
    # Of equals no more than k.
    assert np.count_nonzero(k_largest(jnp.ones((2, 5)), k=3)) == 6
    # The gradient is 1 for what is kept, 0 else.
    grad = jax.grad(lambda a: k_largest(a, k=2).sum())(a)
    np.testing.assert_array_equal(grad, np.float32(expected) > 0)


def test_dead_units_are_counted():
    """Silent for `dead_after` steps on end, and alive again with one example."""
    method, params, state = small(dead_after=3)
    layer = params["encoder"]["Dense_0"]
    low = layer | {"bias": layer["bias"].at[:4].set(-100.0)}
    quiet = params | {"encoder": {"Dense_0": low}}
    loss, seen = jax.jit(method.loss), []
    for now in (quiet, quiet, quiet, quiet, params, quiet):
        _, aux = loss(now, state, batch(), jax.random.key(1))
        state = aux.state
        seen.append(float(aux.metrics["dead_units"]))
    np.testing.assert_allclose(seen, [0, 0, 0.4, 0.4, 0, 0], atol=1e-6)
    assert state.silent.tolist() == [1] * 4 + [0] * 6


# Planted atoms: 48 in 32 dimensions, 3 on at a time.

LAM, OVER = 0.3, 96


@functools.cache
def planted():
    atoms, x = reference.planted(0, count=4000, dim=32, atoms=48, on=3)
    return atoms, jnp.asarray(x, jnp.float32)


@functools.cache
def trained(units=OVER, **options):
    """A code twice as wide as there are atoms, and metrics of the last step."""
    atoms, x = planted()
    method = methods.sparse_autoencoder(linear(units), **options)

    def draw(rng):
        rows = jax.random.randint(rng, (256,), 0, len(x))
        return {"index": rows, "image": x[rows]}

    params, state, metrics = scanned.run(method, draw, jax.random.key(0), steps=3000)
    last = {name: float(values[-1]) for name, values in metrics.items()}
    cosine = reference.matched_cosine(atoms, np.asarray(params["atoms"]))
    print(options, {k: round(v, 3) for k, v in last.items()})
    print(f"cosine: mean {cosine.mean():.3f}, {np.mean(cosine > 0.95):.0%} above 0.95")
    return method, params, state, last, cosine


@pytest.mark.slow
def test_planted_atoms_are_found():
    *_, last, cosine = trained(weight=LAM)
    assert np.mean(cosine) >= 0.98
    assert np.mean(cosine > 0.95) >= 0.95
    assert last["units_on"] < 8
    assert last["explained"] > 0.9


@pytest.mark.slow
def test_without_a_penalty_units_are_no_atoms():
    *_, last, cosine = trained(weight=0.0)
    assert np.mean(cosine > 0.95) < 0.2
    assert last["units_on"] > 16


@pytest.mark.slow
def test_the_k_largest_find_them_too():
    """Most of them; and the units that are left over die, which is reported."""
    *_, last, cosine = trained(penalty="top_k", k=3)
    assert np.mean(cosine > 0.95) >= 0.85
    assert last["units_on"] <= 3
    assert 0.2 < last["dead_units"] < 0.6


@pytest.mark.slow
def test_mean_activations_come_to_rho():
    """With kl: the mean of a unit, not how many are on for an example."""
    method, params, state, last, _ = trained(penalty="kl", weight=5.0, rho=0.05)
    h = method.encode(params, state, {"index": None, "image": planted()[1]})["h"]
    mean = np.mean(h, axis=0)
    print(f"mean activation {mean.min():.3f} .. {mean.max():.3f}")
    np.testing.assert_allclose(mean.mean(), 0.05, atol=0.01)
    assert last["explained"] > 0.5


@pytest.mark.slow
def test_beside_dictionary_learning():
    """On the same data and objective: its one forward pass is above the minimum.

    Codes solved for, of the autoencoder's own atoms, close most of the gap: the
    encoder is what is short, not the atoms.
    """
    atoms, x = planted()
    method, params, state, *_ = trained(weight=LAM)
    out = method.encode(params, state, {"index": None, "image": x})
    bias = params["bias"][None]
    own = params["atoms"] / np.linalg.norm(params["atoms"], axis=1, keepdims=True)
    error = functools.partial(theory.sparse_coding_error, penalty=LAM)
    solve = functools.partial(theory.fista, penalty=LAM, steps=500, positive=True)
    learned = theory.learn_dictionary(
        jax.random.key(0), x, atoms=48, penalty=LAM, positive=True, steps=2000
    ).atoms
    found = {
        "one forward pass": error(x - bias, out["h"], own),
        "codes solved for": error(x - bias, solve(x - bias, own), own),
        "dictionary learning": error(x, solve(x, learned), learned),
        "planted atoms": error(x, solve(x, atoms), atoms),
    }
    found = {name: float(value) for name, value in found.items()}
    cosine = reference.matched_cosine(atoms, np.asarray(learned))
    print({k: round(v, 3) for k, v in found.items()}, f"cosine {cosine.mean():.3f}")
    best = found["planted atoms"]
    assert found["dictionary learning"] < 1.05 * best
    assert cosine.mean() > 0.95
    assert found["codes solved for"] < found["one forward pass"] < 1.5 * best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "l0"}, "penalty must be one of l1, kl, top_k, got 'l0'"),
        ({"weight": -1.0}, "weight must be >= 0 and finite, got -1.0"),
        ({"rho": 1.0}, r"rho must be in \(0, 1\), got 1.0"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"dead_after": 0}, "dead_after must be at least 1, got 0"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"sparse_autoencoder: {message}"):
        methods.sparse_autoencoder(linear(4), **options)


def test_refuses_encoders_it_cannot_use():
    with pytest.raises(UsageError, match="k=11 is more than the 10 units"):
        small(penalty="top_k", k=11)
    encoder = networks.vit(patch=2, width=8, depth=1, heads=1, pool="none")
    data = {"index": jnp.arange(2), "image": jnp.zeros((2, 4, 4, 1))}
    method = methods.sparse_autoencoder(encoder)
    with pytest.raises(UsageError, match=r"\[B, m\], .*got \(2, 4, 8\)"):
        jax.eval_shape(method.init, jax.random.key(0), data)
