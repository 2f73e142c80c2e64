"""Pretext tasks: what is found beside three references, and what breaks it."""

import pytest

from experiments import pretext_tasks as experiment
from tests.experiments.running import failed, passes

ALONE = {"seeds": 1, "tasks": ("rotation",)}
CLEAN = "rotation: gain of the probe, clean, upper limit"
NOISY = "rotation: gain of the probe, in noise, lower limit"
OVER = "rotation: the same over shuffled answers, lower limit"
ANSWERS = "rotation: accuracy of answers, clean"


@pytest.mark.slow
def test_it_holds():
    found = passes(experiment)
    # Solved without seeing the whole, they stay below what the pixels tell.
    for name in ("jigsaw", "context"):
        rows = found.data["right"][name]
        assert rows["trained"].mean() < rows["pixels"].mean() - 0.2


def test_one_start_of_rotation_holds():
    found = passes(experiment, **ALONE)
    rows = found.data["right"]["rotation"]
    assert rows["trained"].shape == (2, 1, 500)
    assert rows["untrained"][0].mean() > rows["untrained"][1].mean() + 0.2
    assert "rotation" in found.correction


@pytest.mark.slow
def test_without_noise_nothing_is_gained():
    assert NOISY in failed(experiment, noise=0.0, **ALONE)


@pytest.mark.slow
def test_shuffled_answers_as_the_task_gain_nothing(monkeypatch):
    real = experiment._shuffled
    monkeypatch.setattr(experiment, "_shuffled", lambda task, _: real(task, True))
    assert failed(experiment, **ALONE) == [ANSWERS, NOISY, OVER]


def test_without_training_nothing_is_solved_or_gained():
    missed = failed(experiment, steps=1, **ALONE)
    assert {ANSWERS, NOISY, OVER} <= set(missed)
    assert CLEAN not in missed
