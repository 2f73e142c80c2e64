"""What is said of healthy, collapsed and mistaken runs, and when."""

import math

import pytest

from rl_jax.run.watch import Watch
from rl_jax.verdicts import judged_from, summary, verdicts

DIMS = {"h": 128, "z": 128}
FINE = {
    "z_std": 0.98,
    "z_rank": 6.9,
    "h_rank": 11.0,
    "softmax_entropy": 0.94,
    "positive_cosine": 0.88,
    "negative_cosine": 0.0,
}


def said(*, dims=DIMS, **changes):
    return verdicts(FINE | changes, dims=dims)


def levels(found):
    return {v.metric: v.level for v in found}


def test_all_is_well():
    found = said()
    assert set(levels(found).values()) == {"good"}
    assert [v.metric for v in found] == [
        *("z_std", "z_rank", "h_rank", "softmax_entropy", "alignment")
    ]
    assert summary(found) == (
        "healthy: std 0.087, expected 0.088 for D=128: embeddings are spread over the "
        "sphere; z: effective rank 6.9 of 128; h: effective rank 11.0 of 128; softmax "
        "entropy 0.940 of log K; positives nearer than negatives, cosine 0.88 against "
        "0.00"
    )


@pytest.mark.parametrize(
    ("change", "metric", "level", "words"),
    [
        (
            {"z_std": 0.02},
            "z_std",
            "bad",
            "collapsed: std 0.002, expected 0.088 for D=128: all examples get nearly",
        ),
        ({"z_std": 0.4}, "z_std", "warning", "partly collapsed: std 0.035, expected"),
        ({"z_std": math.nan}, "z_std", "bad", "not finite: "),
        ({"z_std": None}, "z_std", "bad", "not finite: "),
        (
            {"z_rank": 2.6},
            "z_rank",
            "warning",
            "dimensional collapse of z: effective rank 2.6 of 128: embeddings lie "
            "nearly on a plane",
        ),
        ({"h_rank": 1.1}, "h_rank", "bad", "collapse of h: effective rank 1.1 of 128"),
        (
            {"softmax_entropy": 0.999},
            "softmax_entropy",
            "warning",
            "temperature too high: entropy 0.999 of log K: all candidates weigh",
        ),
        (
            {"softmax_entropy": 0.01},
            "softmax_entropy",
            "warning",
            "temperature too low: entropy 0.010 of log K: only the nearest candidate",
        ),
        (
            {"positive_cosine": 0.31, "negative_cosine": 0.3},
            "alignment",
            "bad",
            "positives are no closer than negatives: cosine 0.31 against 0.30",
        ),
        (
            {"active_units": 0.0},
            "active_units",
            "bad",
            "posterior collapse: 0 of 128 latent dimensions",
        ),
    ],
)
def test_each_fault_is_named(change, metric, level, words):
    found = said(**change)
    (wrong,) = [v for v in found if v.level != "good"]
    assert wrong.metric == metric
    assert wrong.level == level
    assert words in wrong.text
    assert wrong.text in summary(found)
    assert summary(found).startswith("warning: ") == (level == "warning")
    assert "\n" not in wrong.text


def test_a_collapse_is_said_alone():
    found = said(z_std=0.0, z_rank=0.0, softmax_entropy=1.0, positive_cosine=0.0)
    assert [v.metric for v in found] == ["z_std"]


def test_what_is_not_known_is_not_said():
    assert verdicts({}) == []
    assert verdicts({"loss": 1.0, "z_rank": math.nan}) == []
    assert levels(said(dims={"z": 2, "h": 64}, z_rank=1.9, h_rank=9.0)) == {
        **dict.fromkeys(("z_std", "h_rank", "softmax_entropy", "alignment"), "good")
    }
    (found,) = verdicts({"z_std": 0.1})
    assert "std 0.10 of what is expected" in found.text
    assert "D=" not in found.text


@pytest.mark.parametrize(
    ("steps", "first"), [(30, 30), (200, 50), (4000, 400), (10**6, 1000)]
)
def test_the_first_steps_are_not_judged(steps, first):
    assert judged_from(steps) == first


def watched(*rows, steps=100):
    watch = Watch(steps, DIMS)
    return [watch.changes({"step": step} | FINE | row) for step, row in rows]


def test_a_run_says_each_change_once():
    low = {"z_std": 0.01}
    rows = [(10, low), (50, low), (60, low), (70, low), (80, {}), (90, {}), (100, {})]
    found = watched(*rows)
    assert found[:2] == [[], []]
    (line,) = found[2]
    assert line.startswith("step 60: warning: collapsed: std 0.001, expected 0.088")
    assert found[3:5] == [[], []]
    (line,) = found[5]
    assert line.startswith("step 90: better: healthy: std 0.087")
    assert found[6] == []


def test_a_healthy_run_and_one_that_flickers_say_nothing():
    assert not any(watched(*[(step, {}) for step in range(50, 100, 10)]))
    low = [{"softmax_entropy": 0.999}, {}]
    assert not any(watched(*[(50 + i, low[i % 2]) for i in range(10)]))


def test_the_conclusion_is_one_line():
    watch = Watch(100, DIMS)
    assert watch.conclusion({"step": 100, "loss": 1.0}) is None
    assert watch.conclusion(FINE).startswith("healthy: ")
    text = watch.conclusion(FINE | {"z_rank": 2.0, "h_rank": 1.0})
    assert text.startswith("dimensional collapse of h: ")
    assert "; warning: dimensional collapse of z: " in text


HEALTHY_ON_DIGITS = {
    # Measured at steps 100 and 300 with an encoder of one hidden layer.
}


def test_healthy_runs_are_not_accused():
    for name, rows in HEALTHY_ON_DIGITS.items():
        for row in rows:
            assert {v.level for v in verdicts(row)} == {"good"}, name
