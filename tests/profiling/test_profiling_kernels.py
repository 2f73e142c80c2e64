"""The lines of the kernels' benchmark, as far as a CPU has them."""

import jax.numpy as jnp
import pytest

from profiling import kernels
from profiling.subject import SIGLIP, Task


@pytest.fixture
def lines():
    return kernels.Lines({"device": "cpu", "versions": {}, "commit": "0"})


def test_a_loss_has_a_line_with_its_time_and_its_errors(lines, capsys):
    kernels.loss(lines, Task(SIGLIP, 64, 512), ", a trial")
    kernels.alone(lines, 128, kernels=False)
    head, loss, *products = lines.said
    assert head.startswith("cpu; ")
    assert loss.startswith("SigLIP 64 x 512, a trial: ")
    assert " ms (least " in loss
    assert "iB planned, off by " in loss
    assert [line.split(",")[0] for line in products] == ["product W y", "product Wᵀ y"]
    assert capsys.readouterr().out.splitlines() == [loss, *products]


def test_what_is_wrong_is_not_timed(lines, monkeypatch):
    def wrong(temperature, **_):
        return lambda a, b: jnp.sum(a * b) / temperature

    monkeypatch.setitem(kernels.LOSSES, SIGLIP, wrong)
    kernels.loss(lines, Task(SIGLIP, 64, 512))
    assert "SigLIP 64 x 512: value off by " in lines.said[-1]
    assert "least" not in lines.said[-1]


@pytest.mark.slow
def test_tiny(tmp_path, capsys):
    kernels.main(["--tiny", "--out", str(tmp_path)])
    out = capsys.readouterr()
    assert (tmp_path / "kernels.txt").read_text() == out.out
    assert f"written: {tmp_path / 'kernels.txt'}" in out.err
    assert "tiles of 8192" in out.out
