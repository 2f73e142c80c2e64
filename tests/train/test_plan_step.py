"""The planned step is the step the loop compiles."""

import jax
import numpy as np
import optax
import pytest

from rl_jax import augment, data, methods, networks, train
from rl_jax.train import feed, loop, nonfinite, sharding

pytestmark = pytest.mark.core

BATCH = 16


def source(*, resident):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)
    found = data.arrays(images, rng.integers(0, 3, 50))
    if resident:
        return found
    return found._replace(images=None, load=images.__getitem__)


def pieces():
    method = methods.simclr(
        networks.mlp(features=(8,), out=8), networks.projection_head(hidden=8, out=4)
    )
    views = augment.views(lambda rng, image: image + jax.random.normal(rng, ()))
    return {"method": method, "augment": views, "optimizer": optax.adam(0.1)}


def layout(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), tree)


LONG = [(1, False, 1), (1, True, 1), (8, False, 1), (1, True, 3), (8, True, 3)]


@pytest.mark.parametrize(
    ("devices", "resident", "steps"),
    [(8, True, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in LONG)],
)
def test_planned_equals_real(devices, resident, steps):
    """The same arguments, the same compiled step, nothing read."""
    mesh = train.data_mesh(jax.devices()[:devices])
    real = source(resident=resident)
    unread = real._replace(load=lambda i: pytest.fail("read"))
    options = {"mesh": mesh, "batch_size": BATCH}
    planned = train.plan_step(
        source=unread, resident=resident, steps=steps, **options, **pieces()
    )
    state = train.initial_state(source=real, seed=0, **options, **pieces())()
    with feed.open_feed(real, seed=0, start_step=0, steps=3, **options) as feeding:
        arguments = (feeding.held, feeding.inputs(0, steps))
        assert layout(arguments) == layout((planned.held, planned.inputs))
        assert layout(state) == layout(planned.state)
        with jax.set_mesh(mesh):
            run = loop.compiled_steps(feeding, mesh, **pieces())(steps)
            everywhere = sharding.replicated(mesh)
            lost = sharding.put(nonfinite.none_lost(), everywhere)
            assert layout(lost) == layout(planned.lost)
            compiled = run.lower(state, lost, *arguments).compile()
            found = planned.traced.lower().compile()
    assert str(found.memory_analysis()) == str(compiled.memory_analysis())
    assert found.cost_analysis() == compiled.cost_analysis()
    one = train.count_flops(planned.traced.jaxpr).over(steps)
    single = train.plan_step(source=unread, resident=resident, **options, **pieces())
    assert one == train.count_flops(single.traced.jaxpr)
