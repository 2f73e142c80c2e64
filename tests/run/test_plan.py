"""A plan says what the compiled step says, and searches where it was told to."""

import functools

import jax
import numpy as np
import pytest

from rl_jax import data, networks, train
from rl_jax.augment import presets as augmentations
from rl_jax.errors import UsageError
from rl_jax.run import check, rates
from rl_jax.run import plan as plans
from rl_jax.run import recipe as recipes

GIB = 1 << 30


def recipe(*, batch_size=16, **changes):
    base = recipes.Recipe(
        data=recipes.resolve(data.digits),
        augment=recipes.resolve(augmentations.digits),
        networks={
            "encoder": recipes.resolve(networks.mlp, features=(8,), out=8),
            "projector": recipes.resolve(networks.projection_head, hidden=8, out=4),
            "predictor": recipes.resolve(networks.prediction_head, hidden=8, out=4),
        },
        method=recipes.Spec("moco", {"queue_size": 64}),
        optimizer=recipes.resolve(train.adamw, total_steps=5),
        steps=5,
        batch_size=batch_size,
        seed=0,
        probe=True,
        log_every=1,
        checkpoint_every=5,
    )
    return recipes.with_batch_size(base, batch_size)._replace(**changes)


def plan(recipe, source=None, *, devices=1, limit=GIB):
    mesh = train.data_mesh(jax.devices()[:devices])
    return plans.plan(
        recipe,
        data.digits() if source is None else source,
        mesh=mesh,
        limit=limit,
        peak_flops=1e9,
        bandwidth=1e9,
    )


def size(tree):
    tree = jax.tree.map(
        lambda x: (
            jax.random.key_data(x)
            if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        tree,
    )
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_parts_are_the_bytes_of_the_run(monkeypatch):
    """Arguments: the state and the data to the byte; the total is the compiler's."""
    found = {}
    analyse = plans._memory

    def spied(step, compiled):
        found["stats"] = compiled.memory_analysis()
        return analyse(step, compiled)

    monkeypatch.setattr(plans, "_memory", spied)
    source = data.digits()
    r = recipe()
    memory = plan(r).memory

    parts = recipes.build(r, source)
    mesh = train.data_mesh(jax.devices()[:1])
    pieces = {k: getattr(parts, k) for k in ("augment", "optimizer")}
    state = train.initial_state(
        parts.method, source, **pieces, seed=0, batch_size=16, mesh=mesh
    )()
    assert memory.parameters == size(state.params)
    assert memory.optimizer == size(state.opt_state)
    assert memory.method == size((state.state, state.step, state.rng)) + 5 * 4
    assert memory.data == source.images.nbytes + source.labels.nbytes
    assert memory.batch == 16 * 4
    stats = found["stats"]
    assert stats.argument_size_in_bytes == sum(memory[:-1])
    assert memory.total == (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        + stats.temp_size_in_bytes
        - stats.alias_size_in_bytes
    )


@functools.cache
def tiny():
    return plan(recipe())


@pytest.mark.slow
def test_unused_arguments_are_held_all_the_same():
    """Without a probe nothing reads the labels; they are on the device anyway."""
    source = data.digits()
    found = plan(recipe(probe=False), source)
    assert found.memory.data == source.images.nbytes + source.labels.nbytes
    assert found.memory.rest > 0


@pytest.mark.slow
def test_a_stream_holds_the_next_batch_too():
    shape = (16, 16, 1)
    spec, source = plans.imagined("16x16x1")
    assert not plans.counted(source)
    found = plan(recipe(data=spec), source)
    assert not found.resident
    assert found.memory.data == 0
    assert found.memory.batch == 2 * 16 * (int(np.prod(shape)) + 4 + 4)


@pytest.mark.slow
def test_resident_as_the_run_decides():
    spec, source = plans.imagined("16x16x1:1000")
    total = 1000 * 256
    assert source.size == 1000
    assert plan(recipe(data=spec), source, limit=4 * total).resident
    assert not plan(recipe(data=spec), source, limit=4 * total - 4).resident
    assert check.image_limit(4 * total) == total
    # Sources in memory always are.
    assert plan(recipe(), limit=1).resident


@pytest.mark.slow
def test_memory_grows_with_the_batch_and_falls_with_the_devices():
    method = recipes.Spec("moco", {"queue_size": 256})
    small = plan(recipe(batch_size=64, method=method))
    large = plan(recipe(batch_size=256, method=method))
    assert large.memory.rest > 2 * small.memory.rest
    assert large.memory.parameters == small.memory.parameters
    # Uniformity looks at up to 256 rows, all pairs of them: more than four times.
    assert 4 < large.flops.total / small.flops.total < 5

    eight = plan(recipe(batch_size=256, method=method), devices=8)
    assert eight.memory.batch == large.memory.batch // 8
    assert eight.memory.rest < large.memory.rest / 4
    assert eight.memory.parameters == large.memory.parameters
    assert eight.compute_seconds < large.compute_seconds / 4


def test_seconds_follow_the_rates():
    found = tiny()
    assert found.compute_seconds == pytest.approx(found.flops.total / 1e9)
    assert found.traffic_seconds == pytest.approx(found.bytes_accessed / 1e9)
    # A CPU compiler's bytes at the bandwidth of something else bound nothing.
    assert found.foreign
    assert found.least_seconds == found.compute_seconds
    found = found._replace(foreign=False)
    assert found.least_seconds == max(found.compute_seconds, found.traffic_seconds)
    half = found._replace(
        flops=train.Flops({"float32": 100, "bfloat16": 60}, 0),
        rates=rates.Rates(half=2.0, single=1.0, bandwidth=1.0, origin=""),
    )
    assert half.compute_seconds == 130


def test_nothing_is_computed(monkeypatch):
    """A batch of which one array alone would be larger than any machine's memory."""
    spec, source = plans.imagined("64x64x3")
    r = recipe(
        batch_size=1 << 24,
        data=spec,
        method=recipes.Spec("byol", {"total_steps": 5}),
        augment=recipes.resolve(augmentations.cifar),
    )
    found = plan(r, source)
    assert found.memory.total > 1 << 37
    assert not found.fits


def test_refuses_before_compiling(monkeypatch):
    monkeypatch.setattr(train, "plan_step", lambda *a, **k: pytest.fail("traced"))
    with pytest.raises(UsageError, match="not divisible by 8 devices; use 8 or 16"):
        plan(recipe(batch_size=12), devices=8)
    with pytest.raises(UsageError, match="must be <= the 1297 examples"):
        plan(recipe(batch_size=1304), devices=8)


def test_what_the_method_refuses_is_refused():
    with pytest.raises(UsageError, match="queue"):
        plan(recipe(batch_size=128))


@pytest.mark.slow
def test_scanned_steps_count_as_one(monkeypatch):
    """Off the CPU the loop makes `log_every` steps in a call."""
    one = tiny()
    monkeypatch.setattr(train, "scanned_steps", lambda log_every: 3 * log_every)
    many = plan(recipe())
    assert many.flops == one.flops
    assert many.memory.batch == 3 * one.memory.batch
    assert many.bytes_accessed < 2 * one.bytes_accessed


def test_batch_sizes():
    sizes = plans.batch_sizes(8, 1000)
    assert sizes[:9] == [8, 16, 24, 32, 40, 48, 56, 64, 80]
    assert sizes[-1] == 896
    assert plans.batch_sizes(8, 7) == []
    split = recipe(
        networks={"projector": recipes.Spec("projection_head", {"split": 6})}
    )
    assert plans.batch_unit(split, 4) == 12


@pytest.mark.parametrize("start", [1, 7, 256, 100_000])
@pytest.mark.parametrize("limit", [1, 999, 1000, 5000, 123_456, 10**9])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_largest_is_the_last_that_fits(start, limit, power):
    sizes = plans.batch_sizes(2, 1 << 16)
    tried = {}

    def need(size):
        assert size not in tried
        tried[size] = int(900 + size**power)
        return tried[size]

    best = plans.largest(sizes, need, start=start, limit=limit)
    fit = [s for s in sizes if int(900 + s**power) <= limit]
    assert best == (fit[-1] if fit else None)
    if best is not None and best != sizes[-1]:
        assert tried[best] <= limit < tried[sizes[sizes.index(best) + 1]]
    assert len(tried) <= 20


def test_largest_stops_at_what_is_refused():
    sizes = plans.batch_sizes(1, 4096)
    best = plans.largest(
        sizes, lambda s: s if s <= 100 else None, start=8, limit=10_000
    )
    assert best == 96


@pytest.mark.slow
def test_largest_of_a_real_step():
    method = recipes.Spec("simclr", {"temperature": 0.5})
    base = recipe(method=method)
    tried = {}

    def need(size):
        tried[size] = plan(recipes.with_batch_size(base, size)).memory.total
        return tried[size]

    limit = 2 * plan(base).memory.total
    sizes = plans.batch_sizes(1, 512)
    best = plans.largest(sizes, need, start=16, limit=limit)
    assert tried[best] <= limit < tried[sizes[sizes.index(best) + 1]]


def test_remedies():
    found = tiny()
    fixed = found.memory.total - found.memory.rest - found.memory.batch
    grows = found.memory.rest + found.memory.batch
    short = found._replace(limit=fixed + int(grows / 2.1))
    assert plans.remedies(short) == [
        "--batch-size 7 or so",
        "--encoder.dtype bfloat16",
        "--devices 4 or so",
    ]
    nets = {"encoder": recipes.Spec("resnet", {"dtype": "float32"})}
    method = found.recipe.method.given(micro_batch=4)
    short = short._replace(recipe=found.recipe._replace(networks=nets, method=method))
    assert "--encoder.dtype bfloat16" in plans.remedies(short)
    assert "a smaller --micro-batch" in plans.remedies(short)
    assert "alone are too much" in plans.remedies(short._replace(limit=fixed))[0]


def test_imagined_data():
    assert plans.imagined("photos") is None
    assert plans.imagined("32x32") is None
    spec, source = plans.imagined("32x24x3:50")
    assert source.image_shape == (32, 24, 3)
    assert source.size == 50
    assert spec.arguments == {"name": "32x24x3:50"}
    with pytest.raises(UsageError, match="for planning"):
        source.load(0)
    for name in ("0x32x3", "32x32x3:0", "32x32x3:9999999999"):
        with pytest.raises(UsageError, match="sizes must be at least 1"):
            plans.imagined(name)


@pytest.mark.parametrize(
    ("kind", "single", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 495e12, 3.35e12),
        ("NVIDIA H100 PCIe", 378e12, 2.0e12),
        ("NVIDIA H200", 495e12, 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 156e12, 2.039e12),
        ("NVIDIA A100-SXM4-40GB", 156e12, 1.555e12),
        ("TPU v4", 275e12, 1.228e12),
        ("TPU v5 lite", 197e12, 0.819e12),
        ("TPU v5", 459e12, 2.765e12),
        ("TPU v6 lite", 918e12, 1.64e12),
    ],
)
def test_known_devices(kind, single, bandwidth):
    found = rates.known(kind)
    assert (found.single, found.bandwidth) == (single, bandwidth)
    assert found.origin.startswith("from ")


def test_measured_rates():
    device = jax.devices()[0]
    assert rates.known(device.device_kind) is None
    found = rates.rates_of(device)
    assert min(found[:3]) > 0
    assert "measured" in found.origin
    given = rates.rates_of(device, peak_flops=1.0)
    assert given == found._replace(half=1.0, single=1.0, origin=given.origin)
    given = rates.rates_of(device, bandwidth=1.0)
    assert given == found._replace(bandwidth=1.0, origin=given.origin)
    assert rates.rates_of(device, peak_flops=1.0, bandwidth=2.0)[:3] == (1, 1, 2)
