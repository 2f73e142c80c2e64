"""`rl-jax doctor`: a sound machine passes, one whose loss is wrong does not."""

import importlib.metadata

import jax
import numpy as np
import pytest

from rl_jax import losses
from rl_jax.cli import doctor, main
from rl_jax.cli.doctor import loss_error

RIGHT = losses.nt_xent


def wrong_value(a, b, **options):
    return 1.001 * RIGHT(a, b, **options)


def wrong_gradient(a, b, **options):
    """The value is right; candidates get no gradient, as keys that are not gathered."""
    return RIGHT(a, jax.lax.stop_gradient(b), **options)


def not_finite(a, b, **options):
    return RIGHT(a, b, **options) * np.nan


def test_a_sound_machine_passes(capsys, tmp_path):
    main(["doctor", "--path", str(tmp_path)])
    printed, error = capsys.readouterr()
    assert error == ""
    lines = {line[:18].strip(): line[18:] for line in printed.splitlines()}
    assert {"jax", "jaxlib", "decode", "Hopper kernels"} <= set(lines)
    assert lines["jax"] == jax.__version__
    assert str(tmp_path) in lines["free disk"]
    assert lines["nt_xent"].endswith(" relative error against float64")
    assert float(lines["nt_xent"].split()[0]) < 1e-5


@pytest.mark.parametrize("loss", [wrong_value, wrong_gradient, not_finite])
def test_a_wrong_loss_ends_with_1(capsys, monkeypatch, tmp_path, loss):
    """After the versions are printed, which say where to look."""
    monkeypatch.setattr(losses, "nt_xent", loss)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--path", str(tmp_path)])
    printed, error = capsys.readouterr()
    assert stopped.value.code == 1
    assert error.startswith("rl-jax: nt_xent is off by ")
    assert "expected below 1e-5; check the jax and jaxlib versions above" in error
    assert error.count("\n") == 1
    assert f"jaxlib            {jax.lib.__version__}" in printed


def test_the_self_test_measures_what_is_wrong(monkeypatch):
    monkeypatch.setattr(losses, "nt_xent", wrong_value)
    assert loss_error() == pytest.approx(1e-3, rel=0.05)


def test_a_sum_over_devices_that_is_wrong_ends_with_1(capsys, monkeypatch, tmp_path):
    assert doctor.sum_error() == 0
    monkeypatch.setattr(doctor, "sum_error", lambda: 3.0)
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--path", str(tmp_path)])
    printed, error = capsys.readouterr()
    assert stopped.value.code == 1
    assert "a sum over 8 devices is off by 3; check their connection" in error
    assert "sum over devices  off by 3, over 8" in printed


def test_a_gpu_that_jax_does_not_see(capsys, monkeypatch, tmp_path):
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    told = tmp_path / "version"
    told.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\n"
        "GCC version:  gcc version 12.3.0\n"
    )
    monkeypatch.setattr(doctor, "DRIVER", str(told))
    main(["doctor", "--path", str(tmp_path)])
    line = "NVIDIA 580.65.06, which jax does not see: pip install 'rl-jax[cuda13]'"
    assert line in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    main(["doctor", "--path", str(tmp_path)])
    assert "does not see: CUDA_VISIBLE_DEVICES='' is set" in capsys.readouterr().out
    told.unlink()
    main(["doctor", "--path", str(tmp_path)])
    assert "NVIDIA 580" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("installed", "old"), [("0.11.29", True), ("0.11.30", False), ("0.12.1", False)]
)
def test_a_package_that_another_has_put_back(monkeypatch, installed, old):
    requires = ["jax>=0.10.2", "orbax-checkpoint>=0.11.30", "tyro>=0.9; extra == 'x'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed)
    said = ", too old: pip install 'orbax-checkpoint>=0.11.30'" if old else ""
    assert doctor._too_old("orbax-checkpoint") == said
    assert doctor._too_old("python") == ""
