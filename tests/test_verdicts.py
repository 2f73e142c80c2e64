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
            {"z_rank": 1.4},
            "z_rank",
            "warning",
            "dimensional collapse of z: effective rank 1.4 of 128: embeddings lie "
            "nearly on a line",
        ),
        ({"h_rank": 1.0}, "h_rank", "bad", "collapse of h: effective rank 1.0 of 128"),
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
    sign = {"warning": "warning: ", "bad": "failure: "}[level]
    assert summary(found).startswith(sign)
    assert "\n" not in wrong.text


def test_a_collapse_is_said_alone():
    found = said(z_std=0.0, z_rank=0.0, softmax_entropy=1.0, positive_cosine=0.0)
    assert [v.metric for v in found] == ["z_std"]


def test_what_is_not_known_is_not_said():
    assert verdicts({}) == []
    assert verdicts({"loss": 1.0, "z_rank": math.nan}) == []
    assert levels(said(dims={"z": 2, "h": 64}, z_rank=1.3, h_rank=9.0)) == {
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
    assert line.startswith("step 60: failure: collapsed: std 0.001, expected 0.088")
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
    last = FINE | {"step": 100}
    assert watch.conclusion(last).startswith("healthy: ")
    text = watch.conclusion(last | {"z_rank": 1.2, "h_rank": 1.0})
    assert text.startswith("failure: dimensional collapse of h: ")
    assert "; warning: dimensional collapse of z: " in text
    assert "too few" not in text


def test_the_conclusion_of_a_short_run_is_not_sure_of_a_failure():
    watch = Watch(20, DIMS)
    assert "too few" not in watch.conclusion(FINE | {"step": 20})
    text = watch.conclusion(FINE | {"step": 20, "z_std": 0.01})
    assert text.startswith("failure: collapsed: ")
    assert "fewer than 50 steps are too few to tell a failure from" in text


# Of z_std, z_rank, h_rank, softmax entropy, and positive and negative cosine the lowest
# and highest values of steps 50 to 300 on digits: an encoder of one hidden layer 128
# wide, batches of 256, the preset's heads, rates and temperatures.
HEALTHY = {
    "simclr": ((0.978, 4.7, 9.6, 0.938, 0.77, 0.0), (0.985, 7.0, 11.7, 0.945, 0.89, 0)),
    "simclr, temperature 1": (
        *((0.972, 3.5, 8.7, 0.979, 0.79, 0.0), (0.981, 5.6, 10.6, 0.984, 0.91, 0)),
    ),
    "simclr, temperature 0.1": (
        *((0.939, 6.7, 12.4, 0.563, 0.72, 0.09), (0.99, 10.3, 14.4, 0.659, 0.79, 0)),
    ),
    "moco": ((0.692, 4.9, 7.9, 0.793, 0.73, 0.28), (0.982, 7.6, 9.3, 0.893, 0.85, 0)),
    "moco_v3, temperature 1": (
        *((0.875, 4.8, 7.8, 0.984, 0.78, 0.18), (0.914, 6.3, 9.4, 0.988, 0.86, 0.12)),
    ),
    "sup_con": (
        *((0.677, 5.4, 13.5, 0.692, 0.86, 0.51), (0.793, 6.8, 17.0, 0.81, 0.91, 0.34)),
    ),
    "byol": ((0.87, 5.1, 6.6, 0.5, 0.77, 0.2), (0.904, 6.8, 8.4, 0.5, 0.88, 0.14)),
    "simsiam": ((0.859, 1.7, 4.1, 0.5, 0.76, 0.19), (0.91, 4.2, 6.0, 0.5, 0.9, 0.09)),
    "vicreg": ((0.787, 7.1, 5.4, 0.5, 0.83, 0.37), (0.958, 11.4, 7.3, 0.5, 0.9, 0.08)),
    "barlow_twins": (
        *((0.77, 5.1, 5.7, 0.5, 0.76, 0.38), (0.933, 9.8, 7.1, 0.5, 0.92, 0.11)),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_are_not_accused(name):
    for values in HEALTHY[name]:
        found = verdicts(dict(zip(FINE, values, strict=True)), dims=DIMS)
        assert set(levels(found).values()) == {"good"}


def test_what_has_no_embedding_is_judged_by_h():
    """The lowest of 300 steps of MAE."""
    assert levels(verdicts({"h_rank": 2.9}, dims={"h": 48})) == {"h_rank": "good"}


def test_a_healthy_vae_and_a_collapsed_one():
    """Its means are not on a sphere; measured with beta 1, and with beta 60."""
    row = {"z_std": 0.45, "z_rank": 3.9, "h_rank": 10.4, "negative_cosine": 0.79}
    dims = {"h": 128, "z": 8}
    found = verdicts(row | {"active_units": 8.0}, dims=dims)
    assert levels(found) == {"active_units": "good", "h_rank": "good"}
    assert found[0].text == "healthy: 8 of 8 latent dimensions carry information"
    (found,) = verdicts(row | {"z_std": 0.98, "active_units": 0.0}, dims=dims)
    assert found.level == "bad"


def test_mistaken_temperatures_are_found():
    """Measured at step 300 with SimCLR at temperature 10, and at 0.005."""
    found = said(z_std=0.96, z_rank=2.6, h_rank=8.2, softmax_entropy=0.9997)
    assert levels(found)["softmax_entropy"] == "warning"
    found = said(z_std=0.262, z_rank=6.8, softmax_entropy=0.505)
    assert "where there is a temperature, raise it" in found[0].text
