"""Memory of dense and streaming NT-Xent: as the formulas say, and not otherwise."""

import jax

from experiments import loss_memory as experiment
from tests.experiments.running import failed, passes

SIZES = {"batch_sizes": (2**12, 2**18)}
STREAMING = [
    "streaming / (8Nd + 64N bytes + 16 MB), every B",
    "|streaming / 8Nd − 1|, the largest B",
]


def test_it_holds():
    passes(experiment, **SIZES)


def test_two_matrices_are_one_too_many():
    assert failed(experiment, copies=2, **SIZES) == [
        "|dense / (4N² + 12Nd) − 1|, every B"
    ]


def test_the_matrix_does_not_pass_for_streaming():
    assert failed(experiment, implementation="dense", **SIZES) == STREAMING


def test_less_than_the_rows_and_their_gradient_is_not_taken_for_both(monkeypatch):
    """A value without its gradient: the formula is a floor too, not a bound alone."""

    def forward(loss, *arguments):
        return jax.jit(loss).lower(*arguments).compile().memory_analysis()

    monkeypatch.setattr(experiment, "_memory", forward)
    missed = failed(experiment, **SIZES)
    assert {"streaming / 8Nd, every B", STREAMING[1]} < set(missed)
    assert STREAMING[0] not in missed
