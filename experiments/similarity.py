"""CKA sees through rotation and scale, not through other linear maps.

For centred X [n, D] and Y [n, E] of the same examples,

    CKA(X, Y) = ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖)    in Frobenius norms

(Kornblith et al. 2019). Y = cXR + b has CKA 1 for every rotation R. For white X and
Y = XA it is Σ a_j² / √(D Σ a_j⁴), a_j the singular values of A: below 1 as soon as A
stretches one direction more than another. So networks can be compared whose axes mean
nothing: here SimCLR's and BYOL's on digits, layer by layer.

In the figure on the left, maps of growing condition number beside the closed form; on
the right, how alike the same layer is in two networks: more near the input than near
the loss, and more after training than before it, whichever the method.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import figure as figures
from experiments import outcome, training
from rl_jax import data, evaluate, methods, networks, theory
from rl_jax.types import Method

SECTION = "9.2"
TITLE = "CKA compares networks whose axes mean nothing"
LAYERS = ("layer1", "layer2", "h", "z")
_ROWS, _DIM = 2000, 16


def run(
    *, seeds: int = 2, steps: int = 200, batch_size: int = 128, stretch: float = 1.0
) -> outcome.Outcome:
    """Maps a white X, then trains SimCLR and BYOL and compares their layers.

    Args:
      seeds: networks of each method, trained together.
      steps: of Adam.
      batch_size: pairs of views in a step.
      stretch: largest over smallest singular value of the map that should change
        nothing; 1 is a rotation, anything else is not.
    """
    mapped = _maps(stretch)
    found = _trained(seeds, steps, batch_size)
    # [network, layer, network, layer]: SimCLR's networks, BYOL's, then at the start.
    layers = [found[name][i] for i in range(4 * seeds) for name in LAYERS]
    cka = evaluate.cka_map(layers, debiased=True)
    cka = cka.reshape(4 * seeds, len(LAYERS), 4 * seeds, len(LAYERS))
    same = np.diagonal(cka, axis1=1, axis2=3)
    each = np.arange(seeds)
    methods_alike = same[each, seeds + each]
    start = same[2 * seeds + each, 3 * seeds + each]
    others = [
        same[m + i, m + j] for m in (0, seeds) for i in range(seeds) for j in range(i)
    ]
    h = LAYERS.index("h")
    gain = methods_alike[:, h] - start[:, h].max()
    fall = methods_alike[:, 0] - methods_alike[:, -1]
    ten = mapped["cka"][mapped["condition"] == 10]
    first, middle, last = (methods_alike[:, i].mean() for i in (0, h, -1))
    return outcome.Outcome(
        checks=(
            outcome.equal(
                "CKA(X, cXR + b), R a rotation", mapped["moved"], 1.0, tolerance=1e-6
            ),
            outcome.at_most(
                "|CKA(X, XA) − Σa² / √(DΣa⁴)|, condition of A up to 1000",
                np.abs(mapped["cka"] - mapped["closed"]),
                1e-6,
            ),
            outcome.at_most("CKA(X, XA), condition 10", ten, 0.9),
            outcome.at_most(
                "|CKA − float64 with n × n kernels|, h of SimCLR and BYOL",
                abs(cka[0, h, seeds, h] - _reference(layers[h], found["h"][seeds])),
                1e-6,
            ),
            outcome.at_least("CKA(SimCLR, BYOL) at h, trained − untrained", gain, 0.1),
            outcome.at_least("CKA(SimCLR, BYOL), layer 1 − z", fall, 0.05),
        ),
        data=mapped
        | {
            "SimCLR and BYOL": methods_alike,
            "two seeds of one": np.array(others).reshape(-1, len(LAYERS)),
            "two untrained": start,
        },
        said=(
            "Rotation, scale and shift leave CKA within "
            f"{np.abs(mapped['moved'] - 1).max():.0e} of 1; a map of condition 10 "
            f"brings it to {ten[0]:.3f}. SimCLR and BYOL have {first:.2f} at layer 1 "
            f"and {last:.2f} at z; at h {middle:.2f}, where two untrained networks "
            f"have {start[:, h].mean():.2f}."
        ),
    )


def _maps(stretch):
    """CKA of white rows with maps of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_ROWS, _DIM))
    x = np.linalg.qr(x - x.mean(0))[0] * _ROWS**0.5
    left, right = (np.linalg.qr(rng.normal(size=(_DIM, _DIM)))[0] for _ in range(2))

    def matrix(condition):
        return left * np.geomspace(1, 1 / condition, _DIM) @ right

    def compare(y):
        return evaluate.linear_cka(x, y)

    condition = 10.0 ** np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3])
    maps = [matrix(c) for c in condition]
    moved = matrix(stretch)
    return {
        "condition": condition,
        "cka": np.array([compare(x @ a) for a in maps]),
        "closed": np.array([theory.linear_map_cka(np.eye(_DIM), a) for a in maps]),
        "moved": np.array([compare(x @ moved), compare(-7 * x @ moved + 3)]),
    }


def _trained(seeds: int, steps: int, batch_size: int):
    """Layers of held-out digits, [4·seeds, n, D] each, trained ones first."""
    source = data.digits()
    clean = jnp.asarray(source.held_out.images.reshape(-1, 64) / 255, jnp.float32)
    batches = _views(source.images[..., 0] / 255, steps, batch_size)
    encoder = networks.mlp(features=(128, 128), out=64)
    projector = networks.projection_head(hidden=128, out=64)
    predictor = networks.prediction_head(hidden=128, out=64)
    both = (
        methods.simclr(encoder, projector, temperature=0.5),
        methods.byol(encoder, projector, predictor, total_steps=steps, decay=0.95),
    )
    rngs = jax.random.split(jax.random.key(0), seeds)
    parts = [jax.jit(_train, static_argnums=0)(m, rngs, batches, clean) for m in both]
    return {
        name: np.concatenate(
            [p[name] for when in zip(*parts, strict=True) for p in when]
        )
        for name in LAYERS
    }


def _train(method: Method, rngs, batches, clean):
    """Layers after training and before it, of a network for each of `rngs`."""
    optimizer = training.adam(3e-3, steps=len(batches["views"]))

    def layers(params, state):
        encoded = method.encode(params, state, {"image": clean})
        return {name: encoded[name] for name in LAYERS}

    def step(carry, batch):
        params, state, opt_state = carry
        grads, aux = jax.grad(method.loss, has_aux=True)(params, state, batch, rngs[0])
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), aux.state, opt_state), None

    def one(rng):
        params, state = method.init(rng, jax.tree.map(lambda x: x[0], batches))
        carry = params, state, optimizer.init(params)
        (last, last_state, _), _ = jax.lax.scan(step, carry, batches)
        return layers(last, last_state), layers(params, state)

    return jax.vmap(one)(rngs)


def _views(images, steps: int, batch_size: int):
    """Two views of random digits for every step: shifted, of another gain, noisy."""
    rng = np.random.default_rng(0)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    shifts = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    shifted = np.stack(shifts, axis=1).reshape(-1, 9, 64).astype(np.float32)
    index = rng.integers(len(images), size=(steps, batch_size))
    shift = rng.integers(9, size=(steps, batch_size, 2))
    views = shifted[index[..., None], shift]
    views *= rng.uniform(0.7, 1.3, (*shift.shape, 1))
    views += 0.2 * rng.standard_normal(views.shape, np.float32)
    return {"views": jnp.asarray(views), "index": jnp.asarray(index, jnp.int32)}


def _reference(x, y):
    """Debiased CKA as Song et al. 2012 have its HSIC, all kernels held."""
    n = len(x)
    kernels = []
    for rows in (x, y):
        rows = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
        kernel = rows @ rows.T
        kernels.append(kernel - np.diag(np.diag(kernel)))

    def hsic(k, q):
        total = np.sum(k * q) - 2 / (n - 2) * k.sum(0) @ q.sum(0)
        return total + k.sum() * q.sum() / ((n - 1) * (n - 2))

    k, q = kernels
    return hsic(k, q) / np.sqrt(hsic(k, k) * hsic(q, q))


def draw(figure, found: outcome.Outcome) -> None:
    """CKA against the condition of the map; CKA of the same layer in two networks."""
    left, right = figure.subplots(1, 2)
    d = found.data
    left.plot(d["condition"], d["closed"], color=figures.FAINT, label="closed form")
    left.plot(d["condition"], d["cka"], "o", color=figures.COLOURS[0], label="X and XA")
    left.plot(1, d["moved"][1], "D", color=figures.COLOURS[1], label="X and cXR + b")
    left.set(
        xscale="log", ylim=(0, 1.05), xlabel="condition number of the map A",
        title="CKA of X and a linear map of it",
    )  # fmt: skip
    left.legend(loc="lower left")
    place = np.arange(len(LAYERS))
    names = ("two seeds of one", "SimCLR and BYOL", "two untrained")
    for colour, name in zip(
        (figures.COLOURS[i] for i in (2, 0, 6)), names, strict=True
    ):
        figures.band(right, place, d[name], colour, name)
    right.set(ylim=(0, 1.05), xlabel="layer", title="CKA of the same layer, digits")
    right.set_xticks(place, ("1", "2", "h", "z"))
    right.legend(loc="lower left")
