"""What benchmarks of an accelerator have in common."""

import jax
import pytest

from profiling import gpu, kernels, step


@pytest.mark.parametrize("script", [gpu, kernels, step])
def test_needs_an_accelerator(script, capsys):
    if jax.default_backend() != "cpu":
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as stopped:
        script.main([])
    assert stopped.value.code == 2
    assert "there is no accelerator here; --tiny tries" in capsys.readouterr().err
