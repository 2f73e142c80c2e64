"""The lines of the kernels' benchmark, as far as a CPU has them."""

import jax
import jax.numpy as jnp
import pytest

from profiling import kernels


def test_needs_a_gpu(capsys):
    if jax.default_backend() != "cpu":
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as stopped:
        kernels.main([])
    assert stopped.value.code == 2
    assert "there is no accelerator here" in capsys.readouterr().err


def test_a_loss_has_a_line_with_its_time_and_its_plan(capsys):
    lines = kernels.Lines({"device": "cpu", "versions": {}, "commit": "0"})
    kernels.loss(lines, "siglip", 64, note=", a trial")
    kernels.alone(lines, 128, kernels=False)
    head, loss, *products = capsys.readouterr().out.splitlines()
    assert head.startswith("cpu; ")
    assert loss.startswith("siglip 64 x 512, a trial: ")
    assert " ms (least " in loss
    assert "iB planned, off by 0e+00 and 0e+00  [" in loss
    assert [line.split(",")[0] for line in products] == ["product W y", "product Wᵀ y"]
    assert lines.said == [head, loss, *products]


@pytest.mark.slow
def test_tiny(tmp_path, capsys):
    kernels.main(["--tiny", "--out", str(tmp_path)])
    out = capsys.readouterr()
    assert (tmp_path / "kernels.txt").read_text() == out.out
    assert f"written: {tmp_path / 'kernels.txt'}" in out.err
    assert "tiles of 8192" in out.out


def test_errors_are_those_of_the_value_and_of_the_worst_gradient():
    one, two = jnp.ones(4), 2 * jnp.ones(4)
    right = jnp.float32(2.0), (one, two)
    found = jnp.float32(2.02), (1.5 * one, 1.1 * two)
    assert kernels.errors(found, right) == "1e-02 and 5e-01"
