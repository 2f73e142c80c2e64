"""What differs between the recipe of a checkpoint and the one that is asked for."""

import json
from typing import Any

from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Recipe


def noted(recipe: Recipe) -> dict[str, Any]:
    """The recipe as each checkpoint of its run holds it, for `differences`."""
    return {
        "format": recipes.FORMAT,
        "recipe": json.loads(json.dumps(recipes.as_json(recipe))),
    }


DECIDES_NOTHING = (
    *("log_every", "checkpoint_every", "on_nonfinite", "nonfinite_limit"),
    *(f"data.arguments.{name}" for name in ("path", "captions")),
    "init_from.run",
)
"""What may change within a run: when it says, saves, gives up; where its data
and the run it started from lie."""


def differences(before: dict[str, Any], recipe: Recipe) -> list[str]:
    """What differs between two recipes: `method.arguments.temperature: 0.1 -> 0.2`.

    Args:
      before: what `noted` gave, of this version or an earlier one.
      recipe: the one that is asked for.

    Returns:
      A line each, in order of names; without `DECIDES_NOTHING`.

    Raises:
      UsageError: for one of a newer format.
    """
    if before["format"] > recipes.FORMAT:
        raise UsageError(f"it has recipe format {before['format']}; use a newer rl_jax")
    one = _leaves(noted(recipes.parsed(before["recipe"], before["format"]))["recipe"])
    two = _leaves(noted(recipe)["recipe"])
    return [
        f"{name}: {one.get(name, 'nothing')} -> {two.get(name, 'nothing')}"
        for name in sorted(one.keys() | two.keys())
        if name not in DECIDES_NOTHING and one.get(name) != two.get(name)
    ]


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value)
    return found
