"""Runs an experiment and its figure: what the tests of all of them share."""

from experiments import figure


def passes(experiment, **settings):
    """The outcome, after every check has passed and the figure was drawn."""
    outcome = experiment.run(**settings)
    wrong = [check for check in outcome.checks if not check.passed]
    assert not wrong, wrong
    assert "<svg" in figure.svg(experiment.draw, outcome)
    return outcome


def failed(experiment, **settings):
    """The quantities that miss what is expected of them."""
    outcome = experiment.run(**settings)
    return [check.quantity for check in outcome.checks if not check.passed]
