"""Mixed precision and rematerialisation: memory falls, the loss does not move."""

import pytest

from experiments import precision as experiment
from tests.experiments.running import failed, passes

LOSS = "relative loss difference, bfloat16"


@pytest.mark.slow
def test_it_holds():
    passes(experiment, depth=3, depths=(1,))


@pytest.mark.slow
def test_it_holds_for_the_depth_shown():
    passes(experiment)


@pytest.mark.slow
def test_a_loss_in_bfloat16_is_too_coarse():
    assert LOSS in failed(experiment, depth=1, depths=(), loss_dtype="bfloat16")


@pytest.mark.slow
def test_bfloat16_that_takes_more_is_seen(monkeypatch):
    """Beside a float32 that is rematerialised, by the compiler and by what is kept."""
    less = experiment._VARIANTS["rematerialised"]
    monkeypatch.setitem(experiment._VARIANTS, "float32", less)
    missed = failed(experiment, depth=2, depths=())
    assert {"compiler: float32 / bfloat16", "kept: float32 / bfloat16"} < set(missed)


def test_what_is_not_rematerialised_saves_nothing(monkeypatch):
    same = experiment._VARIANTS["float32"]
    monkeypatch.setitem(experiment._VARIANTS, "rematerialised", same)
    missed = failed(experiment, depth=1, depths=())
    assert "compiler: float32 / rematerialised" in missed
