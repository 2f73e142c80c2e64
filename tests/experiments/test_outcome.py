"""Checks: what passes, what cannot, and which of several numbers is kept."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.outcome import Check, Outcome, at_least, at_most, equal


@pytest.mark.parametrize(
    ("check", "passes"),
    [
        (equal("q", 1.01, 1.0, tolerance=0.02), True),
        (equal("q", 0.97, 1.0, tolerance=0.02), False),
        (equal("q", 1.0, 1.0, tolerance=0.0), True),
        (at_most("q", 2.0, 2.0), True),
        (at_most("q", 2.1, 2.0), False),
        (at_least("q", 2.0, 2.0), True),
        (at_least("q", 1.9, 2.0), False),
        (Check("q", 2.1, "≤", 2.0, tolerance=0.2), True),
        (Check("q", 1.9, "≥", 2.0, tolerance=0.2), True),
    ],
)
def test_relations(check, passes):
    assert check.passed == passes


@pytest.mark.parametrize("relation", ["=", "≤", "≥"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["found", "expected", "tolerance"])
def test_what_is_not_finite_never_passes(relation, bad, place):
    check = Check("q", 1.0, relation, 1.0, 0.1)._replace(**{place: bad})
    assert not check.passed


def test_of_several_the_one_furthest_from_passing_is_kept():
    assert equal("q", [1.1, 0.7, 1.2], 1.0, tolerance=1).found == 0.7
    assert at_most("q", [1, 3, 2], 9.0).found == 3
    assert at_least("q", [[3.0], [1.0], [2.0]], 0.0).found == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_that_is_not_finite_is_not_hidden_by_the_others(bad):
    values = [0.5, bad, 1.5]
    assert not equal("q", values, 1.0, tolerance=9.0).passed
    assert not at_most("q", values, 9.0).passed
    assert not at_least("q", values, 0.0).passed


def test_numbers_of_jax_become_numbers():
    check = at_most(
        "q", jnp.asarray([0.25, 0.5], jnp.float32), jnp.float32(1.0), unit="s"
    )
    assert (type(check.found), type(check.expected)) == (float, float)
    assert check == Check("q", 0.5, "≤", 1.0, 0.0, "s")


def test_nothing_found_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        at_most("q", [], 1.0)


def test_an_outcome_passes_where_every_check_does():
    good, bad = at_most("q", 0.0, 1.0), at_most("q", 2.0, 1.0)
    assert Outcome((good, good), {}, "").passed
    assert not Outcome((good, bad), {}, "").passed
    assert not Outcome((), {}, "").passed
