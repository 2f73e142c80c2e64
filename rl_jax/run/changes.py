"""What differs between the recipe of a run and the one that is asked for."""

import json
from collections.abc import Sequence
from typing import Any

from rl_jax import data, train
from rl_jax.errors import UsageError
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Recipe


def noted(recipe: Recipe) -> dict[str, Any]:
    """The recipe as each checkpoint of its run holds it, for `differences`."""
    return {
        "format": recipes.FORMAT,
        "recipe": json.loads(json.dumps(recipes.as_json(recipe))),
    }


PLACES = ("data.arguments.path", "data.arguments.captions", "init_from.run")
"""Where the data and the run that it started from lie."""

DECIDES_NOTHING = (
    *("log_every", "checkpoint_every", "knn_every"),
    *("on_nonfinite", "nonfinite_limit"),
    *PLACES,
)
"""What may change within a run: when it says, saves, scores, gives up; where things
lie."""


def differences(
    before: dict[str, Any],
    recipe: Recipe,
    steps_before: Sequence[int] = (),
    *,
    but: Sequence[str] = DECIDES_NOTHING,
) -> list[str]:
    """What differs between two recipes: `method.arguments.temperature: 0.1 -> 0.2`.

    Args:
      before: what `noted` gave, of this version or an earlier one.
      recipe: the one that is asked for.
      steps_before: lengths that the run had before it was made longer.
      but: names that may differ.

    Returns:
      A line each, in order of names.

    Raises:
      UsageError: for one of a newer format.
    """
    if before["format"] > recipes.FORMAT:
        raise UsageError(f"it has recipe format {before['format']}; use a newer rl_jax")
    then = recipes.parsed(before["recipe"], before["format"])
    if then.steps in steps_before:
        then = recipes.with_steps(then, recipe.steps)
    one = _leaves(noted(then)["recipe"])
    two = _leaves(noted(recipe)["recipe"])
    return [
        f"{name}: {one.get(name, 'nothing')} -> {two.get(name, 'nothing')}"
        for name in sorted(one.keys() | two.keys())
        if name not in but and one.get(name) != two.get(name)
    ]


def check_alike(recipe: Recipe, source: data.Source, code: dict[str, str]) -> None:
    """Refuses processes that were not started with the same run; all have to ask.

    Args:
      recipe: of the run; where its data lie may differ.
      source: the data.
      code: digests of own code.

    Raises:
      UsageError, RunError: as `train.check_alike`.
    """
    found = _leaves(noted(recipe)["recipe"])
    train.check_alike(
        **{name: json.loads(v) for name, v in found.items() if name not in PLACES},
        **{f"the data's {k}": v for k, v in data.fingerprint(source).items()},
        **{f"the file of {module}": digest for module, digest in code.items()},
    )


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value)
    return found
