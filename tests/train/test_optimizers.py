"""Optimizers against their formulas written as loops."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import train
from rl_jax.errors import UsageError
from rl_jax.train.optimizers import clipped, warmup_cosine

PARAMS = {"kernel": np.full((3, 2), 0.5), "bias": np.array([0.5, -0.5])}
GRADS = [
    {"kernel": np.full((3, 2), g), "bias": np.array([g, 2 * g])}
    for g in (0.1, -0.3, 0.2)
]


def run(optimizer):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    state = optimizer.init(params)
    for g in GRADS:
        g = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), g)
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def rate(step, peak, total=10):
    return peak * (1 + np.cos(np.pi * step / total)) / 2


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_lars(decay):
    """Kernels adapt and decay, biases do neither; adaptation stays on without decay."""
    found = run(
        train.lars(
            total_steps=10, batch_size=256, learning_rate=0.3, weight_decay=decay
        )
    )
    params = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    for step, g in enumerate(GRADS):
        u = g["kernel"] + decay * params["kernel"]
        trust = 1e-3 * np.linalg.norm(params["kernel"]) / np.linalg.norm(u)
        for name, direction in (("kernel", trust * u), ("bias", g["bias"])):
            velocity[name] = 0.9 * velocity[name] - rate(step, 0.3) * direction
            params[name] = params[name] + velocity[name]
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-5, err_msg=name)


# In float64, with the kernel's gradient against its decay in the second step.
LARS_FORMS = {
    "simclr": ({}, False),
    "mae": ({"form": "mae"}, True),
    "paper": ({"form": "paper"}, False),
    "bolts": ({"form": "bolts"}, True),
    "clipped": ({"form": "bolts", "clip_lr": True, "trust_coefficient": 0.02}, True),
}


def lars_by_hand(form, *, decay, warmup, trust=1e-3, peak=0.3):
    """Three steps of a form of LARS: the params after each."""
    params = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    trace = []
    for step, g in enumerate(GRADS):
        now = peak * step / warmup if step < warmup else rate(step - warmup, peak, 8)
        w, kernel = params["kernel"], g["kernel"]
        u = kernel + decay * w
        if form in ("simclr", "mae"):
            below = np.linalg.norm(u)
        else:
            below = np.linalg.norm(kernel) + decay * np.linalg.norm(w)
        r = trust * np.linalg.norm(w) / below
        if form == "clipped":
            r = min(r / now, 1) if now else 1
        for name, direction in (("kernel", r * u), ("bias", g["bias"])):
            if LARS_FORMS[form][1]:
                velocity[name] = 0.9 * velocity[name] + direction
                params[name] = params[name] - now * velocity[name]
            else:
                velocity[name] = 0.9 * velocity[name] - now * direction
                params[name] = params[name] + velocity[name]
        trace.append({k: v.copy() for k, v in params.items()})
    return trace


@pytest.mark.parametrize("form", LARS_FORMS)
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_forms_of_lars(form, decay):
    """Three steps with warm-up, in which the forms go apart."""
    options = LARS_FORMS[form][0]
    optimizer = train.lars(
        total_steps=10,
        warmup_steps=2,
        learning_rate=0.3,
        weight_decay=decay,
        **options,
    )
    trust = options.get("trust_coefficient", 1e-3)
    expected = lars_by_hand(form, decay=decay, warmup=2, trust=trust)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        state = optimizer.init(params)
        for g, target in zip(GRADS, expected, strict=True):
            updates, state = optimizer.update(
                jax.tree.map(jnp.asarray, g), state, params
            )
            params = optax.apply_updates(params, updates)
            for name in params:
                np.testing.assert_allclose(
                    params[name], target[name], rtol=1e-7, err_msg=name
                )
    for other in set(LARS_FORMS) - {form}:
        apart = lars_by_hand(other, decay=decay, warmup=2, trust=trust)[-1]["kernel"]
        same = {form, other} in ({"simclr", "paper"}, {"mae", "bolts"}) and not decay
        # Without decay two are one formula each; all others have gone apart.
        assert np.allclose(params["kernel"], apart, rtol=1e-6) == same


def test_a_gradient_against_the_decay():
    """The factor of the paper stays small where that of SimCLR grows."""
    params = {"kernel": jnp.full((3, 2), 0.5)}
    grads = {"kernel": jnp.full((3, 2), -0.9)}
    moved = {}
    for form in ("simclr", "paper"):
        optimizer = train.lars(total_steps=10, weight_decay=1.6, form=form)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        moved[form] = float(jnp.linalg.norm(updates["kernel"]))
    # |g + λw| is 0.1 a number, |g| + λ|w| 1.7; the direction is the same.
    assert moved["simclr"] / moved["paper"] == pytest.approx(17, rel=1e-4)


@pytest.mark.parametrize("form", ["simclr", "mae", "paper", "bolts"])
def test_kernels_and_gradients_of_zeros_stay_finite(form):
    """The factor is 1 where it would be 0/0 or 0; λw alone has one, but of bolts."""
    adapted = 0.0 if form == "bolts" else 1e-3 * 0.5
    for w, g, moved in ((0.0, 0.3, 0.3), (0.5, 0.0, adapted), (0.0, 0.0, 0.0)):
        params = {"kernel": jnp.full((3, 2), w)}
        optimizer = train.lars(total_steps=10, form=form)
        updates, _ = optimizer.update(
            {"kernel": jnp.full((3, 2), g)}, optimizer.init(params), params
        )
        np.testing.assert_allclose(updates["kernel"], -0.3 * moved, rtol=1e-5)


def test_sgd():
    found = run(
        train.sgd(total_steps=10, batch_size=128, learning_rate=0.2, weight_decay=0.1)
    )
    params = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    for step, g in enumerate(GRADS):
        for name in params:
            u = g[name] + (0.1 * params[name] if name == "kernel" else 0.0)
            velocity[name] = 0.9 * velocity[name] + u
            params[name] = params[name] - rate(step, 0.1) * velocity[name]
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-5, err_msg=name)


def test_adamw_decays_kernels_only():
    with_decay = run(train.adamw(total_steps=10, weight_decay=0.1))
    without = run(train.adamw(total_steps=10, weight_decay=0.0))
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])
    assert np.all(np.asarray(with_decay["kernel"]) < np.asarray(without["kernel"]))


def test_the_decay_of_weights_may_grow():
    """AdamW written out, with λ along half a cosine from 0.1 to 0.5."""
    options = {"total_steps": 4, "learning_rate": 0.2, "weight_decay": 0.1}
    found = run(train.adamw(**options, end_weight_decay=0.5))
    params = {k: v.copy() for k, v in PARAMS.items()}
    first, second = ({k: np.zeros_like(v) for k, v in PARAMS.items()} for _ in "12")
    for step, g in enumerate(GRADS):
        decay = 0.5 - 0.4 * (1 + np.cos(np.pi * step / 4)) / 2
        for name in params:
            first[name] = 0.9 * first[name] + 0.1 * g[name]
            second[name] = 0.999 * second[name] + 0.001 * g[name] ** 2
            m, v = (
                first[name] / (1 - 0.9 ** (step + 1)),
                second[name] / (1 - 0.999 ** (step + 1)),
            )
            u = m / (np.sqrt(v) + 1e-8) + decay * params[name] * (name == "kernel")
            params[name] = params[name] - rate(step, 0.2, 4) * u
    for name in params:
        np.testing.assert_allclose(found[name], params[name], rtol=1e-5, err_msg=name)
    stays = run(train.adamw(**options, end_weight_decay=0.1))
    plain = run(train.adamw(**options))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), stays, plain)


def test_gradients_of_each_parameter_are_made_shorter():
    """To the bound where they are longer, by themselves; NaN is not made a number."""
    params = {"long": jnp.zeros((2, 2)), "short": jnp.zeros(3), "none": jnp.zeros(2)}
    g = {
        "long": jnp.full((2, 2), 3.0),
        "short": jnp.array([0.1, 0.2, 0.2]),
        "none": jnp.zeros(2),
    }
    bound = clipped("x", optax.identity(), 3.0, each=True)
    found, _ = bound.update(g, bound.init(params), params)
    np.testing.assert_allclose(found["long"], np.full((2, 2), 1.5), rtol=1e-6)
    np.testing.assert_array_equal(found["short"], g["short"])
    np.testing.assert_array_equal(found["none"], g["none"])
    found, _ = bound.update(g | {"short": g["short"] * jnp.nan}, bound.init(params))
    assert np.isnan(found["short"]).all()
    assert np.isfinite(found["long"]).all()

    options = {"total_steps": 9, "clip_norm": 3.0, "weight_decay": 0.0}
    adamw = train.adamw(**options, clip_each=True, b1=0.5)
    _, state = adamw.update(g, adamw.init(params), params)
    # Adam's first step has no scale; its first moment has.
    mu = optax.tree.get(state, "mu")
    np.testing.assert_allclose(mu["long"], np.full((2, 2), 0.75), rtol=1e-6)


@pytest.mark.parametrize("make", [train.adamw, train.sgd, train.lars])
def test_long_gradients_are_made_shorter(make):
    """By one factor for all parameters; short ones, and the state, are left alone."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    g = jax.tree.map(jnp.asarray, GRADS[0])
    norm = np.sqrt(sum(np.sum(x**2) for x in GRADS[0].values()))

    def moved(scale, **options):
        optimizer = make(total_steps=9, weight_decay=0.0, **options)
        of = jax.tree.map(lambda x: scale * x, g)
        return optimizer.update(of, optimizer.init(params), params)[0]

    shorter = moved(10.0, clip_norm=0.5)
    jax.tree.map(np.testing.assert_allclose, shorter, moved(0.5 / norm))
    jax.tree.map(np.testing.assert_array_equal, moved(0.1, clip_norm=0.5), moved(0.1))
    assert jax.tree.structure(make(total_steps=9).init(params)) == jax.tree.structure(
        make(total_steps=9, end_rate=0.1).init(params)
    )


@pytest.mark.parametrize("make", [train.adamw, train.sgd, train.lars])
def test_the_rate_may_end_above_nothing(make):
    optimizer = make(
        total_steps=110, learning_rate=2.0, scaling="none", warmup_steps=10,
        end_rate=0.1,
    )  # fmt: skip
    found = [optimizer.learning_rate(t) for t in (0, 10, 60, 110, 200)]
    np.testing.assert_allclose(found, [0, 2, 1.1, 0.2, 0.2], atol=1e-6)


def test_warmup_then_cosine():
    schedule = warmup_cosine(2.0, warmup_steps=10, total_steps=110)
    found = [float(schedule(t)) for t in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(found, [0, 1, 2, 1, 0], atol=1e-6)


@pytest.mark.parametrize("make", [train.adamw, train.sgd, train.lars])
def test_tells_its_learning_rate(make):
    optimizer = make(
        total_steps=110, learning_rate=2.0, scaling="none", warmup_steps=10
    )
    found = [optimizer.learning_rate(t) for t in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(found, [0, 1, 2, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "value", "words"),
    [
        ("linear", 0.6, "0.3 x 512/256 = 0.6"),
        ("sqrt", 0.3 * 2**0.5, "0.3 x sqrt(512/256) = 0.424264"),
        ("none", 0.3, "not scaled"),
    ],
)
def test_scaling_says_what_it_did(rule, value, words):
    found = train.scale_learning_rate(0.3, batch_size=512, scaling=rule)
    assert found.value == pytest.approx(value)
    assert words in found.reason


def test_the_rate_is_computed_beside_the_steps():
    seen = []

    def schedule(updates):
        rate = jnp.asarray(0.1) * updates
        seen.append(rate.devices())
        return rate

    told = train.with_schedule(optax.sgd(0.1), schedule)
    with jax.default_device(jax.devices()[3]):
        assert told.learning_rate(2) == pytest.approx(0.2)
    assert seen == [{jax.local_devices(backend="cpu")[0]}]


def test_a_rate_is_no_schedule():
    with pytest.raises(UsageError, match="expected a schedule, step -> rate, got 0.1"):
        train.with_schedule(optax.adam(0.1), 0.1)


def test_refuses_bad_rates():
    with pytest.raises(UsageError, match="learning_rate must be > 0 and finite, got 0"):
        train.scale_learning_rate(0, batch_size=256, scaling="linear")
    with pytest.raises(UsageError, match="none, linear or sqrt, got 'cubic'"):
        train.scale_learning_rate(0.1, batch_size=256, scaling="cubic")
    for size in (0, -256):
        with pytest.raises(UsageError, match="batch_size must be at least 1, got"):
            train.scale_learning_rate(0.1, batch_size=size, scaling="linear")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.adamw(total_steps=0), "adamw: total_steps must be >= 1"),
        (lambda: train.sgd(total_steps=9, momentum=math.nan), r"in \[0, 1\), got nan"),
        (lambda: train.lars(total_steps=9, weight_decay=-1), "weight_decay must be >="),
        (
            lambda: train.lars(total_steps=9, form="apex"),
            "simclr, mae, paper, bolts, got",
        ),
        (
            lambda: train.lars(total_steps=9, form="paper", clip_lr=True),
            "clip_lr is solo-learn's, of form bolts; got form 'paper'",
        ),
        (
            lambda: train.lars(total_steps=9, trust_coefficient=math.inf),
            "trust_coefficient must be >= 0 and finite, got inf",
        ),
        (lambda: train.sgd(total_steps=9, end_rate=1.0), r"end_rate must be in \[0, 1"),
        (lambda: train.lars(total_steps=9, clip_norm=0.0), "lars: clip_norm must be >"),
        (lambda: train.adamw(total_steps=9, clip_each=True), "adamw: clip_each needs"),
        (
            lambda: train.adamw(total_steps=9, end_weight_decay=-1),
            "end_weight_decay must be >= 0 and finite, got -1",
        ),
    ],
)
def test_refuses_values_out_of_range(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_networks_that_are_named_keep_the_peak_rate():
    """The others, and these beside an online probe, which has no decay."""
    params = {"encoder": PARAMS, "predictor": PARAMS}
    optimizer = train.sgd(
        total_steps=10,
        batch_size=128,
        learning_rate=0.2,
        warmup_steps=2,
        weight_decay=0.1,
        constant=("predictor",),
    )
    beside = {"method": params, "probe": PARAMS}
    as_ever = train.sgd(
        total_steps=10,
        batch_size=128,
        learning_rate=0.2,
        warmup_steps=2,
        weight_decay=0.1,
    )

    def trained(optimizer, params):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
        state = optimizer.init(params)
        for g in GRADS:
            whole = jax.tree_util.tree_map_with_path(
                lambda path, p, g=g: jnp.asarray(g[path[-1].key], p.dtype), params
            )
            updates, state = optimizer.update(whole, state, params)
            params = optax.apply_updates(params, updates)
        return params

    found = trained(optimizer, params)
    chex.assert_trees_all_equal(found["encoder"], trained(as_ever, PARAMS))
    expected = {k: v.copy() for k, v in PARAMS.items()}
    velocity = {k: np.zeros_like(v) for k, v in PARAMS.items()}
    for g in GRADS:
        for name in expected:
            u = g[name] + (0.1 * expected[name] if name == "kernel" else 0.0)
            velocity[name] = 0.9 * velocity[name] + u
            expected[name] = expected[name] - 0.1 * velocity[name]
    for name in expected:
        np.testing.assert_allclose(found["predictor"][name], expected[name], rtol=1e-5)
    with_probe = trained(optimizer, beside)
    chex.assert_trees_all_equal(with_probe["method"], found)
    options = {"batch_size": 128, "learning_rate": 0.2, "warmup_steps": 2}
    undecayed = train.sgd(total_steps=10, weight_decay=0.0, **options)
    chex.assert_trees_all_equal(with_probe["probe"], trained(undecayed, PARAMS))


def test_a_network_that_is_not_there_has_no_rate():
    optimizer = train.sgd(total_steps=10, constant=("predicter",))
    with pytest.raises(UsageError, match="'predicter', but the networks here are enc"):
        optimizer.init({"encoder": PARAMS, "predictor": PARAMS})


@pytest.mark.parametrize("form", ["simclr", "mae", "paper", "bolts"])
def test_vectors_may_have_a_rate_of_their_own(form):
    """Barlow Twins': kernels are as ever, biases as with that rate for all."""
    common = {"total_steps": 10, "form": form, "warmup_steps": 2}
    both = run(train.lars(learning_rate=0.2, vector_rate=0.0048, **common))
    kernels = run(train.lars(learning_rate=0.2, **common))
    vectors = run(train.lars(learning_rate=0.0048, **common))
    np.testing.assert_array_equal(both["kernel"], kernels["kernel"])
    np.testing.assert_allclose(both["bias"], vectors["bias"], rtol=1e-6)
    with pytest.raises(UsageError, match="vector_rate must be > 0 and finite, or None"):
        train.lars(total_steps=10, vector_rate=0.0)
