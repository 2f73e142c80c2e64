"""Programs of rings are not kept: read back from the cache, they can abort."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _nothing_is_cached():
    """XLA on CPU gives every ppermute one number, by which its devices meet.

    A program from the persistent cache runs independent ones at the same time; those
    of one number then meet those of another, with wrong values or an abort.
    """
    least = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, least)
    jax.config.update(least, float("inf"))
    yield
    jax.config.update(least, before)
