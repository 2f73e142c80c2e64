"""Saunshi's bound: holds in bits, fails in nats and without the collisions."""

import math

from experiments import mean_classifier as experiment
from tests.experiments.running import failed, passes

BOUND = "(L_un − c)/(1 − c) − L_sup, smallest of all steps"
QUICK = {"seeds": 2, "steps": 100, "examples": 5}


def test_it_holds():
    assert "c·log 2" in passes(experiment, **QUICK).correction


def test_in_nats_it_does_not():
    assert BOUND in failed(experiment, base=math.e, **QUICK)


def test_another_loss_is_another_number(monkeypatch):
    guarantee = experiment.evaluate.contrastive_guarantee

    def halved(*args, **options):
        found = guarantee(*args, **options)
        return found._replace(unsupervised=found.unsupervised / 2)

    monkeypatch.setattr(experiment.evaluate, "contrastive_guarantee", halved)
    missed = failed(experiment, **QUICK)
    assert BOUND in missed
    assert "|L_un, L_sup − float64 over all triples|" in missed
