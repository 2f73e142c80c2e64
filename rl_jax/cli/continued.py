"""Whether `pretrain --resume` goes on with what its folder holds."""

import contextlib
import os
import pathlib
import shlex
from collections.abc import Sequence

from rl_jax import own
from rl_jax.cli.recipe import Asked
from rl_jax.errors import UsageError
from rl_jax.run import changes
from rl_jax.run import recipe as recipes
from rl_jax.run.recipe import Recipe

OF_ONE_CALL = (
    *("resume", "run-dir", "steps", "evaluate", "distributed"),
    *("stall-timeout", "workers", "threads", "data-timeout"),
)
"""Flags that are heeded each time a run is continued, and decide nothing of it."""


def continues(
    folder: pathlib.Path, asked: Asked, argv: Sequence[str], sinks: Sequence[str]
) -> bool:
    """Whether a folder holds the run that a command asks for.

    It does where it was started by the same flags, `OF_ONE_CALL` aside: what they leave
    to defaults is as it was, of whatever version. It does, too, where other flags mean
    the same. A run of fewer steps than `--steps` is made longer.

    Args:
      folder: of the run, which there may be.
      asked: what the command asks for.
      argv: its arguments, from the method on.
      sinks: where metrics are to go beside metrics.jsonl.

    Returns:
      False where there is no run yet.

    Raises:
      UsageError: where there is another one, naming what differs.
    """
    if not (folder / "run.json").exists():
        return False
    there, notes = recipes.read(folder / "run.json")
    before = sorted(map(str, notes.get("sinks", ())))
    changed = _other_places(there, asked.recipe)
    if _flags(argv) != _flags(_arguments(notes.get("command"))):
        changed += _differences(there, asked.recipe)
        if before != sorted(sinks):
            changed.append(f"metrics also to: {before} -> {sorted(sinks)}")
    steps = steps_asked(asked, argv)
    if steps is not None and steps < there.steps:
        changed.append(f"steps: {there.steps} -> {steps}")
    if changed:
        raise UsageError(
            f"--resume: {folder} holds a run of other arguments: "
            f"{'; '.join(changed[:5])}{'; ...' if len(changed) > 5 else ''}; give its "
            "own, choose another --run-dir, or go on with it as it is: "
            f"{own.again('resume', folder)}"
        )
    return True


def steps_asked(asked: Asked, argv: Sequence[str]) -> int | None:
    """`--steps`; None where it is left to the default, and a run keeps its own."""
    return asked.recipe.steps if "steps" in _named(argv) else None


def _arguments(command: object) -> list[str]:
    """What follows `rl-jax pretrain` in the command that a run was started by."""
    with contextlib.suppress(ValueError):
        words = shlex.split(command) if isinstance(command, str) else []
        return words[2:] if words[:2] == ["rl-jax", "pretrain"] else []
    return []


def _named(argv: Sequence[str]) -> dict[str, list[str]]:
    """The values of each flag by its name, those of the method's place under ""."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("_", "-")
            found[name] = [value] if equals else []
        else:
            found[name].append(word)
    return found


def _flags(argv: Sequence[str]) -> dict[str, list[str]]:
    """Those that decide what a run is, but for places: see `_other_places`."""
    return {
        name: values
        for name, values in _named(argv).items()
        if name.removeprefix("no-") not in (*OF_ONE_CALL, "data", "init-from")
    }


def _other_places(there: Recipe, here: Recipe) -> list[str]:
    """Data and weights that lie elsewhere, or are others."""
    found = []
    if there.data.factory != here.data.factory:
        found.append(f"data: {there.data.factory} -> {here.data.factory}")
    pairs = [
        (f"data.{name}", there.data.arguments.get(name), here.data.arguments.get(name))
        for name in ("path", "captions")
    ]
    first, second = (r.init_from and r.init_from.run for r in (there, here))
    for name, one, two in (*pairs, ("init_from", first, second)):
        same = one == two or (
            one and two and os.path.realpath(one) == os.path.realpath(two)
        )
        if not same:
            found.append(f"{name}: {one or 'nothing'} -> {two or 'nothing'}")
    return found


def _differences(there: Recipe, here: Recipe) -> list[str]:
    """What the recipes differ in, places and length apart."""
    here = here._replace(init_from=there.init_from)
    shorter = [there.steps] if there.steps != here.steps else []
    places = (*changes.PLACES, "data.factory")
    return changes.differences(changes.noted(there), here, shorter, but=places)
