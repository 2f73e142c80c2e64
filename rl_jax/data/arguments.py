"""Checks of the arguments of sources and batches; each names the function."""

from rl_jax.errors import UsageError, check_integer


def whole(function: str, **values: int) -> None:
    """Refuse what is no whole number: a size of 8.5, a step of 3.0."""
    for name, value in values.items():
        check_integer(f"{function}: {name}", value)


def at_least(function: str, **lowest: tuple[int | float, int | float]) -> None:
    """Refuse arguments, given as name=(value, lowest), that are too small."""
    for name, (value, low) in lowest.items():
        if not value >= low:
            raise UsageError(f"{function}: {name} must be >= {low}, got {value}")
