"""The loop: what it reads, how often, and that how it is cut changes nothing."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rl_jax import augment, data, methods, networks, train
from rl_jax.errors import NonFiniteError, UsageError
from rl_jax.train import arguments, loop
from rl_jax.types import Aux, Method, TrainState

pytestmark = pytest.mark.core


def noisy(rng, image):
    return image + 0.1 * jax.random.normal(rng, image.shape)


@functools.cache
def pieces():
    method = methods.simclr(
        networks.mlp(features=(8,), out=8), networks.projection_head(hidden=8, out=4)
    )
    return {"method": method, "augment": augment.views(noisy)}


@functools.cache
def source():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    return data.arrays(images, rng.integers(0, 3, 50))


def fit(**kwargs):
    options = pieces() | {
        "optimizer": optax.sgd(0.1),
        "steps": 12,
        "batch_size": 16,
        "log_every": 4,
        "mesh": train.data_mesh(jax.devices()[:1]),
    }
    options |= kwargs
    return train.fit(options.pop("method"), options.pop("source", source()), **options)


def test_rows_and_reads(monkeypatch):
    """A row every `log_every` steps and at the end; one read of the device each."""
    reads = []

    def counted(tree):
        reads.append(tree)
        return jax.device_get(tree)

    monkeypatch.setattr(loop, "fetch", counted)
    rows = []
    fit(steps=10, on_log=rows.append)
    assert [row["step"] for row in rows] == [4, 8, 10]
    assert len(reads) == 1 + 3  # the first is the step to start from
    assert all(np.isfinite(list(row.values())).all() for row in rows)


def test_rows_tell_the_learning_rate():
    """That of the last update, from the schedule; the state is what it was without."""

    def rows(optimizer):
        found = []
        state = fit(optimizer=optimizer, on_log=found.append)
        return [row.get("learning_rate") for row in found], train.fingerprint(state)

    schedule = optax.linear_schedule(0.2, 0.1, 10)
    rates, state = rows(train.with_schedule(optax.sgd(schedule), schedule))
    np.testing.assert_allclose(rates, [0.17, 0.13, 0.1], rtol=1e-6)
    assert rows(optax.sgd(schedule)) == ([None] * 3, state)


def test_lost_steps_do_not_move_the_learning_rate():
    """Where an update was skipped the optimizer has not counted it."""

    def loss(params, state, batch, rng):
        value, aux = pieces()["method"].loss(params, state, batch, rng)
        return jnp.where(jnp.any(batch["index"] == 7), jnp.nan, value), aux

    schedule = optax.linear_schedule(0.2, 0.1, 10)
    optimizer, rows = train.with_schedule(optax.sgd(schedule), schedule), []
    method = pieces()["method"]._replace(loss=loss)
    fit(method=method, optimizer=optimizer, on_nonfinite="skip", on_log=rows.append)
    made = 12 - sum(row["nonfinite"] for row in rows)
    assert 0 < made < 12
    assert rows[-1]["learning_rate"] == pytest.approx(float(schedule(made - 1)))


def test_only_fetch_reads_the_device():
    """No float(), item(), device_get or block_until_ready beside `fetch`."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(loop))
    (function,) = (n for n in tree.body if getattr(n, "name", "") == "fetch")
    tree.body.remove(function)
    text = ast.unparse(tree)
    for word in ("device_get", ".item(", "block_until_ready", "np.asarray"):
        assert word not in text


def test_scanned_steps_are_the_single_steps():
    one = fit(steps_per_call=1)
    many = fit(steps_per_call=4)
    chex.assert_trees_all_close(one.params, many.params, rtol=1e-3, atol=1e-5)
    assert int(many.step) == 12


def test_asks_after_every_step_whether_a_save_has_failed(tmp_path, monkeypatch):
    steps, asked = [], []
    poll = train.Checkpoints.poll
    monkeypatch.setattr(
        train.Checkpoints, "poll", lambda self: asked.append(steps[-1]) or poll(self)
    )
    with train.Checkpoints(tmp_path) as checkpoints:
        fit(steps=6, checkpoints=checkpoints, log_every=6, on_step=steps.append)
    assert steps == asked == list(range(1, 7))


def test_continuing_is_not_having_stopped():
    whole = fit()
    calls = iter(range(100))
    first = fit(stop=lambda: next(calls) == 6)
    assert int(first.step) == 7
    rest = fit(state=first)
    assert train.fingerprint(rest) == train.fingerprint(whole)


def test_eight_devices_equal_one():
    one = fit()
    many = fit(mesh=train.data_mesh())
    chex.assert_trees_all_close(
        jax.tree.map(np.asarray, one.params),
        jax.tree.map(np.asarray, many.params),
        rtol=1e-3,
        atol=1e-5,
    )


def test_streamed_equals_resident():
    images = source().images
    streamed = source()._replace(images=None, load=images.__getitem__)
    assert train.fingerprint(fit(source=streamed)) == train.fingerprint(fit())


def test_saves_at_the_interval_and_the_end(tmp_path):
    with train.Checkpoints(tmp_path, keep=10) as checkpoints:
        fit(checkpoints=checkpoints, checkpoint_every=5)
        checkpoints.finish()
        assert checkpoints.steps() == [5, 10, 12]


def poisoned(at):
    """A method whose loss is NaN at one step, counted in its own state."""

    def init(rng, batch):
        return {"w": jnp.ones((4,))}, {"calls": jnp.zeros([], jnp.int32)}

    def loss(params, state, batch, rng):
        value = jnp.sum(params["w"] ** 2)
        value = jnp.where(batch["step"] == at, jnp.nan, value)
        return value, Aux({"calls": state["calls"] + 1}, {}, {})

    return Method(init, loss, lambda params, state, batch: {})


def test_a_step_that_is_not_finite_changes_nothing():
    method = poisoned(at=1)
    body = jax.jit(
        functools.partial(
            train.train_step,
            method=method,
            augment=augment.views(noisy)._replace(views=lambda rng, batch: batch),
            optimizer=optax.adam(0.1),
        )
    )
    params, state = method.init(None, None)
    before = TrainState(
        jnp.zeros([], jnp.int32),
        jax.random.key(0),
        params,
        state,
        optax.adam(0.1).init(params),
    )
    one, metrics = body(before, {"step": 0})
    assert metrics["nonfinite"] == 0
    two, metrics = body(one, {"step": 1})
    assert metrics["nonfinite"] == 1
    chex.assert_trees_all_equal(two[2:], one[2:])
    assert int(two.step) == 2
    three, metrics = body(two, {"step": 2})
    assert metrics["nonfinite"] == 0
    assert int(three.state["calls"]) == 2


def test_divergence_stops_the_run_and_keeps_the_state(tmp_path):
    with (
        train.Checkpoints(tmp_path) as checkpoints,
        pytest.raises(
            NonFiniteError,
            match="not finite in . of the steps 1 to 4, first at . in the",
        ),
    ):
        fit(optimizer=optax.sgd(1e38), checkpoints=checkpoints)
    mesh = train.data_mesh(jax.devices()[:1])
    init = train.initial_state(
        **pieces() | {"optimizer": optax.sgd(1e38), "seed": 0, "batch_size": 16},
        source=source(),
        mesh=mesh,
    )
    with train.Checkpoints(tmp_path, read_only=True) as checkpoints:
        step, state = checkpoints.restore(train.restore_target(init, mesh))
    assert step == 4
    chex.assert_tree_all_finite((state.params, state.state))


def test_divergence_is_seen_before_a_save(tmp_path):
    """A checkpoint between two log points must not hide it from a resumed run."""
    with (
        train.Checkpoints(tmp_path) as checkpoints,
        pytest.raises(NonFiniteError, match="of the steps 1 to 3,"),
    ):
        fit(optimizer=optax.sgd(1e38), checkpoints=checkpoints, checkpoint_every=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 51}, "must be <= the 50 examples"),
        ({"batch_size": 12, "mesh": None}, "not divisible by 8 devices; use 8 or 16"),
        ({"batch_size": 4, "mesh": None}, "use 8"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, "steps must be an integer, got 2.5"),
        ({"steps_per_call": -1}, "steps_per_call must be at least 1, got -1"),
        ({"steps_per_call": 0}, "steps_per_call must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"loading": data.Loading(workers=-1)}, "fit: workers must be >= 0, got -1"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"seed": 2**63}, r"seed must be in \[0, 2\^32\), got 9223372036854775808"),
        ({"mesh": jax.make_mesh((8,), ("data",))}, "a mesh with an automatic axis"),
    ],
)
def test_refuses_before_compiling(options, message, monkeypatch):
    monkeypatch.setattr(loop, "initial_state", lambda *a, **k: pytest.fail("compiled"))
    with pytest.raises(UsageError, match=message):
        fit(**options)


def test_refuses_labels_beyond_the_classes(monkeypatch):
    """They would be NaN after the first step; also of the probe around a method."""
    monkeypatch.setattr(loop, "initial_state", lambda *a, **k: pytest.fail("compiled"))
    two, seven = (
        methods.supervised(networks.mlp(features=(8,), out=8), num_classes=n)
        for n in (2, 7)
    )
    probed = methods.with_probe(two, num_classes=7)
    for method in (two, probed, methods.with_probe(seven, num_classes=2)):
        with pytest.raises(UsageError, match="go up to 2, but .* num_classes=2; give"):
            fit(method=method)


@pytest.mark.parametrize("scale", [3.0, -0.1, 255.0])
def test_images_that_an_augmentation_would_cut_off(scale):
    rng = np.random.default_rng(0)
    images = rng.random((50, 8, 8, 1)).astype(np.float32)
    source = data.records({"image": images * scale}, rng.integers(0, 3, 50))
    with pytest.raises(UsageError, match=r"records: images are in .* keeps \[0, 1\]"):
        fit(source=source, augment=augment.digits())
    arguments.check_range(augment.views(noisy), source)
    arguments.check_range(augment.digits(), data.records({"image": images}))


def test_counts_may_be_integers_of_any_kind():
    state = fit(steps=jnp.int32(2), seed=np.uint8(1), log_every=np.array(1))
    assert int(state.step) == 2


def test_a_state_beyond_the_last_step_is_refused():
    state = fit(steps=2)
    with pytest.raises(UsageError, match="that after step 2, beyond the 1 steps"):
        fit(steps=1, state=state)


def test_the_state_is_donated():
    """The compiled step writes the new state over the old one."""
    mesh = train.data_mesh(jax.devices()[:1])
    init = train.initial_state(
        **pieces() | {"optimizer": optax.sgd(0.1), "seed": 0, "batch_size": 16},
        source=source(),
        mesh=mesh,
    )
    state = init()
    held = jax.tree.leaves(state.params)
    fit(state=state, steps=1)
    assert all(x.is_deleted() for x in held)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("devices", [1, 8])
def test_the_compiled_step_has_no_second_state(devices, steps):
    """By the compiler's account the new state lies in the bytes of the old one."""
    mesh = train.data_mesh(jax.devices()[:devices])
    moco = methods.moco(
        networks.mlp(features=(8,), out=8),
        networks.projection_head(hidden=8, out=4),
        queue_size=64,
    )
    planned = train.plan_step(
        moco,
        source(),
        augment=pieces()["augment"],
        optimizer=optax.adam(0.1),
        batch_size=16,
        mesh=mesh,
        resident=True,
        steps=steps,
    )
    with jax.set_mesh(mesh):
        compiled = planned.traced.lower().compile()
    own = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(planned.state))
    assert compiled.memory_analysis().alias_size_in_bytes >= own
    # What the step only reads is no part of that.
    read = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(planned.held))
    assert compiled.memory_analysis().alias_size_in_bytes < own + read


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "simclr"}, r"method: expected what methods.simclr\(...\) makes"),
        ({"source": np.zeros((4, 4))}, "source: expected .*, got ndarray"),
        ({"augment": augment.digits}, "augment: expected .*, got digits"),
        ({"optimizer": "adam"}, "optimizer: expected .*, got str"),
        ({"state": {}}, "state: expected a TrainState or None, got dict"),
    ],
)
def test_pieces_of_another_kind(wrong, message):
    with pytest.raises(UsageError, match=message):
        fit(**wrong)


@pytest.mark.parametrize("make", [methods.supervised, methods.vib])
def test_labels_that_a_method_needs(make):
    method = make(networks.mlp(features=(8,), out=8), num_classes=3)
    with pytest.raises(UsageError, match="label"):
        fit(method=method, source=source()._replace(labels=None))


@pytest.mark.parametrize("optimizer", [optax.lbfgs(), optax.polyak_sgd()])
def test_an_optimizer_that_wants_more_than_gradients(optimizer):
    with pytest.raises(UsageError, match=r"^optimizer: .* missing .* 'value'") as error:
        fit(optimizer=optimizer)
    assert "\n" not in str(error.value)


def test_checkpoints_of_another_run_are_not_mixed_in(tmp_path):
    with train.Checkpoints(tmp_path) as checkpoints:
        fit(checkpoints=checkpoints)
        with pytest.raises(UsageError, match=r"holds those of steps \[12\] already"):
            fit(checkpoints=checkpoints, seed=1)
        mesh = train.data_mesh(jax.devices()[:1])
        init = train.initial_state(
            source=source(),
            optimizer=optax.sgd(0.1),
            seed=0,
            batch_size=16,
            mesh=mesh,
            **pieces(),
        )
        step, state = checkpoints.restore(train.restore_target(init, mesh))
        assert step == 12
        fit(checkpoints=checkpoints, state=state, steps=14)
        assert checkpoints.steps() == [12, 14]


def counting(change):
    """A method that carries a number, which each step changes."""

    def init(rng, batch):
        return {"w": jnp.ones(2)}, {"n": jnp.zeros([], jnp.int32)}

    def loss(params, state, batch, rng):
        state, metrics = change(state["n"])
        return jnp.sum(params["w"] ** 2), Aux(state, metrics, {})

    return Method(init, loss, lambda *_: {})


@pytest.mark.parametrize("steps_per_call", [1, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: ({"n": n + 1.0}, {}), r"state\['n'\] float32\[\], which was int32"),
        (
            lambda n: ({"n": n[None]}, {}),
            r"state\['n'\] int32\[1\], which was int32\[\]",
        ),
        (
            lambda n: ({"n": n, "m": n}, {}),
            r"state\['m'\] int32\[\], which was nothing",
        ),
        (lambda n: ({"n": n}, {"step": n}), r"metrics \['step'\]: names that the loop"),
    ],
)
def test_what_a_step_may_not_change(change, message, steps_per_call):
    with pytest.raises(UsageError, match=message):
        fit(method=counting(change), steps_per_call=steps_per_call)


def test_the_state_is_seen_where_rows_are_logged():
    seen = {}

    def look(step, state):
        seen[step] = train.fingerprint(state)

    last = fit(steps=10, on_state=look)
    assert list(seen) == [4, 8, 10]
    assert seen[10] == train.fingerprint(last)
    assert seen[8] == train.fingerprint(fit(steps=8))


def test_what_is_seen_of_the_state_joins_the_row():
    rows = []
    fit(steps=10, on_log=rows.append, on_state=lambda step, state: {"seen": step / 2})
    assert [(row["step"], row["seen"]) for row in rows] == [(4, 2.0), (8, 4.0), (10, 5)]
    assert all(row["loss"] > 0 for row in rows)
    fit(steps=10, on_log=rows.append, on_state=lambda step, state: None)
    assert "seen" not in rows[-1]


def test_arrays_that_are_seen_of_the_state_join_as_floats():
    rows = []
    fit(
        steps=4,
        on_log=rows.append,
        on_state=lambda step, state: {"seen": jnp.float32(0.5), "of": np.int32(step)},
    )
    assert [(type(v), v) for v in (rows[0]["seen"], rows[0]["of"])] == [
        (float, 0.5),
        (float, 4.0),
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"step": 1.0}, "the row of metrics has step already; return other names"),
        ({"a": 1.0, "loss": 1.0, "time": 2.0}, "metrics has loss, time already; "),
        ({"a": np.zeros(2)}, "a must be a number, it returned ndarray"),
        ({"a": "many"}, "a must be a number, it returned str"),
        (1.0, "expected numbers by name or None, it returned float"),
    ],
)
def test_what_cannot_join_the_row_is_refused(found, said):
    with pytest.raises(UsageError) as end:
        fit(steps=4, on_log=lambda row: None, on_state=lambda step, state: found)
    assert str(end.value).startswith("on_state: ")
    assert said in str(end.value)
    assert "\n" not in str(end.value)


def test_a_stop_that_comes_while_the_state_is_seen_is_one_at_that_step():
    asked = []
    last = fit(
        steps=10,
        on_state=lambda step, state: asked.append(step),
        stop=lambda: bool(asked),
    )
    assert asked == [4]
    assert int(last.step) == 4


def test_the_time_of_what_sees_the_state_is_not_that_of_the_steps(monkeypatch):
    """A clock that only this moves: a hundred seconds a look, one a batch."""
    now, rows = [0.0], []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    def look(step, state):
        now[0] += 100

    def wait(step):
        now[0] += 1

    fit(steps=8, on_log=rows.append, on_state=look, on_step=wait)
    assert [row["images_per_second"] for row in rows] == [16.0, 16.0]
