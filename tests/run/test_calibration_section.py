"""What an evaluation says of a probe whose mistakes, and whose truth, are known."""

import json

import numpy as np
import pytest

from rl_jax import evaluate
from rl_jax.run import measures
from rl_jax.run.measures.calibration import _gap, calibration
from rl_jax.run.measures.study import Labelled, Reading, probabilities

CLASSES = 10


def reading(logits, labels):
    rows = Labelled(logits, logits, labels, labels, np.arange(logits.shape[1]))
    return Reading(rows, logits[:0], logits[:0, 0], logits.astype(np.float32))


def accurate(wrong, n=300):
    """Logits of a probe that is sure and mistaken so many times."""
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=n)
    z = 8 * np.eye(CLASSES)[labels] + rng.normal(size=(n, CLASSES))
    labels[:wrong] = (labels[:wrong] + 1) % CLASSES
    return reading(z, labels)


@pytest.mark.parametrize("wrong", [0, 1, 3, 9])
def test_of_few_mistakes_no_temperature_is_told(wrong):
    section = calibration(accurate(wrong))
    record = measures.record(section)
    assert record["temperature"] is record["after"] is None
    json.dumps(record["nll"], allow_nan=False)
    (line,) = (line for line in section.lines if "temperature" in line)
    assert line == (
        f"mistakes of the probe: {wrong}, too few to fit a temperature, which takes 10"
    )
    assert "not sure enough" not in " ".join(section.lines)


def test_of_more_mistakes_the_temperature_is_told():
    section = calibration(accurate(20))
    assert section.values["left_out"] == 0
    assert section.values["temperature"]["low"] > 1.3
    assert section.values["after"]["nll"]["value"] < section.values["nll"]["value"]
    assert "of 20 random halves: the probe is too sure" in section.lines[-1]


def test_halves_that_have_no_temperature_are_left_out_and_counted(monkeypatch):
    fit, calls = evaluate.fit_temperature, []

    def cold(logits, labels):
        calls.append(None)
        right = np.eye(CLASSES)[labels] if len(calls) % every == 0 else logits
        return fit(right, labels)

    monkeypatch.setattr("rl_jax.evaluate.fit_temperature", cold)
    every = 4
    section = calibration(accurate(20))
    assert section.values["left_out"] == 5
    assert section.values["temperature"]["low"] > 1
    assert "15 random halves (5 left out, " in section.lines[-1]
    every = 1
    section = calibration(accurate(20))
    assert section.values["temperature"] is None
    assert section.lines[-1].startswith("no temperature: in 20 of 20 random halves")


def test_a_probe_that_is_always_wrong_has_no_temperature():
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=100)
    section = calibration(reading(-8.0 * np.eye(CLASSES)[labels], labels))
    assert section.values["temperature"] is None
    assert section.lines[-1].startswith("no temperature: in 20 of 20")


def test_twenty_examples_are_enough():
    section = calibration(accurate(10, n=20))
    assert section.values["after"]["ece"]["value"] > 0


def drawn(seed, sharper=1.0, n=200):
    """Probabilities, calibrated where they are not made sharper, and their labels."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(n, 5))
    labels = (rng.random((n, 1)) > np.cumsum(probabilities(z), 1)).sum(1)
    return probabilities(sharper * z), np.minimum(labels, 4)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_the_interval_of_a_calibrated_probe_holds_no_error(equal_mass):
    held = [_gap(*drawn(seed), equal_mass=equal_mass)["low"] == 0 for seed in range(20)]
    assert np.mean(held) >= 0.9
    sharp = [
        _gap(*drawn(seed, 3.0), equal_mass=equal_mass)["low"] > 0 for seed in range(2)
    ]
    assert all(sharp)


def test_the_largest_gap_has_no_interval():
    section = calibration(accurate(20))
    assert section.values["mce"]["value"] > 0
    assert section.values["mce"]["low"] is section.values["mce"]["high"] is None
