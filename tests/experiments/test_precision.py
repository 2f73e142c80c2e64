"""Mixed precision and rematerialisation: memory falls, the loss does not move."""

import pytest

from experiments import precision as experiment
from tests.experiments.running import failed, passes

LOSS = "relative loss difference, bfloat16"


def test_it_holds():
    passes(experiment, depth=3, depths=(1,))


@pytest.mark.slow
def test_it_holds_for_the_depth_shown():
    passes(experiment)


def test_a_loss_in_bfloat16_is_too_coarse():
    assert LOSS in failed(experiment, depth=1, depths=(), loss_dtype="bfloat16")


def test_what_is_not_rematerialised_saves_nothing(monkeypatch):
    same = experiment._VARIANTS["float32"]
    monkeypatch.setitem(experiment._VARIANTS, "rematerialised", same)
    missed = failed(experiment, depth=1, depths=())
    assert "compiler: float32 / rematerialised" in missed
