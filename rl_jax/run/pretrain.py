"""A training run in a folder: started, continued, and safe to kill at any moment.

The folder holds `run.json` (the recipe), `checkpoints/`, `metrics.jsonl`, `views.png`,
once trained `evaluation.json` and `report.html`, and where steps were not finite
`nonfinite-STEP.npz`, the ids of the first batch.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rl_jax import data, files, own, train
from rl_jax.errors import Stopped, UsageError
from rl_jax.run import changes, datasets, labelled, weights
from rl_jax.run import recipe as recipes
from rl_jax.run.check import check, data_change, image_limit, room, trace
from rl_jax.run.console import Console
from rl_jax.run.environment import environment
from rl_jax.run.lock import locked
from rl_jax.run.outline import outline
from rl_jax.run.recipe import Parts, Recipe
from rl_jax.run.signals import Interrupts
from rl_jax.run.views import save_view_grid
from rl_jax.run.watch import Watch
from rl_jax.run.weights import initial
from rl_jax.types import TrainState


def start(
    recipe: Recipe,
    source: data.Source,
    folder: pathlib.Path,
    *,
    command: str,
    sinks: tuple[str, ...] = (),
) -> TrainState:
    """Starts a run in a new folder and trains it to the end.

    Of several processes all call it; the first writes, to a folder that all see.

    Args:
      recipe: what to train, on what.
      source: the data of the recipe.
      folder: must not hold a run yet.
      command: what the user typed, for the record.
      sinks: where metrics go beside metrics.jsonl: "tensorboard", "wandb".

    Returns:
      The final state.

    Raises:
      UsageError: for arguments or data that do not fit, before anything is compiled.
      Stopped: by SIGTERM or Ctrl-C, after saving.
      RunError: when the disk has no room for a checkpoint, or when the last one or rows
        of metrics could not be written.
      NonFiniteError: when training diverged.
    """
    with contextlib.ExitStack() as stack:
        with train.together():
            _check_new(folder)
            seen = labelled.of_run(recipe, source)
            check(recipe, seen)
            parts = recipes.build(recipe, seen)
            names = own.names(recipes.as_json(recipe))
            stack.enter_context(own.one_line(names))
            init = initial(recipe, parts)
            dims = trace(recipe, parts, init)
            room(folder, init)
            if recipe.init_from:
                weights.check(recipe, seen)
        if recipe.init_from:
            # Let go of again: they would stay beside the state while it trains.
            recipe = recipe._replace(init_from=weights.read(recipe, seen)[0])
        code = own.digests(names)
        changes.check_alike(recipe, source, code)
        with train.together():
            # Decoded before the folder is made: what cannot be read leaves nothing.
            seen = data.resident(seen, limit_bytes=image_limit())
            parts = parts._replace(source=seen)
        with train.together():
            if train.is_first():
                stack.enter_context(locked(folder))
                _check_new(folder)
                recipes.write(
                    recipe,
                    folder / "run.json",
                    command=command,
                    environment=environment(),
                    data=data.fingerprint(source),
                    own=code,
                    outline=outline(source),
                    sinks=list(sinks),
                    dims=dims,
                )
        return _train(recipe, parts, folder, sinks=sinks, dims=dims)


def resume(folder: pathlib.Path, *, allow_changes: bool = False) -> TrainState:
    """Continues the run in a folder from its newest sound checkpoint.

    Args:
      folder: of the run.
      allow_changes: go on with `run.json` and own code as they are, also where the
        checkpoint was made with others.

    Returns and raises as `start`; a finished run returns at once. CheckpointError also
    when checkpoints exist and none is sound, UsageError also when the data, the recipe
    or own code has changed, or own code is not imported.
    """
    with contextlib.ExitStack() as stack:
        with train.together():
            recipe, notes = recipes.read(folder / "run.json")
            own.require(folder)
            names = own.names(recipes.as_json(recipe))
            stack.enter_context(own.one_line(names))
            code = own.digests(names)
            other = own.change(notes, code)
            if other and not allow_changes:
                raise UsageError(
                    f"{folder}: own code has changed since the run started: {other}; "
                    "put it back, or go on as it is now with: "
                    f"{own.again('resume', folder)} --allow-changes"
                )
            source = datasets.build(recipe.data)
            changed = data_change(notes, source)
            if changed:
                raise UsageError(
                    f"{folder}: the data has changed since the run started: {changed}; "
                    "put back what it started with, or start a new run"
                )
            seen = labelled.of_run(recipe, source)
            check(recipe, seen)
            parts = recipes.build(recipe, seen)
        changes.check_alike(recipe, source, code)
        with train.together():
            if train.is_first():
                stack.enter_context(locked(folder))
                if other:
                    notes |= {"format": recipes.FORMAT, "own": code}
                    recipes.write(recipe, folder / "run.json", **notes)
            seen = data.resident(seen, limit_bytes=image_limit())
            parts = parts._replace(source=seen)
        sinks = tuple(notes.get("sinks", ()))
        dims = notes.get("dims", {})
        allowed = {"resumed": True, "allow_changes": allow_changes}
        return _train(recipe, parts, folder, sinks=sinks, dims=dims, **allowed)


def _check_same(
    recipe: Recipe, folder: pathlib.Path, step: int, notes: dict[str, Any] | None
) -> None:
    """Refuses a checkpoint that was made with another recipe."""
    # Those of before a checkpoint held its recipe are taken as they are.
    changed = changes.differences(notes, recipe) if notes is not None else []
    if changed:
        raise UsageError(
            f"{folder / 'run.json'} is not what checkpoint {step} was made with: "
            f"{'; '.join(changed[:5])}{'; ...' if len(changed) > 5 else ''}; put that "
            "back, or go on as it is now with: "
            f"{own.again('resume', folder)} --allow-changes"
        )


def _check_new(folder: pathlib.Path) -> None:
    if (folder / "run.json").exists():
        raise UsageError(
            f"{folder} holds a run already; continue it with: "
            f"{own.again('resume', folder)}, or choose another --run-dir"
        )
    for name in ("checkpoints", "metrics.jsonl"):
        if (folder / name).exists():
            raise UsageError(
                f"{folder} holds {name} of a run, but no run.json; move them away, or "
                "choose another --run-dir"
            )


def _train(
    recipe: Recipe,
    parts: Parts,
    folder: pathlib.Path,
    *,
    sinks: tuple[str, ...],
    dims: dict[str, int],
    resumed: bool = False,
    allow_changes: bool = False,
) -> TrainState:
    hint = own.again("resume", folder)
    metrics_path = folder / "metrics.jsonl"
    watch, last = Watch(recipe.steps, dims), {}
    writes = train.is_first()
    same = functools.partial(_check_same, recipe, folder)
    with (
        Console(recipe.steps, quiet=not writes) as console,
        Interrupts(hint) as interrupts,
    ):
        init = initial(recipe, parts)
        with train.Checkpoints(
            folder / "checkpoints",
            say=console.say,
            notes=changes.noted(recipe),
            check=None if allow_changes else same,
        ) as checkpoints:
            state = None
            if resumed:
                target = train.restore_target(init, train.data_mesh())
                found = checkpoints.restore(target)
                if found is None:
                    console.say("no checkpoint yet: starting from the seed at step 0")
                else:
                    step, state = found
                    console.say(f"continuing from the checkpoint of step {step}")
                if writes:
                    train.keep_rows(metrics_path, up_to=0 if found is None else step)
                if state is not None and step >= recipe.steps:
                    return state
            if resumed:
                with train.together():
                    room(folder, init)
                    if state is None and recipe.init_from:
                        weights.check(recipe, parts.source)
            for line in _describe(recipe, parts, init):
                console.say(line)
            picture = folder / "views.png"
            if writes and parts.source.image_shape and not picture.exists():
                _picture(picture, recipe, parts, console.say)
            opened = train.open_sinks(metrics_path, sinks, say=console.say)
            with opened if writes else contextlib.nullcontext(train.NO_SINKS) as sink:
                keep = functools.partial(_keep_lost, folder, console.say)

                def on_log(row: dict[str, Any]) -> None:
                    sink.write(row)
                    console.row(row)
                    for line in watch.changes(row):
                        console.say(line)
                    last.update(row)

                state = train.fit(
                    parts.method,
                    parts.source,
                    augment=parts.augment,
                    optimizer=parts.optimizer,
                    steps=recipe.steps,
                    batch_size=recipe.batch_size,
                    seed=recipe.seed,
                    state=_first(recipe, parts) if state is None else state,
                    log_every=recipe.log_every,
                    on_log=on_log,
                    checkpoints=checkpoints,
                    checkpoint_every=recipe.checkpoint_every,
                    before_save=sink.sync,
                    stop=interrupts.requested,
                    on_nonfinite=recipe.on_nonfinite,
                    nonfinite_limit=recipe.nonfinite_limit,
                    on_lost=keep if writes else None,
                )
            checkpoints.finish()
        step = int(train.fetch(state.step))
        _warn_about_files(parts.source, console)
        stopped = train.any_of(interrupts.requested())
        interrupts.poll(f"at step {step}, saved in {folder}")
        if stopped:
            raise Stopped(
                f"stopped with another process at step {step}, saved in {folder}; "
                f"continue with: {hint}"
            )
        if last and (said := watch.conclusion(last)):
            console.say(f"after {step} steps: {said}")
        sink.check()
        return state


MOST_KEPT = 20
"""Files of steps that were not finite, at most so many in a folder."""


def _keep_lost(
    folder: pathlib.Path, say: Callable[[str], None], lost: train.LostSteps
) -> None:
    """Says what was lost, and writes the ids of the first batch."""
    path, where = folder / f"nonfinite-{lost.step}.npz", ""
    if len(list(folder.glob("nonfinite-*.npz"))) < MOST_KEPT:
        try:
            with files.replacing(path) as file:
                np.savez(file, step=lost.step, index=lost.index)
            where = f"; the ids of its examples are in {path}"
        except OSError as error:
            where = f"; {path.name} not written: {error.strerror or error}"
    say(f"warning: {lost}{where}")


def _picture(
    path: pathlib.Path, recipe: Recipe, parts: Parts, say: Callable[[str], None]
) -> None:
    """Draws the views; a run goes on without the picture where it cannot be written."""
    try:
        save_view_grid(path, recipe, parts)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        say(f"warning: {path.name} not written: {error.strerror or error}")


def _first(recipe: Recipe, parts: Parts) -> TrainState:
    """The state before the first step, with the weights that the recipe names."""
    given = weights.read(recipe, parts.source)[1] if recipe.init_from else None
    return initial(recipe, parts, given)()


def _describe(recipe: Recipe, parts: Parts, init) -> list[str]:
    source = parts.source
    shapes = jax.eval_shape(init)
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes.params))
    held = "on the device" if data.in_memory(source) else "streamed"
    devices = jax.devices()
    nets = "".join(f"{net.factory}, " for net in recipe.networks.values())
    lines = [
        f"{recipe.method.factory} on {source.name}: {source.size} "
        f"{data.contents(source)} ({held}), {nets}"
        f"{count / 1e6:.2f} M parameters, {len(devices)} {devices[0].device_kind} "
        f"device{'s' if len(devices) > 1 else ''}"
    ]
    if not own.is_own(recipe.optimizer.factory):
        rate = train.scale_learning_rate(
            recipe.optimizer.arguments["learning_rate"],
            batch_size=recipe.batch_size,
            scaling=recipe.optimizer.arguments["scaling"],
        )
        last = recipe.optimizer.arguments["total_steps"]
        lines.append(
            f"{recipe.optimizer.factory}: {rate.reason}; warm-up "
            f"{recipe.optimizer.arguments['warmup_steps']} steps, then cosine to 0 at "
            f"step {last}"
        )
        if last < recipe.steps:
            lines.append(
                f"warning: from step {last} on nothing is learned; the total_steps of "
                "optimizer and method in run.json go with its steps"
            )
    return [*lines, *_beginnings(recipe, source)]


def _beginnings(recipe: Recipe, source: data.Source) -> list[str]:
    """What sets a run apart from one with random weights and all labels."""
    lines = []
    if recipe.labels != labelled.ALL:
        lines.append(
            f"labels: {recipe.labels} of each class, {labelled.count(source):,} in all"
        )
    if recipe.init_from:
        lines.append(
            f"the encoder starts with that of {recipe.init_from.run}, step "
            f"{recipe.init_from.step}; all else is random"
        )
        # The other run need not be there any more.
        with contextlib.suppress(UsageError):
            lines += [f"encoder: {each}" for each in weights.differing(recipe)]
    return lines


def _warn_about_files(source: data.Source, console: Console) -> None:
    found = source.problems()
    if found["bad"]:
        names = ", ".join(found["names"])
        console.say(
            f"warning: {found['bad']} files could not be decoded and were replaced: "
            f"{names}"
        )
