"""What the tests of the data share."""

import contextlib
import re

import pytest

from rl_jax.errors import UsageError


@pytest.fixture
def refused():
    """A context that expects a UsageError of one line with all the given parts."""

    @contextlib.contextmanager
    def check(*parts):
        with pytest.raises(UsageError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        for part in parts:
            assert re.search(part, message), f"{part!r} not in {message!r}"

    return check
